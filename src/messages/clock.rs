//! To the clock actor: the Merkle clock of signed heads.

use magpie_core::clock::{Position, SignedHead};
use magpie_core::homes::SignedAnnouncement;
use magpie_core::ids::{ContentId, PeerId};
use ractor::RpcReplyPort;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockRequest {
    /// A peer whose root differs sends the heads that ours may lack; the answer has those that its may lack.
    Exchange(Exchange),
    Show,
}

/// What a node knows of all homes: who they are, and how far their ledgers have come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    #[serde(default)]
    pub announcements: Vec<SignedAnnouncement>,
    pub heads: Vec<SignedHead>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockReply {
    Exchanged(Exchange),
    Clock(ClockView),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClockView {
    pub node: PeerId,
    /// Hexadecimal.
    pub merkle_root: String,
    pub heads: Vec<SignedHead>,
    pub refused: u64,
    pub equivocations: u64,
}

pub enum ClockMsg {
    Request {
        /// The peer that asks; none: a client of this node.
        from: Option<PeerId>,
        request: ClockRequest,
        permit: OwnedSemaphorePermit,
        reply: RpcReplyPort<ClockReply>,
    },
    /// It does not know the root yet.
    RegistryStarted,
    /// The durable chain of this home grew.
    PublishHead { position: Position, event: ContentId },
    /// A peer's heartbeat carried this root.
    PeerRoot { peer: PeerId, root: [u8; 32] },
    /// What a peer answered that was asked for its heads.
    Merge { peer: PeerId, exchanged: Exchange },
}
