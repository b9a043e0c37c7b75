//! What records do to workflows: steps become tasks, ends of tasks end steps, ends of steps begin others.

use std::sync::Arc;

use super::effects::{BindingId, BindingPart};
use super::protocol::WorkflowState;
use super::state::State;
use super::task_entry::{StepLink, StepPart, Task};
use super::workflow_run::{Followed, SkipReason, Stage, StepPhase, WorkflowRun};
use crate::dag::OnFail;
use crate::ids::{LogIndex, TaskId, WorkflowId};
use crate::invariant::{InvariantId, check};
use crate::payload::JsonText;
use crate::task::{Durability, TaskError, TaskSpec, TaskState};
use crate::time::Wall;

/// A window of a step's items, as a record has it.
pub(super) struct Window<'a> {
    pub from: u32,
    pub total: u32,
    pub tasks: &'a [Arc<TaskSpec>],
    /// Places in `tasks` of items that do not run, in order.
    pub skipped: &'a [u32],
}

impl State {
    /// The workflow, which a record is about to change.
    pub(super) fn run_mut(&mut self, id: WorkflowId) -> Option<&mut WorkflowRun> {
        self.changes.touched.push(id);
        self.workflows.get_mut(&id)
    }

    pub(super) fn add_workflow(&mut self, index: LogIndex, at: Wall, mut run: WorkflowRun) {
        // Until a replay of a cut log is whole, workflows are taken from images only.
        if self.partial.is_some() {
            return;
        }
        run.index = index;
        run.base = index;
        run.accepted = self.last_index;
        let (id, steps) = (run.id, run.steps.len() as u64);
        self.submitted += steps;
        self.counts.add(TaskState::Blocked, steps);
        self.memory_submitted += if run.spec.durability == Durability::Memory { steps } else { 0 };
        self.workflows_running += 1;
        let followed = run.unblock_all(at);
        self.workflows.insert(id, run);
        self.changes.touched.push(id);
        self.follow(index, at, id, &followed);
    }

    /// A blocked step becomes tasks: until then it counted as one blocked task.
    pub(super) fn bind_step(
        &mut self,
        index: LogIndex,
        at: Wall,
        (workflow, step): (WorkflowId, u32),
        window: &Window<'_>,
    ) {
        let Some(run) = self.run_mut(workflow) else { return };
        let operation = run.step_operation(step, StepPart::Item(0));
        let (owner, clock_root) = (run.owner.clone(), run.clock_root);
        let memory = run.spec.durability == Durability::Memory;
        run.index = index;
        let entry = &mut run.steps[step as usize];
        let first_window = entry.phase == StepPhase::Binding;
        check(InvariantId::I8, first_window || entry.phase == StepPhase::Active, "a step started before what it needs");
        entry.phase = StepPhase::Active;
        entry.began.get_or_insert(at);
        entry.total = window.total;
        if first_window {
            self.unblock_one(memory);
        }
        let mut skipped = window.skipped.iter().copied().peekable();
        for (n, spec) in (0..).zip(window.tasks) {
            let item = window.from + n;
            let id = TaskId::derive(self.tag, at.0, operation, item);
            let mut task = Task::new(id, spec.clone(), owner.clone(), clock_root, at);
            task.kin.step = Some(StepLink { workflow, step, part: StepPart::Item(item) });
            if skipped.next_if_eq(&n).is_some() {
                task.end(at, TaskState::Skipped);
            }
            if let Some(run) = self.run_mut(workflow) {
                let entry = &mut run.steps[step as usize];
                task.kin.retry_of = entry.earlier.get(item as usize).copied();
                entry.tasks.push(id);
                entry.counts.add(task.state, 1);
            }
            if let Some(old) = task.kin.retry_of.and_then(|old| self.tasks.get_mut(&old)) {
                old.kin.retried_by = Some(id);
                old.index = old.index.max(index);
                self.changes.touched.extend(task.kin.retry_of);
            }
            self.insert(index, task);
        }
        if window.total == 0 {
            self.count_placeholder(memory, TaskState::Succeeded);
        }
        self.settle_step(index, at, workflow, step);
    }

    /// Takes back the one blocked task that an unbound step stood for.
    fn unblock_one(&mut self, memory: bool) {
        self.counts.blocked -= 1;
        self.submitted -= 1;
        self.memory_submitted -= u64::from(memory);
    }

    /// A step that ends without a task of its own still stands for one.
    fn count_placeholder(&mut self, memory: bool, state: TaskState) {
        self.submitted += 1;
        self.counts.add(state, 1);
        self.memory_submitted += u64::from(memory);
        self.memory_terminal += u64::from(memory);
    }

    /// Blocked steps that ended as `state` before they had a task.
    fn end_placeholders(&mut self, memory: bool, state: TaskState, steps: u64) {
        self.counts.blocked -= steps;
        self.counts.add(state, steps);
        self.memory_terminal += if memory { steps } else { 0 };
    }

    /// The condition of a step does not hold.
    pub(super) fn skip_step(&mut self, index: LogIndex, at: Wall, (workflow, step): (WorkflowId, u32)) {
        let Some(run) = self.run_mut(workflow) else { return };
        run.steps[step as usize].skipped = Some(SkipReason::Condition);
        let memory = run.spec.durability == Durability::Memory;
        self.end_placeholders(memory, TaskState::Skipped, 1);
        self.end_step(index, at, (workflow, step), TaskState::Skipped);
    }

    pub(super) fn unbind_step(
        &mut self,
        index: LogIndex,
        at: Wall,
        (workflow, step): (WorkflowId, u32),
        error: &TaskError,
    ) {
        let Some(run) = self.run_mut(workflow) else { return };
        let memory = run.spec.durability == Durability::Memory;
        let entry = &mut run.steps[step as usize];
        entry.error = Some(error.clone());
        if entry.phase == StepPhase::Binding {
            self.end_placeholders(memory, TaskState::Failed, 1);
            self.end_step(index, at, (workflow, step), TaskState::Failed);
        } else {
            // A later window of items counts as one that failed: those that are under way end as they would beside it.
            self.settle_step(index, at, workflow, step);
        }
    }

    pub(super) fn step_moved(&mut self, index: LogIndex, at: Wall, link: StepLink, from: TaskState, to: TaskState) {
        let Some(run) = self.run_mut(link.workflow) else { return };
        run.index = run.index.max(index);
        run.shift(link, from, to);
        if to.is_terminal() {
            match link.part {
                StepPart::Item(_) => self.settle_step(index, at, link.workflow, link.step),
                StepPart::Compensation => self.next_compensation(index, at, link.workflow, link.step),
            }
        }
    }

    /// Draws what follows from a step's newest terminal tasks: more items, or its end.
    fn settle_step(&mut self, index: LogIndex, at: Wall, workflow: WorkflowId, step: u32) {
        let Some(run) = self.workflows.get(&workflow).filter(|run| run.stage == Stage::Steps) else { return };
        let entry = &run.steps[step as usize];
        if entry.phase != StepPhase::Active {
            return;
        }
        let stops_at_once = run.on_fail(step as usize).stops_at_once();
        if let Some(state) = entry.end_state(stops_at_once) {
            self.end_step(index, at, (workflow, step), state);
        } else if entry.wants_next_window() {
            let part = BindingPart::Items { step, from: entry.tasks.len() as u32 };
            self.want(workflow, part);
        }
    }

    fn want(&mut self, workflow: WorkflowId, part: BindingPart) {
        if let Some(run) = self.workflows.get(&workflow) {
            self.changes.bindings.push(BindingId { workflow, retries: run.retries, part });
        }
    }

    /// Ends a step as its policy says: the workflow with it, or the steps that need it, or neither.
    fn end_step(&mut self, index: LogIndex, at: Wall, (workflow, step): (WorkflowId, u32), state: TaskState) {
        let Some(run) = self.run_mut(workflow) else { return };
        run.index = run.index.max(index);
        let fails = matches!(state, TaskState::Failed | TaskState::Dead | TaskState::Cancelled);
        let policy = run.on_fail(step as usize);
        let followed = if fails && policy.stops_at_once() {
            // Nothing follows from it: the others end with the workflow.
            run.steps[step as usize].phase = StepPhase::Ended(state);
            run.steps[step as usize].ended = Some(at);
            run.open_steps -= 1;
            None
        } else {
            Some(run.end_step(step as usize, state, at))
        };
        let error = fails.then(|| self.step_error(workflow, step, state));
        match (followed, error) {
            (None, Some(error)) => {
                let end = WorkflowState::Failed;
                self.stop_workflow(index, at, workflow, (end, error), policy == OnFail::Compensate);
            }
            (Some(followed), error) => {
                let lasting = error.filter(|_| policy == OnFail::SkipChildren);
                if let (Some(run), Some(error)) = (self.run_mut(workflow), lasting) {
                    run.error.get_or_insert(error);
                }
                self.follow(index, at, workflow, &followed);
            }
            (None, None) => {}
        }
    }

    /// Why a step failed, in words.
    fn step_error(&self, workflow: WorkflowId, step: u32, state: TaskState) -> TaskError {
        let Some(run) = self.workflows.get(&workflow) else { return TaskError::new("step_failed", state.to_string()) };
        let entry = &run.steps[step as usize];
        if let Some(error) = &entry.error {
            return error.clone();
        }
        let name = &run.spec.steps[step as usize].name;
        let failed = entry.tasks.iter().filter_map(|id| self.tasks.get(id)).find(|task| task.state == state);
        let error = failed.and_then(|task| task.past.error.as_ref());
        let reason = error.map_or_else(|| state.to_string(), ToString::to_string);
        TaskError::new("step_failed", format!("step {name} is {state}: {reason}"))
    }

    /// Counts what the end of a step led to, and ends the workflow after its last step.
    pub(super) fn follow(&mut self, index: LogIndex, at: Wall, workflow: WorkflowId, followed: &Followed) {
        let Some(run) = self.workflows.get(&workflow) else { return };
        let (all_over, failed) = (run.open_steps == 0, run.error.is_some());
        let memory = run.spec.durability == Durability::Memory;
        self.end_placeholders(memory, TaskState::Skipped, followed.skipped);
        followed.to_bind.iter().for_each(|step| self.want(workflow, BindingPart::Items { step: *step, from: 0 }));
        match (all_over, failed) {
            (false, _) => {}
            (true, true) => self.finish(index, at, workflow, WorkflowState::Failed),
            (true, false) => self.want(workflow, BindingPart::Outputs),
        }
    }

    /// What did not start is skipped, what runs is cancelled; then, if the policy says so, what succeeded is undone.
    pub(super) fn stop_workflow(
        &mut self,
        index: LogIndex,
        at: Wall,
        id: WorkflowId,
        (end, error): (WorkflowState, TaskError),
        compensates: bool,
    ) {
        let Some(run) = self.run_mut(id).filter(|run| run.state == WorkflowState::Running) else { return };
        run.error = Some(error);
        run.index = run.index.max(index);
        let undo = if compensates { run.steps_to_compensate() } else { Vec::new() };
        undo.iter().for_each(|step| run.steps[*step as usize].compensation = Some(Box::default()));
        let undoing = run.steps.iter().filter_map(|step| step.compensation.as_ref()?.task);
        let live: Vec<TaskId> = run.steps.iter().flat_map(|step| step.tasks.iter().copied()).chain(undoing).collect();
        let first = undo.last().copied();
        run.stage = if undo.is_empty() { Stage::Over } else { Stage::Compensating(undo) };
        for task in live {
            if self.tasks.get(&task).is_some_and(|task| !task.state.is_terminal()) {
                let error = TaskError::new("workflow_ended", format!("its workflow is {}", end.name()));
                self.change(index, at, task, |task| task.fail_with(at, TaskState::Cancelled, error));
            }
        }
        let Some(run) = self.run_mut(id) else { return };
        let skipped: u64 = run.steps.iter_mut().map(|step| u64::from(step.end_with_workflow(at))).sum();
        run.open_steps = 0;
        let memory = run.spec.durability == Durability::Memory;
        self.end_placeholders(memory, TaskState::Skipped, skipped);
        match first {
            Some(step) => self.want(id, BindingPart::Compensation { step }),
            None => self.finish(index, at, id, end),
        }
    }

    /// A step begins to be undone.
    pub(super) fn bind_compensation(
        &mut self,
        index: LogIndex,
        at: Wall,
        (workflow, step): (WorkflowId, u32),
        spec: &Arc<TaskSpec>,
    ) {
        let tag = self.tag;
        let Some(run) = self.run_mut(workflow) else { return };
        let operation = run.step_operation(step, StepPart::Compensation);
        let id = TaskId::derive(tag, at.0, operation, 0);
        let mut task = Task::new(id, spec.clone(), run.owner.clone(), run.clock_root, at);
        task.kin.step = Some(StepLink { workflow, step, part: StepPart::Compensation });
        run.index = run.index.max(index);
        run.steps[step as usize].compensation.get_or_insert_default().task = Some(id);
        self.insert(index, task);
    }

    /// A compensation that cannot be made fails in words; the others still run.
    pub(super) fn unbind_compensation(
        &mut self,
        index: LogIndex,
        at: Wall,
        (workflow, step): (WorkflowId, u32),
        error: &TaskError,
    ) {
        let Some(run) = self.run_mut(workflow) else { return };
        run.steps[step as usize].compensation.get_or_insert_default().error = Some(error.clone());
        self.next_compensation(index, at, workflow, step);
    }

    fn next_compensation(&mut self, index: LogIndex, at: Wall, workflow: WorkflowId, step: u32) {
        let Some(run) = self.run_mut(workflow) else { return };
        run.index = run.index.max(index);
        let Stage::Compensating(queue) = &mut run.stage else { return };
        if queue.pop_if(|undone| *undone == step).is_none() {
            return;
        }
        match queue.last().copied() {
            Some(step) => self.want(workflow, BindingPart::Compensation { step }),
            None => self.finish(index, at, workflow, WorkflowState::Failed),
        }
    }

    pub(super) fn end_workflow(
        &mut self,
        index: LogIndex,
        at: Wall,
        id: WorkflowId,
        outputs: &Result<JsonText, TaskError>,
    ) {
        let Some(run) = self.run_mut(id) else { return };
        match outputs {
            Ok(outputs) => {
                run.outputs = Some(outputs.clone());
                self.finish(index, at, id, WorkflowState::Succeeded);
            }
            Err(error) => {
                run.error = Some(error.clone());
                self.finish(index, at, id, WorkflowState::Failed);
            }
        }
    }

    fn finish(&mut self, index: LogIndex, at: Wall, id: WorkflowId, end: WorkflowState) {
        let Some(run) = self.run_mut(id).filter(|run| run.state == WorkflowState::Running) else { return };
        run.state = end;
        run.stage = Stage::Over;
        run.finished = Some(at);
        run.index = run.index.max(index);
        self.workflows_running -= 1;
        self.changes.workflows.push(id);
        self.child_ended(index, at, id);
    }
}
