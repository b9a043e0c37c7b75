//! The peers' door: an admitted peer's frame becomes a message, in its name, if its role allows.

use std::sync::Arc;
use std::time::Duration;

use magpie_core::conduct::Offence;
use magpie_core::homes::Term;
use magpie_core::ids::PeerId;
use magpie_core::peer_metrics::Measured;
use magpie_core::queue::{Caller, LedgerRequest, Refusal};
use magpie_core::wire::DecodeError;
use magpie_core::{limits, wire};
use magpie_net::Responder;
use tokio::sync::oneshot;

use super::super::address::Address;
use super::super::doorway::Doorway;
use super::super::routes::Routes;
use super::gossip::{Gossip, Judged};
use crate::messages::ledger::LedgerMsg;
use crate::messages::worker::{WorkerMsg, WorkerReply, WorkerRequest};
use crate::messages::{Addressed, Answer, Body, Envelope, ReplyEnvelope, Role};

#[derive(Clone)]
pub struct PeerDoor {
    routes: Routes,
    doorway: Arc<Doorway>,
    gossip: Arc<Gossip>,
}

/// Who speaks, and as what it was admitted.
#[derive(Debug, Clone, Copy)]
pub struct Speaker {
    pub peer: PeerId,
    pub role: Role,
}

impl PeerDoor {
    pub fn new(routes: Routes, doorway: Arc<Doorway>) -> Self {
        Self { routes, doorway, gossip: Arc::default() }
    }

    /// Takes one frame in. What is for the ledger is in its mailbox when this returns, so that renewals, and the
    /// markers behind them, keep their order.
    pub fn enter(&self, speaker: Speaker, frame: &[u8], reply: Responder) {
        let envelope: Envelope = match wire::decode_frame(frame) {
            Ok(envelope) => envelope,
            Err(error) => {
                if is_malformed(&error) {
                    self.blame(speaker.peer, Offence::Malformed);
                }
                let sender = wire::decode_frame(frame).unwrap_or(Addressed { id: 0 });
                return send(reply, &sender.unsupported(&error));
            }
        };
        let id = envelope.id;
        let Speaker { peer, role } = speaker;
        if let Err(needs) = envelope.body.may_be_said_by(role) {
            let refusal = Refusal::Forbidden { needs: needs.name().to_owned(), has: role.name().to_owned() };
            return answer(reply, id, Answer::Refused(refusal));
        }
        self.routes.peers.measure(peer, Measured::Served);
        if matches!(envelope.body, Body::Registry(_) | Body::Clock(_)) {
            match self.gossip.judge(peer) {
                Judged::Answered => {}
                Judged::Refused(refusal) => return answer(reply, id, Answer::Refused(refusal)),
                Judged::Flood(refusal) => {
                    self.blame(peer, Offence::Flood);
                    return answer(reply, id, Answer::Refused(refusal));
                }
            }
        }
        match envelope.body {
            // A guest is a client of this node, which finds the home for it; a member has found it.
            Body::Ledger(request) if role == Role::Peer => self.to_ledger(peer, request, id, reply),
            Body::Worker(request) if role == Role::Peer => self.to_worker(peer, request, id, reply),
            body => self.behind(speaker, body, envelope.ttl_ms, id, reply),
        }
    }

    fn blame(&self, peer: PeerId, offence: Offence) {
        self.routes.peers.blame(peer, offence);
    }

    /// What is answered beside the actors.
    fn behind(&self, Speaker { peer, role }: Speaker, body: Body, ttl_ms: u64, id: u64, reply: Responder) {
        let place = match self.routes.peers.admit_errand() {
            Ok(place) => place,
            Err(refusal) => return answer(reply, id, Answer::Refused(refusal)),
        };
        let (doorway, principal) = (self.doorway.clone(), self.routes.peers.principal_of(peer));
        let term = self.routes.peers.own_term();
        let patience = Duration::from_millis(ttl_ms.min(limits::PEER_REQUEST_TIMEOUT_MS));
        let from = (role == Role::Peer).then_some(peer);
        self.routes.peers.errand(async move {
            let spoken = doorway.answer(from, principal, body);
            let spoken = tokio::time::timeout(patience, spoken).await;
            answer_as_home(reply, id, spoken.unwrap_or_else(|_| timed_out()), term);
            drop(place);
        });
    }

    /// A home's notice needs no answer but that it arrived.
    fn to_worker(&self, peer: PeerId, request: WorkerRequest, id: u64, reply: Responder) {
        if let WorkerRequest::Notice { home, term, .. } = &request
            && let Err(error) = self.routes.peers.homes().judge(*home, peer, *term)
        {
            tracing::debug!(%peer, %error, "a notice in the name of a home is refused");
            let what = format!("it is not from that home: {error}");
            return answer(reply, id, Answer::Refused(Refusal::Unsupported { what }));
        }
        let noted = note(&self.routes.addresses.worker, request);
        answer(reply, id, noted.map_or_else(Answer::Refused, Answer::Worker));
    }

    /// A peer may believe that this node serves what it handed over, or serves nothing yet that it is to serve: its ledger
    /// would answer that it does not know an outcome, and the outcome were lost.
    fn is_of_own(&self, request: &LedgerRequest) -> Result<(), Refusal> {
        let own = self.routes.peers.opened_ledger().map(|(own, _)| own.tag());
        match (own, request.ledger()) {
            (Some(own), Some(asked)) if own != asked => {
                let what = format!("it serves ledger {own}, and this is for {asked}");
                Err(Refusal::Unavailable { what })
            }
            _ => Ok(()),
        }
    }

    fn to_ledger(&self, peer: PeerId, request: LedgerRequest, id: u64, reply: Responder) {
        if let Err(refusal) = self.is_of_own(&request) {
            return answer(reply, id, Answer::Refused(refusal));
        }
        let permit = match self.routes.addresses.ledger.admit() {
            Ok(permit) => permit,
            Err(refusal) => return answer(reply, id, Answer::Refused(refusal)),
        };
        let caller = Caller { peer, owner: self.routes.peers.principal_of(peer) };
        // The ledger answers into the network: no task has to wait for that.
        let asker = Asker { id, term: self.routes.peers.own_term(), reply: Some(reply) };
        let reply = Box::new(move |told| asker.hear(Answer::Ledger(told)));
        // Between two lives of it the message ends here, and the asker with it.
        let _ = self.routes.addresses.ledger.cast(LedgerMsg::Request { caller, request, permit, reply });
    }
}

/// Whether no version of a node writes such bytes: a later one may well say what this one does not know.
fn is_malformed(error: &DecodeError) -> bool {
    match error {
        DecodeError::Version { .. } | DecodeError::Mismatch(_) => false,
        DecodeError::Empty
        | DecodeError::Truncated
        | DecodeError::Trailing { .. }
        | DecodeError::TooDeep { .. }
        | DecodeError::TooManyItems { .. }
        | DecodeError::Reserved { .. } => true,
    }
}

/// What finds no place in the mailbox is refused: the lease of a grant ends unstarted, a stop comes again with the answer
/// to a renewal.
fn note(worker: &Address<WorkerMsg>, request: WorkerRequest) -> Result<WorkerReply, Refusal> {
    let permit = Some(worker.admit()?);
    let (sender, _) = oneshot::channel();
    worker.cast(WorkerMsg::Request { request, permit, reply: sender.into() })?;
    Ok(WorkerReply::Noted)
}

/// A peer that waits for this node's ledger: one that restarts meanwhile tells it so.
struct Asker {
    id: u64,
    /// The life of the home that is asked.
    term: Option<Term>,
    reply: Option<Responder>,
}

impl Asker {
    fn hear(mut self, told: Answer) {
        if let Some(reply) = self.reply.take() {
            answer_as_home(reply, self.id, told, self.term);
        }
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        if let Some(reply) = self.reply.take() {
            let what = "the ledger restarted before it answered".to_owned();
            answer(reply, self.id, Answer::Refused(Refusal::Unavailable { what }));
        }
    }
}

fn timed_out() -> Answer {
    Answer::Refused(Refusal::Unavailable { what: "no answer in time".to_owned() })
}

fn answer(reply: Responder, id: u64, answer: Answer) {
    answer_as_home(reply, id, answer, None);
}

fn answer_as_home(reply: Responder, id: u64, answer: Answer, term: Option<Term>) {
    send(reply, &ReplyEnvelope { id, answer, term });
}

fn send(reply: Responder, envelope: &ReplyEnvelope) {
    if reply.is_closed() {
        return;
    }
    match wire::encode(envelope, limits::FRAME_BYTES_MAX) {
        Ok(frame) => reply.send(frame),
        Err(error) => {
            tracing::error!(%error, "an answer does not fit a frame");
            let refusal = Refusal::Unsupported { what: format!("the answer does not fit a frame: {error}") };
            let refused = ReplyEnvelope { id: envelope.id, answer: Answer::Refused(refusal), term: envelope.term };
            if let Ok(frame) = wire::encode(&refused, limits::FRAME_BYTES_MAX) {
                reply.send(frame);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ractor::{Actor, ActorProcessingErr, ActorRef};
    use tokio::sync::Semaphore;

    use super::*;

    /// Handles as many messages as it is let.
    struct Held;

    impl Actor for Held {
        type Msg = WorkerMsg;
        type State = Arc<Semaphore>;
        type Arguments = Arc<Semaphore>;

        async fn pre_start(
            &self,
            _myself: ActorRef<WorkerMsg>,
            turns: Arc<Semaphore>,
        ) -> Result<Self::State, ActorProcessingErr> {
            Ok(turns)
        }

        async fn handle(
            &self,
            _myself: ActorRef<WorkerMsg>,
            _message: WorkerMsg,
            turns: &mut Self::State,
        ) -> Result<(), ActorProcessingErr> {
            turns.acquire().await?.forget();
            Ok(())
        }
    }

    #[tokio::test]
    async fn i13_a_notice_to_a_worker_with_a_full_mailbox_is_refused_until_it_has_room() {
        let (turns, worker) = (Arc::new(Semaphore::new(0)), Address::new("a/worker"));
        let (actor, handling) = Actor::spawn(None, Held, turns.clone()).await.unwrap();
        worker.set(actor.clone());
        let notice = || note(&worker, WorkerRequest::Stats);
        for place in 0..limits::MAILBOX_LEN_MAX {
            assert_eq!(notice(), Ok(WorkerReply::Noted), "place {place}");
        }
        assert!(matches!(notice(), Err(Refusal::Overloaded { .. })));
        turns.add_permits(1);
        while notice().is_err() {
            tokio::task::yield_now().await;
        }
        assert!(matches!(notice(), Err(Refusal::Overloaded { .. })), "one place came free");
        actor.kill();
        handling.await.unwrap();
    }
}
