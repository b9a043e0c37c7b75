//! Strangers get nothing.

use std::time::{Duration, Instant};

use magpie_net::{Admission, NetConfig, NetEvent, RequestError};

use crate::node::*;
use crate::raw::{Raw, RawEvent, confirm, hello, lane_hello};

async fn nobody_is_admitted(dialler: Admission, dialled: Admission) {
    let mut a = start(1, NetConfig { admission: dialled, ..listening(TCP) }).await;
    let mut b = start(2, NetConfig { admission: dialler, ..dialling(&[a.address()]) }).await;
    until(|| a.net.counters().peers_refused + b.net.counters().peers_refused >= 2).await;
    for (asker, other) in [(&a, b.peer()), (&b, a.peer())] {
        let refused = asker.net.request(other, b"question".to_vec(), PATIENCE).await;
        assert_eq!(refused, Err(RequestError::NotConnected { peer: other }));
        assert_eq!((asker.net.peers(), asker.net.counters().peers_admitted), (vec![], 0));
    }
    for event in a.drain().into_iter().chain(b.drain()) {
        assert!(matches!(event, NetEvent::Listening { .. } | NetEvent::Discovered { .. }), "{event:?}");
    }
}

#[tokio::test]
async fn the_wrong_key_admits_nobody() {
    nobody_is_admitted(with_other_key(), with_key()).await;
}

#[tokio::test]
async fn a_node_without_key_and_list_admits_nobody() {
    nobody_is_admitted(with_key(), Admission::default()).await;
}

#[tokio::test]
async fn a_peer_without_key_is_not_admitted() {
    nobody_is_admitted(Admission::default(), with_key()).await;
}

#[tokio::test]
async fn being_listed_by_one_side_only_admits_nobody() {
    nobody_is_admitted(with_list(&[peer(1)]), with_list(&[])).await;
    nobody_is_admitted(with_list(&[]), with_list(&[peer(2)])).await;
}

#[tokio::test]
async fn a_request_of_a_stranger_finds_no_protocol() {
    let all =
        NetConfig { members: true, rendezvous_point: true, kademlia: true, relay_for_members: true, ..listening(TCP) };
    let mut node = start(1, all).await;
    let mut raw = Raw::connected_to(&node.address(), 41).await;
    let refusal = raw.ask_mailbox(b"\0\0\0\x05hello".to_vec()).await.unwrap_err();
    assert!(refusal.contains("supports none of the requested protocols"), "{refusal}");
    let refusal = raw.ask_lane(lane_hello()).await.unwrap_err();
    assert!(refusal.contains("supports none of the requested protocols"), "{refusal}");
    // It may be negotiated as any of the ways of members.
    let refusal = raw.ask_for_members().await.unwrap_err();
    assert!(refusal.contains("supports none of the requested protocols"), "{refusal}");
    let unheard = |event: &NetEvent| matches!(event, NetEvent::Listening { .. });
    assert!(node.drain().iter().all(unheard));
}

#[tokio::test]
async fn a_stranger_that_says_nothing_hears_nothing_and_is_sent_away() {
    let node = start(1, listening(TCP)).await;
    let mut raw = Raw::connected_to(&node.address(), 42).await;
    let begun = Instant::now();
    loop {
        match raw.next().await {
            RawEvent::Closed => break,
            RawEvent::Heard(protocol, _) => panic!("the node spoke to a stranger over {protocol}"),
            _ => {}
        }
    }
    let after = begun.elapsed();
    assert!((Duration::from_secs(4)..Duration::from_secs(20)).contains(&after), "sent away after {after:?}");
}

#[tokio::test]
async fn a_stranger_with_a_wrong_proof_is_sent_away_unanswered() {
    let node = start(1, listening(TCP)).await;
    for proof in [vec![], vec![0; 32], vec![7; 31], vec![7; 1_500]] {
        let mut raw = Raw::connected_to(&node.address(), 43).await;
        assert!(raw.ask_admission(hello(1, &proof)).await.is_err());
    }
}

#[tokio::test]
async fn a_proof_recorded_by_one_peer_is_of_no_use_to_another() {
    let mut thief = Raw::new(44);
    // A holder of the key dials the thief, and so shows it a proof.
    let _holder = start(2, dialling(&[thief.listen().await])).await;
    let recorded = thief.heard("admission").await;
    let node = start(1, listening(TCP)).await;
    thief.connect(&node.address()).await;
    assert!(thief.ask_admission(recorded).await.is_err());
}

#[tokio::test]
async fn a_peer_of_a_distant_version_is_not_admitted_and_a_neighbour_is() {
    let listed = NetConfig { admission: with_list(&[Raw::peer_of(45)]), ..listening(TCP) };
    let node = start(1, listed).await;
    let mut raw = Raw::connected_to(&node.address(), 45).await;
    assert!(raw.ask_admission(hello(3, &[])).await.is_err());
    let mut raw = Raw::connected_to(&node.address(), 45).await;
    assert!(raw.ask_admission(hello(2, &[])).await.is_ok());
}

/// As a member does that looks whether an address of this node answers.
#[tokio::test]
async fn who_comes_and_leaves_without_a_word_is_no_refused_peer() {
    let a = start(1, listening(TCP)).await;
    for (came, seed) in (1..=10).zip(50..) {
        let looking = Raw::connected_to(&a.address(), seed).await;
        until(|| a.net.counters().connections_taken >= came).await;
        drop(looking);
    }
    let mut stranger = Raw::connected_to(&a.address(), 47).await;
    assert!(stranger.ask_admission(hello(1, b"no proof")).await.is_err());
    until(|| a.net.counters().peers_refused > 0).await;
    assert_eq!(a.net.counters().peers_refused, 1);
}

/// Both have dialled: the greeting of one is lost, and the other presents itself on its own connection.
#[tokio::test]
async fn a_greeting_that_is_lost_with_one_of_two_connections_does_not_cost_the_other() {
    const SEED: u8 = 48;
    let mut raw = Raw::new(SEED);
    raw.hold();
    let address = raw.listen().await;
    let admission = Admission { allow: [Raw::peer_of(SEED)].into(), ..with_key() };
    let mut a = start(1, NetConfig { admission, ..dialling(&[address]) }).await;
    raw.heard("admission").await;
    raw.connect(&a.address()).await;
    raw.let_go();
    raw.ask_admission(hello(1, &[])).await.expect("welcome");
    raw.ask_admission(confirm()).await.expect("confirmed");
    a.admitted(Raw::peer_of(SEED)).await;
}
