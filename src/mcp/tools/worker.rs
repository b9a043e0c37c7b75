//! The workers of the mesh.

use magpie_core::worker::WorkerStats;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::detail::page;
use crate::mcp::answer::{Next, ToolError};
use crate::mcp::handler::{Call, Handler};
use crate::mcp::link::PATIENCE;
use crate::messages::node::WorkerView;

pub struct WorkerStatus;

#[derive(Deserialize, JsonSchema)]
pub struct WorkerStatusInput {
    /// Only the worker of this node: its peer id.
    worker_id: Option<String>,
    /// At most 100.
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct WorkerStatusOutput {
    ok: bool,
    workers: Vec<WorkerRow>,
    total: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// What this node has not heard of another is left out.
#[derive(Serialize, JsonSchema)]
struct WorkerRow {
    worker_id: String,
    /// alive, draining, no room, suspect or dead.
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    slots: Option<u32>,
    slots_free: u32,
    device_slots_free: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queued: Option<u64>,
    /// Why it takes no task that needs room on its disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_room: Option<String>,
    /// Of this node's own, since it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    since_start: Option<Counted>,
}

#[derive(Serialize, JsonSchema)]
struct Counted {
    started: u64,
    succeeded: u64,
    failed: u64,
    /// Started for another node.
    stolen: u64,
    released: u64,
    /// Attempts whose lease had ended.
    fenced: u64,
}

impl Counted {
    fn of(stats: &WorkerStats) -> Self {
        let WorkerStats { started, succeeded, failed, stolen, released, fenced, .. } = *stats;
        Self { started, succeeded, failed, stolen, released, fenced }
    }
}

impl WorkerRow {
    fn of(worker: WorkerView<'_>) -> Self {
        Self {
            worker_id: worker.peer_id.to_string(),
            status: worker.state.to_owned(),
            slots: worker.slots,
            slots_free: worker.slots_free,
            device_slots_free: worker.device_slots_free,
            running: worker.running,
            queued: worker.queued,
            no_room: worker.no_room.map(str::to_owned),
            since_start: worker.stats.map(Counted::of),
        }
    }
}

impl Handler for WorkerStatus {
    type Input = WorkerStatusInput;
    type Output = WorkerStatusOutput;

    async fn call(&self, input: WorkerStatusInput, call: &Call<'_>) -> Result<WorkerStatusOutput, ToolError> {
        let status = call.link.status(PATIENCE).await?;
        let mut workers: Vec<WorkerRow> = status.workers().into_iter().map(WorkerRow::of).collect();
        if let Some(wanted) = &input.worker_id {
            workers.retain(|worker| worker.worker_id == *wanted);
            if workers.is_empty() {
                let shown: String = wanted.chars().take(80).collect();
                let error = ToolError::wrong_argument(
                    "worker_id",
                    format!("no node {shown:?} is known here"),
                    "a peer id",
                    "take a worker_id that worker_status shows, or leave it out for all",
                );
                return Err(error.next(Next::new("worker_status", serde_json::json!({}), 0)));
            }
        }
        let total = workers.len();
        let (workers, next_cursor) = page(workers, input.cursor.as_deref(), input.limit)?;
        Ok(WorkerStatusOutput { ok: true, workers, total, next_cursor })
    }
}
