//! One workflow in its home's memory: which steps wait, which run, which ended how.

use std::sync::Arc;

use super::protocol::{TaskCounts, WorkflowState};
use super::record::ClockRoot;
use crate::dag::{Graph, WorkflowSpec};
use crate::ids::{LogIndex, OperationId, ScheduleId, TaskId, WorkflowId};
use crate::payload::JsonText;
use crate::task::{TaskError, TaskState};
use crate::time::Wall;

#[derive(Debug, Clone)]
pub(super) struct WorkflowRun {
    pub id: WorkflowId,
    pub spec: Arc<WorkflowSpec>,
    pub graph: Graph,
    pub owner: Arc<str>,
    pub clock_root: ClockRoot,
    /// The task that it is the attempt of, or that submitted it.
    pub parent: Option<TaskId>,
    /// What started it.
    pub schedule: Option<ScheduleId>,
    pub created: Wall,
    pub finished: Option<Wall>,
    pub state: WorkflowState,
    pub steps: Vec<StepRun>,
    pub outputs: Option<JsonText>,
    pub error: Option<TaskError>,
    pub index: LogIndex,
}

#[derive(Debug, Clone)]
pub(super) struct StepRun {
    pub phase: StepPhase,
    /// Item `n` of the step is `tasks[n]`.
    pub tasks: Vec<TaskId>,
    /// Known once bound.
    pub total: u32,
    pub counts: TaskCounts,
    pub error: Option<TaskError>,
}

/// A step before, while and after it has tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StepPhase {
    /// Needs steps that are not over.
    Blocked,
    /// All it needs succeeded: its references are being resolved.
    Binding,
    /// Has tasks.
    Active,
    /// Over, in this state.
    Ended(TaskState),
}

impl WorkflowRun {
    pub fn new(id: WorkflowId, spec: Arc<WorkflowSpec>, owner: Arc<str>, clock_root: ClockRoot, created: Wall) -> Self {
        let step = StepRun {
            phase: StepPhase::Blocked,
            tasks: Vec::new(),
            total: 0,
            counts: TaskCounts::default(),
            error: None,
        };
        let mut run = Self {
            id,
            graph: Graph::of(&spec).expect("the graph was checked when the workflow was submitted"),
            steps: vec![step; spec.steps.len()],
            spec,
            owner,
            clock_root,
            parent: None,
            schedule: None,
            created,
            finished: None,
            state: WorkflowState::Running,
            outputs: None,
            error: None,
            index: LogIndex::default(),
        };
        run.unblock();
        run
    }

    /// Moves every step whose needs all succeeded from `Blocked` to `Binding`.
    pub fn unblock(&mut self) {
        for index in 0..self.steps.len() {
            let needs_met = || {
                let mut needs = self.graph.needs(index).iter();
                #[cfg(feature = "canary")]
                if crate::canary::has(crate::canary::Bug::EdgeLost) {
                    needs.next();
                }
                needs.all(|need| self.steps[*need].phase == StepPhase::Ended(TaskState::Succeeded))
            };
            if self.steps[index].phase == StepPhase::Blocked && needs_met() {
                self.steps[index].phase = StepPhase::Binding;
            }
        }
    }

    /// Whether every step is over.
    pub fn all_ended(&self) -> bool {
        self.steps.iter().all(|step| matches!(step.phase, StepPhase::Ended(_)))
    }

    /// Steps that wait to be bound, with the first item to bind.
    pub fn to_bind(&self) -> impl Iterator<Item = (u32, u32)> {
        self.steps.iter().enumerate().filter_map(|(index, step)| match step.phase {
            StepPhase::Binding => Some((index as u32, 0)),
            StepPhase::Active if step.wants_next_window() => Some((index as u32, step.tasks.len() as u32)),
            StepPhase::Active | StepPhase::Blocked | StepPhase::Ended(_) => None,
        })
    }

    pub fn step_index(&self, name: &str) -> Option<usize> {
        self.spec.steps.iter().position(|step| step.name == name)
    }

    pub fn counts(&self) -> TaskCounts {
        let mut sum = TaskCounts::default();
        for step in &self.steps {
            match step.phase {
                StepPhase::Blocked | StepPhase::Binding => sum.add(TaskState::Blocked, 1),
                StepPhase::Ended(TaskState::Skipped) if step.tasks.is_empty() => sum.add(TaskState::Skipped, 1),
                StepPhase::Active | StepPhase::Ended(_) => {
                    for state in TaskState::ALL {
                        sum.add(state, step.counts.of(state));
                    }
                }
            }
        }
        sum
    }

    /// The operation that a step's tasks get their ids from.
    pub fn step_operation(&self, step: u32) -> OperationId {
        let mut bytes = [0; 16];
        bytes[..12].copy_from_slice(&self.id.ulid.to_be_bytes()[4..]);
        bytes[12..].copy_from_slice(&step.to_be_bytes());
        OperationId(bytes)
    }
}

impl StepRun {
    /// Whether the next items of a large `for_each` should become tasks.
    pub fn wants_next_window(&self) -> bool {
        let live = self.tasks.len() as u64 - self.counts.terminal();
        (self.tasks.len() as u32) < self.total && live < crate::limits::FOR_EACH_WINDOW_LEN_MAX as u64 / 2
    }

    /// The step's end, once every item has one.
    pub fn end_state(&self) -> Option<TaskState> {
        if let Some(bad) = [TaskState::Dead, TaskState::Failed, TaskState::Cancelled]
            .into_iter()
            .find(|state| self.counts.of(*state) > 0)
        {
            return Some(bad);
        }
        (self.counts.terminal() == u64::from(self.total)).then_some(TaskState::Succeeded)
    }
}
