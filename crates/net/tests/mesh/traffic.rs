//! Requests, replies, and what happens instead of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use magpie_core::limits;
use magpie_net::{NetEvent, RequestError};

use crate::node::*;

#[tokio::test]
async fn frames_of_every_length_come_back_whole() {
    for way in WAYS {
        let (a, b) = pair_by(way, 1_024).await;
        let (to, _echo) = (b.peer(), b.echo());
        for bytes in [0, 1, 100, 16 * 1024, 16 * 1024 + 1, 1_000_000, limits::FRAME_BYTES_MAX] {
            let frame: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
            // A busy machine drops so many datagrams that the longest may take longer than a request may, or than a
            // connection stays that answers no ping.
            let begun = Instant::now();
            let mut reply = a.net.request(to, frame.clone(), PATIENCE).await;
            while reply.as_ref().is_err_and(|error| error.is_retryable()) && begun.elapsed() < 5 * PATIENCE {
                until(|| a.net.peers().iter().any(|info| info.peer == to)).await;
                reply = a.net.request(to, frame.clone(), PATIENCE).await;
            }
            assert!(reply == Ok(frame), "{bytes} bytes over {way:?}");
        }
    }
}

#[tokio::test]
async fn a_frame_too_long_is_not_sent() {
    let (a, mut b) = pair(TCP).await;
    let bytes = limits::FRAME_BYTES_MAX + 1;
    let refused = a.net.request(b.peer(), vec![0; bytes], PATIENCE).await.unwrap_err();
    assert_eq!(refused, RequestError::TooLong { bytes });
    assert!(!refused.is_retryable());
    assert!(!b.drain().iter().any(|event| matches!(event, NetEvent::Request { .. })));
}

#[tokio::test]
async fn many_requests_at_once_all_succeed() {
    for way in WAYS {
        let (a, b) = pair_by(way, 1_024).await;
        let (to, _echo) = (b.peer(), b.echo());
        let ask = async |n: u32| {
            let frame = n.to_le_bytes().repeat(256);
            (a.net.request(to, frame.clone(), PATIENCE).await, Ok(frame))
        };
        for (reply, expected) in join_all((0..256).map(ask)).await {
            assert_eq!(reply, expected, "over {way:?}");
        }
    }
}

#[tokio::test]
async fn both_sides_may_ask_at_once_as_much_as_they_may() {
    for way in WAYS {
        let (a, b) = pair_by(way, 1_024).await;
        let (a_peer, b_peer) = (a.peer(), b.peer());
        let ((a, _), (b, _)) = (a.echo(), b.echo());
        let ask = async |n: usize| {
            let (net, to) = if n.is_multiple_of(2) { (&a, b_peer) } else { (&b, a_peer) };
            net.request(to, vec![n as u8; 1_024], PATIENCE).await
        };
        let replies = join_all((0..1_000).map(ask)).await;
        assert_eq!(replies.iter().filter(|reply| reply.is_err()).collect::<Vec<_>>(), Vec::<&Result<_, _>>::new());
    }
}

/// A renewal is sent when a third of a lease's time has passed.
const RENEWED_WITHIN: Duration = Duration::from_millis(limits::LEASE_TTL_MS / 2);

#[tokio::test]
async fn no_renewal_waits_for_the_bulk_that_goes_the_same_way() {
    const BULKS: usize = 3;
    const BULK_BYTES: usize = 2 * 1024 * 1024;
    for way in WAYS.into_iter().take(2) {
        let (a, b) = pair_by(way, 1_024).await;
        let (to, _echo) = (b.peer(), b.echo());
        let carried = Arc::new(AtomicUsize::new(0));
        let carrying: Vec<_> = (0..BULKS)
            .map(|_| {
                let (net, carried) = (a.net.clone(), carried.clone());
                tokio::spawn(async move {
                    loop {
                        net.request(to, vec![7; BULK_BYTES], PATIENCE).await.expect("the bulk is carried");
                        carried.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let (mut renewals, mut slowest) = (0, Duration::ZERO);
        while carried.load(Ordering::Relaxed) < 4 * BULKS && carrying.iter().all(|bulk| !bulk.is_finished()) {
            let asked = Instant::now();
            a.net.request(to, vec![1; 300], PATIENCE).await.expect("it is answered beside the bulk");
            slowest = slowest.max(asked.elapsed());
            renewals += 1;
        }
        carrying.iter().for_each(tokio::task::JoinHandle::abort);
        let carried = carried.load(Ordering::Relaxed);
        println!("{way:?}: {renewals} renewals beside {carried} bulks, the slowest {slowest:?}");
        assert!(carried >= 4 * BULKS, "{carried} bulks were carried over {way:?}");
        assert!(renewals > 2 * carried, "{renewals} renewals: they wait for the bulk over {way:?}");
        assert!(slowest < RENEWED_WITHIN, "{slowest:?} over {way:?}");
    }
}

#[tokio::test]
async fn a_marker_comes_after_the_requests_received_before_it() {
    for way in WAYS {
        let (a, mut b) = pair_by(way, 1_024).await;
        b.drain();
        let (net, to) = (a.net.clone(), b.peer());
        let asking: Vec<_> = (0..50)
            .map(|n| {
                let net = net.clone();
                tokio::spawn(async move { net.request(to, vec![n], PATIENCE).await })
            })
            .collect();
        until(|| b.waiting() == 50).await;
        b.net.place_marker(7).await.unwrap();
        let mut before = 0;
        loop {
            let event = b.event(Ok).await;
            match event {
                NetEvent::Request { frame, reply, .. } => {
                    before += 1;
                    reply.send(frame);
                }
                NetEvent::Marker(id) => break assert_eq!((id, before), (7, 50)),
                other => panic!("{other:?}"),
            }
        }
        assert!(join_all(asking).await.into_iter().all(|reply| reply.unwrap().is_ok()));
    }
}

#[tokio::test]
async fn markers_keep_their_order_and_none_is_lost() {
    let mut node = start_with_inbox(1, listening(TCP), 2).await;
    let net = node.net.clone();
    let placing = tokio::spawn(async move {
        for id in 0..3_000 {
            net.place_marker(id).await.unwrap();
        }
    });
    let marker = |event| if let NetEvent::Marker(id) = event { Ok(id) } else { Err(event) };
    for expected in 0..3_000 {
        assert_eq!(node.event(marker).await, expected);
    }
    placing.await.unwrap();
}

#[tokio::test]
async fn a_full_inbox_answers_busy_and_the_next_request_succeeds() {
    for way in WAYS {
        let (mut a, mut b) = pair_by(way, 2).await;
        let to = b.peer();
        let net = a.net.clone();
        let asking: Vec<_> = (0..3)
            .map(|n| {
                let net = net.clone();
                tokio::spawn(async move { net.request(to, vec![n], PATIENCE).await })
            })
            .collect();
        until(|| b.net.counters().requests_turned_away == 1).await;
        for _ in 0..2 {
            let (_, frame, reply) = b.request().await;
            reply.send(frame);
        }
        let replies: Vec<_> = join_all(asking).await.into_iter().map(Result::unwrap).collect();
        let busy = Err(RequestError::Busy { peer: to });
        assert_eq!(replies.iter().filter(|reply| **reply == busy).count(), 1, "{replies:?}");
        assert_eq!(replies.iter().filter(|reply| reply.is_ok()).count(), 2, "{replies:?}");
        talk(&mut a, &mut b).await;
    }
}

#[tokio::test]
async fn a_request_that_is_dropped_is_told_to_be_unanswered() {
    for way in WAYS {
        let (a, mut b) = pair_by(way, 1_024).await;
        let (net, to) = (a.net.clone(), b.peer());
        let asking = tokio::spawn(async move { net.request(to, vec![1], PATIENCE).await });
        drop(b.request().await);
        assert_eq!(asking.await.unwrap(), Err(RequestError::Unanswered { peer: to }));
    }
}

#[tokio::test]
async fn a_reply_too_long_is_told_to_be_none() {
    for way in WAYS {
        let (a, mut b) = pair_by(way, 1_024).await;
        let (net, to) = (a.net.clone(), b.peer());
        let asking = tokio::spawn(async move { net.request(to, vec![1], PATIENCE).await });
        b.request().await.2.send(vec![0; limits::FRAME_BYTES_MAX + 1]);
        assert_eq!(asking.await.unwrap(), Err(RequestError::Unanswered { peer: to }));
    }
}

#[tokio::test]
async fn a_request_times_out_and_later_ones_succeed() {
    for way in WAYS {
        let (mut a, mut b) = pair_by(way, 1_024).await;
        let to = b.peer();
        let ask = || a.net.request(to, vec![1], Duration::from_millis(50));
        let slow = join_all((0..8).map(|_| ask())).await;
        assert!(
            slow.iter().all(|reply| *reply == Err(RequestError::TimedOut { peer: to, timeout_ms: 50 })),
            "{slow:?}"
        );
        until(|| b.waiting() == 8).await;
        b.drain();
        talk(&mut a, &mut b).await;
    }
}

#[tokio::test]
async fn requests_under_way_end_when_the_peer_goes() {
    for way in WAYS {
        let (a, mut b) = pair_by(way, 1_024).await;
        let (net, to) = (a.net.clone(), b.peer());
        let asking = tokio::spawn(async move { net.request(to, vec![1], PATIENCE).await });
        let held = b.request().await;
        b.net.shutdown().await;
        drop(held);
        let error = asking.await.unwrap().unwrap_err();
        assert!(matches!(error, RequestError::Interrupted { .. } | RequestError::Unanswered { .. }), "{error:?}");
        assert!(error.is_retryable());
    }
}

#[tokio::test]
async fn a_stopped_network_says_so() {
    let (a, b) = pair(TCP).await;
    a.net.shutdown().await;
    assert_eq!(a.net.request(b.peer(), vec![1], PATIENCE).await, Err(RequestError::Stopped));
    assert_eq!((a.net.peers(), a.net.listen_addresses()), (vec![], vec![]));
    assert_eq!(a.net.place_marker(1).await, Err(RequestError::Stopped));
}
