//! The asking end of a lane.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::io::BufReader;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite};
use magpie_core::ids::PeerId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::frame::{self, Kind};
use super::{LANE_VERSION, write_out};
use crate::codec::{Response, refused};
use crate::handle::RequestError;
use crate::limits;

type Reply = oneshot::Sender<Result<Response, RequestError>>;

/// A request that was not sent, given back: its lane has just closed.
pub(crate) struct NotSent(pub Vec<u8>);

struct Request {
    frame: Vec<u8>,
    /// `None`: a notice.
    reply: Option<Reply>,
    permit: OwnedSemaphorePermit,
}

/// A caller's end of an open lane.
#[derive(Debug, Clone)]
pub(crate) struct Lane {
    peer: PeerId,
    requests: mpsc::Sender<Request>,
    permits: Arc<Semaphore>,
}

impl Lane {
    /// Sends `frame`, at most [`limits::LANE_FRAME_BYTES_MAX`] bytes, and waits for the response.
    pub async fn request(&self, frame: Vec<u8>) -> Result<Result<Response, RequestError>, NotSent> {
        let Ok(permit) = self.permits.clone().acquire_owned().await else { return Err(NotSent(frame)) };
        let (reply, replied) = oneshot::channel();
        let sent = self.requests.send(Request { frame, reply: Some(reply), permit }).await;
        if let Err(mpsc::error::SendError(request)) = sent {
            return Err(NotSent(request.frame));
        }
        Ok(replied.await.unwrap_or(Err(RequestError::Interrupted { peer: self.peer })))
    }

    /// Puts `frame`, at most [`limits::LANE_FRAME_BYTES_MAX`] bytes, on its way as a notice. Nobody hears what became of it.
    pub fn tell(&self, frame: Vec<u8>) -> Result<(), NotSent> {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else { return Err(NotSent(frame)) };
        let sent = self.requests.try_send(Request { frame, reply: None, permit });
        sent.map_err(|error| NotSent(error.into_inner().frame))
    }
}

/// A request under way.
struct Waiting {
    reply: Reply,
    /// What has come of the reply.
    parts: Vec<u8>,
    since: Instant,
    _permit: OwnedSemaphorePermit,
}

/// The requests under way on one lane, by id.
#[derive(Default)]
struct UnderWay(Mutex<HashMap<u64, Waiting>>);

impl UnderWay {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives up what is older than any caller's patience, so that a peer that never answers does not hold the lane's
    /// places.
    fn expire(&self) {
        let patience = Duration::from_millis(limits::PEER_REQUEST_TIMEOUT_MS);
        self.lock().retain(|_, waiting| waiting.since.elapsed() < patience);
    }

    fn answer(&self, id: u64, kind: Kind, payload: Vec<u8>) -> io::Result<()> {
        let mut under_way = self.lock();
        if kind == Kind::Part {
            // A reply to a request that was given up is read and forgotten.
            let Some(waiting) = under_way.get_mut(&id) else { return Ok(()) };
            if waiting.parts.len() + payload.len() > limits::FRAME_BYTES_MAX {
                return Err(refused(format!("reply above {} bytes", limits::FRAME_BYTES_MAX)));
            }
            waiting.parts.extend_from_slice(&payload);
            return Ok(());
        }
        let Some(Waiting { reply, mut parts, .. }) = under_way.remove(&id) else { return Ok(()) };
        let response = match kind {
            Kind::Reply if parts.is_empty() => Response::Reply(payload),
            Kind::Reply if parts.len() + payload.len() <= limits::FRAME_BYTES_MAX => {
                parts.extend_from_slice(&payload);
                Response::Reply(parts)
            }
            Kind::Busy => Response::Busy,
            Kind::Unanswered => Response::Unanswered,
            _ => return Err(refused(format!("{kind:?} on the asking end of a lane"))),
        };
        // The caller may have given up.
        let _ = reply.send(Ok(response));
        Ok(())
    }
}

/// Runs the asking end of a lane until it breaks: what is under way then ends with [`RequestError::Interrupted`] at
/// once.
///
/// `open` gets the callers' end once the peer has welcomed the lane, and not before: a stream that multistream-select
/// agreed on may still be dropped by the other side.
pub(crate) async fn run<S>(stream: S, peer: PeerId, open: impl FnOnce(Lane)) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::with_capacity(limits::LANE_BUFFER_BYTES, reader);
    let opening = Duration::from_millis(limits::LANE_OPEN_MS);
    tokio::time::timeout(opening, greet(&mut reader, &mut writer))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;

    let (requests, asked) = mpsc::channel(limits::LANE_REQUESTS_MAX);
    let permits = Arc::new(Semaphore::new(limits::LANE_REQUESTS_MAX));
    open(Lane { peer, requests, permits });
    let under_way = UnderWay::default();
    tokio::select! {
        ended = write_requests(&mut writer, asked, &under_way) => ended,
        ended = read_responses(&mut reader, &under_way) => ended,
        () = expire_requests(&under_way) => Ok(()),
    }
}

async fn greet<R, W>(reader: &mut R, writer: &mut W) -> io::Result<()>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin,
{
    let mut buffer = Vec::new();
    frame::append(&mut buffer, 0, Kind::Hello, &[LANE_VERSION]);
    write_out(writer, &mut buffer).await?;
    let head = frame::read_head(reader).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    frame::read_payload(reader, head).await?;
    if head.kind == Kind::Welcome { Ok(()) } else { Err(refused(format!("{:?} in place of a welcome", head.kind))) }
}

async fn write_requests<W: AsyncWrite + Unpin>(
    writer: &mut W,
    mut asked: mpsc::Receiver<Request>,
    under_way: &UnderWay,
) -> io::Result<()> {
    let mut buffer = Vec::new();
    let mut id = 0;
    while let Some(first) = asked.recv().await {
        let mut next = Some(first);
        while let Some(Request { frame, reply, permit }) = next {
            id += 1;
            frame::append(&mut buffer, id, if reply.is_some() { Kind::Request } else { Kind::Notice }, &frame);
            if let Some(reply) = reply {
                let waiting = Waiting { reply, parts: Vec::new(), since: Instant::now(), _permit: permit };
                under_way.lock().insert(id, waiting);
            }
            let has_room = buffer.len() < limits::LANE_BUFFER_BYTES;
            next = has_room.then(|| asked.try_recv().ok()).flatten();
        }
        write_out(writer, &mut buffer).await?;
    }
    Ok(())
}

async fn read_responses<R: AsyncRead + Unpin + Send>(reader: &mut R, under_way: &UnderWay) -> io::Result<()> {
    while let Some(head) = frame::read_head(reader).await? {
        let payload = frame::read_payload(reader, head).await?;
        under_way.answer(head.id, head.kind, payload)?;
    }
    Ok(())
}

async fn expire_requests(under_way: &UnderWay) {
    let mut every = tokio::time::interval(Duration::from_millis(limits::LANE_EXPIRY_EVERY_MS));
    loop {
        every.tick().await;
        under_way.expire();
    }
}
