//! What is changed of a task that is there: its place in the queue, or that it runs again.

use magpie_core::queue::{LedgerReply, LedgerRequest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::operation;
use super::submit::{accepted, priority};
use super::{parse_id, wait_next};
use crate::mcp::answer::{Next, ToolError};
use crate::mcp::handler::{Call, Handler};
use crate::mcp::link::{self, PATIENCE};

pub struct Resubmit;

#[derive(Deserialize, JsonSchema)]
pub struct ResubmitInput {
    task_id: String,
    idempotency_key: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct ResubmitOutput {
    ok: bool,
    /// The new task; one that was retried before keeps the task it got then.
    task_id: String,
    handle: String,
    retry_of: String,
    next: Next,
}

impl Handler for Resubmit {
    type Input = ResubmitInput;
    type Output = ResubmitOutput;

    async fn call(&self, input: ResubmitInput, call: &Call<'_>) -> Result<ResubmitOutput, ToolError> {
        let ended = parse_id("task_id", &input.task_id)?;
        let key = input.idempotency_key.as_deref();
        let operation = operation::id("p2p_taskqueue_resubmit", key, &ended.to_string());
        let request = LedgerRequest::RetryTasks { operation, ids: vec![ended] };
        let id = match call.link.ledger(request, PATIENCE).await? {
            LedgerReply::Retried { answers } => accepted(answers)?,
            _ => return Err(link::unexpected()),
        };
        let (task_id, retry_of) = (id.to_string(), ended.to_string());
        Ok(ResubmitOutput { ok: true, handle: task_id.clone(), task_id, retry_of, next: wait_next(id) })
    }
}

pub struct SetPriority;

#[derive(Deserialize, JsonSchema)]
pub struct SetPriorityInput {
    task_id: String,
    /// 10 is most urgent.
    #[schemars(range(min = 1, max = 10))]
    priority: u64,
    idempotency_key: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct SetPriorityOutput {
    ok: bool,
    task_id: String,
    /// 10 is most urgent.
    priority: u64,
    /// As a full view of the task shows it: 0 runs first, 1000 last.
    place: u16,
}

impl Handler for SetPriority {
    type Input = SetPriorityInput;
    type Output = SetPriorityOutput;

    async fn call(&self, input: SetPriorityInput, call: &Call<'_>) -> Result<SetPriorityOutput, ToolError> {
        let id = parse_id("task_id", &input.task_id)?;
        let priority = priority("priority", input.priority)?;
        let asked = format!("{id} {}", input.priority);
        let operation = operation::id("p2p_taskqueue_priority", input.idempotency_key.as_deref(), &asked);
        match call.link.ledger(LedgerRequest::SetPriority { operation, id, priority }, PATIENCE).await? {
            LedgerReply::PrioritySet { priority } => Ok(SetPriorityOutput {
                ok: true,
                task_id: id.to_string(),
                priority: input.priority,
                place: priority.get(),
            }),
            _ => Err(link::unexpected()),
        }
    }
}
