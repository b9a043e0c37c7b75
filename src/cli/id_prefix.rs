//! Ids as a person types them: whole, or as much as tells them from the others of this home.

use magpie_core::ids::{LedgerTag, TaskId};
use magpie_core::queue::{LedgerReply, LedgerRequest, ScheduleReply, ScheduleRequest, TaskFilter};

use super::connection::{NodeLink, unexpected};
use super::exit::{CommandError, Exit};

/// Candidates that an ambiguous prefix is answered with.
const CANDIDATES_SHOWN: usize = 10;
const ULID_LEN: usize = 26;
const TAG_LEN: usize = 8;

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

/// The letters as ids write them; `None` if no id begins so.
fn normalized(typed: &str) -> Option<String> {
    let (ulid, tag) = typed.split_once('-').map_or((typed, None), |(ulid, tag)| (ulid, Some(tag)));
    let ulid_fits = if tag.is_some() { ulid.len() == ULID_LEN } else { (1..=ULID_LEN).contains(&ulid.len()) };
    let tag_fits = tag.is_none_or(|tag| tag.len() <= TAG_LEN && tag.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let letters = ulid.to_ascii_uppercase();
    let known = letters.bytes().all(|byte| byte.is_ascii_alphanumeric() && !b"ILOU".contains(&byte));
    let in_range = letters.as_bytes().first().is_some_and(|first| (b'0'..=b'7').contains(first));
    let tag = tag.map(|tag| format!("-{}", tag.to_ascii_lowercase())).unwrap_or_default();
    (ulid_fits && tag_fits && known && in_range).then_some(letters + &tag)
}

/// Ids of this home with `prefix`, the first ones: enough to say whether there are several.
async fn beginning_with(link: &NodeLink, noun: Noun, prefix: &str) -> Result<Vec<TaskId>, CommandError> {
    let cursor = before(prefix);
    let limit = CANDIDATES_SHOWN + 1;
    let request = match noun {
        Noun::Task => LedgerRequest::ListTasks { filter: TaskFilter::default(), cursor, limit },
        Noun::Workflow => LedgerRequest::ListWorkflows { state: None, cursor, limit },
        Noun::Schedule => LedgerRequest::Schedule(ScheduleRequest::List { cursor, limit }),
    };
    let ids: Vec<TaskId> = match link.ledger(request).await? {
        LedgerReply::Tasks { items, .. } => items.iter().map(|task| task.id).collect(),
        LedgerReply::Workflows { items, .. } => items.iter().map(|workflow| workflow.id).collect(),
        LedgerReply::Schedule(ScheduleReply::List { items, .. }) => items.iter().map(|schedule| schedule.id).collect(),
        _ => return Err(unexpected()),
    };
    Ok(ids.into_iter().filter(|id| id.to_string().starts_with(prefix)).collect())
}

/// The last possible id before all that begin with `prefix`: homes list in the order of ids, which is that of their
/// letters.
fn before(prefix: &str) -> Option<TaskId> {
    let ulid = prefix.split('-').next().unwrap_or_default();
    let least: TaskId = format!("{ulid:0<ULID_LEN$}-{}", LedgerTag([0; 5])).parse().ok()?;
    Some(TaskId { ulid: least.ulid.checked_sub(1)?, ledger: LedgerTag([u8::MAX; 5]) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_no_id_begins_with_is_not_looked_up() {
        for wrong in
            ["", "8", "01O", "x y", "01J-abc", &"0".repeat(27), "../etc", "01JD0Z8V3N5Q7R9T1W3Y5A7C9E-abcdefghi"]
        {
            assert_eq!(normalized(wrong), None, "{wrong}");
        }
        assert_eq!(normalized("01jd"), Some("01JD".to_owned()));
    }

    #[test]
    fn several_candidates_are_listed_and_many_are_cut() {
        let ids: Vec<TaskId> = (0..11).map(|ulid| TaskId { ulid, ledger: LedgerTag([7; 5]) }).collect();
        let told = ambiguous(Noun::Task, "00", &ids);
        assert!(told.starts_with("00 begins several tasks; type more of one of them:\n  0000"));
        assert_eq!(told.lines().count(), 12);
        assert!(told.ends_with("..."));
    }

    proptest! {
        #[test]
        fn every_id_lies_behind_the_cursor_of_each_of_its_prefixes(ulid: u128, tag: [u8; 5], len in 1usize..=26) {
            let id = TaskId { ulid, ledger: LedgerTag(tag) };
            let text = id.to_string();
            let prefix = normalized(&text[..len]).unwrap();
            prop_assert!(before(&prefix).is_none_or(|cursor| cursor < id));
            if let Some(cursor) = before(&prefix) {
                prop_assert!(!cursor.to_string().starts_with(&prefix));
            }
        }
    }
}
