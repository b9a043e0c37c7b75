//! Saying what a caller's worker can run.

use std::collections::{BTreeMap, BTreeSet};

use magpie_core::matching::Capabilities;
use magpie_core::queue::{OutsideReply, OutsideRequest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::take::kinds;
use super::{outside, worker};
use crate::mcp::answer::{Next, ToolError};
use crate::mcp::handler::{Call, Handler};
use crate::mcp::link;

/// Tasks that a registered worker holds at once, unless it says otherwise.
const HELD: u32 = 5;

pub struct RegisterWorker;

#[derive(Deserialize, JsonSchema)]
pub struct RegisterWorkerInput {
    worker_id: String,
    /// Kinds of task that it runs, as tool, inference.
    kinds: Vec<String>,
    /// For tasks that require them.
    #[serde(default)]
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    models: BTreeSet<String>,
    /// 5 unless said, at most 64.
    max_concurrent_tasks: Option<u32>,
    /// Said twice, it is the same.
    #[serde(rename = "idempotency_key")]
    _idempotency_key: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct RegisterWorkerOutput {
    ok: bool,
    worker_id: String,
    /// Tasks that it holds now.
    held: u32,
    next: Next,
}

impl Handler for RegisterWorker {
    type Input = RegisterWorkerInput;
    type Output = RegisterWorkerOutput;

    async fn call(&self, input: RegisterWorkerInput, call: &Call<'_>) -> Result<RegisterWorkerOutput, ToolError> {
        let (kinds, labels, models) = (kinds(&input.kinds)?, input.labels, input.models);
        let offers = Box::new(Capabilities { kinds, labels, models, ..Capabilities::default() });
        offers.validate().map_err(|error| {
            ToolError::wrong_argument("labels", error, "fewer and shorter names", "leave out what no task requires")
        })?;
        let (worker, held_max) = (worker(Some(input.worker_id)), input.max_concurrent_tasks.unwrap_or(HELD));
        let request = OutsideRequest::Register { worker: worker.clone(), offers, held_max };
        let OutsideReply::Registered { held } = outside(call, request).await? else { return Err(link::unexpected()) };
        let next = Next::new("p2p_taskqueue_claim_next", serde_json::json!({"worker_id": worker}), 0);
        Ok(RegisterWorkerOutput { ok: true, worker_id: worker, held, next })
    }
}

pub struct UnregisterWorker;

#[derive(Deserialize, JsonSchema)]
pub struct UnregisterWorkerInput {
    worker_id: String,
    /// Said twice, it is the same.
    #[serde(rename = "idempotency_key")]
    _idempotency_key: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct UnregisterWorkerOutput {
    ok: bool,
    worker_id: String,
    /// Tasks that it holds still: report them, or let their leases end.
    held: u32,
}

impl Handler for UnregisterWorker {
    type Input = UnregisterWorkerInput;
    type Output = UnregisterWorkerOutput;

    async fn call(&self, input: UnregisterWorkerInput, call: &Call<'_>) -> Result<UnregisterWorkerOutput, ToolError> {
        let worker = worker(Some(input.worker_id));
        let request = OutsideRequest::Unregister { worker: worker.clone() };
        match outside(call, request).await? {
            OutsideReply::Registered { held } => Ok(UnregisterWorkerOutput { ok: true, worker_id: worker, held }),
            _ => Err(link::unexpected()),
        }
    }
}

/// What the seeds call it.
pub const REGISTER_ALSO: &[(&str, &str)] =
    &[("capabilities", "kinds"), ("supported_task_types", "kinds"), ("resource_limits", ""), ("metadata", "")];
pub const UNREGISTER_ALSO: &[(&str, &str)] = &[("graceful", ""), ("timeout", "")];
