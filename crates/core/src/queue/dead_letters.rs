//! The dead-letter queue: tasks whose attempts are spent, until they are retried or removed.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::effects::{Gate, ReplyTo};
use super::ledger::Ledger;
use super::operations::Done;
use super::ownership::latest;
use super::protocol::{LedgerReply, Refusal, TaskView};
use super::submit::{came_before, reused};
use super::task_entry::{StepLink, Task};
use crate::ids::{OperationId, TaskId, WorkflowId};
use crate::limits;
use crate::task::{TaskError, TaskKind, TaskSpec, TaskState};
use crate::time::Wall;

/// Which dead tasks are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeadFilter {
    pub namespace: Option<String>,
    /// Dead for this long, by the home's clock.
    pub older_than_ms: Option<u64>,
}

/// A line of the dead-letter queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    pub id: TaskId,
    pub kind: TaskKind,
    pub namespace: String,
    /// Attempts that started.
    pub attempts: u32,
    /// The last one.
    pub error: Option<TaskError>,
    pub dead_at: Wall,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<WorkflowId>,
}

/// A dead task with what it takes to find out why, and to decide what to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetterView {
    /// With its last errors and the end of its log.
    pub task: TaskView,
    /// With its input.
    pub spec: Arc<TaskSpec>,
}

impl Ledger {
    pub(super) fn list_dead(&mut self, filter: &DeadFilter, cursor: Option<TaskId>, limit: usize, reply: ReplyTo) {
        let limit = limit.clamp(1, limits::LIST_LEN_MAX);
        let from = cursor.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let after = self.dead.range((from, std::ops::Bound::Unbounded));
        let shown = |task: &&Task| self.matches_dead(task, filter) && !self.withholds(task.durability(), task.index);
        let matching = after.filter_map(|id| self.state.tasks.get(id)).filter(shown);
        let mut page: Vec<&Task> = matching.take(limit + 1).collect();
        let more = page.len() > limit;
        page.truncate(limit);
        let gate = page.iter().fold(Gate::Open, |gate, task| latest(gate, self.gate_of_read(task.id)));
        let next_cursor = page.last().filter(|_| more).map(|task| task.id);
        let items = page.into_iter().map(letter).collect();
        self.reply(gate, reply, LedgerReply::DeadLetters { items, next_cursor });
    }

    /// Whether somebody is to decide about it: not once it was retried, or its step runs in other tasks.
    pub(super) fn is_dead_letter(&self, task: &Task) -> bool {
        let run_of = |link: &StepLink| self.state.workflows.get(&link.workflow);
        let is_replaced = |link: StepLink| run_of(&link).is_some_and(|run| !run.is_done_by(link, task.id));
        task.state == TaskState::Dead && task.kin.retried_by.is_none() && !task.kin.step.is_some_and(is_replaced)
    }

    /// After a retry of its workflow.
    pub(super) fn forget_replaced(&mut self, id: &TaskId) {
        if self.state.tasks.get(id).is_some_and(|task| !self.is_dead_letter(task)) {
            self.dead.remove(id);
        }
    }

    fn matches_dead(&self, task: &Task, filter: &DeadFilter) -> bool {
        let age_ms = self.now.wall_ms.saturating_sub(task.finished.unwrap_or_default().0);
        filter.namespace.as_ref().is_none_or(|namespace| task.spec.namespace == *namespace)
            && filter.older_than_ms.is_none_or(|older_than_ms| age_ms >= older_than_ms)
    }

    pub(super) fn show_dead(&mut self, id: TaskId, reply: ReplyTo) {
        let Some(task) = self.state.tasks.get(&id) else { return self.refuse_missing(reply, id) };
        let gate = self.gate_of_read(id);
        let answer = match not_dead(task) {
            Some(refusal) => LedgerReply::Refused(refusal),
            None => {
                let view = DeadLetterView { task: self.task_view(task, true), spec: task.whole_spec() };
                LedgerReply::DeadLetter(Box::new(view))
            }
        };
        self.reply(gate, reply, answer);
    }

    pub(super) fn purge_dead(&mut self, operation: OperationId, ids: &[TaskId], reply: ReplyTo) {
        if ids.is_empty() || ids.len() > limits::SUBMIT_LEN_MAX {
            let fix = format!("name 1 to {}", limits::SUBMIT_LEN_MAX);
            return self.refuse(reply, Refusal::invalid("/ids", format!("{} tasks in one purge", ids.len()), fix));
        }
        let done = self.operations.find(&operation);
        if done.as_ref().is_some_and(|done| *done != Done::Purged) {
            return self.refuse(reply, reused(operation));
        }
        // What this operation removed is not missing to it.
        let removed = |id: &TaskId| done.is_some() && !self.state.tasks.contains_key(id);
        let answer = |id: &TaskId| {
            // A replay removes nothing that was refused when the operation came first.
            let late = || done.is_some().then(|| came_before(operation));
            if removed(id) { None } else { self.why_not_purge(*id).or_else(late) }
        };
        let answers: Vec<Option<Refusal>> = ids.iter().map(answer).collect();
        let refused = |id: &TaskId| self.gate_of_read(*id);
        let gate = ids.iter().map(refused).fold(Gate::Open, latest);
        let granted = ids.iter().zip(&answers).filter(|(id, answer)| answer.is_none() && !removed(id));
        let mut going: Vec<TaskId> = granted.map(|(id, _)| *id).collect();
        going.sort_unstable();
        going.dedup();
        let gate = latest(gate, self.commit_pruned(Some(operation), going, Vec::new()));
        let gate = if done.is_some() { latest(gate, self.gate_of_all()) } else { gate };
        self.reply(gate, reply, LedgerReply::Purged { answers });
    }

    fn why_not_purge(&self, id: TaskId) -> Option<Refusal> {
        let Some(task) = self.state.tasks.get(&id) else { return Some(self.missing(id)) };
        let running = task.kin.step.map(|link| link.workflow).filter(|workflow| self.workflow_is_running(workflow));
        let needed = |workflow| Refusal::WrongState { id, why: format!("belongs to {workflow}, which is running") };
        not_dead(task).or_else(|| running.map(needed))
    }
}

fn not_dead(task: &Task) -> Option<Refusal> {
    let why = || format!("is {}: only dead tasks stand in the dead-letter queue", task.state);
    (task.state != TaskState::Dead).then(|| Refusal::WrongState { id: task.id, why: why() })
}

fn letter(task: &Task) -> DeadLetter {
    DeadLetter {
        id: task.id,
        kind: task.spec.kind,
        namespace: task.spec.namespace.clone(),
        attempts: task.attempts,
        error: task.past.error.clone(),
        dead_at: task.finished.unwrap_or_default(),
        workflow: task.kin.step.map(|link| link.workflow),
    }
}
