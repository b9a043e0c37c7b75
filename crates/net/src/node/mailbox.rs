//! Requests and replies over request-response.

use std::collections::HashMap;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use libp2p::request_response::{Event, InboundRequestId, Message, OutboundFailure, OutboundRequestId, ResponseChannel};
use magpie_core::ids::PeerId;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Node;
use super::admit::Standing;
use crate::codec::{Request, Response};
use crate::event::Requester;
use crate::handle::{OutboundRequest, RequestError};
use crate::identity;
use crate::limits;

type Answered = (ResponseChannel<Response>, Response);

/// What is under way in both directions.
#[derive(Default)]
pub(super) struct Mailbox {
    asked: HashMap<OutboundRequestId, Asked>,
    /// Bounded by the substreams that may be open.
    answering: FuturesUnordered<BoxFuture<'static, Answered>>,
    /// Whose requests have come, and are not answered down to the last byte.
    asking: HashMap<InboundRequestId, PeerId>,
}

struct Asked {
    reply: oneshot::Sender<Result<Vec<u8>, RequestError>>,
    _permit: OwnedSemaphorePermit,
}

impl Mailbox {
    /// The next answer of this node's owner; `None` while no request waits for one.
    pub async fn next_answer(&mut self) -> Option<Answered> {
        self.answering.next().await
    }

    /// Whether requests of that peer are under way.
    pub fn answers(&self, peer: PeerId) -> bool {
        self.asking.values().any(|asker| *asker == peer)
    }
}

impl Node {
    pub(super) fn send_request(&mut self, request: OutboundRequest) {
        let Some(request) = self.partings.pass(request) else { return };
        let OutboundRequest { peer, frame, reply, permit } = request;
        if self.standing(peer) != Some(Standing::Admitted) {
            // The caller may have given up, here and below: then nobody waits for this.
            let _ = reply.send(Err(RequestError::NotConnected { peer }));
            return;
        }
        let mailbox = self.swarm.behaviour_mut().mailbox.inner_mut();
        let id = mailbox.send_request(&identity::to_libp2p(peer), Request { frame, budget: None });
        self.mailbox.asked.insert(id, Asked { reply, _permit: permit });
    }

    pub(super) fn on_mailbox_event(&mut self, event: Event<Request, Response>) {
        let (id, result) = match event {
            Event::Message { peer, message: Message::Request { request_id, request, channel }, .. } => {
                self.mailbox.asking.extend(identity::from_libp2p(&peer).map(|peer| (request_id, peer)));
                return self.on_request(&peer, request, channel);
            }
            Event::Message { peer, message: Message::Response { request_id, response }, .. } => {
                let Some(peer) = identity::from_libp2p(&peer) else { return };
                (request_id, reply_of(peer, response))
            }
            Event::OutboundFailure { peer, request_id, error, .. } => {
                let Some(peer) = identity::from_libp2p(&peer) else { return };
                (request_id, Err(request_error(peer, &error)))
            }
            Event::InboundFailure { peer, request_id, error, .. } => {
                self.mailbox.asking.remove(&request_id);
                return tracing::debug!(%peer, %error, "a request came to nothing");
            }
            Event::ResponseSent { request_id, .. } => {
                self.mailbox.asking.remove(&request_id);
                return;
            }
        };
        if let Some(asked) = self.mailbox.asked.remove(&id) {
            let _ = asked.reply.send(result);
        }
    }

    fn on_request(&mut self, peer: &libp2p::PeerId, request: Request, channel: ResponseChannel<Response>) {
        let Some(peer) = identity::from_libp2p(peer) else { return };
        match self.standing(peer) {
            // Its confirmation travels on another substream and may come later: a request says the same.
            Some(Standing::Verified) => self.admit(peer),
            Some(Standing::Guest) => self.guest_asks(peer),
            Some(Standing::Admitted) => {}
            Some(Standing::Stranger) | None => return self.send_away(peer, "it asked before it was admitted"),
        }
        // Who was one guest too many has been sent away.
        let Some(role) = self.role_of(peer) else { return };
        let (answer, answered) = oneshot::channel();
        let answer_to = answered.map(|response| (channel, response.unwrap_or(Response::Unanswered)));
        self.mailbox.answering.push(answer_to.boxed());
        if !self.inbox.request(peer, role, request, Some(Requester::Substream(answer))) {
            self.shared.count(|counters| counters.requests_turned_away += 1);
        }
    }

    pub(super) fn respond(&mut self, channel: ResponseChannel<Response>, response: Response) {
        // It fails when the requester has gone.
        let _ = self.swarm.behaviour_mut().mailbox.inner_mut().send_response(channel, response);
    }
}

pub(crate) fn reply_of(peer: PeerId, response: Response) -> Result<Vec<u8>, RequestError> {
    match response {
        Response::Reply(frame) => Ok(frame),
        Response::Busy => Err(RequestError::Busy { peer }),
        Response::Unanswered => Err(RequestError::Unanswered { peer }),
    }
}

fn request_error(peer: PeerId, error: &OutboundFailure) -> RequestError {
    match error {
        OutboundFailure::Timeout => RequestError::TimedOut { peer, timeout_ms: limits::PEER_REQUEST_TIMEOUT_MS },
        OutboundFailure::DialFailure => RequestError::NotConnected { peer },
        OutboundFailure::ConnectionClosed | OutboundFailure::UnsupportedProtocols | OutboundFailure::Io(_) => {
            RequestError::Interrupted { peer }
        }
    }
}
