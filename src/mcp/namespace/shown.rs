//! What a caller that is kept to a namespace is shown of an answer.

use std::collections::BTreeSet;

use magpie_core::ids::{ContentId, TaskId};
use magpie_core::payload::Payload;
use magpie_core::queue::{
    ApprovalReply, EventView, LedgerReply, NamespaceCounts, OutsideReply, PausedView, QueueStats, Refusal,
    ScheduleReply, TaskView, WorkflowView,
};
use magpie_core::stream::Piece;
use magpie_core::time::Wall;

use super::whole_node;
use crate::messages::Answer;
use crate::messages::device::DeviceView;
use crate::messages::node::NodeStatus;
use crate::messages::registry::PeerView;
use crate::messages::stream::StreamReply;
use crate::messages::tool::ToolReply;
use crate::messages::worker::WorkerStats;

/// An answer, and the blobs that it names of the namespace's own things.
pub type Shown<T> = Result<(T, Vec<ContentId>), Refusal>;

/// # Errors
/// If it is of another namespace, or of the whole node. What the questions of [`super::within()`] lead to is neither.
pub fn shown(namespace: &str, answer: Answer) -> Shown<Answer> {
    let plain = |answer| Ok((answer, Vec::new()));
    match answer {
        Answer::Ledger(reply) => {
            let (reply, blobs) = ledger(namespace, reply)?;
            Ok((Answer::Ledger(reply), blobs))
        }
        Answer::Blob(_) | Answer::Cache(_) | Answer::Stream(StreamReply::Task(_) | StreamReply::Events(None)) => {
            plain(answer)
        }
        // The other node has kept to the namespace.
        Answer::Tool(
            ToolReply::Running { .. }
            | ToolReply::Ended { .. }
            | ToolReply::Cancelled
            | ToolReply::Unknown
            | ToolReply::Away { .. },
        ) => plain(answer),
        Answer::Refused(refusal) => Err(refusal),
        Answer::Stream(StreamReply::Attempt(_) | StreamReply::Events(Some(_)))
        | Answer::Node(_)
        | Answer::Worker(_)
        | Answer::Registry(_)
        | Answer::Clock(_)
        | Answer::Device(_)
        | Answer::Actor(_)
        | Answer::Access(_)
        | Answer::Peer(_)
        | Answer::Mount(_)
        | Answer::Tool(ToolReply::Mounts(_)) => Err(whole_node(namespace)),
    }
}

fn ledger(namespace: &str, reply: LedgerReply) -> Shown<LedgerReply> {
    match reply {
        LedgerReply::Task(view) if view.namespace == namespace => {
            let blobs = output_of(&view);
            Ok((LedgerReply::Task(view), blobs))
        }
        LedgerReply::Task(view) => Err(Refusal::NotFound { id: view.id }),
        LedgerReply::Tasks { mut items, next_cursor } => {
            items.retain(|view| view.namespace == namespace);
            let blobs = items.iter().flat_map(output_of).collect();
            Ok((LedgerReply::Tasks { items, next_cursor }, blobs))
        }
        LedgerReply::Workflow(view) if view.spec.namespace == namespace => {
            let blobs = outputs_of(&view);
            Ok((LedgerReply::Workflow(view), blobs))
        }
        LedgerReply::Workflow(view) => Err(Refusal::NotFound { id: view.summary.id }),
        LedgerReply::Workflows { ref items, .. } if items.iter().any(|item| item.namespace != namespace) => {
            Err(earlier_version())
        }
        LedgerReply::DeadLetters { mut items, next_cursor } => {
            items.retain(|letter| letter.namespace == namespace);
            Ok((LedgerReply::DeadLetters { items, next_cursor }, Vec::new()))
        }
        LedgerReply::DeadLetter(view) if view.task.namespace == namespace => {
            let blobs = view.spec.blobs().chain(output_of(&view.task)).collect();
            Ok((LedgerReply::DeadLetter(view), blobs))
        }
        LedgerReply::DeadLetter(view) => Err(Refusal::NotFound { id: view.task.id }),
        LedgerReply::Queue { version, paused } => {
            Ok((LedgerReply::Queue { version, paused: paused_for(namespace, paused) }, Vec::new()))
        }
        LedgerReply::Schedule(reply) => schedule(namespace, reply),
        LedgerReply::Outside(reply) => outside(namespace, *reply),
        LedgerReply::Approval(reply) => {
            let blobs = match &*reply {
                ApprovalReply::List { items, .. } => items.iter().filter_map(|item| item.input.blob()).collect(),
                ApprovalReply::Decided(_) => Vec::new(),
            };
            let blobs = blobs.into_iter().map(|blob| blob.cid).collect();
            Ok((LedgerReply::Approval(reply), blobs))
        }
        LedgerReply::Refused(refusal) => Err(refusal),
        LedgerReply::Submitted { .. }
        | LedgerReply::WorkflowSubmitted { .. }
        | LedgerReply::WorkflowRetried { .. }
        | LedgerReply::Workflows { .. }
        | LedgerReply::Cancelled { .. }
        | LedgerReply::PrioritySet { .. }
        | LedgerReply::Pending(_)
        | LedgerReply::Retried { .. }
        | LedgerReply::Purged { .. }
        | LedgerReply::Cleared { .. }
        | LedgerReply::Rehearsed(_)
        | LedgerReply::Context(_) => Ok((reply, Vec::new())),
        LedgerReply::Stats(_)
        | LedgerReply::Namespaces { .. }
        | LedgerReply::NamespaceCounted(_)
        | LedgerReply::Usage(_)
        | LedgerReply::Claimed { .. }
        | LedgerReply::Credited { .. }
        | LedgerReply::Renewed(_)
        | LedgerReply::Completed(_)
        | LedgerReply::Released
        | LedgerReply::Permits(_)
        | LedgerReply::PermitsTaken => Err(whole_node(namespace)),
    }
}

fn output_of(view: &TaskView) -> Vec<ContentId> {
    view.output.as_ref().and_then(Payload::blob).map(|blob| blob.cid).into_iter().collect()
}

fn outputs_of(view: &WorkflowView) -> Vec<ContentId> {
    let outputs = view.steps.iter().filter_map(|step| step.output.as_ref()?.blob());
    outputs.map(|blob| blob.cid).chain(view.spec.blobs()).collect()
}

/// It listed what was not asked for.
fn earlier_version() -> Refusal {
    let what = "the home runs an earlier version, which does not list by namespace: ask for what you know the id of";
    Refusal::Unsupported { what: what.to_owned() }
}

fn paused_for(namespace: &str, paused: Vec<PausedView>) -> Vec<PausedView> {
    let concerns = |paused: &PausedView| paused.namespace.as_deref().is_none_or(|paused| paused == namespace);
    paused.into_iter().filter(concerns).collect()
}

fn schedule(namespace: &str, reply: ScheduleReply) -> Shown<LedgerReply> {
    match &reply {
        ScheduleReply::One(view) if view.namespace != namespace => return Err(Refusal::NotFound { id: view.id }),
        ScheduleReply::List { items, .. } if items.iter().any(|item| item.namespace != namespace) => {
            return Err(earlier_version());
        }
        ScheduleReply::Made { .. }
        | ScheduleReply::One(_)
        | ScheduleReply::List { .. }
        | ScheduleReply::Removed { .. }
        | ScheduleReply::RunStarted { .. } => {}
    }
    Ok((LedgerReply::Schedule(reply), Vec::new()))
}

fn outside(namespace: &str, reply: OutsideReply) -> Shown<LedgerReply> {
    let blobs = match &reply {
        OutsideReply::Taken(Some(taken)) if taken.spec.namespace != namespace => return Err(earlier_version()),
        OutsideReply::Taken(Some(taken)) => taken.spec.blobs().collect(),
        OutsideReply::Taken(None)
        | OutsideReply::Registered { .. }
        | OutsideReply::Kept(_)
        | OutsideReply::Ended(_) => Vec::new(),
    };
    Ok((LedgerReply::Outside(Box::new(reply)), blobs))
}

/// Of the home's counters only those that a namespace has: the others are zero, and no tool of such a caller shows them.
pub fn stats(namespace: &str, counts: &NamespaceCounts, stats: QueueStats) -> QueueStats {
    QueueStats {
        submitted: counts.tasks.total(),
        counts: counts.tasks,
        workflows_running: counts.workflows_running,
        lost: 0,
        fenced_total: 0,
        expired_total: 0,
        released_total: 0,
        retried_total: 0,
        leases: 0,
        pruned: Default::default(),
        kept_bytes: 0,
        paused: paused_for(namespace, stats.paused),
        ready_by_shape: Vec::new(),
        commits_by_worker: Default::default(),
        schedules: 0,
        ..stats
    }
}

/// What machines, models and room there are, and nothing of what others do there.
pub fn status(namespace: &str, counts: &NamespaceCounts, status: NodeStatus) -> NodeStatus {
    NodeStatus {
        queue: stats(namespace, counts, status.queue),
        worker: worker(status.worker),
        peers: status.peers.into_iter().map(peer).collect(),
        devices: status.devices.into_iter().map(device).collect(),
        routes: Vec::new(),
        ..status
    }
}

fn worker(stats: WorkerStats) -> WorkerStats {
    WorkerStats {
        queued: 0,
        running: 0,
        reporting: 0,
        started: 0,
        succeeded: 0,
        failed: 0,
        stolen: 0,
        released: 0,
        fenced: 0,
        ..stats
    }
}

fn peer(view: PeerView) -> PeerView {
    PeerView { worker: None, addresses: Vec::new(), ..view }
}

fn device(view: DeviceView) -> DeviceView {
    DeviceView { queued: 0, batches: 0, texts: 0, tokens: 0, busy_ms: 0, ..view }
}

/// The events of a home with those of others made blank: a reader goes on by their numbers.
pub fn events(own: &BTreeSet<TaskId>, piece: Piece<EventView>) -> Piece<EventView> {
    Piece { records: piece.records.into_iter().map(|event| shown_event(own, event)).collect(), ..piece }
}

fn shown_event(own: &BTreeSet<TaskId>, event: EventView) -> EventView {
    let subjects: Vec<_> = event.subjects.into_iter().filter(|subject| own.contains(&subject.id)).collect();
    if subjects.is_empty() {
        return EventView { at: Wall(0), kind: String::new(), subjects, left_out: 0, ..event };
    }
    // Whose those are that it leaves out, nobody says.
    EventView { subjects, left_out: 0, ..event }
}

#[cfg(test)]
mod tests {
    use super::*;
    use magpie_core::ids::{LedgerTag, LogIndex};
    use magpie_core::queue::Subject;

    fn id(ulid: u128) -> TaskId {
        TaskId { ulid, ledger: LedgerTag([5; 5]) }
    }

    fn event(subjects: &[u128]) -> EventView {
        let subjects = subjects.iter().map(|subject| Subject::from(id(*subject))).collect();
        let (event, kind) = (ContentId::of(b"event"), "granted".to_owned());
        EventView { seq: LogIndex(9), event, at: Wall(7), kind, subjects, left_out: 3 }
    }

    #[test]
    fn events_of_others_say_nothing_but_their_number() {
        let own = BTreeSet::from([id(1)]);
        let mixed = shown_event(&own, event(&[1, 2]));
        assert_eq!((mixed.subjects, mixed.left_out), (vec![Subject::from(id(1))], 0));
        let others = shown_event(&own, event(&[2]));
        assert_eq!((others.seq, others.at, others.kind.as_str(), others.subjects.len()), (LogIndex(9), Wall(0), "", 0));
    }

    #[test]
    fn what_is_of_another_namespace_is_not_found_and_what_is_of_the_node_is_refused() {
        let reply = LedgerReply::Namespaces { of: vec![Some("x".to_owned())] };
        assert!(matches!(shown("x", Answer::Ledger(reply)), Err(Refusal::Forbidden { .. })));
        let refusal = Refusal::NotFound { id: id(1) };
        assert_eq!(shown("x", Answer::Refused(refusal.clone())), Err(refusal));
    }

    #[test]
    fn a_pause_of_another_namespace_is_not_shown() {
        let paused = |namespace: Option<&str>| PausedView {
            namespace: namespace.map(str::to_owned),
            since: Wall(1),
            reason: String::new(),
        };
        let all = vec![paused(None), paused(Some("x")), paused(Some("y"))];
        let shown: Vec<_> = paused_for("x", all).into_iter().map(|paused| paused.namespace).collect();
        assert_eq!(shown, [None, Some("x".to_owned())]);
    }
}
