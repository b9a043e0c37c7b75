//! What a home shows. An answer waits until what it shows is durable.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::effects::{Gate, ReplyTo};
use super::ledger::Ledger;
use super::ownership::latest;
use super::protocol::{LedgerReply, TaskView};
use super::stats::ShapeBacklog;
use super::task_entry::Task;
use crate::ids::{Epoch, TaskId, WorkflowId};
use crate::limits;
use crate::task::{TaskKind, TaskState};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskFilter {
    pub state: Option<TaskState>,
    pub kind: Option<TaskKind>,
    pub workflow: Option<WorkflowId>,
    pub namespace: Option<String>,
    pub labels: BTreeMap<String, String>,
}

impl Ledger {
    pub(super) fn get_task(&mut self, id: TaskId, reply: ReplyTo) {
        self.answer_task(id, reply);
    }

    pub(super) fn answer_task(&mut self, id: TaskId, to: ReplyTo) {
        let Some(task) = self.state.tasks.get(&id) else { return self.refuse_missing(to, id) };
        let view = self.task_view(task, true);
        let gate = self.late_gate(task.durability(), task.index);
        self.reply(gate, to, LedgerReply::Task(Box::new(view)));
    }

    pub(super) fn wait_task(&mut self, id: TaskId, timeout_ms: u64, reply: ReplyTo) {
        let waits = self.state.tasks.get(&id).is_some_and(|task| !task.state.is_terminal());
        if !waits || timeout_ms == 0 {
            return self.answer_task(id, reply);
        }
        self.wait_for(id, timeout_ms, reply);
    }

    pub(super) fn wait_attempt(&mut self, id: TaskId, after: Epoch, timeout_ms: u64, reply: ReplyTo) {
        let waits = self.state.tasks.get(&id).is_some_and(|task| {
            let has_begun = task.epoch > after && task.state != TaskState::Leased;
            !task.state.is_terminal() && !has_begun
        });
        if !waits || timeout_ms == 0 {
            return self.answer_task(id, reply);
        }
        if self.waiters.is_full() {
            return self.refuse(reply, self.too_many_waiters());
        }
        let until_ms = self.now.mono_ms + timeout_ms.min(limits::WAIT_MAX_MS);
        self.waiters.add_for_begin(id, reply, until_ms);
    }

    pub(super) fn wait_for(&mut self, target: TaskId, timeout_ms: u64, reply: ReplyTo) {
        if self.waiters.is_full() {
            return self.refuse(reply, self.too_many_waiters());
        }
        self.waiters.add(target, reply, self.now.mono_ms + timeout_ms.min(limits::WAIT_MAX_MS));
    }

    pub(super) fn list_tasks(&mut self, filter: &TaskFilter, cursor: Option<TaskId>, limit: usize, reply: ReplyTo) {
        let limit = limit.clamp(1, limits::LIST_LEN_MAX);
        let after = self
            .state
            .order
            .range((cursor.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded), std::ops::Bound::Unbounded));
        let shown = |task: &&Task| matches(task, filter) && !self.withholds(task.durability(), task.index);
        let matching = after.filter_map(|id| self.state.tasks.get(id)).filter(shown);
        let mut page: Vec<&Task> = matching.take(limit + 1).collect();
        let more = page.len() > limit;
        page.truncate(limit);
        let gate =
            page.iter().fold(Gate::Open, |gate, task| latest(gate, self.late_gate(task.durability(), task.index)));
        let next_cursor = page.last().filter(|_| more).map(|task| task.id);
        let items = page.into_iter().map(|task| self.task_view(task, false)).collect();
        self.reply(gate, reply, LedgerReply::Tasks { items, next_cursor });
    }

    pub(super) fn task_view(&self, task: &Task, whole: bool) -> TaskView {
        let step = task.kin.step.and_then(|link| {
            let run = self.state.workflows.get(&link.workflow)?;
            run.spec.steps.get(link.step as usize).map(|step| step.name.clone())
        });
        let stuck = whole
            && task.spec.kind.runs_at_workers()
            && task.state == TaskState::Ready
            && task.soft.ready.is_some_and(|(place, _)| self.ready.queues[place].fitting.is_empty());
        TaskView {
            id: task.id,
            kind: task.spec.kind,
            state: task.state,
            priority: task.priority,
            attempts: task.attempts,
            epoch: task.epoch,
            home: self.identity.home,
            worker: task.worker,
            namespace: task.spec.namespace.clone(),
            labels: task.spec.labels.clone(),
            durability: task.durability(),
            owner: task.owner.to_string(),
            workflow: task.kin.step.map(|link| link.workflow),
            step,
            retry_of: task.kin.retry_of,
            retried_by: task.kin.retried_by,
            child: task.kin.child,
            parent: task.spec.parent,
            created_at: task.created,
            started_at: task.started,
            finished_at: task.finished,
            due_at: (task.state == TaskState::Delayed).then_some(task.due),
            output: task.output.clone().filter(|_| whole),
            error: task.past.error.clone(),
            earlier_errors: if whole { task.past.earlier_errors.clone() } else { Vec::new() },
            log_tail: if whole { task.past.log_tail.clone() } else { String::new() },
            progress: task.progress().cloned(),
            checkpoint: task.checkpoint().cloned().filter(|_| whole),
            used: task.past.used,
            attempt_stopped_at: task.notes.as_ref().and_then(|notes| notes.stopped),
            unmet: if stuck { self.unmet_everywhere(&task.spec) } else { Vec::new() },
        }
    }

    /// What is ready here, by shape: what thieves look for.
    pub fn backlog(&self) -> Vec<ShapeBacklog> {
        let waiting = self.ready.busy();
        waiting.map(|(_, queue)| ShapeBacklog { shape: queue.shape.clone(), ready: queue.heap.len() as u64 }).collect()
    }
}

fn matches(task: &Task, filter: &TaskFilter) -> bool {
    filter.state.is_none_or(|state| task.state == state)
        && filter.kind.is_none_or(|kind| task.spec.kind == kind)
        && filter.namespace.as_ref().is_none_or(|namespace| task.spec.namespace == *namespace)
        && filter.workflow.is_none_or(|workflow| task.kin.step.is_some_and(|link| link.workflow == workflow))
        && filter.labels.iter().all(|(key, value)| task.spec.labels.get(key) == Some(value))
}
