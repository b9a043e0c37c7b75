//! A workflow for a person: a line per step, then what it put out.

use magpie_core::queue::{StepView, WorkflowView};
use magpie_core::task::TaskState;

use crate::cli::shapes::outputs;
use crate::cli::{human, output, table};

pub fn text(view: &WorkflowView) -> String {
    let (summary, now) = (&view.summary, human::now());
    let mut text = table::details([
        ("workflow", summary.id.to_string()),
        ("name", summary.name.clone()),
        ("state", summary.state.name().to_owned()),
        ("home", view.home.to_string()),
        ("created", format!("{} ({})", summary.created_at, human::ago(Some(summary.created_at), now))),
        ("took", human::took(Some(summary.created_at), summary.finished_at, now)),
    ]);
    text += &format!("\n{}", steps(&view.steps));
    if let Some(error) = &view.error {
        text += &format!("\nerror: {}\n", table::printable(&error.to_string()));
    }
    if view.outputs.is_some() {
        text += &format!("\noutputs: {}\n", output::json_pretty(&outputs(view)));
    }
    text
}

fn steps(steps: &[StepView]) -> String {
    let row = |step: &StepView| {
        [
            step.name.clone(),
            step.state.to_string(),
            format!("{}/{}", step.tasks.of(TaskState::Succeeded), step.tasks.total()),
            step.attempts.to_string(),
            human::duration(step.ran_ms),
            workers(step),
            human::or_dash(step.error.as_ref()),
        ]
    };
    table::rows(["STEP", "STATE", "DONE", "ATTEMPTS", "RAN", "WORKERS", "ERROR"], steps.iter().map(row))
}

fn workers(step: &StepView) -> String {
    let told: Vec<String> =
        step.workers.iter().map(|(peer, tasks)| format!("{}:{tasks}", human::short_peer(peer))).collect();
    if let Some(child) = step.child {
        return format!("workflow {child}");
    }
    if told.is_empty() { human::or_dash(step.worker.as_ref().map(human::short_peer)) } else { told.join(" ") }
}
