//! What is not kept any more: tasks and workflows go, their counts and the newest of their ids stay.

use super::effects::{Gate, ReplyTo};
use super::ledger::Ledger;
use super::ownership::latest;
use super::protocol::{LedgerReply, Refusal, TaskCounts};
use super::record::Record;
use super::state::State;
use crate::ids::{OperationId, TaskId, WorkflowId};
use crate::limits;
use crate::task::Durability;
use crate::time::Wall;

impl Ledger {
    /// Removes ended tasks and workflows, each durability class by a record of its own; `tasks` holds those of
    /// `workflows` too. Returns what an answer waits for.
    pub(super) fn commit_pruned(
        &mut self,
        operation: Option<OperationId>,
        tasks: Vec<TaskId>,
        workflows: Vec<WorkflowId>,
    ) -> Gate {
        let in_memory = |durability: Option<Durability>| durability == Some(Durability::Memory);
        let task_class = |id: &TaskId| self.state.tasks.get(id).map(|task| task.durability());
        let run_class = |id: &WorkflowId| self.state.workflows.get(id).map(|run| run.spec.durability);
        let tasks: (Vec<TaskId>, Vec<TaskId>) = tasks.into_iter().partition(|id| in_memory(task_class(id)));
        let runs: (Vec<WorkflowId>, Vec<WorkflowId>) = workflows.into_iter().partition(|id| in_memory(run_class(id)));
        let (at, mut gate) = (self.at(), Gate::Open);
        for (class, tasks, workflows) in [(Durability::Memory, tasks.0, runs.0), (Durability::Sync, tasks.1, runs.1)] {
            if tasks.is_empty() && workflows.is_empty() {
                continue;
            }
            let counts = self.state.ends_of(&tasks, &workflows);
            let record = Record::Pruned { at, operation, tasks, workflows, counts };
            self.operations.remember(&record);
            let index = self.commit(class, record);
            gate = latest(gate, self.late_gate(class, index));
        }
        gate
    }

    /// Says why an id is not here, once that is on the disk: after a crash it might be here again.
    pub(super) fn refuse_missing(&mut self, to: ReplyTo, id: TaskId) {
        self.reply(self.gate_of_all(), to, LedgerReply::Refused(self.missing(id)));
    }

    /// Why an id is not here.
    pub(super) fn missing(&self, id: TaskId) -> Refusal {
        match self.state.pruned_newest.filter(|newest| id.ledger == self.state.tag && id <= *newest) {
            Some(newest) => Refusal::Pruned { id, before: newest.made_at() },
            None => Refusal::NotFound { id },
        }
    }
}

impl State {
    /// The ends of tasks that are here, and of steps that ended without a task and stand for one.
    fn ends_of(&self, tasks: &[TaskId], workflows: &[WorkflowId]) -> TaskCounts {
        let mut counts = TaskCounts::default();
        tasks.iter().filter_map(|id| self.tasks.get(id)).for_each(|task| counts.add(task.state, 1));
        for run in workflows.iter().filter_map(|id| self.workflows.get(id)) {
            run.placeholders().for_each(|state| counts.add(state, 1));
        }
        counts
    }

    /// Whether a task was removed while its submission may still be sent again.
    pub(super) fn was_purged(&self, id: &TaskId) -> bool {
        self.purged.contains(id)
    }

    /// Keeps the young among the removed, until their submissions are forgotten.
    fn remember_purged(&mut self, at: Wall, tasks: &[TaskId]) {
        let forgotten = |id: &TaskId| id.made_at().0 + limits::OPERATION_TTL_MS < at.0;
        while self.purged.first().is_some_and(forgotten) {
            self.purged.pop_first();
        }
        self.purged.extend(tasks.iter().copied().filter(|id| !forgotten(id)));
    }

    pub(super) fn prune(&mut self, at: Wall, tasks: &[TaskId], workflows: &[WorkflowId], counts: &TaskCounts) {
        self.remember_purged(at, tasks);
        for id in tasks {
            self.order.remove(id);
            self.changes.removed.extend(self.tasks.remove(id));
        }
        for id in workflows {
            self.workflows.remove(id);
        }
        // Whoever derived something from them looks again.
        self.changes.workflows.extend(workflows);
        self.pruned = self.pruned.plus(counts);
        self.pruned_newest = tasks.iter().chain(workflows).copied().chain(self.pruned_newest).max();
    }
}
