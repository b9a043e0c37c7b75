//! However large a workflow is, its view fits a frame.

use super::workflows::{start, step, view, worker, workflow};
use super::*;
use crate::wire;

fn fits(view: &WorkflowView) -> bool {
    wire::encode(&LedgerReply::Workflow(Box::new(view.clone())), limits::FRAME_BYTES_MAX).is_ok()
}

/// A workflow of so many steps, all of them over, and each with an output of so many bytes.
fn large(steps: usize, output_bytes: usize) -> WorkflowView {
    let mut home = Bench::new();
    worker(&mut home);
    let id = start(&mut home, workflow(vec![step("a-step-with-a-name-of-its-own", &[])]));
    home.work_off(|_| success(&"x".repeat(output_bytes)));
    let mut view = view(&mut home, id);
    let spec = Arc::make_mut(&mut view.spec);
    spec.steps = vec![spec.steps[0].clone(); steps];
    view.steps = vec![view.steps[0].clone(); steps];
    view
}

#[test]
fn a_small_view_is_left_as_it_is() {
    let mut view = large(100, 10_000);
    let before = view.clone();
    view_size::fit(&mut view);
    assert_eq!(view, before);
}

#[test]
fn of_large_outputs_as_many_are_left_out_as_do_not_fit() {
    let mut view = large(300, 60_000);
    assert!(!fits(&view));
    view_size::fit(&mut view);
    assert!(fits(&view));
    let kept = view.steps.iter().filter(|step| step.output.is_some()).count();
    assert!((100..150).contains(&kept) && view.steps.len() == 300, "{kept} outputs kept");
    let words = view.left_out.unwrap();
    assert!(words.contains(&format!("the outputs of {} steps, and 0 steps", 300 - kept)), "{words}");
}

#[test]
fn of_ten_thousand_steps_that_would_not_fit_those_that_are_over_go_first() {
    let mut view = large(limits::WORKFLOW_STEPS_MAX, 400);
    assert!(!fits(&view));
    let failed = view.steps.len() / 2;
    view.steps[failed].state = TaskState::Failed;
    view.steps[failed].name = "the one that matters".to_owned();
    view.steps.iter_mut().for_each(|step| step.reason = Some("as long as a reason may be ".repeat(20)));
    view_size::fit(&mut view);
    assert!(fits(&view) && view.left_out.is_some());
    assert!(view.steps.iter().any(|step| step.name == "the one that matters"));
    assert!(view.steps.iter().all(|step| step.output.is_none()));
}

#[test]
fn ten_thousand_steps_with_small_outputs_fit_as_they_are() {
    let mut view = large(limits::WORKFLOW_STEPS_MAX, 2);
    view_size::fit(&mut view);
    assert!(fits(&view));
    assert_eq!((view.steps.len(), view.left_out), (limits::WORKFLOW_STEPS_MAX, None));
}
