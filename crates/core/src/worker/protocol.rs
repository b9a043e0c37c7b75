//! What goes into a worker and what comes out.

use serde::{Deserialize, Serialize};

use crate::ids::LedgerTag;
use crate::lease::{CompleteAnswer, Completion, CreditOffer, Fence, Grant, Release, RenewAnswer, Renewal, Slots};
use crate::progress::AttemptNews;
use crate::task::Outcome;

/// To a worker.
#[derive(Debug, Clone)]
pub enum WorkerEvent {
    /// A home is reachable; so many tasks wait there that this node could run.
    HomeSeen {
        home: LedgerTag,
        backlog: Slots,
    },
    /// This node serves that ledger now, maybe in place of another.
    HomeOpened {
        home: LedgerTag,
    },
    HomeLost {
        home: LedgerTag,
    },
    Granted {
        home: LedgerTag,
        grants: Vec<Grant>,
    },
    Recalled {
        fences: Vec<Fence>,
    },
    Stopped {
        fences: Vec<Fence>,
    },
    /// An attempt that needs room on the disk has all it needs: its command starts.
    Begun {
        fence: Fence,
    },
    /// In place of [`Self::Begun`]: the disk did not take what it needs, or it was to end before, so nothing of it ran.
    NotStarted {
        fence: Fence,
        why: String,
    },
    /// Why the disk has no room for tasks that need some; `None`: it has.
    RoomChanged {
        no_room: Option<String>,
    },
    /// A running attempt said something of itself.
    Progressed {
        fence: Fence,
        news: AttemptNews,
    },
    /// An attempt ended, by itself or because it was told to.
    Finished {
        fence: Fence,
        outcome: Outcome,
    },
    RenewAnswered {
        home: LedgerTag,
        sent_ms: u64,
        answers: Vec<(Fence, RenewAnswer)>,
    },
    CompleteAnswered {
        home: LedgerTag,
        answers: Vec<(Fence, CompleteAnswer)>,
    },
    /// A completion's request got no answer.
    CompleteFailed {
        home: LedgerTag,
    },
    /// What became of a [`WorkerEffect::Spool`]: `refused` says why the disk did not take these outcomes.
    SpoolAnswered {
        fences: Vec<Fence>,
        refused: Option<String>,
    },
    /// Found in the spool at the start.
    Recovered {
        completions: Vec<Completion>,
    },
    SlotsChanged {
        slots: Slots,
    },
    /// Take no lease, return unstarted ones; end what still runs `within_ms` from now.
    Drain {
        within_ms: Option<u64>,
    },
    Resume,
    Tick,
}

/// What the shell does for a worker.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkerEffect {
    Start {
        grant: Grant,
        /// Of an `exclusive` task: when the attempt must be over, on the clock of this worker.
        ends_ms: Option<u64>,
    },
    /// The end of an `exclusive` attempt's lease moved.
    LeaseExtended {
        fence: Fence,
        ends_ms: u64,
    },
    /// End the attempt and answer [`WorkerEvent::Finished`].
    Stop {
        fence: Fence,
        cause: StopCause,
    },
    Offer {
        home: LedgerTag,
        offer: CreditOffer,
    },
    Renew {
        home: LedgerTag,
        /// Comes back with the answer.
        sent_ms: u64,
        renewals: Vec<Renewal>,
    },
    Complete {
        home: LedgerTag,
        completions: Vec<Completion>,
    },
    Release {
        home: LedgerTag,
        releases: Vec<Release>,
    },
    Spool {
        completions: Vec<Completion>,
    },
    Unspool {
        fences: Vec<Fence>,
    },
}

/// Why a running attempt is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopCause {
    /// Its task ended otherwise: it has its grace, and its outcome is dropped.
    TaskEnded,
    /// Another epoch may run elsewhere: at once, and its outcome is dropped.
    Fenced,
    /// Its task is `exclusive` and the worker's end of the lease has passed: at once. That is its outcome.
    LeaseEnded,
    /// The deadline of a drain has passed: it has its grace. That is its outcome.
    Drained,
}

/// Counters since this process started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerStats {
    pub slots: Slots,
    pub free: Slots,
    pub prefetch: u32,
    pub queued: u64,
    pub running: u64,
    pub reporting: u64,
    pub started: u64,
    pub succeeded: u64,
    pub failed: u64,
    /// Started for another node's home.
    pub stolen: u64,
    pub released: u64,
    pub fenced: u64,
    pub draining: bool,
    /// Until what still runs is ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_left_ms: Option<u64>,
    /// Why outcomes that wait for their homes are kept in memory alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spool_refuses: Option<String>,
    /// Why it takes no task that needs room on the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_room: Option<String>,
}
