//! The control socket: who connects gets a session.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use magpie_core::limits;
use magpie_core::queue::Refusal;
use magpie_core::wire;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use super::doorway::Doorway;
use super::session::{SessionActor, SessionArguments};
use super::turning_away::{self, ACCEPT_AGAIN_AFTER, NO_DESCRIPTOR, Spare, is_shortage, is_the_clients};
use crate::messages::actor::SupervisorMsg;
use crate::messages::session::ControlMsg;
use crate::messages::{Answer, ReplyEnvelope};

pub struct ControlActor;

#[derive(Clone)]
pub struct ControlArguments {
    pub socket: PathBuf,
    pub doorway: Arc<Doorway>,
}

pub struct ControlState {
    sessions: BTreeMap<ActorId, String>,
    accepting: JoinHandle<()>,
    arguments: ControlArguments,
}

/// After so long a client that was turned away may find a place.
const COME_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Sessions of this process, for names that are never used twice.
static SESSIONS: AtomicU64 = AtomicU64::new(1);

impl Actor for ControlActor {
    type Msg = ControlMsg;
    type State = ControlState;
    type Arguments = ControlArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let listener = listen(&arguments.socket)
            .map_err(|error| format!("the control socket {} cannot be made: {error}", arguments.socket.display()))?;
        let accepting = tokio::spawn(accept(listener, myself));
        Ok(ControlState { sessions: BTreeMap::new(), accepting, arguments })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ControlMsg::Connected(stream) if state.sessions.len() >= limits::SESSIONS_MAX => {
                tracing::warn!(limit = limits::SESSIONS_MAX, "too many control connections: one is turned away");
                turning_away::say(
                    &stream,
                    &turned_away(&format!("{} control connections are open", limits::SESSIONS_MAX)),
                );
            }
            ControlMsg::Connected(stream) => {
                let name = format!("session-{}", SESSIONS.fetch_add(1, Ordering::Relaxed));
                let arguments = SessionArguments { stream, doorway: state.arguments.doorway.clone() };
                let (session, _) = Actor::spawn_linked(None, SessionActor, arguments, myself.get_cell()).await?;
                state.sessions.insert(session.get_id(), name);
                state.tell_supervisor();
            }
            ControlMsg::Ended(why) => return Err(why.into()),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        // A session ends with its client; nobody restarts it.
        if let SupervisionEvent::ActorTerminated(cell, _, _) | SupervisionEvent::ActorFailed(cell, _) = event {
            state.sessions.remove(&cell.get_id());
            state.tell_supervisor();
        }
        Ok(())
    }
}

impl ControlState {
    fn tell_supervisor(&self) {
        let names = self.sessions.values().cloned().collect();
        let _ = self.arguments.doorway.routes.addresses.supervisor.cast(SupervisorMsg::Sessions(names));
    }
}

impl Drop for ControlState {
    fn drop(&mut self) {
        self.accepting.abort();
        let _ = std::fs::remove_file(&self.arguments.socket);
    }
}

/// The data directory's lock is held, so a socket file that is there was left by an earlier life.
fn listen(socket: &std::path::Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn accept(listener: UnixListener, control: ActorRef<ControlMsg>) {
    let (mut short, mut spare) = (false, Spare::new());
    let no_descriptor = turned_away(NO_DESCRIPTOR);
    loop {
        let message = match listener.accept().await {
            Ok((stream, _)) => {
                spare.refill();
                ControlMsg::Connected(stream)
            }
            // A new socket would meet the same, and the sessions that are there would end.
            Err(error) if is_shortage(&error) => {
                if !std::mem::replace(&mut short, true) {
                    tracing::error!(%error, "the control socket turns clients away for now");
                }
                if !spare.turn_away(&listener, &no_descriptor) {
                    tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                }
                continue;
            }
            Err(error) if is_the_clients(&error) => continue,
            Err(error) => ControlMsg::Ended(format!("the control socket takes no connection: {error}")),
        };
        short = false;
        let ended = matches!(message, ControlMsg::Ended(_));
        if control.cast(message).is_err() || ended {
            return;
        }
    }
}

/// What a client hears on whose connection no request is taken.
fn turned_away(what: &str) -> Vec<u8> {
    let retry_after_ms = COME_AGAIN_AFTER.as_millis() as u64;
    let refusal = Refusal::Overloaded { retry_after_ms, what: what.to_owned() };
    let reply = ReplyEnvelope::to_client(ReplyEnvelope::TO_ALL, Answer::Refused(refusal));
    wire::encode(&reply, limits::FRAME_BYTES_MAX).expect("a refusal of one sentence fits a frame")
}
