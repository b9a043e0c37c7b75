//! Random, oversize and truncated bytes leave a node answering honest peers.

use magpie_core::limits;
use magpie_net::{Admission, NetConfig, Offence};
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::node::*;
use crate::raw::{Raw, RawEvent, lane_hello};

const RAW_SEED: u8 = 46;

/// Prints the seed, which a failing run is repeated with.
pub fn random() -> TestRng {
    let seed = std::process::id().to_le_bytes().repeat(8);
    println!("seed {seed:?}");
    TestRng::from_seed(RngAlgorithm::ChaCha, &seed)
}

pub fn bytes(random: &mut TestRng, length_max: usize) -> Vec<u8> {
    let mut bytes = vec![0; random.next_u32() as usize % (length_max + 1)];
    random.fill_bytes(&mut bytes);
    bytes
}

/// A node with an honest peer; the node also lists the raw one.
async fn besieged() -> (Node, Node) {
    let admission = Admission { allow: [Raw::peer_of(RAW_SEED)].into(), ..with_key() };
    let mut node = start(1, NetConfig { admission, ..listening(TCP) }).await;
    let mut honest = start(2, dialling(&[node.address()])).await;
    node.admitted(honest.peer()).await;
    honest.admitted(node.peer()).await;
    (node, honest)
}

#[tokio::test]
async fn random_bytes_on_the_port_do_no_harm() {
    let (mut node, mut honest) = besieged().await;
    let mut random = random();
    let socket = node.bare_address().replace("/ip4/", "").replace("/tcp/", ":");
    for round in 0..250 {
        let mut stream = TcpStream::connect(&socket).await.unwrap();
        for _ in 0..10 {
            // The node may close at any of them.
            let _ = stream.write_all(&bytes(&mut random, 300)).await;
        }
        if round % 10 == 0 {
            let _ = timeout(PATIENCE, stream.shutdown()).await.unwrap();
            let _ = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.expect("the node closes");
        }
    }
    talk(&mut node, &mut honest).await;
}

/// A hundred members, one after the other.
#[tokio::test]
async fn random_payloads_of_members_end_in_bans_and_do_no_harm() {
    let seeds = 100..200u8;
    let admission = Admission { allow: seeds.clone().map(Raw::peer_of).collect(), ..with_key() };
    let mut node = start(1, NetConfig { admission, ..listening(TCP) }).await;
    let mut honest = start(2, dialling(&[node.address()])).await;
    node.admitted(honest.peer()).await;
    honest.admitted(node.peer()).await;
    let address = node.address();
    let (node_peer, honest_peer) = (node.peer(), honest.peer());
    let ((node, _), (honest, _)) = (node.echo(), honest.echo());
    let mut random = random();
    for seed in seeds.clone() {
        let mut raw = Raw::admitted_by(&address, seed).await;
        let (mut sent, mut under_way) = (0, 0);
        loop {
            while under_way < 32 {
                let payload = bytes(&mut random, 64);
                match sent % 3 {
                    0 => raw.send_mailbox(payload),
                    1 => raw.send_lane(payload),
                    _ => raw.send_lane([lane_hello(), payload].concat()),
                };
                (sent, under_way) = (sent + 1, under_way + 1);
            }
            match raw.next().await {
                RawEvent::Answered(..) => under_way -= 1,
                RawEvent::Closed => break,
                RawEvent::Connected | RawEvent::Heard(..) | RawEvent::Other => {}
            }
        }
    }
    assert_eq!(node.counters().peers_banned, 100);
    for (asker, to) in [(&node, honest_peer), (&honest, node_peer)] {
        assert_eq!(asker.request(to, vec![1], PATIENCE).await, Ok(vec![1]));
    }
}

#[tokio::test]
async fn a_member_that_sends_nonsense_is_kept_out_for_a_while_and_no_other() {
    let (mut node, mut honest) = besieged().await;
    let mut raw = Raw::admitted_by(&node.address(), RAW_SEED).await;
    for _ in 0..10 {
        // The last ones may find the connection closed.
        let _ = raw.ask_members(vec![0, 0, 0, 1, 0xc1]).await;
    }
    node.lost(Raw::peer_of(RAW_SEED)).await;
    let bans = node.net.bans();
    assert_eq!(
        bans.iter().map(|banned| (banned.peer, banned.times)).collect::<Vec<_>>(),
        [(Raw::peer_of(RAW_SEED), 1)]
    );
    assert!(bans[0].for_ms <= limits::BAN_FIRST_MS && bans[0].offence == Offence::Malformed, "{bans:?}");
    assert_eq!(node.net.counters().peers_banned, 1);
    assert!(Raw::try_admitted_by(&node.address(), RAW_SEED, false).await.is_none(), "it is not let in again");
    talk(&mut node, &mut honest).await;
    // When the ban is over it may come again.
    let until_over = async {
        while Raw::try_admitted_by(&node.address(), RAW_SEED, false).await.is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, until_over).await.expect("the ban ends");
}

#[tokio::test]
async fn random_greetings_of_strangers_do_no_harm() {
    let (mut node, mut honest) = besieged().await;
    let mut random = random();
    for _ in 0..50 {
        let mut raw = Raw::connected_to(&node.address(), 47).await;
        assert!(raw.ask_admission(bytes(&mut random, 8_000)).await.is_err());
    }
    talk(&mut node, &mut honest).await;
}

#[tokio::test]
async fn oversize_and_truncated_frames_of_a_member_are_refused() {
    let (mut node, mut honest) = besieged().await;
    let mut raw = Raw::admitted_by(&node.address(), RAW_SEED).await;
    let lengths = [u32::MAX, limits::FRAME_BYTES_MAX as u32 + 1, limits::FRAME_BYTES_MAX as u32, 100];
    for length in lengths {
        let cut_short = [&length.to_be_bytes()[..], &[7; 50]].concat();
        let refusal = raw.ask_mailbox(cut_short).await;
        assert!(refusal.is_err(), "{length} announced, 50 sent: {refusal:?}");
    }
    assert!(raw.ask_mailbox(vec![0, 0]).await.is_err(), "a head cut short");
    assert!(node.drain().iter().all(|event| !matches!(event, magpie_net::NetEvent::Request { .. })));
    talk(&mut node, &mut honest).await;
}

#[tokio::test]
async fn a_lane_that_is_not_welcomed_is_tried_again_and_requests_go_without() {
    let (node, _honest) = besieged().await;
    let mut raw = Raw::admitted_by(&node.address(), RAW_SEED).await;
    for _ in 0..2 {
        assert_eq!(raw.heard("lane").await, lane_hello());
    }
    let to = Raw::peer_of(RAW_SEED);
    let asking = tokio::spawn(async move { node.net.request(to, b"question".to_vec(), PATIENCE).await });
    assert_eq!(raw.heard("mailbox").await, b"\0\0\0\x08question");
    asking.abort();
}

#[tokio::test]
async fn more_substreams_than_allowed_slow_nobody_else() {
    let (mut node, mut honest) = besieged().await;
    let mut raw = Raw::admitted_by(&node.address(), RAW_SEED).await;
    // Each announces more than it sends, and so stays open.
    for _ in 0..400 {
        raw.send_mailbox([&1_000u32.to_be_bytes()[..], &[7; 10]].concat());
    }
    let draining = tokio::spawn(async move {
        loop {
            if let RawEvent::Closed = raw.next().await {
                break;
            }
        }
    });
    for _ in 0..20 {
        talk(&mut node, &mut honest).await;
    }
    draining.abort();
}
