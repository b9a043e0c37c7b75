//! What is not kept any more: tasks and workflows go, their counts and the newest of their ids stay.

use super::effects::{Gate, ReplyTo};
use super::ledger::Ledger;
use super::ownership::latest;
use super::protocol::{LedgerReply, Refusal, TaskCounts};
use super::record::Record;
use super::state::State;
use crate::ids::{LogIndex, OperationId, TaskId, WorkflowId};
use crate::task::Durability;

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
        let runs = workflows.iter().filter_map(|id| self.workflows.get(id));
        runs.fold(counts, |counts, run| counts.plus(&run.placeholders()))
    }

    pub(super) fn prune(
        &mut self,
        index: LogIndex,
        (tasks, workflows): (&[TaskId], &[WorkflowId]),
        counts: &TaskCounts,
    ) {
        for id in tasks {
            self.order.remove(id);
            let removed = self.tasks.remove(id);
            self.remove_child(removed.as_ref().and_then(|task| task.spec.parent), *id);
            self.changes.removed.extend(removed);
        }
        for id in workflows {
            let parent = self.workflows.remove(id).and_then(|run| run.parent);
            self.remove_child(parent, *id);
        }
        if let Some(partial) = &mut self.partial {
            partial.forget(tasks, workflows);
        }
        // Whoever derived something from them looks again.
        self.changes.workflows.extend(workflows);
        self.pruned = self.pruned.plus(counts);
        if index == LogIndex(0) {
            self.pruned_memory = self.pruned_memory.plus(counts);
        }
        self.pruned_newest = tasks.iter().chain(workflows).copied().chain(self.pruned_newest).max();
    }
}
