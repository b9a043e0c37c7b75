//! A workflow's view fits a frame: what is too much of it is left out, and the view says so.

use std::cmp::Reverse;

use serde::Serialize;

use super::protocol::{StepView, WorkflowView};
use crate::limits;
use crate::payload::Payload;
use crate::task::TaskState;

/// More than a step without values takes in a message.
const STEP_BYTES: usize = 1_024;

/// Leaves out what is beyond [`limits::WORKFLOW_VIEW_BYTES_MAX`].
pub(super) fn fit(view: &mut WorkflowView) {
    let texts = |step: &StepView| step.name.len() + step.error.as_ref().map_or(0, |error| error.message.len());
    let outputs: usize = view.steps.iter().map(output_bytes).sum();
    let most = 2 * view.steps.iter().map(texts).sum::<usize>() + outputs + view.steps.len() * STEP_BYTES;
    // Half is for the specification, of which no more is known than that it was no larger when it came.
    if most > limits::WORKFLOW_VIEW_BYTES_MAX / 2 {
        fit_within(view, limits::WORKFLOW_VIEW_BYTES_MAX);
    }
}

fn fit_within(view: &mut WorkflowView, bytes_max: usize) {
    let mut excess = encoded_bytes(view).saturating_sub(bytes_max);
    if excess == 0 {
        return;
    }
    excess += limits::ERROR_BYTES_MAX;
    let outputs = leave_out_outputs(view, &mut excess);
    let steps = leave_out_steps(view, &mut excess);
    let id = view.summary.id;
    view.left_out = Some(format!(
        "the view would not fit a message without leaving out the outputs of {outputs} steps, and {steps} steps as a \
         whole: `nodectl task result TASK` shows an output, `nodectl task ls --workflow {id}` every task"
    ));
}

fn output_bytes(step: &StepView) -> usize {
    step.output.as_ref().map_or(0, Payload::inline_bytes)
}

/// The largest first. Returns how many.
fn leave_out_outputs(view: &mut WorkflowView, excess: &mut usize) -> usize {
    let mut steps: Vec<&mut StepView> = view.steps.iter_mut().filter(|step| step.output.is_some()).collect();
    steps.sort_by_key(|step| Reverse(output_bytes(step)));
    let mut left_out = 0;
    for step in steps {
        if *excess == 0 {
            break;
        }
        *excess = excess.saturating_sub(output_bytes(step));
        step.output = None;
        left_out += 1;
    }
    left_out
}

/// First those that are over and well, then those that have not begun; of each the earlier first. Returns how many.
fn leave_out_steps(view: &mut WorkflowView, excess: &mut usize) -> usize {
    let before = view.steps.len();
    for dull in [is_over_and_well, has_not_begun, |_: &StepView| true] {
        view.steps.retain(|step| {
            let goes = *excess > 0 && dull(step);
            if goes {
                *excess = excess.saturating_sub(encoded_bytes(step));
            }
            !goes
        });
    }
    before - view.steps.len()
}

fn is_over_and_well(step: &StepView) -> bool {
    matches!(step.state, TaskState::Succeeded | TaskState::Skipped)
}

fn has_not_begun(step: &StepView) -> bool {
    step.state == TaskState::Blocked
}

fn encoded_bytes<T: Serialize>(value: &T) -> usize {
    rmp_serde::to_vec_named(value).expect("a view has only string keys and plain values").len()
}
