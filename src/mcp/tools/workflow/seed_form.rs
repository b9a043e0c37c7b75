//! The seeds' form of a workflow, a list of independent tasks, as one of ours.

use serde_json::{Map, Value, json};

use super::super::task_queue::{own_kind, priority};
use crate::mcp::answer::ToolError;

/// What the seeds call the fields of a task.
const NAMES: [(&str, &str); 3] = [("task_type", "kind"), ("model_name", "model"), ("payload", "input")];

/// Turns `tasks` into steps, each on its own, and the priorities, 1 to 10 with 10 most urgent, into ours.
///
/// # Errors
/// A task that is no object, or a priority that is off the scale.
pub fn into_steps(document: &mut Map<String, Value>) -> Result<(), ToolError> {
    let Some(tasks) = document.remove("tasks") else { return Ok(()) };
    let Value::Array(tasks) = tasks else {
        let fix = "write tasks as a list of {model, input} or {kind, ...}";
        return Err(ToolError::wrong_argument("tasks", "it is no list", "array", fix));
    };
    turn_priority(document, "priority")?;
    let steps = tasks.into_iter().enumerate().map(|(place, task)| step(place, task));
    document.insert("steps".to_owned(), steps.collect::<Result<Vec<_>, _>>()?.into());
    Ok(())
}

fn step(place: usize, task: Value) -> Result<Value, ToolError> {
    let field = format!("tasks/{place}");
    let Value::Object(mut step) = task else {
        let fix = "write it as {model, input} or {kind, ...}";
        return Err(ToolError::wrong_argument(&field, "it is no object", "object", fix));
    };
    for (seed, own) in NAMES {
        if let Some(value) = step.remove(seed) {
            step.entry(own).or_insert(value);
        }
    }
    if let Some(Value::String(kind)) = step.get("kind") {
        let kind = own_kind(kind).to_owned();
        step.insert("kind".to_owned(), kind.into());
    } else if let Some(kind) = implied_kind(&step) {
        step.insert("kind".to_owned(), kind.into());
    }
    turn_priority(&mut step, &format!("{field}/priority"))?;
    step.entry("name").or_insert_with(|| format!("task-{}", place + 1).into());
    Ok(Value::Object(step))
}

/// What a task without a kind is: a command is a process, a model with an input is embedded.
fn implied_kind(step: &Map<String, Value>) -> Option<&'static str> {
    match (step.contains_key("kind"), step.contains_key("run"), step.contains_key("model")) {
        (true, ..) => None,
        (false, true, _) => Some("process"),
        (false, false, true) => Some("embed"),
        (false, false, false) => None,
    }
}

fn turn_priority(fields: &mut Map<String, Value>, field: &str) -> Result<(), ToolError> {
    if let Some(urgency) = fields.get("priority").and_then(Value::as_u64) {
        fields.insert("priority".to_owned(), json!(priority(field, urgency)?));
    }
    Ok(())
}

/// The place of a problem as the caller wrote it.
pub fn as_written(mut error: ToolError) -> ToolError {
    let own = |path: &str| path.strip_prefix("/steps").map(|rest| format!("/tasks{rest}"));
    for problem in &mut error.problems {
        if let Some(path) = own(&problem.path) {
            error.message = error.message.replace(&problem.path, &path);
            problem.path = path;
        }
    }
    error.field = error.field.map(|field| own(&field).unwrap_or(field));
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use magpie_core::dag;
    use magpie_core::task::{Tag, TaskKind};

    fn turned(document: Value) -> Result<Value, ToolError> {
        let Value::Object(mut document) = document else { panic!("an object") };
        into_steps(&mut document).map(|()| Value::Object(document))
    }

    #[test]
    fn the_example_of_the_seed_is_a_workflow() {
        let document = turned(json!({
            "name": "distributed-inference",
            "tasks": [{"model": "bert-base", "input": "text1"}, {"model": "bert-base", "input": "text2"}],
            "priority": 1,
            "tag": "p2p-only",
        }));
        let spec = dag::parse_workflow(&document.unwrap()).unwrap();
        assert_eq!((spec.tag, spec.priority.get()), (Some(Tag::P2pOnly), 999));
        let steps: Vec<(&str, TaskKind)> = spec.steps.iter().map(|step| (step.name.as_str(), step.kind)).collect();
        assert_eq!(steps, [("task-1", TaskKind::Embed), ("task-2", TaskKind::Embed)]);
    }

    #[test]
    fn tasks_of_other_kinds_keep_what_they_say() {
        let document = turned(json!({"name": "w", "tasks": [
            {"task_type": "text-generation", "model_name": "gpt2", "payload": {"prompt": "x"}, "priority": 10},
            {"run": ["true"], "name": "mine"},
        ]}));
        let spec = dag::parse_workflow(&document.unwrap()).unwrap();
        assert_eq!((spec.steps[0].kind, spec.steps[0].priority.map(|p| p.get())), (TaskKind::Generate, Some(0)));
        assert_eq!((spec.steps[1].kind, spec.steps[1].name.as_str()), (TaskKind::Process, "mine"));
    }

    #[test]
    fn problems_stand_where_the_caller_wrote_them() {
        let document = turned(json!({"name": "w", "tasks": [{"input": "x"}]})).unwrap();
        let error = as_written(ToolError::invalid_spec(dag::parse_workflow(&document).unwrap_err()));
        assert_eq!(error.field.as_deref(), Some("/tasks/0/kind"));
        assert!(error.message.contains("/tasks/0/kind: kind is missing"), "{}", error.message);
        for (tasks, field) in
            [(json!("x"), "tasks"), (json!([7]), "tasks/0"), (json!([{"priority": 99}]), "tasks/0/priority")]
        {
            assert_eq!(turned(json!({"tasks": tasks})).unwrap_err().field.as_deref(), Some(field));
        }
    }
}
