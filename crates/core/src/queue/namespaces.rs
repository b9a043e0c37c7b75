//! Whose tasks, workflows and schedules are, and how many tasks each namespace has: for doors that keep callers apart.

use std::collections::BTreeMap;

use super::effects::{Gate, ReplyTo};
use super::ledger::Ledger;
use super::ownership::latest;
use super::protocol::{LedgerReply, NamespaceCounts, TaskCounts, WorkflowState};
use super::task_entry::Task;
use super::usage::LiveTasks;
use crate::ids::TaskId;
use crate::limits;

/// The kept tasks of each namespace by state, and those of each owner that are not over. One without any takes no room.
#[derive(Debug, Clone, Default)]
pub(super) struct Namespaces {
    counts: BTreeMap<String, TaskCounts>,
    pub live: LiveTasks,
}

impl Namespaces {
    /// Brings the count of a task in line with its state.
    pub fn count(&mut self, task: &mut Task) {
        let counted = task.soft.tallied.replace(task.state);
        if counted == Some(task.state) {
            return;
        }
        self.live.moved(task, counted, Some(task.state));
        let counts = match self.counts.get_mut(&task.spec.namespace) {
            Some(counts) => counts,
            None => self.counts.entry(task.spec.namespace.clone()).or_default(),
        };
        match counted {
            Some(from) => counts.shift(from, task.state),
            None => counts.add(task.state, 1),
        }
    }

    /// A task is not kept any more.
    pub fn removed(&mut self, task: &Task) {
        self.live.moved(task, task.soft.tallied, None);
        let (Some(state), Some(counts)) = (task.soft.tallied, self.counts.get_mut(&task.spec.namespace)) else {
            return;
        };
        counts.take(state);
        if counts.total() == 0 {
            self.counts.remove(&task.spec.namespace);
        }
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    fn of(&self, namespace: &str) -> TaskCounts {
        self.counts.get(namespace).copied().unwrap_or_default()
    }
}

impl Ledger {
    /// Of what is not on the disk yet nothing is said before it is.
    pub(super) fn namespaces_of(&mut self, ids: &[TaskId], reply: ReplyTo) {
        let found = ids.iter().take(limits::NAMESPACES_ASKED_MAX).map(|id| self.namespace_of(*id));
        let (of, gates): (Vec<_>, Vec<_>) = found.map(|found| found.unzip()).unzip();
        let gate = gates.into_iter().flatten().fold(Gate::Open, latest);
        self.reply(gate, reply, LedgerReply::Namespaces { of });
    }

    fn namespace_of(&self, id: TaskId) -> Option<(String, Gate)> {
        if let Some(task) = self.state.tasks.get(&id) {
            return Some((task.spec.namespace.clone(), self.late_gate(task.durability(), task.index)));
        }
        if let Some(run) = self.state.workflows.get(&id) {
            return Some((run.spec.namespace.clone(), self.late_gate(run.spec.durability, run.index)));
        }
        let schedule = self.state.schedules.get(&id)?;
        Some((schedule.spec.namespace.clone(), self.gate_of_schedule(schedule)))
    }

    pub(super) fn count_namespace(&mut self, namespace: &str, reply: ReplyTo) {
        let runs = self.state.workflows.values();
        let running = runs.filter(|run| run.state == WorkflowState::Running && run.spec.namespace == namespace);
        let counted =
            NamespaceCounts { tasks: self.namespaces.of(namespace), workflows_running: running.count() as u64 };
        self.reply(self.gate_of_all(), reply, LedgerReply::NamespaceCounted(counted));
    }
}
