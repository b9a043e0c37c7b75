//! The other end of the control socket: what `nodectl`, `node-mcp` and tests speak through.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use magpie_core::limits;
use magpie_core::queue::Refusal;
use magpie_core::wire::{self, FrameBuffer};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::awake::Awake;
use crate::local_socket;
use crate::messages::session::ClientHello;
use crate::messages::{Answer, Body, Envelope, ReplyEnvelope, Role};

/// What a client adds to its patience, so that the node's own timeout answers first.
const SLACK: Duration = Duration::from_secs(1);
/// For so long the thread stays awake for the answer to a question that is alone. To sleep and be woken would take longer than
/// most answers do, and the node would pay for the waking.
const AWAKE: Duration = Duration::from_micros(400);

/// Why a node did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no node listens on {}: {source}; start one with `node`, or name its socket with --control", socket.display())]
    Unreachable { socket: PathBuf, source: io::Error },
    #[error("no node at {address} admits this client: {reason}")]
    NotAdmitted { address: String, reason: String },
    #[error("the node closed the connection")]
    Closed,
    #[error(
        "the node did not answer within {} ms: it is stopped or busy, or what has its socket is no node; `nodectl doctor` \
         looks which",
        patience.as_millis()
    )]
    TimedOut { patience: Duration },
    #[error("the request does not fit a frame: {0}")]
    TooLarge(#[from] wire::EncodeError),
    #[error("{0}")]
    Refused(Refusal),
    #[error("the node answered something else")]
    Unexpected,
}

/// Those who wait for their answers; `None` once there will be no more.
type Waiting = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>>;
/// Why the node takes no request on a connection.
type TurnedAway = Arc<OnceLock<Refusal>>;

/// One connection; many requests may be under way on it.
pub struct Client {
    writer: tokio::sync::Mutex<local_socket::Writer>,
    waiting: Waiting,
    turned_away: TurnedAway,
    next_id: AtomicU64,
    reader: JoinHandle<()>,
    awake: Awake,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Client {
    /// Connects to the control socket at `socket` as `client`.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] if nobody listens there.
    pub async fn connect(socket: &Path, client: &str, role: Role) -> Result<Self, ClientError> {
        let unreachable = |source| ClientError::Unreachable { socket: socket.to_owned(), source };
        let stream = UnixStream::connect(socket).await.map_err(unreachable)?;
        let (read, mut write) = local_socket::split(stream).map_err(unreachable)?;
        let hello = wire::encode(&ClientHello { client: client.to_owned(), role }, limits::HELLO_BYTES_MAX)?;
        match write.write_all(&hello).await {
            // A node that has turned this client away reads no more: what it said first tells why.
            Err(error) if has_left(&error) => {}
            said => said.map_err(unreachable)?,
        }
        let (waiting, turned_away) = (Waiting::new(Mutex::new(Some(HashMap::new()))), TurnedAway::default());
        let reader = tokio::spawn(read_answers(read, waiting.clone(), turned_away.clone()));
        let (writer, next_id) = (tokio::sync::Mutex::new(write), AtomicU64::new(ReplyEnvelope::TO_ALL + 1));
        Ok(Self { writer, waiting, turned_away, next_id, reader, awake: Awake::default() })
    }

    /// Sends a request and waits for its answer; a refusal is an error.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn ask(&self, body: Body, patience: Duration) -> Result<Answer, ClientError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let envelope = Envelope { id, ttl_ms: patience.as_millis() as u64, trace: None, body };
        let frame = wire::encode(&envelope, limits::FRAME_BYTES_MAX)?;
        let (sender, receiver) = oneshot::channel();
        let is_alone = {
            let mut waiting = self.waiting();
            let Some(waiting) = waiting.as_mut() else { return Err(self.closed()) };
            waiting.insert(id, sender);
            waiting.len() == 1
        };
        let asked = async {
            self.send(&frame).await?;
            let answer = if is_alone { self.awaited(receiver).await } else { receiver.await };
            answer.map_err(|_| self.closed())
        };
        let answer = tokio::time::timeout(patience + SLACK, asked).await;
        let answer = answer.unwrap_or(Err(ClientError::TimedOut { patience }));
        self.waiting().as_mut().and_then(|waiting| waiting.remove(&id));
        match answer? {
            Answer::Refused(refusal) => Err(ClientError::Refused(refusal)),
            Answer::Ledger(magpie_core::queue::LedgerReply::Refused(refusal)) => Err(ClientError::Refused(refusal)),
            answer => Ok(answer),
        }
    }

    async fn send(&self, frame: &[u8]) -> Result<(), ClientError> {
        match self.writer.lock().await.write_all(frame).await {
            // The reader ends as soon as it has read why.
            Err(error) if has_left(&error) => Ok(()),
            sent => sent.map_err(|_| ClientError::Closed),
        }
    }

    /// Looks for the answer for a while before it lets the thread sleep.
    async fn awaited(&self, receiver: oneshot::Receiver<Answer>) -> Result<Answer, oneshot::error::RecvError> {
        let asleep = Instant::now() + AWAKE;
        self.awake.stay(|| receiver.is_empty() && Instant::now() < asleep).await;
        receiver.await
    }

    fn closed(&self) -> ClientError {
        self.turned_away.get().cloned().map_or(ClientError::Closed, ClientError::Refused)
    }

    /// Whether the node is gone: make a new client.
    pub fn is_closed(&self) -> bool {
        self.reader.is_finished()
    }

    fn waiting(&self) -> MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<Answer>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read_answers(mut read: local_socket::Reader, waiting: Waiting, turned_away: TurnedAway) {
    let mut frames = FrameBuffer::new(limits::FRAME_BYTES_MAX);
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(len) = read.read(&mut chunk).await {
        if len == 0 {
            break;
        }
        frames.push(&chunk[..len]);
        loop {
            let reply: ReplyEnvelope = match frames.next_frame() {
                Ok(Some(frame)) => match wire::decode(frame) {
                    Ok(reply) => reply,
                    Err(_) => return close(&waiting),
                },
                Ok(None) => break,
                Err(_) => return close(&waiting),
            };
            if let (ReplyEnvelope::TO_ALL, Answer::Refused(refusal)) = (reply.id, &reply.answer) {
                turned_away.get_or_init(|| refusal.clone());
                return close(&waiting);
            }
            let asked =
                waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut().and_then(|all| all.remove(&reply.id));
            if let Some(sender) = asked {
                let _ = sender.send(reply.answer);
            }
        }
    }
    close(&waiting);
}

/// Nobody will answer any more: those who wait hear it now.
fn close(waiting: &Waiting) {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
}

/// Whether nobody reads any more what is written.
fn has_left(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}
