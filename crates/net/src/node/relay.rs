//! Keeps a place at each relay of this node, where members reach it that cannot dial it, and leaves the relay for a
//! direct connection where one comes to stand: that is tried anew as long as none does.

use std::collections::BTreeMap;

use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, dcutr};
use magpie_core::ids::PeerId;

use super::Node;
use super::admit::Standing;
use crate::identity;
use crate::limits;

/// The members that relay for this node.
#[derive(Debug, Default)]
pub(super) struct Relays(BTreeMap<PeerId, Relay>);

/// The members that this node dialled by way of a relay, and meets in no other way.
#[derive(Debug, Default)]
pub(super) struct Detours(BTreeMap<PeerId, Detour>);

#[derive(Debug)]
struct Detour {
    /// The connection at which both sides try again to do without the relay: they do so once for each that is made,
    /// some attempts in a row, and never again over the same one.
    again: Option<ConnectionId>,
    due_ms: u64,
    wait_ms: u64,
}

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

    /// What was between them may let them through another time.
    pub(super) fn punch_again(&mut self) {
        let now_ms = self.now_ms();
        let circuits = self.dialled_by_relays_alone();
        self.detours.0.retain(|peer, _| circuits.contains_key(peer));
        for (peer, circuit) in circuits {
            let detour = self.detours.0.entry(peer).or_insert(Detour {
                again: None,
                due_ms: now_ms + limits::PUNCH_AGAIN_MS,
                wait_ms: limits::PUNCH_AGAIN_MS,
            });
            if detour.due_ms > now_ms {
                continue;
            }
            if let Some(again) = detour.again.take() {
                detour.due_ms = now_ms + detour.wait_ms;
                self.close_beside_another(peer, again);
                continue;
            }
            let options = DialOpts::peer_id(identity::to_libp2p(peer)).addresses(vec![circuit]);
            let options = options.condition(PeerCondition::Always).build();
            detour.again = Some(options.connection_id());
            detour.due_ms = now_ms + limits::PUNCH_TAKES_MS;
            detour.wait_ms = (2 * detour.wait_ms).min(limits::PUNCH_AGAIN_MS_MAX);
            if let Err(error) = self.swarm.dial(options) {
                tracing::debug!(%peer, %error, "no second connection by way of the relay");
            }
        }
    }
}
