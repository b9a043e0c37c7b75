//! What a person sees and does about peers.

use serde_json::{Value, json};

use crate::fixture::{Node, nodectl, wait_until};

/// Two nodes that know each other: the second dialled the first.
fn pair() -> (Node, Node) {
    let one = Node::start_with_key("");
    let other = Node::start_beside(&one, "", |_| {});
    (one, other)
}

fn id(node: &Node) -> String {
    node.json(&["status"])["peer_id"].as_str().unwrap().to_owned()
}

fn address(node: &Node) -> String {
    node.json(&["status"])["listen"][0].as_str().unwrap().to_owned()
}

fn bare(address: &str) -> &str {
    address.split("/p2p/").next().unwrap()
}

/// Whether `node` holds a connection to `peer`, on which both admitted each other.
fn is_admitted(node: &Node, peer: &str) -> bool {
    let contacts = node.json(&["actor", "call", "peer", "\"contacts\""])["contacts"]["contacts"].clone();
    contacts.as_array().unwrap().iter().any(|contact| contact["peer_id"] == peer && contact["admitted"] == true)
}

fn until_admitted(node: &Node, peer: &str) {
    wait_until("the peer is not connected", || is_admitted(node, peer).then_some(()));
}

#[test]
fn a_peer_is_shown_by_the_end_of_its_id() {
    let (one, other) = pair();
    let peer = id(&other);
    let shown = one.json(&["peer", "get", &peer[peer.len() - 8..]]);
    assert_eq!((&shown["peer_id"], &shown["member"]["state"]), (&json!(peer), &json!("alive")));
    assert_eq!((&shown["rule"], &shown["contacts"][0]["admitted"]), (&Value::Null, &json!(true)));
    wait_until("it never says where it listens", || {
        let addresses = one.json(&["peer", "get", &peer])["contacts"][0]["addresses"].clone();
        (addresses[0]["address"] == bare(&address(&other))).then_some(())
    });
    assert!(shown["clock_ahead_ms"].as_i64().unwrap().abs() < 60_000, "{shown:#}");
    let table = one.ctl(&["peer", "get", &peer]).with(0).stdout;
    assert!(table.starts_with(&format!("peer        {peer}\nstate       alive\n")), "{table}");
    assert_eq!(one.ctl(&["peer", "get", "12D3KooWnobody"]).code, Some(3));
}

#[test]
fn a_wide_list_of_peers_has_the_whole_of_each() {
    let (one, other) = pair();
    until_admitted(&one, &id(&other));
    let columns = |table: &str| table.lines().next().map_or(0, |header| header.split_whitespace().count());
    let wide = || one.ctl(&["peer", "ls", "-o", "wide"]).with(0).stdout;
    let narrow = one.ctl(&["peer", "ls"]).with(0).stdout;
    assert!(columns(&narrow) < columns(&wide()) && wide().contains(&id(&other)), "{narrow}{}", wide());
    wait_until("it never says where the other listens", || wide().contains(bare(&address(&other))).then_some(()));
}

#[test]
fn a_disconnected_peer_stays_away_until_it_is_connected_again() {
    let (one, other) = pair();
    let peer = id(&other);
    assert_eq!(one.json(&["peer", "disconnect", &peer]), json!({"peer_id": peer, "was_connected": true}));
    let lost = wait_until("the other side never tries again", || {
        let shown = other.json(&["peer", "get", &id(&one)]);
        shown["contacts"].as_array().unwrap().iter().find(|contact| contact["refusals"].as_u64() > Some(0)).cloned()
    });
    assert!(lost["trouble"].as_str().unwrap().contains("did not admit this node"), "{lost:#}");
    assert!(!is_admitted(&one, &peer));
    let connected = one.json(&["peer", "connect", &address(&other)]);
    assert_eq!((&connected["peer_id"], &connected["connected"]), (&json!(peer), &json!(true)));
    until_admitted(&other, &id(&one));
    let told = one.ctl(&["peer", "disconnect", &peer]).with(0).stdout;
    assert!(told.contains("until `nodectl peer connect`"), "{told}");
    let found = one.json(&["peer", "discover"]);
    assert!(found["contacts"].as_array().unwrap().iter().any(|contact| contact["peer_id"] == peer), "{found:#}");
    until_admitted(&one, &peer);
}

#[test]
fn a_denied_peer_stays_out_after_a_restart_and_comes_back_when_it_is_allowed() {
    let (mut one, other) = pair();
    let peer = id(&other);
    one.keep_its_port();
    assert_eq!(one.json(&["peer", "deny", &peer]), json!({"peer_id": peer, "rule": "deny"}));
    assert!(!is_admitted(&one, &peer), "it is sent away before the answer");
    one.terminate();
    one.ended();
    one.start_again();
    one.until_it_answers();
    assert_eq!(one.json(&["peer", "rules"]), json!({"items": [{"peer_id": peer, "rule": "deny"}]}));
    wait_until("the other side never tries again", || {
        let contacts = one.json(&["actor", "call", "peer", "\"contacts\""]);
        (contacts["contacts"]["peers_refused"].as_u64() > Some(0)).then_some(())
    });
    assert!(!is_admitted(&one, &peer));
    let refused = one.ctl(&["peer", "connect", &address(&other)]);
    assert_ne!(refused.code, Some(0), "{refused:#?}");
    one.json(&["peer", "allow", &peer]);
    other.json(&["peer", "discover"]);
    until_admitted(&one, &peer);
    assert_eq!(one.ctl(&["peer", "rules"]).with(0).stdout, format!("PEER{}  RULE\n{peer}  allowed\n", " ".repeat(48)));
}

#[test]
fn a_node_without_the_key_joins_by_being_allowed_on_both_sides() {
    let one = Node::start_with_key("");
    let stranger = Node::start();
    let (first, second) = (id(&one), id(&stranger));
    let refused = stranger.ctl(&["peer", "connect", &address(&one)]).with(6);
    assert!(refused.stderr.contains("not connected: "), "{}", refused.stderr);
    assert!(refused.stderr.contains("goes on dialling"), "{}", refused.stderr);
    stranger.json(&["peer", "allow", &first]);
    one.json(&["peer", "allow", &second]);
    stranger.json(&["peer", "discover"]);
    until_admitted(&one, &second);
    assert_eq!(one.ctl(&["peer", "allow", &first]).code, Some(2), "this is the node itself");
}

#[test]
fn what_cannot_be_connected_is_told_in_the_words_of_the_system() {
    let node = Node::start();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let refused = node.ctl(&["peer", "connect", &format!("/ip4/127.0.0.1/tcp/{free}")]).with(4);
    assert!(refused.stderr.contains("Connection refused"), "{}", refused.stderr);
    let own = node.ctl(&["peer", "connect", bare(&address(&node))]).with(6);
    assert!(own.stderr.contains("this is an address of this node itself"), "{}", own.stderr);
    let wrong = nodectl(&["peer", "connect", "localhost:4001"]).with(2);
    assert!(wrong.stderr.contains("is not a multiaddr"), "{}", wrong.stderr);
}

#[test]
fn looking_for_peers_tells_each_way_and_waits_where_nobody_is_known() {
    let node = Node::start();
    let found = node.json(&["peer", "discover", "--timeout", "50ms"]);
    assert_eq!(found["contacts"], json!([]));
    let ways: Vec<(&str, bool)> = found["ways"]
        .as_array()
        .unwrap()
        .iter()
        .map(|way| (way["way"].as_str().unwrap(), way["on"].as_bool().unwrap()))
        .collect();
    let expected = ["bootstrap", "peer_file", "dns", "mdns", "members", "rendezvous", "kademlia", "github"]
        .map(|way| (way, way == "members"));
    assert_eq!(ways, expected);
    assert!(node.ctl(&["peer", "discover", "--timeout", "50ms"]).with(0).stdout.contains("nobody is known yet"));
}

#[test]
fn what_was_measured_of_a_peer_comes_from_its_heartbeats_and_its_blobs() {
    let (one, other) = pair();
    let peer = id(&other);
    // Its input lies at its home and goes to the worker that runs it; slots here are taken.
    one.json(&["worker", "drain"]);
    let file = one.file("large.json", &serde_json::to_string(&"x".repeat(300_000)).unwrap());
    let script = "import sys; print(len(sys.stdin.read()))";
    let task = one.file(
        "task.json",
        &json!({"kind": "process", "run": ["python3", "-c", script], "files": ["large.json"]}).to_string(),
    );
    assert!(file.ends_with("large.json"));
    let submitted = one.json(&["task", "submit", &task])["id"].as_str().unwrap().to_owned();
    assert_eq!(one.json(&["task", "wait", &submitted, "--timeout", "60s"])["state"], "succeeded");
    let measured = other.json(&["peer", "metrics", &id(&one)]);
    assert!(measured["bandwidth"]["bytes_received"].as_u64() >= Some(300_000), "{measured:#}");
    assert!(measured["bandwidth"]["bytes_per_s"].as_u64() > Some(0), "{measured:#}");
    assert!(measured["latency"]["average_ms"].as_f64() > Some(0.0), "{measured:#}");
    assert!(measured["latency"]["p99_ms"].as_f64() >= measured["latency"]["p50_ms"].as_f64(), "{measured:#}");
    let all = one.json(&["peer", "metrics"]);
    assert_eq!((&all["items"][0]["peer_id"], &all["items"][0]["loss"]), (&json!(peer), &json!(0.0)), "{all:#}");
    assert!(all["items"][0]["reliability"].as_f64() > Some(0.9), "{all:#}");
    assert!(one.ctl(&["peer", "metrics"]).with(0).stdout.starts_with("PEER "));
    assert!(one.ctl(&["peer", "metrics", &peer]).with(0).stdout.contains("reliability"));
}

#[test]
fn a_peer_that_is_connected_elsewhere_is_not_said_to_be_at_an_address_that_was_not_tried() {
    let (one, other) = pair();
    let third = Node::start_beside(&one, "", |_| {});
    let (peer, third_id) = (id(&other), id(&third));
    until_admitted(&one, &peer);
    wait_until("it does not say where it listens", || {
        let contacts = one.json(&["peer", "get", &peer])["contacts"].clone();
        let addresses = contacts[0]["addresses"].as_array().unwrap().clone();
        addresses.iter().any(|known| known["address"] == bare(&address(&other))).then_some(())
    });
    let nowhere = format!("/ip4/127.0.0.1/tcp/9/p2p/{peer}");
    let told = one.ctl(&["peer", "connect", &nowhere]).with(0).stdout;
    assert!(told.contains("already; /ip4/127.0.0.1/tcp/9/p2p/") && told.contains("was not tried"), "{told}");
    let thirds = address(&third);
    let wrong = one.json(&["peer", "connect", &format!("{}/p2p/{peer}", bare(&thirds))]);
    assert_eq!((&wrong["peer_id"], &wrong["tried"]), (&json!(peer), &json!(false)));
    let right = one.json(&["peer", "connect", bare(&thirds)]);
    assert_eq!((&right["peer_id"], &right["tried"]), (&json!(third_id), &json!(true)));
}
