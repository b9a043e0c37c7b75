//! Fills in the part of a workflow that a home asks for; where large values lie, the shell knows.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::effects::{BindingPart, Bound, BoundWindow, StepOutputs};
use crate::dag::{self, BoundStep, BoundTask, Scope, StepEnd, StepSpec, WorkflowSpec};
use crate::limits;
use crate::payload::{JsonText, Payload};
use crate::task::{TaskError, TaskKind, TaskSpec};

/// Where the values of a workflow lie.
pub trait Values {
    /// The JSON text of a value that a step gave.
    ///
    /// # Errors
    /// In words, if it cannot be read.
    fn text_of(&self, payload: &Payload) -> Result<String, String>;

    /// Keeps a value for a task: inline, or as a blob that is on the disk.
    ///
    /// # Errors
    /// If it cannot be kept.
    fn place(&self, value: JsonText) -> Result<Payload, TaskError>;
}

/// Makes the tasks of a step, the task that undoes it, or the workflow's outputs.
///
/// # Errors
/// In words that name the step, if a reference has no value or a value cannot be read or kept.
pub fn bind(
    part: BindingPart,
    spec: &WorkflowSpec,
    steps: &BTreeMap<String, StepOutputs>,
    values: &impl Values,
) -> Result<Bound, TaskError> {
    let outputs = texts(steps, values)?;
    let end = |(name, step): (&String, &StepOutputs)| (name.clone(), StepEnd::new(step.state, step.error.as_ref()));
    let ends = steps.iter().map(end).collect();
    let scope = Scope { input: &spec.input, outputs: &outputs, ends: &ends };
    match part {
        BindingPart::Items { step, from } => bind_items(spec, &spec.steps[step as usize], from, &scope, values),
        BindingPart::Compensation { step } => {
            let step = &spec.steps[step as usize];
            let compensate = step.compensate.as_ref();
            let compensate = compensate.ok_or_else(|| TaskError::new("unresolved", "nothing undoes this step"))?;
            let bound = dag::bind_compensation(step, compensate, &scope).map_err(unresolved)?;
            let task = make_task(spec, &compensate.as_step(step), bound, values)?;
            Ok(Bound::Tasks(BoundWindow { total: 1, tasks: vec![task], skipped: Vec::new() }))
        }
        BindingPart::Outputs => bind_outputs(spec, &scope),
    }
}

fn unresolved(error: impl std::fmt::Display) -> TaskError {
    TaskError::new("unresolved", error.to_string())
}

fn bind_items(
    spec: &WorkflowSpec,
    step: &StepSpec,
    from: u32,
    scope: &Scope<'_>,
    values: &impl Values,
) -> Result<Bound, TaskError> {
    let window = from as usize..from as usize + limits::FOR_EACH_WINDOW_LEN_MAX;
    let bound = match dag::bind_window(step, scope, window).map_err(unresolved)? {
        BoundStep::Skipped => return Ok(Bound::Skipped),
        BoundStep::Runs(bound) => bound,
    };
    let (mut tasks, mut skipped) = (Vec::with_capacity(bound.tasks.len()), Vec::new());
    // A skipped item is a task that never runs: all of them are one specification.
    let never_runs = Arc::new(spec.task(step));
    for (place, task) in (0..).zip(bound.tasks) {
        match task {
            Some(task) => tasks.push(make_task(spec, step, task, values)?),
            None => {
                tasks.push(never_runs.clone());
                skipped.push(place);
            }
        }
    }
    Ok(Bound::Tasks(BoundWindow { total: bound.items as u32, tasks, skipped }))
}

/// The workflow's outputs as one JSON object.
fn bind_outputs(spec: &WorkflowSpec, scope: &Scope<'_>) -> Result<Bound, TaskError> {
    let bound = dag::outputs(spec, scope).map_err(unresolved)?;
    let field =
        |(name, value): (&String, &JsonText)| format!("{}:{}", serde_json::Value::from(name.as_str()), value.as_str());
    let fields: Vec<String> = bound.iter().map(field).collect();
    let text = JsonText::parse(&format!("{{{}}}", fields.join(",")));
    text.map(Bound::Outputs).map_err(|error| unresolved(format!("the outputs are not JSON: {error}")))
}

fn texts(steps: &BTreeMap<String, StepOutputs>, values: &impl Values) -> Result<BTreeMap<String, JsonText>, TaskError> {
    let unreadable =
        |name: &str, why: String| TaskError::new("unreadable_output", format!("the output of step {name}: {why}"));
    let mut found = BTreeMap::new();
    for (name, step) in steps.iter().filter(|(_, step)| step.each || !step.payloads.is_empty()) {
        let texts: Result<Vec<String>, String> = step.payloads.iter().map(|payload| values.text_of(payload)).collect();
        let texts = texts.map_err(|why| unreadable(name, why))?;
        let text = if step.each { format!("[{}]", texts.join(",")) } else { texts.concat() };
        found.insert(name.clone(), JsonText::parse(&text).map_err(|error| unreadable(name, error.to_string()))?);
    }
    Ok(found)
}

fn make_task(
    spec: &WorkflowSpec,
    step: &StepSpec,
    bound: BoundTask,
    values: &impl Values,
) -> Result<Arc<TaskSpec>, TaskError> {
    let mut task = spec.task(step);
    if step.kind == TaskKind::Workflow {
        task.workflow = Some(Arc::new(dag::child(spec, step, &bound.input).map_err(unresolved)?));
        return Ok(Arc::new(task));
    }
    task.input = values.place(bound.input)?;
    task.run = bound.run;
    let needs = bound.needs.into_iter().map(|(name, value)| Ok((name, values.place(value)?)));
    task.needs = needs.collect::<Result<BTreeMap<String, Payload>, TaskError>>()?;
    Ok(Arc::new(task))
}
