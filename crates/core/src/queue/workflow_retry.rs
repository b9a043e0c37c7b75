//! Running a workflow again from where it failed: new tasks for what failed and what follows, the rest keeps its results.

use super::effects::{BindingId, BindingPart, ReplyTo};
use super::ledger::Ledger;
use super::operations::Done;
use super::protocol::{LedgerReply, Refusal, WorkflowState};
use super::record::Record;
use super::state::State;
use super::submit::reused;
use super::task_entry::{StepLink, StepPart, Task};
use super::workflow_run::{SkipReason, Stage, StepPhase, StepRun, WorkflowRun};
use crate::ids::{LogIndex, OperationId, TaskId, WorkflowId};
use crate::limits;
use crate::task::{Durability, TaskState};
use crate::time::Wall;

impl Ledger {
    pub(super) fn retry_workflow(&mut self, operation: OperationId, id: WorkflowId, reply: ReplyTo) {
        match self.operations.find(&operation) {
            Some(Done::WorkflowRetried { workflow, steps }) if workflow == id => {
                let answer = LedgerReply::WorkflowRetried { id, steps };
                return self.reply(self.gate_of_all(), reply, answer);
            }
            Some(_) => return self.refuse(reply, reused(operation)),
            None => {}
        }
        if let Err(refusal) = self.check_draining() {
            return self.refuse(reply, refusal);
        }
        let Some(run) = self.state.workflows.get(&id) else { return self.refuse_missing(reply, id) };
        let durability = run.spec.durability;
        if let Err(refusal) = self.may_retry(run) {
            let gate = self.late_gate(durability, run.index);
            return self.reply(gate, reply, LedgerReply::Refused(refusal));
        }
        let steps = run.steps_to_retry();
        let replaced: Vec<TaskId> = run.replaced_by_retry(&steps).collect();
        let answer = LedgerReply::WorkflowRetried { id, steps: steps.len() as u32 };
        let record = Record::WorkflowRetried { at: self.at(), operation, workflow: id, steps };
        self.operations.remember(&record);
        let index = self.commit(durability, record);
        self.keep_workflow(id);
        replaced.iter().for_each(|task| self.forget_replaced(task));
        self.reply(self.late_gate(durability, index), reply, answer);
    }

    fn may_retry(&self, run: &WorkflowRun) -> Result<(), Refusal> {
        match run.state {
            WorkflowState::Failed | WorkflowState::Cancelled => {}
            WorkflowState::Running => {
                let fix = "wait for its end, or cancel it first";
                return Err(Refusal::invalid("/id", format!("{} is running", run.id), fix));
            }
            WorkflowState::Succeeded => {
                return Err(Refusal::AlreadyTerminal { id: run.id, state: TaskState::Succeeded });
            }
        }
        let stands_for = |parent: TaskId| self.state.tasks.get(&parent).is_some_and(Task::is_workflow);
        if let Some(parent) = run.parent.filter(|parent| stands_for(*parent)) {
            let problem = format!("{} is an attempt of the task {parent}", run.id);
            return Err(Refusal::invalid("/id", problem, "retry the workflow that this task belongs to"));
        }
        if run.retries as usize >= limits::WORKFLOW_RETRIES_MAX {
            let problem = format!("{} was retried {} times", run.id, run.retries);
            return Err(Refusal::invalid("/id", problem, "submit it as a new workflow"));
        }
        if self.state.workflows_running as usize >= limits::WORKFLOWS_LIVE_MAX {
            return Err(self.too_many_workflows());
        }
        let tasks: usize = run.steps.iter().map(|step| step.tasks.len().max(1)).sum();
        self.check_live(tasks)
    }
}

impl WorkflowRun {
    /// The tasks that a retry of these steps puts others in place of; nothing is undone any more.
    fn replaced_by_retry<'a>(&'a self, steps: &'a [u32]) -> impl Iterator<Item = TaskId> + 'a {
        let tasks = steps.iter().filter_map(|step| self.steps.get(*step as usize)).flat_map(|step| &step.tasks);
        let undoing = self.steps.iter().filter_map(|step| step.compensation.as_ref()?.task);
        tasks.copied().chain(undoing)
    }

    /// Whether `task` is what does this part of it now.
    pub(super) fn is_done_by(&self, link: StepLink, task: TaskId) -> bool {
        self.steps.get(link.step as usize).is_some_and(|step| match link.part {
            StepPart::Item(item) => step.tasks.get(item as usize) == Some(&task),
            StepPart::Compensation => step.compensation.as_ref().is_some_and(|undo| undo.task == Some(task)),
        })
    }

    /// What failed, was cut off or was undone, and what rests on that: a step that started without it keeps its result.
    fn steps_to_retry(&self) -> Vec<u32> {
        let mut again = vec![false; self.steps.len()];
        for step in self.graph.order() {
            let succeeded = self.steps[*step].phase == StepPhase::Ended(TaskState::Succeeded);
            let rests_on = |need: &usize| again[*need] && (!succeeded || self.counts_as_met(*need));
            again[*step] = self.steps[*step].must_run_again() || self.graph.needs(*step).iter().any(rests_on);
        }
        (0..).zip(again).filter_map(|(step, again)| again.then_some(step)).collect()
    }

    /// Whether its tasks can be made again as they were: nothing that they were made from changes.
    fn can_resume(&self, step: usize, again: &[bool]) -> bool {
        let entry = &self.steps[step];
        let failed =
            matches!(entry.phase, StepPhase::Ended(TaskState::Failed | TaskState::Dead | TaskState::Cancelled));
        failed && !entry.tasks.is_empty() && self.graph.needs(step).iter().all(|need| !again[*need])
    }

    /// A step as it was before it had tasks, but for what those were.
    fn reset(&mut self, step: usize) {
        let old = std::mem::take(&mut self.steps[step]);
        old.placeholder().into_iter().for_each(|state| self.former_ends.add(state, 1));
        self.former.extend(old.compensation.and_then(|undo| undo.task));
        let (earlier, former) = if old.tasks.is_empty() { (old.earlier, old.tasks) } else { (old.tasks, old.earlier) };
        self.former.extend(former);
        self.steps[step].earlier = earlier;
    }

    /// Counts anew, for every step, what it still waits for.
    fn count_needs(&mut self, again: &[bool]) {
        for step in 0..self.steps.len() {
            let (mut open, mut met) = (0, 0);
            for need in self.graph.needs(step) {
                open += u32::from(again[*need]);
                met += u32::from(!again[*need] && self.counts_as_met(*need));
            }
            (self.steps[step].open_needs, self.steps[step].met_needs) = (open, met);
        }
    }
}

impl StepRun {
    fn must_run_again(&self) -> bool {
        match self.phase {
            StepPhase::Ended(TaskState::Failed | TaskState::Dead | TaskState::Cancelled) => true,
            StepPhase::Ended(TaskState::Skipped) => self.skipped == Some(SkipReason::WorkflowEnded),
            StepPhase::Ended(_) => self.compensation.as_ref().is_some_and(|undo| undo.task.is_some()),
            StepPhase::Blocked | StepPhase::Binding | StepPhase::Active => false,
        }
    }
}

impl State {
    pub(super) fn retry_workflow(&mut self, index: LogIndex, at: Wall, id: WorkflowId, steps: &[u32]) {
        let Some(run) = self.run_mut(id) else { return };
        let mut again = vec![false; run.steps.len()];
        steps.iter().for_each(|step| again[*step as usize] = true);
        let (resumed, reset): (Vec<u32>, Vec<u32>) =
            steps.iter().copied().partition(|step| run.can_resume(*step as usize, &again));
        run.retries += 1;
        run.state = WorkflowState::Running;
        run.stage = Stage::Steps;
        (run.finished, run.error, run.outputs) = (None, None, None);
        run.index = run.index.max(index);
        run.open_steps = steps.len();
        reset.iter().for_each(|step| run.reset(*step as usize));
        // What was not undone stays done.
        let undoing = run.steps.iter_mut().filter_map(|step| step.compensation.take()?.task);
        run.former.extend(undoing);
        run.count_needs(&again);
        let followed = run.unblock_all(at);
        let memory = run.spec.durability == Durability::Memory;
        self.workflows_running += 1;
        self.submitted += reset.len() as u64;
        self.counts.add(TaskState::Blocked, reset.len() as u64);
        self.memory_submitted += if memory { reset.len() as u64 } else { 0 };
        resumed.iter().for_each(|step| self.resume_step(index, at, id, *step));
        self.follow(index, at, id, &followed);
    }

    /// New tasks for the items that did not succeed; the others keep their results.
    fn resume_step(&mut self, index: LogIndex, at: Wall, workflow: WorkflowId, step: u32) {
        let Some(run) = self.workflows.get_mut(&workflow) else { return };
        let operation = run.step_operation(step, StepPart::Item(0));
        let (owner, clock_root, retries) = (run.owner.clone(), run.clock_root, run.retries);
        let entry = &mut run.steps[step as usize];
        entry.phase = StepPhase::Active;
        (entry.error, entry.ended) = (None, None);
        let mut made = Vec::new();
        for (item, id) in (0..).zip(&mut entry.tasks) {
            let Some(old) = self.tasks.get_mut(id) else { continue };
            if matches!(old.state, TaskState::Succeeded | TaskState::Skipped) {
                continue;
            }
            let new = TaskId::derive(self.tag, at.0, operation, item);
            let mut task = Task::new(new, old.whole_spec(), owner.clone(), clock_root, at);
            task.kin.step = Some(StepLink { workflow, step, part: StepPart::Item(item) });
            task.kin.retry_of = Some(*id);
            old.kin.retried_by = Some(new);
            old.index = old.index.max(index);
            entry.counts.shift(old.state, task.state);
            run.former.push(std::mem::replace(id, new));
            made.push(task);
        }
        if entry.wants_next_window() {
            let part = BindingPart::Items { step, from: entry.tasks.len() as u32 };
            self.changes.bindings.push(BindingId { workflow, retries, part });
        }
        self.changes.touched.extend(made.iter().filter_map(|task| task.kin.retry_of));
        made.into_iter().for_each(|task| self.insert(index, task));
    }
}
