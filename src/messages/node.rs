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
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeReply {
    Status(Box<NodeStatus>),
    Homes(Vec<HomeView>),
    HomeExported(Box<HomeMove>),
    HomeImported(Box<HomeMove>),
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
