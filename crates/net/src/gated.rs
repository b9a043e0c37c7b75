//! A behaviour behind a [`Door`]: after libp2p's own `Toggle`, but opened per peer and at run time.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::future::Either as Negotiated;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::DeniedUpgrade;
use libp2p::swarm::derive_prelude::Either;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound, ListenUpgradeError, SendWrapper,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use crate::door::{Door, Doors, Opening};

/// `B`, for admitted peers only.
pub(crate) struct Gated<B> {
    inner: B,
    doors: Doors,
    hears: Opening,
    speaks: Opening,
    /// Over which connections, by where the peer is met; over the others its door is never opened.
    meets: fn(&Multiaddr) -> bool,
}

impl<B> Gated<B> {
    /// A behaviour whose handlers act as soon as the peer may speak to us; to speak to the peer is its owner's
    /// decision.
    pub fn answering(inner: B, doors: &Doors) -> Self {
        Self { inner, doors: doors.clone(), hears: Opening::Inward, speaks: Opening::Inward, meets: |_| true }
    }

    /// As [`Self::answering`], for guests too.
    pub fn answering_guests(inner: B, doors: &Doors) -> Self {
        Self { hears: Opening::Asking, speaks: Opening::Asking, ..Self::answering(inner, doors) }
    }

    /// A behaviour whose handlers speak of their own accord: they wait until the peer hears them.
    pub fn speaking(inner: B, doors: &Doors) -> Self {
        Self { speaks: Opening::BothWays, ..Self::answering(inner, doors) }
    }

    /// Over connections alone whose other end is met where `meets` says.
    pub fn meeting(self, meets: fn(&Multiaddr) -> bool) -> Self {
        Self { meets, ..self }
    }

    fn door(&self, peer: PeerId, remote: &Multiaddr) -> Arc<Door> {
        if (self.meets)(remote) { self.doors.of(peer) } else { Arc::default() }
    }

    pub fn inner_mut(&mut self) -> &mut B {
        &mut self.inner
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Gated<B> {
    type ConnectionHandler = GatedHandler<THandler<B>>;
    type ToSwarm = B::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner.handle_pending_inbound_connection(connection, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let inner = Box::new(self.inner.handle_established_inbound_connection(connection, peer, local, remote)?);
        Ok(GatedHandler { inner, door: self.door(peer, remote), hears: self.hears, speaks: self.speaks })
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.inner.handle_pending_outbound_connection(connection, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let inner = Box::new(self.inner.handle_established_outbound_connection(connection, peer, address, role, port)?);
        Ok(GatedHandler { inner, door: self.door(peer, address), hears: self.hears, speaks: self.speaks })
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.inner.poll(context)
    }
}

/// A connection handler that offers nothing and says nothing before its door is open.
pub(crate) struct GatedHandler<H> {
    /// Apart: the handlers of a connection are one value, which libp2p moves from place to place and reserves room for more than
    /// once in the task of the connection.
    inner: Box<H>,
    door: Arc<Door>,
    hears: Opening,
    speaks: Opening,
}

type Event<'a, H> = ConnectionEvent<
    'a,
    <H as ConnectionHandler>::InboundProtocol,
    <H as ConnectionHandler>::OutboundProtocol,
    <H as ConnectionHandler>::InboundOpenInfo,
    <H as ConnectionHandler>::OutboundOpenInfo,
>;

impl<H: ConnectionHandler> ConnectionHandler for GatedHandler<H> {
    type FromBehaviour = H::FromBehaviour;
    type ToBehaviour = H::ToBehaviour;
    type InboundProtocol = Either<SendWrapper<H::InboundProtocol>, SendWrapper<DeniedUpgrade>>;
    type OutboundProtocol = H::OutboundProtocol;
    type InboundOpenInfo = Either<H::InboundOpenInfo, ()>;
    type OutboundOpenInfo = H::OutboundOpenInfo;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol, Self::InboundOpenInfo> {
        if self.door.is_open(self.hears) {
            let inner = self.inner.listen_protocol();
            inner.map_upgrade(|upgrade| Either::Left(SendWrapper(upgrade))).map_info(Either::Left)
        } else {
            SubstreamProtocol::new(Either::Right(SendWrapper(DeniedUpgrade)), Either::Right(()))
        }
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        self.inner.on_behaviour_event(event);
    }

    fn connection_keep_alive(&self) -> bool {
        self.inner.connection_keep_alive()
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, Self::ToBehaviour>> {
        ready!(self.door.poll_open(self.speaks, context));
        self.inner.poll(context)
    }

    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<Option<Self::ToBehaviour>> {
        self.inner.poll_close(context)
    }

    fn on_connection_event(&mut self, event: Event<'_, Self>) {
        if let Some(event) = inner_event::<H>(event) {
            self.inner.on_connection_event(event);
        }
    }
}

/// The event as the inner handler knows it; none for a substream that was denied.
fn inner_event<H: ConnectionHandler>(event: Event<'_, GatedHandler<H>>) -> Option<Event<'_, H>> {
    Some(match event {
        ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, info }) => match (protocol, info) {
            (Negotiated::Left(protocol), Either::Left(info)) => {
                ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, info })
            }
            _ => return None,
        },
        ConnectionEvent::ListenUpgradeError(ListenUpgradeError { info, error }) => match (info, error) {
            (Either::Left(info), Either::Left(error)) => {
                ConnectionEvent::ListenUpgradeError(ListenUpgradeError { info, error })
            }
            _ => return None,
        },
        ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info }) => {
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info })
        }
        ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error })
        }
        ConnectionEvent::AddressChange(change) => ConnectionEvent::AddressChange(change),
        ConnectionEvent::LocalProtocolsChange(change) => ConnectionEvent::LocalProtocolsChange(change),
        ConnectionEvent::RemoteProtocolsChange(change) => ConnectionEvent::RemoteProtocolsChange(change),
        // The enum is non-exhaustive: an event that this version does not know is not the inner handler's either.
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use libp2p::swarm::derive_prelude::ExternalAddrConfirmed;
    use libp2p::swarm::{Swarm, SwarmEvent};
    use libp2p::{SwarmBuilder, identify, noise, tcp, yamux};

    use super::*;

    #[derive(NetworkBehaviour)]
    struct Two {
        here: Gated<identify::Behaviour>,
        elsewhere: Gated<identify::Behaviour>,
    }

    /// Says `here` over the connections that there are, and `elsewhere` over none.
    fn saying(here: &str, elsewhere: &str, doors: &Doors) -> Swarm<Two> {
        let swarm = SwarmBuilder::with_new_identity().with_tokio();
        let swarm = swarm.with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default).unwrap();
        let identify = |key: &libp2p::identity::Keypair, address: &str| {
            let config = identify::Config::new("test".into(), key.public()).with_hide_listen_addrs(true);
            let mut identify = identify::Behaviour::new(config);
            let addr = &address.parse().unwrap();
            identify.on_swarm_event(FromSwarm::ExternalAddrConfirmed(ExternalAddrConfirmed { addr }));
            identify
        };
        let behaviour = |key: &libp2p::identity::Keypair| Two {
            here: Gated::speaking(identify(key, here), doors).meeting(|_| true),
            elsewhere: Gated::speaking(identify(key, elsewhere), doors).meeting(|_| false),
        };
        swarm.with_behaviour(behaviour).unwrap().build()
    }

    #[tokio::test]
    async fn over_a_connection_that_it_does_not_meet_a_behaviour_says_and_hears_nothing() {
        let doors = Doors::default();
        let (near, far) = ("/ip4/10.0.0.1/tcp/1", "/ip4/203.0.113.7/tcp/1");
        let (mut a, mut b) = (saying(near, far, &doors), saying(near, far, &doors));
        for peer in [*a.local_peer_id(), *b.local_peer_id()] {
            doors.open(peer, Opening::BothWays);
        }
        a.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
        let mut heard = Vec::new();
        while heard.len() < 2 {
            let event = tokio::select! {
                event = a.select_next_some() => event,
                event = b.select_next_some() => event,
            };
            match event {
                SwarmEvent::NewListenAddr { address, .. } => b.dial(address).unwrap(),
                SwarmEvent::Behaviour(TwoEvent::Here(identify::Event::Received { info, .. })) => {
                    heard.push(info.listen_addrs);
                }
                SwarmEvent::Behaviour(TwoEvent::Elsewhere(event)) => panic!("{event:?}"),
                _ => {}
            }
        }
        assert_eq!(heard, [[near.parse::<Multiaddr>().unwrap()], [near.parse().unwrap()]]);
    }
}
