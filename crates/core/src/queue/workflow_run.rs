//! One workflow in its home's memory: which steps wait, which run, which ended how, and what follows from an end.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::effects::BindingPart;
use super::protocol::{TaskCounts, WorkflowState};
use super::record::ClockRoot;
use super::task_entry::{StepLink, StepPart};
use crate::dag::{Graph, JoinVerdict, OnFail, WorkflowSpec};
use crate::ids::{LogIndex, OperationId, ScheduleId, TaskId, WorkflowId};
use crate::invariant::{InvariantId, check};
use crate::limits;
use crate::payload::JsonText;
use crate::task::{TaskError, TaskState, is_default};
use crate::time::Wall;

/// Serialised it is the image that compaction carries forward: a field that is added needs a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct WorkflowRun {
    pub id: WorkflowId,
    pub spec: Arc<WorkflowSpec>,
    /// Drawn from `spec`.
    #[serde(skip)]
    pub graph: Graph,
    pub owner: Arc<str>,
    pub clock_root: ClockRoot,
    /// The task that it is the attempt of, or that submitted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<TaskId>,
    /// What started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleId>,
    pub created: Wall,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Wall>,
    pub state: WorkflowState,
    pub stage: Stage,
    /// How often it was retried.
    #[serde(default, skip_serializing_if = "is_default")]
    pub retries: u32,
    /// Tasks of earlier runs that no step names any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<TaskId>,
    /// Ends of steps in earlier runs that had no task.
    #[serde(default, skip_serializing_if = "is_default")]
    pub former_ends: TaskCounts,
    pub steps: Vec<StepRun>,
    /// Steps that are not over.
    pub open_steps: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<JsonText>,
    /// Why it failed, or why it is going to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TaskError>,
    pub index: LogIndex,
    /// Where the log ended when it was accepted.
    pub accepted: LogIndex,
    /// The image that was carried forward last, else its submission.
    #[serde(skip)]
    pub base: LogIndex,
}

/// What a workflow is busy with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    Steps,
    /// Undoing these steps, the last one first.
    Compensating(Vec<u32>),
    Over,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct StepRun {
    pub phase: StepPhase,
    /// Item `n` of the step is `tasks[n]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskId>,
    /// Its tasks before the newest retry, until it has new ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<TaskId>,
    /// Known once bound.
    #[serde(skip_serializing_if = "is_default")]
    pub total: u32,
    #[serde(skip_serializing_if = "is_default")]
    pub counts: TaskCounts,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<TaskError>,
    /// Of a step that is skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<SkipReason>,
    /// Needed steps that are not over, and those that ended well.
    #[serde(skip_serializing_if = "is_default")]
    pub open_needs: u32,
    #[serde(skip_serializing_if = "is_default")]
    pub met_needs: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub began: Option<Wall>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Wall>,
    /// What undoes it, once that is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compensation: Option<Box<Compensation>>,
}

/// A step before, while and after it has tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StepPhase {
    /// Needs steps that are not over.
    #[default]
    Blocked,
    /// Its join is met: its condition is being decided and its references resolved.
    Binding,
    /// Has tasks.
    Active,
    /// Over, in this state.
    Ended(TaskState),
}

/// Why a step did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SkipReason {
    Condition,
    Join,
    WorkflowEnded,
}

/// The task that undoes a step. Without a task and without an error it has not begun.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Compensation {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<TaskError>,
}

/// What the end of a step leads to within its workflow.
#[derive(Debug, Default)]
pub(super) struct Followed {
    /// Steps whose join is met by it.
    pub to_bind: Vec<u32>,
    /// How many steps are skipped by it.
    pub skipped: u64,
}

impl WorkflowRun {
    pub fn new(id: WorkflowId, spec: Arc<WorkflowSpec>, owner: Arc<str>, clock_root: ClockRoot, created: Wall) -> Self {
        let graph = Graph::of(&spec).expect("the graph was checked when the workflow was submitted");
        let needs = |step| StepRun { open_needs: graph.needs(step).len() as u32, ..StepRun::default() };
        Self {
            id,
            steps: (0..spec.steps.len()).map(needs).collect(),
            open_steps: spec.steps.len(),
            graph,
            spec,
            owner,
            clock_root,
            parent: None,
            schedule: None,
            created,
            finished: None,
            state: WorkflowState::Running,
            stage: Stage::Steps,
            retries: 0,
            former: Vec::new(),
            former_ends: TaskCounts::default(),
            outputs: None,
            error: None,
            index: LogIndex::default(),
            accepted: LogIndex::default(),
            base: LogIndex::default(),
        }
    }

    /// Lets every blocked step whose join is decided start, or end as skipped.
    pub fn unblock_all(&mut self, at: Wall) -> Followed {
        let mut followed = Followed::default();
        for step in 0..self.steps.len() {
            if self.steps[step].phase == StepPhase::Blocked {
                self.unblock(step, at, &mut followed);
            }
        }
        followed
    }

    /// Ends a step that is not over. Each step that needs it hears of it once; what that decides is drawn to its end.
    pub fn end_step(&mut self, step: usize, state: TaskState, at: Wall) -> Followed {
        let mut followed = Followed::default();
        self.end_and_follow(step, state, at, &mut followed);
        followed
    }

    fn end_and_follow(&mut self, step: usize, state: TaskState, at: Wall, followed: &mut Followed) {
        let mut ended = vec![(step, state)];
        while let Some((step, state)) = ended.pop() {
            self.steps[step].end(state, at);
            self.open_steps -= 1;
            let met = u32::from(self.counts_as_met(step));
            for place in 0..self.graph.dependents(step).len() {
                let dependent = self.graph.dependents(step)[place];
                let entry = &mut self.steps[dependent];
                check(InvariantId::I8, entry.open_needs > 0, "a step heard twice of what it needs");
                entry.open_needs = entry.open_needs.saturating_sub(1);
                entry.met_needs += met;
                if entry.phase == StepPhase::Blocked && self.start_or_give_up(dependent, followed) {
                    ended.push((dependent, TaskState::Skipped));
                }
            }
        }
    }

    /// Steps that are over without a task, in this run or an earlier one: each stands for one in its state.
    pub fn placeholders(&self) -> TaskCounts {
        let mut counts = self.former_ends;
        self.steps.iter().filter_map(StepRun::placeholder).for_each(|state| counts.add(state, 1));
        counts
    }

    /// Steps that stand for one blocked task each.
    pub fn unbound(&self) -> u64 {
        let unbound = |step: &&StepRun| matches!(step.phase, StepPhase::Blocked | StepPhase::Binding);
        self.steps.iter().filter(unbound).count() as u64
    }

    /// All tasks that were made for it, in whatever run.
    pub fn all_tasks(&self) -> impl Iterator<Item = TaskId> {
        let undoing = |step: &StepRun| step.compensation.as_ref().and_then(|undo| undo.task);
        let of_steps = self
            .steps
            .iter()
            .flat_map(move |step| step.tasks.iter().chain(&step.earlier).copied().chain(undoing(step)));
        of_steps.chain(self.former.iter().copied())
    }

    fn unblock(&mut self, step: usize, at: Wall, followed: &mut Followed) {
        if self.start_or_give_up(step, followed) {
            self.end_and_follow(step, TaskState::Skipped, at, followed);
        }
    }

    /// Whether a blocked step can never start; if it can now, it does.
    fn start_or_give_up(&mut self, step: usize, followed: &mut Followed) -> bool {
        let needs = self.graph.needs(step).len() as u32;
        let entry = &mut self.steps[step];
        #[cfg(feature = "canary")]
        if crate::canary::has(crate::canary::Bug::EdgeLost) {
            entry.met_needs += u32::from(entry.met_needs == 0 && needs > 0);
        }
        match self.spec.steps[step].join.verdict(needs, entry.met_needs, entry.open_needs) {
            JoinVerdict::Waits => false,
            JoinVerdict::Starts => {
                entry.phase = StepPhase::Binding;
                followed.to_bind.push(step as u32);
                false
            }
            JoinVerdict::Never => {
                // It is not blocked any more: no other need of it may give it up again.
                entry.phase = StepPhase::Ended(TaskState::Skipped);
                entry.skipped = Some(SkipReason::Join);
                followed.skipped += 1;
                true
            }
        }
    }

    /// Whether to those that need it, a step that is over ended well.
    pub fn counts_as_met(&self, step: usize) -> bool {
        match self.steps[step].phase {
            StepPhase::Ended(TaskState::Succeeded) => true,
            StepPhase::Ended(TaskState::Failed | TaskState::Dead | TaskState::Cancelled) => {
                self.on_fail(step) == OnFail::Continue
            }
            StepPhase::Blocked | StepPhase::Binding | StepPhase::Active | StepPhase::Ended(_) => false,
        }
    }

    pub fn on_fail(&self, step: usize) -> OnFail {
        self.spec.on_fail(&self.spec.steps[step])
    }

    /// Whether this part is to be bound now.
    pub fn wants(&self, part: BindingPart) -> bool {
        match (part, &self.stage) {
            (BindingPart::Items { step, from }, Stage::Steps) => {
                let Some(entry) = self.steps.get(step as usize) else { return false };
                match entry.phase {
                    StepPhase::Binding => from == 0,
                    StepPhase::Active => entry.tasks.len() == from as usize && entry.wants_next_window(),
                    StepPhase::Blocked | StepPhase::Ended(_) => false,
                }
            }
            (BindingPart::Outputs, Stage::Steps) => self.open_steps == 0,
            (BindingPart::Compensation { step }, Stage::Compensating(queue)) => {
                let begun = || self.steps[step as usize].compensation.as_ref().is_none_or(|undo| undo.task.is_some());
                queue.last() == Some(&step) && !begun()
            }
            (BindingPart::Items { .. } | BindingPart::Outputs | BindingPart::Compensation { .. }, _) => false,
        }
    }

    /// All that is to be bound now.
    pub fn wanted(&self) -> Vec<BindingPart> {
        let items =
            (0..).zip(&self.steps).map(|(step, entry)| BindingPart::Items { step, from: entry.tasks.len() as u32 });
        let compensation = match &self.stage {
            Stage::Compensating(queue) => queue.last().map(|step| BindingPart::Compensation { step: *step }),
            Stage::Steps | Stage::Over => None,
        };
        items.chain([BindingPart::Outputs]).chain(compensation).filter(|part| self.wants(*part)).collect()
    }

    /// The steps to undo, those that are undone first at the end: each after all that needs it.
    pub fn steps_to_compensate(&self) -> Vec<u32> {
        let undone = |step: &&usize| {
            let has_task = self.spec.steps[**step].compensate.is_some();
            has_task && self.steps[**step].phase == StepPhase::Ended(TaskState::Succeeded)
        };
        self.graph.order().iter().filter(undone).map(|step| *step as u32).collect()
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

    /// Moves one task of a step between two states. Compensations are not counted among a step's tasks.
    pub fn shift(&mut self, link: StepLink, from: TaskState, to: TaskState) {
        match link.part {
            StepPart::Item(_) => self.steps[link.step as usize].counts.shift(from, to),
            StepPart::Compensation => {}
        }
    }

    /// The operation that tasks of a step get their ids from: each retry and the compensation have their own.
    pub fn step_operation(&self, step: u32, part: StepPart) -> OperationId {
        let compensates = match part {
            StepPart::Item(_) => 0,
            StepPart::Compensation => 1,
        };
        let place = (self.retries << 16) | (compensates << 15) | step;
        let mut bytes = [0; 16];
        bytes[..12].copy_from_slice(&self.id.ulid.to_be_bytes()[4..]);
        bytes[12..].copy_from_slice(&place.to_be_bytes());
        OperationId(bytes)
    }
}

const _: () = assert!(limits::WORKFLOW_STEPS_MAX <= 1 << 15, "a step and the mark of its compensation share 16 bits");
const _: () = assert!(limits::WORKFLOW_RETRIES_MAX < 1 << 16, "retries have the other 16");

impl StepRun {
    /// Its end, if it has no task that has one.
    pub fn placeholder(&self) -> Option<TaskState> {
        match self.phase {
            StepPhase::Ended(state) if self.tasks.is_empty() => Some(state),
            StepPhase::Ended(_) | StepPhase::Blocked | StepPhase::Binding | StepPhase::Active => None,
        }
    }

    fn end(&mut self, state: TaskState, at: Wall) {
        self.phase = StepPhase::Ended(state);
        self.ended = Some(at);
    }

    /// Ends a step with its workflow, whatever its items came to. Returns whether it had not begun.
    pub fn end_with_workflow(&mut self, at: Wall) -> bool {
        match self.phase {
            StepPhase::Blocked | StepPhase::Binding => {
                self.end(TaskState::Skipped, at);
                self.skipped = Some(SkipReason::WorkflowEnded);
                true
            }
            StepPhase::Active => {
                self.end(self.failure().unwrap_or(TaskState::Cancelled), at);
                false
            }
            StepPhase::Ended(_) => false,
        }
    }

    /// Whether the next items of a large `for_each` should become tasks.
    pub fn wants_next_window(&self) -> bool {
        let live = self.tasks.len() as u64 - self.counts.terminal();
        self.error.is_none()
            && (self.tasks.len() as u32) < self.total
            && live < limits::FOR_EACH_WINDOW_LEN_MAX as u64 / 2
    }

    fn failure(&self) -> Option<TaskState> {
        let bad = [TaskState::Dead, TaskState::Failed, TaskState::Cancelled];
        bad.into_iter().find(|state| self.counts.of(*state) > 0)
    }

    /// The step's end: once every item has one, or at its first failed one. Of items that could not be bound, there are none.
    pub fn end_state(&self, stops_at_once: bool) -> Option<TaskState> {
        let unbound = self.error.is_some();
        let items = if unbound { self.tasks.len() as u32 } else { self.total };
        let all = self.counts.terminal() == u64::from(items);
        match self.failure().or(unbound.then_some(TaskState::Failed)) {
            Some(bad) => (stops_at_once || all).then_some(bad),
            None => all.then_some(TaskState::Succeeded),
        }
    }
}
