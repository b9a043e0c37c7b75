//! Signatures of nodes: a peer's id is its ed25519 public key.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::ids::PeerId;

/// A statement that is not signed by the peer that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    #[error("peer id {0} is not an ed25519 key")]
    NotAKey(PeerId),
    #[error("the signature is not that of peer {0}")]
    WrongSignature(PeerId),
}

/// The fields of a statement one after the other, `LEN` bytes in all.
pub(crate) fn statement<const LEN: usize, const FIELDS: usize>(fields: [&[u8]; FIELDS]) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    let mut rest = bytes.as_mut_slice();
    for field in fields {
        let (place, after) = rest.split_at_mut(field.len());
        place.copy_from_slice(field);
        rest = after;
    }
    bytes
}

/// Signs with `key`, which is the one that `peer` names: by any other, the statement would be refused everywhere.
pub fn sign(key: &SigningKey, peer: &PeerId, statement: &[u8]) -> [u8; 64] {
    debug_assert_eq!(key.verifying_key().to_bytes(), peer.0, "a statement is signed by the peer that makes it");
    key.sign(statement).to_bytes()
}

/// Checks a signature strictly: keys of small order and signatures in another encoding are refused too.
///
/// # Errors
/// If `peer` is no key, or the signature is not that key's of this statement.
pub fn verify(peer: PeerId, statement: &[u8], signature: &[u8; 64]) -> Result<(), VerifyError> {
    let key = VerifyingKey::from_bytes(&peer.0).map_err(|_| VerifyError::NotAKey(peer))?;
    let verified = key.verify_strict(statement, &Signature::from_bytes(signature));
    verified.map_err(|_| VerifyError::WrongSignature(peer))
}
