//! Closes the connections that two members do not need: both dial at once, and each connection costs both of them memory,
//! pings and wake-ups for as long as they know each other.
//!
//! One side decides, the lesser of the two, so that they need not agree on which. It closes none on which it knows of anything
//! under way, and keeps the one that the other's lane is on: what the other puts there next is not known here yet. A request that
//! the other sends on a substream of its own in that very moment is interrupted, as by any cut.

use std::collections::{HashMap, HashSet};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::ConnectionId;
use magpie_core::ids::PeerId;
use tokio::time::{Duration, Instant};

use super::Node;
use super::admit::Connection;
use crate::handle::{Link, OutboundRequest};
use crate::identity;
use crate::limits;
use crate::network::{Network, is_relayed};

/// Those that are not needed beside the nearest, where it may be that of a lane, and beside the one that the peer asks on.
fn spare(
    connections: &[Connection],
    served_on: Option<ConnectionId>,
    asked_on: Option<ConnectionId>,
) -> Vec<ConnectionId> {
    let rank = |held: &&Connection| {
        (Network::of(&held.remote), Some(held.id) != served_on, Some(held.id) != asked_on, held.since)
    };
    let best = connections.iter().min_by_key(rank).map(|held| held.id);
    let is_needed = |id: &ConnectionId| Some(*id) == best || Some(*id) == served_on;
    connections.iter().map(|held| held.id).filter(|id| !is_needed(id)).collect()
}

/// The member by whose relay an address leads.
fn relay_of(address: &Multiaddr) -> Option<PeerId> {
    let before = address.iter().take_while(|part| *part != Protocol::P2pCircuit).last();
    match before {
        Some(Protocol::P2p(relay)) if is_relayed(address) => identity::from_libp2p(&relay),
        _ => None,
    }
}

/// Members to whom a connection is closing. What is sent to them waits for that: request-response picks among all connections.
#[derive(Default)]
pub(super) struct Partings(HashMap<PeerId, Parting>);

struct Parting {
    closing: Vec<ConnectionId>,
    /// Nothing waits any longer then: a peer that reads no more may hold a connection open.
    due: Instant,
    /// Bounded by the permits that they hold.
    waiting: Vec<OutboundRequest>,
}

impl Partings {
    /// The request, unless it waits.
    pub fn pass(&mut self, request: OutboundRequest) -> Option<OutboundRequest> {
        let parting = self.0.get_mut(&request.peer).filter(|parting| Instant::now() < parting.due);
        let Some(parting) = parting else { return Some(request) };
        parting.waiting.push(request);
        None
    }

    /// What has waited for this connection to close, if it is the last.
    pub fn closed(&mut self, peer: PeerId, id: ConnectionId) -> Vec<OutboundRequest> {
        let Some(parting) = self.0.get_mut(&peer) else { return Vec::new() };
        parting.closing.retain(|closing| *closing != id);
        if !parting.closing.is_empty() {
            return Vec::new();
        }
        self.0.remove(&peer).map(|parting| parting.waiting).unwrap_or_default()
    }

    pub fn is_closing(&self, peer: PeerId, id: ConnectionId) -> bool {
        self.0.get(&peer).is_some_and(|parting| parting.closing.contains(&id))
    }

    fn begin(&mut self, peer: PeerId, closing: Vec<ConnectionId>) {
        let due = Instant::now() + Duration::from_millis(limits::PARTING_MS);
        self.0.insert(peer, Parting { closing, due, waiting: Vec::new() });
    }

    fn overdue(&mut self) -> Vec<OutboundRequest> {
        let now = Instant::now();
        let late = self.0.values_mut().filter(|parting| parting.due <= now);
        late.flat_map(|parting| std::mem::take(&mut parting.waiting)).collect()
    }
}

impl Node {
    pub(super) fn release_the_overdue(&mut self) {
        let overdue = self.partings.overdue();
        overdue.into_iter().for_each(|request| self.send_request(request));
    }

    pub(super) fn close_the_spare(&mut self) {
        if self.swarm.behaviour_mut().relay.inner_mut().is_enabled() {
            // The place of a member here, and each circuit, is one connection's.
            return;
        }
        let local = self.local;
        let all = self.peers.values().flat_map(|entry| &entry.connections);
        let relays: HashSet<PeerId> = all.filter_map(|held| relay_of(&held.remote)).collect();
        let crowded = self.peers.iter().filter(|(peer, entry)| {
            let relays_for_us = self.relays.has(**peer) || relays.contains(peer);
            local < **peer && entry.is_admitted() && entry.connections.len() > 1 && !relays_for_us
        });
        let crowded: Vec<PeerId> = crowded.map(|(peer, _)| *peer).collect();
        crowded.into_iter().for_each(|peer| self.part(peer));
    }

    fn part(&mut self, peer: PeerId) {
        let Some(link) = self.shared.link(peer) else { return };
        let closing = self.spare_of(peer, &link);
        if closing.is_empty() {
            return;
        }
        // A lane that was on one of them is opened anew on the one that stays.
        closing.iter().for_each(|id| link.drop_lane(*id));
        tracing::debug!(%peer, ?closing, "what is not needed beside another connection is closed");
        closing.iter().for_each(|id| self.close(*id));
        self.partings.begin(peer, closing);
    }

    /// None while anything is under way, or may still come to be over a young connection, and none beside one by way of a relay.
    fn spare_of(&self, peer: PeerId, link: &Link) -> Vec<ConnectionId> {
        let Some(connections) = self.peers.get(&peer).map(|entry| &entry.connections) else { return Vec::new() };
        let settled = Instant::now().checked_sub(Duration::from_millis(limits::SPARE_AFTER_MS));
        let is_settled = |held: &Connection| {
            !held.relayed && self.stays(peer, held.id) && settled.is_some_and(|settled| held.since <= settled)
        };
        let spare = spare(connections, self.lanes.served_on(peer), link.lane_on());
        let asks = !self.lanes.is_settled(link) || !link.is_idle_on(&spare);
        let is_asked = self.mailbox.answers(peer) || !self.shares.of(identity::to_libp2p(peer)).is_idle();
        if asks || is_asked || !connections.iter().all(is_settled) { Vec::new() } else { spare }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::{Semaphore, oneshot};

    use super::*;

    fn id(n: usize) -> ConnectionId {
        ConnectionId::new_unchecked(n)
    }

    fn held(n: usize, remote: &str) -> Connection {
        let since = Instant::now();
        Connection { id: id(n), dialled: None, arrived: None, remote: remote.parse().unwrap(), relayed: false, since }
    }

    const NEAR: &str = "/ip4/10.0.0.1/tcp/1";
    const FAR: &str = "/ip4/198.51.100.1/tcp/1";

    #[test]
    fn the_eldest_is_kept_unless_a_lane_is_on_another() {
        let connections = [held(1, NEAR), held(2, NEAR), held(3, NEAR)];
        assert_eq!(spare(&connections, None, None), [id(2), id(3)]);
        assert_eq!(spare(&connections, None, Some(id(2))), [id(1), id(3)]);
        assert_eq!(spare(&connections, Some(id(3)), Some(id(2))), [id(1), id(2)], "the peer's goes first");
        assert_eq!(spare(&connections[..1], None, None), []);
    }

    #[test]
    fn the_nearest_is_kept_and_so_is_the_one_that_the_peer_asks_on() {
        let connections = [held(1, FAR), held(2, NEAR), held(3, FAR)];
        assert_eq!(spare(&connections, None, Some(id(1))), [id(1), id(3)]);
        assert_eq!(spare(&connections, Some(id(3)), None), [id(1)]);
    }

    #[test]
    fn a_circuit_names_its_relay() {
        let (relay, hidden) = (PeerId([1; 32]), PeerId([2; 32]));
        let circuit = format!("{NEAR}/p2p/{relay}/p2p-circuit/p2p/{hidden}");
        assert_eq!(relay_of(&circuit.parse().unwrap()), Some(relay));
        assert_eq!(relay_of(&format!("{NEAR}/p2p/{relay}").parse().unwrap()), None);
        assert_eq!(relay_of(&NEAR.parse().unwrap()), None);
    }

    const ALICE: PeerId = PeerId([1; 32]);
    const BOB: PeerId = PeerId([2; 32]);

    fn request(peer: PeerId) -> OutboundRequest {
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        OutboundRequest { peer, frame: Vec::new(), reply: oneshot::channel().0, permit }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_sent_while_connections_close_waits_for_the_last_of_them() {
        let mut partings = Partings::default();
        partings.begin(ALICE, vec![id(1), id(2)]);
        assert!(partings.pass(request(ALICE)).is_none() && partings.pass(request(BOB)).is_some());
        assert!(partings.closed(ALICE, id(1)).is_empty() && partings.closed(BOB, id(2)).is_empty());
        assert_eq!((partings.is_closing(ALICE, id(1)), partings.is_closing(ALICE, id(2))), (false, true));
        assert_eq!(partings.closed(ALICE, id(2)).len(), 1);
        assert!(partings.pass(request(ALICE)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_does_not_close_holds_nothing_up_for_long_and_is_not_used_again() {
        let mut partings = Partings::default();
        partings.begin(ALICE, vec![id(1)]);
        assert!(partings.pass(request(ALICE)).is_none() && partings.overdue().is_empty());
        tokio::time::advance(Duration::from_millis(limits::PARTING_MS)).await;
        assert_eq!(partings.overdue().len(), 1);
        assert!(partings.pass(request(ALICE)).is_some() && partings.is_closing(ALICE, id(1)));
    }
}
