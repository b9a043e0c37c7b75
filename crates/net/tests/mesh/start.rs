//! What cannot be started says why in one sentence.

use magpie_net::{NetConfig, NetError, spawn};
use tokio::sync::mpsc;

use crate::node::*;

async fn refusal(config: NetConfig) -> NetError {
    spawn(&key(3), config, mpsc::channel(1).0).await.expect_err("it cannot start")
}

#[tokio::test]
async fn a_taken_port_is_named() {
    for transport in [TCP, QUIC] {
        let node = start(1, listening(transport)).await;
        let error = refusal(listening(&node.bare_address())).await;
        assert!(matches!(error, NetError::PortTaken { .. }), "{error:?}");
        assert_eq!(error.to_string(), format!("{} is taken by another process", node.bare_address()));
    }
}

#[tokio::test]
async fn what_is_no_multiaddr_is_named() {
    let bootstrap = NetConfig { bootstrap: vec!["10.0.0.1:7400".into()], ..listening(TCP) };
    for (config, presented) in [(listening("0.0.0.0:7400"), "0.0.0.0:7400"), (bootstrap, "10.0.0.1:7400")] {
        let words = refusal(config).await.to_string();
        assert!(words.starts_with(&format!("{presented:?} is not a multiaddr")), "{words}");
    }
}

#[tokio::test]
async fn an_address_of_another_machine_or_protocol_is_named() {
    for address in
        ["/ip4/192.0.2.1/tcp/7400", "/ip4/192.0.2.1/udp/7400/quic-v1", "/ip4/127.0.0.1/udp/7400", "/dns4/a/tcp/1"]
    {
        let words = refusal(listening(address)).await.to_string();
        assert!(words.contains(address), "{words}");
    }
}

#[tokio::test]
async fn a_stopped_node_frees_its_port_at_once() {
    for transport in [TCP, QUIC] {
        let node = start(1, listening(transport)).await;
        let address = node.bare_address();
        node.net.shutdown().await;
        node.net.shutdown().await;
        assert_eq!(start(1, listening(&address)).await.bare_address(), address);
    }
}

#[tokio::test]
async fn a_rendezvous_point_and_a_relay_without_a_peer_are_named() {
    let bare = || vec!["/ip4/10.0.0.7/tcp/7400".into()];
    for config in
        [NetConfig { rendezvous: bare(), ..listening(TCP) }, NetConfig { relay_via: bare(), ..listening(TCP) }]
    {
        let words = refusal(config).await.to_string();
        assert!(words.starts_with("/ip4/10.0.0.7/tcp/7400 names no peer"), "{words}");
    }
}

#[tokio::test]
async fn too_many_relays_are_refused() {
    let relay_via = (1..=9).map(|host| format!("/ip4/10.0.0.{host}/tcp/1/p2p/{}", peer(host))).collect();
    let words = refusal(NetConfig { relay_via, ..listening(TCP) }).await.to_string();
    assert_eq!(words, "9 relays, at most 8");
}

#[tokio::test]
async fn what_is_no_name_and_port_is_named() {
    let words = refusal(NetConfig { dns: vec!["magpie".into()], ..listening(TCP) }).await.to_string();
    assert!(words.starts_with("\"magpie\" is not a name and a port (it has no port)"), "{words}");
    let many = NetConfig { dns: vec!["magpie:7400".into(); 17], ..listening(TCP) };
    assert_eq!(refusal(many).await.to_string(), "17 names to look up, at most 16");
}
