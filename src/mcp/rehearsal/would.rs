//! What a message that changes something would change, found out by what changes nothing.

use magpie_core::ids::TaskId;
use magpie_core::limits;
use magpie_core::queue::{
    ApprovalReply, ApprovalRequest, ContextRequest, LedgerReply, LedgerRequest, OutsideRequest, Refusal, RehearsedTask,
    ScheduleChange, ScheduleReply, ScheduleRequest,
};
use magpie_core::task::TaskState;
use serde_json::{Value, json};

use super::has_none;
use crate::mcp::answer::ToolError;
use crate::mcp::link::{self, NodeLink, PATIENCE};
use crate::messages::cache::CacheRequest;
use crate::messages::mount::{MountReply, MountRequest};
use crate::messages::peer::{PeerReply, PeerRequest};
use crate::messages::worker::{WorkerReply, WorkerRequest};
use crate::messages::{Answer, Body};

/// The lease of a caller is only known to be good when it is used.
const LEASE_NOT_CHECKED: &str = "whether the caller has the task's lease still";

/// What saying it would change.
///
/// # Errors
/// What it would be refused with; `no_dry_run` where that cannot be found out.
pub async fn would(link: &NodeLink, body: Body) -> Result<Value, ToolError> {
    match body {
        Body::Ledger(request) => ledger(link, request).await,
        Body::Worker(WorkerRequest::Drain { within_ms }) => drain(link, within_ms).await,
        Body::Cache(request) => cached(request),
        Body::Peer(PeerRequest::Connect { address, .. }) => dial(address),
        Body::Peer(PeerRequest::Disconnect { peer }) => match link.peer(PeerRequest::Get { peer }).await? {
            PeerReply::Peer { contacts, .. } => {
                let is_connected = contacts.iter().any(|contact| contact.connected);
                Ok(json!({"change": "disconnect", "peer_id": peer.to_string(), "connected": is_connected}))
            }
            _ => Err(link::unexpected()),
        },
        Body::Mount(MountRequest::Cancel { server, call }) => {
            let wait = MountRequest::Wait { server: server.clone(), call, wait_ms: 0 };
            let is_running = matches!(link.mount(wait, 0).await?, MountReply::Running { .. });
            Ok(json!({"change": "cancel_call", "server": server, "call": call, "running": is_running}))
        }
        _ => Err(has_none("this change")),
    }
}

async fn ledger(link: &NodeLink, request: LedgerRequest) -> Result<Value, ToolError> {
    match request {
        LedgerRequest::Submit { .. } => submission("submit_task", link, request).await,
        LedgerRequest::SubmitWorkflow { ref spec, .. } if spec.schedule.is_some() => {
            submission("make_schedule", link, request).await
        }
        LedgerRequest::SubmitWorkflow { .. } => submission("submit_workflow", link, request).await,
        LedgerRequest::RetryTasks { .. } => submission("retry_task", link, request).await,
        LedgerRequest::Cancel { id, .. } => match rehearsed(link, request).await? {
            LedgerReply::Cancelled { state } => Ok(
                json!({"change": "cancel", "id": id.to_string(), "cancelled": state == TaskState::Cancelled, "state": state}),
            ),
            _ => Err(link::unexpected()),
        },
        LedgerRequest::SetPriority { id, .. } => match rehearsed(link, request).await? {
            LedgerReply::PrioritySet { priority } => {
                Ok(json!({"change": "priority", "id": id.to_string(), "place": priority.get()}))
            }
            _ => Err(link::unexpected()),
        },
        LedgerRequest::Approval(ApprovalRequest::Decide { id, ref decision }) => {
            let approved = decision.approved;
            match rehearsed(link, request).await? {
                LedgerReply::Approval(reply) => match *reply {
                    ApprovalReply::Decided(decided) => Ok(json!({"change": "decide_approval", "id": id.to_string(),
                        "approved": approved, "state": decided.state})),
                    ApprovalReply::List { .. } => Err(link::unexpected()),
                },
                _ => Err(link::unexpected()),
            }
        }
        LedgerRequest::PauseQueue { namespace, .. } => queue("pause_queue", namespace, link).await,
        LedgerRequest::ResumeQueue { namespace, .. } => queue("resume_queue", namespace, link).await,
        LedgerRequest::ClearQueue { namespace, .. } => {
            let mut would = queue("clear_queue", namespace, link).await?;
            would["takes"] = TAKEN_BY_CLEARING.into();
            Ok(would)
        }
        LedgerRequest::Outside(request) => outside(link, request).await,
        LedgerRequest::Context(request) => context(link, request).await,
        LedgerRequest::Schedule(request) => schedule(link, request).await,
        _ => Err(has_none("this change of a ledger")),
    }
}

/// What `waiting` counts beside is not taken.
const TAKEN_BY_CLEARING: &str = "tasks that are ready or delayed, approvals that wait among them, and workflows of which nothing \
    has begun, those that wait at an approval first among them; not calls that are held until a person approves them";

async fn rehearsed(link: &NodeLink, request: LedgerRequest) -> Result<LedgerReply, ToolError> {
    link.ledger(LedgerRequest::Rehearse(Box::new(request)), PATIENCE).await
}

async fn submission(change: &str, link: &NodeLink, request: LedgerRequest) -> Result<Value, ToolError> {
    let LedgerReply::Rehearsed(rehearsal) = rehearsed(link, request).await? else { return Err(link::unexpected()) };
    let is_cut = rehearsal.total > rehearsal.tasks.len() as u64;
    let tasks: Vec<Value> = rehearsal.tasks.iter().map(task).collect();
    let mut would = json!({"change": change, "total": rehearsal.total, "tasks": tasks});
    if is_cut {
        would["of_the_first"] = rehearsal.tasks.len().into();
    }
    Ok(would)
}

fn task(rehearsed: &RehearsedTask) -> Value {
    let RehearsedTask { step, existing, able, nearest, unmet } = rehearsed;
    let mut row = json!({"nodes_able": able});
    if let Some(step) = step {
        row["step"] = step.as_str().into();
    }
    if let Some(id) = existing {
        row["is_there_already"] = id.to_string().into();
    }
    if let Some(peer) = nearest {
        row["nearest"] = peer.to_string().into();
    }
    if !unmet.is_empty() {
        row["unmet"] = json!(unmet);
    }
    row
}

/// What a queue as a whole would be told, and how it stands.
async fn queue(change: &str, namespace: Option<String>, link: &NodeLink) -> Result<Value, ToolError> {
    let LedgerReply::Stats(stats) = link.ledger(LedgerRequest::Stats, PATIENCE).await? else {
        return Err(link::unexpected());
    };
    let waiting = [TaskState::Blocked, TaskState::Delayed, TaskState::Ready].map(|state| stats.counts.of(state));
    let waiting: u64 = waiting.into_iter().sum();
    if let Some(own) = link.namespace() {
        return Ok(json!({"change": change, "of": own, "waiting": waiting}));
    }
    let of = namespace.as_deref().unwrap_or("the whole queue");
    Ok(json!({"change": change, "of": of, "waiting_in_the_whole_queue": waiting}))
}

async fn outside(link: &NodeLink, request: OutsideRequest) -> Result<Value, ToolError> {
    match request {
        OutsideRequest::Register { worker, held_max, .. } => {
            Ok(json!({"change": "register_worker", "worker_id": worker, "max_concurrent_tasks": held_max}))
        }
        OutsideRequest::Unregister { worker } => Ok(json!({"change": "unregister_worker", "worker_id": worker})),
        OutsideRequest::Take { worker, .. } => {
            let not_checked = "which task would be taken: the next that waits then";
            Ok(json!({"change": "claim_task", "worker_id": worker, "not_checked": not_checked}))
        }
        OutsideRequest::Keep { worker, holds } => {
            let mut tasks = Vec::new();
            for hold in &holds {
                tasks.push(open_task(link, hold.task).await?);
            }
            Ok(json!({"change": "renew_leases", "worker_id": worker, "tasks": tasks, "not_checked": LEASE_NOT_CHECKED}))
        }
        OutsideRequest::End { worker, task, .. } => {
            let task = open_task(link, task).await?;
            Ok(json!({"change": "complete_task", "worker_id": worker, "task": task, "not_checked": LEASE_NOT_CHECKED}))
        }
    }
}

/// A task that has not ended.
async fn open_task(link: &NodeLink, id: TaskId) -> Result<Value, ToolError> {
    match link.ledger(LedgerRequest::GetTask { id }, PATIENCE).await? {
        LedgerReply::Task(view) if view.state.is_terminal() => {
            Err(Refusal::AlreadyTerminal { id, state: view.state }.into())
        }
        LedgerReply::Task(view) => Ok(json!({"task_id": id.to_string(), "state": view.state})),
        _ => Err(link::unexpected()),
    }
}

async fn context(link: &NodeLink, request: ContextRequest) -> Result<Value, ToolError> {
    let ContextRequest::Update { id, principal, set, remove, ttl_ms, .. } = request else {
        return Err(has_none("a reading"));
    };
    let set: Vec<String> = set.into_keys().collect();
    let Some(id) = id else {
        return Ok(json!({"change": "begin_session", "sets": set, "ttl_ms": ttl_ms}));
    };
    // One that is not the caller's is refused here as there.
    link.ledger(LedgerRequest::Context(ContextRequest::Get { id, principal }), PATIENCE).await?;
    let change = if ttl_ms == 0 { "end_session" } else { "update_session" };
    Ok(json!({"change": change, "session_id": id.to_string(), "sets": set, "removes": remove, "ttl_ms": ttl_ms}))
}

/// A schedule that there is, as it stands.
async fn schedule(link: &NodeLink, request: ScheduleRequest) -> Result<Value, ToolError> {
    let (id, change) = match request {
        ScheduleRequest::Change { id, change: ScheduleChange::Pause, .. } => (id, "pause_schedule"),
        ScheduleRequest::Change { id, change: ScheduleChange::Resume, .. } => (id, "resume_schedule"),
        ScheduleRequest::Change { id, change: ScheduleChange::Remove, .. } => (id, "remove_schedule"),
        ScheduleRequest::RunNow { id, .. } => (id, "run_schedule"),
        ScheduleRequest::Get { .. } | ScheduleRequest::List { .. } => return Err(has_none("a reading")),
    };
    match link.ledger(LedgerRequest::Schedule(ScheduleRequest::Get { id }), PATIENCE).await? {
        LedgerReply::Schedule(ScheduleReply::One(view)) => {
            Ok(json!({"change": change, "schedule_id": id.to_string(), "workflow": view.name, "paused": view.paused}))
        }
        _ => Err(link::unexpected()),
    }
}

async fn drain(link: &NodeLink, within_ms: Option<u64>) -> Result<Value, ToolError> {
    match link.ask(Body::Worker(WorkerRequest::Stats), PATIENCE).await? {
        Answer::Worker(WorkerReply::Stats(stats)) => Ok(json!({"change": "drain_worker", "within_ms": within_ms,
            "running": stats.running, "draining_already": stats.draining})),
        _ => Err(link::unexpected()),
    }
}

fn cached(request: CacheRequest) -> Result<Value, ToolError> {
    match request {
        CacheRequest::Put { key, value, .. } => {
            let bytes = value.as_str().len();
            if key.is_empty() || key.len() > limits::CACHE_KEY_BYTES_MAX || bytes > limits::CACHE_VALUE_BYTES_MAX {
                let problem = format!("a key of {} bytes with a value of {bytes} bytes", key.len());
                let fix = format!(
                    "a key has 1 to {} bytes and a value at most {}; store more with ipfs_add and keep its cid here",
                    limits::CACHE_KEY_BYTES_MAX,
                    limits::CACHE_VALUE_BYTES_MAX
                );
                return Err(Refusal::invalid("/value", problem, fix).into());
            }
            Ok(json!({"change": "cache_put", "key": key, "bytes": bytes}))
        }
        CacheRequest::Invalidate { key, is_prefix } => {
            Ok(json!({"change": "cache_invalidate", "key": key, "prefix": is_prefix}))
        }
        CacheRequest::Get { .. } | CacheRequest::Stats => Err(has_none("a reading")),
    }
}

fn dial(address: String) -> Result<Value, ToolError> {
    if let Err(error) = magpie_net::check_address(&address) {
        let fix = "name it as /ip4/10.0.0.7/tcp/7400";
        return Err(Refusal::invalid("/address", error.to_string(), fix).into());
    }
    Ok(json!({"change": "dial", "address": address, "not_checked": "whether anybody answers there"}))
}
