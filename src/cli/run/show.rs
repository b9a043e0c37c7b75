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
        ("steps over", format!("{} of {}", view.progress.steps_over, view.progress.steps)),
        ("current", names(&view.current, " ")),
        ("critical path", names(&view.critical_path, " -> ")),
        ("retries", view.retries.to_string()),
    ]);
    text += &format!("\n{}", steps(&view.steps));
    if view.steps.iter().any(|step| step.compensation.is_some()) {
        text += &format!("\n{}", undone(&view.steps));
    }
    if let Some(left_out) = &view.left_out {
        text += &format!("\nnot shown: {left_out}\n");
    }
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
            human::or_dash(step.used.cpu_us.map(human::seconds)),
            workers(step),
            step.error.as_ref().map_or_else(|| human::or_dash(step.reason.as_ref()), ToString::to_string),
        ]
    };
    table::rows(["STEP", "STATE", "DONE", "ATTEMPTS", "RAN", "CPU", "WORKERS", "WHY"], steps.iter().map(row))
}

/// Of a long list, the first names.
fn names(names: &[String], between: &str) -> String {
    const NAMES_MAX: usize = 12;
    let mut shown: Vec<&str> = names.iter().take(NAMES_MAX).map(String::as_str).collect();
    if names.len() > NAMES_MAX {
        shown.push("...");
    }
    if shown.is_empty() { "-".to_owned() } else { shown.join(between) }
}

/// What was undone, or is going to be.
fn undone(steps: &[StepView]) -> String {
    let row = |step: &StepView| {
        let undo = step.compensation.as_ref()?;
        Some([
            step.name.clone(),
            undo.state.to_string(),
            undo.attempts.to_string(),
            human::or_dash(undo.error.as_ref()),
        ])
    };
    table::rows(["UNDOES", "STATE", "ATTEMPTS", "WHY"], steps.iter().filter_map(row))
}

fn workers(step: &StepView) -> String {
    let told: Vec<String> =
        step.workers.iter().map(|(peer, tasks)| format!("{}:{tasks}", human::short_peer(peer))).collect();
    if let Some(child) = step.child {
        return format!("workflow {child}");
    }
    if told.is_empty() { human::or_dash(step.worker.as_ref().map(human::short_peer)) } else { told.join(" ") }
}
