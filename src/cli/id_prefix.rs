//! Ids as a person types them: whole, or as much as tells them from the others of this home.

use magpie_core::ids::TaskId;
use magpie_core::queue::{LedgerReply, LedgerRequest, ScheduleReply, ScheduleRequest, TaskFilter};

use super::connection::{NodeLink, unexpected};
use super::exit::{CommandError, Exit};
use crate::id_prefix::{before, normalized};

/// Candidates that an ambiguous prefix is answered with.
const CANDIDATES_SHOWN: usize = 10;

/// Which ids are looked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noun {
    Task,
    Workflow,
    Schedule,
}

impl Noun {
    fn name(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Workflow => "workflow",
            Self::Schedule => "schedule",
        }
    }
}

/// The one id that `typed` is or begins.
///
/// # Errors
/// Exit code 2 if it can be no id or begins several, 3 if it begins none.
pub async fn resolve(link: &NodeLink, noun: Noun, typed: &str) -> Result<TaskId, CommandError> {
    if let Ok(id) = typed.parse() {
        return Ok(id);
    }
    let prefix = normalized(typed).ok_or_else(|| CommandError::usage(not_an_id(noun, typed)))?;
    let found = beginning_with(link, noun, &prefix).await?;
    match found.as_slice() {
        [] => {
            let what =
                format!("no {} of this home begins with {prefix}; see `nodectl {} ls`", noun.name(), noun.name());
            Err(CommandError::new(Exit::NotFound, what))
        }
        [id] => Ok(*id),
        several => Err(CommandError::usage(ambiguous(noun, &prefix, several))),
    }
}

fn not_an_id(noun: Noun, typed: &str) -> String {
    let typed: String = typed.chars().take(80).collect();
    format!("{typed:?} neither is nor begins a {} id, as 01JD0Z8V3N5Q7R9T1W3Y5A7C9E-k3v9x2aq", noun.name())
}

fn ambiguous(noun: Noun, prefix: &str, candidates: &[TaskId]) -> String {
    let shown: Vec<String> = candidates.iter().take(CANDIDATES_SHOWN).map(|id| format!("  {id}")).collect();
    let more = if candidates.len() > CANDIDATES_SHOWN { "\n  ..." } else { "" };
    format!("{prefix} begins several {}s; type more of one of them:\n{}{more}", noun.name(), shown.join("\n"))
}

/// Ids of this home with `prefix`, the first ones: enough to say whether there are several.
async fn beginning_with(link: &NodeLink, noun: Noun, prefix: &str) -> Result<Vec<TaskId>, CommandError> {
    let cursor = before(prefix);
    let limit = CANDIDATES_SHOWN + 1;
    let request = match noun {
        Noun::Task => LedgerRequest::ListTasks { filter: TaskFilter::default(), cursor, limit },
        Noun::Workflow => LedgerRequest::ListWorkflows { state: None, namespace: None, cursor, limit },
        Noun::Schedule => LedgerRequest::Schedule(ScheduleRequest::List { namespace: None, cursor, limit }),
    };
    let ids: Vec<TaskId> = match link.ledger(request).await? {
        LedgerReply::Tasks { items, .. } => items.iter().map(|task| task.id).collect(),
        LedgerReply::Workflows { items, .. } => items.iter().map(|workflow| workflow.id).collect(),
        LedgerReply::Schedule(ScheduleReply::List { items, .. }) => items.iter().map(|schedule| schedule.id).collect(),
        _ => return Err(unexpected()),
    };
    Ok(ids.into_iter().filter(|id| id.to_string().starts_with(prefix)).collect())
}

#[cfg(test)]
mod tests {
    use magpie_core::ids::LedgerTag;

    use super::*;

    #[test]
    fn several_candidates_are_listed_and_many_are_cut() {
        let ids: Vec<TaskId> = (0..11).map(|ulid| TaskId { ulid, ledger: LedgerTag([7; 5]) }).collect();
        let told = ambiguous(Noun::Task, "00", &ids);
        assert!(told.starts_with("00 begins several tasks; type more of one of them:\n  0000"));
        assert_eq!(told.lines().count(), 12);
        assert!(told.ends_with("..."));
    }
}
