//! What a person does about peers: parting with them, denying and allowing them, and seeing what came of a dial.

use magpie_net::{Contact, NetConfig, PeerRule};

use crate::node::*;

/// What `node` says of the address that begins with `address`.
async fn contact(node: &Node, address: &str) -> Contact {
    let contacts = node.net.contacts().await.unwrap();
    let mut there = contacts.into_iter().filter(|contact| contact.addresses.iter().any(|(at, _)| at == address));
    there.next().expect("the address is known")
}

/// Waits until `node` says `words` of the address.
async fn trouble(node: &Node, address: &str, words: &str) {
    let waiting = async {
        while !contact(node, address).await.trouble.is_some_and(|told| told.contains(words)) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{words:?} is never said of {address}"));
}

#[tokio::test]
async fn a_disconnected_peer_stays_away_until_it_is_dialled_by_hand() {
    let (mut a, mut b) = pair(TCP).await;
    a.net.disconnect(b.peer()).await;
    a.lost(b.peer()).await;
    b.lost(a.peer()).await;
    // It comes back by itself, and is not let in.
    until(|| a.net.counters().peers_refused >= 2).await;
    assert_eq!(a.net.peers(), []);
    a.net.dial(&b.address()).await.unwrap();
    a.admitted(b.peer()).await;
    b.admitted(a.peer()).await;
    talk(&mut a, &mut b).await;
}

#[tokio::test]
async fn looking_for_peers_asks_for_those_that_were_disconnected_too() {
    let (mut a, mut b) = pair(TCP).await;
    a.net.disconnect(b.peer()).await;
    a.lost(b.peer()).await;
    a.net.discover().await;
    a.admitted(b.peer()).await;
    b.lost(a.peer()).await;
    b.admitted(a.peer()).await;
}

#[tokio::test]
async fn a_denied_peer_is_not_admitted_by_the_key_and_an_allowed_one_without_it() {
    let closed = NetConfig { admission: with_key(), ..listening(TCP) };
    let rules = closed.admission.rules.clone();
    let mut a = start(1, closed).await;
    let mut b = start(2, dialling(&[a.address()])).await;
    a.admitted(b.peer()).await;
    rules.set(b.peer(), PeerRule::Deny).unwrap();
    a.net.disconnect(b.peer()).await;
    b.lost(a.peer()).await;
    trouble(&b, &a.bare_address(), "did not admit this node").await;
    until(|| a.net.counters().peers_refused >= 1).await;
    rules.set(b.peer(), PeerRule::Allow).unwrap();
    b.admitted(a.peer()).await;

    let listed = NetConfig { admission: with_list(&[a.peer()]), ..dialling(&[a.address()]) };
    let mut c = start(3, listed).await;
    trouble(&c, &a.bare_address(), "did not admit this node").await;
    rules.set(c.peer(), PeerRule::Allow).unwrap();
    c.net.discover().await;
    c.admitted(a.peer()).await;
}

#[tokio::test]
async fn what_came_of_a_dial_is_told_in_the_words_of_the_system() {
    let b = start(2, listening(TCP)).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = format!("/ip4/127.0.0.1/tcp/{free}");
    let another = format!("{}/p2p/{}", b.bare_address(), peer(9));
    let a = start(1, dialling(&[nobody.clone(), another])).await;
    trouble(&a, &nobody, "Connection refused").await;
    trouble(&a, &b.bare_address(), &format!("another node answers at {}", b.bare_address())).await;
    a.net.dial(&a.bare_address()).await.unwrap();
    trouble(&a, &a.bare_address(), "this node itself").await;
    // The dial of another node ended before the connection was made, or after.
    let mut c = start(3, dialling(&[b.address()])).await;
    c.admitted(b.peer()).await;
    let counters = b.net.counters();
    assert!(counters.connections_taken >= 1 && counters.connections_from_afar == 0, "{counters:?}");
}
