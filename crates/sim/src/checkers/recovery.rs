//! I16: replaying a log twice is replaying it once, what is recovered is what the home showed, and of a log whose oldest
//! part was cut off the same comes out as of the whole.

use std::collections::BTreeMap;

use magpie_core::ids::{LogIndex, PeerId, TaskId};
use magpie_core::invariant::InvariantId;
use magpie_core::queue::{
    Caller, CompactionPolicy, Effect, Event, Ledger, LedgerIdentity, LedgerReply, LedgerRequest, LogStart, NewEntry,
    QueueStats, Replay, ReplyTo, TaskFilter, TaskView, Watermark, WorkflowView,
};
use magpie_core::task::{Durability, TaskState};
use magpie_core::time::Now;

use super::{Verdict, Violation, require};

/// Lets every answer out.
const EVERYTHING: Watermark = Watermark { written: LogIndex(u64::MAX), synced: LogIndex(u64::MAX) };
const NAME: &str = "what_is_recovered_is_what_was";

/// All that a home can show.
#[derive(Debug, PartialEq)]
pub struct Shown {
    tasks: BTreeMap<TaskId, TaskView>,
    workflows: BTreeMap<TaskId, WorkflowView>,
}

/// Reads a log, from its first kept entry on, into a ledger that has not opened.
///
/// # Errors
/// A violation if the log does not replay.
pub fn replay(
    identity: &LedgerIdentity,
    compaction: CompactionPolicy,
    entries: &[NewEntry],
    first: LogIndex,
) -> Result<Replay, Violation> {
    let (cut, kept) = entries.split_at(first.0 as usize - 1);
    let replay = match cut.last() {
        Some(last) => Replay::resume(identity.clone(), LogStart { first, after: last.event }),
        None => Replay::new(identity.clone()),
    };
    let mut replay = replay.with_compaction(compaction);
    let mut kept = kept.iter();
    let read = kept.try_for_each(|entry| replay.apply(entry.index, &entry.body, entry.event));
    let failed = |what: String| Violation { id: InvariantId::I16, invariant: "a_log_replays", what };
    read.and_then(|()| replay.check()).map_err(|error| failed(error.to_string()))?;
    Ok(replay)
}

/// Compares a ledger that is about to die with what its log, as far as the process wrote it, replays to.
pub fn invariant_what_is_recovered_is_what_was(
    live: &mut Ledger,
    identity: &LedgerIdentity,
    (entries, first): (&[NewEntry], LogIndex),
    now: Now,
) -> Verdict {
    // Time has passed since its last event, so it may grant something now.
    live.handle(now, Event::Durable(EVERYTHING));
    let entries = [entries, &live.take_entries()].concat();
    let recovered = show(&mut replay(identity, CompactionPolicy::default(), &entries, first)?.open(now), now);
    let live = show(live, now);
    require(InvariantId::I16, NAME, recovered == live, || {
        format!("live and recovered: {:?}", differs(&live, &recovered).or_else(|| differs(&recovered, &live)))
    })
}

pub fn invariant_replaying_twice_is_replaying_once(
    identity: &LedgerIdentity,
    (entries, first): (&[NewEntry], LogIndex),
    now: Now,
) -> Verdict {
    let mut once = replay(identity, CompactionPolicy::default(), entries, first)?.open(now);
    let mut twice = replay(identity, CompactionPolicy::default(), entries, LogIndex(1))?.open(now);
    let (cut_sums, whole_sums) = (sums(&mut once, now), sums(&mut twice, now));
    require(InvariantId::I16, "a_cut_log_has_the_same_counters", cut_sums == whole_sums, || {
        format!("of the kept part {cut_sums:?}, of the whole log {whole_sums:?}")
    })?;
    let (once, twice) = (show(&mut once, now), show(&mut twice, now));
    require(InvariantId::I16, "replaying_twice_is_replaying_once", once == twice, || {
        format!("two replays differ: {:?}", differs(&once, &twice))
    })
}

/// The first task or workflow of `left` that `right` does not show so.
fn differs(left: &Shown, right: &Shown) -> Option<String> {
    let task = left.tasks.iter().find(|(id, view)| right.tasks.get(id) != Some(view));
    let task = task.map(|(id, view)| format!("{view:?} and {:?}", right.tasks.get(id)));
    let workflow = left.workflows.iter().find(|(id, view)| right.workflows.get(id) != Some(view));
    task.or_else(|| workflow.map(|(id, view)| format!("{view:?} and {:?}", right.workflows.get(id))))
}

/// The counters, without what only time decides.
fn sums(ledger: &mut Ledger, now: Now) -> Option<QueueStats> {
    ledger.handle(now, Event::Durable(EVERYTHING));
    ledger.take_effects();
    let Some(LedgerReply::Stats(mut stats)) = ask(ledger, now, LedgerRequest::Stats) else { return None };
    stats.counts.ready += std::mem::take(&mut stats.counts.delayed);
    stats.ready_by_shape.clear();
    Some(*stats)
}

/// Reads everything that is not of class `memory` out of a ledger.
fn show(ledger: &mut Ledger, now: Now) -> Shown {
    ledger.handle(now, Event::Durable(EVERYTHING));
    ledger.take_effects();
    let (mut tasks, mut cursor) = (BTreeMap::new(), None);
    loop {
        let request = LedgerRequest::ListTasks { filter: TaskFilter::default(), cursor, limit: 1_000 };
        let Some(LedgerReply::Tasks { items, next_cursor }) = ask(ledger, now, request) else { break };
        for listed in items.iter().filter(|view| view.durability != Durability::Memory) {
            if let Some(LedgerReply::Task(view)) = ask(ledger, now, LedgerRequest::GetTask { id: listed.id }) {
                tasks.insert(view.id, without_what_time_decides(*view));
            }
        }
        cursor = next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    let mut workflows = BTreeMap::new();
    let request = LedgerRequest::ListWorkflows { state: None, namespace: None, cursor: None, limit: 1_000 };
    if let Some(LedgerReply::Workflows { items, .. }) = ask(ledger, now, request) {
        for listed in items {
            if let Some(LedgerReply::Workflow(mut view)) =
                ask(ledger, now, LedgerRequest::GetWorkflow { id: listed.id })
                && view.spec.durability != Durability::Memory
            {
                view.steps.iter_mut().for_each(merge_delayed);
                view.summary.tasks.ready += std::mem::take(&mut view.summary.tasks.delayed);
                workflows.insert(view.summary.id, *view);
            }
        }
    }
    Shown { tasks, workflows }
}

fn merge_delayed(step: &mut magpie_core::queue::StepView) {
    step.tasks.ready += std::mem::take(&mut step.tasks.delayed);
    if step.state == TaskState::Delayed {
        step.state = TaskState::Ready;
    }
    if let Some(undo) = step.compensation.as_mut().filter(|undo| undo.state == TaskState::Delayed) {
        undo.state = TaskState::Ready;
    }
}

/// Ready is a fact of time where a task was delayed, and who lacks what a fact of who is there.
fn without_what_time_decides(mut view: TaskView) -> TaskView {
    if view.state == TaskState::Delayed {
        view.state = TaskState::Ready;
    }
    view.due_at = None;
    view.unmet = Vec::new();
    view
}

/// What a ledger answers once all that it rests on is on the disk.
pub fn ask(ledger: &mut Ledger, now: Now, request: LedgerRequest) -> Option<LedgerReply> {
    let caller = Caller { peer: PeerId([0; 32]), owner: "checker".into() };
    ledger.handle(now, Event::Request { caller, request, reply: ReplyTo(u64::MAX) });
    ledger.take_effects().into_iter().find_map(|effect| match effect {
        Effect::Reply { to: ReplyTo(u64::MAX), reply } => Some(reply),
        _ => None,
    })
}
