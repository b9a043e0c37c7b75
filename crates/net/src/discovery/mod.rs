//! Discovery: one file a method, each of which only says that it found or lost a peer. It suggests; it never admits.

pub(crate) mod bootstrap;
pub(crate) mod dns;
pub(crate) mod github;
pub(crate) mod kademlia;
pub(crate) mod mdns;
pub(crate) mod members;
pub(crate) mod peer_file;
pub(crate) mod rendezvous;

use std::collections::BTreeSet;

use libp2p::Multiaddr;

use crate::book::Source;

/// What a method of discovery says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Suggestion {
    PeerFound { address: Multiaddr, source: Source },
    PeerLost { address: Multiaddr, source: Source },
}

/// What differs between the addresses that a source named before and those that it names now.
fn changes(source: Source, known: &BTreeSet<Multiaddr>, named: &BTreeSet<Multiaddr>) -> Vec<Suggestion> {
    let found = named.difference(known).map(|address| Suggestion::PeerFound { address: address.clone(), source });
    let lost = known.difference(named).map(|address| Suggestion::PeerLost { address: address.clone(), source });
    found.chain(lost).collect()
}
