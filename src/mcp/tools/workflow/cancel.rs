//! Cancelling a workflow with all its tasks.

use magpie_core::task::TaskState;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::task_queue::{cancel, parse_id};
use super::super::{operation, status};
use super::wait_for_workflow;
use crate::mcp::answer::ToolError;
use crate::mcp::handler::{Call, Handler};

pub struct CancelWorkflow;

#[derive(Deserialize, JsonSchema)]
pub struct CancelWorkflowInput {
    workflow_id: String,
    reason: Option<String>,
    idempotency_key: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct CancelWorkflowOutput {
    ok: bool,
    workflow_id: String,
    /// False if it had ended otherwise before.
    cancelled: bool,
    status: String,
    state: String,
}

impl Handler for CancelWorkflow {
    type Input = CancelWorkflowInput;
    type Output = CancelWorkflowOutput;

    async fn call(&self, input: CancelWorkflowInput, call: &Call<'_>) -> Result<CancelWorkflowOutput, ToolError> {
        let id = parse_id("workflow_id", &input.workflow_id)?;
        // The ledger cancels tasks by the same message: an id of a task is not found here.
        wait_for_workflow(call, id, 0).await?;
        let operation = operation::id("cancel_workflow", input.idempotency_key.as_deref(), &id.to_string());
        let state = cancel(call, operation, id, input.reason).await?;
        Ok(CancelWorkflowOutput {
            ok: true,
            workflow_id: id.to_string(),
            cancelled: state == TaskState::Cancelled,
            status: status::word(state).to_owned(),
            state: state.to_string(),
        })
    }
}
