//! Keeps a place at each relay of this node, where members reach it that cannot dial it, and leaves the relay for a
//! direct connection where one comes to stand.

use std::collections::BTreeMap;

use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, dcutr};
use magpie_core::ids::PeerId;

use super::Node;
use super::admit::Standing;
use crate::limits;

/// The members that relay for this node.
#[derive(Debug, Default)]
pub(super) struct Relays(BTreeMap<PeerId, Relay>);

#[derive(Debug)]
struct Relay {
    /// With `/p2p/PEER`.
    address: Multiaddr,
    /// The place there, or the request for one.
    listener: Option<ListenerId>,
    due_ms: u64,
}

impl Relays {
    pub fn new(relays: impl Iterator<Item = (Multiaddr, PeerId)>) -> Self {
        let relay = |(address, peer)| (peer, Relay { address, listener: None, due_ms: 0 });
        Self(relays.map(relay).collect())
    }

    pub fn has(&self, peer: PeerId) -> bool {
        self.0.contains_key(&peer)
    }
}

impl Node {
    pub(super) fn listen_at_the_relays(&mut self) {
        let now_ms = self.now_ms();
        let due: Vec<PeerId> = self
            .relays
            .0
            .iter()
            .filter(|(peer, relay)| {
                relay.listener.is_none() && relay.due_ms <= now_ms && self.standing(**peer) == Some(Standing::Admitted)
            })
            .map(|(peer, _)| *peer)
            .collect();
        for peer in due {
            let Some(relay) = self.relays.0.get_mut(&peer) else { continue };
            relay.due_ms = now_ms + limits::RELAY_RETRY_MS;
            match self.swarm.listen_on(relay.address.clone().with(Protocol::P2pCircuit)) {
                Ok(listener) => relay.listener = Some(listener),
                Err(error) => tracing::warn!(%peer, %error, "this node cannot listen at a relay"),
            }
        }
    }

    /// A place at a relay goes with the connection to it, or is refused there: it is asked for again.
    pub(super) fn on_listener_closed(&mut self, listener: ListenerId, why: Option<std::io::Error>) {
        let Some((peer, relay)) = self.relays.0.iter_mut().find(|(_, relay)| relay.listener == Some(listener)) else {
            return;
        };
        relay.listener = None;
        match why {
            Some(error) => tracing::warn!(%peer, %error, "a relay gives this node no place; it is asked again"),
            None => tracing::info!(%peer, "this node has lost its place at a relay"),
        }
    }

    /// Both sides dialled each other at the same moment, through whatever is between them.
    pub(super) fn on_punched(&mut self, event: &dcutr::Event) {
        let peer = event.remote_peer_id;
        match &event.result {
            Ok(_) => tracing::info!(%peer, "reached without the relay from now on"),
            Err(error) => tracing::info!(%peer, %error, "no way without the relay"),
        }
    }
}
