//! Peers of the local network, by multicast DNS.

use libp2p::mdns;
use libp2p::swarm::behaviour::toggle::Toggle;

use super::Suggestion;
use crate::book::Source;

/// Off where it is not wanted, or where the system refuses multicast: the other methods go on.
pub(crate) fn behaviour(wanted: bool, local: libp2p::PeerId) -> Toggle<mdns::tokio::Behaviour> {
    let made = wanted.then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), local));
    let working =
        made.and_then(|made| made.inspect_err(|error| tracing::warn!(%error, "no mDNS on this machine")).ok());
    working.into()
}

pub(crate) fn suggestions(event: mdns::Event) -> Vec<Suggestion> {
    let source = Source::Mdns;
    match event {
        mdns::Event::Discovered(peers) => {
            peers.into_iter().map(|(_, address)| Suggestion::PeerFound { address, source }).collect()
        }
        mdns::Event::Expired(peers) => {
            peers.into_iter().map(|(_, address)| Suggestion::PeerLost { address, source }).collect()
        }
    }
}
