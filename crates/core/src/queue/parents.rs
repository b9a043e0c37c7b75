//! Work that a running attempt submitted: it is cancelled with the task that it was submitted for.

use super::ledger::Ledger;
use super::protocol::{Refusal, WorkflowState};
use super::state::State;
use crate::ids::{LogIndex, TaskId};
use crate::limits;
use crate::task::{Durability, TaskError, TaskState};
use crate::time::Wall;

impl State {
    /// Remembers that `child` is to be cancelled with `parent`, while that is not over.
    pub(super) fn add_child(&mut self, parent: Option<TaskId>, child: TaskId) {
        let live = |id: &TaskId| self.tasks.get(id).is_some_and(|task| !task.state.is_terminal());
        if let Some(parent) = parent.filter(live) {
            self.children.entry(parent).or_default().insert(child);
        }
    }

    /// A child that is not kept any more is none of its parent's.
    pub(super) fn remove_child(&mut self, parent: Option<TaskId>, child: TaskId) {
        let Some((parent, children)) = parent.and_then(|id| Some((id, self.children.get_mut(&id)?))) else { return };
        children.remove(&child);
        if children.is_empty() {
            self.children.remove(&parent);
        }
    }

    /// The end of a parent: if it was cancelled, so are its children, in the same record; else they go on by themselves.
    pub(super) fn parent_ended(&mut self, index: LogIndex, at: Wall, parent: TaskId, end: TaskState) {
        let children = self.children.remove(&parent).unwrap_or_default();
        for child in children.into_iter().filter(|_| end == TaskState::Cancelled) {
            let error = TaskError::new("parent_cancelled", format!("{parent}, which submitted it, is cancelled"));
            if self.workflows.contains_key(&child) {
                self.stop_workflow(index, at, child, (WorkflowState::Cancelled, error), false);
            } else {
                self.change(index, at, child, |task| task.fail_with(at, TaskState::Cancelled, error));
            }
        }
    }

    /// The task that a task or a workflow was submitted or started for.
    fn parent_of(&self, id: TaskId) -> Option<TaskId> {
        if let Some(run) = self.workflows.get(&id) {
            return run.parent;
        }
        let task = self.tasks.get(&id)?;
        let of_workflow = || self.workflows.get(&task.kin.step?.workflow)?.parent;
        task.spec.parent.or_else(of_workflow)
    }
}

impl Ledger {
    /// Whether work of this class may be submitted as a child of `parent`.
    pub(super) fn check_parent(&self, parent: Option<TaskId>, durability: Durability) -> Result<(), Refusal> {
        let Some(parent) = parent else { return Ok(()) };
        if parent.ledger != self.state.tag {
            return Err(Refusal::NotHome { id: parent, home: None });
        }
        let fix = "submit it without a parent: unset MAGPIE_TASK_ID";
        let Some(task) = self.state.tasks.get(&parent) else {
            return Err(Refusal::invalid("/parent", format!("the task {parent} is not known at its home"), fix));
        };
        if task.state == TaskState::Cancelled {
            return Err(Refusal::AlreadyTerminal { id: parent, state: task.state });
        }
        // The end of a task of class `memory` is not written, and so could not end what is.
        if task.durability() == Durability::Memory && durability != Durability::Memory {
            let problem = format!("its parent {parent} is of class memory, and it is not");
            return Err(Refusal::invalid("/durability", problem, format!("write memory, or {fix}")));
        }
        if self.state.children.get(&parent).is_some_and(|children| children.len() >= limits::CHILDREN_MAX) {
            return Err(self.too_many("children of one task"));
        }
        let ancestors = std::iter::successors(Some(parent), |id| self.state.parent_of(*id));
        if ancestors.take(limits::PARENTS_MAX + 1).count() > limits::PARENTS_MAX {
            let problem = format!("more than {} tasks that submitted each other", limits::PARENTS_MAX);
            return Err(Refusal::invalid("/parent", problem, fix));
        }
        Ok(())
    }
}
