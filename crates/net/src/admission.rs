//! Who may speak: a peer is admitted by the cluster key, by a ticket or by the allow list, never by being found.
//!
//! The one who dialled says [`Greeting::Hello`] with its proof. The other verifies it before it says anything, then
//! answers with its own proof; the dialler verifies that and confirms. A stranger therefore gets no application byte
//! from a node it dials.
//!
//! A proof is `HMAC-SHA256(cluster key, label || prover || verifier)`. Who has only the public half of the key checks a
//! signature of the same in its place, or a ticket for the prover. Noise and QUIC's TLS authenticate both peer ids of
//! the connection that it comes over, so a recorded proof is of no use to anyone but the prover, towards anyone but the
//! verifier, and a ticket of none to anyone but its peer.

use hmac::{Hmac, KeyInit, Mac};
use magpie_core::access::{ClusterId, Revoked, Role, SignedTicket, TicketError};
use magpie_core::ids::{PeerId, TicketId};
use magpie_core::time::Wall;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::config::Admission;
use crate::key::ClusterKey;
use crate::peer_rules::ShutOut;

/// The version of the mailbox protocol. A node speaks with its predecessor and its successor.
pub(crate) const MAILBOX_VERSION: u16 = 1;

const PROOF_LABEL: &[u8] = b"magpie-admit-1";
const MEMBER_LABEL: &[u8] = b"magpie/member/1\0";

/// What a peer that wants to be admitted presents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Credentials {
    pub version: u16,
    /// A random number of this life of the process: another one tells that the peer was restarted.
    pub boot: u64,
    /// Empty from a peer that does not hold the cluster key.
    pub proof: Vec<u8>,
    /// By the cluster's issuing key, for who has only its public half; empty as above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signature: Vec<u8>,
    /// The text of a ticket. What another version calls one must not spoil what stands beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// While a former cluster key admits, proof and signature are that key's, for who was not told the new one yet: this
    /// is the signature by the new one. Empty otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub successor: Vec<u8>,
}

/// From the dialler to the dialled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Greeting {
    Hello(Credentials),
    /// The answer to our hello was verified.
    Confirm,
}

/// From the dialled to the dialler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Welcome(Credentials),
    Confirmed,
}

/// Why a peer is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AdmitError {
    #[error("it is not on the allow list, gave no proof of the cluster key and no ticket")]
    NoProof,
    #[error("its proof of the cluster key is wrong")]
    WrongProof,
    #[error("its ticket does not admit it: {0}")]
    Ticket(#[from] TicketError),
    #[error("{0} was revoked")]
    Revoked(Revoked),
    #[error("this node has no cluster key and the peer is not on its allow list")]
    Closed,
    #[error(transparent)]
    ShutOut(#[from] ShutOut),
    #[error("it speaks version {presented} of the mailbox protocol, this node {MAILBOX_VERSION}")]
    Version { presented: u16 },
}

/// By what a peer was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ground {
    AllowList,
    ClusterKey(ClusterId),
    Ticket { id: TicketId, issuer: ClusterId, expires: Wall },
}

/// What an admitted peer may be, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Passport {
    pub role: Role,
    pub ground: Ground,
}

/// Verifies peers, and presents this node to them.
#[derive(Debug)]
pub(crate) struct Admitter {
    local: PeerId,
    boot: u64,
    rules: Admission,
}

impl Admitter {
    pub fn new(local: PeerId, boot: u64, rules: Admission) -> Self {
        Self { local, boot, rules }
    }

    /// From now on others may come in: see [`Self::holds`] about those who are.
    pub fn set_rules(&mut self, rules: Admission) {
        self.rules = rules;
    }

    /// What this node presents to `peer`.
    pub fn credentials_for(&self, peer: PeerId, now: Wall) -> Credentials {
        let (newest, former) = (self.rules.cluster_key.as_ref(), self.rules.former_key(now));
        let key = former.or(newest);
        let proof = key.map(|key| proof(key.as_bytes(), self.local, peer).finalize().into_bytes().to_vec());
        let statement = membership(self.local, peer);
        let signed = |key: &ClusterKey| key.issuing_key().sign(&statement).to_vec();
        let signature = key.map(signed);
        let successor = newest.filter(|_| former.is_some()).map(signed).unwrap_or_default();
        Credentials {
            successor,
            version: MAILBOX_VERSION,
            boot: self.boot,
            proof: proof.unwrap_or_default(),
            signature: signature.unwrap_or_default(),
            ticket: self.rules.ticket.map(|ticket| ticket.to_string()),
        }
    }

    /// # Errors
    /// If `peer` is neither on the allow list nor proves the cluster key nor has a ticket, is denied, or speaks too old
    /// or too new a version.
    pub fn verify(&self, peer: PeerId, presented: &Credentials, now: Wall) -> Result<Passport, AdmitError> {
        let passport = self.judge(peer, presented, now)?;
        if presented.version.abs_diff(MAILBOX_VERSION) > 1 {
            return Err(AdmitError::Version { presented: presented.version });
        }
        Ok(passport)
    }

    fn judge(&self, peer: PeerId, presented: &Credentials, now: Wall) -> Result<Passport, AdmitError> {
        self.refuse_revoked(Revoked::Peer(peer))?;
        let is_allowed = self.rules.rules.admits(peer)?;
        let clusters = self.rules.accepted_clusters(now);
        let member = |ground| Ok(Passport { role: Role::Peer, ground });
        if is_allowed || self.rules.allow.contains(&peer) {
            return member(Ground::AllowList);
        }
        if let Some(cluster) = self.proven_cluster(peer, presented, now) {
            return member(Ground::ClusterKey(cluster));
        }
        if let Some(text) = &presented.ticket {
            let ticket: SignedTicket = text.parse()?;
            ticket.verify(peer, &clusters, now)?;
            let ticket = ticket.ticket;
            self.refuse_revoked(Revoked::Ticket(ticket.id))?;
            let ground = Ground::Ticket { id: ticket.id, issuer: ticket.issuer, expires: ticket.expires };
            return Ok(Passport { role: ticket.role, ground });
        }
        Err(if clusters.is_empty() {
            AdmitError::Closed
        } else if presented.proof.is_empty() && presented.signature.is_empty() {
            AdmitError::NoProof
        } else {
            AdmitError::WrongProof
        })
    }

    /// What no proof makes up for.
    fn refuse_revoked(&self, what: Revoked) -> Result<(), AdmitError> {
        if self.rules.revoked.contains(what) { Err(AdmitError::Revoked(what)) } else { Ok(()) }
    }

    /// The cluster whose key `peer` proves to hold, of those that are accepted.
    ///
    /// The newest key that both know is the one that counts: who was admitted by a former one goes when that ends.
    fn proven_cluster(&self, peer: PeerId, presented: &Credentials, now: Wall) -> Option<ClusterId> {
        let (statement, clusters) = (membership(peer, self.local), self.rules.accepted_clusters(now));
        let signer = |signature: &[u8]| {
            let signature: &[u8; 64] = signature.try_into().ok()?;
            clusters.iter().copied().find(|cluster| cluster.verify(&statement, signature).is_ok())
        };
        // `verify_slice` compares in constant time.
        let proven = |key: &&ClusterKey| proof(key.as_bytes(), peer, self.local).verify_slice(&presented.proof).is_ok();
        let by_proof = || self.rules.cluster_key.iter().chain(self.rules.former_key(now)).find(proven);
        signer(&presented.successor)
            .or_else(|| by_proof().map(|key| key.issuing_key().cluster()))
            .or_else(|| signer(&presented.signature))
    }

    /// Whether `peer` may stay, who was admitted with `passport`: time passes, and the rules may be others by now.
    ///
    /// # Errors
    /// Why it may not.
    pub fn holds(&self, peer: PeerId, passport: &Passport, now: Wall) -> Result<(), AdmitError> {
        self.refuse_revoked(Revoked::Peer(peer))?;
        if let Ground::Ticket { id, .. } = passport.ground {
            self.refuse_revoked(Revoked::Ticket(id))?;
        }
        let is_allowed = self.rules.rules.admits(peer)?;
        match passport.ground {
            _ if is_allowed || self.rules.allow.contains(&peer) => Ok(()),
            Ground::AllowList => Err(AdmitError::NoProof),
            Ground::ClusterKey(cluster) if self.rules.accepts(cluster, now) => Ok(()),
            Ground::ClusterKey(_) => Err(AdmitError::WrongProof),
            Ground::Ticket { expires, .. } if expires <= now => Err(TicketError::Expired { expires }.into()),
            Ground::Ticket { issuer, .. } if self.rules.accepts(issuer, now) => Ok(()),
            Ground::Ticket { issuer, .. } => Err(TicketError::ForeignIssuer { issuer }.into()),
        }
    }
}

fn proof(key: &[u8; 32], prover: PeerId, verifier: PeerId) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(PROOF_LABEL);
    mac.update(&prover.0);
    mac.update(&verifier.0);
    mac
}

/// What a holder of the key signs towards `verifier`.
fn membership(prover: PeerId, verifier: PeerId) -> Vec<u8> {
    [MEMBER_LABEL, &prover.0, &verifier.0].concat()
}

#[cfg(test)]
mod tests;
