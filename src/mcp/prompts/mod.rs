//! Prompts: what people start with a word, written out as calls that exist.

mod add_model;
mod diagnose_task;
mod join_mesh;
mod run_workflow_over_files;

use serde_json::{Map, Value};

use super::answer::ToolError;
use super::catalog::search;
use super::completion::Source;
use super::text::{beginning, clean};

/// One argument of a prompt.
const VALUE_BYTES_MAX: usize = 4 * 1024;

/// What is said of one prompt, and how it is written.
pub struct PromptEntry {
    pub name: &'static str,
    pub title: &'static str,
    pub description: &'static str,
    pub arguments: &'static [ArgumentEntry],
    write: fn(&Given) -> Vec<Part>,
}

pub struct ArgumentEntry {
    pub name: &'static str,
    pub description: &'static str,
    pub required: bool,
    /// What it may be completed from.
    pub source: Source,
}

/// A piece of a prompt: a line of text, or a call to make.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    Text(String),
    Call(&'static str, Value),
}

/// A prompt for one caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub description: &'static str,
    pub text: String,
}

pub static PROMPTS: [PromptEntry; 4] =
    [join_mesh::PROMPT, diagnose_task::PROMPT, run_workflow_over_files::PROMPT, add_model::PROMPT];

/// The arguments of a prompt, cleaned.
#[derive(Debug, Default)]
pub struct Given(Map<String, Value>);

impl Given {
    /// What was given for an argument, if something was.
    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
    }
}

/// The prompt of that name.
///
/// # Errors
/// `unknown_prompt` with those that there are.
pub fn find(name: &str) -> Result<&'static PromptEntry, ToolError> {
    PROMPTS.iter().find(|prompt| prompt.name == name).ok_or_else(|| {
        let names: Vec<&str> = PROMPTS.iter().map(|prompt| prompt.name).collect();
        let near = search::nearest(name, names.iter().copied());
        let fix = match near.first() {
            Some(nearest) => format!("did you mean {nearest}?"),
            None => format!("take one of {}", names.join(", ")),
        };
        ToolError::new("unknown_prompt", format!("there is no prompt {:?}", beginning(name, 80)), fix)
    })
}

/// Writes a prompt; `call` says how its reader makes a call.
///
/// # Errors
/// If there is no such prompt, or its arguments are not right.
pub fn write(
    name: &str,
    arguments: &Map<String, Value>,
    call: impl Fn(&str, Value) -> String,
) -> Result<Written, ToolError> {
    let prompt = find(name)?;
    let given = read(prompt, arguments)?;
    let mut text = String::new();
    for part in (prompt.write)(&given) {
        match part {
            Part::Text(line) => text.push_str(&line),
            Part::Call(tool, arguments) => text.push_str(&format!("  {}", call(tool, arguments))),
        }
        text.push('\n');
    }
    Ok(Written { description: prompt.description, text })
}

/// The calls that a prompt teaches.
///
/// # Errors
/// As [`write()`].
pub fn calls(name: &str, arguments: &Map<String, Value>) -> Result<Vec<(&'static str, Value)>, ToolError> {
    let prompt = find(name)?;
    let given = read(prompt, arguments)?;
    let call = |part| match part {
        Part::Text(_) => None,
        Part::Call(tool, arguments) => Some((tool, arguments)),
    };
    Ok((prompt.write)(&given).into_iter().filter_map(call).collect())
}

fn read(prompt: &PromptEntry, arguments: &Map<String, Value>) -> Result<Given, ToolError> {
    let names: Vec<&str> = prompt.arguments.iter().map(|argument| argument.name).collect();
    let expected = if names.is_empty() { "no argument".to_owned() } else { format!("one of {}", names.join(", ")) };
    let mut given = Map::new();
    for (name, value) in arguments {
        if !names.contains(&name.as_str()) {
            let problem = format!("{} has no such argument", prompt.name);
            return Err(ToolError::wrong_argument(beginning(name, 80), problem, &expected, "leave it out"));
        }
        let text = value.as_str().filter(|text| text.len() <= VALUE_BYTES_MAX).ok_or_else(|| {
            let wanted = format!("a text of at most {VALUE_BYTES_MAX} bytes");
            ToolError::wrong_argument(name, "it is none", &wanted, format!("write {name} as {wanted}"))
        })?;
        given.insert(name.clone(), clean(text.to_owned()).into());
    }
    let given = Given(given);
    let missing = prompt.arguments.iter().find(|argument| argument.required && given.text(argument.name).is_none());
    match missing {
        None => Ok(given),
        Some(argument) => {
            let fix = format!("give {}: {}", argument.name, argument.description);
            Err(ToolError::wrong_argument(argument.name, "it is missing", "a text", fix))
        }
    }
}

/// Lines of text.
fn text(text: impl Into<String>) -> Part {
    Part::Text(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn arguments(value: Value) -> Map<String, Value> {
        serde_json::from_value(value).unwrap()
    }

    fn refused(name: &str, given: Value) -> ToolError {
        write(name, &arguments(given), |_, _| String::new()).unwrap_err()
    }

    #[test]
    fn wrong_names_and_arguments_are_told_what_is_right() {
        assert!(refused("diagnose_tsk", json!({})).fix.contains("diagnose_task"));
        assert!(refused("zzz", json!({})).fix.contains("join_mesh"));
        let missing = refused("diagnose_task", json!({}));
        assert_eq!((missing.field.as_deref(), missing.code), (Some("task_id"), "wrong_argument"));
        assert_eq!(refused("diagnose_task", json!({"task_id": "  "})).field.as_deref(), Some("task_id"));
        assert!(refused("diagnose_task", json!({"id": "x"})).message.contains("task_id"));
        assert_eq!(refused("add_model", json!({"model": 7})).field.as_deref(), Some("model"));
        assert_eq!(refused("add_model", json!({"model": "x".repeat(5_000)})).field.as_deref(), Some("model"));
    }

    #[test]
    fn what_is_given_stands_in_the_text_without_control_characters() {
        let given = arguments(json!({"task_id": "T\u{1b}[31m1"}));
        let written = write("diagnose_task", &given, |tool, arguments| format!("{tool} {arguments}")).unwrap();
        assert!(
            written.text.contains(r#"p2p_taskqueue_get_task {"detail":"full","task_id":"T1"}"#),
            "{}",
            written.text
        );
        assert!(!written.text.contains('\u{1b}'));
    }

    #[test]
    fn every_prompt_has_words_for_itself_and_its_arguments() {
        for prompt in &PROMPTS {
            assert!(prompt.name.len() <= 40 && prompt.title.len() <= 40, "{}", prompt.name);
            assert!(prompt.description.split_whitespace().count() >= 8, "{}", prompt.name);
            assert!(prompt.arguments.iter().all(|argument| !argument.description.is_empty()), "{}", prompt.name);
        }
    }
}
