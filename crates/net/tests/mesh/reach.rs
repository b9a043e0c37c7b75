//! A member dials others back, so that they know where they can be reached. What takes a NAT is in tests/process.

use std::net::TcpListener;

use magpie_net::{NetConfig, Reach};

use crate::node::*;
use crate::raw::Raw;

const RAW: u8 = 9;

async fn admitting() -> Node {
    start(1, NetConfig { admission: with_list(&[Raw::peer_of(RAW)]), ..listening(TCP) }).await
}

/// Asks again where the node has just served it.
async fn ask(raw: &mut Raw, address: &str) -> (String, String) {
    loop {
        let (outcome, why) = raw.ask_to_be_dialled_back(address).await.unwrap();
        let why = why.unwrap_or_default();
        if why != "too many are asked for" {
            return (outcome, why);
        }
    }
}

#[tokio::test]
async fn a_member_is_dialled_back_where_it_is_met_and_nowhere_else() {
    let node = admitting().await;
    let mut raw = Raw::admitted_by(&node.address(), RAW).await;
    let own = raw.listen().await;
    assert_eq!(ask(&mut raw, &own).await.0, "reached");
    let (outcome, why) = ask(&mut raw, &node.bare_address()).await;
    assert_eq!(outcome, "unreached", "the node is another than who asks");
    assert!(why.contains(&node.peer().to_string()), "{why}");
    // Whoever listens on these hears nothing of it.
    let silent = TcpListener::bind("127.0.0.2:0").unwrap();
    silent.set_nonblocking(true).unwrap();
    let elsewhere = format!("/ip4/127.0.0.2/tcp/{}", silent.local_addr().unwrap().port());
    for address in [elsewhere.as_str(), "/ip4/192.168.0.1/tcp/80", "/ip4/203.0.113.7/tcp/80", "/dns4/localhost/tcp/80"]
    {
        assert_eq!(ask(&mut raw, address).await.0, "refused", "{address}");
    }
    assert!(silent.accept().is_err(), "nobody knocked");
    assert_eq!(node.net.peers().len(), 1);
}

#[tokio::test]
async fn what_listens_there_and_speaks_otherwise_is_not_the_member() {
    let node = admitting().await;
    let mut raw = Raw::admitted_by(&node.address(), RAW).await;
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", other.local_addr().unwrap().port());
    std::thread::spawn(move || other.accept().map(drop));
    assert_eq!(ask(&mut raw, &address).await.0, "unreached");
    // Nobody listens any more.
    assert_eq!(ask(&mut raw, &address).await.0, "unreached");
}

#[tokio::test]
async fn a_named_address_is_told_to_members_as_it_is() {
    let named = "/dns4/node.example/tcp/7400";
    let external = vec![named.to_owned(), "/ip4/203.0.113.7/tcp/7400".to_owned()];
    let a = start(1, NetConfig { external, ..listening(TCP) }).await;
    let mut b = start(2, dialling(&[a.address()])).await;
    b.admitted(a.peer()).await;
    let told = |address: &str| b.net.peers()[0].addresses.iter().any(|known| known == address);
    until(|| told(named) && told("/ip4/203.0.113.7/tcp/7400")).await;
    let reach = a.net.reach();
    assert_eq!(reach.len(), 1, "a name is dialled back by nobody: {reach:?}");
    assert!(reach[0].named && reach[0].reach == Reach::Unknown, "nobody here sees it there");
}
