//! Answers of mutating messages, remembered so that a replay changes nothing.

use std::collections::{HashMap, VecDeque};

use super::record::Record;
use super::schedule_record::ScheduleRecord;
use crate::ids::{OperationId, ScheduleId, TaskId};
use crate::limits;
use crate::time::Wall;

/// What an operation did, in as little as its answer can be made from again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// Ids follow from the time and the place in the batch.
    Submitted {
        at: Wall,
    },
    WorkflowSubmitted {
        at: Wall,
    },
    Cancelled {
        target: TaskId,
    },
    PrioritySet {
        task: TaskId,
    },
    ScheduleChanged {
        schedule: ScheduleId,
    },
}

#[derive(Debug, Default)]
pub(super) struct Operations {
    done: HashMap<OperationId, Done>,
    by_age: VecDeque<(Wall, OperationId)>,
}

impl Operations {
    pub fn find(&self, operation: &OperationId) -> Option<Done> {
        self.done.get(operation).copied()
    }

    /// Keeps what `record` did, and forgets what is older than [`limits::OPERATION_TTL_MS`] or more than the bound.
    pub fn remember(&mut self, record: &Record) {
        let (at, operation, done) = match record {
            Record::Submitted { at, operation, .. } => (*at, *operation, Done::Submitted { at: *at }),
            Record::WorkflowSubmitted { at, operation, .. } => (*at, *operation, Done::WorkflowSubmitted { at: *at }),
            Record::Cancelled { at, operation, target, .. } => (*at, *operation, Done::Cancelled { target: *target }),
            Record::PrioritySet { at, operation, task, .. } => (*at, *operation, Done::PrioritySet { task: *task }),
            // Their ids follow from the time as a workflow's do.
            Record::Schedule(
                ScheduleRecord::Made { at, operation, .. } | ScheduleRecord::RunAsked { at, operation, .. },
            ) => (*at, *operation, Done::WorkflowSubmitted { at: *at }),
            Record::Schedule(ScheduleRecord::Changed { at, operation, schedule, .. }) => {
                (*at, *operation, Done::ScheduleChanged { schedule: *schedule })
            }
            Record::Schedule(ScheduleRecord::Fired { .. } | ScheduleRecord::Missed { .. })
            | Record::ChildrenStarted { .. }
            | Record::Opened { .. }
            | Record::StepBound { .. }
            | Record::StepUnbound { .. }
            | Record::Granted { .. }
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
            | Record::MemoryTally { .. } => return,
        };
        self.done.insert(operation, done);
        self.by_age.push_back((at, operation));
        let oldest = Wall(at.0.saturating_sub(limits::OPERATION_TTL_MS));
        while self.by_age.len() > limits::OPERATIONS_MAX || self.by_age.front().is_some_and(|(at, _)| *at < oldest) {
            if let Some((_, operation)) = self.by_age.pop_front() {
                self.done.remove(&operation);
            }
        }
    }
}
