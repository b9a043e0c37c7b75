//! The node and its queue.

use std::collections::BTreeMap;
use std::time::Duration;

use magpie_core::task::TaskState;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::detail::Detail;
use super::super::{peer, status};
use crate::mcp::answer::ToolError;
use crate::mcp::handler::{Call, Handler};
use crate::mcp::link::PATIENCE;
use crate::mcp::quota::QuotaRow;
use crate::messages::node::NodeStatus;

/// The least that a caller may grant the node.
const PATIENCE_S_MIN: f64 = 0.1;

pub struct QueueStatus;

#[derive(Deserialize, JsonSchema)]
pub struct QueueStatusInput {
    #[serde(default)]
    #[schemars(with = "Option<Detail>")]
    detail: Detail,
    timeout_s: Option<f64>,
    peer_id: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct QueueStatusOutput {
    ok: bool,
    peer_id: String,
    /// Of which tasks and workflows are counted; else all of this home.
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    version: String,
    uptime_ms: u64,
    /// Tasks of this home by status.
    queue: BTreeMap<&'static str, u64>,
    /// The same by state.
    states: BTreeMap<&'static str, u64>,
    workflows_running: u64,
    peers_alive: usize,
    /// What this node's worker does.
    worker: WorkerShown,
    devices: Vec<DeviceShown>,
    /// How much this caller may use, and has used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    quota: Vec<QuotaRow>,
    /// What does not work on this node.
    notices: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<StatusMore>,
}

#[derive(Serialize, JsonSchema)]
struct WorkerShown {
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queued: Option<u64>,
    cpu_slots_free: u32,
    device_slots_free: u32,
    draining: bool,
}

#[derive(Serialize, JsonSchema)]
struct DeviceShown {
    name: String,
    state: String,
    models: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// What `detail: full` adds.
#[derive(Serialize, JsonSchema)]
struct StatusMore {
    ledger: String,
    generation: u32,
    log_index: u64,
    submitted: u64,
    fenced_total: u64,
    expired_total: u64,
    retried_total: u64,
    commits_by_worker: BTreeMap<String, u64>,
    listen: Vec<String>,
    known_peers: usize,
}

impl Handler for QueueStatus {
    type Input = QueueStatusInput;
    type Output = QueueStatusOutput;

    async fn call(&self, input: QueueStatusInput, call: &Call<'_>) -> Result<QueueStatusOutput, ToolError> {
        let granted = input.timeout_s.filter(|seconds| seconds.is_finite()).map(|seconds| seconds.max(PATIENCE_S_MIN));
        let patience = granted.map_or(PATIENCE, |seconds| Duration::from_secs_f64(seconds.min(PATIENCE.as_secs_f64())));
        let node = call.link.status(patience).await?;
        peer::refuse_other_node("peer_id", input.peer_id.as_deref(), &node.peer_id.to_string())?;
        let quota = call.link.quota().await?;
        Ok(QueueStatusOutput {
            quota,
            ..QueueStatusOutput::of(node, input.detail, call.principal.namespace.as_deref())
        })
    }
}

impl QueueStatusOutput {
    /// Who is kept to a namespace is shown nothing of what others do.
    fn of(node: NodeStatus, detail: Detail, namespace: Option<&str>) -> Self {
        let is_all = namespace.is_none();
        let counts = node.queue.counts;
        let (mut queue, mut states) = (BTreeMap::new(), BTreeMap::new());
        for state in TaskState::ALL {
            *queue.entry(status::word(state)).or_insert(0) += counts.of(state);
            states.insert(state.name(), counts.of(state));
        }
        Self {
            ok: true,
            peer_id: node.peer_id.to_string(),
            namespace: namespace.map(str::to_owned),
            version: node.version.clone(),
            uptime_ms: node.uptime_ms,
            queue,
            states,
            workflows_running: node.queue.workflows_running,
            peers_alive: node.peers.iter().filter(|peer| peer.state == "alive").count(),
            worker: WorkerShown {
                running: is_all.then_some(node.worker.running),
                queued: is_all.then_some(node.worker.queued),
                cpu_slots_free: node.worker.free.cpu,
                device_slots_free: node.worker.free.device,
                draining: node.worker.draining,
            },
            quota: Vec::new(),
            more: (detail.is_full() && is_all).then(|| StatusMore::of(&node)),
            devices: node
                .devices
                .into_iter()
                .map(|device| DeviceShown {
                    name: device.name,
                    state: device.state,
                    models: device.models,
                    why: device.why,
                })
                .collect(),
            notices: node.notices,
        }
    }
}

impl StatusMore {
    fn of(node: &NodeStatus) -> Self {
        let queue = &node.queue;
        Self {
            ledger: queue.ledger.to_string(),
            generation: queue.generation.0,
            log_index: queue.log_index.0,
            submitted: queue.submitted,
            fenced_total: queue.fenced_total,
            expired_total: queue.expired_total,
            retried_total: queue.retried_total,
            commits_by_worker: queue.commits_by_worker.iter().map(|(peer, count)| (peer.to_string(), *count)).collect(),
            listen: node.listen.clone(),
            known_peers: node.peers.len(),
        }
    }
}

/// What the seeds call it.
pub const ALSO: &[(&str, &str)] = &[("remote_multiaddr", "peer_id"), ("remote_peer_id", "peer_id")];
