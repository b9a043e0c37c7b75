//! The end of a home's chain, as the home publishes it: signed, once per heartbeat or batch, after its fsync.

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use super::bytes;
use crate::ids::{ContentId, Generation, LedgerId, PeerId};
use crate::signature::{self, VerifyError};

/// How far a ledger had come: later tenures beat earlier ones, then generations, then counts of events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Grows only when the ledger moves to another home or is claimed.
    pub tenure: u64,
    pub generation: Generation,
    pub count: u64,
}

/// The end of a ledger's chain: the number of its events and the last one's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Head {
    pub ledger: LedgerId,
    /// The home: the key that signs.
    pub peer: PeerId,
    pub tenure: u64,
    pub generation: Generation,
    pub count: u64,
    pub event: ContentId,
}

const DOMAIN: &[u8; 14] = b"magpie/head/1\0";
const SIGNING_BYTES_LEN: usize = DOMAIN.len() + 16 + 32 + 8 + 4 + 8 + 32;

impl Head {
    pub fn position(&self) -> Position {
        Position { tenure: self.tenure, generation: self.generation, count: self.count }
    }

    /// What is signed, and what the Merkle clock's leaf is the hash of: the text `magpie/head/1` and a zero byte, then
    /// ledger (16 bytes), peer (32), tenure (8), generation (4), count (8) and event (32), integers with the highest
    /// byte first. Each field has one length, so no two heads share their bytes.
    pub fn signing_bytes(&self) -> [u8; SIGNING_BYTES_LEN] {
        signature::statement([
            DOMAIN.as_slice(),
            &self.ledger.0,
            &self.peer.0,
            &self.tenure.to_be_bytes(),
            &self.generation.0.to_be_bytes(),
            &self.count.to_be_bytes(),
            &self.event.0,
        ])
    }

    /// Signs with `key`, which is the one that `self.peer` names: by any other, the head would be refused everywhere.
    pub fn sign(self, key: &SigningKey) -> SignedHead {
        SignedHead { head: self, signature: signature::sign(key, &self.peer, &self.signing_bytes()) }
    }
}

/// A head and its peer's ed25519 signature of [`Head::signing_bytes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SignedHead {
    pub head: Head,
    #[serde(with = "bytes")]
    pub signature: [u8; 64],
}

/// A head whose signature is not its peer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("event {count} of ledger {ledger}: {why}")]
pub struct VerifyHeadError {
    pub ledger: LedgerId,
    pub count: u64,
    pub why: VerifyError,
}

impl SignedHead {
    /// Checks the signature, strictly.
    ///
    /// # Errors
    /// If the peer id is no key, or the signature is not that key's of this head.
    pub fn verify(&self) -> Result<(), VerifyHeadError> {
        let Head { ledger, peer, count, .. } = self.head;
        let verified = signature::verify(peer, &self.head.signing_bytes(), &self.signature);
        verified.map_err(|why| VerifyHeadError { ledger, count, why })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use ed25519_dalek::{Signature, VerifyingKey};

    use super::*;

    /// A home with the key of one byte repeated.
    pub fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    pub fn head(ledger: u8, count: u64) -> Head {
        Head {
            ledger: LedgerId([ledger; 16]),
            peer: PeerId(key(ledger).verifying_key().to_bytes()),
            tenure: 1,
            generation: Generation(1),
            count,
            event: ContentId::of(&count.to_be_bytes()),
        }
    }

    pub fn signed(ledger: u8, count: u64) -> SignedHead {
        head(ledger, count).sign(&key(ledger))
    }

    #[test]
    fn a_head_signed_by_its_peer_verifies() {
        assert_eq!(signed(1, 7).verify(), Ok(()));
    }

    #[test]
    fn a_change_of_any_field_is_refused() {
        let honest = signed(1, 7);
        let changes: [fn(&mut SignedHead); 7] = [
            |it| it.head.ledger.0[0] ^= 1,
            |it| it.head.peer = head(2, 7).peer,
            |it| it.head.tenure += 1,
            |it| it.head.generation.0 += 1,
            |it| it.head.count += 1,
            |it| it.head.event.0[31] ^= 1,
            |it| it.signature[63] ^= 1,
        ];
        for change in changes {
            let mut changed = honest;
            change(&mut changed);
            let Head { ledger, peer, count, .. } = changed.head;
            assert_eq!(
                changed.verify(),
                Err(VerifyHeadError { ledger, count, why: VerifyError::WrongSignature(peer) })
            );
        }
    }

    #[test]
    fn a_peer_id_that_is_no_key_is_refused() {
        let mut changed = signed(1, 7);
        changed.head.peer = PeerId([2; 32]);
        let Head { ledger, peer, count, .. } = changed.head;
        assert_eq!(changed.verify(), Err(VerifyHeadError { ledger, count, why: VerifyError::NotAKey(peer) }));
    }

    #[test]
    fn a_key_of_small_order_is_refused_though_its_signature_is_easily_made() {
        let mut forged = signed(1, 7);
        forged.head.peer = PeerId({
            let mut identity = [0; 32];
            identity[0] = 1;
            identity
        });
        forged.signature = [0; 64];
        forged.signature[0] = 1;
        let key = VerifyingKey::from_bytes(&forged.head.peer.0).unwrap();
        let signature = Signature::from_bytes(&forged.signature);
        assert!(ed25519_dalek::Verifier::verify(&key, &forged.head.signing_bytes(), &signature).is_ok());
        let why = forged.verify().unwrap_err().why;
        assert_eq!(why, VerifyError::WrongSignature(forged.head.peer));
    }

    #[test]
    fn the_signed_bytes_stay_what_they_are() {
        let head = Head {
            ledger: LedgerId([0x11; 16]),
            peer: PeerId([0x22; 32]),
            tenure: 3,
            generation: Generation(4),
            count: 5,
            event: ContentId([0x66; 32]),
        };
        let expected = [
            b"magpie/head/1\0".to_vec(),
            vec![0x11; 16],
            vec![0x22; 32],
            vec![0, 0, 0, 0, 0, 0, 0, 3],
            vec![0, 0, 0, 4],
            vec![0, 0, 0, 0, 0, 0, 0, 5],
            vec![0x66; 32],
        ];
        assert_eq!(head.signing_bytes().to_vec(), expected.concat());
    }

    #[test]
    fn heads_survive_json_and_messagepack() {
        let head = signed(3, 1 << 40);
        let json = serde_json::to_value(head).unwrap();
        assert_eq!(json["head"]["ledger"], head.head.ledger.to_string());
        assert_eq!(json["signature"].as_str().unwrap().len(), 128);
        assert_eq!(serde_json::from_value::<SignedHead>(json).unwrap(), head);
        let packed = rmp_serde::to_vec_named(&head).unwrap();
        assert!(packed.len() < 256, "{}", packed.len());
        assert_eq!(rmp_serde::from_slice::<SignedHead>(&packed).unwrap(), head);
    }

    #[test]
    fn positions_order_by_tenure_then_generation_then_count() {
        let position = |tenure, generation, count| Position { tenure, generation: Generation(generation), count };
        let ascending = [position(1, 1, 9), position(1, 2, 0), position(1, 2, 1), position(2, 1, 0)];
        assert!(ascending.is_sorted());
    }
}
