//! Both ends of a lane over a pipe; and each end against bytes that no honest end sends.

use std::sync::{Arc, Mutex};

use futures::future::join_all;
use futures::{AsyncReadExt, AsyncWriteExt};
use magpie_core::ids::PeerId;
use proptest::prelude::*;
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

use super::frame::{self, Kind};
use super::*;
use crate::codec::Response;
use crate::event::NetEvent;
use crate::handle::{RequestError, Shared};
use crate::inbox::Inbox;
use crate::share::Shares;

const ALICE: PeerId = PeerId([1; 32]);
const BOB: PeerId = PeerId([2; 32]);
const PIPE_BYTES: usize = 16 * 1024;

type End = Compat<DuplexStream>;

fn pipe() -> (End, End) {
    let (a, b) = tokio::io::duplex(PIPE_BYTES);
    (a.compat(), b.compat())
}

/// The answering end, and what its owner hears.
fn served(end: End, inbox_len: usize) -> (JoinHandle<io::Result<()>>, mpsc::Receiver<NetEvent>) {
    let (owner, events) = mpsc::channel(inbox_len);
    let shared = Arc::new(Shared::default());
    let share = Shares::new(shared.watch.clone(), limits::PEER_STREAMS_PER_S_MAX).of(crate::identity::to_libp2p(ALICE));
    let server = Server { inbox: Inbox::new(owner), shared, share };
    (tokio::spawn(serve(end, ALICE, server)), events)
}

/// The asking end; the lane comes when it is open.
fn asked(end: End) -> (JoinHandle<io::Result<()>>, oneshot::Receiver<Lane>) {
    let (open, opened) = oneshot::channel();
    (tokio::spawn(ask(end, BOB, move |lane| drop(open.send(lane)))), opened)
}

/// Both ends of an open lane.
async fn lane(inbox_len: usize) -> (Lane, mpsc::Receiver<NetEvent>, JoinHandle<io::Result<()>>) {
    let (a, b) = pipe();
    let (serving, events) = served(b, inbox_len);
    let (_, opened) = asked(a);
    (opened.await.unwrap(), events, serving)
}

async fn request(lane: &Lane, frame: Vec<u8>) -> Result<Response, RequestError> {
    lane.request(frame).await.unwrap_or_else(|NotSent(_)| panic!("the lane is open"))
}

async fn next_request(events: &mut mpsc::Receiver<NetEvent>) -> (Vec<u8>, crate::Responder) {
    match events.recv().await {
        Some(NetEvent::Request { peer: ALICE, frame, reply, .. }) => (frame, reply),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn replies_of_every_length_come_back_whole_and_to_their_requests() {
    let (lane, mut events, _serving) = lane(64).await;
    let lengths = [0, 1, 1_000, limits::LANE_FRAME_BYTES_MAX, limits::LANE_FRAME_BYTES_MAX + 1, 3_000_000];
    let answering = tokio::spawn(async move {
        for _ in lengths {
            let (frame, reply) = next_request(&mut events).await;
            let length = lengths[usize::from(frame[0])];
            reply.send(vec![frame[0]; length]);
        }
    });
    let replies = join_all((0..lengths.len()).map(|n| request(&lane, vec![n as u8; 10 * n + 1]))).await;
    for (n, reply) in replies.into_iter().enumerate() {
        assert!(reply == Ok(Response::Reply(vec![n as u8; lengths[n]])), "{} bytes", lengths[n]);
    }
    answering.await.unwrap();
}

#[tokio::test]
async fn a_short_reply_does_not_wait_behind_a_long_one() {
    let (lane, mut events, _serving) = lane(64).await;
    let done = Arc::new(Mutex::new(Vec::new()));
    let ask = |name: &'static str| {
        let (lane, done) = (lane.clone(), done.clone());
        tokio::spawn(async move {
            request(&lane, name.into()).await.unwrap();
            done.lock().unwrap().push(name);
        })
    };
    let long = ask("long");
    next_request(&mut events).await.1.send(vec![0; limits::FRAME_BYTES_MAX]);
    let short = ask("short");
    next_request(&mut events).await.1.send(vec![0]);
    short.await.unwrap();
    long.await.unwrap();
    assert_eq!(*done.lock().unwrap(), ["short", "long"]);
}

#[tokio::test]
async fn a_full_inbox_and_a_dropped_request_are_told_apart() {
    let (lane, mut events, _serving) = lane(1).await;
    let first = tokio::spawn({
        let lane = lane.clone();
        async move { request(&lane, vec![1]).await }
    });
    while events.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(request(&lane, vec![2]).await, Ok(Response::Busy));
    drop(next_request(&mut events).await);
    assert_eq!(first.await.unwrap(), Ok(Response::Unanswered));
}

#[tokio::test]
async fn a_notice_arrives_in_its_place_and_takes_none_while_it_is_handled() {
    let (lane, mut events, _serving) = lane(2 * limits::LANE_REQUESTS_MAX).await;
    for n in 0..2 * limits::LANE_REQUESTS_MAX {
        let place = loop {
            match lane.free_place() {
                Some(place) => break place,
                None => tokio::task::yield_now().await,
            }
        };
        place.tell(vec![n as u8]);
    }
    for n in 0..2 * limits::LANE_REQUESTS_MAX {
        let (frame, reply) = next_request(&mut events).await;
        assert_eq!(frame, [n as u8]);
        assert!(reply.is_closed(), "nobody waits for an answer");
    }
    let answering = tokio::spawn(async move { next_request(&mut events).await.1.send(vec![8]) });
    assert_eq!(request(&lane, vec![7]).await, Ok(Response::Reply(vec![8])));
    answering.await.unwrap();
}

#[tokio::test]
async fn requests_under_way_end_at_once_when_the_lane_breaks() {
    let (lane, mut events, serving) = lane(64).await;
    let asking = tokio::spawn({
        let lane = lane.clone();
        async move { join_all((0..10).map(|n| request(&lane, vec![n]))).await }
    });
    let _held = next_request(&mut events).await;
    serving.abort();
    let replies = asking.await.unwrap();
    assert!(replies.iter().all(|reply| *reply == Err(RequestError::Interrupted { peer: BOB })), "{replies:?}");
    while !matches!(lane.request(vec![7]).await, Err(NotSent(frame)) if frame == [7]) {}
}

/// Sends `frame` at once; what became of it comes out of the channel.
fn request_at_once(lane: &Lane, frame: Vec<u8>) -> oneshot::Receiver<Result<Response, RequestError>> {
    let (told, heard) = oneshot::channel();
    let place = lane.free_place().expect("a place is free");
    place.request(frame, Box::new(move |result| drop(told.send(result))));
    heard
}

#[tokio::test(start_paused = true)]
async fn who_asks_at_once_hears_what_became_of_it_whatever_that_is() {
    let (lane, mut events, serving) = lane(64).await;
    let answered = request_at_once(&lane, vec![1]);
    next_request(&mut events).await.1.send(vec![2]);
    assert_eq!(answered.await.unwrap(), Ok(Response::Reply(vec![2])));
    let late = request_at_once(&lane, vec![3]);
    let _held = next_request(&mut events).await;
    let timeout_ms = limits::PEER_REQUEST_TIMEOUT_MS;
    assert_eq!(late.await.unwrap(), Err(RequestError::TimedOut { peer: BOB, timeout_ms }));
    let broken = request_at_once(&lane, vec![4]);
    serving.abort();
    assert_eq!(broken.await.unwrap(), Err(RequestError::Interrupted { peer: BOB }));
    while lane.free_place().is_some() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_lane_has_so_many_places_and_no_more() {
    let (lane, mut events, _serving) = lane(2 * limits::LANE_REQUESTS_MAX).await;
    let heard: Vec<_> = (0..limits::LANE_REQUESTS_MAX).map(|_| request_at_once(&lane, vec![1])).collect();
    assert!(lane.free_place().is_none());
    for _ in 0..heard.len() {
        next_request(&mut events).await.1.send(vec![2]);
    }
    for heard in heard {
        assert_eq!(heard.await.unwrap(), Ok(Response::Reply(vec![2])));
    }
    assert!(lane.free_place().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_welcomes_a_lane_is_given_up() {
    let (a, _b) = pipe();
    let (asking, opened) = asked(a);
    assert_eq!(asking.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert!(opened.await.is_err(), "it never counted as open");
    let (serving, _events) = served(pipe().1, 1);
    assert!(serving.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stops_reading_loses_the_lane() {
    let (a, mut b) = pipe();
    let (asking, opened) = asked(a);
    let mut welcome = Vec::new();
    frame::append(&mut welcome, 0, Kind::Welcome, &[LANE_VERSION]);
    b.write_all(&welcome).await.unwrap();
    let lane = opened.await.unwrap();
    let replies = join_all((0..10).map(|_| request(&lane, vec![0; 10_000]))).await;
    // A write may take as long as a caller waits: either may be told first.
    let gave_up = |reply| matches!(reply, &Err(RequestError::Interrupted { .. } | RequestError::TimedOut { .. }));
    assert!(replies.iter().all(gave_up), "{replies:?}");
    assert_eq!(asking.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_answers_does_not_hold_the_places_of_a_lane() {
    let (lane, mut events, _serving) = lane(2_000).await;
    let held = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Some(event) = events.recv().await {
            held.push(event);
            if held.len() > limits::LANE_REQUESTS_MAX {
                break;
            }
        }
    });
    // The callers give up; the last one gets a place when the first are forgotten.
    let short = Duration::from_millis(10);
    join_all((0..limits::LANE_REQUESTS_MAX).map(|_| tokio::time::timeout(short, lane.request(vec![1])))).await;
    let last = tokio::spawn(async move { request(&lane, vec![2]).await });
    tokio::time::timeout(Duration::from_secs(60), held).await.expect("the last request arrives").unwrap();
    last.abort();
}

/// What the answering end makes of `bytes` after a proper opening.
async fn serve_bytes(bytes: &[u8]) -> (io::Result<()>, Vec<NetEvent>) {
    let (mut a, b) = pipe();
    let (serving, mut events) = served(b, 1_000);
    let mut hello = Vec::new();
    frame::append(&mut hello, 0, Kind::Hello, &[LANE_VERSION]);
    // It may close at any byte.
    let _ = a.write_all(&hello).await;
    let _ = a.write_all(bytes).await;
    let _ = a.close().await;
    let mut rest = Vec::new();
    let _ = a.read_to_end(&mut rest).await;
    let ended = serving.await.expect("no panic");
    (ended, std::iter::from_fn(|| events.try_recv().ok()).collect())
}

#[tokio::test]
async fn frames_that_no_asking_end_sends_close_the_lane() {
    for kind in [Kind::Hello, Kind::Welcome, Kind::Part, Kind::Reply, Kind::Busy, Kind::Unanswered] {
        let mut bytes = Vec::new();
        frame::append(&mut bytes, 1, kind, &[7]);
        let (ended, events) = serve_bytes(&bytes).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::InvalidData, "{kind:?}");
        assert!(events.is_empty());
    }
    let oversize = (limits::LANE_FRAME_BYTES_MAX as u32 + 1).to_be_bytes();
    let head = [&oversize[..], &[0; 8], &[Kind::Request as u8]].concat();
    assert_eq!(serve_bytes(&head).await.0.unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    assert_eq!(serve_bytes(&[0, 0]).await.0.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_reply_above_the_limit_in_parts_closes_the_lane() {
    let (a, mut b) = pipe();
    let (asking, opened) = asked(a);
    let mut bytes = Vec::new();
    frame::append(&mut bytes, 0, Kind::Welcome, &[LANE_VERSION]);
    b.write_all(&bytes).await.unwrap();
    let lane = opened.await.unwrap();
    let replied = tokio::spawn(async move { request(&lane, vec![1]).await });
    let mut sent = [0; 100];
    while b.read(&mut sent).await.unwrap() < 14 {}
    bytes.clear();
    frame::append(&mut bytes, 1, Kind::Part, &[0; limits::LANE_FRAME_BYTES_MAX]);
    for _ in 0..limits::FRAME_BYTES_MAX / limits::LANE_FRAME_BYTES_MAX {
        b.write_all(&bytes).await.unwrap();
    }
    let _ = b.write_all(&bytes).await;
    assert_eq!(asking.await.unwrap().unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert_eq!(replied.await.unwrap(), Err(RequestError::Interrupted { peer: BOB }));
}

proptest! {
    #[test]
    fn random_bytes_close_a_lane_and_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (_, events) = serve_bytes(&bytes).await;
            assert!(events.iter().all(|event| matches!(event, NetEvent::Request { .. })));
        });
    }
}
