//! Negotiates lanes, and hands their streams out with the connection they belong to.
//!
//! Not `libp2p-stream`: it keeps an entry for every connection it ever saw, drops inbound streams while one waits,
//! and picks a connection at random.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    NotifyHandler, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol};

pub(crate) const LANE: StreamProtocol = StreamProtocol::new("/magpie/mailbox-stream/1");

/// What became of a lane.
#[derive(Debug)]
pub(crate) enum Event {
    Opened { peer: PeerId, connection: ConnectionId, stream: Stream },
    NotOpened { peer: PeerId, reason: String },
    Accepted { peer: PeerId, connection: ConnectionId, stream: Stream },
}

#[derive(Default)]
pub(crate) struct Behaviour {
    /// Bounded by the lanes asked for and by the streams that handlers hand over, one each poll.
    pending: VecDeque<ToSwarm<Event, Open>>,
}

/// Tells a handler to open a lane.
#[derive(Debug)]
pub(crate) struct Open;

impl Behaviour {
    pub fn open(&mut self, peer: PeerId, connection: ConnectionId) {
        let handler = NotifyHandler::One(connection);
        self.pending.push_back(ToSwarm::NotifyHandler { peer_id: peer, handler, event: Open });
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn on_swarm_event(&mut self, _: FromSwarm) {}

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        let event = match event {
            Negotiated::Outbound(Ok(stream)) => Event::Opened { peer, connection, stream },
            Negotiated::Outbound(Err(reason)) => Event::NotOpened { peer, reason },
            Negotiated::Inbound(stream) => Event::Accepted { peer, connection, stream },
        };
        self.pending.push_back(ToSwarm::GenerateEvent(event));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.pending.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// What a handler negotiated.
#[derive(Debug)]
pub(crate) enum Negotiated {
    Outbound(Result<Stream, String>),
    Inbound(Stream),
}

/// Streams that wait for the behaviour; a peer that opens more at once loses them.
const HANDED_OVER_MAX: usize = 4;

#[derive(Default)]
pub(crate) struct Handler {
    to_open: usize,
    negotiated: VecDeque<Negotiated>,
}

type LaneUpgrade = ReadyUpgrade<StreamProtocol>;

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = Negotiated;
    type InboundProtocol = LaneUpgrade;
    type OutboundProtocol = LaneUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<LaneUpgrade> {
        SubstreamProtocol::new(ReadyUpgrade::new(LANE), ())
    }

    fn on_behaviour_event(&mut self, Open: Open) {
        self.to_open += 1;
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<LaneUpgrade, (), Negotiated>> {
        if let Some(negotiated) = self.negotiated.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(negotiated));
        }
        if self.to_open > 0 {
            self.to_open -= 1;
            let protocol = SubstreamProtocol::new(ReadyUpgrade::new(LANE), ());
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, LaneUpgrade, LaneUpgrade, (), ()>) {
        let negotiated = match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                if self.negotiated.len() >= HANDED_OVER_MAX {
                    return;
                }
                Negotiated::Inbound(protocol)
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) => {
                Negotiated::Outbound(Ok(protocol))
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                Negotiated::Outbound(Err(error.to_string()))
            }
            _ => return,
        };
        self.negotiated.push_back(negotiated);
    }
}
