//! What of a workflow needs what.

use magpie_core::queue::{LedgerReply, LedgerRequest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::detail::Detail;
use super::super::output::{self, OutputPart};
use super::super::task_queue::parse_id;
use crate::mcp::answer::ToolError;
use crate::mcp::handler::{Call, Handler};
use crate::mcp::link::{self, PATIENCE};

pub struct WorkflowGraph;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GraphFormat {
    #[default]
    Json,
    Dot,
    Mermaid,
}

#[derive(Deserialize, JsonSchema)]
pub struct WorkflowGraphInput {
    workflow_id: String,
    #[serde(default)]
    #[schemars(with = "Option<GraphFormat>")]
    format: GraphFormat,
    #[serde(default)]
    #[schemars(with = "Option<Detail>")]
    detail: Detail,
    /// Read a large graph on from here.
    #[serde(default)]
    #[schemars(with = "Option<u64>")]
    output_offset: u64,
}

#[derive(Serialize, JsonSchema)]
pub struct WorkflowGraphOutput {
    ok: bool,
    workflow_id: String,
    steps: usize,
    /// The steps that its time is made of.
    critical_path: Vec<String>,
    /// Nodes and edges, or a text in the format asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    dag: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dag_part: Option<OutputPart>,
}

impl Handler for WorkflowGraph {
    type Input = WorkflowGraphInput;
    type Output = WorkflowGraphOutput;

    async fn call(&self, input: WorkflowGraphInput, call: &Call<'_>) -> Result<WorkflowGraphOutput, ToolError> {
        let id = parse_id("workflow_id", &input.workflow_id)?;
        let view = match call.link.ledger(LedgerRequest::GetWorkflow { id }, PATIENCE).await? {
            LedgerReply::Workflow(view) => view,
            _ => return Err(link::unexpected()),
        };
        let (graph, drawing) = view.drawing().map_err(|error| ToolError::internal(&error))?;
        let dag = match input.format {
            GraphFormat::Json => graph.to_json(&drawing),
            GraphFormat::Dot => graph.to_dot(&drawing).into(),
            GraphFormat::Mermaid => graph.to_mermaid(&drawing).into(),
        };
        let shown = output::shown(&dag.to_string(), input.output_offset, input.detail);
        Ok(WorkflowGraphOutput {
            ok: true,
            workflow_id: id.to_string(),
            steps: view.progress.steps,
            critical_path: view.critical_path.clone(),
            dag: shown.value,
            dag_part: shown.part,
        })
    }
}
