//! To the worker actor.

use magpie_core::ids::LedgerTag;
use magpie_core::lease::{CompleteAnswer, Fence, RenewAnswer, Slots};
use magpie_core::queue::WorkerNotice;
use magpie_core::task::Outcome;
pub use magpie_core::worker::WorkerStats;
use ractor::RpcReplyPort;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerRequest {
    /// From a home, about leases of its ledger.
    Notice {
        home: LedgerTag,
        notice: WorkerNotice,
    },
    Stats,
    /// Take no lease, return unstarted ones, finish the others.
    Drain,
    Resume,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerReply {
    Noted,
    Stats(WorkerStats),
}

pub enum WorkerMsg {
    Request {
        request: WorkerRequest,
        reply: RpcReplyPort<WorkerReply>,
    },
    HomeSeen {
        home: LedgerTag,
        backlog: Slots,
    },
    HomeLost {
        home: LedgerTag,
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
    /// Places in the batches of this node's devices.
    DeviceSlots(u32),
    Tick,
}
