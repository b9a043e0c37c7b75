//! What a home and a worker say to each other about ownership. Data only: [`crate::queue`] and [`crate::worker`] decide.

use std::ops::{Index, IndexMut};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::ids::{Epoch, Incarnation, LeaseToken, OutcomeDigest, Sending, TaskId};
use crate::payload::JsonText;
use crate::progress::AttemptNews;
use crate::task::{AttemptResult, Outcome, SlotPool, TaskSpec, TaskState, Used, is_default};

/// The right to run one attempt: it is presented with a lease token and loses to any later epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fence {
    pub task: TaskId,
    pub epoch: Epoch,
}

/// A number of slots of each pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Slots {
    pub cpu: u32,
    pub device: u32,
}

impl Slots {
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }
}

impl Index<SlotPool> for Slots {
    type Output = u32;

    fn index(&self, pool: SlotPool) -> &u32 {
        match pool {
            SlotPool::Cpu => &self.cpu,
            SlotPool::Device => &self.device,
        }
    }
}

impl IndexMut<SlotPool> for Slots {
    fn index_mut(&mut self, pool: SlotPool) -> &mut u32 {
        match pool {
            SlotPool::Cpu => &mut self.cpu,
            SlotPool::Device => &mut self.device,
        }
    }
}

/// Names one sending of a credit: a grant answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CreditName {
    pub incarnation: Incarnation,
    pub sending: Sending,
}

/// Slots that a worker offers to one home. A later sending replaces the earlier.
///
/// `received` closes the gap that messages in flight open: the home may still grant `free - (granted - received)`,
/// where `granted` is its own count for this incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CreditOffer {
    pub name: CreditName,
    /// Grants of this home that this incarnation of the worker has seen so far.
    pub received: Slots,
    pub free: Slots,
    /// Slots of the worker, busy ones included: what `free` has beyond them is for short tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<Slots>,
}

/// One task leased to one worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    pub fence: Fence,
    pub token: LeaseToken,
    pub credit: CreditName,
    pub ttl_ms: u64,
    /// 1 for the first.
    pub attempt: u32,
    pub spec: Arc<TaskSpec>,
    /// What an earlier attempt left last, for this one to go on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<JsonText>,
}

/// A worker holds on to a lease, and says what is new of its attempt.
#[derive(Debug, Clone, PartialEq, Hash, Serialize, Deserialize)]
pub struct Renewal {
    pub fence: Fence,
    pub token: LeaseToken,
    pub started: bool,
    /// Nothing of the attempt runs any more, because its task ended otherwise: it holds on to nothing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stopped: bool,
    /// What an attempt that is gone took.
    #[serde(default, skip_serializing_if = "is_default")]
    pub used: Used,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub news: Option<Box<AttemptNews>>,
}

impl Renewal {
    /// One without news.
    pub fn new(fence: Fence, token: LeaseToken, started: bool) -> Self {
        Self { fence, token, started, stopped: false, used: Used::default(), news: None }
    }
}

/// What a home says of a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RenewAnswer {
    Renewed {
        ttl_ms: u64,
    },
    /// The presented (epoch, token) is not the recorded one: stop what runs for it.
    Fenced {
        current: Epoch,
    },
    /// The task ended otherwise: stop and drop.
    Terminal {
        state: TaskState,
    },
    Unknown,
}

/// A worker reports how an attempt ended. It implies that the attempt started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    pub fence: Fence,
    pub token: LeaseToken,
    pub outcome: Outcome,
    /// What a failed attempt left last, if its home may not know it yet. It is no part of the outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<JsonText>,
}

impl Completion {
    /// Two sendings of one outcome have one digest.
    pub fn digest(&self) -> OutcomeDigest {
        outcome_digest(&self.outcome)
    }
}

/// sha256 of an outcome's MessagePack bytes, without what it took: that a home of an earlier version did not write.
pub fn outcome_digest(outcome: &Outcome) -> OutcomeDigest {
    #[derive(Serialize)]
    struct Said<'a> {
        result: &'a AttemptResult,
        #[serde(skip_serializing_if = "str::is_empty")]
        log_tail: &'a str,
        ran_ms: u64,
    }
    let Outcome { result, log_tail, ran_ms, used: _ } = outcome;
    let said = Said { result, log_tail, ran_ms: *ran_ms };
    let bytes = rmp_serde::to_vec_named(&said).expect("an outcome has only string keys and plain values");
    OutcomeDigest(Sha256::digest(bytes).into())
}

/// What a home says of a completion. Every variant is final: the worker forgets the outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompleteAnswer {
    /// The outcome is the task's one result.
    Committed,
    /// A failure that leads to another attempt (or to the dead-letter queue) was recorded.
    Recorded {
        state: TaskState,
    },
    /// This epoch already has another outcome.
    Conflict,
    Terminal {
        state: TaskState,
    },
    Fenced {
        current: Epoch,
    },
    Unknown,
}

/// A worker gives an unstarted lease back.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Release {
    pub fence: Fence,
    pub token: LeaseToken,
    pub reason: ReleaseReason,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseReason {
    /// The home asked for it back.
    Recalled,
    /// The worker takes no more work.
    Drained,
    /// The grant names a credit that this incarnation did not send, or came after the credit's end.
    StaleCredit,
    /// The worker holds all it can.
    NoSlot,
    /// This worker cannot run the task, in words.
    Unable { why: String },
}

impl ReleaseReason {
    /// Whether it counts towards [`crate::limits::FALSE_STARTS_MAX`].
    pub fn is_false_start(&self) -> bool {
        matches!(self, Self::StaleCredit | Self::NoSlot | Self::Unable { .. })
    }
}
