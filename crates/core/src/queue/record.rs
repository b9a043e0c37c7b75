//! What a home writes down. Each record carries the time, tokens and epochs that the home decided, so that applying
//! it asks for nothing and a replay ends in the same state.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::contexts::ContextRecord;
use super::handover::HandoverRecord;
use super::images::{Carried, Totals};
use super::protocol::TaskCounts;
use super::schedule_record::ScheduleRecord;
use crate::clock::Position;
use crate::dag::WorkflowSpec;
use crate::ids::{Epoch, Generation, LeaseToken, LogIndex, OperationId, PeerId, TaskId, WorkflowId};
use crate::lease::{Fence, ReleaseReason};
use crate::limiter::{LimitKind, LoanFacts, RateMark};
use crate::payload::JsonText;
use crate::task::{Outcome, Priority, TaskError, TaskSpec, Used};
use crate::time::Wall;

/// One entry of a ledger's log. New variants and optional fields may be added; none may change its meaning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// The home started: `generation` is above every earlier one and durable before anything rests on it.
    Opened {
        at: Wall,
        generation: Generation,
    },
    /// Task ids follow from `at`, `operation` and the place in the batch.
    Submitted {
        at: Wall,
        operation: OperationId,
        owner: Arc<str>,
        clock_root: ClockRoot,
        items: Vec<SubmitItem>,
        /// Places in the request of what is not among them: refused, or known by its key.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        others: Vec<u32>,
    },
    WorkflowSubmitted {
        at: Wall,
        operation: OperationId,
        owner: Arc<str>,
        clock_root: ClockRoot,
        spec: Arc<WorkflowSpec>,
    },
    /// A step's references were resolved: its tasks `from ..` of `total` exist and are ready.
    StepBound {
        at: Wall,
        workflow: WorkflowId,
        step: u32,
        from: u32,
        total: u32,
        tasks: Vec<Arc<TaskSpec>>,
        /// Places in `tasks` of items whose condition does not hold, in order.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        skipped: Vec<u32>,
    },
    /// A step's condition does not hold.
    StepSkipped {
        at: Wall,
        workflow: WorkflowId,
        step: u32,
    },
    /// A step's references do not resolve: it fails, in words.
    StepUnbound {
        at: Wall,
        workflow: WorkflowId,
        step: u32,
        error: TaskError,
    },
    /// A step that succeeded begins to be undone.
    CompensationBound {
        at: Wall,
        workflow: WorkflowId,
        step: u32,
        task: Arc<TaskSpec>,
    },
    /// What would undo a step cannot be made: that is shown, the others still run.
    CompensationUnbound {
        at: Wall,
        workflow: WorkflowId,
        step: u32,
        error: TaskError,
    },
    /// These steps of a workflow that is over run again, as new tasks.
    WorkflowRetried {
        at: Wall,
        operation: OperationId,
        workflow: WorkflowId,
        steps: Vec<u32>,
    },
    Granted {
        at: Wall,
        grants: Vec<GrantRecord>,
    },
    /// Workers said that these attempts run.
    Started {
        at: Wall,
        fences: Vec<Fence>,
    },
    /// The attempt that was granted last runs at a worker that is no node.
    TakenOutside {
        at: Wall,
        fence: Fence,
        worker: Arc<str>,
    },
    Completed {
        at: Wall,
        results: Vec<CompletionRecord>,
    },
    Released {
        at: Wall,
        releases: Vec<ReleaseRecord>,
    },
    Expired {
        at: Wall,
        fences: Vec<Fence>,
    },
    /// An expired epoch came back before a later grant.
    Revived {
        at: Wall,
        fences: Vec<Fence>,
    },
    /// What running attempts leave for the next one.
    Checkpointed {
        at: Wall,
        checkpoints: Vec<CheckpointRecord>,
    },
    /// Nothing runs any more of these attempts, whose tasks had ended otherwise.
    AttemptsStopped {
        at: Wall,
        fences: Vec<Fence>,
        /// What those of them took that were measured.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        used: Vec<(TaskId, Used)>,
    },
    /// Expiries that spent the last attempt, waited for in vain.
    Buried {
        at: Wall,
        tasks: Vec<TaskId>,
    },
    DeadlinePassed {
        at: Wall,
        tasks: Vec<TaskId>,
    },
    Cancelled {
        at: Wall,
        operation: OperationId,
        target: TaskId,
        reason: String,
    },
    PrioritySet {
        at: Wall,
        operation: OperationId,
        task: TaskId,
        priority: Priority,
    },
    /// Nothing of a namespace, or of the whole queue, is granted any more.
    QueuePaused {
        at: Wall,
        operation: OperationId,
        namespace: Option<String>,
        reason: String,
    },
    QueueResumed {
        at: Wall,
        operation: OperationId,
        namespace: Option<String>,
    },
    /// What stood unstarted in the queue when its log ended at `up_to` is cancelled.
    QueueCleared {
        at: Wall,
        operation: OperationId,
        namespace: Option<String>,
        up_to: LogIndex,
        tasks: Vec<TaskId>,
        workflows: Vec<WorkflowId>,
        /// Those that more than one record can hold: they wait for the next call.
        left: u64,
        /// How many `memory` tasks and workflows went with them, which no record names: the answer counts them too.
        #[serde(default, skip_serializing_if = "crate::task::is_default")]
        unwritten: Unwritten,
    },
    /// Idempotency keys that expired before this are free again.
    KeysForgotten {
        at: Wall,
        before: Wall,
    },
    /// Ended tasks and workflows are not kept any more. It says all that must stay of them, so it applies as well where
    /// they are not.
    Pruned {
        at: Wall,
        /// Of a purge.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        operation: Option<OperationId>,
        tasks: Vec<TaskId>,
        workflows: Vec<WorkflowId>,
        /// Their ends.
        counts: TaskCounts,
    },
    /// Ended tasks run again, as new ones.
    Retried {
        at: Wall,
        operation: OperationId,
        clock_root: ClockRoot,
        tasks: Vec<RetriedTask>,
    },
    WorkflowEnded {
        at: Wall,
        workflow: WorkflowId,
        outputs: Result<crate::payload::JsonText, TaskError>,
    },
    /// What stands in records that are about to go, as it is now.
    Carried {
        at: Wall,
        carried: Carried,
    },
    /// A replay needs nothing from before `before`: what stood there was carried forward, and here are the sums.
    Checkpoint {
        at: Wall,
        before: LogIndex,
        totals: Box<Totals>,
    },
    /// Somebody holds a head of this ledger that this log has not written: the home stands still.
    Suspended {
        at: Wall,
        position: Position,
    },
    /// An operator decided that this copy of the ledger goes on: with the next start.
    Claimed {
        at: Wall,
        operation: OperationId,
    },
    /// The ledger moves to another home.
    Handover(HandoverRecord),
    /// Permits of a limit of this home that others have now: each home's newest count replaces its earlier one.
    PermitsLent {
        at: Wall,
        kind: LimitKind,
        name: String,
        loans: Vec<LoanFacts>,
        /// Of a rate key: its mark, with what was lent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rate_mark: Option<RateMark>,
    },
    Schedule(ScheduleRecord),
    Context(ContextRecord),
    /// So many bytes of blobs count as its owner's.
    BytesPut {
        at: Wall,
        owner: Arc<str>,
        bytes: u64,
    },
    /// The workflows of these tasks start; each one's id follows from `at`, the task and its attempts so far.
    ChildrenStarted {
        at: Wall,
        tasks: Vec<TaskId>,
    },
    /// What is counted without a record of its own. Of `memory` tasks: how many this generation has seen so far, so that
    /// the next one counts the missing as lost.
    MemoryTally {
        at: Wall,
        submitted: u64,
        terminal: u64,
        /// Messages whose fence was not the recorded one, since the ledger was made.
        #[serde(default, skip_serializing_if = "crate::task::is_default")]
        fenced_total: u64,
    },
}

/// The home's Merkle-clock root when the batch was submitted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockRoot(#[serde(with = "root_bytes")] pub [u8; 32]);

/// 32 bytes as every id of this length: text for people, bytes for machines.
pub mod root_bytes {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(root: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(root)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let content = crate::ids::ContentId::deserialize(deserializer)?;
        Ok(content.0)
    }
}

/// What a clear took and did not write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unwritten {
    pub tasks: u64,
    pub workflows: u64,
}

/// `count` tasks of one specification.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SubmitItem {
    pub spec: Arc<TaskSpec>,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: u32,
}

impl SubmitItem {
    pub fn one(spec: TaskSpec) -> Self {
        Self { spec: Arc::new(spec), count: 1 }
    }
}

fn one() -> u32 {
    1
}

fn is_one(count: &u32) -> bool {
    *count == 1
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantRecord {
    pub task: TaskId,
    pub epoch: Epoch,
    pub token: LeaseToken,
    pub worker: PeerId,
    /// Of a task with a rate key: the rate's mark after this grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_mark: Option<RateMark>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompletionRecord {
    pub fence: Fence,
    pub worker: PeerId,
    pub outcome: Outcome,
    pub next: AfterAttempt,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<JsonText>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointRecord {
    pub fence: Fence,
    pub checkpoint: JsonText,
}

/// What follows an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterAttempt {
    Succeeded,
    Failed,
    /// Another attempt at `due`, `delay_ms` from the failure.
    Retry {
        due: Wall,
        delay_ms: u64,
    },
    Dead,
}

/// An ended task and the new one that takes its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetriedTask {
    pub of: TaskId,
    pub id: TaskId,
    pub owner: Arc<str>,
    pub spec: Arc<TaskSpec>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRecord {
    pub fence: Fence,
    pub reason: ReleaseReason,
    /// What the grant, which never started, gives back to the rate of its task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_back_us: Option<u64>,
}

impl Record {
    /// The name of the variant, for the chain of events.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Opened { .. } => "opened",
            Self::Submitted { .. } => "submitted",
            Self::WorkflowSubmitted { .. } => "workflow_submitted",
            Self::StepBound { .. } => "step_bound",
            Self::StepSkipped { .. } => "step_skipped",
            Self::StepUnbound { .. } => "step_unbound",
            Self::CompensationBound { .. } => "compensation_bound",
            Self::CompensationUnbound { .. } => "compensation_unbound",
            Self::WorkflowRetried { .. } => "workflow_retried",
            Self::Granted { .. } => "granted",
            Self::Started { .. } => "started",
            Self::TakenOutside { .. } => "taken_outside",
            Self::Completed { .. } => "completed",
            Self::Released { .. } => "released",
            Self::Expired { .. } => "expired",
            Self::Revived { .. } => "revived",
            Self::Checkpointed { .. } => "checkpointed",
            Self::AttemptsStopped { .. } => "attempts_stopped",
            Self::Buried { .. } => "buried",
            Self::DeadlinePassed { .. } => "deadline_passed",
            Self::Cancelled { .. } => "cancelled",
            Self::PrioritySet { .. } => "priority_set",
            Self::QueuePaused { .. } => "queue_paused",
            Self::QueueResumed { .. } => "queue_resumed",
            Self::QueueCleared { .. } => "queue_cleared",
            Self::KeysForgotten { .. } => "keys_forgotten",
            Self::Pruned { .. } => "pruned",
            Self::Retried { .. } => "retried",
            Self::WorkflowEnded { .. } => "workflow_ended",
            Self::Carried { .. } => "carried",
            Self::Checkpoint { .. } => "checkpoint",
            Self::Suspended { .. } => "suspended",
            Self::Claimed { .. } => "claimed",
            Self::Handover(record) => record.kind(),
            Self::PermitsLent { .. } => "permits_lent",
            Self::Schedule(record) => record.kind(),
            Self::Context(record) => record.kind(),
            Self::BytesPut { .. } => "bytes_put",
            Self::ChildrenStarted { .. } => "children_started",
            Self::MemoryTally { .. } => "memory_tally",
        }
    }

    /// When the home decided it: never before an earlier record's.
    pub fn at(&self) -> Wall {
        match self {
            Self::Opened { at, .. }
            | Self::Submitted { at, .. }
            | Self::WorkflowSubmitted { at, .. }
            | Self::StepBound { at, .. }
            | Self::StepSkipped { at, .. }
            | Self::StepUnbound { at, .. }
            | Self::CompensationBound { at, .. }
            | Self::CompensationUnbound { at, .. }
            | Self::WorkflowRetried { at, .. }
            | Self::Granted { at, .. }
            | Self::Started { at, .. }
            | Self::TakenOutside { at, .. }
            | Self::Completed { at, .. }
            | Self::Released { at, .. }
            | Self::Expired { at, .. }
            | Self::Revived { at, .. }
            | Self::Checkpointed { at, .. }
            | Self::AttemptsStopped { at, .. }
            | Self::Buried { at, .. }
            | Self::DeadlinePassed { at, .. }
            | Self::Cancelled { at, .. }
            | Self::PrioritySet { at, .. }
            | Self::QueuePaused { at, .. }
            | Self::QueueResumed { at, .. }
            | Self::QueueCleared { at, .. }
            | Self::KeysForgotten { at, .. }
            | Self::Pruned { at, .. }
            | Self::Retried { at, .. }
            | Self::WorkflowEnded { at, .. }
            | Self::Carried { at, .. }
            | Self::Checkpoint { at, .. }
            | Self::BytesPut { at, .. }
            | Self::Suspended { at, .. }
            | Self::Claimed { at, .. }
            | Self::PermitsLent { at, .. }
            | Self::ChildrenStarted { at, .. }
            | Self::MemoryTally { at, .. } => *at,
            Self::Schedule(record) => record.at(),
            Self::Context(record) => record.at(),
            Self::Handover(record) => record.at(),
        }
    }
}
