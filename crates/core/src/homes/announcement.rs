//! A home says, signed, which ledger it serves.

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use super::handover::SignedHandover;
use crate::ids::{Generation, LedgerId, PeerId};
use crate::signature::{self, VerifyError};

/// Which life of a home speaks: later tenures beat earlier ones, then later generations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Term {
    /// Grows only when the ledger moves to another home or is claimed.
    pub tenure: u64,
    /// Grows with each start.
    pub generation: Generation,
}

/// That `peer` serves `ledger`, since the start that `term` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Announcement {
    pub ledger: LedgerId,
    pub peer: PeerId,
    pub term: Term,
}

const DOMAIN: &[u8; 14] = b"magpie/home/1\0";
const SIGNING_BYTES_LEN: usize = DOMAIN.len() + 16 + 32 + 8 + 4;

impl Announcement {
    /// What is signed: the text `magpie/home/1` and a zero byte, then ledger (16 bytes), peer (32), tenure (8) and
    /// generation (4), integers with the highest byte first.
    pub fn signing_bytes(&self) -> [u8; SIGNING_BYTES_LEN] {
        signature::statement([
            DOMAIN.as_slice(),
            &self.ledger.0,
            &self.peer.0,
            &self.term.tenure.to_be_bytes(),
            &self.term.generation.0.to_be_bytes(),
        ])
    }

    /// Signs with the key that `self.peer` names.
    pub fn sign(self, key: &SigningKey) -> SignedAnnouncement {
        let signature = signature::sign(key, &self.peer, &self.signing_bytes());
        SignedAnnouncement { announcement: self, signature, handovers: Vec::new() }
    }
}

/// An announcement and its peer's ed25519 signature of [`Announcement::signing_bytes`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SignedAnnouncement {
    pub announcement: Announcement,
    #[serde(with = "crate::clock::bytes")]
    pub signature: [u8; 64],
    /// Of a ledger that moved: how it came to this peer, the oldest first. Each is signed for itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub handovers: Vec<SignedHandover>,
}

impl SignedAnnouncement {
    /// Shows how the ledger came to this peer.
    #[must_use]
    pub fn with_handovers(self, handovers: Vec<SignedHandover>) -> Self {
        Self { handovers, ..self }
    }

    /// # Errors
    /// If a peer id is no key, or a signature, of this announcement or of a handover, is not that key's.
    pub fn verify(&self) -> Result<(), VerifyError> {
        signature::verify(self.announcement.peer, &self.announcement.signing_bytes(), &self.signature)?;
        self.handovers.iter().try_for_each(SignedHandover::verify)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced() -> SignedAnnouncement {
        let key = SigningKey::from_bytes(&[1; 32]);
        let peer = PeerId(key.verifying_key().to_bytes());
        let term = Term { tenure: 3, generation: Generation(7) };
        Announcement { ledger: LedgerId([2; 16]), peer, term }.sign(&key)
    }

    #[test]
    fn an_announcement_signed_by_its_peer_verifies_and_no_change_of_it_does() {
        assert_eq!(announced().verify(), Ok(()));
        let changes: [fn(&mut SignedAnnouncement); 5] = [
            |it| it.announcement.ledger.0[15] ^= 1,
            |it| it.announcement.peer.0[0] ^= 1,
            |it| it.announcement.term.tenure += 1,
            |it| it.announcement.term.generation.0 += 1,
            |it| it.signature[0] ^= 1,
        ];
        for change in changes {
            let mut changed = announced();
            change(&mut changed);
            assert!(changed.verify().is_err(), "{changed:?}");
        }
    }

    #[test]
    fn the_signed_bytes_never_change() {
        let text = data_encoding::HEXLOWER.encode(&announced().announcement.signing_bytes());
        let peer = data_encoding::HEXLOWER.encode(&announced().announcement.peer.0);
        let ledger = "02".repeat(16);
        assert_eq!(text, format!("6d61677069652f686f6d652f3100{ledger}{peer}000000000000000300000007"));
    }

    #[test]
    fn terms_order_by_tenure_then_generation() {
        let term = |tenure, generation| Term { tenure, generation: Generation(generation) };
        assert!(term(2, 1) > term(1, 9) && term(1, 3) > term(1, 2));
    }
}
