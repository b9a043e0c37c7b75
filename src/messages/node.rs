//! The node as a whole.

use magpie_core::ids::{Generation, LedgerId, PeerId};
use magpie_core::queue::QueueStats;
use magpie_core::time::Wall;
use serde::{Deserialize, Serialize};

use super::device::DeviceView;
use super::registry::PeerView;
use super::worker::WorkerStats;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeRequest {
    Status,
    /// Which node serves which ledger, as far as this one heard.
    Homes,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeReply {
    Status(Box<NodeStatus>),
    Homes(Vec<HomeView>),
}

/// A ledger and the node that serves it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HomeView {
    pub ledger: LedgerId,
    pub peer_id: PeerId,
    /// 2 and more: it was claimed, after another copy of it was met.
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
    pub ledger: LedgerId,
    pub uptime_ms: u64,
    pub listen: Vec<String>,
    pub peers: Vec<PeerView>,
    pub queue: QueueStats,
    pub worker: WorkerStats,
    pub devices: Vec<DeviceView>,
    /// What does not work on this node, in words.
    pub notices: Vec<String>,
}
