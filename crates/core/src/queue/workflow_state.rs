//! What records do to workflows: steps become tasks, ends of tasks end steps, ends of steps begin others.

use std::sync::Arc;

use super::protocol::WorkflowState;
use super::state::State;
use super::task_entry::{StepLink, Task};
use super::workflow_run::{StepPhase, WorkflowRun};
use crate::ids::{LogIndex, TaskId, WorkflowId};
use crate::invariant::{InvariantId, check};
use crate::task::{Durability, TaskError, TaskSpec, TaskState};
use crate::time::Wall;

impl State {
    pub(super) fn add_workflow(&mut self, index: LogIndex, mut run: WorkflowRun) {
        run.index = index;
        let steps = run.steps.len() as u64;
        self.submitted += steps;
        self.counts.add(TaskState::Blocked, steps);
        self.memory_submitted += if run.spec.durability == Durability::Memory { steps } else { 0 };
        self.workflows_running += 1;
        self.changes.workflows.push(run.id);
        self.workflows.insert(run.id, run);
    }

    /// A blocked step becomes `tasks`: until then it counted as one blocked task.
    pub(super) fn bind_step(
        &mut self,
        index: LogIndex,
        at: Wall,
        (workflow, step): (WorkflowId, u32),
        (from, total): (u32, u32),
        specs: &[Arc<TaskSpec>],
    ) {
        let Some(run) = self.workflows.get_mut(&workflow) else { return };
        let operation = run.step_operation(step);
        let (owner, clock_root) = (run.owner.clone(), run.clock_root);
        let memory = run.spec.durability == Durability::Memory;
        run.index = index;
        let entry = &mut run.steps[step as usize];
        let first_window = entry.phase == StepPhase::Binding;
        check(InvariantId::I8, first_window || entry.phase == StepPhase::Active, "a step started before what it needs");
        entry.phase = StepPhase::Active;
        entry.total = total;
        let ids: Vec<TaskId> =
            (0..specs.len() as u32).map(|n| TaskId::derive(self.tag, at.0, operation, from + n)).collect();
        entry.tasks.extend(&ids);
        if first_window {
            self.unblock_one(memory);
        }
        for (n, (id, spec)) in ids.into_iter().zip(specs).enumerate() {
            let mut task = Task::new(id, spec.clone(), owner.clone(), clock_root, at);
            task.step = Some(StepLink { workflow, step, item: from + n as u32 });
            let state = task.state;
            self.insert(index, task);
            if let Some(run) = self.workflows.get_mut(&workflow) {
                run.steps[step as usize].counts.add(state, 1);
            }
        }
        if total == 0 {
            self.count_placeholder(&workflow, TaskState::Succeeded);
            self.settle_step(index, at, workflow, step);
        }
        self.changes.workflows.push(workflow);
    }

    /// Takes back the one blocked task that an unbound step stood for.
    fn unblock_one(&mut self, memory: bool) {
        self.counts.blocked -= 1;
        self.submitted -= 1;
        self.memory_submitted -= u64::from(memory);
    }

    /// A step that ends without a task of its own still stands for one.
    fn count_placeholder(&mut self, workflow: &WorkflowId, state: TaskState) {
        self.submitted += 1;
        self.counts.add(state, 1);
        let memory = self.workflows.get(workflow).is_some_and(|run| run.spec.durability == Durability::Memory);
        self.memory_submitted += u64::from(memory);
        self.memory_terminal += u64::from(memory);
    }

    pub(super) fn unbind_step(
        &mut self,
        index: LogIndex,
        at: Wall,
        (workflow, step): (WorkflowId, u32),
        error: &TaskError,
    ) {
        let Some(run) = self.workflows.get_mut(&workflow) else { return };
        let memory = run.spec.durability == Durability::Memory;
        let entry = &mut run.steps[step as usize];
        // A later window of items fails a step that has tasks already.
        let stood_for_one = entry.phase == StepPhase::Binding;
        entry.phase = StepPhase::Ended(TaskState::Failed);
        entry.error = Some(error.clone());
        if stood_for_one {
            self.unblock_one(memory);
            self.count_placeholder(&workflow, TaskState::Failed);
        }
        self.stop_workflow(index, at, workflow, WorkflowState::Failed, error.clone());
    }

    pub(super) fn step_moved(&mut self, index: LogIndex, at: Wall, link: StepLink, from: TaskState, to: TaskState) {
        let Some(run) = self.workflows.get_mut(&link.workflow) else { return };
        run.index = run.index.max(index);
        let step = &mut run.steps[link.step as usize];
        step.counts.shift(from, to);
        if to.is_terminal() {
            if step.wants_next_window() {
                self.changes.workflows.push(link.workflow);
            }
            self.settle_step(index, at, link.workflow, link.step);
        }
    }

    /// Draws what follows from a step's newest terminal task: its end, the next steps, the workflow's end.
    fn settle_step(&mut self, index: LogIndex, at: Wall, workflow: WorkflowId, step: u32) {
        let Some(run) = self.workflows.get_mut(&workflow) else { return };
        let entry = &mut run.steps[step as usize];
        let Some(state) = entry.end_state().filter(|_| entry.phase == StepPhase::Active) else { return };
        entry.phase = StepPhase::Ended(state);
        self.changes.workflows.push(workflow);
        if state == TaskState::Succeeded {
            run.unblock();
            return;
        }
        let name = run.spec.steps[step as usize].name.clone();
        let failed = run.steps[step as usize]
            .tasks
            .iter()
            .filter_map(|id| self.tasks.get(id))
            .find_map(|task| task.error.clone());
        let reason = failed.map_or_else(|| state.to_string(), |error| error.to_string());
        let error = TaskError::new("step_failed", format!("step {name} is {state}: {reason}"));
        self.stop_workflow(index, at, workflow, WorkflowState::Failed, error);
    }

    /// Fail-fast: what did not start is skipped, what runs is cancelled.
    pub(super) fn stop_workflow(
        &mut self,
        index: LogIndex,
        at: Wall,
        id: WorkflowId,
        state: WorkflowState,
        error: TaskError,
    ) {
        let Some(run) = self.workflows.get_mut(&id).filter(|run| run.state == WorkflowState::Running) else { return };
        run.state = state;
        run.finished = Some(at);
        run.error = Some(error);
        run.index = index;
        self.workflows_running -= 1;
        self.changes.workflows.push(id);
        let memory = run.spec.durability == Durability::Memory;
        let mut skipped = 0;
        let mut live = Vec::new();
        for step in &mut run.steps {
            match step.phase {
                StepPhase::Blocked | StepPhase::Binding => {
                    step.phase = StepPhase::Ended(TaskState::Skipped);
                    skipped += 1;
                }
                StepPhase::Active | StepPhase::Ended(_) => live.extend_from_slice(&step.tasks),
            }
        }
        for _ in 0..skipped {
            self.unblock_one(memory);
            self.count_placeholder(&id, TaskState::Skipped);
        }
        for task in live {
            if self.tasks.get(&task).is_some_and(|task| !task.state.is_terminal()) {
                let error = TaskError::new("workflow_ended", format!("its workflow is {}", state.name()));
                self.change(index, at, task, |task| task.fail_with(at, TaskState::Cancelled, error));
            }
        }
        self.end_half_expanded_steps(&id);
        self.child_ended(index, at, id);
    }

    /// Steps whose tasks all succeeded so far, with items that will not become tasks any more.
    fn end_half_expanded_steps(&mut self, id: &WorkflowId) {
        let Some(run) = self.workflows.get_mut(id) else { return };
        for step in run.steps.iter_mut().filter(|step| step.phase == StepPhase::Active) {
            step.phase = StepPhase::Ended(TaskState::Cancelled);
        }
    }

    pub(super) fn end_workflow(
        &mut self,
        index: LogIndex,
        at: Wall,
        id: WorkflowId,
        outputs: &Result<crate::payload::JsonText, TaskError>,
    ) {
        let Some(run) = self.workflows.get_mut(&id).filter(|run| run.state == WorkflowState::Running) else { return };
        match outputs {
            Ok(outputs) => {
                run.state = WorkflowState::Succeeded;
                run.outputs = Some(outputs.clone());
            }
            Err(error) => {
                run.state = WorkflowState::Failed;
                run.error = Some(error.clone());
            }
        }
        run.finished = Some(at);
        run.index = index;
        self.workflows_running -= 1;
        self.changes.workflows.push(id);
        self.child_ended(index, at, id);
    }
}
