//! What the templates of a workflow become: asked for when a step may start, recorded when the answer is there.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::bind::{Values, bind};
use super::effects::{BindingId, BindingPart, Bound, BoundWindow, Effect, Gate, StepOutputs};
use super::ledger::Ledger;
use super::protocol::Refusal;
use super::record::Record;
use super::workflow_run::{StepPhase, WorkflowRun};
use super::workflow_views::step_state;
use crate::dag::{self, ReadSteps};
use crate::payload::{JsonText, Payload};
use crate::task::{TaskError, TaskKind, TaskState};
use crate::time::Wall;

/// A binding without an answer after this was lost with whoever resolves references: it is asked for again.
const BINDING_LOST_MS: u64 = 30_000;

impl Ledger {
    /// Binds at once what reads no values, which may lie among the blobs, and asks for the rest. One binding may lead to
    /// the next: a step that its condition skips lets others start.
    pub(super) fn bind_wanted(&mut self) {
        while let Some(id) = self.wanted.pop_front() {
            match self.bound_in_place(id) {
                Some(bound) => self.bound(id, bound),
                None => self.ask_for(id),
            }
        }
    }

    fn bound_in_place(&self, id: BindingId) -> Option<Result<Bound, TaskError>> {
        let run = self.run_that_wants(id).filter(|_| !self.binding.contains_key(&id))?;
        let step = |step: u32| &run.spec.steps[step as usize];
        let read = match id.part {
            BindingPart::Items { step: n, .. } if step(n).for_each.is_some() => return None,
            BindingPart::Items { step: n, .. } => step(n).bound_steps(),
            BindingPart::Outputs => run.spec.output_steps(),
            BindingPart::Compensation { .. } => return None,
        };
        if !read.outputs.is_empty() {
            return None;
        }
        let values = InPlace::default();
        let bound = bind(id.part, &run.spec, &self.outputs_of(run, &read), &values);
        (!values.too_large.get()).then_some(bound)
    }

    /// Asks for a binding that is wanted and not under way.
    pub(super) fn ask_for(&mut self, id: BindingId) {
        let Some(run) = self.run_that_wants(id).filter(|_| !self.binding.contains_key(&id)) else { return };
        let effect = self.bind_effect(run, id);
        self.binding.insert(id, self.now.mono_ms);
        self.outbox.push(Gate::Open, effect);
    }

    fn run_that_wants(&self, id: BindingId) -> Option<&WorkflowRun> {
        let run = self.state.workflows.get(&id.workflow)?;
        Some(run).filter(|run| run.retries == id.retries && run.wants(id.part))
    }

    pub(super) fn bind_again(&mut self) {
        let now_ms = self.now.mono_ms;
        let lost = self.binding.extract_if(.., |_, asked_ms| *asked_ms + BINDING_LOST_MS <= now_ms);
        let lost: Vec<(BindingId, u64)> = lost.collect();
        lost.into_iter().for_each(|(id, _)| self.ask_for(id));
    }

    fn bind_effect(&self, run: &WorkflowRun, id: BindingId) -> Effect {
        let spec = run.spec.clone();
        let step = |step: u32| &spec.steps[step as usize];
        let steps = match id.part {
            BindingPart::Outputs => self.outputs_of(run, &spec.output_steps()),
            BindingPart::Items { step: n, .. } => self.outputs_of(run, &step(n).bound_steps()),
            BindingPart::Compensation { step: n } => {
                let compensate = step(n).compensate.as_ref().map(|compensate| compensate.as_step(step(n)));
                compensate.map_or_else(BTreeMap::new, |task| self.outputs_of(run, &task.bound_steps()))
            }
        };
        Effect::Bind { id, spec, steps }
    }

    fn outputs_of(&self, run: &WorkflowRun, read: &ReadSteps<'_>) -> BTreeMap<String, StepOutputs> {
        let named = read.names().into_iter().filter_map(|name| run.graph.index_of(name).map(|index| (name, index)));
        named
            .map(|(name, index)| (name.to_owned(), self.step_outputs(run, index, read.outputs.contains(name))))
            .collect()
    }

    fn step_outputs(&self, run: &WorkflowRun, index: usize, with_output: bool) -> StepOutputs {
        let step = &run.steps[index];
        let tasks = || step.tasks.iter().map(|id| self.state.tasks.get(id));
        let has_list = step.phase == StepPhase::Ended(TaskState::Succeeded) || !step.tasks.is_empty();
        let over = matches!(step.phase, StepPhase::Ended(_));
        let each = run.spec.steps[index].for_each.is_some() && has_list && over;
        let output =
            |task: Option<&super::task_entry::Task>| task.and_then(|task| task.output.clone()).unwrap_or_default();
        let payloads: Vec<Payload> = match (with_output, each) {
            (false, _) => Vec::new(),
            (true, true) => tasks().map(output).collect(),
            (true, false) if over && run.spec.steps[index].for_each.is_none() => vec![output(tasks().next().flatten())],
            (true, false) => vec![Payload::null()],
        };
        let error = step.error.clone().or_else(|| tasks().flatten().find_map(|task| task.past.error.clone()));
        let state = step_state(step);
        let failed = matches!(state, TaskState::Failed | TaskState::Dead | TaskState::Cancelled);
        StepOutputs { each: each && with_output, payloads, state, error: error.filter(|_| failed) }
    }

    pub(super) fn bound(&mut self, id: BindingId, bound: Result<Bound, TaskError>) {
        self.binding.remove(&id);
        let Some(run) = self.run_that_wants(id) else { return };
        let durability = run.spec.durability;
        let record = self.bound_record(id, bound);
        self.commit(durability, record);
    }

    fn bound_record(&self, id: BindingId, bound: Result<Bound, TaskError>) -> Record {
        let (at, workflow) = (self.at(), id.workflow);
        let bound = bound.and_then(checked);
        match id.part {
            BindingPart::Items { step, from } => match bound {
                Ok(Bound::Tasks(BoundWindow { total, mut tasks, skipped })) => {
                    if let Some(until) = self.waits_until(id, at) {
                        tasks.iter_mut().for_each(|task| Arc::make_mut(task).deadline = Some(until));
                    }
                    Record::StepBound { at, workflow, step, from, total, tasks, skipped }
                }
                Ok(Bound::Skipped) => Record::StepSkipped { at, workflow, step },
                Ok(Bound::Outputs(_)) => Record::StepUnbound { at, workflow, step, error: misfit() },
                Err(error) => Record::StepUnbound { at, workflow, step, error },
            },
            BindingPart::Compensation { step } => {
                let task = bound.and_then(|bound| match bound {
                    Bound::Tasks(BoundWindow { mut tasks, .. }) => tasks.pop().ok_or_else(misfit),
                    Bound::Skipped | Bound::Outputs(_) => Err(misfit()),
                });
                match task {
                    Ok(mut task) => {
                        if let Some(until) = self.waits_until(id, at) {
                            Arc::make_mut(&mut task).deadline = Some(until);
                        }
                        Record::CompensationBound { at, workflow, step, task }
                    }
                    Err(error) => Record::CompensationUnbound { at, workflow, step, error },
                }
            }
            BindingPart::Outputs => {
                let outputs = bound.and_then(|bound| match bound {
                    Bound::Outputs(outputs) => Ok(outputs),
                    Bound::Skipped | Bound::Tasks(_) => Err(misfit()),
                });
                Record::WorkflowEnded { at, workflow, outputs }
            }
        }
    }

    /// What a person decides runs nowhere: its `timeout` is how long it waits for that.
    fn waits_until(&self, id: BindingId, at: Wall) -> Option<Wall> {
        let spec = &self.state.workflows.get(&id.workflow)?.spec;
        let (kind, timeout) = match id.part {
            BindingPart::Items { step, .. } => (spec.steps[step as usize].kind, spec.steps[step as usize].timeout),
            BindingPart::Compensation { step } => {
                let compensate = spec.steps[step as usize].compensate.as_ref()?;
                (compensate.kind, compensate.timeout)
            }
            BindingPart::Outputs => return None,
        };
        timeout.filter(|_| kind == TaskKind::Approval).map(|timeout| Wall(at.0 + timeout.0))
    }
}

/// Values that stand inline, or are not looked at.
#[derive(Default)]
struct InPlace {
    too_large: Cell<bool>,
}

impl Values for InPlace {
    fn text_of(&self, _: &Payload) -> Result<String, String> {
        Err("no value is read here".to_owned())
    }

    fn place(&self, value: JsonText) -> Result<Payload, TaskError> {
        self.too_large.set(self.too_large.get() || !Payload::fits_inline(&value));
        Ok(Payload::Inline(value))
    }
}

/// Tasks that a template made are held to what any task is held to.
fn checked(bound: Bound) -> Result<Bound, TaskError> {
    if let Bound::Tasks(window) = &bound
        && let Some(errors) = window.tasks.iter().find_map(|task| dag::check_bound(task).err())
    {
        return Err(TaskError::new("invalid", Refusal::Invalid { errors }.to_string()));
    }
    Ok(bound)
}

fn misfit() -> TaskError {
    TaskError::new("unresolved", "what was bound is not what was asked for")
}
