//! Reporting how a task ended.

use magpie_core::lease::CompleteAnswer;
use magpie_core::limits;
use magpie_core::payload::{JsonText, Payload};
use magpie_core::queue::{OutsideReply, OutsideRequest};
use magpie_core::task::{AttemptResult, Outcome, TaskError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::upload::Uploads;
use super::{Lease, fenced, find, outside, worker};
use crate::mcp::answer::ToolError;
use crate::mcp::handler::{Call, Handler};
use crate::mcp::link;

pub struct EndTask;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EndStatus {
    #[default]
    Completed,
    Failed,
}

#[derive(Deserialize, JsonSchema)]
pub struct EndTaskInput {
    task_id: String,
    worker_id: Option<String>,
    /// As the claim answered it; needed once a task was claimed more than once.
    lease: Option<Lease>,
    #[serde(default)]
    #[schemars(with = "Option<EndStatus>")]
    status: EndStatus,
    /// Any JSON.
    result: Option<Value>,
    /// Why it failed.
    error: Option<String>,
    /// Whether another attempt may succeed.
    #[serde(default)]
    #[schemars(with = "Option<bool>")]
    retryable: bool,
    /// The same result again is the same in any case.
    #[serde(rename = "idempotency_key")]
    _idempotency_key: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct EndTaskOutput {
    ok: bool,
    task_id: String,
    /// committed: this is the task's one result; retried: another attempt follows.
    outcome: &'static str,
}

impl Handler for EndTask {
    type Input = EndTaskInput;
    type Output = EndTaskOutput;

    async fn call(&self, input: EndTaskInput, call: &Call<'_>) -> Result<EndTaskOutput, ToolError> {
        let id = find(call, &input.task_id).await?;
        let lease = input.lease.as_ref().map(Lease::read).transpose()?;
        let result = match input.status {
            EndStatus::Completed => {
                let output = payload(call, input.result.unwrap_or(Value::Null)).await?;
                AttemptResult::Succeeded { output }
            }
            EndStatus::Failed => {
                let message = input.error.unwrap_or_else(|| "its worker said no more".to_owned());
                let message: String = message.chars().take(limits::ERROR_BYTES_MAX / 4).collect();
                AttemptResult::Failed { error: TaskError::new("failed", message), retryable: input.retryable }
            }
        };
        let outcome = Box::new(Outcome { result, log_tail: String::new(), ran_ms: 0, used: Default::default() });
        let worker = worker(input.worker_id);
        let ended = outside(call, OutsideRequest::End { worker, task: id, lease, outcome }).await?;
        let OutsideReply::Ended(answer) = ended else { return Err(link::unexpected()) };
        let outcome = match answer {
            CompleteAnswer::Committed => "committed",
            CompleteAnswer::Recorded { .. } => "retried",
            CompleteAnswer::Conflict => {
                let message = format!("{id} has another result already");
                return Err(ToolError::new("conflict", message, "leave it: a task has one result"));
            }
            CompleteAnswer::Terminal { state } => {
                let message = format!("{id} has ended otherwise: it is {state}");
                return Err(ToolError::new("already_terminal", message, "leave it, and claim another"));
            }
            CompleteAnswer::Fenced { .. } => return Err(fenced(id)),
            CompleteAnswer::Unknown => {
                let message = format!("{id} is not known at its home");
                return Err(ToolError::new("not_found", message, "claim another task"));
            }
        };
        Ok(EndTaskOutput { ok: true, task_id: id.to_string(), outcome })
    }
}

/// A result that does not fit a record stands in a blob.
async fn payload(call: &Call<'_>, value: Value) -> Result<Payload, ToolError> {
    let text = JsonText::of(&value);
    if Payload::fits_inline(&text) {
        return Ok(Payload::Inline(text));
    }
    let mut uploads = Uploads::default();
    let blob = uploads.add(text.as_str().as_bytes().to_vec())?;
    uploads.send(call.link).await?;
    Ok(Payload::Blob(blob))
}

/// What the seeds call it.
pub const ALSO: &[(&str, &str)] =
    &[("id", "task_id"), ("output", "result"), ("remote_peer_id", ""), ("remote_multiaddr", ""), ("peer_id", "")];
