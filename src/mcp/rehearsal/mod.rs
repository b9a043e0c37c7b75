//! Dry runs: a tool runs as it would up to the first thing that it would change. That is checked, as far as it can be
//! without doing it, and told instead.
//!
//! A handler does not know of it: what it asks of its node goes by a way that lets through what changes nothing. So
//! every tool that changes something has a dry run, and one that is added has it, too.

mod would;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::answer::ToolError;
use super::arguments;
use super::catalog::{Action, Tool, ToolEntry};
use super::link::NodeLink;
use crate::messages::blob::{BlobReply, BlobRequest};
use crate::messages::{Answer, Body};

/// The argument of every tool that changes something.
pub const DRY_RUN: &str = "dry_run";
/// The code of what ends a handler at the first change; no caller sees it.
const REACHED: &str = "rehearsal_reached_a_change";

/// What a dry run came to.
#[derive(Debug, Default)]
pub struct Rehearsal {
    would: Mutex<Option<Value>>,
    /// Of bytes that the call would leave at the node on its way.
    uploads: Mutex<Vec<Value>>,
}

/// Whether a tool has a dry run of its own; what dispatches passes the argument on.
pub fn has_dry_run(entry: &ToolEntry) -> bool {
    entry.writes() && matches!(entry.action, Action::Run(_))
}

/// What a schema says of the argument.
pub fn schema() -> Value {
    json!({"type": "boolean", "description": "Check all of it, change nothing, and tell what would be."})
}

/// Whether the arguments of a call ask for one. The argument stays among them, where no handler reads it: what is told
/// of a wrong call then tells of it, too.
///
/// # Errors
/// `wrong_argument` if it is no truth value.
pub fn is_asked_for(tool: &Tool, arguments: &Map<String, Value>) -> Result<bool, ToolError> {
    if !has_dry_run(tool.entry) {
        return Ok(false);
    }
    match arguments.get(DRY_RUN) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(is_dry)) => Ok(*is_dry),
        Some(other) => {
            let problem = format!("found {}", super::text::shown(other));
            let next = arguments::next_call(tool, arguments, DRY_RUN, |_| true);
            Err(ToolError::wrong_argument(DRY_RUN, problem, "boolean", "write true, or leave it out").next(next))
        }
    }
}

/// The answer to a dry run whose handler ended so.
///
/// # Errors
/// What the call itself would be refused with.
pub fn told(ended: Result<Value, ToolError>, rehearsal: &Rehearsal) -> Result<Value, ToolError> {
    let would = rehearsal.would.lock().unwrap_or_else(PoisonError::into_inner).take();
    let uploads = std::mem::take(&mut *rehearsal.uploads.lock().unwrap_or_else(PoisonError::into_inner));
    let mut would = match (ended, would) {
        (Err(error), Some(would)) if error.code == REACHED => would,
        (Err(error), _) => return Err(error),
        (Ok(answer), _) if uploads.is_empty() => json!({"change": "nothing", "answer": answer}),
        (Ok(answer), _) => json!({"change": "upload", "answer": answer}),
    };
    if !uploads.is_empty() {
        would["uploads"] = uploads.into();
    }
    Ok(json!({"ok": true, "dry_run": true, "would": would}))
}

/// Asks the node what changes nothing, and looks into the rest.
///
/// # Errors
/// That of the node, or of a check; `REACHED` where a change was reached and nothing is wrong with it.
pub async fn ask(
    link: &NodeLink,
    rehearsal: &Arc<Rehearsal>,
    body: Body,
    patience: Duration,
) -> Result<Answer, ToolError> {
    if !body.changes_something() {
        return link.ask(body, patience).await;
    }
    link.may_say(&body)?;
    // Bytes go before what names them.
    if let Body::Blob(BlobRequest::Put { blob, .. }) = body {
        let upload = json!({"cid": blob.cid.to_string(), "bytes": blob.bytes});
        rehearsal.uploads.lock().unwrap_or_else(PoisonError::into_inner).push(upload);
        return Ok(Answer::Blob(BlobReply::Put { next: blob.bytes }));
    }
    let would = would::would(link, body).await?;
    *rehearsal.would.lock().unwrap_or_else(PoisonError::into_inner) = Some(would);
    Err(ToolError::new(REACHED, "the dry run reached what would be changed", "leave dry_run out"))
}

/// What a dry run of something that has none is refused with.
pub fn has_none(what: &str) -> ToolError {
    let fix = "leave dry_run out to call it; nothing was called";
    ToolError::new("no_dry_run", format!("{what} has no dry run"), fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::catalog::Catalog;

    #[test]
    fn the_argument_is_read_where_a_tool_changes_something_and_must_be_true_or_false() {
        let (submit, list) = ("p2p_taskqueue_submit", "list_peers");
        let asked = |name: &str, arguments: Value| {
            let tool = Catalog::shared().find(name).unwrap();
            is_asked_for(tool, arguments.as_object().unwrap()).map_err(|error| error.field.unwrap())
        };
        assert_eq!(asked(submit, json!({"dry_run": true})), Ok(true));
        assert_eq!(asked(submit, json!({"dry_run": false})), Ok(false));
        assert_eq!(asked(submit, json!({})), Ok(false));
        assert_eq!(asked(submit, json!({"dry_run": "yes"})), Err(DRY_RUN.to_owned()));
        assert_eq!(asked(list, json!({"dry_run": true})), Ok(false), "it is no argument of a reader");
    }

    #[test]
    fn what_would_be_refused_is_an_error_and_what_changes_nothing_says_so() {
        let rehearsal = Rehearsal::default();
        let error = ToolError::new("not_found", "m", "f");
        assert_eq!(told(Err(error.clone()), &rehearsal), Err(error));
        let nothing = told(Ok(json!({"available": false})), &rehearsal).unwrap();
        assert_eq!(nothing["would"], json!({"change": "nothing", "answer": {"available": false}}));
        *rehearsal.would.lock().unwrap() = Some(json!({"change": "cancel"}));
        let reached = ToolError::new(REACHED, "m", "f");
        assert_eq!(told(Err(reached), &rehearsal).unwrap()["would"], json!({"change": "cancel"}));
    }
}
