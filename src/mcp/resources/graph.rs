//! The graph of a workflow, drawn.

use magpie_core::ids::WorkflowId;
use magpie_core::queue::{LedgerReply, LedgerRequest};

use crate::mcp::answer::{Next, ToolError};
use crate::mcp::fit::FULL_ANSWER_BYTES_MAX;
use crate::mcp::link::{self, NodeLink, PATIENCE};

/// The flowchart. One that is cut is none, so what is too large is refused with another way to it.
pub async fn drawn(id: WorkflowId, link: &NodeLink) -> Result<String, ToolError> {
    let view = match link.ledger(LedgerRequest::GetWorkflow { id }, PATIENCE).await? {
        LedgerReply::Workflow(view) => view,
        _ => return Err(link::unexpected()),
    };
    let (graph, drawing) = view.drawing().map_err(|error| ToolError::internal(&error))?;
    let text = graph.to_mermaid(&drawing);
    if text.len() <= FULL_ANSWER_BYTES_MAX {
        return Ok(text);
    }
    let arguments = serde_json::json!({"workflow_id": id, "format": "mermaid", "detail": "full"});
    let message = format!("the drawing has {} bytes, at most {FULL_ANSWER_BYTES_MAX} are read at once", text.len());
    let fix = "call workflow_dependencies, and go on with output_offset";
    Err(ToolError::new("too_large", message, fix).next(Next::new("workflow_dependencies", arguments, 0)))
}
