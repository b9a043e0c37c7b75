//! Five nodes are a complete mesh within ten seconds by each way of finding each other alone, the others off.
//!
//! What takes machines, names or multicast of its own is in tests/process.

use std::time::{Duration, Instant};

use magpie_net::{NetConfig, NetEvent, Source};

use crate::forge::Forge;
use crate::node::*;
use crate::raw::Raw;

const NODES: u8 = 5;
const COMPLETE_MAX: Duration = Duration::from_secs(10);

fn is_complete(nodes: &[Node]) -> bool {
    nodes.iter().all(|node| node.net.peers().len() == nodes.len() - 1)
}

async fn completes(nodes: &[Node], begun: Instant) {
    until(|| is_complete(nodes)).await;
    let after = begun.elapsed();
    println!("complete after {after:?}");
    assert!(after < COMPLETE_MAX, "complete after {after:?}");
}

#[tokio::test]
async fn five_nodes_are_a_mesh_by_a_peer_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("peers");
    let mut nodes = Vec::new();
    for seed in 1..=NODES {
        nodes.push(start(seed, NetConfig { peer_file: Some(path.clone()), ..listening(TCP) }).await);
    }
    let begun = Instant::now();
    let addresses: Vec<String> = nodes.iter().map(Node::address).collect();
    std::fs::write(&path, addresses.join("\n")).unwrap();
    completes(&nodes, begun).await;
}

/// Each knows the one before it, and learns of the others from members.
async fn a_chain(transport: &str) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for seed in 1..=NODES {
        let bootstrap = nodes.last().map(Node::address).into_iter().collect();
        nodes.push(start(seed, NetConfig { bootstrap, members: true, ..listening(transport) }).await);
    }
    nodes
}

#[tokio::test]
async fn five_nodes_of_which_each_knows_the_one_before_are_a_mesh_over_tcp() {
    let begun = Instant::now();
    completes(&a_chain(TCP).await, begun).await;
}

#[tokio::test]
async fn five_nodes_of_which_each_knows_the_one_before_are_a_mesh_over_ipv6() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return println!("IPV6 IS NOT TESTED: this machine has none");
    }
    for transport in ["/ip6/::1/tcp/0", "/ip6/::1/udp/0/quic-v1"] {
        let begun = Instant::now();
        completes(&a_chain(transport).await, begun).await;
    }
}

#[tokio::test]
async fn five_nodes_of_which_each_knows_the_one_before_are_a_mesh_over_quic() {
    let begun = Instant::now();
    completes(&a_chain(QUIC).await, begun).await;
}

#[tokio::test]
async fn five_nodes_are_a_mesh_by_a_rendezvous_point() {
    let begun = Instant::now();
    let mut nodes = vec![start(1, NetConfig { rendezvous_point: true, ..listening(TCP) }).await];
    let rendezvous = vec![nodes[0].address()];
    for seed in 2..=NODES {
        nodes.push(start(seed, NetConfig { rendezvous: rendezvous.clone(), ..listening(TCP) }).await);
    }
    completes(&nodes, begun).await;
}

#[tokio::test]
async fn a_rendezvous_point_that_was_restarted_learns_anew_who_is_there() {
    let point = start(1, NetConfig { rendezvous_point: true, ..listening(TCP) }).await;
    let rendezvous = vec![point.address()];
    let again = NetConfig { rendezvous_point: true, ..listening(&point.bare_address()) };
    let mut first = start(2, NetConfig { rendezvous: rendezvous.clone(), ..listening(TCP) }).await;
    first.admitted(point.peer()).await;
    point.net.shutdown().await;
    first.lost(point.peer()).await;
    let _point = start(1, again).await;
    let mut second = start(3, NetConfig { rendezvous, ..listening(TCP) }).await;
    second.admitted(first.peer()).await;
    first.admitted(second.peer()).await;
}

#[tokio::test]
async fn a_kademlia_whose_first_member_has_gone_takes_in_a_newcomer() {
    let joining = |bootstrap: Vec<String>| NetConfig { bootstrap, kademlia: true, ..listening(TCP) };
    let first = start(1, joining(vec![])).await;
    let mut second = start(2, joining(vec![first.address()])).await;
    let mut third = start(3, joining(vec![first.address()])).await;
    second.admitted(third.peer()).await;
    third.admitted(second.peer()).await;
    first.net.shutdown().await;
    second.lost(first.peer()).await;
    let mut fourth = start(4, joining(vec![third.address()])).await;
    fourth.admitted(second.peer()).await;
    second.admitted(fourth.peer()).await;
}

#[tokio::test]
async fn a_member_that_is_no_rendezvous_point_serves_as_none() {
    let mut nodes = vec![start(1, listening(TCP)).await];
    let rendezvous = vec![nodes[0].address()];
    for seed in 2..=3 {
        nodes.push(start(seed, NetConfig { rendezvous: rendezvous.clone(), ..listening(TCP) }).await);
    }
    until(|| nodes[0].net.peers().len() == 2).await;
    let [_, second, third] = nodes.as_mut_slice() else { panic!() };
    second.admitted(peer(1)).await;
    third.admitted(peer(1)).await;
    assert_eq!((second.net.peers().len(), third.net.peers().len()), (1, 1));
}

#[tokio::test]
async fn five_nodes_of_which_each_knows_the_one_before_are_a_mesh_by_kademlia() {
    let begun = Instant::now();
    let mut nodes: Vec<Node> = Vec::new();
    for seed in 1..=NODES {
        let bootstrap = nodes.last().map(Node::address).into_iter().collect();
        nodes.push(start(seed, NetConfig { bootstrap, kademlia: true, ..listening(TCP) }).await);
    }
    completes(&nodes, begun).await;
}

#[tokio::test]
async fn five_nodes_are_a_mesh_by_a_registry_in_an_issue() {
    let forge = Forge::start();
    let begun = Instant::now();
    let mut nodes = Vec::new();
    for seed in 1..=NODES {
        nodes.push(start(seed, NetConfig { github: Some(forge.registry()), ..listening(TCP) }).await);
    }
    completes(&nodes, begun).await;
}

#[tokio::test]
async fn a_chain_whose_members_tell_nothing_stays_one() {
    let mut a = start(1, listening(TCP)).await;
    let mut b = start(2, dialling(&[a.address()])).await;
    let mut c = start(3, NetConfig { members: true, ..dialling(&[b.address()]) }).await;
    b.admitted(a.peer()).await;
    b.admitted(c.peer()).await;
    c.admitted(b.peer()).await;
    a.admitted(b.peer()).await;
    talk(&mut b, &mut c).await;
    let heard =
        c.drain().into_iter().filter(|event| matches!(event, NetEvent::Discovered { source: Source::Member, .. }));
    assert_eq!((heard.count(), c.net.peers().len()), (0, 1));
}

#[tokio::test]
async fn two_meshes_that_learn_of_one_another_by_one_link_become_one() {
    let mut nodes = a_chain(TCP).await;
    for seed in 11..=13 {
        let bootstrap = if seed == 11 { vec![] } else { vec![nodes.last().unwrap().address()] };
        nodes.push(start(seed, NetConfig { bootstrap, members: true, ..listening(TCP) }).await);
    }
    until(|| is_complete(&nodes[..5]) && is_complete(&nodes[5..])).await;
    let begun = Instant::now();
    nodes[6].net.dial(&nodes[2].address()).await.unwrap();
    completes(&nodes, begun).await;
}

#[tokio::test]
async fn what_a_member_tells_is_a_suggestion_and_admits_nobody() {
    // The one in the middle lists a peer that has not the key of the others.
    let lists_both = magpie_net::Admission { allow: [peer(3)].into(), ..with_key() };
    let mut middle = start(2, NetConfig { admission: lists_both, members: true, ..listening(TCP) }).await;
    let mut member = start(1, NetConfig { members: true, ..dialling(&[middle.address()]) }).await;
    let without_key = with_list(&[peer(2), peer(1)]);
    let listed = NetConfig { admission: without_key, members: true, ..dialling(&[middle.address()]) };
    let mut listed = start(3, listed).await;
    middle.admitted(member.peer()).await;
    middle.admitted(listed.peer()).await;
    let told = |of: magpie_core::ids::PeerId| {
        move |event: NetEvent| match event {
            NetEvent::Discovered { address, source: Source::Member } if address.ends_with(&of.to_string()) => Ok(()),
            other => Err(other),
        }
    };
    member.event(told(listed.peer())).await;
    listed.event(told(member.peer())).await;
    until(|| member.net.counters().peers_refused > 0).await;
    assert_eq!(member.net.peers().iter().map(|info| info.peer).collect::<Vec<_>>(), [middle.peer()]);
}

#[tokio::test]
async fn a_member_is_told_of_members_and_not_too_often() {
    let admission = magpie_net::Admission { allow: [Raw::peer_of(47)].into(), ..with_key() };
    let mut node = start(1, NetConfig { admission, members: true, ..listening(TCP) }).await;
    let known = start(2, dialling(&[node.address()])).await;
    node.admitted(known.peer()).await;
    let port = known.bare_address().rsplit('/').next().unwrap().to_owned();
    until(|| node.net.peers()[0].addresses.iter().any(|address| address.ends_with(&port))).await;
    let mut raw = Raw::admitted_by(&node.address(), 47).await;
    let answer = raw.ask_for_members().await.unwrap();
    let address = known.bare_address();
    assert!(answer.windows(address.len()).any(|part| part == address.as_bytes()), "{answer:?}");
    let mut answered = 0;
    for _ in 0..20 {
        answered += u32::from(raw.ask_for_members().await.is_ok());
    }
    assert!(answered < 20, "every question of a flood was answered");
}

#[tokio::test]
async fn a_name_leads_to_whoever_listens_behind_it() {
    let mut a = start(1, listening(TCP)).await;
    let port = a.bare_address().rsplit('/').next().unwrap().to_owned();
    let mut b = start(2, NetConfig { dns: vec![format!("localhost:{port}")], ..listening(TCP) }).await;
    a.admitted(b.peer()).await;
    b.admitted(a.peer()).await;
    talk(&mut a, &mut b).await;
}
