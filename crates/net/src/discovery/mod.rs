//! Discovery: one file a method, each of which only says that it found or lost a peer. It suggests; it never admits.

pub(crate) mod bootstrap;
pub(crate) mod mdns;
pub(crate) mod peer_file;

use libp2p::Multiaddr;

use crate::book::Source;

/// What a method of discovery says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Suggestion {
    PeerFound { address: Multiaddr, source: Source },
    PeerLost { address: Multiaddr, source: Source },
}
