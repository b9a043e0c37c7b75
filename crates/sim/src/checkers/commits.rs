//! I4, as clients and workers see it: one result per task, and an end is an end.

use std::collections::BTreeMap;

use magpie_core::ids::{TaskId, WorkflowId};
use magpie_core::invariant::InvariantId;
use magpie_core::lease::{CompleteAnswer, Fence};
use magpie_core::payload::{JsonText, Payload};
use magpie_core::queue::{TaskView, WorkflowState, WorkflowView};
use magpie_core::task::TaskState;

use super::{Verdict, require};

/// What was shown of each task's end.
#[derive(Debug, Default)]
pub struct Commits {
    ends: BTreeMap<TaskId, (TaskState, Option<Payload>)>,
    workflows: BTreeMap<WorkflowId, (WorkflowState, Option<JsonText>)>,
    committed: BTreeMap<TaskId, Fence>,
}

impl Commits {
    /// A client read a task.
    pub fn invariant_two_reads_never_show_two_ends(&mut self, view: &TaskView) -> Verdict {
        let shown = (view.state, view.output.clone());
        let Some(before) = self.ends.get(&view.id) else {
            if view.state.is_terminal() {
                self.ends.insert(view.id, shown);
            }
            return Ok(());
        };
        require(InvariantId::I4, "two_reads_never_show_two_ends", *before == shown, || {
            format!("{} was shown as {before:?} and then as {shown:?}", view.id)
        })
    }

    /// A home answered an outcome.
    pub fn invariant_at_most_one_outcome_is_committed(&mut self, fence: Fence, answer: CompleteAnswer) -> Verdict {
        if answer != CompleteAnswer::Committed {
            return Ok(());
        }
        let first = *self.committed.entry(fence.task).or_insert(fence);
        require(InvariantId::I4, "at_most_one_outcome_is_committed", first == fence, || {
            format!("{} was committed in epoch {} and in {}", fence.task, first.epoch, fence.epoch)
        })
    }

    /// A client read a workflow.
    pub fn invariant_two_reads_never_show_two_ends_of_a_workflow(&mut self, view: &WorkflowView) -> Verdict {
        let shown = (view.summary.state, view.outputs.clone());
        let Some(before) = self.workflows.get(&view.summary.id) else {
            if view.summary.state.is_terminal() {
                self.workflows.insert(view.summary.id, shown);
            }
            return Ok(());
        };
        require(InvariantId::I4, "two_reads_never_show_two_ends_of_a_workflow", *before == shown, || {
            format!("{} was shown as {before:?} and then as {shown:?}", view.summary.id)
        })
    }

    /// A client saw a task in a list.
    pub fn invariant_an_end_stays(&self, task: TaskId, state: TaskState) -> Verdict {
        let before = self.ends.get(&task).map(|(state, _)| *state);
        require(InvariantId::I4, "an_end_stays", before.is_none_or(|before| before == state), || {
            format!("{task} was shown as {before:?} and is listed as {state}")
        })
    }
}
