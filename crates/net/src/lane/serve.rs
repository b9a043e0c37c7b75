//! The answering end of a lane.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::io::BufReader;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite};
use magpie_core::access::Role;
use magpie_core::ids::PeerId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::frame::{self, Kind};
use super::{LANE_VERSION, gather, write_out};
use crate::codec::{Request, Response, refused};
use crate::event::Requester;
use crate::handle::Shared;
use crate::inbox::Inbox;
use crate::limits;
use crate::share::Share;

/// What an answering end works with.
#[derive(Clone)]
pub(crate) struct Server {
    pub inbox: Inbox,
    pub shared: Arc<Shared>,
    pub share: Arc<Share>,
}

/// A request's place on its lane, and the way of its answer.
#[derive(Debug)]
pub(crate) struct Place {
    id: u64,
    answers: mpsc::Sender<Sending>,
    permit: OwnedSemaphorePermit,
}

impl Place {
    /// Puts the answer on its way. It keeps the place until it is written.
    pub fn answer(self, response: Response) {
        // There is room for as many as there are places. A lane that broke carries nothing any more, and an answer
        // that comes after its place was given up reaches nobody.
        let _ = self.answers.try_send(Sending { id: self.id, response, sent_bytes: 0, _permit: self.permit });
    }

    pub fn is_closed(&self) -> bool {
        self.answers.is_closed()
    }
}

/// The places of one lane.
struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(limits::LANE_REQUESTS_MAX)))
    }
}

impl Places {
    /// Waits for a place. When none comes free for as long as any caller waits, nobody waits for those requests any
    /// more, and their places are made anew: an owner that never answers does not hold a lane for ever.
    async fn take(&mut self) -> io::Result<OwnedSemaphorePermit> {
        let patience = Duration::from_millis(limits::PEER_REQUEST_TIMEOUT_MS);
        let taken = match tokio::time::timeout(patience, self.0.clone().acquire_owned()).await {
            Ok(taken) => taken,
            Err(_) => {
                *self = Self::default();
                self.0.clone().acquire_owned().await
            }
        };
        taken.map_err(io::Error::other)
    }
}

/// Runs the answering end of a lane until it breaks or the peer closes it. Only members have one.
///
/// Reading goes on while answers are written, or two nodes that answer each other at length would wait for each other
/// for ever.
pub(crate) async fn run<S>(stream: S, peer: PeerId, server: Server) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::with_capacity(limits::LANE_READ_BYTES, reader);
    let opening = Duration::from_millis(limits::LANE_OPEN_MS);
    tokio::time::timeout(opening, welcome(&mut reader, &mut writer))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;

    let (sender, answers) = mpsc::channel(limits::LANE_REQUESTS_MAX);
    tokio::select! {
        ended = read_requests(&mut reader, peer, &server, sender) => ended.inspect_err(|error| server.share.blame(error)),
        ended = write_answers(&mut writer, answers) => ended,
    }
}

async fn welcome<R, W>(reader: &mut R, writer: &mut W) -> io::Result<()>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin,
{
    let head = frame::read_head(reader).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let payload = frame::read_payload(reader, head).await?;
    if head.kind != Kind::Hello || payload.first() != Some(&LANE_VERSION) {
        return Err(refused(format!("{:?} {payload:?} in place of a hello", head.kind)));
    }
    let mut buffer = Vec::new();
    frame::append(&mut buffer, 0, Kind::Welcome, &[LANE_VERSION]);
    write_out(writer, &mut buffer).await
}

/// Delivers requests. It waits, and so stops reading from this peer alone, while too many are unanswered or its share is
/// used up.
async fn read_requests<R: AsyncRead + Unpin + Send>(
    reader: &mut R,
    peer: PeerId,
    server: &Server,
    answers: mpsc::Sender<Sending>,
) -> io::Result<()> {
    let mut places = Places::default();
    let reading = Duration::from_millis(limits::LANE_READ_MS);
    while let Some(head) = frame::read_head(reader).await? {
        let requester = match head.kind {
            Kind::Request => {
                let permit = places.take().await?;
                Some(Requester::Lane(Place { id: head.id, answers: answers.clone(), permit }))
            }
            Kind::Notice => None,
            Kind::Hello | Kind::Welcome | Kind::Part | Kind::Reply | Kind::Busy | Kind::Unanswered => {
                return Err(refused(format!("{:?} on the answering end of a lane", head.kind)));
            }
        };
        let budget = Some(server.share.on_lane(head.payload_bytes).await?);
        let payload = tokio::time::timeout(reading, frame::read_payload(reader, head)).await;
        let frame = payload.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let request = Request { frame, budget };
        if !server.inbox.request(peer, Role::Peer, request, requester) {
            server.shared.count(|counters| counters.requests_turned_away += 1);
        }
    }
    Ok(())
}

async fn write_answers<W: AsyncWrite + Unpin>(writer: &mut W, mut answers: mpsc::Receiver<Sending>) -> io::Result<()> {
    let mut outgoing = Outgoing::default();
    let mut buffer = Vec::new();
    while let Some(first) = answers.recv().await {
        outgoing.0.push_back(first);
        gather(&answers).await;
        // Everything that is ready goes out in one write; what becomes ready meanwhile, between two parts of a long
        // reply.
        loop {
            outgoing.0.extend(std::iter::from_fn(|| answers.try_recv().ok()));
            outgoing.fill(&mut buffer);
            if buffer.is_empty() {
                break;
            }
            write_out(writer, &mut buffer).await?;
        }
    }
    Ok(())
}

/// Responses on their way out, which take turns; as many as there are places.
#[derive(Default)]
struct Outgoing(VecDeque<Sending>);

#[derive(Debug)]
struct Sending {
    id: u64,
    response: Response,
    sent_bytes: usize,
    _permit: OwnedSemaphorePermit,
}

impl Outgoing {
    /// Appends frames while there are any and the buffer is not full.
    fn fill(&mut self, buffer: &mut Vec<u8>) {
        while buffer.len() < limits::LANE_BUFFER_BYTES {
            let Some(mut sending) = self.0.pop_front() else { return };
            if !sending.append_next(buffer) {
                self.0.push_back(sending);
            }
        }
    }
}

impl Sending {
    /// Appends the next frame of this response; `true` if it was the last.
    fn append_next(&mut self, buffer: &mut Vec<u8>) -> bool {
        let rest = &self.response.payload()[self.sent_bytes..];
        let part = &rest[..rest.len().min(limits::LANE_FRAME_BYTES_MAX)];
        let is_last = part.len() == rest.len();
        let kind = match self.response {
            Response::Busy => Kind::Busy,
            Response::Unanswered => Kind::Unanswered,
            Response::Reply(_) if is_last => Kind::Reply,
            Response::Reply(_) => Kind::Part,
        };
        frame::append(buffer, self.id, kind, part);
        self.sent_bytes += part.len();
        is_last
    }
}
