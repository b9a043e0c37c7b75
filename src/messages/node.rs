//! The node as a whole.

use magpie_core::ids::{LedgerId, PeerId};
use magpie_core::queue::QueueStats;
use serde::{Deserialize, Serialize};

use super::device::DeviceView;
use super::registry::PeerView;
use super::worker::WorkerStats;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeRequest {
    Status,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeReply {
    Status(Box<NodeStatus>),
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
