//! Streams over connections that are cut. `MAGPIE_RECORDS=1000000` is the long form.

use std::time::{Duration, Instant};

use magpie_core::ids::PeerId;
use magpie_core::stream::{Ask, Inlet, Outlet, Piece, StreamEpoch, Taken, Window};
use magpie_core::{limits, wire};
use magpie_net::{NetHandle, RequestError};

use crate::node::*;

const WINDOW: Window = Window { len_max: limits::STREAM_PIECE_LEN_MAX, bytes_max: limits::STREAM_PIECE_BYTES_MAX };
/// What a line of a log takes.
const TEXT: &str = "2026-11-28T12:00:00.000Z  worker 7 has read page 12 of 512";
/// Records that the sender has beyond those that are acknowledged.
const AHEAD_MAX: u64 = 10_000;
/// Of so many questions one is cut off on its way, and one is asked twice at once.
const CUT_EVERY: u64 = 10;
const TWICE_EVERY: u64 = 7;

type Record = (u64, String);

fn records_wanted() -> u64 {
    std::env::var("MAGPIE_RECORDS").map_or(10_000, |text| text.parse().expect("MAGPIE_RECORDS is a number"))
}

/// Sends within a window beyond what is acknowledged, so that it loses nothing of its own.
async fn send_all(mut node: Node, records: u64) {
    let mut outlet = Outlet::new(StreamEpoch(1), usize::MAX);
    loop {
        while outlet.newest() < records && outlet.newest() - outlet.acknowledged() < AHEAD_MAX {
            outlet.push((outlet.newest() + 1, TEXT.to_owned()), TEXT.len() + limits::STREAM_RECORD_BYTES);
        }
        while outlet.bytes() > 0 && outlet.kept_from() <= outlet.acknowledged() {
            outlet.forget_oldest();
        }
        if outlet.newest() == records {
            outlet.end();
        }
        let (_, frame, reply) = node.request().await;
        let ask: Ask = wire::decode_frame(&frame).unwrap();
        let piece: Option<Piece<Record>> = outlet.read(&ask).unwrap();
        reply.send(wire::encode(&piece, limits::FRAME_BYTES_MAX).unwrap());
    }
}

/// None: nothing new, or no answer came through.
async fn ask(net: &NetHandle, to: PeerId, ask: Ask) -> Option<Piece<Record>> {
    let frame = wire::encode(&ask, limits::FRAME_BYTES_MAX).unwrap();
    loop {
        match net.request(to, frame.clone(), Duration::from_secs(2)).await {
            Ok(frame) => return wire::decode_frame(&frame).unwrap(),
            Err(RequestError::NotConnected { .. }) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                return None;
            }
        }
    }
}

/// What a reader took, checked as it came.
#[derive(Default)]
struct Seen {
    records: u64,
    ended: bool,
}

impl Seen {
    fn check(&mut self, taken: Taken<Record>) {
        assert_eq!((taken.gone, taken.left), (None, None), "a gap");
        for (number, _) in taken.records {
            self.records += 1;
            assert_eq!(number, self.records, "missed, doubled or out of its place");
        }
        self.ended |= taken.ended;
    }
}

/// Bacalhau 1172, of what is followed: 0 gaps, 0 duplicates.
#[tokio::test]
async fn no_record_is_lost_doubled_or_reordered_while_connections_are_cut() {
    let records = records_wanted();
    for transport in [TCP, QUIC] {
        let (reader, sender) = pair(transport).await;
        let (net, to) = (reader.net.clone(), sender.peer());
        let sending = tokio::spawn(send_all(sender, records));
        let (mut inlet, mut seen, begin) = (Inlet::new(None), Seen::default(), Instant::now());
        let (mut asked, mut cuts) = (0u64, 0u64);
        while !seen.ended {
            asked += 1;
            let question = inlet.ask(WINDOW);
            let pieces = if asked % CUT_EVERY == 0 {
                cuts += 1;
                let (piece, ()) = tokio::join!(ask(&net, to, question), net.reconnect(to));
                [piece, None]
            } else if asked % TWICE_EVERY == 0 {
                let (one, other) = tokio::join!(ask(&net, to, question), ask(&net, to, question));
                [one, other]
            } else {
                [ask(&net, to, question).await, None]
            };
            for piece in pieces.into_iter().flatten() {
                seen.check(inlet.take(piece).unwrap());
            }
            // One that comes back later goes on from what it wrote down.
            if asked % 50 == 0 {
                inlet = Inlet::new(inlet.checkpoint());
            }
        }
        assert_eq!(seen.records, records);
        assert!(cuts > 0);
        println!("{transport}: {records} records, {cuts} cuts, 0 gaps, 0 duplicates, {:.1?}", begin.elapsed());
        sending.abort();
    }
}
