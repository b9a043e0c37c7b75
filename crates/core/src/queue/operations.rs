//! Answers of mutating messages, remembered so that a replay changes nothing.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::contexts::ContextRecord;
use super::record::Record;
use super::schedule_record::ScheduleRecord;
use crate::ids::{ContextId, LedgerTag, OperationId, ScheduleId, TaskId, WorkflowId};
use crate::limits;
use crate::time::Wall;

/// What an operation did, in as little as its answer can be made from again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Done {
    /// Ids follow from the time and the place in the batch, in which the `others` of the request have none.
    Submitted {
        at: Wall,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        others: Vec<u32>,
    },
    WorkflowSubmitted {
        at: Wall,
    },
    WorkflowRetried {
        workflow: WorkflowId,
        steps: u32,
    },
    Cancelled {
        target: TaskId,
    },
    PrioritySet {
        task: TaskId,
    },
    /// Each task names the one that took its place.
    Retried,
    /// Those it named are gone.
    Purged,
    /// Paused or resumed.
    QueueSet,
    Cleared {
        tasks: u64,
        workflows: u64,
        left: u64,
    },
    ScheduleChanged {
        schedule: ScheduleId,
    },
    ContextUpdated {
        context: ContextId,
    },
    Claimed,
}

/// One remembered operation, as a checkpoint carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DoneOperation {
    pub at: Wall,
    pub operation: OperationId,
    pub done: Done,
}

impl DoneOperation {
    /// The task or workflow that it was about, if it was about one.
    pub fn subject(&self, tag: LedgerTag) -> Option<TaskId> {
        match self.done {
            Done::Submitted { at, .. } | Done::WorkflowSubmitted { at } => {
                Some(TaskId::derive(tag, at.0, self.operation, 0))
            }
            Done::WorkflowRetried { workflow, .. } => Some(workflow),
            Done::Cancelled { target } => Some(target),
            Done::PrioritySet { task } => Some(task),
            Done::Retried
            | Done::Purged
            | Done::QueueSet
            | Done::Cleared { .. }
            | Done::ScheduleChanged { .. }
            | Done::ContextUpdated { .. }
            | Done::Claimed => None,
        }
    }
}

/// As much as the time between two operations counts: a wall clock that jumps ahead must not make a home forget what a
/// client is about to send again.
const GAP_MS_MAX: u64 = 60_000;

#[derive(Debug, Clone, Default)]
pub(super) struct Operations {
    done: HashMap<OperationId, Done>,
    /// With the age of this memory when each came, and with the log's time then.
    by_age: VecDeque<(u64, Wall, OperationId)>,
    age_ms: u64,
    last_at: Wall,
}

impl Operations {
    pub fn find(&self, operation: &OperationId) -> Option<Done> {
        #[cfg(feature = "canary")]
        if crate::canary::has(crate::canary::Bug::OperationForgotten) {
            return None;
        }
        self.done.get(operation).cloned()
    }

    pub fn len(&self) -> usize {
        self.by_age.len()
    }

    /// Keeps what `record` did, and forgets what is older than [`limits::OPERATION_TTL_MS`] or more than the bound.
    pub fn remember(&mut self, record: &Record) {
        let (at, operation, done) = match record {
            Record::Submitted { at, operation, others, .. } => {
                (*at, *operation, Done::Submitted { at: *at, others: others.clone() })
            }
            Record::WorkflowSubmitted { at, operation, .. } => (*at, *operation, Done::WorkflowSubmitted { at: *at }),
            Record::WorkflowRetried { at, operation, workflow, steps } => {
                (*at, *operation, Done::WorkflowRetried { workflow: *workflow, steps: steps.len() as u32 })
            }
            Record::Cancelled { at, operation, target, .. } => (*at, *operation, Done::Cancelled { target: *target }),
            Record::PrioritySet { at, operation, task, .. } => (*at, *operation, Done::PrioritySet { task: *task }),
            Record::Retried { at, operation, .. } => (*at, *operation, Done::Retried),
            Record::QueuePaused { at, operation, .. } | Record::QueueResumed { at, operation, .. } => {
                (*at, *operation, Done::QueueSet)
            }
            Record::QueueCleared { at, operation, tasks, workflows, left, unwritten, .. } => {
                let tasks = tasks.len() as u64 + unwritten.tasks;
                let workflows = workflows.len() as u64 + unwritten.workflows;
                (*at, *operation, Done::Cleared { tasks, workflows, left: *left })
            }
            Record::Claimed { at, operation } => (*at, *operation, Done::Claimed),
            Record::Pruned { at, operation: Some(operation), .. } => (*at, *operation, Done::Purged),
            // Their ids follow from the time as a workflow's do.
            Record::Schedule(
                ScheduleRecord::Made { at, operation, .. } | ScheduleRecord::RunAsked { at, operation, .. },
            ) => (*at, *operation, Done::WorkflowSubmitted { at: *at }),
            Record::Schedule(ScheduleRecord::Changed { at, operation, schedule, .. }) => {
                (*at, *operation, Done::ScheduleChanged { schedule: *schedule })
            }
            Record::Context(ContextRecord::Updated { at, operation, update }) => {
                (*at, *operation, Done::ContextUpdated { context: update.context })
            }
            Record::Pruned { operation: None, .. }
            | Record::KeysForgotten { .. }
            | Record::Context(ContextRecord::Forgotten { .. })
            | Record::Schedule(ScheduleRecord::Fired { .. } | ScheduleRecord::Missed { .. })
            | Record::ChildrenStarted { .. }
            | Record::Opened { .. }
            | Record::StepBound { .. }
            | Record::StepSkipped { .. }
            | Record::StepUnbound { .. }
            | Record::CompensationBound { .. }
            | Record::CompensationUnbound { .. }
            | Record::Granted { .. }
            | Record::TakenOutside { .. }
            | Record::Started { .. }
            | Record::Completed { .. }
            | Record::Released { .. }
            | Record::Expired { .. }
            | Record::Revived { .. }
            | Record::Buried { .. }
            | Record::DeadlinePassed { .. }
            | Record::WorkflowEnded { .. }
            | Record::Checkpointed { .. }
            | Record::AttemptsStopped { .. }
            | Record::Suspended { .. }
            | Record::Handover(_)
            | Record::PermitsLent { .. }
            | Record::MemoryTally { .. }
            | Record::BytesPut { .. }
            | Record::Carried { .. }
            | Record::Checkpoint { .. } => return,
        };
        self.keep(at, operation, done);
    }

    pub fn keep(&mut self, at: Wall, operation: OperationId, done: Done) {
        self.done.insert(operation, done);
        self.age_ms += at.0.saturating_sub(self.last_at.0).min(GAP_MS_MAX);
        self.last_at = at;
        self.by_age.push_back((self.age_ms, at, operation));
        let oldest_ms = self.age_ms.saturating_sub(limits::OPERATION_TTL_MS);
        let is_old = |(age_ms, ..): &(u64, Wall, OperationId)| *age_ms < oldest_ms;
        while self.by_age.len() > limits::OPERATIONS_MAX || self.by_age.front().is_some_and(is_old) {
            if let Some((.., operation)) = self.by_age.pop_front() {
                self.done.remove(&operation);
            }
        }
    }

    /// What was done before `until` and is remembered, the oldest first.
    pub fn before(&self, until: Wall) -> impl Iterator<Item = DoneOperation> {
        let old = self.by_age.iter().filter(move |(_, at, _)| *at < until);
        old.filter_map(|(_, at, operation)| {
            Some(DoneOperation { at: *at, operation: *operation, done: self.find(operation)? })
        })
    }

    /// Puts what a checkpoint remembers before all that came since: their ages follow from their times.
    pub fn restore(&mut self, older: &[DoneOperation]) {
        let newer: Vec<DoneOperation> = self.before(Wall(u64::MAX)).collect();
        *self = Self::default();
        older.iter().chain(&newer).for_each(|old| self.keep(old.at, old.operation, old.done.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cancelled(at_ms: u64, n: u8) -> Record {
        let target = TaskId { ulid: 0, ledger: crate::ids::LedgerTag([0; 5]) };
        Record::Cancelled { at: Wall(at_ms), operation: OperationId([n; 16]), target, reason: String::new() }
    }

    fn remembers(operations: &Operations, n: u8) -> bool {
        operations.find(&OperationId([n; 16])).is_some()
    }

    #[test]
    fn i15_a_clock_that_jumps_an_hour_ahead_forgets_no_operation() {
        let mut operations = Operations::default();
        operations.remember(&cancelled(1_000, 1));
        operations.remember(&cancelled(3_601_000, 2));
        operations.remember(&cancelled(3_602_000, 3));
        assert!(remembers(&operations, 1) && remembers(&operations, 2));
    }
}
