//! Registers this node with the rendezvous points, and asks them whom they know.

use std::collections::BTreeMap;

use libp2p::PeerId as Libp2pPeerId;
use libp2p::rendezvous::{Cookie, client};
use magpie_core::ids::PeerId;

use super::Node;
use super::admit::Standing;
use crate::discovery::rendezvous;
use crate::identity;
use crate::limits;
use crate::network::{Network, is_afar};

/// The points, by their peer.
#[derive(Debug, Default)]
pub(super) struct Points(BTreeMap<PeerId, Point>);

#[derive(Debug, Default)]
struct Point {
    register_due_ms: u64,
    ask_due_ms: u64,
    /// What it told already.
    cookie: Option<Cookie>,
}

impl Points {
    pub fn new(peers: impl Iterator<Item = PeerId>) -> Self {
        Self(peers.map(|peer| (peer, Point::default())).collect())
    }

    /// Each is asked for others with the next visit.
    pub fn ask_at_once(&mut self) {
        self.0.values_mut().for_each(|point| point.ask_due_ms = 0);
    }

    /// The point's memory may be gone: it is told all and asked for all again.
    pub fn forget(&mut self, peer: PeerId) {
        if let Some(point) = self.0.get_mut(&peer) {
            *point = Point::default();
        }
    }
}

impl Node {
    pub(super) fn visit_the_points(&mut self) {
        let now_ms = self.now_ms();
        let admitted: Vec<PeerId> =
            self.points.0.keys().copied().filter(|peer| self.standing(*peer) == Some(Standing::Admitted)).collect();
        for peer in admitted {
            let met_afar = self.remotes_of(peer).all(is_afar);
            let is_somewhere = self.told.members.iter().any(|address| !met_afar || Network::Internet.shares(address));
            let Some(point) = self.points.0.get_mut(&peer) else { continue };
            let behaviour = self.swarm.behaviour_mut();
            let clients = if met_afar { &mut behaviour.rendezvous_afar } else { &mut behaviour.rendezvous };
            let Some(client) = clients.inner_mut().as_mut() else { return };
            let at = identity::to_libp2p(peer);
            if point.register_due_ms <= now_ms && is_somewhere {
                point.register_due_ms = now_ms + limits::RENDEZVOUS_RETRY_MS;
                if let Err(error) = client.register(rendezvous::namespace(), at, Some(limits::RENDEZVOUS_TTL_S)) {
                    tracing::warn!(%error, "this node cannot register with a rendezvous point");
                }
            }
            if point.ask_due_ms <= now_ms {
                point.ask_due_ms = now_ms + limits::RENDEZVOUS_ASK_EVERY_MS;
                let known = point.cookie.clone();
                client.discover(Some(rendezvous::namespace()), known, Some(limits::PEERS_MAX as u64), at);
            }
        }
    }

    pub(super) fn on_rendezvous_event(&mut self, event: client::Event) {
        let now_ms = self.now_ms();
        match event {
            client::Event::Registered { rendezvous_node, .. } => {
                self.change_point(&rendezvous_node, |point| {
                    point.register_due_ms = now_ms + limits::RENDEZVOUS_REGISTER_EVERY_MS;
                });
            }
            client::Event::RegisterFailed { rendezvous_node, error, .. } => {
                tracing::warn!(point = %rendezvous_node, ?error, "a rendezvous point does not register this node; tried again");
            }
            client::Event::Discovered { rendezvous_node, registrations, cookie } => {
                self.change_point(&rendezvous_node, |point| point.cookie = Some(cookie));
                let point = identity::from_libp2p(&rendezvous_node).map(|point| self.network_of(point));
                let point = point.unwrap_or(Network::Internet);
                let suggestions = rendezvous::suggestions(registrations, point, |peer| self.is_absent(peer));
                suggestions.into_iter().for_each(|suggestion| self.on_suggestion(suggestion));
            }
            client::Event::DiscoverFailed { rendezvous_node, error, .. } => {
                tracing::debug!(point = %rendezvous_node, ?error, "a rendezvous point does not tell whom it knows");
                self.change_point(&rendezvous_node, |point| point.cookie = None);
            }
            // The address book forgets by itself.
            client::Event::Expired { .. } => {}
        }
    }

    fn change_point(&mut self, peer: &Libp2pPeerId, change: impl FnOnce(&mut Point)) {
        if let Some(point) = identity::from_libp2p(peer).and_then(|peer| self.points.0.get_mut(&peer)) {
            change(point);
        }
    }
}
