//! Holding on to tasks, and saying how far they are.

use magpie_core::payload::JsonText;
use magpie_core::progress::{AttemptNews, Progress};
use magpie_core::queue::{Hold, OutsideReply, OutsideRequest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::task_queue::parse_id;
use super::{Lease, find, outside, renewed, worker};
use crate::mcp::answer::ToolError;
use crate::mcp::handler::{Call, Handler};
use crate::mcp::link;

pub struct Heartbeat;

#[derive(Deserialize, JsonSchema)]
pub struct HeartbeatInput {
    worker_id: Option<String>,
    /// {task_id, epoch, token}; all that the worker has, unless named.
    leases: Option<Vec<Held>>,
    /// Said twice, it is the same.
    #[serde(rename = "idempotency_key")]
    _idempotency_key: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
struct Held {
    task_id: String,
    epoch: u64,
    token: String,
}

#[derive(Serialize, JsonSchema)]
pub struct HeartbeatOutput {
    ok: bool,
    leases: Vec<HeldRow>,
}

#[derive(Serialize, JsonSchema)]
struct HeldRow {
    task_id: String,
    epoch: u64,
    /// renewed; else stop: fenced, already_terminal, out_of_time or not_found.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
}

impl Handler for Heartbeat {
    type Input = HeartbeatInput;
    type Output = HeartbeatOutput;

    async fn call(&self, input: HeartbeatInput, call: &Call<'_>) -> Result<HeartbeatOutput, ToolError> {
        let hold = |held: Held| {
            let task = parse_id("leases", &held.task_id)?;
            let lease = Lease { epoch: held.epoch, token: held.token, ttl_ms: None }.read()?;
            Ok(Hold { task, lease: Some(lease), news: None })
        };
        let holds = input.leases.unwrap_or_default().into_iter().map(hold).collect::<Result<_, ToolError>>()?;
        let kept = match outside(call, OutsideRequest::Keep { worker: worker(input.worker_id), holds }).await? {
            OutsideReply::Kept(kept) => kept,
            _ => return Err(link::unexpected()),
        };
        let leases = kept.into_iter().map(|(fence, answer)| {
            let (state, ttl_ms) = match renewed(fence.task, answer) {
                Ok(ttl_ms) => ("renewed", Some(ttl_ms)),
                Err(error) => (error.code, None),
            };
            HeldRow { task_id: fence.task.to_string(), epoch: fence.epoch.0, state, ttl_ms }
        });
        Ok(HeartbeatOutput { ok: true, leases: leases.collect() })
    }
}

pub struct UpdateTask;

#[derive(Deserialize, JsonSchema)]
pub struct UpdateTaskInput {
    task_id: String,
    worker_id: Option<String>,
    /// As the claim answered it.
    lease: Option<Lease>,
    /// 0 to 1.
    progress: Option<f64>,
    message: Option<String>,
    /// What the next attempt would go on from.
    checkpoint: Option<Value>,
    /// Said twice, it is the same.
    #[serde(rename = "idempotency_key")]
    _idempotency_key: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct UpdateTaskOutput {
    ok: bool,
    task_id: String,
    /// The lease is renewed, for so long.
    ttl_ms: u64,
}

impl Handler for UpdateTask {
    type Input = UpdateTaskInput;
    type Output = UpdateTaskOutput;

    async fn call(&self, input: UpdateTaskInput, call: &Call<'_>) -> Result<UpdateTaskOutput, ToolError> {
        let task = find(call, &input.task_id).await?;
        let lease = input.lease.as_ref().map(Lease::read).transpose()?;
        let news = news(input.progress, input.message, input.checkpoint)?;
        let holds = vec![Hold { task, lease, news: Some(Box::new(news)) }];
        match outside(call, OutsideRequest::Keep { worker: worker(input.worker_id), holds }).await? {
            OutsideReply::Kept(kept) => {
                let (_, answer) = kept.into_iter().next().ok_or_else(link::unexpected)?;
                Ok(UpdateTaskOutput { ok: true, task_id: task.to_string(), ttl_ms: renewed(task, answer)? })
            }
            _ => Err(link::unexpected()),
        }
    }
}

fn news(fraction: Option<f64>, message: Option<String>, checkpoint: Option<Value>) -> Result<AttemptNews, ToolError> {
    if let Some(wrong) = fraction.filter(|fraction| !(0.0..=1.0).contains(fraction)) {
        let fix = "write how much of the task is done, 0 to 1";
        return Err(ToolError::wrong_argument("progress", format!("found {wrong}"), "number from 0 to 1", fix));
    }
    let says = fraction.is_some() || message.is_some();
    let message: String = message.unwrap_or_default().chars().take(MESSAGE_CHARS_MAX).collect();
    let news = AttemptNews {
        progress: says.then_some(Progress { fraction, message }),
        checkpoint: checkpoint.map(|value| JsonText::of(&value)),
    };
    news.check().map_err(|problem| {
        ToolError::wrong_argument(
            "checkpoint",
            problem,
            "a small JSON value",
            "store it with ipfs_add and name its cid",
        )
    })?;
    Ok(news)
}

const MESSAGE_CHARS_MAX: usize = 500;

/// What the seeds call it.
pub const HEARTBEAT_ALSO: &[(&str, &str)] = &[("peer_id", ""), ("clock", "")];
pub const UPDATE_ALSO: &[(&str, &str)] = &[("id", "task_id"), ("status", "")];
