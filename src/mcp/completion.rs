//! What an argument of a template or a prompt may go on with: ids of tasks and workflows of this node's home, models.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use magpie_core::ids::{LedgerTag, TaskId};
use magpie_core::queue::{LedgerReply, LedgerRequest, TaskFilter};

use super::answer::ToolError;
use super::link::{self, NodeLink, PATIENCE};
use super::prompts;
use super::resources::{ENTRIES, Kind, ResourceEntry};
use super::text::beginning;
use crate::id_prefix;

/// Values of one answer, as the protocol bounds them.
pub const VALUES_MAX: usize = 100;
/// How far back the newest ids are looked for, one span after the other, until there are enough: milliseconds.
const SPANS_MS: [u64; 6] = [10_000, 120_000, 1_800_000, 28_800_000, 432_000_000, 8_640_000_000];
/// Values that are enough where there are more, and looks that the search for them may take.
const VALUES_ENOUGH: usize = 20;
const LOOKS_MAX: usize = 16;
/// An id holds the time in its highest bits.
const ULID_TIME_SHIFT: u32 = 80;

/// What an argument belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About<'a> {
    /// A template of resources, or one of its resources.
    Template(&'a str),
    Prompt(&'a str),
}

impl About<'_> {
    pub fn name(&self) -> &str {
        match self {
            Self::Template(name) | Self::Prompt(name) => name,
        }
    }
}

/// Where values come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    TaskIds,
    WorkflowIds,
    /// Models that some node has loaded.
    Models,
    /// Whatever the caller wants to say.
    Free,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completed {
    pub values: Vec<String>,
    pub has_more: bool,
}

/// Where the values of an argument come from.
///
/// # Errors
/// If there is no such template, prompt or argument, with those that there are.
pub fn source(about: About<'_>, argument: &str) -> Result<Source, ToolError> {
    match about {
        About::Template(uri) => {
            let entry = ResourceEntry::of_template(uri).ok_or_else(|| unknown_template(uri))?;
            match entry.variable {
                Some(variable) if variable == argument => Ok(of_kind(entry.kind)),
                Some(variable) => Err(unknown_argument(argument, &[variable])),
                None => Err(unknown_template(uri)),
            }
        }
        About::Prompt(name) => {
            let arguments = prompts::find(name)?.arguments;
            let named = arguments.iter().find(|known| known.name == argument);
            let names: Vec<&str> = arguments.iter().map(|known| known.name).collect();
            named.map(|known| known.source).ok_or_else(|| unknown_argument(argument, &names))
        }
    }
}

fn of_kind(kind: Kind) -> Source {
    match kind {
        Kind::Task | Kind::Log => Source::TaskIds,
        Kind::Workflow | Kind::Graph => Source::WorkflowIds,
        Kind::Status | Kind::Events | Kind::Session => Source::Free,
    }
}

fn unknown_template(uri: &str) -> ToolError {
    let templates = ENTRIES.iter().filter(|entry| entry.variable.is_some());
    let templates: Vec<String> = templates.map(ResourceEntry::uri).collect();
    let message = format!("{:?} is no template", beginning(uri, 120));
    ToolError::new("unknown_template", message, format!("name one of {}", templates.join(", ")))
}

fn unknown_argument(argument: &str, known: &[&str]) -> ToolError {
    let problem = format!("{:?} is no argument", beginning(argument, 80));
    let known = known.join(", ");
    ToolError::wrong_argument("argument", problem, &format!("one of {known}"), format!("name one of {known}"))
}

/// The values that begin so.
///
/// # Errors
/// If the node does not answer.
pub async fn complete(source: Source, begun: &str, link: &NodeLink) -> Result<Completed, ToolError> {
    match source {
        Source::Free => Ok(Completed { values: Vec::new(), has_more: false }),
        Source::Models => models(begun, link).await,
        Source::TaskIds | Source::WorkflowIds if begun.is_empty() => newest(source, link).await,
        Source::TaskIds | Source::WorkflowIds => {
            let Some(prefix) = id_prefix::normalized(begun) else {
                return Ok(Completed { values: Vec::new(), has_more: false });
            };
            let page = list(source, id_prefix::before(&prefix), link).await?;
            Ok(beginning_with(&page, &prefix))
        }
    }
}

/// Ids in their order, and whether others follow.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Page {
    ids: Vec<TaskId>,
    has_more: bool,
}

async fn list(source: Source, cursor: Option<TaskId>, link: &NodeLink) -> Result<Page, ToolError> {
    let limit = VALUES_MAX;
    let request = match source {
        Source::WorkflowIds => LedgerRequest::ListWorkflows { state: None, namespace: None, cursor, limit },
        Source::TaskIds | Source::Models | Source::Free => {
            LedgerRequest::ListTasks { filter: TaskFilter::default(), cursor, limit }
        }
    };
    match link.ledger(request, PATIENCE).await? {
        LedgerReply::Tasks { items, next_cursor } => {
            Ok(Page { ids: items.iter().map(|task| task.id).collect(), has_more: next_cursor.is_some() })
        }
        LedgerReply::Workflows { items, next_cursor } => {
            Ok(Page { ids: items.iter().map(|workflow| workflow.id).collect(), has_more: next_cursor.is_some() })
        }
        _ => Err(link::unexpected()),
    }
}

/// A page that starts where the prefix does.
fn beginning_with(page: &Page, prefix: &str) -> Completed {
    let ids = page.ids.iter().map(TaskId::to_string);
    let values: Vec<String> = ids.take_while(|id| id.starts_with(prefix)).collect();
    Completed { has_more: page.has_more && values.len() == page.ids.len(), values }
}

/// The newest ids, the newest first: homes list the oldest first, so that spans of time are looked through.
async fn newest(source: Source, link: &NodeLink) -> Result<Completed, ToolError> {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let mut search = Search::default();
    for _ in 0..LOOKS_MAX {
        let Some(span_ms) = search.next_span_ms() else { break };
        search.take(span_ms, list(source, Some(made_before(now_ms.saturating_sub(span_ms))), link).await?);
    }
    let Page { ids, has_more } = search.found();
    Ok(Completed { values: ids.iter().rev().map(TaskId::to_string).collect(), has_more })
}

/// A search for the span of time that holds about as many ids as are shown.
#[derive(Debug, Default)]
struct Search {
    /// The longest span so far that is shown to its end, and what is in it.
    whole: Option<(u64, Vec<TaskId>)>,
    /// The shortest that is not.
    cut: Option<(u64, Vec<TaskId>)>,
}

impl Search {
    /// The span to look at next; none: it is done.
    fn next_span_ms(&self) -> Option<u64> {
        let shown = self.whole.as_ref().map_or(0, |(_, ids)| ids.len());
        let whole_ms = self.whole.as_ref().map_or(0, |(span_ms, _)| *span_ms);
        match &self.cut {
            None => SPANS_MS.into_iter().find(|span_ms| *span_ms > whole_ms),
            Some((cut_ms, _)) if shown < VALUES_ENOUGH && cut_ms - whole_ms > 1 => Some(whole_ms.midpoint(*cut_ms)),
            Some(_) => None,
        }
    }

    fn take(&mut self, span_ms: u64, page: Page) {
        let place = if page.has_more { &mut self.cut } else { &mut self.whole };
        *place = Some((span_ms, page.ids));
    }

    fn found(self) -> Page {
        let has_more = self.cut.is_some();
        let whole = self.whole.map(|(_, ids)| ids).filter(|ids| !ids.is_empty());
        let cut = || self.cut.map(|(_, ids)| ids).unwrap_or_default();
        Page { ids: whole.unwrap_or_else(cut), has_more }
    }
}

/// The last id that could have been made before that time.
fn made_before(at_ms: u64) -> TaskId {
    TaskId { ulid: (u128::from(at_ms) << ULID_TIME_SHIFT).saturating_sub(1), ledger: LedgerTag([u8::MAX; 5]) }
}

async fn models(begun: &str, link: &NodeLink) -> Result<Completed, ToolError> {
    let status = link.status(PATIENCE).await?;
    let others = status.peers.iter().filter_map(|peer| peer.capabilities.as_ref());
    let all = others.flat_map(|capabilities| &capabilities.models).chain(&status.capabilities.models);
    let begun = begun.to_lowercase();
    let found: BTreeSet<&String> = all.filter(|model| model.to_lowercase().starts_with(&begun)).collect();
    let has_more = found.len() > VALUES_MAX;
    Ok(Completed { values: found.into_iter().take(VALUES_MAX).cloned().collect(), has_more })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(ulids: std::ops::Range<u128>, has_more: bool) -> Page {
        Page { ids: ulids.map(|ulid| TaskId { ulid, ledger: LedgerTag([7; 5]) }).collect(), has_more }
    }

    #[test]
    fn arguments_are_known_by_their_template_or_prompt() {
        let id = "task://01JD8Y3Q0M4T5R6W7X8Y9Z0A1B-k3v7x2aq";
        for (about, argument, wanted) in [
            (About::Template("task://{task_id}"), "task_id", Source::TaskIds),
            (About::Template("logs://{task_id}"), "task_id", Source::TaskIds),
            (About::Template("workflow://{workflow_id}"), "workflow_id", Source::WorkflowIds),
            (About::Template("workflow://{workflow_id}/graph"), "workflow_id", Source::WorkflowIds),
            (About::Template(id), "task_id", Source::TaskIds),
            (About::Prompt("diagnose_task"), "task_id", Source::TaskIds),
            (About::Prompt("add_model"), "model", Source::Models),
            (About::Prompt("join_mesh"), "address", Source::Free),
        ] {
            assert_eq!(source(about, argument).unwrap(), wanted, "{about:?}");
        }
        assert_eq!(source(About::Template("node://status"), "x").unwrap_err().code, "unknown_template");
        assert_eq!(source(About::Prompt("nothing"), "x").unwrap_err().code, "unknown_prompt");
        let error = source(About::Template("task://{task_id}"), "id").unwrap_err();
        assert!(error.fix.contains("task_id"), "{}", error.fix);
    }

    #[test]
    fn what_does_not_begin_so_any_more_ends_the_values() {
        let whole = page(0..3, true);
        let prefix = "0".repeat(26);
        let found = beginning_with(&whole, &prefix);
        assert_eq!((found.values.len(), found.has_more), (1, false), "the others begin otherwise");
        assert_eq!(
            beginning_with(&whole, "0"),
            Completed { has_more: true, ..beginning_with(&page(0..3, false), "0") }
        );
    }

    /// What is found among ids that were made so many milliseconds ago.
    fn found_among(ages_ms: &[u64]) -> (Vec<u64>, bool, usize) {
        let (mut search, mut looks) = (Search::default(), 0);
        while let Some(span_ms) = search.next_span_ms().filter(|_| looks < LOOKS_MAX) {
            let mut ages: Vec<u64> = ages_ms.iter().copied().filter(|age| *age <= span_ms).collect();
            ages.sort_unstable_by(|one, other| other.cmp(one));
            let ids =
                ages.iter().take(VALUES_MAX).map(|age| TaskId { ulid: u128::from(*age), ledger: LedgerTag([0; 5]) });
            search.take(span_ms, Page { ids: ids.collect(), has_more: ages.len() > VALUES_MAX });
            looks += 1;
        }
        let Page { ids, has_more } = search.found();
        (ids.iter().rev().map(|id| id.ulid as u64).collect(), has_more, looks)
    }

    #[test]
    fn the_newest_ids_are_found_however_they_lie() {
        let few: Vec<u64> = vec![5, 100_000, 9_000_000];
        assert_eq!(found_among(&few), (few.clone(), false, SPANS_MS.len()));
        assert!(found_among(&[]).0.is_empty());
        for gap_ms in [1, 7, 300, 40_000] {
            let many: Vec<u64> = (0..5_000).map(|n| 15_000 + n * gap_ms).collect();
            let (found, has_more, _) = found_among(&many);
            assert!(has_more && (VALUES_ENOUGH..=VALUES_MAX).contains(&found.len()), "{gap_ms}: {}", found.len());
            assert_eq!(found, many[..found.len()], "{gap_ms}");
        }
        let (found, has_more, looks) = found_among(&[30_000; 5_000]);
        assert_eq!((found.len(), has_more, looks), (VALUES_MAX, true, LOOKS_MAX), "made at one time: any of them");
    }

    #[test]
    fn ids_of_a_time_lie_behind_its_cursor() {
        let at_ms = 1_900_000_000_000;
        let id = TaskId { ulid: u128::from(at_ms) << ULID_TIME_SHIFT, ledger: LedgerTag([0; 5]) };
        assert!(made_before(at_ms) < id && id < made_before(at_ms + 1));
        assert!(made_before(0) < id);
    }
}
