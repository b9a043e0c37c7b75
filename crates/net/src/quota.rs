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

/// A dial that is of no use any more: its peer, whose id is the lower, came by itself meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer came by itself meanwhile")]
pub(crate) struct CrossedError;

fn check(of: &'static str, held: usize, max: usize) -> Result<(), QuotaError> {
    if held < max { Ok(()) } else { Err(QuotaError { of, held, max }) }
}

/// Counts connections and refuses those beyond the limits.
#[derive(Debug)]
pub(crate) struct Quota {
    local: PeerId,
    doors: Doors,
    shares: Shares,
    watch: Watch,
    inbound: HashSet<ConnectionId>,
    /// With the turn in which each dial of a known peer began.
    outbound: HashMap<ConnectionId, Option<u64>>,
    established: HashMap<ConnectionId, PeerId>,
    /// Connections that peers made, no relay between, and the turn in which each did.
    came: HashMap<ConnectionId, u64>,
    turn: u64,
}

impl Quota {
    pub fn new(local: PeerId, doors: &Doors, shares: &Shares) -> Self {
        Self {
            local,
            doors: doors.clone(),
            shares: shares.clone(),
            watch: shares.watch(),
            inbound: HashSet::new(),
            outbound: HashMap::new(),
            established: HashMap::new(),
            came: HashMap::new(),
            turn: 0,
        }
    }

    fn begin(&mut self, connection: ConnectionId, endpoint: Endpoint, peer: Option<PeerId>) -> Result<(), QuotaError> {
        self.turn += 1;
        match endpoint {
            Endpoint::Listener => {
                check("inbound connections under way", self.inbound.len(), limits::CONNECTIONS_PENDING_MAX)?;
                self.inbound.insert(connection);
            }
            Endpoint::Dialer => {
                check("dials under way", self.outbound.len(), limits::CONNECTIONS_PENDING_MAX)?;
                self.outbound.insert(connection, peer.map(|_| self.turn));
            }
        }
        Ok(())
    }

    /// One connection is enough where both dialled at once. The end with the lower id keeps its dial, whatever comes, so
    /// one is left. A connection from before the dial counts for nothing: the peer may have been restarted since.
    fn refuse_crossed(&self, connection: ConnectionId, peer: PeerId) -> Result<(), CrossedError> {
        let Some(Some(begun)) = self.outbound.get(&connection) else { return Ok(()) };
        let since = |(held, turn): (&ConnectionId, &u64)| turn > begun && self.established.get(held) == Some(&peer);
        let is_lower = identity::from_libp2p(&peer) < identity::from_libp2p(&self.local);
        if is_lower && self.came.iter().any(since) { Err(CrossedError) } else { Ok(()) }
    }

    fn establish(&mut self, connection: ConnectionId, peer: PeerId) -> Result<(), QuotaError> {
        self.end(connection);
        check("connections", self.established.len(), limits::CONNECTIONS_MAX)?;
        let of_peer = self.established.values().filter(|held| **held == peer).count();
        check("connections of this peer", of_peer, limits::PEER_CONNECTIONS_MAX)?;
        if !self.doors.is_open(&peer) {
            let strangers = self.established.values().filter(|held| !self.doors.is_open(held)).count();
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
        self.came.remove(&connection);
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
        self.begin(connection, Endpoint::Listener, None).map_err(ConnectionDenied::new)
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
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.begin(connection, Endpoint::Dialer, peer).map(|()| Vec::new()).map_err(ConnectionDenied::new)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.refuse_crossed(connection, peer).map_err(ConnectionDenied::new)?;
        self.take_in(connection, peer)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                self.established.insert(event.connection_id, event.peer_id);
                if event.endpoint.is_listener() && !event.endpoint.is_relayed() {
                    self.turn += 1;
                    self.came.insert(event.connection_id, self.turn);
                }
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
        let mut quota = Quota::new(peer(7_000), &doors, &shares());
        let strangers = (0..1_000).take_while(|n| connect(&mut quota, *n, *n).is_ok()).count();
        assert_eq!(strangers, limits::STRANGERS_MAX);
        doors.open(peer(5_000), crate::door::Opening::Inward);
        assert_eq!(connect(&mut quota, 5_000, 5_000), Ok(()));
    }

    #[test]
    fn one_peer_has_only_so_many_connections_and_gets_them_back() {
        let mut quota = Quota::new(peer(7_000), &Doors::default(), &shares());
        let held = (0..100).take_while(|n| connect(&mut quota, *n, 1).is_ok()).count();
        assert_eq!(held, limits::PEER_CONNECTIONS_MAX);
        quota.end(connection(0));
        assert_eq!(connect(&mut quota, 200, 1), Ok(()));
    }

    fn comes(quota: &mut Quota, n: usize, of: usize) {
        connect(quota, n, of).unwrap();
        quota.turn += 1;
        quota.came.insert(connection(n), quota.turn);
    }

    #[test]
    fn of_two_that_dial_each_other_the_higher_gives_its_dial_up() {
        let (low, high) = (peer(1), peer(2));
        assert!(identity::from_libp2p(&low) < identity::from_libp2p(&high));
        for (local, other, result) in [(high, 1, Err(CrossedError)), (low, 2, Ok(()))] {
            let mut quota = Quota::new(local, &Doors::default(), &shares());
            quota.begin(connection(1), Endpoint::Dialer, Some(peer(other))).unwrap();
            assert_eq!(quota.refuse_crossed(connection(1), peer(other)), Ok(()), "nobody came");
            comes(&mut quota, 2, other);
            assert_eq!(quota.refuse_crossed(connection(1), peer(other)), result);
            assert_eq!(quota.refuse_crossed(connection(1), peer(3)), Ok(()), "another answered");
            quota.end(connection(2));
            assert_eq!(quota.refuse_crossed(connection(1), peer(other)), Ok(()), "who came has gone");
        }
    }

    #[test]
    fn a_connection_from_before_a_dial_does_not_stand_for_it() {
        let mut quota = Quota::new(peer(2), &Doors::default(), &shares());
        comes(&mut quota, 1, 1);
        quota.begin(connection(2), Endpoint::Dialer, Some(peer(1))).unwrap();
        assert_eq!(quota.refuse_crossed(connection(2), peer(1)), Ok(()));
        quota.begin(connection(3), Endpoint::Dialer, None).unwrap();
        comes(&mut quota, 4, 1);
        assert_eq!(quota.refuse_crossed(connection(3), peer(1)), Ok(()), "a bare address learns whose it is");
    }

    #[test]
    fn connections_under_way_are_counted_until_they_end() {
        let mut quota = Quota::new(peer(7_000), &Doors::default(), &shares());
        for endpoint in [Endpoint::Listener, Endpoint::Dialer] {
            let begun = (0..1_000).take_while(|n| quota.begin(connection(*n), endpoint, None).is_ok()).count();
            assert_eq!(begun, limits::CONNECTIONS_PENDING_MAX);
            quota.end(connection(0));
            assert_eq!(quota.begin(connection(2_000), endpoint, None), Ok(()));
            (0..=2_000).for_each(|n| quota.end(connection(n)));
        }
    }

    #[test]
    fn nothing_is_kept_of_who_has_gone() {
        let mut quota = Quota::new(peer(7_000), &Doors::default(), &shares());
        for n in 0..10_000 {
            quota.begin(connection(n), Endpoint::Listener, None).unwrap();
            comes(&mut quota, n, n);
            quota.end(connection(n));
        }
        let kept = (quota.inbound.len(), quota.outbound.len(), quota.established.len(), quota.came.len());
        assert_eq!(kept, (0, 0, 0, 0));
    }
}
