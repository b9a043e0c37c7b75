//! A session: one client on the control socket, from its hello to its end.

use std::sync::Arc;
use std::time::Duration;

use magpie_core::limits;
use magpie_core::queue::Refusal;
use magpie_core::wire::{self, DecodeError, FrameBuffer};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::{JoinHandle, JoinSet};

use super::doorway::Doorway;
use crate::local_socket;
use crate::messages::session::{ClientHello, SessionMsg};
use crate::messages::{Addressed, Answer, Body, Envelope, ReplyEnvelope, Role};

const HELLO_PATIENCE: Duration = Duration::from_secs(5);

pub struct SessionActor;

pub struct SessionArguments {
    pub stream: UnixStream,
    pub doorway: Arc<Doorway>,
}

/// The task that serves the connection ends with the actor.
pub struct SessionState(JoinHandle<()>);

impl Drop for SessionState {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Actor for SessionActor {
    type Msg = SessionMsg;
    type State = SessionState;
    type Arguments = SessionArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let serving = async move {
            let why = serve(arguments).await.err();
            let _ = myself.cast(SessionMsg::Closed(why));
        };
        Ok(SessionState(tokio::spawn(serving)))
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        _state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let SessionMsg::Closed(why) = message;
        if let Some(why) = why {
            tracing::info!(why, "a control connection was closed");
        }
        myself.stop(None);
        Ok(())
    }
}

/// Serves one connection until the client closes it or breaks the protocol (then in words).
async fn serve(arguments: SessionArguments) -> Result<(), String> {
    let (read, write) = local_socket::split(arguments.stream).map_err(|error| error.to_string())?;
    let mut reader = FrameReader { read, frames: FrameBuffer::new(limits::FRAME_BYTES_MAX), chunk: vec![0; 64 * 1024] };
    let hello = tokio::time::timeout(HELLO_PATIENCE, reader.next(|frame| wire::decode::<ClientHello>(frame))).await;
    let Some(hello) = hello.map_err(|_| "no hello in time".to_owned())?? else { return Ok(()) };
    let session = Arc::new(Session {
        owner: format!("local:{}", hello.client.chars().take(64).collect::<String>()).into(),
        role: hello.role.max(Role::Agent),
        doorway: arguments.doorway,
        writer: Mutex::new(write),
    });
    let places = Arc::new(Semaphore::new(limits::SESSION_REQUESTS_MAX));
    let mut answering = JoinSet::new();
    while let Some(incoming) = reader.next(incoming).await? {
        let place = places.clone().acquire_owned().await.map_err(|error| error.to_string())?;
        let session = session.clone();
        while answering.try_join_next().is_some() {}
        answering.spawn(async move {
            session.answer(incoming).await;
            drop(place);
        });
    }
    Ok(())
}

struct Session {
    owner: Arc<str>,
    role: Role,
    doorway: Arc<Doorway>,
    writer: Mutex<local_socket::Writer>,
}

impl Session {
    async fn answer(&self, incoming: Result<Envelope, ReplyEnvelope>) {
        let reply = match incoming {
            Ok(envelope) => ReplyEnvelope::to_client(envelope.id, self.answer_to(envelope.body).await),
            Err(refused) => refused,
        };
        // A client that has gone needs no answer.
        let _ = self.writer.lock().await.write_all(&encode(&reply)).await;
    }

    async fn answer_to(&self, body: Body) -> Answer {
        match body.may_be_said_by(self.role) {
            Ok(()) => self.doorway.answer(None, self.owner.clone(), body).await,
            Err(needs) => {
                Answer::Refused(Refusal::Forbidden { needs: needs.name().to_owned(), has: self.role.name().to_owned() })
            }
        }
    }
}

/// A request, or the answer to one that a later version knows.
fn incoming(frame: &[u8]) -> Result<Result<Envelope, ReplyEnvelope>, DecodeError> {
    match wire::decode(frame) {
        Ok(envelope) => Ok(Ok(envelope)),
        Err(error) => wire::decode::<Addressed>(frame).map(|sender| Err(sender.unsupported(&error))),
    }
}

fn encode(reply: &ReplyEnvelope) -> Vec<u8> {
    let refused = |error: wire::EncodeError| {
        let what = format!("the answer does not fit a frame ({error}); ask for less at a time");
        ReplyEnvelope::to_client(reply.id, Answer::Refused(Refusal::Unsupported { what }))
    };
    let encoded = wire::encode(reply, limits::FRAME_BYTES_MAX);
    encoded.unwrap_or_else(|error| {
        wire::encode(&refused(error), limits::FRAME_BYTES_MAX).expect("a refusal of one sentence fits a frame")
    })
}

struct FrameReader {
    read: local_socket::Reader,
    frames: FrameBuffer,
    chunk: Vec<u8>,
}

impl FrameReader {
    /// The next message; `None` at the end of the stream.
    async fn next<T>(&mut self, read: impl Fn(&[u8]) -> Result<T, DecodeError>) -> Result<Option<T>, String> {
        loop {
            match self.frames.next_frame() {
                Ok(Some(frame)) => return read(frame).map(Some).map_err(|error| error.to_string()),
                Ok(None) => {}
                Err(error) => return Err(error.to_string()),
            }
            let len = self.read.read(&mut self.chunk).await.map_err(|error| error.to_string())?;
            if len == 0 {
                return Ok(None);
            }
            self.frames.push(&self.chunk[..len]);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn payload(message: &Value) -> Vec<u8> {
        wire::encode(message, limits::FRAME_BYTES_MAX).unwrap().split_off(4)
    }

    #[test]
    fn a_message_of_a_later_version_is_refused_as_unsupported_under_its_id() {
        for body in [json!({"moon": "phase"}), json!({"ledger": {"foresee": {"id": 7}}}), json!({"node": "dream"})] {
            let refused = incoming(&payload(&json!({"id": 7, "ttl_ms": 1_000, "body": body}))).unwrap().unwrap_err();
            assert_eq!(refused.id, 7);
            assert!(matches!(refused.answer, Answer::Refused(Refusal::Unsupported { .. })), "{refused:?}");
        }
        let known = json!({"id": 8, "ttl_ms": 1_000, "body": {"node": "status"}});
        let known = incoming(&payload(&known)).unwrap().unwrap();
        assert_eq!(known.id, 8);
    }

    #[test]
    fn what_has_no_id_ends_the_session() {
        assert!(incoming(&payload(&json!({"ttl_ms": 1_000}))).is_err());
        assert!(incoming(&[]).is_err());
    }
}
