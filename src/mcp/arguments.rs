//! From a caller's JSON to a tool's input: other names of arguments, and errors that a model can act on at once.

mod mended;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::answer::{Next, ToolError};
use super::catalog::{Tool, schema, search};
use super::text::shown;

type Arguments = Map<String, Value>;

/// Arguments that cannot be read: as far as they were, and the one that is wrong.
struct Wrong {
    error: ToolError,
    arguments: Arguments,
    field: String,
}

/// Reads the input of `tool`, under any of the arguments' names.
///
/// # Errors
/// `wrong_argument` with the field, what it should be, and a call that gets the caller on.
pub fn read<T: DeserializeOwned>(tool: &Tool, arguments: Arguments) -> Result<T, ToolError> {
    parsed(tool, arguments).map_err(|wrong| {
        let Wrong { error, arguments, field } = *wrong;
        let is_right = |arguments: &Arguments| parsed::<T>(tool, arguments.clone()).is_ok();
        let next = next_call(tool, &arguments, &field, is_right);
        let fix = if tool.entry.writes() { error.fix.clone() } else { with_example(tool, &error.fix, &next) };
        ToolError { fix, ..error }.next(next)
    })
}

/// Boxed, as it is rare and large.
fn parsed<T: DeserializeOwned>(tool: &Tool, arguments: Arguments) -> Result<T, Box<Wrong>> {
    let arguments = with_own_names(tool, arguments)?;
    let arguments = without_unknown(tool, arguments)?;
    let document = Value::Object(arguments.into_iter().filter(|(_, value)| !value.is_null()).collect());
    serde_path_to_error::deserialize(&document).map_err(|error| {
        let arguments = document.as_object().cloned().unwrap_or_default();
        let (path, problem) = (error.path().to_string(), error.into_inner().to_string());
        let (error, field) = mistyped(tool, &arguments, &path, &problem);
        Box::new(Wrong { error, arguments, field })
    })
}

/// Renames what goes by another name here.
fn with_own_names(tool: &Tool, mut arguments: Arguments) -> Result<Arguments, Box<Wrong>> {
    for (other, own) in tool.entry.also {
        let Some(value) = arguments.remove(*other) else { continue };
        if own.is_empty() {
            continue;
        }
        match arguments.get(*own) {
            Some(known) if *known != value => {
                let problem = format!("{other} and {own} name one thing and have two values");
                let error = ToolError::wrong_argument(other, problem, "one of the two", format!("give {own} only"));
                // Which of the two is meant is not known.
                arguments.insert((*other).to_owned(), value);
                return Err(Box::new(Wrong { error, arguments, field: (*other).to_owned() }));
            }
            _ => {
                arguments.insert((*own).to_owned(), value);
            }
        }
    }
    Ok(arguments)
}

fn without_unknown(tool: &Tool, arguments: Arguments) -> Result<Arguments, Box<Wrong>> {
    let Some(unknown) = arguments.keys().find(|name| tool.argument(name).is_none()).cloned() else {
        return Ok(arguments);
    };
    let known: Vec<&str> = tool.arguments().collect();
    let problem = format!("{} has no such argument", tool.entry.name);
    let expected = if known.is_empty() { "no argument".to_owned() } else { format!("one of {}", known.join(", ")) };
    let error = ToolError::wrong_argument(&unknown, problem, &expected, instead_of(tool, &unknown, &known));
    Err(Box::new(Wrong { error, arguments, field: unknown }))
}

/// What to do about an argument that there is not. Nobody is told to leave out what may have been to narrow a change.
fn instead_of(tool: &Tool, unknown: &str, known: &[&str]) -> String {
    if let Some(own) = mended::own_name(tool, unknown) {
        return format!("write {own} instead of {unknown}");
    }
    let names = known.join(", ");
    match (search::nearest(unknown, known.iter().copied()).first(), tool.entry.writes()) {
        (_, _) if known.is_empty() => format!("leave {unknown} out"),
        (Some(nearest), _) => format!("did you mean {nearest}? the arguments are {names}"),
        (None, false) => format!("leave {unknown} out; the arguments are {names}"),
        (None, true) => {
            format!(
                "the arguments are {names}; make the call without {unknown} only if it does what you mean then, too"
            )
        }
    }
}

/// The error, and the argument that it is about.
fn mistyped(tool: &Tool, arguments: &Arguments, path: &str, problem: &str) -> (ToolError, String) {
    let missing = problem.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
    let field = match (missing, path) {
        (Some(name), "." | "") => name.to_owned(),
        (Some(name), path) => format!("{path}.{name}"),
        (None, path) => path.to_owned(),
    };
    let top = field.split(['.', '[']).next().unwrap_or_default().to_owned();
    let wanted = tool.argument(&top);
    let document = Value::Object(tool.input_schema.clone());
    let expected = match schema::at(&document, &field) {
        Some(wanted) => schema::expectation(wanted),
        None => "what its schema says".to_owned(),
    };
    let found = match (missing, arguments.get(&top)) {
        (Some(_), _) => "it is missing".to_owned(),
        (None, Some(value)) if field == top => format!("found {}", shown(value)),
        // What serde expects there is a name of ours.
        _ => problem.split_once(", expected ").map_or(problem, |(found, _)| found).to_owned(),
    };
    let fix = match wanted.and_then(|wanted| wanted["description"].as_str()) {
        Some(said) => format!("give {field} as {expected}; {top} is: {said}"),
        None => format!("give {field} as {expected}"),
    };
    (ToolError::wrong_argument(&field, found, &expected, fix), top)
}

/// Of a tool that changes nothing, the call to make next shows it best.
fn with_example(tool: &Tool, fix: &str, next: &Next) -> String {
    if next.tool == tool.entry.name {
        format!("{fix}, as in {} with {}", next.tool, shown(&Value::Object(next.arguments.clone())))
    } else {
        format!("{fix}, one that {} lists", next.tool)
    }
}

/// A call that gets the caller on: this one put right, if that needs no guess and `is_right` says so; else one that lists
/// what the argument `wrong` names. Of what only reads, the example may stand for what is not known. What changes
/// something is not made with more or other arguments than were given: its schema is shown.
pub fn next_call(tool: &Tool, given: &Arguments, wrong: &str, is_right: impl FnOnce(&Arguments) -> bool) -> Next {
    if let Some(mended) = mended::mended(tool, given).filter(is_right) {
        return Next::new(tool.entry.name, Value::Object(mended), 0);
    }
    match (listing(tool, wrong), tool.entry.writes()) {
        (Some(listing), _) => Next::new(listing, json!({}), 0),
        (None, true) => Next::new("tools_get_schema", json!({"names": [tool.entry.name]}), 0),
        (None, false) => Next::new(tool.entry.name, Value::Object(corrected(tool, given, wrong)), 0),
    }
}

/// The tool that lists what an argument names by its id.
fn listing(tool: &Tool, argument: &str) -> Option<&'static str> {
    match argument {
        // A caller names tasks of its own as it likes.
        "task_id" if tool.entry.name == "p2p_submit_task" => None,
        "task_id" | "workflow_id" => Some("p2p_taskqueue_list_tasks"),
        "schedule_id" => Some("schedule_list"),
        "approval_id" => Some("approval_list"),
        _ => None,
    }
}

/// The arguments without what is wrong or unknown, and with the example's values where one is needed.
fn corrected(tool: &Tool, arguments: &Arguments, wrong: &str) -> Arguments {
    let known = |name: &str| name != wrong && tool.argument(name).is_some();
    let mut corrected: Arguments =
        arguments.iter().filter(|(name, _)| known(name)).map(|(name, value)| (name.clone(), value.clone())).collect();
    let required: Vec<&str> = tool.required().collect();
    for (name, value) in tool.example() {
        if name == wrong || (required.contains(&name.as_str()) && !corrected.contains_key(&name)) {
            corrected.insert(name, value);
        }
    }
    corrected
}
