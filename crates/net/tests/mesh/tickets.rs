//! Tickets, guests, and rules that change while a node runs.

use std::time::Duration;

use magpie_core::access::Role;
use magpie_net::{Admission, NetConfig, NetEvent, RequestError};

use crate::node::*;

const HOUR_MS: u64 = 3_600_000;

fn member(seed: u8, bootstrap: &[String]) -> NetConfig {
    NetConfig { admission: with_ticket(seed, Role::Peer, HOUR_MS), ..dialling(bootstrap) }
}

/// Asks the node at `bootstrap`, and is no node itself.
fn guest(admission: Admission, bootstrap: String) -> NetConfig {
    NetConfig { bootstrap: vec![bootstrap], admission, without_lanes: true, ..NetConfig::default() }
}

#[tokio::test]
async fn nodes_with_tickets_and_the_public_half_alone_are_members() {
    let mut holder = start(1, listening(TCP)).await;
    let mut second = start(2, member(2, &[holder.address()])).await;
    let mut third = start(3, member(3, &[holder.address(), second.address()])).await;
    let peers = [holder.peer(), second.peer(), third.peer()];
    for (n, node) in [&mut holder, &mut second, &mut third].into_iter().enumerate() {
        for other in (0..3).filter(|other| *other != n) {
            node.admitted(peers[other]).await;
        }
    }
    talk(&mut holder, &mut second).await;
    talk(&mut second, &mut third).await;
}

#[tokio::test]
async fn a_guest_asks_in_its_role_and_is_no_member() {
    for role in [Role::Agent, Role::Operator] {
        let mut node = start(1, NetConfig { members: true, kademlia: true, ..listening(TCP) }).await;
        let mut asker = start(2, guest(with_ticket(2, role, HOUR_MS), node.address())).await;
        asker.admitted(node.peer()).await;
        let (net, to) = (asker.net.clone(), node.peer());
        let asking = tokio::spawn(async move { net.request(to, b"question".to_vec(), PATIENCE).await });
        let asked = node.event(|event| match event {
            NetEvent::Request { peer, role, reply, .. } => Ok((peer, role, reply)),
            other => Err(other),
        });
        let (from, presented, reply) = asked.await;
        assert_eq!((from, presented), (asker.peer(), role));
        reply.send(b"answer".to_vec());
        assert_eq!(asking.await.unwrap(), Ok(b"answer".to_vec()));

        assert_eq!(node.net.peers(), [], "nobody tells of a guest");
        assert_eq!(node.net.counters().peers_admitted, 0);
        let asked = node.net.request(asker.peer(), b"question".to_vec(), PATIENCE).await;
        assert_eq!(asked, Err(RequestError::NotConnected { peer: asker.peer() }), "nobody asks a guest");
        assert!(node.drain().iter().all(|event| matches!(event, NetEvent::Listening { .. })));
        asker.net.shutdown().await;
    }
}

#[tokio::test]
async fn a_node_that_dials_a_guest_sends_it_away() {
    let agent = start(2, NetConfig { admission: with_ticket(2, Role::Agent, HOUR_MS), ..listening(TCP) }).await;
    let node = start(1, dialling(&[agent.address()])).await;
    until(|| node.net.counters().peers_refused > 0).await;
    assert_eq!(node.net.counters().peers_admitted, 0);
}

#[tokio::test]
async fn a_ticket_that_expires_ends_the_connection() {
    let mut node = start(1, listening(TCP)).await;
    let expiring = NetConfig { admission: with_ticket(2, Role::Peer, 3_000), ..dialling(&[node.address()]) };
    let mut short = start(2, expiring).await;
    node.admitted(short.peer()).await;
    short.admitted(node.peer()).await;
    talk(&mut node, &mut short).await;
    node.lost(short.peer()).await;
    until(|| node.net.counters().peers_refused > 0).await;
    assert_eq!(node.net.counters().peers_admitted, 1, "it came back as a stranger");
}

#[tokio::test]
async fn a_key_that_comes_later_admits_later() {
    let mut node = start(1, NetConfig { admission: Admission::default(), ..listening(TCP) }).await;
    let mut holder = start(2, dialling(&[node.address()])).await;
    until(|| node.net.counters().peers_refused > 0).await;
    node.net.admit_by(with_key()).await;
    node.admitted(holder.peer()).await;
    holder.admitted(node.peer()).await;
    node.net.admit_by(with_other_key()).await;
    node.lost(holder.peer()).await;
    assert!(node.net.peers().is_empty());
    tokio::time::timeout(Duration::from_secs(60), holder.lost(node.peer())).await.expect("it hears that");
}
