//! What goes into a worker and what comes out.

use serde::{Deserialize, Serialize};

use crate::ids::LedgerTag;
use crate::lease::{CompleteAnswer, Completion, CreditOffer, Fence, Grant, Release, RenewAnswer, Renewal, Slots};
use crate::task::Outcome;

/// To a worker.
#[derive(Debug, Clone)]
pub enum WorkerEvent {
    /// A home is reachable; so many tasks wait there that this node could run.
    HomeSeen {
        home: LedgerTag,
        backlog: Slots,
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
    /// Found in the spool at the start.
    Recovered {
        completions: Vec<Completion>,
    },
    SlotsChanged {
        slots: Slots,
    },
    Drain,
    Resume,
    Tick,
}

/// What the shell does for a worker.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkerEffect {
    Start {
        grant: Grant,
    },
    /// End the attempt and answer [`WorkerEvent::Finished`]; at once, if another epoch may run elsewhere.
    Stop {
        fence: Fence,
        fenced: bool,
    },
    Offer {
        home: LedgerTag,
        offer: CreditOffer,
    },
    Renew {
        home: LedgerTag,
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
}
