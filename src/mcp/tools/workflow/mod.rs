//! Graphs of tasks: submit, follow, list, draw, cancel.

mod cancel;
mod graph;
mod list;
mod read;
mod seed_form;
mod spread;
mod submit;
mod view;

pub use cancel::CancelWorkflow;
pub use graph::WorkflowGraph;
pub use list::ListWorkflows;
pub use read::{GetWorkflowStatus, GetWorkflowStatusInput, GetWorkflowStatusOutput};
pub use spread::WorkflowSpread;
pub use submit::{SubmitWorkflow, parse_workflow};

use std::time::Duration;

use magpie_core::ids::WorkflowId;
use magpie_core::queue::{LedgerReply, LedgerRequest, WorkflowView};

use super::follow::{Followed, follow};
use crate::mcp::answer::{Next, ToolError};
use crate::mcp::handler::Call;
use crate::mcp::link;

impl Followed for WorkflowView {
    fn is_done(&self) -> bool {
        self.summary.state.is_terminal()
    }

    fn in_words(&self) -> String {
        let tasks = &self.summary.tasks;
        format!("{} of {} tasks done", tasks.terminal(), tasks.total())
    }
}

/// The workflow when it is done or `wait_ms` have passed.
async fn wait_for_workflow(call: &Call<'_>, id: WorkflowId, wait_ms: u64) -> Result<WorkflowView, ToolError> {
    let ask = |timeout_ms: u64, patience: Duration| async move {
        match call.link.ledger(LedgerRequest::WaitWorkflow { id, timeout_ms }, patience).await? {
            LedgerReply::Workflow(view) => Ok(*view),
            _ => Err(link::unexpected()),
        }
    };
    follow(call, wait_ms, ask).await
}

/// How to go on with a workflow that is not done.
pub fn wait_next(id: WorkflowId) -> Next {
    Next::new("get_workflow_status", serde_json::json!({"workflow_id": id.to_string(), "wait_ms": 20_000}), 0)
}
