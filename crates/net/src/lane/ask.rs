//! The asking end of a lane.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::io::BufReader;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite};
use magpie_core::ids::PeerId;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::frame::{self, Kind};
use super::{LANE_VERSION, gather, write_out};
use crate::codec::{Response, refused};
use crate::handle::RequestError;
use crate::limits;

/// Hears what became of a request, once. It takes it at once, and never waits.
pub(crate) type Hearer = Box<dyn FnOnce(Result<Response, RequestError>) + Send>;

/// Who waits for a reply: a lane that breaks tells it so.
struct Caller {
    peer: PeerId,
    hearer: Option<Hearer>,
}

impl Caller {
    fn tell(mut self, result: Result<Response, RequestError>) {
        if let Some(hearer) = self.hearer.take() {
            hearer(result);
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if let Some(hearer) = self.hearer.take() {
            hearer(Err(RequestError::Interrupted { peer: self.peer }));
        }
    }
}

/// A request that was not sent, given back: its lane has just closed.
pub(crate) struct NotSent(pub Vec<u8>);

struct Request {
    frame: Vec<u8>,
    /// `None`: a notice.
    caller: Option<Caller>,
    permit: OwnedSemaphorePermit,
}

/// A caller's end of an open lane.
#[derive(Debug, Clone)]
pub(crate) struct Lane {
    peer: PeerId,
    requests: mpsc::Sender<Request>,
    permits: Arc<Semaphore>,
}

/// A place on a lane that is free just now, for a frame of at most [`limits::LANE_FRAME_BYTES_MAX`] bytes.
pub(crate) struct FreePlace<'a> {
    peer: PeerId,
    place: mpsc::Permit<'a, Request>,
    permit: OwnedSemaphorePermit,
}

impl FreePlace<'_> {
    /// Puts a request on its way.
    pub fn request(self, frame: Vec<u8>, hearer: Hearer) {
        let caller = Caller { peer: self.peer, hearer: Some(hearer) };
        self.place.send(Request { frame, caller: Some(caller), permit: self.permit });
    }

    /// Puts a notice on its way. Nobody hears what became of it.
    pub fn tell(self, frame: Vec<u8>) {
        self.place.send(Request { frame, caller: None, permit: self.permit });
    }
}

impl Lane {
    /// Sends `frame`, at most [`limits::LANE_FRAME_BYTES_MAX`] bytes, and waits for the response.
    pub async fn request(&self, frame: Vec<u8>) -> Result<Result<Response, RequestError>, NotSent> {
        let Ok(permit) = self.permits.clone().acquire_owned().await else { return Err(NotSent(frame)) };
        let Ok(place) = self.requests.reserve().await else { return Err(NotSent(frame)) };
        let (reply, replied) = oneshot::channel();
        // The caller may have given up.
        let hearer = Box::new(|result| drop(reply.send(result)));
        FreePlace { peer: self.peer, place, permit }.request(frame, hearer);
        Ok(replied.await.unwrap_or(Err(RequestError::Interrupted { peer: self.peer })))
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.permits.available_permits() == limits::LANE_REQUESTS_MAX
    }

    /// A place, if one is free just now.
    pub fn free_place(&self) -> Option<FreePlace<'_>> {
        let permit = self.permits.clone().try_acquire_owned().ok()?;
        Some(FreePlace { peer: self.peer, place: self.requests.try_reserve().ok()?, permit })
    }
}

/// A request under way.
struct Waiting {
    caller: Caller,
    /// What has come of the reply.
    parts: Vec<u8>,
    since: Instant,
    _permit: OwnedSemaphorePermit,
}

/// The requests under way on one lane, by id.
#[derive(Default)]
struct UnderWay {
    waiting: Mutex<HashMap<u64, Waiting>>,
    begun: Notify,
}

impl UnderWay {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, id: u64, waiting: Waiting) {
        self.lock().insert(id, waiting);
        self.begun.notify_one();
    }

    /// Gives up what is older than any caller's patience, so that a peer that never answers does not hold the lane's
    /// places.
    fn expire(&self) {
        let timeout_ms = limits::PEER_REQUEST_TIMEOUT_MS;
        let patience = Duration::from_millis(timeout_ms);
        let late: Vec<_> = self.lock().extract_if(|_, waiting| waiting.since.elapsed() >= patience).collect();
        for (_, Waiting { caller, .. }) in late {
            let peer = caller.peer;
            caller.tell(Err(RequestError::TimedOut { peer, timeout_ms }));
        }
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
        let Some(Waiting { caller, mut parts, .. }) = under_way.remove(&id) else { return Ok(()) };
        drop(under_way);
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
        caller.tell(Ok(response));
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
    let mut reader = BufReader::with_capacity(limits::LANE_READ_BYTES, reader);
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
        gather(&asked).await;
        let mut next = Some(first);
        while let Some(Request { frame, caller, permit }) = next {
            id += 1;
            frame::append(&mut buffer, id, if caller.is_some() { Kind::Request } else { Kind::Notice }, &frame);
            if let Some(caller) = caller {
                let waiting = Waiting { caller, parts: Vec::new(), since: Instant::now(), _permit: permit };
                under_way.begin(id, waiting);
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
    loop {
        // A lane that is quiet sleeps: a node has one to each member.
        while under_way.lock().is_empty() {
            under_way.begun.notified().await;
        }
        tokio::time::sleep(Duration::from_millis(limits::LANE_EXPIRY_EVERY_MS)).await;
        under_way.expire();
    }
}
