//! From a caller's JSON to a tool's input: other names of arguments, and errors that a model can act on at once.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::answer::{Next, ToolError};
use super::catalog::{Tool, schema, search};
use super::text::shown;

type Arguments = Map<String, Value>;

/// Reads the input of `tool`, under any of the arguments' names.
///
/// # Errors
/// `wrong_argument` with the field, what it should be, and a call that is right.
pub fn read<T: DeserializeOwned>(tool: &Tool, arguments: Arguments) -> Result<T, ToolError> {
    let arguments = with_own_names(tool, arguments)?;
    refuse_unknown(tool, &arguments)?;
    let arguments: Arguments = arguments.into_iter().filter(|(_, value)| !value.is_null()).collect();
    let document = Value::Object(arguments);
    serde_path_to_error::deserialize(&document).map_err(|error| {
        let Value::Object(arguments) = &document else { return ToolError::internal(&error) };
        mistyped(tool, arguments, &error.path().to_string(), &error.into_inner().to_string())
    })
}

/// Renames what goes by another name here.
fn with_own_names(tool: &Tool, mut arguments: Arguments) -> Result<Arguments, ToolError> {
    for (other, own) in tool.entry.also {
        let Some(value) = arguments.remove(*other) else { continue };
        if own.is_empty() {
            continue;
        }
        match arguments.get(*own) {
            Some(known) if *known != value => {
                let problem = format!("{other} and {own} name one thing and have two values");
                let fix = format!("give {own} only");
                return Err(ToolError::wrong_argument(other, problem, "one of the two", fix).next(Next::new(
                    tool.entry.name,
                    Value::Object(corrected(tool, &arguments, other)),
                    0,
                )));
            }
            _ => {
                arguments.insert((*own).to_owned(), value);
            }
        }
    }
    Ok(arguments)
}

fn refuse_unknown(tool: &Tool, arguments: &Arguments) -> Result<(), ToolError> {
    let Some(unknown) = arguments.keys().find(|name| tool.argument(name).is_none()) else { return Ok(()) };
    let known: Vec<&str> = tool.arguments().collect();
    let fix = match search::nearest(unknown, known.iter().copied()).first() {
        Some(nearest) => format!("write {nearest} instead of {unknown}"),
        None if known.is_empty() => format!("leave {unknown} out"),
        None => format!("leave {unknown} out; the arguments are {}", known.join(", ")),
    };
    let problem = format!("{} has no such argument", tool.entry.name);
    let expected = if known.is_empty() { "no argument".to_owned() } else { format!("one of {}", known.join(", ")) };
    Err(ToolError::wrong_argument(unknown, problem, &expected, fix).next(right_call(tool, arguments, unknown)))
}

fn mistyped(tool: &Tool, arguments: &Arguments, path: &str, problem: &str) -> ToolError {
    let missing = problem.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
    let field = match (missing, path) {
        (Some(name), "." | "") => name.to_owned(),
        (Some(name), path) => format!("{path}.{name}"),
        (None, path) => path.to_owned(),
    };
    let top = field.split(['.', '[']).next().unwrap_or_default().to_owned();
    let wanted = tool.argument(&top);
    let expected = match wanted {
        Some(wanted) if field == top => schema::expectation(wanted),
        _ => problem.rsplit_once(", expected ").map_or("what its schema says", |(_, expected)| expected).to_owned(),
    };
    let found = match (missing, arguments.get(&top)) {
        (Some(_), _) => "it is missing".to_owned(),
        (None, Some(value)) if field == top => format!("found {}", shown(value)),
        _ => problem.to_owned(),
    };
    let next = right_call(tool, arguments, &top);
    let call = Value::Object(next.arguments.clone());
    let fix = match (next.tool == tool.entry.name, wanted.and_then(|wanted| wanted["description"].as_str())) {
        (true, Some(said)) => format!("{top} is: {said} As in {} with {call}", next.tool),
        (true, None) => format!("write it as in {} with {call}", next.tool),
        (false, _) => format!("take one that {} lists", next.tool),
    };
    ToolError::wrong_argument(&field, found, &expected, fix).next(next)
}

/// A call that gets the caller on: this one with `wrong` made right, or the one that lists what `wrong` should name.
pub fn right_call(tool: &Tool, arguments: &Arguments, wrong: &str) -> Next {
    if matches!(wrong, "task_id" | "workflow_id") {
        return Next::new("p2p_taskqueue_list_tasks", json!({}), 0);
    }
    Next::new(tool.entry.name, Value::Object(corrected(tool, arguments, wrong)), 0)
}

/// The arguments without what is wrong or unknown, and with the example's values where one is needed.
fn corrected(tool: &Tool, arguments: &Arguments, wrong: &str) -> Arguments {
    let known = |name: &str| name != wrong && tool.argument(name).is_some();
    let mut corrected: Arguments =
        arguments.iter().filter(|(name, _)| known(name)).map(|(name, value)| (name.clone(), value.clone())).collect();
    let required = tool.input_schema.get("required").and_then(Value::as_array).into_iter().flatten();
    let required: Vec<&str> = required.filter_map(Value::as_str).collect();
    for (name, value) in tool.example() {
        if name == wrong || (required.contains(&name.as_str()) && !corrected.contains_key(&name)) {
            corrected.insert(name, value);
        }
    }
    corrected
}
