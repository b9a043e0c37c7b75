//! Who may come in: tickets, revocations, and the key that signs them.

use magpie_core::access::{ClusterId, Revoked, Role, SignedRevocation, SignedTicket};
use magpie_core::ids::{PeerId, TicketId};
use magpie_core::time::Wall;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessRequest {
    /// Signs a ticket with this node's cluster key.
    IssueTicket { peer: PeerId, role: Role, life_ms: u64 },
    /// Signs a revocation with this node's cluster key, and tells all members.
    Revoke { revoked: Revoked },
    /// Take the cluster key in a file of this machine in the place of the one that is held; that admits a while longer.
    RotateKey { file: String, overlap_ms: u64 },
    /// What this node holds and accepts.
    ShowKey,
    /// A member tells what was revoked.
    Learn { revocations: Vec<SignedRevocation> },
    /// A member asks for all that was revoked.
    Tell,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessReply {
    Ticket(TicketView),
    Revoked(SignedRevocation),
    Key(Box<KeyView>),
    /// How many of them were news.
    Learned {
        new: u32,
    },
    Revocations(Vec<SignedRevocation>),
}

/// A ticket as its text and as what the text says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketView {
    pub id: TicketId,
    pub peer: PeerId,
    pub role: Role,
    pub not_before: Wall,
    pub expires: Wall,
    pub issuer: ClusterId,
    pub ticket: String,
}

impl From<SignedTicket> for TicketView {
    fn from(signed: SignedTicket) -> Self {
        let ticket = signed.ticket;
        Self {
            id: ticket.id,
            peer: ticket.peer,
            role: ticket.role,
            not_before: ticket.not_before,
            expires: ticket.expires,
            issuer: ticket.issuer,
            ticket: signed.to_string(),
        }
    }
}

/// A cluster key that was replaced, and when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerKeyView {
    pub cluster: ClusterId,
    pub until: Wall,
}

/// What a node holds and accepts; nothing of it is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyView {
    pub peer_id: PeerId,
    /// The public half of the cluster key that this node holds, if it does.
    pub cluster: Option<ClusterId>,
    /// Whose members and tickets are accepted.
    pub accepted: Vec<ClusterId>,
    /// The key before the one that is held, as long as it admits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<FormerKeyView>,
    /// What admits this node elsewhere.
    pub ticket: Option<TicketView>,
    pub revocations: u64,
}
