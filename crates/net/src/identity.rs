//! Peer ids: core's on the outside, libp2p's towards the swarm.

use magpie_core::ids::PeerId;

/// The bytes of an "identity" multihash of an ed25519 public key, before the key itself.
const ED25519_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

pub(crate) fn to_libp2p(peer: PeerId) -> libp2p::PeerId {
    let bytes = [ED25519_PREFIX.as_slice(), &peer.0].concat();
    libp2p::PeerId::from_bytes(&bytes).expect("a prefix and 32 bytes are an identity multihash")
}

/// `None` for a peer whose key is not ed25519: it cannot be a member.
pub(crate) fn from_libp2p(peer: &libp2p::PeerId) -> Option<PeerId> {
    let key = peer.to_bytes().strip_prefix(&ED25519_PREFIX)?.try_into().ok()?;
    Some(PeerId(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn both_forms_of_a_peer_id_are_one_text(bytes: [u8; 32]) {
            let peer = PeerId(bytes);
            prop_assert_eq!(to_libp2p(peer).to_string(), peer.to_string());
            prop_assert_eq!(from_libp2p(&to_libp2p(peer)), Some(peer));
        }
    }
}
