//! How many connections: under way, established, of strangers, of one peer.
//!
//! Not libp2p's `connection_limits`: that keeps an entry for every peer id it ever saw, which strangers make for
//! free, and it knows no strangers, so they could take the places of members.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
    dummy,
};
use libp2p::{Multiaddr, PeerId};

use crate::door::Doors;
use crate::identity;
use crate::limits;
use crate::share::Shares;
use crate::watch::{BannedPeer, Watch};

/// A connection refused because there are enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{held} {of}, at most {max}")]
pub(crate) struct QuotaError {
    of: &'static str,
    held: usize,
    max: usize,
}

/// A connection refused because its peer is banned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} is banned for {} ms more, for {}", .0.peer, .0.for_ms, .0.offence.name())]
pub(crate) struct BannedError(BannedPeer);

fn check(of: &'static str, held: usize, max: usize) -> Result<(), QuotaError> {
    if held < max { Ok(()) } else { Err(QuotaError { of, held, max }) }
}

/// Counts connections and refuses those beyond the limits.
#[derive(Debug)]
pub(crate) struct Quota {
    doors: Doors,
    shares: Shares,
    watch: Watch,
    inbound: HashSet<ConnectionId>,
    outbound: HashSet<ConnectionId>,
    established: HashMap<ConnectionId, PeerId>,
}

impl Quota {
    pub fn new(doors: &Doors, shares: &Shares) -> Self {
        Self {
            doors: doors.clone(),
            shares: shares.clone(),
            watch: shares.watch(),
            inbound: HashSet::new(),
            outbound: HashSet::new(),
            established: HashMap::new(),
        }
    }

    fn begin(&mut self, connection: ConnectionId, endpoint: Endpoint) -> Result<(), QuotaError> {
        let (of, pending) = match endpoint {
            Endpoint::Listener => ("inbound connections under way", &mut self.inbound),
            Endpoint::Dialer => ("dials under way", &mut self.outbound),
        };
        check(of, pending.len(), limits::CONNECTIONS_PENDING_MAX)?;
        pending.insert(connection);
        Ok(())
    }

    fn establish(&mut self, connection: ConnectionId, peer: PeerId) -> Result<(), QuotaError> {
        self.end(connection);
        check("connections", self.established.len(), limits::CONNECTIONS_MAX)?;
        let of_peer = self.established.values().filter(|held| **held == peer).count();
        check("connections of this peer", of_peer, limits::PEER_CONNECTIONS_MAX)?;
        // While there are fewer of all, nobody has to be told from the others.
        if self.established.len() >= limits::STRANGERS_MAX && !self.doors.is_open(&peer) {
            let strangers = self.doors.strangers(self.established.values());
            check("connections that are not admitted yet", strangers, limits::STRANGERS_MAX)?;
        }
        Ok(())
    }

    /// The behaviours behind this one make their handlers next: they are told for whom.
    fn take_in(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        self.refuse_banned(&peer).map_err(ConnectionDenied::new)?;
        self.establish(connection, peer).map_err(ConnectionDenied::new)?;
        self.shares.arrive(peer);
        Ok(dummy::ConnectionHandler)
    }

    fn refuse_banned(&self, peer: &PeerId) -> Result<(), BannedError> {
        let banned = identity::from_libp2p(peer).and_then(|peer| self.watch.ban_of(&peer));
        banned.map_or(Ok(()), |banned| Err(BannedError(banned)))
    }

    fn end(&mut self, connection: ConnectionId) {
        self.inbound.remove(&connection);
        self.outbound.remove(&connection);
        self.established.remove(&connection);
    }
}

impl NetworkBehaviour for Quota {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.begin(connection, Endpoint::Listener).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.take_in(connection, peer)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        _: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.begin(connection, Endpoint::Dialer).map(|()| Vec::new()).map_err(ConnectionDenied::new)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.take_in(connection, peer)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                self.established.insert(event.connection_id, event.peer_id);
            }
            FromSwarm::ConnectionClosed(event) => self.end(event.connection_id),
            FromSwarm::DialFailure(event) => self.end(event.connection_id),
            FromSwarm::ListenFailure(event) => self.end(event.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares() -> Shares {
        Shares::new(Watch::default(), limits::PEER_STREAMS_PER_S_MAX)
    }

    fn peer(n: usize) -> PeerId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        crate::identity::to_libp2p(magpie_core::ids::PeerId(bytes))
    }

    fn connection(n: usize) -> ConnectionId {
        ConnectionId::new_unchecked(n)
    }

    fn connect(quota: &mut Quota, n: usize, of: usize) -> Result<(), QuotaError> {
        quota.establish(connection(n), peer(of))?;
        quota.established.insert(connection(n), peer(of));
        Ok(())
    }

    #[test]
    fn strangers_cannot_take_the_places_of_members() {
        let doors = Doors::default();
        let mut quota = Quota::new(&doors, &shares());
        let strangers = (0..1_000).take_while(|n| connect(&mut quota, *n, *n).is_ok()).count();
        assert_eq!(strangers, limits::STRANGERS_MAX);
        doors.open(peer(5_000), crate::door::Opening::Inward);
        assert_eq!(connect(&mut quota, 5_000, 5_000), Ok(()));
    }

    #[test]
    fn one_peer_has_only_so_many_connections_and_gets_them_back() {
        let mut quota = Quota::new(&Doors::default(), &shares());
        let held = (0..100).take_while(|n| connect(&mut quota, *n, 1).is_ok()).count();
        assert_eq!(held, limits::PEER_CONNECTIONS_MAX);
        quota.end(connection(0));
        assert_eq!(connect(&mut quota, 200, 1), Ok(()));
    }

    #[test]
    fn connections_under_way_are_counted_until_they_end() {
        let mut quota = Quota::new(&Doors::default(), &shares());
        for endpoint in [Endpoint::Listener, Endpoint::Dialer] {
            let begun = (0..1_000).take_while(|n| quota.begin(connection(*n), endpoint).is_ok()).count();
            assert_eq!(begun, limits::CONNECTIONS_PENDING_MAX);
            quota.end(connection(0));
            assert_eq!(quota.begin(connection(2_000), endpoint), Ok(()));
            (0..=2_000).for_each(|n| quota.end(connection(n)));
        }
    }

    #[test]
    fn nothing_is_kept_of_who_has_gone() {
        let mut quota = Quota::new(&Doors::default(), &shares());
        for n in 0..10_000 {
            quota.begin(connection(n), Endpoint::Listener).unwrap();
            connect(&mut quota, n, n).unwrap();
            quota.end(connection(n));
        }
        assert_eq!((quota.inbound.len(), quota.outbound.len(), quota.established.len()), (0, 0, 0));
    }
}
