//! To the registry actor: who is a member, alive, and able to do what.

use std::collections::BTreeSet;
use std::sync::Arc;

use magpie_core::homes::SignedAnnouncement;
use magpie_core::ids::{Generation, Incarnation, LedgerId, PeerId};
use magpie_core::lease::Slots;
use magpie_core::matching::Capabilities;
use magpie_core::membership::PeerReport;
use magpie_core::queue::ShapeBacklog;
use ractor::RpcReplyPort;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use super::worker::WorkerBrief;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegistryRequest {
    Heartbeat(Box<Heartbeat>),
    List,
    /// What this node can do.
    Capabilities,
}

/// What a node says of itself, to one peer after the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    pub incarnation: Incarnation,
    /// What nodes of the version before go by in place of `announcement`, and cannot read a heartbeat without.
    pub ledger: LedgerId,
    pub generation: Generation,
    /// Which ledger it serves; none: it has not opened one yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announcement: Option<Box<SignedAnnouncement>>,
    pub version: String,
    pub capabilities: Arc<Capabilities>,
    pub slots_free: Slots,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerBrief>,
    /// What waits at its home, for thieves.
    pub backlog: Vec<ShapeBacklog>,
    #[serde(with = "magpie_core::queue::root_bytes")]
    pub clock_root: [u8; 32],
    pub reports: Vec<PeerReport>,
    /// The sender's wall clock: how far it differs counts, it is never taken as the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_ms: Option<u64>,
    /// Of all that the sender knows to be revoked; none: of nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_digest: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegistryReply {
    Heartbeat(Box<Heartbeat>),
    Peers(Vec<PeerView>),
    Capabilities(Arc<Capabilities>),
}

/// A peer as this node sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerView {
    pub peer_id: PeerId,
    /// `alive`, `suspect`, `dead` or `banned`.
    pub state: String,
    /// How much longer it is kept out for what it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub banned_for_ms: Option<u64>,
    pub connected: bool,
    /// Whether a relay lies between.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub relayed: bool,
    pub rtt_ms: Option<f64>,
    pub ledger: Option<LedgerId>,
    pub version: Option<String>,
    pub slots_free: Slots,
    /// `None`: an older node does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerBrief>,
    pub capabilities: Option<Arc<Capabilities>>,
    pub addresses: Vec<String>,
    pub last_heard_ms_ago: Option<u64>,
    /// Its wall clock less this node's; off by the way of a message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_ahead_ms: Option<i64>,
}

pub enum RegistryMsg {
    Request {
        from: Option<PeerId>,
        request: RegistryRequest,
        permit: OwnedSemaphorePermit,
        reply: RpcReplyPort<RegistryReply>,
    },
    PeerAdmitted {
        peer: PeerId,
    },
    PeerLost {
        peer: PeerId,
    },
    /// The answer to a heartbeat of ours.
    Heard {
        peer: PeerId,
        heartbeat: Box<Heartbeat>,
        rtt_ms: f64,
    },
    /// The scheduler started anew: it knows no member.
    SchedulerStarted,
    /// Whom the scheduler holds for members: an earlier life of this registry heard them.
    Members(Vec<PeerId>),
    /// The models that a device of this node has loaded.
    Models {
        device: String,
        models: BTreeSet<String>,
    },
    /// Why this node's disk has no room for tasks that need some; `None`: it has.
    Room(Option<String>),
    /// What this node's worker does.
    Worker(WorkerBrief),
    /// What is ready at this node's home.
    Backlog(Vec<ShapeBacklog>),
    ClockRoot([u8; 32]),
    /// A verdict on a silent peer is due.
    Due,
    Tick,
}
