//! What a home shows of workflows: steps, progress, the path that its time is made of.

use std::collections::BTreeMap;

use super::effects::Gate;
use super::effects::ReplyTo;
use super::ledger::Ledger;
use super::ownership::latest;
use super::protocol::{
    CompensationView, LedgerReply, StepView, TaskCounts, WorkflowProgress, WorkflowState, WorkflowSummary, WorkflowView,
};
use super::view_size;
use super::workflow_run::{SkipReason, Stage, StepPhase, StepRun, WorkflowRun};
use crate::ids::WorkflowId;
use crate::limits;
use crate::task::{TaskState, Used};
use crate::time::Wall;

impl Ledger {
    pub(super) fn get_workflow(&mut self, id: WorkflowId, reply: ReplyTo) {
        self.answer_workflow(id, reply);
    }

    pub(super) fn answer_workflow(&mut self, id: WorkflowId, to: ReplyTo) {
        let Some(run) = self.state.workflows.get(&id) else { return self.refuse_missing(to, id) };
        let mut view = self.workflow_view(run);
        view_size::fit(&mut view);
        let undoing = run.steps.iter().filter_map(|step| step.compensation.as_ref()?.task);
        let tasks = run.steps.iter().flat_map(|step| step.tasks.iter().copied()).chain(undoing);
        let tasks = tasks.filter_map(|id| self.state.tasks.get(&id));
        let own = self.late_gate(run.spec.durability, run.index);
        let gate = tasks.fold(own, |gate, task| latest(gate, self.late_gate(task.durability(), task.index)));
        self.reply(gate, to, LedgerReply::Workflow(Box::new(view)));
    }

    fn workflow_view(&self, run: &WorkflowRun) -> WorkflowView {
        let path = run.critical_path(Wall(self.now.wall_ms));
        let steps = (0..run.steps.len()).map(|step| self.step_view(run, step));
        WorkflowView {
            summary: summary(run),
            home: self.identity.home,
            steps: steps.collect(),
            outputs: run.outputs.clone(),
            error: run.error.clone(),
            spec: run.spec.clone(),
            retries: run.retries,
            progress: WorkflowProgress { steps_over: run.steps.len() - run.open_steps, steps: run.steps.len() },
            current: run.current().map(|step| run.spec.steps[step].name.clone()).collect(),
            critical_path: path.into_iter().map(|step| run.spec.steps[step].name.clone()).collect(),
            left_out: None,
        }
    }

    pub(super) fn wait_workflow(&mut self, id: WorkflowId, timeout_ms: u64, reply: ReplyTo) {
        if self.workflow_is_running(&id) && timeout_ms > 0 {
            self.wait_for(id, timeout_ms, reply);
        } else {
            self.answer_workflow(id, reply);
        }
    }

    fn step_view(&self, run: &WorkflowRun, index: usize) -> StepView {
        let (spec, step) = (&run.spec.steps[index], &run.steps[index]);
        let tasks = || step.tasks.iter().filter_map(|id| self.state.tasks.get(id));
        let single = spec.for_each.is_none().then(|| tasks().next()).flatten();
        let mut workers = BTreeMap::new();
        for task in tasks().filter(|task| task.state == TaskState::Succeeded) {
            if let Some(worker) = task.worker {
                *workers.entry(worker).or_insert(0) += 1;
            }
        }
        StepView {
            name: spec.name.clone(),
            state: step_state(step),
            task_id: single.map(|task| task.id),
            child: single.and_then(|task| task.kin.child),
            worker: single.and_then(|task| task.worker),
            attempts: tasks().map(|task| task.attempts).sum(),
            output: single.and_then(|task| task.output.clone()),
            error: step.error.clone().or_else(|| tasks().find_map(|task| task.past.error.clone())),
            tasks: step.counts,
            workers,
            ran_ms: tasks().map(|task| task.ran_ms).sum(),
            used: tasks().fold(Used::default(), |used, task| used.plus(task.past.used)),
            progress: single.and_then(|task| task.progress()).cloned(),
            reason: step.skipped.map(|reason| run.skip_in_words(index, reason)),
            started_at: step.began,
            finished_at: step.ended,
            compensation: self.compensation_view(run, step),
        }
    }

    fn compensation_view(&self, run: &WorkflowRun, step: &StepRun) -> Option<CompensationView> {
        let undo = step.compensation.as_deref()?;
        let task = undo.task.and_then(|id| self.state.tasks.get(&id));
        let before = if run.stage == Stage::Over { TaskState::Skipped } else { TaskState::Blocked };
        let without_task = if undo.error.is_some() { TaskState::Failed } else { before };
        Some(CompensationView {
            state: task.map_or(without_task, |task| task.state),
            task_id: undo.task,
            attempts: task.map_or(0, |task| task.attempts),
            error: undo.error.clone().or_else(|| task.and_then(|task| task.past.error.clone())),
        })
    }

    pub(super) fn list_workflows(
        &mut self,
        (state, namespace): (Option<WorkflowState>, Option<&str>),
        cursor: Option<WorkflowId>,
        limit: usize,
        reply: ReplyTo,
    ) {
        let limit = limit.clamp(1, limits::LIST_LEN_MAX);
        let from = cursor.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let runs = self.state.workflows.range((from, std::ops::Bound::Unbounded)).map(|(_, run)| run);
        let shown = |run: &&WorkflowRun| {
            state.is_none_or(|state| run.state == state)
                && namespace.is_none_or(|namespace| run.spec.namespace == namespace)
                && !self.withholds(run.spec.durability, run.index)
        };
        let mut page: Vec<&WorkflowRun> = runs.filter(shown).take(limit + 1).collect();
        let more = page.len() > limit;
        page.truncate(limit);
        let gate =
            page.iter().fold(Gate::Open, |gate, run| latest(gate, self.late_gate(run.spec.durability, run.index)));
        let next_cursor = page.last().filter(|_| more).map(|run| run.id);
        let items = page.into_iter().map(summary).collect();
        self.reply(gate, reply, LedgerReply::Workflows { items, next_cursor });
    }
}

impl WorkflowRun {
    /// The steps that run, or are about to.
    fn current(&self) -> impl Iterator<Item = usize> {
        let runs = |step: &usize| matches!(self.steps[*step].phase, StepPhase::Binding | StepPhase::Active);
        (0..self.steps.len()).filter(runs)
    }

    /// The path that the workflow's time is made of until `now`. What did not begin counts by its number of steps only.
    fn critical_path(&self, now: Wall) -> Vec<usize> {
        self.graph.critical_path(|step| {
            let entry = &self.steps[step];
            entry.began.map_or(0, |began| entry.ended.unwrap_or(now).0.saturating_sub(began.0))
        })
    }

    fn skip_in_words(&self, step: usize, reason: SkipReason) -> String {
        let spec = &self.spec.steps[step];
        match reason {
            SkipReason::Condition => {
                let condition = spec.when.as_ref().map(ToString::to_string).unwrap_or_default();
                format!("its condition does not hold: {condition}")
            }
            SkipReason::Join => {
                let met = self.steps[step].met_needs;
                format!("it joins {} of {} steps, and {met} ended well", spec.join, spec.needs.len())
            }
            SkipReason::WorkflowEnded => "its workflow ended before it could start".to_owned(),
        }
    }
}

fn summary(run: &WorkflowRun) -> WorkflowSummary {
    WorkflowSummary {
        id: run.id,
        name: run.spec.name.clone(),
        namespace: run.spec.namespace.clone(),
        state: run.state,
        owner: run.owner.to_string(),
        created_at: run.created,
        finished_at: run.finished,
        parent: run.parent,
        schedule: run.schedule,
        steps: run.steps.len(),
        tasks: run.counts(),
    }
}

pub(super) fn step_state(step: &StepRun) -> TaskState {
    match step.phase {
        StepPhase::Blocked | StepPhase::Binding => TaskState::Blocked,
        StepPhase::Ended(state) => state,
        StepPhase::Active => {
            let counts: &TaskCounts = &step.counts;
            let live = [TaskState::Running, TaskState::Leased, TaskState::Ready, TaskState::Delayed];
            live.into_iter().find(|state| counts.of(*state) > 0).unwrap_or(TaskState::Running)
        }
    }
}
