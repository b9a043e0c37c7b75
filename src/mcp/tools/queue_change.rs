//! The queue of a home held back, let go on, emptied; and the worker of the node sent home.

use magpie_core::ids::OperationId;
use magpie_core::queue::{LedgerReply, LedgerRequest, QueueStats};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::operation;
use crate::mcp::answer::ToolError;
use crate::mcp::handler::{Call, Handler};
use crate::mcp::link::{self, PATIENCE};
use crate::messages::worker::{WorkerReply, WorkerRequest};
use crate::messages::{Answer, Body};

/// Rounds of one clearing: each ends what one record holds.
const CLEARINGS_MAX: usize = 100;

async fn stats(call: &Call<'_>) -> Result<QueueStats, ToolError> {
    match call.link.ledger(LedgerRequest::Stats, PATIENCE).await? {
        LedgerReply::Stats(stats) => Ok(*stats),
        _ => Err(link::unexpected()),
    }
}

#[derive(Serialize, JsonSchema)]
pub struct QueueChangedOutput {
    ok: bool,
    /// Grows with each pause, resume and clear.
    version: u64,
    /// What is held back now; empty namespace: the whole queue.
    paused: Vec<String>,
}

/// The version is the one that is: a caller who lost an answer says the same once more, and nothing changes twice.
async fn set(call: &Call<'_>, request: LedgerRequest) -> Result<QueueChangedOutput, ToolError> {
    match call.link.ledger(request, PATIENCE).await? {
        LedgerReply::Queue { version, paused } => {
            let paused = paused.into_iter().map(|paused| paused.namespace.unwrap_or_default()).collect();
            Ok(QueueChangedOutput { ok: true, version, paused })
        }
        _ => Err(link::unexpected()),
    }
}

fn named(tool: &str, key: Option<&str>, namespace: Option<&String>) -> OperationId {
    operation::id(tool, key, namespace.map_or("", String::as_str))
}

pub struct PauseQueue;

#[derive(Deserialize, JsonSchema)]
pub struct PauseQueueInput {
    reason: Option<String>,
    /// Only this one; else the whole queue.
    namespace: Option<String>,
    idempotency_key: Option<String>,
}

impl Handler for PauseQueue {
    type Input = PauseQueueInput;
    type Output = QueueChangedOutput;

    async fn call(&self, input: PauseQueueInput, call: &Call<'_>) -> Result<QueueChangedOutput, ToolError> {
        let operation = named("queue_pause", input.idempotency_key.as_deref(), input.namespace.as_ref());
        let version = stats(call).await?.queue_version;
        let reason = input.reason.unwrap_or_else(|| "asked for over MCP".to_owned());
        set(call, LedgerRequest::PauseQueue { operation, namespace: input.namespace, version, reason }).await
    }
}

pub struct ResumeQueue;

#[derive(Deserialize, JsonSchema)]
pub struct ResumeQueueInput {
    /// Only this one; else the whole queue.
    namespace: Option<String>,
    idempotency_key: Option<String>,
}

impl Handler for ResumeQueue {
    type Input = ResumeQueueInput;
    type Output = QueueChangedOutput;

    async fn call(&self, input: ResumeQueueInput, call: &Call<'_>) -> Result<QueueChangedOutput, ToolError> {
        let operation = named("queue_resume", input.idempotency_key.as_deref(), input.namespace.as_ref());
        let version = stats(call).await?.queue_version;
        set(call, LedgerRequest::ResumeQueue { operation, namespace: input.namespace, version }).await
    }
}

/// The seeds' word for what has not started.
const QUEUED: &str = "queued";

pub struct ClearQueue;

#[derive(Deserialize, JsonSchema)]
pub struct ClearQueueInput {
    /// Must be true.
    confirm: bool,
    /// Only this one; else the whole queue.
    namespace: Option<String>,
    /// queued, or nothing: what has started is never cleared.
    status: Option<String>,
    idempotency_key: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct ClearQueueOutput {
    ok: bool,
    cleared_count: u64,
    workflows_cancelled: u64,
    /// Tasks that were accepted in the meantime, or that run.
    remaining_count: u64,
}

impl Handler for ClearQueue {
    type Input = ClearQueueInput;
    type Output = ClearQueueOutput;

    async fn call(&self, input: ClearQueueInput, call: &Call<'_>) -> Result<ClearQueueOutput, ToolError> {
        if !input.confirm {
            let fix = "pass confirm: true: every task that has not started is cancelled; queue_stats counts them";
            return Err(ToolError::wrong_argument("confirm", "it is false", "true", fix));
        }
        if let Some(other) = input.status.filter(|status| status != QUEUED) {
            let shown: String = other.chars().take(40).collect();
            let problem = format!("{shown:?} is not what a clearing takes");
            let fix = "leave it out; one task that runs: p2p_taskqueue_cancel";
            return Err(ToolError::wrong_argument("status", problem, QUEUED, fix));
        }
        let up_to = stats(call).await?.log_index;
        let (mut cleared_count, mut workflows_cancelled) = (0, 0);
        for round in 0..CLEARINGS_MAX {
            let asked = format!("{} {round}", input.namespace.as_deref().unwrap_or_default());
            let operation = operation::id("queue_clear", input.idempotency_key.as_deref(), &asked);
            let request = LedgerRequest::ClearQueue { operation, namespace: input.namespace.clone(), up_to };
            let LedgerReply::Cleared { tasks, workflows, left } = call.link.ledger(request, PATIENCE).await? else {
                return Err(link::unexpected());
            };
            (cleared_count, workflows_cancelled) = (cleared_count + tasks, workflows_cancelled + workflows);
            if left == 0 {
                break;
            }
        }
        let counts = stats(call).await?.counts;
        let open = magpie_core::task::TaskState::ALL.into_iter().filter(|state| !state.is_terminal());
        let remaining_count = open.map(|state| counts.of(state)).sum();
        Ok(ClearQueueOutput { ok: true, cleared_count, workflows_cancelled, remaining_count })
    }
}

pub struct DrainWorker;

#[derive(Deserialize, JsonSchema)]
pub struct DrainWorkerInput {
    /// What still runs then is ended.
    within_ms: Option<u64>,
    /// Said twice, it is done once in any case.
    #[serde(rename = "idempotency_key")]
    _idempotency_key: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct DrainWorkerOutput {
    ok: bool,
    draining: bool,
    running: u64,
    /// How the process is ended: it is not this tool's.
    then: &'static str,
}

impl Handler for DrainWorker {
    type Input = DrainWorkerInput;
    type Output = DrainWorkerOutput;

    async fn call(&self, input: DrainWorkerInput, call: &Call<'_>) -> Result<DrainWorkerOutput, ToolError> {
        call.link.ask(Body::Worker(WorkerRequest::Drain { within_ms: input.within_ms }), PATIENCE).await?;
        match call.link.ask(Body::Worker(WorkerRequest::Stats), PATIENCE).await? {
            Answer::Worker(WorkerReply::Stats(stats)) => Ok(DrainWorkerOutput {
                ok: true,
                draining: stats.draining,
                running: stats.running,
                then: "the node serves its ledger until its process is ended (SIGTERM drains by itself); nodectl worker \
                       resume takes this back",
            }),
            _ => Err(link::unexpected()),
        }
    }
}
