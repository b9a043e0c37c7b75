//! The node as a whole.

use std::sync::Arc;

use magpie_core::ids::{Generation, LedgerId, PeerId};
use magpie_core::lease::Slots;
use magpie_core::matching::Capabilities;
use magpie_core::queue::QueueStats;
use magpie_core::time::Wall;
use serde::{Deserialize, Serialize};

use super::audit::{AuditAsk, AuditFound, CallLine, RouteView};
use super::device::DeviceView;
use super::registry::PeerView;
use super::worker::{WorkerBrief, WorkerStats};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeRequest {
    Status,
    /// Which node serves which ledger, as far as this one heard.
    Homes,
    /// Seal this node's ledger for the node `to`, for good, and write it to a file of this machine.
    ExportHome {
        ledger: LedgerId,
        to: PeerId,
        file: String,
    },
    /// Serve the ledger that is in a file of this machine.
    ImportHome {
        file: String,
    },
    /// The newest lines of the node's own log.
    Logs(LogsAsk),
    /// Keep these calls of tools, which whoever says this made.
    RecordCalls(Vec<CallLine>),
    /// The calls that are kept.
    Audit(AuditAsk),
}

/// Which lines; all that match all of it, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogsAsk {
    /// Of this level, or more serious.
    pub level: Option<LogLevel>,
    /// A part of where the line comes from.
    pub target: Option<String>,
    /// Each must be there, in any case.
    pub words: Vec<String>,
    pub since: Option<Wall>,
    pub skip: usize,
    pub limit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    Debug,
    Info,
    Warning,
    Error,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    pub at: Wall,
    pub level: LogLevel,
    /// The part of the program that says it.
    pub target: String,
    pub message: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeReply {
    Status(Box<NodeStatus>),
    Homes(Vec<HomeView>),
    HomeExported(Box<HomeMove>),
    HomeImported(Box<HomeMove>),
    Logs(Vec<LogLine>),
    CallsRecorded,
    Audit(AuditFound),
}

/// A ledger on its way to another node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HomeMove {
    pub ledger: LedgerId,
    pub from: PeerId,
    pub to: PeerId,
    /// In which it is served next.
    pub tenure: u64,
    pub file: String,
    pub records: u64,
    pub blobs: u64,
    pub bytes: u64,
}

/// A ledger and the node that serves it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HomeView {
    pub ledger: LedgerId,
    pub peer_id: PeerId,
    /// 2 and more: it moved, or was claimed after another copy of it was met.
    pub tenure: u64,
    /// Its starts.
    pub generation: Generation,
    /// Whether it is the ledger of the node that was asked.
    pub own: bool,
    /// When the home was last heard itself; none: it never was, others told of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Wall>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    pub peer_id: PeerId,
    pub version: String,
    /// Where it serves HTTP: `http://127.0.0.1:7480`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    pub ledger: LedgerId,
    pub uptime_ms: u64,
    pub listen: Vec<String>,
    pub peers: Vec<PeerView>,
    pub queue: QueueStats,
    pub worker: WorkerStats,
    pub devices: Vec<DeviceView>,
    /// What this node can do.
    #[serde(default)]
    pub capabilities: Arc<Capabilities>,
    /// What does not work on this node, in words.
    pub notices: Vec<String>,
    /// Calls of tools since it started, by where they ran.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteView>,
}

impl NodeStatus {
    /// The workers of the mesh; its own is the first.
    pub fn workers(&self) -> Vec<WorkerView<'_>> {
        let own = WorkerBrief::of(&self.worker);
        let no_room = self.worker.no_room.as_deref();
        let own = worker(self.peer_id, "alive", self.worker.free, Some(own), no_room);
        let own = WorkerView { stats: Some(&self.worker), ..own };
        let others = self.peers.iter().map(|peer| {
            let no_room = peer.capabilities.as_ref().and_then(|capabilities| capabilities.no_room.as_deref());
            worker(peer.peer_id, &peer.state, peer.slots_free, peer.worker, no_room)
        });
        [own].into_iter().chain(others).collect()
    }
}

/// A worker as this node knows it: of others it hears little.
#[derive(Debug, Serialize)]
pub struct WorkerView<'a> {
    pub peer_id: PeerId,
    pub state: &'a str,
    pub slots: Option<u32>,
    pub slots_free: u32,
    pub device_slots_free: u32,
    pub running: Option<u64>,
    pub queued: Option<u64>,
    pub draining: Option<bool>,
    /// Why it takes no task that needs room on its disk.
    pub no_room: Option<&'a str>,
    /// This node's own.
    pub stats: Option<&'a WorkerStats>,
}

/// A node that is alive and drains is shown as draining, one without room as that; one that is away, as away.
fn worker<'a>(
    peer_id: PeerId,
    state: &'a str,
    free: Slots,
    brief: Option<WorkerBrief>,
    no_room: Option<&'a str>,
) -> WorkerView<'a> {
    let draining = brief.map(|brief| brief.draining);
    WorkerView {
        peer_id,
        state: match state {
            "alive" if draining == Some(true) => "draining",
            "alive" if no_room.is_some() => "no room",
            state => state,
        },
        slots: brief.map(|brief| brief.slots.cpu),
        slots_free: free.cpu,
        device_slots_free: free.device,
        running: brief.map(|brief| brief.running),
        queued: brief.map(|brief| brief.queued),
        draining,
        no_room,
        stats: None,
    }
}
