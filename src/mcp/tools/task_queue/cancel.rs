//! Cancelling one task.

use magpie_core::task::TaskState;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::{operation, status};
use super::parse_id;
use crate::mcp::answer::ToolError;
use crate::mcp::handler::{Call, Handler};

pub struct Cancel;

#[derive(Deserialize, JsonSchema)]
pub struct CancelInput {
    task_id: String,
    reason: Option<String>,
    idempotency_key: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct CancelOutput {
    ok: bool,
    task_id: String,
    /// False if it had ended otherwise before.
    cancelled: bool,
    status: String,
    state: String,
}

impl Handler for Cancel {
    type Input = CancelInput;
    type Output = CancelOutput;

    async fn call(&self, input: CancelInput, call: &Call<'_>) -> Result<CancelOutput, ToolError> {
        let id = parse_id("task_id", &input.task_id)?;
        let operation = operation::id("p2p_taskqueue_cancel", input.idempotency_key.as_deref(), &id.to_string());
        let state = super::cancel(call, operation, id, input.reason).await?;
        Ok(CancelOutput {
            ok: true,
            task_id: id.to_string(),
            cancelled: state == TaskState::Cancelled,
            status: status::word(state).to_owned(),
            state: state.to_string(),
        })
    }
}
