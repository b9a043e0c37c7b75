//! What a node's owner hears from the network.

use magpie_core::access::Role;
use magpie_core::ids::PeerId;
use magpie_core::limits;
use tokio::sync::oneshot;

use crate::book::Source;
use crate::codec::Response;
use crate::lane::Place;
use crate::share::Budget;

/// Something that happened on the network, in the order in which it did.
#[derive(Debug)]
pub enum NetEvent {
    /// Both sides verified each other: requests may flow. It comes before the peer's first request.
    PeerAdmitted { peer: PeerId, addresses: Vec<String> },
    /// The last connection to an admitted peer closed, or the peer was restarted. It is dialled again without being
    /// asked. Requests that had been read by then may still follow.
    PeerLost { peer: PeerId },
    /// An admitted peer asks, or tells and wants no reply ([`Responder::is_closed`]); the frame is as it came. Who asks
    /// in another role than [`Role::Peer`] is no member.
    Request { peer: PeerId, role: Role, frame: Vec<u8>, reply: Responder },
    /// What [`NetHandle::place_marker`](crate::NetHandle::place_marker) put in, after all requests received before it.
    Marker(u64),
    /// This node can be dialled at `address`.
    Listening { address: String },
    /// A discovery method named an address that was not known. Left out while the inbox is full.
    Discovered { address: String, source: Source },
}

/// Answers one request, once. Dropped unused, it tells the peer that there will be no answer.
#[derive(Debug)]
pub struct Responder {
    /// `None`: answered, or nobody wants an answer.
    requester: Option<Requester>,
    /// The request counts towards its sender's share until it is answered.
    _budget: Option<Budget>,
}

/// Where an answer goes.
#[derive(Debug)]
pub(crate) enum Requester {
    /// To a substream of its own.
    Substream(oneshot::Sender<Response>),
    Lane(Place),
}

impl Responder {
    pub(crate) fn new(requester: Option<Requester>, budget: Option<Budget>) -> Self {
        Self { requester, _budget: budget }
    }

    /// Sends `frame` back; if the peer is gone it goes nowhere. Never waits.
    ///
    /// A frame above [`limits::FRAME_BYTES_MAX`] is not sent: the peer hears that there is no answer.
    pub fn send(self, frame: Vec<u8>) {
        let response = if frame.len() <= limits::FRAME_BYTES_MAX {
            Response::Reply(frame)
        } else {
            tracing::error!(bytes = frame.len(), max = limits::FRAME_BYTES_MAX, "a reply is too long to be sent");
            Response::Unanswered
        };
        self.respond(response);
    }

    pub(crate) fn respond(mut self, response: Response) {
        match self.requester.take() {
            // The requester may have given up: then nobody waits for this.
            Some(Requester::Substream(answer)) => drop(answer.send(response)),
            Some(Requester::Lane(place)) => place.answer(response),
            None => {}
        }
    }

    /// Whether the requester has gone, has given up or never wanted an answer, so that one would reach nobody.
    pub fn is_closed(&self) -> bool {
        self.requester.as_ref().is_none_or(|requester| match requester {
            Requester::Substream(answer) => answer.is_closed(),
            Requester::Lane(place) => place.is_closed(),
        })
    }
}

impl Drop for Responder {
    /// Who asked on a substream sees that it was dropped.
    fn drop(&mut self) {
        if let Some(Requester::Lane(place)) = self.requester.take() {
            place.answer(Response::Unanswered);
        }
    }
}
