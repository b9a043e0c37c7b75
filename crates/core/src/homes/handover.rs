//! A home says, signed, which peer its ledger goes to: with it, the next home is believed before the old one is silent.

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use super::announcement::Announcement;
use crate::ids::{ContentId, LedgerId, LogIndex, PeerId};
use crate::limits;
use crate::signature::{self, VerifyError};

/// That `from`, which serves `ledger`, never serves it again, and that `to` does, in `tenure` or a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Handover {
    pub ledger: LedgerId,
    pub from: PeerId,
    pub to: PeerId,
    /// One more than that in which `from` served it.
    pub tenure: u64,
    /// The last event of its chain before it was sealed: what goes to `to` is this log, and no other.
    pub count: LogIndex,
    pub event: ContentId,
}

const DOMAIN: &[u8; 18] = b"magpie/handover/1\0";
const SIGNING_BYTES_LEN: usize = DOMAIN.len() + 16 + 32 + 32 + 8 + 8 + 32;

impl Handover {
    /// What is signed: the text `magpie/handover/1` and a zero byte, then ledger (16 bytes), from (32), to (32), tenure
    /// (8), count (8) and event (32), integers with the highest byte first.
    pub fn signing_bytes(&self) -> [u8; SIGNING_BYTES_LEN] {
        signature::statement([
            DOMAIN.as_slice(),
            &self.ledger.0,
            &self.from.0,
            &self.to.0,
            &self.tenure.to_be_bytes(),
            &self.count.0.to_be_bytes(),
            &self.event.0,
        ])
    }

    /// Signs with the key that `self.from` names. The same handover has the same signature each time.
    pub fn sign(self, key: &SigningKey) -> SignedHandover {
        SignedHandover { handover: self, signature: signature::sign(key, &self.from, &self.signing_bytes()) }
    }
}

/// A handover and the former home's ed25519 signature of [`Handover::signing_bytes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SignedHandover {
    pub handover: Handover,
    #[serde(with = "crate::clock::bytes")]
    pub signature: [u8; 64],
}

impl SignedHandover {
    /// # Errors
    /// If `from` is no key, or the signature is not that key's of this handover.
    pub fn verify(&self) -> Result<(), VerifyError> {
        signature::verify(self.handover.from, &self.handover.signing_bytes(), &self.signature)
    }
}

/// Adds the newest handover of a ledger to those before it, of which as many are kept as an announcement may carry.
pub(crate) fn add_handover(handovers: &mut Vec<SignedHandover>, newest: SignedHandover) {
    handovers.push(newest);
    let surplus = handovers.len().saturating_sub(limits::HANDOVERS_MAX);
    handovers.drain(..surplus);
}

/// Whether `handovers`, the oldest first, lead from the home that is `known` to the one that is `presented`: each from
/// where the one before it led, in ever later tenures. Says nothing of signatures.
pub(super) fn lead(handovers: &[SignedHandover], known: &Announcement, presented: &Announcement) -> bool {
    let later =
        |signed: &&SignedHandover| signed.handover.from == known.peer && signed.handover.tenure > known.term.tenure;
    let Some(first) = handovers.iter().position(|signed| later(&signed)) else { return false };
    let mut at = (known.peer, known.term.tenure);
    for SignedHandover { handover, .. } in &handovers[first..] {
        if (handover.ledger, handover.from) != (known.ledger, at.0) || handover.tenure <= at.1 {
            return false;
        }
        at = (handover.to, handover.tenure);
    }
    at.0 == presented.peer && at.1 <= presented.term.tenure
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed() -> SignedHandover {
        let key = SigningKey::from_bytes(&[1; 32]);
        let from = PeerId(key.verifying_key().to_bytes());
        let (ledger, to, event) = (LedgerId([2; 16]), PeerId([3; 32]), ContentId([4; 32]));
        Handover { ledger, from, to, tenure: 5, count: LogIndex(6), event }.sign(&key)
    }

    #[test]
    fn a_handover_signed_by_its_home_verifies_and_no_change_of_it_does() {
        assert_eq!(signed().verify(), Ok(()));
        let changes: [fn(&mut SignedHandover); 7] = [
            |it| it.handover.ledger.0[15] ^= 1,
            |it| it.handover.from.0[0] ^= 1,
            |it| it.handover.to.0[31] ^= 1,
            |it| it.handover.tenure += 1,
            |it| it.handover.count.0 += 1,
            |it| it.handover.event.0[0] ^= 1,
            |it| it.signature[0] ^= 1,
        ];
        for change in changes {
            let mut changed = signed();
            change(&mut changed);
            assert!(changed.verify().is_err(), "{changed:?}");
        }
    }

    #[test]
    fn the_signed_bytes_never_change() {
        let text = data_encoding::HEXLOWER.encode(&signed().handover.signing_bytes());
        let from = data_encoding::HEXLOWER.encode(&signed().handover.from.0);
        let (ledger, to, event) = ("02".repeat(16), "03".repeat(32), "04".repeat(32));
        let numbers = "00000000000000050000000000000006";
        assert_eq!(text, format!("6d61677069652f68616e646f7665722f3100{ledger}{from}{to}{numbers}{event}"));
    }

    #[test]
    fn of_many_handovers_the_newest_are_kept() {
        let mut kept = Vec::new();
        for tenure in 2..20 {
            let mut next = signed();
            next.handover.tenure = tenure;
            add_handover(&mut kept, next);
        }
        assert_eq!(kept.len(), limits::HANDOVERS_MAX);
        assert_eq!(kept.last().map(|last| last.handover.tenure), Some(19));
    }
}
