//! Proof that a head stands under a clock's root.

use serde::{Deserialize, Serialize};

use super::bytes;
use super::head::SignedHead;
use super::trie::{self, Hash};

/// The hash beside one node on the way from a leaf to the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofStep {
    /// The number of the key's bit that tells the side.
    pub depth: u8,
    #[serde(with = "bytes")]
    pub sibling: Hash,
}

/// The way from a leaf to the root, lowest step first: about log2 of the number of ledgers, at most 256.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InclusionProof {
    pub steps: Vec<ProofStep>,
}

impl InclusionProof {
    /// Whether `head` is signed by its peer and stands under `root`.
    pub fn verify(&self, root: &Hash, head: &SignedHead) -> bool {
        self.root_above(head) == Some(*root) && head.verify().is_ok()
    }

    fn root_above(&self, head: &SignedHead) -> Option<Hash> {
        let key = trie::key_of(head.head.ledger);
        let mut hash = trie::leaf_hash(&head.head);
        let mut depth_below = 256;
        for ProofStep { depth, sibling } in &self.steps {
            if u16::from(*depth) >= depth_below {
                return None;
            }
            depth_below = u16::from(*depth);
            hash = match trie::side(&key, *depth) {
                0 => trie::inner_hash(*depth, &hash, sibling),
                _ => trie::inner_hash(*depth, sibling, &hash),
            };
        }
        Some(hash)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::clock::MerkleClock;
    use crate::clock::head::tests::{key, signed};

    fn clock(ledgers: u8) -> MerkleClock {
        let mut clock = MerkleClock::default();
        for ledger in 1..=ledgers {
            clock.tick(signed(ledger, u64::from(ledger))).unwrap();
        }
        clock
    }

    #[test]
    fn every_head_of_a_clock_has_a_short_proof_that_survives_the_wire() {
        let clock = clock(40);
        for head in clock.entries() {
            let proof = clock.prove(head.head.ledger).unwrap();
            assert!(proof.steps.len() <= 16, "{}", proof.steps.len());
            let received = rmp_serde::from_slice::<InclusionProof>(&rmp_serde::to_vec_named(&proof).unwrap()).unwrap();
            assert!(received.verify(&clock.root(), head));
            let read = serde_json::from_str::<InclusionProof>(&serde_json::to_string(&proof).unwrap()).unwrap();
            assert_eq!(read, proof);
        }
        assert_eq!(clock.prove(signed(99, 1).head.ledger), None);
    }

    #[test]
    fn a_lone_head_is_its_own_root() {
        let clock = clock(1);
        assert!(clock.prove(signed(1, 1).head.ledger).unwrap().verify(&clock.root(), &signed(1, 1)));
    }

    #[test]
    fn a_right_path_with_a_wrong_signature_proves_nothing() {
        let clock = clock(3);
        let mut head = signed(2, 2);
        head.signature = signed(2, 3).signature;
        assert!(!clock.prove(head.head.ledger).unwrap().verify(&clock.root(), &head));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn a_tampered_proof_fails(ledger in 1u8..=12, step: Index, bit in 0usize..256, kind in 0..6) {
            static CLOCK: LazyLock<MerkleClock> = LazyLock::new(|| clock(12));
            let clock = &*CLOCK;
            let (mut root, mut head) = (clock.root(), signed(ledger, ledger.into()));
            let mut proof = clock.prove(head.head.ledger).unwrap();
            let flip = |hash: &mut Hash| hash[bit / 8] ^= 1 << (bit % 8);
            let place = step.index(proof.steps.len());
            match kind {
                0 => flip(&mut proof.steps[place].sibling),
                1 => proof.steps[place].depth ^= 1 << (bit % 8),
                2 => { proof.steps.remove(place); }
                3 => { let step = proof.steps[place]; proof.steps.insert(place, step); }
                4 => flip(&mut root),
                _ => { head.head.count += 1; head = head.head.sign(&key(ledger)); }
            }
            prop_assert!(!proof.verify(&root, &head));
        }
    }
}
