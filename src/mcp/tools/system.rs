//! How the node is.

use std::time::Instant;

use magpie_core::matching::Capabilities;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::machines;
use super::manager::NoInput;
use crate::mcp::answer::ToolError;
use crate::mcp::handler::{Call, Handler};
use crate::mcp::link::PATIENCE;
use crate::mcp::quota::QuotaRow;
use crate::messages::audit::RouteView;
use crate::messages::node::NodeStatus;

pub struct SystemStatus;

#[derive(Serialize, JsonSchema)]
pub struct SystemStatusOutput {
    ok: bool,
    /// ok, or degraded: then a service is not ok.
    health: &'static str,
    peer_id: String,
    version: String,
    uptime_ms: u64,
    cpus: u32,
    memory_bytes: u64,
    slots_free: u32,
    device_slots_free: u32,
    running: u64,
    waiting: u64,
    peers_alive: usize,
    services: Vec<ServiceRow>,
    /// Calls of tools since the node started, by where they ran.
    routes: Vec<RouteRow>,
    /// How much this caller may use, and has used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    quota: Vec<QuotaRow>,
    /// What does not work on this node.
    notices: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
struct RouteRow {
    /// here, peer, or mounted: at a server that this node mounts.
    route: &'static str,
    calls: u64,
    errors: u64,
    /// Half of them took no longer, and so on.
    #[serde(skip_serializing_if = "Option::is_none")]
    p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p95_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99_ms: Option<f64>,
}

impl From<&RouteView> for RouteRow {
    fn from(view: &RouteView) -> Self {
        let ms = |us: u64| us as f64 / 1_000.0;
        let RouteView { route, calls, errors, p50_us, p95_us, p99_us } = *view;
        let [p50_ms, p95_ms, p99_ms] = [p50_us, p95_us, p99_us].map(|us| us.map(ms));
        Self { route: route.name(), calls, errors, p50_ms, p95_ms, p99_ms }
    }
}

impl Handler for SystemStatus {
    type Input = NoInput;
    type Output = SystemStatusOutput;

    async fn call(&self, _: NoInput, call: &Call<'_>) -> Result<SystemStatusOutput, ToolError> {
        let asked = Instant::now();
        let status = call.link.status(PATIENCE).await?;
        let services = Service::ALL.map(|service| service.row(&status, asked)).to_vec();
        let is_well = services.iter().all(|row| row.health == "ok" || row.health == "off");
        let Capabilities { cpus, memory_bytes, .. } = *status.capabilities;
        let peers_alive = machines::alive(&status).len() - 1;
        Ok(SystemStatusOutput {
            ok: true,
            health: if is_well { "ok" } else { "degraded" },
            peer_id: status.peer_id.to_string(),
            version: status.version,
            uptime_ms: status.uptime_ms,
            cpus,
            memory_bytes,
            slots_free: status.worker.free.cpu,
            device_slots_free: status.worker.free.device,
            running: status.worker.running,
            waiting: status.queue.counts.of(magpie_core::task::TaskState::Ready),
            peers_alive,
            services,
            quota: call.link.quota().await?,
            routes: status.routes.iter().map(RouteRow::from).collect(),
            notices: status.notices,
        })
    }
}

pub struct ServiceHealth;

#[derive(Deserialize, JsonSchema)]
pub struct ServiceHealthInput {
    /// Of mcp, p2p, ledger, worker, inference; all unless said.
    services: Option<Vec<String>>,
}

#[derive(Serialize, JsonSchema)]
pub struct ServiceHealthOutput {
    ok: bool,
    services: Vec<ServiceRow>,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
struct ServiceRow {
    service: String,
    /// ok, degraded, down, off (not configured) or absent (no part of Magpie).
    health: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

impl Handler for ServiceHealth {
    type Input = ServiceHealthInput;
    type Output = ServiceHealthOutput;

    async fn call(&self, input: ServiceHealthInput, call: &Call<'_>) -> Result<ServiceHealthOutput, ToolError> {
        let asked = Instant::now();
        let status = call.link.status(PATIENCE).await?;
        let row = |name: &String| match Service::ALL.into_iter().find(|service| service.name() == name) {
            Some(service) => service.row(&status, asked),
            None => {
                let service = name.chars().take(40).collect();
                let names = Service::ALL.map(Service::name).join(", ");
                ServiceRow { service, health: "absent", why: Some(format!("the services of a node are {names}")) }
            }
        };
        let services = match &input.services {
            Some(names) => names.iter().take(super::detail::LIMIT_MAX).map(row).collect(),
            None => Service::ALL.map(|service| service.row(&status, asked)).to_vec(),
        };
        Ok(ServiceHealthOutput { ok: true, services })
    }
}

/// What a node does for others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Service {
    Mcp,
    P2p,
    Ledger,
    Worker,
    Inference,
}

impl Service {
    const ALL: [Self; 5] = [Self::Mcp, Self::P2p, Self::Ledger, Self::Worker, Self::Inference];

    fn name(self) -> &'static str {
        match self {
            Self::Mcp => "mcp",
            Self::P2p => "p2p",
            Self::Ledger => "ledger",
            Self::Worker => "worker",
            Self::Inference => "inference",
        }
    }

    fn row(self, status: &NodeStatus, asked: Instant) -> ServiceRow {
        let (health, why) = match self {
            Self::Mcp => ("ok", Some(format!("the node answered in {} ms", asked.elapsed().as_millis()))),
            Self::P2p if status.listen.is_empty() => ("down", Some("it listens nowhere".to_owned())),
            Self::P2p => match machines::alive(status).len() - 1 {
                0 if status.peers.is_empty() => ("ok", Some("it knows no other node".to_owned())),
                0 => ("degraded", Some("no other node is alive".to_owned())),
                _ => ("ok", None),
            },
            Self::Ledger => ledger(status),
            Self::Worker => match &status.worker.no_room {
                Some(why) => ("degraded", Some(why.clone())),
                None if status.worker.draining => ("degraded", Some("it drains, and takes nothing new".to_owned())),
                None => ("ok", None),
            },
            Self::Inference => inference(status),
        };
        ServiceRow { service: self.name().to_owned(), health, why }
    }
}

fn ledger(status: &NodeStatus) -> (&'static str, Option<String>) {
    let queue = &status.queue;
    if queue.suspended.is_some() {
        return ("down", Some("it is suspended: another copy of the ledger has gone on".to_owned()));
    }
    if let Some(home) = queue.handed_over_to {
        return ("down", Some(format!("it was handed over to {home}")));
    }
    match queue.disk.trouble() {
        Some(why) => ("down", Some(why.to_owned())),
        None => ("ok", None),
    }
}

fn inference(status: &NodeStatus) -> (&'static str, Option<String>) {
    let why = status.devices.iter().find_map(|device| device.why.clone());
    match status.devices.iter().filter(|device| device.state == "ready").count() {
        _ if status.devices.is_empty() => ("off", None),
        0 => ("down", why.or_else(|| Some("its devices are starting".to_owned()))),
        ready if ready < status.devices.len() => ("degraded", why),
        _ => ("ok", None),
    }
}
