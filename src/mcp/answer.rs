//! What a call gives when it fails, in words that tell the caller what to do next.

use magpie_core::dag::SpecError;
use magpie_core::queue::{KnownState, LastKnown, Refusal};
use magpie_core::time::Wall;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::catalog::Scope;
use super::tools::status;
use crate::client::ClientError;

/// A call to make next, and when.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Next {
    pub tool: String,
    pub arguments: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
}

impl Next {
    /// `arguments` is an object.
    pub fn new(tool: &str, arguments: Value, after_ms: u64) -> Self {
        let arguments = match arguments {
            Value::Object(arguments) => arguments,
            _ => Map::new(),
        };
        Self { tool: tool.to_owned(), arguments, after_ms: Some(after_ms) }
    }
}

/// Why a call did not do what was asked: a result with `isError`, for the model to read.
#[derive(Debug, Clone, PartialEq, Serialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ToolError {
    pub ok: bool,
    /// Stable, in lower case with `_`.
    pub code: &'static str,
    pub message: String,
    /// What to do about it.
    pub fix: String,
    /// Whether the same call may succeed later.
    pub retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The argument that is wrong, and what it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// The scope that the caller lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needs: Option<Scope>,
    /// Everything that is wrong with a task or a workflow.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<SpecError>,
    /// How it stood when this node last told the caller, where its home is away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale: Option<Stale>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Box<Next>>,
}

/// A state that may not be one any more.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Stale {
    pub status: &'static str,
    pub state: &'static str,
    pub seen_at: Wall,
}

impl From<LastKnown> for Stale {
    fn from(known: LastKnown) -> Self {
        let status = match known.state {
            KnownState::Task(state) => status::word(state),
            KnownState::Workflow(state) => status::workflow_word(state),
        };
        Self { status, state: known.state.name(), seen_at: known.at }
    }
}

fn home_unreachable(message: String) -> ToolError {
    ToolError::passing("home_unreachable", message, "its home keeps it: call again when the home is back", 5_000)
}

impl ToolError {
    pub fn new(code: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            ok: false,
            code,
            message: message.into(),
            fix: fix.into(),
            retryable: false,
            retry_after_ms: None,
            field: None,
            expected: None,
            needs: None,
            problems: Vec::new(),
            stale: None,
            next: None,
        }
    }

    /// One that may not be one later.
    pub fn passing(
        code: &'static str,
        message: impl Into<String>,
        fix: impl Into<String>,
        retry_after_ms: u64,
    ) -> Self {
        Self { retryable: true, retry_after_ms: Some(retry_after_ms), ..Self::new(code, message, fix) }
    }

    pub fn internal(error: &dyn std::fmt::Display) -> Self {
        Self::new("internal", format!("the tool failed: {error}"), "report this, with the audit line on standard error")
    }

    /// An argument that is read but has a wrong value.
    pub fn wrong_argument(
        field: &str,
        problem: impl std::fmt::Display,
        expected: &str,
        fix: impl Into<String>,
    ) -> Self {
        let message = format!("{field}: {problem}; expected {expected}");
        let (field, expected) = (Some(field.to_owned()), Some(expected.to_owned()));
        Self { field, expected, ..Self::new("wrong_argument", message, fix) }
    }

    /// A task or workflow with problems.
    pub fn invalid_spec(problems: Vec<SpecError>) -> Self {
        let first = problems.first().map_or_else(String::new, |problem| problem.fix.clone());
        let lines: Vec<String> = problems.iter().map(|error| format!("{}: {}", error.path, error.problem)).collect();
        let field = problems.first().map(|error| argument_at(&error.path).to_owned());
        let fix = format!("{first}; correct every entry of problems and call again");
        Self { field, problems, ..Self::new("invalid", lines.join("; "), fix) }
    }

    pub fn next(self, next: Next) -> Self {
        Self { next: Some(Box::new(next)), ..self }
    }
}

/// The argument that a pointer names, where it names nothing within one.
fn argument_at(path: &str) -> &str {
    path.strip_prefix('/').filter(|name| !name.contains('/')).unwrap_or(path)
}

impl From<ClientError> for ToolError {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        match error {
            ClientError::Refused(refusal) => refusal.into(),
            ClientError::Unreachable { .. } | ClientError::NotAdmitted { .. } | ClientError::Closed => {
                let fix = "start a node with `node` (see `node --help`), or name the socket of one that runs with --control; \
                           then call again";
                Self::passing("node_unreachable", message, fix, 1_000)
            }
            ClientError::TimedOut { .. } => {
                Self::passing("timeout", message, "call again; a task that was submitted goes on", 1_000)
            }
            ClientError::TooLarge(_) => Self::new("too_large", message, "send less at a time"),
            ClientError::Unexpected => {
                Self::new("version_mismatch", message, "use node-mcp and node of the same version")
            }
        }
    }
}

impl From<Refusal> for ToolError {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::NotFound { .. } => {
                let fix = "take an id that a submission answered or that p2p_taskqueue_list_tasks lists";
                Self::new("not_found", message, fix).next(Next::new("p2p_taskqueue_list_tasks", json!({}), 0))
            }
            Refusal::NotHome { .. } | Refusal::HomeAway { .. } => home_unreachable(message),
            Refusal::HomeUnreachable { known, .. } => {
                Self { stale: known.map(Stale::from), ..home_unreachable(message) }
            }
            Refusal::HomeMoved { .. } => {
                Self::new("home_moved", message, "use the node that the message names, or name that home")
            }
            Refusal::HomeSuspended { .. } => Self::passing(
                "home_suspended",
                message,
                "ask the operator to claim the ledger for one of its copies",
                60_000,
            ),
            Refusal::Overloaded { retry_after_ms, .. } => {
                Self::passing("overloaded", message, "wait retry_after_ms, then call again", retry_after_ms)
            }
            Refusal::Invalid { errors } => Self::invalid_spec(errors),
            Refusal::AlreadyTerminal { .. } => Self::new("already_terminal", message, "submit a new task instead"),
            Refusal::WrongState { .. } => Self::new("wrong_state", message, "do what the message says, or leave it"),
            Refusal::QueueChanged { .. } => Self::new("queue_changed", message, "look at the queue and decide again"),
            Refusal::Pruned { .. } => {
                Self::new("pruned", message, "submit it again if its result is needed; keep results elsewhere")
            }
            Refusal::IdempotencyConflict { .. } => {
                let fix = "take another idempotency_key for another task, or send exactly what the key was used for";
                Self::new("idempotency_conflict", message, fix)
            }
            Refusal::Forbidden { .. } => Self::new("forbidden", message, "ask the operator to do it with nodectl"),
            Refusal::Unsupported { .. } => Self::new("unsupported", message, "leave it out, or use another node"),
            Refusal::Draining { .. } => Self::new("draining", message, "use another node"),
            Refusal::Unavailable { .. } => Self::passing("unavailable", message, "call again", 1_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use magpie_core::ids::{LedgerTag, TaskId};

    #[test]
    fn every_refusal_has_a_code_and_a_fix_and_says_whether_to_retry() {
        let id = TaskId { ulid: 1, ledger: LedgerTag([0; 5]) };
        let cases = [
            (Refusal::NotFound { id }, "not_found"),
            (Refusal::HomeUnreachable { id, last_seen: None, known: None }, "home_unreachable"),
            (Refusal::Overloaded { retry_after_ms: 7, what: "tasks".into() }, "overloaded"),
            (Refusal::invalid("/kind", "no such kind", "write noop"), "invalid"),
            (Refusal::Forbidden { needs: "operator".into(), has: "agent".into() }, "forbidden"),
            (Refusal::Unavailable { what: "starting".into() }, "unavailable"),
            (Refusal::Draining { why: "told to end".into() }, "draining"),
        ];
        for (refusal, code) in cases {
            let retryable = refusal.is_retryable();
            let error = ToolError::from(refusal);
            assert_eq!((error.code, error.retryable), (code, retryable));
            assert!(!error.fix.is_empty() && !error.message.is_empty());
            assert_eq!(error.retry_after_ms.is_some(), retryable);
        }
    }

    #[test]
    fn a_wrong_specification_names_the_field_and_the_fix() {
        let error = ToolError::from(Refusal::invalid("/steps/0/kind", "\"nop\" is not a kind of task", "write noop"));
        let json = serde_json::to_value(&error).unwrap();
        assert_eq!(json["field"], "/steps/0/kind");
        assert!(json["fix"].as_str().unwrap().starts_with("write noop"));
        let of_argument = ToolError::from(Refusal::invalid("/key", "it is empty", "give one"));
        assert_eq!(of_argument.field.as_deref(), Some("key"));
        assert_eq!((json["ok"].as_bool(), json["retryable"].as_bool()), (Some(false), Some(false)));
    }
}
