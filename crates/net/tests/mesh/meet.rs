//! Nodes find and admit each other, and find each other again.

use magpie_net::{NetConfig, NetEvent, Source};
use tokio::time::timeout;

use crate::node::*;

#[tokio::test]
async fn two_nodes_with_one_key_meet_over_tcp() {
    let (mut a, mut b) = pair(TCP).await;
    talk(&mut a, &mut b).await;
    assert_eq!(a.net.peers().iter().map(|info| info.peer).collect::<Vec<_>>(), [b.peer()]);
}

#[tokio::test]
async fn two_nodes_with_one_key_meet_over_quic() {
    let (mut a, mut b) = pair(QUIC).await;
    talk(&mut a, &mut b).await;
}

#[tokio::test]
async fn an_address_without_a_peer_id_suffices() {
    let mut a = start(1, listening(TCP)).await;
    let mut b = start(2, dialling(&[a.bare_address()])).await;
    a.admitted(b.peer()).await;
    b.admitted(a.peer()).await;
    talk(&mut a, &mut b).await;
}

#[tokio::test]
async fn a_peer_file_written_later_leads_to_its_peers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("peers");
    let mut a = start(1, listening(TCP)).await;
    let mut b = start(2, NetConfig { peer_file: Some(path.clone()), ..listening(TCP) }).await;
    std::fs::write(&path, format!("# the first node\n{}\n", a.address())).unwrap();
    let discovered = b.event(|event| match event {
        NetEvent::Discovered { address, source } => Ok((address, source)),
        other => Err(other),
    });
    assert_eq!(discovered.await, (a.address(), Source::PeerFile));
    a.admitted(b.peer()).await;
    b.admitted(a.peer()).await;
    talk(&mut a, &mut b).await;
}

#[tokio::test]
async fn nodes_on_each_others_allow_list_need_no_key() {
    let mut a = start(1, NetConfig { admission: with_list(&[peer(2)]), ..listening(TCP) }).await;
    let mut b = start(2, NetConfig { admission: with_list(&[peer(1)]), ..dialling(&[a.address()]) }).await;
    a.admitted(b.peer()).await;
    b.admitted(a.peer()).await;
    talk(&mut a, &mut b).await;
}

#[tokio::test]
async fn a_listed_peer_and_a_holder_of_the_key_admit_each_other() {
    let mut a = start(1, NetConfig { admission: with_list(&[peer(2)]), ..listening(TCP) }).await;
    let b_admits = magpie_net::Admission { allow: [peer(1)].into(), ..with_key() };
    let mut b = start(2, NetConfig { admission: b_admits, ..dialling(&[a.address()]) }).await;
    a.admitted(b.peer()).await;
    b.admitted(a.peer()).await;
    talk(&mut a, &mut b).await;
}

#[tokio::test]
async fn nodes_that_dial_each_other_at_once_keep_working() {
    let mut a = start(1, listening(TCP)).await;
    let mut b = start(2, listening(TCP)).await;
    let (to_a, to_b) = (a.address(), b.address());
    let (dialled_a, dialled_b) = tokio::join!(b.net.dial(&to_a), a.net.dial(&to_b));
    dialled_a.and(dialled_b).unwrap();
    a.admitted(b.peer()).await;
    b.admitted(a.peer()).await;
    for _ in 0..20 {
        talk(&mut a, &mut b).await;
    }
    let flaps =
        a.drain().into_iter().chain(b.drain()).filter(|event| matches!(event, NetEvent::PeerLost { .. })).count();
    assert_eq!(flaps, 0);
}

async fn a_restarted_peer_is_met_again(transport: &str) {
    let (a, mut b) = pair(transport).await;
    let (address, b_peer) = (a.bare_address(), b.peer());
    a.net.shutdown().await;
    b.lost(a.peer()).await;
    let mut a = start(1, listening(&address)).await;
    a.admitted(b_peer).await;
    b.admitted(a.peer()).await;
    talk(&mut a, &mut b).await;
}

#[tokio::test]
async fn a_peer_restarted_on_its_port_is_met_again_over_tcp() {
    a_restarted_peer_is_met_again(TCP).await;
}

#[tokio::test]
async fn a_peer_restarted_on_its_port_is_met_again_over_quic() {
    a_restarted_peer_is_met_again(QUIC).await;
}

#[tokio::test]
async fn a_restarted_node_finds_its_peers_in_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache");
    let mut a = start(1, listening(TCP)).await;
    let mut b = start(2, NetConfig { peer_cache: Some(path.clone()), ..dialling(&[a.address()]) }).await;
    b.admitted(a.peer()).await;
    a.admitted(b.peer()).await;
    b.net.shutdown().await;
    a.lost(b.peer()).await;
    assert!(std::fs::read_to_string(&path).unwrap().contains(&a.address()));

    let mut b = start(2, NetConfig { peer_cache: Some(path), ..listening(TCP) }).await;
    b.admitted(a.peer()).await;
    a.admitted(b.peer()).await;
    talk(&mut a, &mut b).await;
}

/// The first listens on a port of its own in each life and is told of nobody; the second was told of the first's port in
/// its first life.
#[tokio::test]
async fn a_node_that_was_only_dialled_finds_its_dialler_again_from_another_port() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache");
    let dialled = || NetConfig { peer_cache: Some(path.clone()), ..listening(TCP) };
    let mut a = start(1, dialled()).await;
    let mut b = start(2, dialling(&[a.address()])).await;
    for _ in 0..2 {
        a.admitted(b.peer()).await;
        b.admitted(a.peer()).await;
        // Where it listens it says a moment after it was admitted.
        until(|| a.net.peers().iter().any(|info| info.addresses.contains(&b.bare_address()))).await;
        let before = a.bare_address();
        a.net.shutdown().await;
        b.lost(a.peer()).await;
        assert!(std::fs::read_to_string(&path).unwrap().contains(&b.address()));
        // Another may have its port by then.
        let taken = std::net::TcpListener::bind(before.replace("/ip4/", "").replace("/tcp/", ":")).unwrap();
        a = start(1, dialled()).await;
        assert_ne!(a.bare_address(), before);
        drop(taken);
    }
    a.admitted(b.peer()).await;
    b.admitted(a.peer()).await;
    talk(&mut a, &mut b).await;
}

#[tokio::test]
async fn a_node_that_ends_before_its_peers_are_back_still_knows_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache");
    let cached = || NetConfig { peer_cache: Some(path.clone()), ..listening(TCP) };
    let (mut a, mut b) = (start(1, listening(TCP)).await, start(2, cached()).await);
    let mut c = start(3, listening(TCP)).await;
    b.net.dial(&a.address()).await.unwrap();
    b.net.dial(&c.address()).await.unwrap();
    b.admitted(a.peer()).await;
    b.admitted(c.peer()).await;
    let address = a.bare_address();
    a.net.shutdown().await;
    b.lost(a.peer()).await;
    for _ in 0..2 {
        b.net.shutdown().await;
        b = start(2, cached()).await;
        b.admitted(c.peer()).await;
    }
    a = start(1, listening(&address)).await;
    b.admitted(a.peer()).await;
    a.admitted(b.peer()).await;
    talk(&mut a, &mut b).await;
    c.admitted(b.peer()).await;
}

#[tokio::test]
async fn a_peer_whose_connections_are_made_anew_is_met_again() {
    let (mut a, mut b) = pair(TCP).await;
    a.net.reconnect(b.peer()).await;
    a.lost(b.peer()).await;
    b.lost(a.peer()).await;
    a.admitted(b.peer()).await;
    b.admitted(a.peer()).await;
    talk(&mut a, &mut b).await;
}

#[tokio::test]
async fn of_two_connections_one_is_left_and_the_side_that_closes_loses_nothing() {
    let (mut a, mut b) = two_by_id().await;
    let (to_a, to_b) = (a.address(), b.address());
    let (dialled_a, dialled_b) = tokio::join!(b.net.dial(&to_a), a.net.dial(&to_b));
    dialled_a.and(dialled_b).unwrap();
    a.admitted(b.peer()).await;
    b.admitted(a.peer()).await;
    until(|| [&a, &b].iter().all(|node| node.net.counters().connections_taken == 1)).await;
    let connections = |node: &Node| node.net.peers().iter().map(|info| info.connections).collect::<Vec<_>>();
    let one_is_left = async {
        while [connections(&a), connections(&b)] != [[1], [1]] {
            talk(&mut a, &mut b).await;
            // Too long for a lane.
            ask_with(&a, &mut b, vec![7; 100_000]).await;
        }
    };
    timeout(PATIENCE, one_is_left).await.expect("the other is closed");
    until(|| [&a, &b].iter().all(|node| node.net.peers()[0].has_lane)).await;
    talk(&mut a, &mut b).await;
    assert!(!a.drain().into_iter().chain(b.drain()).any(|event| matches!(event, NetEvent::PeerLost { .. })));
}

/// The lesser first.
async fn two_by_id() -> (Node, Node) {
    let (one, other) = (start(1, listening(TCP)).await, start(2, listening(TCP)).await);
    if one.peer() < other.peer() { (one, other) } else { (other, one) }
}
