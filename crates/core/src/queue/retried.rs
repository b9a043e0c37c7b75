//! Ended tasks that are run again by hand: an end stays, so each gets a new task in its place, and only once.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::effects::{Gate, ReplyTo};
use super::ledger::Ledger;
use super::operations::Done;
use super::ownership::latest;
use super::protocol::{LedgerReply, Refusal, SubmitAnswer};
use super::record::{ClockRoot, Record, RetriedTask};
use super::state::State;
use super::submit::{came_before, reused};
use super::task_entry::Task;
use crate::ids::{LogIndex, OperationId, TaskId};
use crate::limits;
use crate::task::{TaskSpec, TaskState};
use crate::time::Wall;

impl Ledger {
    /// That a task names its retry makes a replay, and a second retry under another operation, the same answer.
    pub(super) fn retry_tasks(&mut self, operation: OperationId, ids: &[TaskId], reply: ReplyTo) {
        if ids.is_empty() || ids.len() > limits::SUBMIT_LEN_MAX {
            let fix = format!("name 1 to {}", limits::SUBMIT_LEN_MAX);
            return self.refuse(reply, Refusal::invalid("/ids", format!("{} tasks in one retry", ids.len()), fix));
        }
        let done = self.operations.find(&operation);
        if done.as_ref().is_some_and(|done| *done != Done::Retried) {
            return self.refuse(reply, reused(operation));
        }
        if let (None, Err(refusal)) = (&done, self.check_draining()) {
            return self.refuse(reply, refusal);
        }
        let (at, clock_root) = (self.at(), self.clock_root);
        let mut planned: BTreeMap<TaskId, RetriedTask> = BTreeMap::new();
        let mut answers = Vec::with_capacity(ids.len());
        for (n, of) in ids.iter().enumerate() {
            let id = TaskId::derive(self.state.tag, at.0, operation, n as u32);
            let again = planned.get(of).map(|earlier| Ok(earlier.id));
            let answer = again.unwrap_or_else(|| self.plan_retry(*of, id, at, &mut planned));
            // A replay retries nothing that was refused when the operation came first.
            let late = done.is_some() && planned.remove(of).is_some();
            let answer = if late { Err(came_before(operation)) } else { answer };
            answers.push(answer.map_or_else(SubmitAnswer::Refused, |id| SubmitAnswer::Accepted { id }));
        }
        let tasks: Vec<RetriedTask> = planned.into_values().collect();
        if !tasks.is_empty() {
            self.operations.keep(at, operation, Done::Retried);
            let record = |tasks| Record::Retried { at, operation, clock_root, tasks };
            self.commit_by_class(tasks, |retried| retried.of, record);
            for of in ids {
                self.dead.remove(of);
            }
        }
        let gate = ids.iter().zip(&answers).fold(Gate::Open, |gate, (of, answer)| {
            let gate = latest(gate, self.gate_of_read(*of));
            if let SubmitAnswer::Accepted { id } = answer { latest(gate, self.gate_of_read(*id)) } else { gate }
        });
        self.reply(gate, reply, LedgerReply::Retried { answers });
    }

    /// What a reader of a task waits for.
    pub(super) fn gate_of_read(&self, id: TaskId) -> Gate {
        let task = self.state.tasks.get(&id);
        task.map_or_else(|| self.gate_of_all(), |task| self.late_gate(task.durability(), task.index))
    }

    pub(super) fn plan_retry(
        &self,
        of: TaskId,
        id: TaskId,
        at: Wall,
        planned: &mut BTreeMap<TaskId, RetriedTask>,
    ) -> Result<TaskId, Refusal> {
        let task = self.state.tasks.get(&of).ok_or_else(|| self.missing(of))?;
        if let Some(retried_by) = task.kin.retried_by {
            return Ok(retried_by);
        }
        if let Some(why) = why_not(task) {
            return Err(Refusal::WrongState { id: of, why: format!("cannot be retried: {why}") });
        }
        self.check_live(planned.len() + 1)?;
        planned.insert(of, RetriedTask { of, id, owner: task.owner.clone(), spec: spec_again(task, at) });
        Ok(id)
    }
}

/// Why an ended task may not run again; `None` if it may.
fn why_not(task: &Task) -> Option<String> {
    match task.state {
        TaskState::Failed | TaskState::Dead | TaskState::Cancelled => task.kin.step.map(|link| {
            format!("it is a step of {0}: retry the workflow, with `nodectl workflow retry {0}`", link.workflow)
        }),
        TaskState::Succeeded => Some("it succeeded, and its result stays; submit a new task".to_owned()),
        TaskState::Skipped => Some("it was skipped, so there is nothing to run".to_owned()),
        TaskState::Blocked | TaskState::Delayed | TaskState::Ready | TaskState::Leased | TaskState::Running => {
            Some(format!("it is {} and goes on by itself; cancel it first", task.state))
        }
    }
}

/// The same specification, in the priority that the task had last, without times that have passed.
fn spec_again(task: &Task, at: Wall) -> Arc<TaskSpec> {
    let mut spec = task.whole_spec();
    let passed = |time: Option<Wall>| time.is_some_and(|time| time <= at);
    if task.priority != spec.priority || passed(spec.not_before) || passed(spec.deadline) {
        let changed = Arc::make_mut(&mut spec);
        changed.priority = task.priority;
        changed.not_before = changed.not_before.filter(|time| *time > at);
        changed.deadline = changed.deadline.filter(|time| *time > at);
    }
    spec
}

impl State {
    pub(super) fn retry(&mut self, index: LogIndex, at: Wall, clock_root: ClockRoot, tasks: &[RetriedTask]) {
        for RetriedTask { of, id, owner, spec } in tasks {
            if let Some(task) = self.tasks.get_mut(of) {
                task.kin.retried_by = Some(*id);
                task.index = task.index.max(index);
                self.changes.touched.push(*of);
            }
            let mut task = Task::new(*id, spec.clone(), owner.clone(), clock_root, at);
            task.kin.retry_of = Some(*of);
            self.add_child(spec.parent, *id);
            self.insert(index, task);
        }
    }
}
