//! The peers' door: an admitted peer's frame becomes a message, in its name, if its role allows.

use std::sync::Arc;
use std::time::Duration;

use magpie_core::ids::PeerId;
use magpie_core::queue::{Caller, LedgerRequest, Refusal};
use magpie_core::{limits, wire};
use magpie_net::Responder;
use tokio::sync::oneshot;

use super::super::doorway::Doorway;
use super::super::routes::{Routes, owner_of};
use crate::messages::ledger::LedgerMsg;
use crate::messages::worker::{WorkerMsg, WorkerReply, WorkerRequest};
use crate::messages::{Answer, Body, Envelope, ReplyEnvelope, Role};

#[derive(Clone)]
pub struct PeerDoor {
    routes: Routes,
    doorway: Arc<Doorway>,
}

impl PeerDoor {
    pub fn new(routes: Routes, doorway: Arc<Doorway>) -> Self {
        Self { routes, doorway }
    }

    /// Takes one frame in. What is for the ledger is in its mailbox when this returns, so that renewals, and the
    /// markers behind them, keep their order.
    pub fn enter(&self, peer: PeerId, frame: &[u8], reply: Responder) {
        let envelope: Envelope = match wire::decode_frame(frame) {
            Ok(envelope) => envelope,
            Err(error) => {
                let what = format!("this frame is not understood: {error}");
                return answer(reply, 0, Answer::Refused(Refusal::Unsupported { what }));
            }
        };
        let id = envelope.id;
        if let Err(needs) = Role::Peer.may_say(&envelope.body) {
            let refusal = Refusal::Forbidden { needs: needs.name().to_owned(), has: Role::Peer.name().to_owned() };
            return answer(reply, id, Answer::Refused(refusal));
        }
        let patience = Duration::from_millis(envelope.ttl_ms.min(limits::PEER_REQUEST_TIMEOUT_MS));
        match envelope.body {
            Body::Ledger(request) => self.to_ledger(peer, request, id, patience, reply),
            Body::Worker(request) => self.to_worker(request, id, reply),
            body => {
                let doorway = self.doorway.clone();
                self.routes.peers.errand(async move {
                    let spoken = doorway.answer(Some(peer), owner_of(peer), body);
                    let spoken = tokio::time::timeout(patience, spoken).await;
                    answer(reply, id, spoken.unwrap_or_else(|_| timed_out()));
                });
            }
        }
    }

    /// A home's notice needs no answer but that it arrived.
    fn to_worker(&self, request: WorkerRequest, id: u64, reply: Responder) {
        let (sender, _) = oneshot::channel();
        let told = self.routes.addresses.worker.cast(WorkerMsg::Request { request, reply: sender.into() });
        let told = told.map(|()| Answer::Worker(WorkerReply::Noted));
        answer(reply, id, told.unwrap_or_else(|unavailable| Answer::Refused(unavailable.into())));
    }

    fn to_ledger(&self, peer: PeerId, request: LedgerRequest, id: u64, patience: Duration, reply: Responder) {
        let permit = match self.routes.addresses.ledger.admit() {
            Ok(permit) => permit,
            Err(refusal) => return answer(reply, id, Answer::Refused(refusal)),
        };
        let (sender, receiver) = oneshot::channel();
        let caller = Caller { peer, owner: owner_of(peer) };
        let message = LedgerMsg::Request { caller, request, permit, reply: sender.into() };
        if let Err(unavailable) = self.routes.addresses.ledger.cast(message) {
            return answer(reply, id, Answer::Refused(unavailable.into()));
        }
        self.routes.peers.errand(async move {
            let told = match tokio::time::timeout(patience, receiver).await {
                Ok(Ok(told)) => Answer::Ledger(told),
                Ok(Err(_)) | Err(_) => timed_out(),
            };
            answer(reply, id, told);
        });
    }
}

fn timed_out() -> Answer {
    Answer::Refused(Refusal::Unavailable { what: "no answer in time".to_owned() })
}

fn answer(reply: Responder, id: u64, answer: Answer) {
    if reply.is_closed() {
        return;
    }
    match wire::encode(&ReplyEnvelope { id, answer }, limits::FRAME_BYTES_MAX) {
        Ok(frame) => reply.send(frame),
        Err(error) => {
            tracing::error!(%error, "an answer does not fit a frame");
            let refusal = Refusal::Unsupported { what: format!("the answer does not fit a frame: {error}") };
            if let Ok(frame) =
                wire::encode(&ReplyEnvelope { id, answer: Answer::Refused(refusal) }, limits::FRAME_BYTES_MAX)
            {
                reply.send(frame);
            }
        }
    }
}
