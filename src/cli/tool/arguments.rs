//! The arguments of a call, as a shell hands them over.

use std::io::Read;
use std::path::Path;

use magpie_core::limits;
use magpie_net::regular_file;
use serde_json::{Map, Value};

use crate::cli::exit::{CommandError, Exit};

/// What a call over HTTP may bring, too.
const ARGUMENTS_BYTES_MAX: usize = limits::HTTP_BODY_BYTES_MAX;

/// # Errors
/// Exit code 2 if they are no object.
pub async fn read(given: Option<String>) -> Result<Map<String, Value>, CommandError> {
    let Some(given) = given else { return Ok(Map::new()) };
    // A pipe may keep a reader waiting, and Ctrl-C must still be heard.
    let reading = tokio::task::spawn_blocking(move || text_of(given));
    let text = reading.await.map_err(|error| CommandError::new(Exit::Failed, error.to_string()))??;
    parse(&text)
}

fn text_of(given: String) -> Result<String, CommandError> {
    match given.strip_prefix('@') {
        _ if given == "-" => bounded(std::io::stdin(), "standard input"),
        Some(file) => {
            let failed = |error| CommandError::usage(format!("cannot read {file}: {error}"));
            bounded(regular_file::open(Path::new(file)).map_err(failed)?, file)
        }
        None => Ok(given),
    }
}

fn bounded(source: impl Read, name: &str) -> Result<String, CommandError> {
    let mut text = String::new();
    let read = source.take(ARGUMENTS_BYTES_MAX as u64 + 1).read_to_string(&mut text);
    read.map_err(|error| CommandError::usage(format!("cannot read {name}: {error}")))?;
    if text.len() > ARGUMENTS_BYTES_MAX {
        return Err(CommandError::usage(format!("{name} has more than {ARGUMENTS_BYTES_MAX} bytes")));
    }
    Ok(text)
}

fn parse(text: &str) -> Result<Map<String, Value>, CommandError> {
    let refused = |problem: &dyn std::fmt::Display| {
        let what = format!("the arguments are no JSON object: {problem}; `nodectl tool schema NAME` shows an example");
        CommandError::usage(what)
    };
    match serde_json::from_str(text) {
        Ok(Value::Object(arguments)) => Ok(arguments),
        Ok(other) => Err(refused(&format_args!("found {}", kind(&other)))),
        Err(error) => Err(refused(&error)),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
