//! The addresses of the configuration.

use libp2p::Multiaddr;

use super::Suggestion;
use crate::book::Source;

pub(crate) fn suggestions(addresses: impl Iterator<Item = Multiaddr>) -> impl Iterator<Item = Suggestion> {
    addresses.map(|address| Suggestion::PeerFound { address, source: Source::Bootstrap })
}
