//! The answering end of a lane.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, ready};
use futures::io::BufReader;
use futures::stream::FuturesUnordered;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, FutureExt, StreamExt};
use magpie_core::ids::PeerId;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::frame::{self, Kind};
use super::{LANE_VERSION, write_out};
use crate::codec::{Request, Response, refused};
use crate::handle::Shared;
use crate::inbox::Inbox;
use crate::limits;

/// What an answering end works with.
#[derive(Clone)]
pub(crate) struct Server {
    pub inbox: Inbox,
    pub shared: Arc<Shared>,
    pub budget: Arc<Semaphore>,
}

/// A request that was delivered or turned away; its answer comes or is there.
struct Asked {
    id: u64,
    answered: Option<oneshot::Receiver<Response>>,
}

type Answering = FuturesUnordered<BoxFuture<'static, (u64, Response)>>;

/// Runs the answering end of a lane until it breaks or the peer closes it.
///
/// Reading goes on while answers are written, or two nodes that answer each other at length would wait for each other
/// for ever.
pub(crate) async fn run<S>(stream: S, peer: PeerId, server: Server) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::with_capacity(limits::LANE_BUFFER_BYTES, reader);
    let opening = Duration::from_millis(limits::LANE_OPEN_MS);
    tokio::time::timeout(opening, welcome(&mut reader, &mut writer))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;

    let (asked, answers) = mpsc::channel(limits::LANE_REQUESTS_MAX);
    tokio::select! {
        ended = read_requests(&mut reader, peer, &server, asked) => ended,
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

/// Delivers requests. It waits, and so stops reading from this peer alone, while too many are unanswered or the
/// budget of bytes is spent.
async fn read_requests<R: AsyncRead + Unpin + Send>(
    reader: &mut R,
    peer: PeerId,
    server: &Server,
    asked: mpsc::Sender<Asked>,
) -> io::Result<()> {
    while let Some(head) = frame::read_head(reader).await? {
        if !matches!(head.kind, Kind::Request | Kind::Notice) {
            return Err(refused(format!("{:?} on the answering end of a lane", head.kind)));
        }
        let Ok(place) = asked.reserve().await else { return Ok(()) };
        let budget = server.budget.clone().acquire_many_owned(head.payload_bytes as u32).await;
        let budget = Some(budget.map_err(io::Error::other)?);
        let request = Request { frame: frame::read_payload(reader, head).await?, budget };
        let answered = server.inbox.request(peer, request);
        if answered.is_none() {
            server.shared.count(|counters| counters.requests_turned_away += 1);
        }
        // Of a notice the answer is dropped here, so that its receiver sees that nobody waits for one.
        if head.kind == Kind::Request {
            place.send(Asked { id: head.id, answered });
        }
    }
    Ok(())
}

async fn write_answers<W: AsyncWrite + Unpin>(writer: &mut W, mut asked: mpsc::Receiver<Asked>) -> io::Result<()> {
    let mut answering = Answering::new();
    let mut outgoing = Outgoing::default();
    let mut buffer = Vec::new();
    loop {
        tokio::select! {
            Some(asked) = asked.recv(), if answering.len() < limits::LANE_REQUESTS_MAX => {
                answering.push(answer_to(asked));
            }
            Some((id, response)) = answering.next() => outgoing.push(id, response),
            else => return Ok(()),
        }
        // Everything that is ready goes out in one write; what becomes ready meanwhile, between two parts of a long
        // reply.
        loop {
            while answering.len() < limits::LANE_REQUESTS_MAX
                && let Ok(asked) = asked.try_recv()
            {
                answering.push(answer_to(asked));
            }
            while let Some(Some((id, response))) = answering.next().now_or_never() {
                outgoing.push(id, response);
            }
            outgoing.fill(&mut buffer);
            if buffer.is_empty() {
                break;
            }
            write_out(writer, &mut buffer).await?;
        }
    }
}

/// The answer, when the owner gives it; none if that takes longer than any caller waits.
fn answer_to(Asked { id, answered }: Asked) -> BoxFuture<'static, (u64, Response)> {
    let Some(answered) = answered else { return ready((id, Response::Busy)).boxed() };
    let patience = Duration::from_millis(limits::PEER_REQUEST_TIMEOUT_MS);
    let response = tokio::time::timeout(patience, answered);
    response.map(move |response| (id, response.ok().and_then(Result::ok).unwrap_or(Response::Unanswered))).boxed()
}

/// Responses on their way out, which take turns.
#[derive(Default)]
struct Outgoing(VecDeque<Sending>);

struct Sending {
    id: u64,
    response: Response,
    sent_bytes: usize,
}

impl Outgoing {
    fn push(&mut self, id: u64, response: Response) {
        self.0.push_back(Sending { id, response, sent_bytes: 0 });
    }

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
