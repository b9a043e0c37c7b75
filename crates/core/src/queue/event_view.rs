//! What a record says to those who follow a ledger: of what it is about, in bounds, and no lease token.

use serde::{Deserialize, Serialize};

use super::record::{AfterAttempt, CompletionRecord, Record};
use super::schedule_record::ScheduleRecord;
use crate::ids::{ContentId, Epoch, LedgerTag, LogIndex, OperationId, PeerId, TaskId};
use crate::lease::{Fence, ReleaseReason};
use crate::limits;
use crate::time::Wall;
use crate::wire;

/// One event of a home's chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// Its number in the ledger's stream of events.
    pub seq: LogIndex,
    pub event: ContentId,
    pub at: Wall,
    pub kind: String,
    /// At most [`limits::EVENT_SUBJECTS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<Subject>,
    /// How many more it is about.
    #[serde(default, skip_serializing_if = "crate::task::is_default")]
    pub left_out: u64,
}

/// A task, workflow or schedule that an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    pub id: TaskId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<PeerId>,
    /// What became of it, or why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<String>,
}

impl From<TaskId> for Subject {
    fn from(id: TaskId) -> Self {
        Self { id, epoch: None, worker: None, says: None }
    }
}

impl From<Fence> for Subject {
    fn from(fence: Fence) -> Self {
        Self { epoch: Some(fence.epoch), ..fence.task.into() }
    }
}

impl Subject {
    fn saying(self, says: impl Into<String>) -> Self {
        let mut says = says.into();
        says.truncate(says.floor_char_boundary(limits::EVENT_SAYS_BYTES_MAX));
        Self { says: Some(says), ..self }
    }
}

impl EventView {
    /// Reads a stored record of the ledger with this tag.
    ///
    /// # Errors
    /// In words, if the record does not decode.
    pub fn of(tag: LedgerTag, seq: LogIndex, body: &[u8], event: ContentId) -> Result<Self, String> {
        let record: Record = wire::decode_record(body).map_err(|error| format!("record {seq}: {error}"))?;
        let Subjects { shown, left_out } = subjects(tag, &record);
        Ok(Self { seq, event, at: record.at(), kind: record.kind().to_owned(), subjects: shown, left_out })
    }

    /// Bytes in a message, more or less.
    pub fn bytes(&self) -> usize {
        const EVENT_BYTES: usize = 128;
        const SUBJECT_BYTES: usize = 128;
        let said = |subject: &Subject| SUBJECT_BYTES + subject.says.as_ref().map_or(0, String::len);
        EVENT_BYTES + self.subjects.iter().map(said).sum::<usize>()
    }
}

/// The first of many, and how many follow.
#[derive(Default)]
struct Subjects {
    shown: Vec<Subject>,
    left_out: u64,
}

impl Subjects {
    fn of<S: Into<Subject>>(all: impl ExactSizeIterator<Item = S>) -> Self {
        let left_out = all.len().saturating_sub(limits::EVENT_SUBJECTS_MAX) as u64;
        Self { shown: all.take(limits::EVENT_SUBJECTS_MAX).map(Into::into).collect(), left_out }
    }

    fn one(subject: impl Into<Subject>) -> Self {
        Self { shown: vec![subject.into()], left_out: 0 }
    }

    fn ids(ids: &[TaskId]) -> Self {
        Self::of(ids.iter().copied())
    }

    fn fences(fences: &[Fence]) -> Self {
        Self::of(fences.iter().copied())
    }
}

fn subjects(tag: LedgerTag, record: &Record) -> Subjects {
    match record {
        Record::Submitted { at, operation, items, .. } => {
            let count: u64 = items.iter().map(|item| u64::from(item.count)).sum();
            made(tag, *at, *operation, count)
        }
        Record::WorkflowSubmitted { at, operation, .. } => made(tag, *at, *operation, 1),
        Record::Schedule(record) => schedule(tag, record),
        Record::StepBound { workflow, step, from, total, tasks, .. } => {
            let to = *from as usize + tasks.len();
            Subjects::one(Subject::from(*workflow).saying(format!("step {step}: tasks {from} to {to} of {total}")))
        }
        Record::StepSkipped { workflow, step, .. } | Record::CompensationBound { workflow, step, .. } => {
            Subjects::one(Subject::from(*workflow).saying(format!("step {step}")))
        }
        Record::StepUnbound { workflow, step, error, .. }
        | Record::CompensationUnbound { workflow, step, error, .. } => {
            Subjects::one(Subject::from(*workflow).saying(format!("step {step}: {error}")))
        }
        Record::WorkflowRetried { workflow, steps, .. } => {
            Subjects::one(Subject::from(*workflow).saying(format!("{} steps again", steps.len())))
        }
        Record::WorkflowEnded { workflow, outputs, .. } => {
            let says = outputs.as_ref().map_or_else(|error| format!("failed: {error}"), |_| "succeeded".to_owned());
            Subjects::one(Subject::from(*workflow).saying(says))
        }
        Record::Granted { grants, .. } => Subjects::of(grants.iter().map(|grant| {
            let fence = Fence { task: grant.task, epoch: grant.epoch };
            Subject { worker: Some(grant.worker), ..fence.into() }
        })),
        Record::TakenOutside { fence, worker, .. } => {
            Subjects::one(Subject::from(*fence).saying(format!("taken by {worker}")))
        }
        Record::Completed { results, .. } => Subjects::of(results.iter().map(completed)),
        Record::Released { releases, .. } => {
            Subjects::of(releases.iter().map(|release| Subject::from(release.fence).saying(released(&release.reason))))
        }
        Record::Checkpointed { checkpoints, .. } => Subjects::of(checkpoints.iter().map(|checkpoint| checkpoint.fence)),
        Record::Started { fences, .. }
        | Record::Expired { fences, .. }
        | Record::Revived { fences, .. }
        | Record::AttemptsStopped { fences, .. } => Subjects::fences(fences),
        Record::Buried { tasks, .. } | Record::DeadlinePassed { tasks, .. } | Record::ChildrenStarted { tasks, .. } => {
            Subjects::ids(tasks)
        }
        Record::Retried { tasks, .. } => {
            Subjects::of(tasks.iter().map(|task| Subject::from(task.id).saying(format!("in place of {}", task.of))))
        }
        Record::Cancelled { target, reason, .. } => Subjects::one(Subject::from(*target).saying(reason.as_str())),
        Record::PrioritySet { task, priority, .. } => {
            Subjects::one(Subject::from(*task).saying(format!("priority {}", priority.get())))
        }
        Record::QueueCleared { tasks, workflows, .. } | Record::Pruned { tasks, workflows, .. } => {
            Subjects::ids(&[workflows.as_slice(), tasks.as_slice()].concat())
        }
        Record::Opened { .. }
        | Record::QueuePaused { .. }
        | Record::QueueResumed { .. }
        | Record::KeysForgotten { .. }
        | Record::Context(_)
        | Record::BytesPut { .. }
        | Record::Carried { .. }
        | Record::Checkpoint { .. }
        | Record::Suspended { .. }
        | Record::Claimed { .. }
        | Record::Handover(_)
        | Record::PermitsLent { .. }
        | Record::MemoryTally { .. } => Subjects::default(),
    }
}

/// Ids that follow from the operation which made them.
fn made(tag: LedgerTag, at: Wall, operation: OperationId, count: u64) -> Subjects {
    let shown = count.min(limits::EVENT_SUBJECTS_MAX as u64);
    let ids = (0..shown as u32).map(|n| TaskId::derive(tag, at.0, operation, n).into());
    Subjects { shown: ids.collect(), left_out: count - shown }
}

fn completed(result: &CompletionRecord) -> Subject {
    let says = match result.next {
        AfterAttempt::Succeeded => "succeeded",
        AfterAttempt::Failed => "failed",
        AfterAttempt::Retry { .. } => "failed, to be tried again",
        AfterAttempt::Dead => "dead",
    };
    Subject { worker: Some(result.worker), ..Subject::from(result.fence).saying(says) }
}

fn released(reason: &ReleaseReason) -> String {
    match reason {
        ReleaseReason::Recalled => "recalled".to_owned(),
        ReleaseReason::Drained => "its worker drains".to_owned(),
        ReleaseReason::StaleCredit => "it came too late".to_owned(),
        ReleaseReason::NoSlot => "its worker had no slot".to_owned(),
        ReleaseReason::Unable { why } => why.clone(),
    }
}

fn schedule(tag: LedgerTag, record: &ScheduleRecord) -> Subjects {
    match record {
        ScheduleRecord::Made { at, operation, .. } => made(tag, *at, *operation, 1),
        ScheduleRecord::Fired { schedule, fire, outcome, .. } => {
            Subjects::one(Subject::from(*schedule).saying(format!("{fire}: {outcome:?}").to_lowercase()))
        }
        ScheduleRecord::Missed { schedule, times, .. } => {
            Subjects::one(Subject::from(*schedule).saying(format!("{times} times")))
        }
        ScheduleRecord::Changed { schedule, change, .. } => {
            Subjects::one(Subject::from(*schedule).saying(format!("{change:?}").to_lowercase()))
        }
        ScheduleRecord::RunAsked { schedule, .. } => Subjects::one(*schedule),
    }
}
