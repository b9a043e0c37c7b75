//! I4, as clients and workers see it: one result per task, and an end is an end.

use std::collections::BTreeMap;

use magpie_core::ids::{TaskId, WorkflowId};
use magpie_core::invariant::InvariantId;
use magpie_core::lease::{CompleteAnswer, Fence};
use magpie_core::payload::{JsonText, Payload};
use magpie_core::queue::{TaskView, WorkflowState, WorkflowView};
use magpie_core::task::TaskState;

use super::{Verdict, require};

/// What a read showed, and when it arrived.
#[derive(Debug, Clone, PartialEq)]
struct Seen<State, Output> {
    at_ms: u64,
    state: State,
    output: Option<Output>,
}

/// What was shown of each end. Answers overtake each other: only what was asked after an end was seen must show it.
#[derive(Debug, Default)]
pub struct Commits {
    ends: BTreeMap<TaskId, Seen<TaskState, Payload>>,
    /// By workflow and how often it was retried: a retry is a beginning.
    workflows: BTreeMap<(WorkflowId, u32), Seen<WorkflowState, JsonText>>,
    committed: BTreeMap<TaskId, Fence>,
}

impl Commits {
    /// A client read a task.
    pub fn invariant_two_reads_never_show_two_ends(&mut self, now_ms: u64, asked_ms: u64, view: &TaskView) -> Verdict {
        let shown = Seen { at_ms: now_ms, state: view.state, output: view.output.clone() };
        let terminal = view.state.is_terminal();
        let before = self.ends.get(&view.id);
        let holds = before.is_none_or(|before| agrees(before, &shown, asked_ms, terminal));
        let verdict = require(InvariantId::I4, "two_reads_never_show_two_ends", holds, || {
            format!("{} was shown as {before:?} and then as {shown:?}", view.id)
        });
        if terminal {
            self.ends.entry(view.id).or_insert(shown);
        }
        verdict
    }

    /// A client read a workflow.
    pub fn invariant_two_reads_never_show_two_ends_of_a_workflow(
        &mut self,
        now_ms: u64,
        asked_ms: u64,
        view: &WorkflowView,
    ) -> Verdict {
        let shown = Seen { at_ms: now_ms, state: view.summary.state, output: view.outputs.clone() };
        let terminal = view.summary.state.is_terminal();
        let run = (view.summary.id, view.retries);
        let before = self.workflows.get(&run);
        let holds = before.is_none_or(|before| agrees(before, &shown, asked_ms, terminal));
        let verdict = require(InvariantId::I4, "two_reads_never_show_two_ends_of_a_workflow", holds, || {
            format!("{} was shown as {before:?} and then as {shown:?}", view.summary.id)
        });
        if terminal {
            self.workflows.entry(run).or_insert(shown);
        }
        verdict
    }

    /// A client saw a task in a list.
    pub fn invariant_an_end_stays(&self, asked_ms: u64, task: TaskId, state: TaskState) -> Verdict {
        let before = self.ends.get(&task);
        let stale = |before: &Seen<_, _>| !state.is_terminal() && asked_ms <= before.at_ms;
        let holds = before.is_none_or(|before| before.state == state || stale(before));
        require(InvariantId::I4, "an_end_stays", holds, || {
            format!("{task} was shown as {before:?} and is listed as {state}")
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
}

fn agrees<State: PartialEq, Output: PartialEq>(
    before: &Seen<State, Output>,
    shown: &Seen<State, Output>,
    asked_ms: u64,
    terminal: bool,
) -> bool {
    let same = before.state == shown.state && before.output == shown.output;
    same || (!terminal && asked_ms <= before.at_ms)
}
