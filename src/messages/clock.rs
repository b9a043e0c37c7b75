//! To the clock actor: the Merkle clock of signed heads.

use magpie_core::clock::{Position, SignedHead};
use magpie_core::homes::SignedAnnouncement;
use magpie_core::ids::{ContentId, LedgerId, LogIndex, PeerId};
use ractor::RpcReplyPort;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockRequest {
    /// A peer whose root differs sends the heads that ours may lack; the answer has those that its may lack.
    Exchange(Exchange),
    Show,
    /// Checks every signature and the root above them, and compares with the peers that answer.
    Audit,
    /// Checks the next piece of this node's own chain of events, behind what was checked.
    CheckChain {
        after: Option<Link>,
        /// The piece ends here, if not before.
        upto: Option<LogIndex>,
    },
}

/// A record of a ledger, and its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub index: LogIndex,
    pub event: ContentId,
}

/// How far a chain was followed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChainPiece {
    /// The first record that is kept: what was before it is taken at its word.
    pub first: LogIndex,
    /// The last that was checked; none: there is none.
    pub reached: Option<Link>,
    /// Records of this piece. None: the end was reached.
    pub records: u64,
    /// Where it does not hold, in words.
    pub broken: Option<String>,
}

/// What is wrong with a clock, if something is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClockAudit {
    pub node: PeerId,
    pub merkle_root: String,
    /// Whether the heads have this root.
    pub root_holds: bool,
    pub heads: u64,
    pub refused: Vec<HeadFault>,
    /// The head of this node's own ledger.
    pub own: Option<SignedHead>,
    pub peers: Vec<PeerClock>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadFault {
    pub ledger: LedgerId,
    pub why: String,
}

/// How a peer's clock stands to this node's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerClock {
    pub peer_id: PeerId,
    /// `equal`, `before`, `after` or `concurrent`; none: it did not answer.
    pub ordering: Option<String>,
    /// Ledgers of which it knows less, and more, than this node.
    pub behind: u64,
    pub ahead: u64,
    /// Ledgers of which the two hold different events of one number.
    pub forked: Vec<LedgerId>,
    pub refused: Vec<HeadFault>,
    pub unanswered: Option<String>,
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
    Audited(Box<ClockAudit>),
    ChainChecked(ChainPiece),
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
