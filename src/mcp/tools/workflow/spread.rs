//! Which nodes run a workflow.

use std::collections::BTreeMap;

use magpie_core::ids::{PeerId, TaskId};
use magpie_core::queue::{LedgerReply, LedgerRequest, TaskFilter, TaskView};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::detail::LIMIT_MAX;
use super::super::status::word;
use super::super::task_queue::parse_id;
use crate::mcp::answer::ToolError;
use crate::mcp::handler::{Call, Handler};
use crate::mcp::link::{self, PATIENCE};

/// Tasks that one call counts.
const TASKS_MAX: usize = 10_000;

pub struct WorkflowSpread;

#[derive(Deserialize, JsonSchema)]
pub struct WorkflowSpreadInput {
    workflow_id: String,
}

#[derive(Serialize, JsonSchema)]
pub struct WorkflowSpreadOutput {
    ok: bool,
    workflow_id: String,
    /// The node that decides about its tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    coordinator: Option<String>,
    tasks: usize,
    /// Whether there are more tasks than one call counts.
    truncated: bool,
    /// Tasks by status, for each node that has or had them.
    workers: Vec<SpreadRow>,
    /// Those that no node has yet.
    unassigned: usize,
}

#[derive(Serialize, JsonSchema)]
struct SpreadRow {
    worker_id: String,
    tasks: BTreeMap<&'static str, usize>,
}

impl Handler for WorkflowSpread {
    type Input = WorkflowSpreadInput;
    type Output = WorkflowSpreadOutput;

    async fn call(&self, input: WorkflowSpreadInput, call: &Call<'_>) -> Result<WorkflowSpreadOutput, ToolError> {
        let id = parse_id("workflow_id", &input.workflow_id)?;
        // A workflow that is not known has no tasks: its home says so.
        match call.link.ledger(LedgerRequest::GetWorkflow { id }, PATIENCE).await? {
            LedgerReply::Workflow(_) => {}
            _ => return Err(link::unexpected()),
        }
        let (mut views, mut cursor): (Vec<TaskView>, Option<TaskId>) = (Vec::new(), None);
        loop {
            let filter = TaskFilter { workflow: Some(id), ..TaskFilter::default() };
            let request = LedgerRequest::ListTasks { filter, cursor, limit: LIMIT_MAX };
            let LedgerReply::Tasks { items, next_cursor } = call.link.ledger_of(id.ledger, request).await? else {
                return Err(link::unexpected());
            };
            views.extend(items);
            cursor = next_cursor;
            if cursor.is_none() || views.len() >= TASKS_MAX {
                return Ok(WorkflowSpreadOutput::of(id, &views, cursor.is_some()));
            }
        }
    }
}

impl WorkflowSpreadOutput {
    fn of(id: TaskId, views: &[TaskView], truncated: bool) -> Self {
        let mut by_worker: BTreeMap<PeerId, BTreeMap<&'static str, usize>> = BTreeMap::new();
        for view in views {
            if let Some(worker) = view.worker {
                *by_worker.entry(worker).or_default().entry(word(view.state)).or_default() += 1;
            }
        }
        let row = |(worker, tasks): (PeerId, _)| SpreadRow { worker_id: worker.to_string(), tasks };
        Self {
            ok: true,
            workflow_id: id.to_string(),
            coordinator: views.first().map(|view| view.home.to_string()),
            tasks: views.len(),
            truncated,
            workers: by_worker.into_iter().map(row).collect(),
            unassigned: views.iter().filter(|view| view.worker.is_none()).count(),
        }
    }
}
