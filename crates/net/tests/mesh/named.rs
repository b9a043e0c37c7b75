//! Why others gave libp2p up, each reason as a test that passes here (issue 4 names where each was recorded).

use std::time::Duration;

use magpie_net::{NetConfig, NetEvent, RequestError};

use crate::node::*;

const NODES: u8 = 5;

fn is_whole(nodes: &[Node]) -> bool {
    nodes.iter().all(|node| node.net.peers().len() == nodes.len() - 1)
}

/// Bacalhau 1161: each node in turn, the one that all others were told of included, forgets all and comes back elsewhere.
#[tokio::test]
async fn restart_does_not_split_the_mesh() {
    let first = start(1, NetConfig { members: true, ..listening(TCP) }).await;
    let bootstrap = vec![first.address()];
    let mut nodes = vec![first];
    for seed in 2..=NODES {
        nodes.push(start(seed, NetConfig { members: true, ..dialling(&bootstrap) }).await);
    }
    until(|| is_whole(&nodes)).await;
    for seed in 1..=NODES {
        let gone = nodes.remove(0);
        gone.net.shutdown().await;
        for node in &mut nodes {
            node.lost(gone.peer()).await;
        }
        // It is told of one node alone, and none of them knows its new port.
        let told = vec![nodes[0].address()];
        nodes.push(start(seed, NetConfig { members: true, ..dialling(&told) }).await);
        until(|| is_whole(&nodes)).await;
    }
}

/// Bacalhau 1172: messages of one sender, each sent again until it is answered while the connection is made anew again and
/// again, are heard in their order, and once where the hearer minds their keys.
#[tokio::test]
async fn no_message_is_lost_or_reordered() {
    const MESSAGES: u32 = 3_000;
    for transport in [TCP, QUIC] {
        let (a, mut b) = pair(transport).await;
        let (to, net) = (b.peer(), a.net.clone());
        let sending = async {
            for key in 0..MESSAGES {
                loop {
                    match net.request(to, key.to_be_bytes().to_vec(), Duration::from_secs(2)).await {
                        Ok(_) => break,
                        Err(RequestError::NotConnected { .. }) => tokio::time::sleep(Duration::from_millis(2)).await,
                        Err(error) => assert!(error.is_retryable(), "{error}"),
                    }
                }
                if key % 500 == 250 {
                    net.reconnect(to).await;
                }
            }
        };
        let receiving = async {
            let mut next = 0;
            while next < MESSAGES {
                let (_, frame, reply) = b.request().await;
                let key = u32::from_be_bytes(frame.try_into().unwrap());
                assert!(key <= next, "{key} came before {next}");
                next += u32::from(key == next);
                reply.send(Vec::new());
            }
            // The last answer may have been lost with its connection.
            b.echo()
        };
        // In one task: a sender that gives up ends the test, and leaves nobody waiting for it.
        tokio::join!(sending, receiving);
    }
}

/// exo 2257: a node on several addresses, all of them dialled at once from both sides, is one member, met once.
#[tokio::test]
async fn multi_homed_hosts_elect_nobody_twice() {
    let homes = [TCP, QUIC, "/ip4/127.0.0.2/tcp/0", "/ip4/127.0.0.3/udp/0/quic-v1"].map(str::to_owned).to_vec();
    let on_all = || NetConfig { listen: homes.clone(), members: true, ..listening(TCP) };
    let mut a = start(1, on_all()).await;
    let mut b = start(2, on_all()).await;
    let mut c = start(3, on_all()).await;
    for (from, to) in [(&a, &b), (&b, &a), (&c, &a), (&b, &c)] {
        for address in to.net.listen_addresses() {
            from.net.dial(&address).await.unwrap();
        }
    }
    until(|| [&a, &b, &c].iter().all(|node| node.net.peers().len() == 2)).await;
    for _ in 0..10 {
        talk(&mut a, &mut b).await;
        talk(&mut b, &mut c).await;
    }
    for node in [&mut a, &mut b, &mut c] {
        let events = node.drain();
        let count = |wanted: fn(&NetEvent) -> bool| events.iter().filter(|event| wanted(event)).count();
        assert_eq!(count(|event| matches!(event, NetEvent::PeerAdmitted { .. })), 2);
        assert_eq!(count(|event| matches!(event, NetEvent::PeerLost { .. })), 0);
    }
}

/// exo 2243: without mDNS, and with one address known each, all find each other.
#[tokio::test]
async fn works_without_multicast() {
    let mut nodes: Vec<Node> = Vec::new();
    for seed in 1..=NODES {
        let bootstrap = nodes.last().map(Node::address).into_iter().collect();
        nodes.push(start(seed, NetConfig { bootstrap, members: true, mdns: false, ..listening(TCP) }).await);
    }
    until(|| is_whole(&nodes)).await;
}

/// petals 195: members that nobody can dial ask the table and are not in the way of who asks it.
#[tokio::test]
async fn dht_keys_survive_nat_peers() {
    let joining = |bootstrap: Vec<String>| NetConfig { bootstrap, kademlia: true, ..listening(TCP) };
    let first = start(1, joining(vec![])).await;
    let mut reachable = vec![start(2, joining(vec![first.address()])).await];
    reachable.push(start(3, joining(vec![first.address()])).await);
    // Behind NAT: they listen nowhere, and there are more of them than of the others.
    let mut hidden = Vec::new();
    for seed in 10..16 {
        hidden.push(start(seed, NetConfig { listen: vec![], ..joining(vec![first.address()]) }).await);
    }
    for node in &mut hidden {
        for found in &reachable {
            node.admitted(found.peer()).await;
        }
    }
    first.net.shutdown().await;
    for node in &mut reachable {
        node.lost(first.peer()).await;
    }
    // Told of one node, a newcomer finds the other, though most that the first knows cannot be reached.
    let mut newcomer = start(4, joining(vec![reachable[0].address()])).await;
    newcomer.admitted(reachable[1].peer()).await;
    reachable[1].admitted(newcomer.peer()).await;
    talk(&mut newcomer, &mut reachable[1]).await;
}
