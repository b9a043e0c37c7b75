//! Members that nobody can dial, reached by way of one that everybody can. What takes a NAT is in tests/process.

use std::time::Instant;

use magpie_net::NetConfig;

use crate::node::*;

/// A node that listens nowhere but at the relay.
fn behind(relay: &str) -> NetConfig {
    let relay_via = vec![relay.to_owned()];
    NetConfig { relay_via, members: true, admission: with_key(), ..NetConfig::default() }
}

fn relaying(address: &str) -> NetConfig {
    NetConfig { relay_for_members: true, members: true, ..listening(address) }
}

async fn two_hidden_members_talk_by_way_of_a_relay_at(address: &str) {
    let relay = start(1, relaying(address)).await;
    let mut first = start(2, behind(&relay.address())).await;
    let mut second = start(3, behind(&relay.address())).await;
    first.admitted(second.peer()).await;
    second.admitted(first.peer()).await;
    talk(&mut first, &mut second).await;
    let circuit = format!("/p2p/{}/p2p-circuit/p2p/{}", relay.peer(), first.peer());
    let listens = first.net.listen_addresses();
    assert!(listens.iter().any(|address| address.ends_with(&circuit)), "{listens:?}");
}

#[tokio::test]
async fn two_members_that_nobody_can_dial_talk_by_way_of_a_relay_over_tcp() {
    two_hidden_members_talk_by_way_of_a_relay_at(TCP).await;
}

#[tokio::test]
async fn two_members_that_nobody_can_dial_talk_by_way_of_a_relay_over_quic() {
    two_hidden_members_talk_by_way_of_a_relay_at(QUIC).await;
}

#[tokio::test]
async fn a_relay_that_was_restarted_relays_again() {
    let relay = start(1, relaying(TCP)).await;
    let (address, bare) = (relay.address(), relay.bare_address());
    let mut first = start(2, behind(&address)).await;
    let mut second = start(3, behind(&address)).await;
    first.admitted(second.peer()).await;
    second.admitted(first.peer()).await;
    relay.net.shutdown().await;
    first.lost(second.peer()).await;
    second.lost(first.peer()).await;
    let _relay = start(1, relaying(&bare)).await;
    first.admitted(second.peer()).await;
    second.admitted(first.peer()).await;
    talk(&mut first, &mut second).await;
}

#[tokio::test]
async fn a_member_that_is_no_relay_gives_no_place() {
    let other = start(1, NetConfig { members: true, ..listening(TCP) }).await;
    let mut node = start(2, behind(&other.address())).await;
    node.admitted(other.peer()).await;
    let mut second = start(3, behind(&other.address())).await;
    second.admitted(other.peer()).await;
    until(|| other.net.peers().len() == 2).await;
    assert!(node.net.listen_addresses().is_empty() && second.net.listen_addresses().is_empty());
    assert_eq!((node.net.peers().len(), second.net.peers().len()), (1, 1));
}

/// Neither is told where the other listens: they know the relay, and each other by way of it.
#[tokio::test]
async fn members_that_find_a_way_without_the_relay_leave_it() {
    let relay = start(1, NetConfig { members: false, ..relaying(TCP) }).await;
    let relay_via = vec![relay.address()];
    let mut first = start(2, NetConfig { relay_via, ..listening(TCP) }).await;
    first.admitted(relay.peer()).await;
    let circuit = || first.net.listen_addresses().into_iter().find(|address| address.contains("/p2p-circuit"));
    until(|| circuit().is_some()).await;
    let bootstrap = circuit().into_iter().collect::<Vec<_>>();
    let mut second = start(3, dialling(&bootstrap)).await;
    first.admitted(second.peer()).await;
    second.admitted(first.peer()).await;
    let direct = |node: &Node, to| node.net.peers().iter().any(|info| info.peer == to && !info.relayed);
    until(|| direct(&first, second.peer()) && direct(&second, first.peer())).await;
    // What was on its way when the relayed connection closed is lost, as with any connection: it is asked again.
    let ((first, _), (second, _)) = (first.echo(), second.echo());
    for (asker, answerer) in [(&first, &second), (&second, &first)] {
        let begun = Instant::now();
        while asker.request(answerer.local_peer(), vec![1], PATIENCE).await.is_err() {
            assert!(begun.elapsed() < PATIENCE);
        }
    }
}
