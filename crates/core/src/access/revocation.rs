//! Revocations: a cluster says, signed, that a ticket or a peer does not come in any more.
//!
//! They only grow, and it does not matter in which order they are heard, so all members end with the same set. What
//! makes two sets equal is their digest.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::cluster::{ClusterId, IssuingKey};
use crate::ids::{PeerId, TicketId};
use crate::limits;
use crate::signature;
use crate::time::Wall;

/// What is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revoked {
    Ticket(TicketId),
    Peer(PeerId),
}

/// A text that names neither a ticket nor a peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{presented:?} is neither a ticket id (32 hexadecimal digits) nor a peer id (12D3KooW...)")]
pub struct ParseRevokedError {
    pub presented: String,
}

impl fmt::Display for Revoked {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ticket(id) => write!(formatter, "ticket {id}"),
            Self::Peer(peer) => write!(formatter, "peer {peer}"),
        }
    }
}

impl FromStr for Revoked {
    type Err = ParseRevokedError;

    fn from_str(text: &str) -> Result<Self, ParseRevokedError> {
        let ticket = text.parse().map(Self::Ticket).ok();
        let named = ticket.or_else(|| text.parse().map(Self::Peer).ok());
        named.ok_or_else(|| ParseRevokedError { presented: text.chars().take(80).collect() })
    }
}

const DOMAIN: &[u8; 17] = b"magpie/revoked/1\0";
const SIGNING_BYTES_LEN: usize = DOMAIN.len() + 1 + 32 + 8 + 32;

/// A revocation with its cluster's ed25519 signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedRevocation {
    pub revoked: Revoked,
    pub at: Wall,
    pub issuer: ClusterId,
    #[serde(with = "crate::clock::bytes")]
    signature: [u8; 64],
}

/// A revocation that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RevocationError {
    #[error("{revoked} was revoked by {issuer}, which is not accepted here")]
    ForeignIssuer { revoked: Revoked, issuer: ClusterId },
    #[error("the revocation of {revoked} is not signed by {issuer}, which it names")]
    WrongSignature { revoked: Revoked, issuer: ClusterId },
    #[error("{held} revocations are kept, at most {max}: change the cluster key, which ends all earlier tickets", max = limits::REVOCATIONS_MAX)]
    Full { held: usize },
}

impl SignedRevocation {
    pub fn issue(key: &IssuingKey, revoked: Revoked, at: Wall) -> Self {
        let issuer = key.cluster();
        let signature = key.sign(&signing_bytes(revoked, at, issuer));
        Self { revoked, at, issuer, signature }
    }

    /// # Errors
    /// If none of `accepted` issued it, or its signature is not the issuer's.
    pub fn verify(&self, accepted: &[ClusterId]) -> Result<(), RevocationError> {
        let Self { revoked, at, issuer, signature } = *self;
        if !accepted.contains(&issuer) {
            return Err(RevocationError::ForeignIssuer { revoked, issuer });
        }
        let verified = issuer.verify(&signing_bytes(revoked, at, issuer), &signature);
        verified.map_err(|_| RevocationError::WrongSignature { revoked, issuer })
    }
}

/// What is signed: the text `magpie/revoked/1` and a zero byte, then the kind (1: ticket 1, peer 2), the id (32, a
/// ticket's with 16 zero bytes behind it), the time (8, Unix milliseconds, the highest byte first) and the issuer (32).
fn signing_bytes(revoked: Revoked, at: Wall, issuer: ClusterId) -> [u8; SIGNING_BYTES_LEN] {
    let (kind, id, padding): (u8, &[u8], &[u8]) = match &revoked {
        Revoked::Ticket(id) => (1, &id.0, &[0; 16]),
        Revoked::Peer(peer) => (2, &peer.0, &[]),
    };
    signature::statement([DOMAIN.as_slice(), &[kind], id, padding, &at.0.to_be_bytes(), &issuer.0])
}

/// All revocations that a node knows; one of each thing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocations {
    by_what: BTreeMap<Revoked, SignedRevocation>,
}

impl Revocations {
    /// Takes up a revocation; `true` if it says something new. Of two for one thing the earliest stays, then the one of
    /// the lesser issuer, so that all nodes keep the same.
    ///
    /// # Errors
    /// If it is not the word of any of `accepted`, or if there are [`limits::REVOCATIONS_MAX`] already.
    pub fn learn(&mut self, signed: SignedRevocation, accepted: &[ClusterId]) -> Result<bool, RevocationError> {
        match self.by_what.get(&signed.revoked) {
            // Told again and again, so nothing is checked for it.
            Some(known) if *known == signed => return Ok(false),
            _ => signed.verify(accepted)?,
        }
        match self.by_what.get(&signed.revoked) {
            Some(known) if (known.at, known.issuer) <= (signed.at, signed.issuer) => return Ok(false),
            Some(_) => {}
            None if self.by_what.len() >= limits::REVOCATIONS_MAX => {
                return Err(RevocationError::Full { held: self.by_what.len() });
            }
            None => {}
        }
        self.by_what.insert(signed.revoked, signed);
        Ok(true)
    }

    pub fn contains(&self, revoked: Revoked) -> bool {
        self.by_what.contains_key(&revoked)
    }

    pub fn iter(&self) -> impl Iterator<Item = &SignedRevocation> {
        self.by_what.values()
    }

    pub fn len(&self) -> usize {
        self.by_what.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_what.is_empty()
    }

    /// The same for the same revocations; 0 for none.
    pub fn digest(&self) -> u64 {
        if self.is_empty() {
            return 0;
        }
        let mut hash = Sha256::new();
        for known in self.iter() {
            hash.update(signing_bytes(known.revoked, known.at, known.issuer));
        }
        hash.finalize().iter().take(8).fold(0, |digest, byte| digest << 8 | u64::from(*byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(seed: u8) -> IssuingKey {
        IssuingKey::from_seed([seed; 32])
    }

    fn accepted() -> [ClusterId; 2] {
        [key(1).cluster(), key(2).cluster()]
    }

    fn revoked() -> impl Strategy<Value = Revoked> {
        prop_oneof![
            any::<[u8; 16]>().prop_map(|id| Revoked::Ticket(TicketId(id))),
            any::<[u8; 32]>().prop_map(|id| Revoked::Peer(PeerId(id))),
            // Some things twice.
            (0u8..4).prop_map(|n| Revoked::Ticket(TicketId([n; 16]))),
        ]
    }

    proptest! {
        #[test]
        fn in_whatever_order_they_are_heard_all_end_with_the_same_revocations(
            said in prop::collection::vec((revoked(), 0u64..3, 1u8..3), 0..20),
            order in any::<prop::sample::Index>(),
        ) {
            let signed: Vec<_> = said.iter().map(|(what, at, seed)| SignedRevocation::issue(&key(*seed), *what, Wall(*at))).collect();
            let (mut one, mut other) = (Revocations::default(), Revocations::default());
            for revocation in &signed {
                one.learn(*revocation, &accepted()).unwrap();
            }
            let mut shuffled = signed.clone();
            if !shuffled.is_empty() {
                let by = order.index(shuffled.len());
                shuffled.rotate_left(by);
                shuffled.reverse();
            }
            for revocation in shuffled.iter().chain(&signed) {
                other.learn(*revocation, &accepted()).unwrap();
            }
            prop_assert_eq!(one.digest(), other.digest());
            prop_assert_eq!(&one, &other);
            for (what, ..) in said {
                prop_assert!(one.contains(what));
            }
        }

        #[test]
        fn a_revocation_survives_json_and_messagepack(what in revoked(), at: u32) {
            let signed = SignedRevocation::issue(&key(1), what, Wall(u64::from(at)));
            let json = serde_json::to_string(&signed).unwrap();
            prop_assert_eq!(serde_json::from_str::<SignedRevocation>(&json).unwrap(), signed);
            let bytes = rmp_serde::to_vec_named(&signed).unwrap();
            prop_assert_eq!(rmp_serde::from_slice::<SignedRevocation>(&bytes).unwrap(), signed);
        }
    }

    #[test]
    fn only_the_word_of_an_accepted_cluster_revokes() {
        let (peer, other) = (Revoked::Peer(PeerId([7; 32])), Revoked::Peer(PeerId([8; 32])));
        let mut known = Revocations::default();
        let foreign = SignedRevocation::issue(&key(3), peer, Wall(1));
        let issuer = key(3).cluster();
        assert_eq!(known.learn(foreign, &accepted()), Err(RevocationError::ForeignIssuer { revoked: peer, issuer }));
        let signed = SignedRevocation::issue(&key(1), peer, Wall(1));
        let issuer = key(1).cluster();
        for changed in [
            SignedRevocation { revoked: other, ..signed },
            SignedRevocation { at: Wall(2), ..signed },
            SignedRevocation { issuer, ..foreign },
        ] {
            let refused = known.learn(changed, &accepted());
            assert_eq!(refused, Err(RevocationError::WrongSignature { revoked: changed.revoked, issuer }));
        }
        assert!(known.is_empty() && known.digest() == 0);
        assert_eq!(known.learn(signed, &accepted()), Ok(true));
        assert_eq!(known.learn(signed, &accepted()), Ok(false));
        assert!(known.contains(peer) && !known.contains(other) && known.digest() != 0);
    }

    #[test]
    fn what_is_revoked_is_told_from_its_text() {
        let (ticket, peer) = (TicketId([7; 16]), PeerId([7; 32]));
        assert_eq!(ticket.to_string().parse(), Ok(Revoked::Ticket(ticket)));
        assert_eq!(peer.to_string().parse(), Ok(Revoked::Peer(peer)));
        assert!("nobody".parse::<Revoked>().unwrap_err().to_string().contains("neither a ticket id"));
    }

    #[test]
    fn i13_a_full_list_of_revocations_refuses_the_next_in_words() {
        let mut known = Revocations::default();
        let ticket = |n: usize| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&n.to_be_bytes());
            SignedRevocation::issue(&key(1), Revoked::Ticket(TicketId(id)), Wall(1))
        };
        for n in 0..limits::REVOCATIONS_MAX {
            assert_eq!(known.learn(ticket(n), &accepted()), Ok(true));
        }
        let refused = known.learn(ticket(limits::REVOCATIONS_MAX), &accepted()).unwrap_err().to_string();
        assert!(refused.contains("change the cluster key"), "{refused}");
        assert_eq!(known.learn(ticket(0), &accepted()), Ok(false), "what is known is no news");
    }
}
