//! To the worker actor.

use magpie_core::homes::Term;
use magpie_core::ids::LedgerTag;
use magpie_core::lease::{CompleteAnswer, Fence, RenewAnswer, Slots};
use magpie_core::progress::AttemptNews;
use magpie_core::queue::WorkerNotice;
use magpie_core::task::Outcome;
pub use magpie_core::worker::WorkerStats;
use ractor::RpcReplyPort;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerRequest {
    /// From a home, about leases of its ledger.
    Notice {
        home: LedgerTag,
        #[serde(default)]
        term: Term,
        notice: WorkerNotice,
    },
    Stats,
    /// Take no lease, return unstarted ones, finish the others: what still runs `within_ms` from now is ended.
    Drain {
        #[serde(default)]
        within_ms: Option<u64>,
    },
    Resume,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerReply {
    Noted,
    Stats(WorkerStats),
}

/// What the mesh hears of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerBrief {
    pub slots: Slots,
    pub free: Slots,
    pub running: u64,
    pub queued: u64,
    pub draining: bool,
}

impl WorkerBrief {
    pub fn of(stats: &WorkerStats) -> Self {
        let WorkerStats { slots, free, running, queued, draining, .. } = *stats;
        Self { slots, free, running, queued, draining }
    }
}

pub enum WorkerMsg {
    Request {
        request: WorkerRequest,
        /// Mailboxes have no bound: a door takes this before it speaks. What this node itself says has its bound where
        /// it is said.
        permit: Option<OwnedSemaphorePermit>,
        reply: RpcReplyPort<WorkerReply>,
    },
    HomeSeen {
        home: LedgerTag,
        backlog: Slots,
    },
    /// This node's own home is open.
    HomeOpened {
        home: LedgerTag,
    },
    HomeLost {
        home: LedgerTag,
    },
    /// What an attempt said of itself.
    Progressed {
        fence: Fence,
        news: AttemptNews,
    },
    /// An attempt that had to prepare begins.
    Begun {
        fence: Fence,
    },
    NotStarted {
        fence: Fence,
        why: String,
    },
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
    CompleteFailed {
        home: LedgerTag,
    },
    SpoolAnswered {
        fences: Vec<Fence>,
        refused: Option<String>,
    },
    /// Places in the batches of this node's devices.
    DeviceSlots(u32),
    /// It knows nothing of this worker yet.
    RegistryStarted,
    /// Time to look at the disk.
    LookForRoom,
    /// Why the disk has no room for tasks that need some; `None`: it has.
    Room(Option<String>),
    Tick,
}
