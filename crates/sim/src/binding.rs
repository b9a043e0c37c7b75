//! What the scheduler does for a ledger: references of a step become tasks. All values stand inline here.

use std::collections::BTreeMap;
use std::sync::Arc;

use magpie_core::dag::{self, Scope, WorkflowSpec};
use magpie_core::limits;
use magpie_core::payload::{JsonText, Payload};
use magpie_core::queue::{BoundWindow, StepOutputs};
use magpie_core::task::{TaskError, TaskKind, TaskSpec};

fn unresolved(error: impl std::fmt::Display) -> TaskError {
    TaskError::new("unresolved", error.to_string())
}

/// # Errors
/// If a reference has no value.
pub fn bind_step(
    spec: &WorkflowSpec,
    step: u32,
    from: u32,
    outputs: &BTreeMap<String, StepOutputs>,
) -> Result<BoundWindow, TaskError> {
    let step = &spec.steps[step as usize];
    let outputs = texts(outputs)?;
    let scope = Scope { input: &spec.input, outputs: &outputs };
    let window = from as usize..from as usize + limits::FOR_EACH_WINDOW_LEN_MAX;
    let bound = dag::bind_window(step, &scope, window).map_err(unresolved)?;
    let tasks = bound.tasks.into_iter().map(|task| {
        if step.kind == TaskKind::Workflow {
            let child = dag::child(spec, step, &task.input).map_err(unresolved)?;
            return Ok(Arc::new(TaskSpec { workflow: Some(Arc::new(child)), ..spec.task(step) }));
        }
        let needs = task.needs.into_iter().map(|(name, value)| (name, Payload::Inline(value))).collect();
        Ok(Arc::new(TaskSpec { input: Payload::Inline(task.input), run: task.run, needs, ..spec.task(step) }))
    });
    Ok(BoundWindow { total: bound.items as u32, tasks: tasks.collect::<Result<_, TaskError>>()? })
}

/// # Errors
/// If a reference has no value.
pub fn bind_outputs(spec: &WorkflowSpec, outputs: &BTreeMap<String, StepOutputs>) -> Result<JsonText, TaskError> {
    let outputs = texts(outputs)?;
    let bound = dag::outputs(spec, &Scope { input: &spec.input, outputs: &outputs }).map_err(unresolved)?;
    let fields: Vec<String> = bound.iter().map(|(name, value)| format!("{name:?}:{}", value.as_str())).collect();
    JsonText::parse(&format!("{{{}}}", fields.join(","))).map_err(unresolved)
}

fn texts(outputs: &BTreeMap<String, StepOutputs>) -> Result<BTreeMap<String, JsonText>, TaskError> {
    let text = |outputs: &StepOutputs| {
        let texts: Vec<&str> = outputs
            .payloads
            .iter()
            .filter_map(|payload| match payload {
                Payload::Inline(text) => Some(text.as_str()),
                Payload::Blob(_) => None,
            })
            .collect();
        if outputs.each { format!("[{}]", texts.join(",")) } else { texts.concat() }
    };
    let parsed = |(name, outputs): (&String, &StepOutputs)| {
        JsonText::parse(&text(outputs)).map(|text| (name.clone(), text)).map_err(unresolved)
    };
    outputs.iter().map(parsed).collect()
}
