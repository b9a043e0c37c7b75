//! What goes into a home's ledger and what comes out, and when it may come out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::disk::Disk;
use super::handover::Seal;
use super::protocol::{LedgerReply, LedgerRequest, Refusal, WorkerNotice};
use super::record::ClockRoot;
use crate::clock::Position;
use crate::clock_alarm::PeerClocks;
use crate::dag::WorkflowSpec;
use crate::homes::{SignedHandover, Term};
use crate::ids::{ContentId, LedgerTag, LogIndex, PeerId, WorkflowId};
use crate::limiter::{PermitAnswer, PermitAsk};
use crate::matching::Capabilities;
use crate::payload::{JsonText, Payload};
use crate::task::{Durability, TaskError, TaskSpec, TaskState};

/// Names a caller that waits for an answer; the shell knows who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyTo(pub u64);

/// Who asks: a peer's request acts in that peer's name only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub peer: PeerId,
    /// The principal that owns what it submits.
    pub owner: Arc<str>,
}

/// To a ledger.
#[derive(Debug, Clone)]
pub enum Event {
    Request {
        caller: Caller,
        request: LedgerRequest,
        reply: ReplyTo,
    },
    /// What a member offers, and whether membership holds it alive.
    WorkerSeen {
        worker: PeerId,
        capabilities: Arc<Capabilities>,
        alive: bool,
    },
    /// A member is forgotten, with its credits.
    WorkerForgotten {
        worker: PeerId,
    },
    /// This node ends soon, and why: new work is refused with that, what is there goes on.
    Draining {
        why: String,
    },
    /// The clock's root, stamped into what is submitted from now on.
    ClockRoot(ClockRoot),
    /// How the clocks of the peers in reach compare with this node's.
    PeerClocks(PeerClocks),
    /// A peer has said what it holds of this ledger; what is not this log's own came before as [`Event::HeadSeen`].
    PeerCompared {
        peer: PeerId,
    },
    /// Somebody holds this head of this ledger, signed by this node. `recorded` is the event that the log has there.
    HeadSeen {
        position: Position,
        event: ContentId,
        recorded: Option<ContentId>,
    },
    /// A node with this one's key has announced this ledger in a term that is not over: it serves it too.
    TermSeen(Term),
    /// An operator hands this ledger over, with this home's signature of [`super::Ledger::handover_to`].
    HandOver(SignedHandover),
    /// The answer to [`Effect::Bind`].
    Bound {
        id: BindingId,
        bound: Result<Bound, TaskError>,
    },
    /// The answer to [`Effect::AskPermits`].
    PermitsAnswered {
        home: LedgerTag,
        ask: PermitAsk,
        answer: Result<PermitAnswer, Refusal>,
    },
    /// A marker came out of the path that renewals take.
    MarkerOut {
        marker: u64,
    },
    /// What the log says is on disk.
    Durable(Watermark),
    /// How the disk stands from now on.
    Disk(Disk),
    Tick,
}

/// Names a binding: the answer repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BindingId {
    pub workflow: WorkflowId,
    /// How often the workflow was retried before: an answer to an earlier run is none to a later one.
    pub retries: u32,
    pub part: BindingPart,
}

/// Whose templates are filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BindingPart {
    /// The items of a step from `from` on; of a step without `for_each` its one task.
    Items { step: u32, from: u32 },
    /// The task that undoes a step.
    Compensation { step: u32 },
    /// The workflow's outputs.
    Outputs,
}

/// What templates became.
#[derive(Debug, Clone, PartialEq)]
pub enum Bound {
    Tasks(BoundWindow),
    /// The step's condition does not hold.
    Skipped,
    Outputs(JsonText),
}

/// A window of a step's tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct BoundWindow {
    pub total: u32,
    pub tasks: Vec<Arc<TaskSpec>>,
    /// Places in `tasks` of items whose condition does not hold, in order.
    pub skipped: Vec<u32>,
}

/// How far a log is written (handed to the kernel) and synced (on the disk).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Watermark {
    pub written: LogIndex,
    pub synced: LogIndex,
}

/// A record that must be appended to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    pub index: LogIndex,
    pub durability: Durability,
    /// A versioned [`super::Record`].
    pub body: Vec<u8>,
    /// The tip of the ledger's chain of events with this record.
    pub event: ContentId,
}

/// What the shell does for the ledger, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    Reply {
        to: ReplyTo,
        reply: LedgerReply,
    },
    /// To a worker; may get lost.
    Notify {
        worker: PeerId,
        notice: WorkerNotice,
    },
    /// Fill in the templates of a part of a workflow, [`super::bind()`], and answer [`Event::Bound`].
    Bind {
        id: BindingId,
        spec: Arc<WorkflowSpec>,
        /// What the steps that it reads gave, by name.
        steps: BTreeMap<String, StepOutputs>,
    },
    /// Ask the home of a limit for permits, and answer [`Event::PermitsAnswered`].
    AskPermits {
        home: LedgerTag,
        ask: PermitAsk,
    },
    /// To a home that borrows: what it has now; may get lost.
    LendPermits {
        home: LedgerTag,
        answer: PermitAnswer,
    },
    /// Put a marker at the end of the path that renewals take, and answer [`Event::MarkerOut`].
    PlaceMarker {
        marker: u64,
    },
    /// All records before `before` may go.
    Cut {
        before: LogIndex,
    },
    /// The chain of durable events grew: sign and publish its head.
    PublishHead {
        count: LogIndex,
        event: ContentId,
    },
    /// This home's ledger is another's from now on.
    HandedOver {
        seal: Seal,
    },
    /// End this ledger and open it again.
    StartAnew,
}

/// What one step gave, and how it ended or stands.
#[derive(Debug, Clone, PartialEq)]
pub struct StepOutputs {
    /// A `for_each` step's output is the list of its items' outputs.
    pub each: bool,
    /// `null` for what did not succeed; empty where only the end is read.
    pub payloads: Vec<Payload>,
    pub state: TaskState,
    pub error: Option<TaskError>,
}

/// What must be true of the log before an effect may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    Written(LogIndex),
    Synced(LogIndex),
}

/// Effects that wait for the log: persist, then send, then reply.
#[derive(Debug, Clone, Default)]
pub(super) struct Outbox {
    pub watermark: Watermark,
    /// The record that opened this generation: before it is synced, nothing leaves at all.
    pub opened: LogIndex,
    pub ready: Vec<Effect>,
    pub until_written: VecDeque<(LogIndex, Effect)>,
    pub until_synced: VecDeque<(LogIndex, Effect)>,
}

impl Outbox {
    /// Of a log that ends at `index`; the next record opens a generation.
    pub fn starting_at(index: LogIndex) -> Self {
        Self { watermark: Watermark { written: index, synced: index }, opened: index.next(), ..Self::default() }
    }

    pub fn push(&mut self, gate: Gate, effect: Effect) {
        match self.once_opened(gate) {
            Gate::Written(index) if index > self.watermark.written => self.until_written.push_back((index, effect)),
            Gate::Synced(index) if index > self.watermark.synced => self.until_synced.push_back((index, effect)),
            Gate::Open | Gate::Written(_) | Gate::Synced(_) => self.ready.push(effect),
        }
    }

    /// Whether an effect behind this gate leaves at once.
    pub fn is_open(&self, gate: Gate) -> bool {
        match self.once_opened(gate) {
            Gate::Open => true,
            Gate::Written(index) => index <= self.watermark.written,
            Gate::Synced(index) => index <= self.watermark.synced,
        }
    }

    /// Answers everybody who waits for records that are not coming soon. Asked again, each gets its own answer.
    pub fn refuse_held(&mut self, refusal: &Refusal) {
        for held in [&mut self.until_written, &mut self.until_synced] {
            for (index, effect) in std::mem::take(held) {
                match effect {
                    Effect::Reply { to, .. } => {
                        let reply = LedgerReply::Refused(refusal.clone());
                        self.ready.push(Effect::Reply { to, reply });
                    }
                    other => held.push_back((index, other)),
                }
            }
        }
    }

    /// Lets nothing out that waits: who would get an answer gets `refusal`.
    pub fn withhold(&mut self, refusal: &Refusal) {
        self.refuse_held(refusal);
        self.until_written.clear();
        self.until_synced.clear();
    }

    fn once_opened(&self, gate: Gate) -> Gate {
        #[cfg(feature = "canary")]
        if crate::canary::has(crate::canary::Bug::GenerationNotDurable) {
            return gate;
        }
        match gate {
            gate if self.watermark.synced >= self.opened => gate,
            Gate::Open => Gate::Synced(self.opened),
            Gate::Written(index) | Gate::Synced(index) => Gate::Synced(index.max(self.opened)),
        }
    }

    /// Lets out what rests on durable records now.
    pub fn advance(&mut self, watermark: Watermark) {
        self.watermark.written = self.watermark.written.max(watermark.written);
        self.watermark.synced = self.watermark.synced.max(watermark.synced);
        release(&mut self.until_written, self.watermark.written, &mut self.ready);
        release(&mut self.until_synced, self.watermark.synced, &mut self.ready);
    }

    pub fn written(&self) -> LogIndex {
        self.watermark.written
    }

    pub fn synced(&self) -> LogIndex {
        self.watermark.synced
    }

    /// Whether such an effect waits for the log.
    pub fn holds(&self, is_such: impl Fn(&Effect) -> bool) -> bool {
        self.until_written.iter().chain(&self.until_synced).any(|(_, effect)| is_such(effect))
    }

    pub fn take(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.ready)
    }
}

/// Gates are not always in order (a read of an old task between two new ones), so a later one never overtakes: it
/// leaves with the first one that is due behind it.
fn release(held: &mut VecDeque<(LogIndex, Effect)>, durable: LogIndex, ready: &mut Vec<Effect>) {
    while held.front().is_some_and(|(index, _)| *index <= durable) {
        if let Some((_, effect)) = held.pop_front() {
            ready.push(effect);
        }
    }
}
