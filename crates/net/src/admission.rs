//! Who may speak: a peer is admitted by the cluster key or by the allow list, never by being found.
//!
//! The one who dialled says [`Greeting::Hello`] with its proof. The other verifies it before it says anything, then
//! answers with its own proof; the dialler verifies that and confirms. A stranger therefore gets no application byte
//! from a node it dials.
//!
//! A proof is `HMAC-SHA256(cluster key, label || prover || verifier)`. Noise and QUIC's TLS authenticate both peer
//! ids of the connection that it comes over, so a recorded proof is of no use to anyone but the prover, towards
//! anyone but the verifier.

use hmac::{Hmac, KeyInit, Mac};
use magpie_core::ids::PeerId;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::config::Admission;

/// The version of the mailbox protocol. A node speaks with its predecessor and its successor.
pub(crate) const MAILBOX_VERSION: u16 = 1;

const PROOF_LABEL: &[u8] = b"magpie-admit-1";

/// What a peer that wants to be admitted presents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Credentials {
    pub version: u16,
    /// A random number of this life of the process: another one tells that the peer was restarted.
    pub boot: u64,
    /// Empty from a peer that trusts to the allow list.
    pub proof: Vec<u8>,
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
    #[error("it is not on the allow list and gave no proof of the cluster key")]
    NoProof,
    #[error("its proof of the cluster key is wrong")]
    WrongProof,
    #[error("this node has no cluster key and the peer is not on its allow list")]
    Closed,
    #[error("it speaks version {presented} of the mailbox protocol, this node {MAILBOX_VERSION}")]
    Version { presented: u16 },
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

    /// What this node presents to `peer`.
    pub fn credentials_for(&self, peer: PeerId) -> Credentials {
        let proof = self.rules.cluster_key.as_ref().map(|key| proof(key.as_bytes(), self.local, peer));
        let proof = proof.map(|mac| mac.finalize().into_bytes().to_vec()).unwrap_or_default();
        Credentials { version: MAILBOX_VERSION, boot: self.boot, proof }
    }

    /// # Errors
    /// If `peer` is neither on the allow list nor proves the cluster key, or speaks too old or too new a version.
    pub fn verify(&self, peer: PeerId, presented: &Credentials) -> Result<(), AdmitError> {
        self.verify_proof(peer, &presented.proof)?;
        if presented.version.abs_diff(MAILBOX_VERSION) > 1 {
            return Err(AdmitError::Version { presented: presented.version });
        }
        Ok(())
    }

    fn verify_proof(&self, peer: PeerId, presented: &[u8]) -> Result<(), AdmitError> {
        if self.rules.allow.contains(&peer) {
            return Ok(());
        }
        let Some(key) = &self.rules.cluster_key else { return Err(AdmitError::Closed) };
        if presented.is_empty() {
            return Err(AdmitError::NoProof);
        }
        // `verify_slice` compares in constant time.
        proof(key.as_bytes(), peer, self.local).verify_slice(presented).map_err(|_| AdmitError::WrongProof)
    }
}

fn proof(key: &[u8; 32], prover: PeerId, verifier: PeerId) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(PROOF_LABEL);
    mac.update(&prover.0);
    mac.update(&verifier.0);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::ClusterKey;
    use proptest::prelude::*;

    const ALICE: PeerId = PeerId([1; 32]);
    const BOB: PeerId = PeerId([2; 32]);
    const EVE: PeerId = PeerId([3; 32]);

    fn with_key(local: PeerId, key: [u8; 32]) -> Admitter {
        Admitter::new(local, 7, Admission { cluster_key: Some(ClusterKey::from_bytes(key)), ..Admission::default() })
    }

    fn with_list(local: PeerId, allow: &[PeerId]) -> Admitter {
        Admitter::new(local, 7, Admission { cluster_key: None, allow: allow.iter().copied().collect() })
    }

    #[test]
    fn holders_of_one_key_admit_each_other() {
        let (alice, bob) = (with_key(ALICE, [9; 32]), with_key(BOB, [9; 32]));
        assert_eq!(bob.verify(ALICE, &alice.credentials_for(BOB)), Ok(()));
        assert_eq!(alice.verify(BOB, &bob.credentials_for(ALICE)), Ok(()));
    }

    #[test]
    fn a_proof_is_useless_to_anyone_else_and_towards_anyone_else() {
        let (alice, bob, eve) = (with_key(ALICE, [9; 32]), with_key(BOB, [9; 32]), with_key(EVE, [9; 32]));
        let recorded = alice.credentials_for(BOB);
        assert_eq!(bob.verify(EVE, &recorded), Err(AdmitError::WrongProof), "another prover");
        assert_eq!(eve.verify(ALICE, &recorded), Err(AdmitError::WrongProof), "another verifier");
        assert_eq!(alice.verify(BOB, &recorded), Err(AdmitError::WrongProof), "sent back");
    }

    #[test]
    fn the_allow_list_needs_no_proof_and_the_default_admits_nobody() {
        let stranger = with_list(EVE, &[]);
        assert_eq!(with_list(ALICE, &[BOB]).verify(BOB, &with_list(BOB, &[]).credentials_for(ALICE)), Ok(()));
        assert_eq!(with_list(ALICE, &[BOB]).verify(EVE, &stranger.credentials_for(ALICE)), Err(AdmitError::Closed));
        assert_eq!(
            with_list(ALICE, &[]).verify(BOB, &with_key(BOB, [9; 32]).credentials_for(ALICE)),
            Err(AdmitError::Closed)
        );
        assert_eq!(with_key(ALICE, [9; 32]).verify(EVE, &stranger.credentials_for(ALICE)), Err(AdmitError::NoProof));
    }

    #[test]
    fn neighbouring_versions_speak_and_others_do_not() {
        let (alice, bob) = (with_key(ALICE, [9; 32]), with_key(BOB, [9; 32]));
        for (version, admitted) in
            [(MAILBOX_VERSION - 1, true), (MAILBOX_VERSION + 1, true), (MAILBOX_VERSION + 2, false)]
        {
            let presented = Credentials { version, ..alice.credentials_for(BOB) };
            assert_eq!(bob.verify(ALICE, &presented).is_ok(), admitted, "version {version}");
        }
    }

    proptest! {
        #[test]
        fn no_guess_is_a_proof(key: [u8; 32], guess in prop::collection::vec(any::<u8>(), 0..80)) {
            let presented = Credentials { version: MAILBOX_VERSION, boot: 0, proof: guess };
            prop_assert!(with_key(ALICE, key).verify(EVE, &presented).is_err());
        }

        #[test]
        fn greetings_survive_the_wire(version: u16, boot: u64, proof in prop::collection::vec(any::<u8>(), 0..40)) {
            let hello = Greeting::Hello(Credentials { version, boot, proof });
            let bytes = rmp_serde::to_vec_named(&hello).unwrap();
            prop_assert_eq!(rmp_serde::from_slice::<Greeting>(&bytes).unwrap(), hello);
        }
    }
}
