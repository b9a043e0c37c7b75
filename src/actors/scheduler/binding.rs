//! Loads the outputs that a step refers to, and makes its tasks.

use std::collections::BTreeMap;
use std::sync::Arc;

use magpie_core::dag::{self, BoundTask, Scope, StepSpec, WorkflowSpec};
use magpie_core::limits;
use magpie_core::payload::{JsonText, Payload};
use magpie_core::queue::{BoundWindow, StepOutputs};
use magpie_core::task::{TaskError, TaskKind, TaskSpec};

use crate::store::blobs::Blobs;

/// Makes the tasks `from ..` of a step, one window of them.
pub fn bind_step(
    blobs: &Blobs,
    spec: &WorkflowSpec,
    step: u32,
    from: u32,
    outputs: &BTreeMap<String, StepOutputs>,
) -> Result<BoundWindow, TaskError> {
    let step = &spec.steps[step as usize];
    let outputs = load(blobs, outputs)?;
    let scope = Scope { input: &spec.input, outputs: &outputs };
    let window = from as usize..from as usize + limits::FOR_EACH_WINDOW_LEN_MAX;
    let bound =
        dag::bind_window(step, &scope, window).map_err(|error| TaskError::new("unresolved", error.to_string()))?;
    let tasks: Result<Vec<Arc<TaskSpec>>, TaskError> =
        bound.tasks.into_iter().map(|task| make_task(blobs, spec, step, task)).collect();
    Ok(BoundWindow { total: bound.items as u32, tasks: tasks? })
}

/// The workflow's outputs as one JSON object.
pub fn bind_outputs(
    blobs: &Blobs,
    spec: &WorkflowSpec,
    outputs: &BTreeMap<String, StepOutputs>,
) -> Result<JsonText, TaskError> {
    let outputs = load(blobs, outputs)?;
    let scope = Scope { input: &spec.input, outputs: &outputs };
    let bound = dag::outputs(spec, &scope).map_err(|error| TaskError::new("unresolved", error.to_string()))?;
    let fields: Vec<String> = bound
        .iter()
        .map(|(name, value)| format!("{}:{}", serde_json::Value::from(name.as_str()), value.as_str()))
        .collect();
    let text = format!("{{{}}}", fields.join(","));
    JsonText::parse(&text).map_err(|error| TaskError::new("unresolved", format!("the outputs are not JSON: {error}")))
}

fn load(blobs: &Blobs, outputs: &BTreeMap<String, StepOutputs>) -> Result<BTreeMap<String, JsonText>, TaskError> {
    let load_one = |(name, outputs): (&String, &StepOutputs)| {
        let texts: Result<Vec<String>, TaskError> =
            outputs.payloads.iter().map(|payload| text_of(blobs, name, payload)).collect();
        let texts = texts?;
        let text =
            if outputs.each { format!("[{}]", texts.join(",")) } else { texts.into_iter().next().unwrap_or_default() };
        let parsed = JsonText::parse(&text);
        parsed.map(|text| (name.clone(), text)).map_err(|error| unreadable(name, error.to_string()))
    };
    outputs.iter().map(load_one).collect()
}

fn text_of(blobs: &Blobs, step: &str, payload: &Payload) -> Result<String, TaskError> {
    match payload {
        Payload::Inline(text) => Ok(text.as_str().to_owned()),
        Payload::Blob(blob) => {
            let bytes = blobs
                .read(blob.cid, limits::BINDING_BYTES_MAX as u64)
                .map_err(|error| unreadable(step, error.to_string()))?;
            let bytes = bytes.ok_or_else(|| unreadable(step, format!("blob {} is missing", blob.cid)))?;
            String::from_utf8(bytes).map_err(|error| unreadable(step, error.to_string()))
        }
    }
}

fn unreadable(step: &str, why: String) -> TaskError {
    TaskError::new("unreadable_output", format!("the output of step {step}: {why}"))
}

fn make_task(
    blobs: &Blobs,
    spec: &WorkflowSpec,
    step: &StepSpec,
    bound: BoundTask,
) -> Result<Arc<TaskSpec>, TaskError> {
    let mut task = spec.task(step);
    if step.kind == TaskKind::Workflow {
        let child = dag::child(spec, step, &bound.input).map_err(|problem| TaskError::new("unresolved", problem))?;
        task.workflow = Some(Arc::new(child));
        return Ok(Arc::new(task));
    }
    task.input = place(blobs, bound.input)?;
    task.run = bound.run;
    let needs = bound.needs.into_iter().map(|(name, value)| Ok((name, place(blobs, value)?)));
    task.needs = needs.collect::<Result<BTreeMap<String, Payload>, TaskError>>()?;
    Ok(Arc::new(task))
}

/// Inline up to 64 KiB, above that a blob, fsynced before anything names it.
fn place(blobs: &Blobs, value: JsonText) -> Result<Payload, TaskError> {
    if Payload::fits_inline(&value) {
        return Ok(Payload::Inline(value));
    }
    let stored = blobs.put(value.as_str().as_bytes());
    stored.map(Payload::Blob).map_err(|error| TaskError::new("disk", error.to_string()))
}
