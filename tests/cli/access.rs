//! Tickets and revocations, from the shell to the whole mesh.

use std::fs;

use serde_json::Value;

use crate::fixture::{Node, nodectl, wait_until};

fn peer_id(node: &Node) -> String {
    node.json(&["status"])["peer_id"].as_str().unwrap().to_owned()
}

/// Who is connected to the node.
fn connected(node: &Node) -> Vec<String> {
    let peers = node.json(&["peer", "ls"]);
    let connected = peers["items"].as_array().unwrap().iter().filter(|peer| peer["connected"] == true);
    connected.map(|peer| peer["peer_id"].as_str().unwrap().to_owned()).collect()
}

fn see_each_other(nodes: &[&Node]) {
    wait_until("they do not see each other", || {
        nodes.iter().all(|node| connected(node).len() == nodes.len() - 1).then_some(())
    });
}

/// A node that holds no cluster key and starts again with a ticket that `issuer` makes for it.
fn start_with_ticket(issuer: &Node, expires: &str) -> (Node, Value) {
    let mut node = Node::start();
    let ticket = issuer.json(&["token", "issue", "--peer", &peer_id(&node), "--role", "peer", "--expires", expires]);
    let file = node.file("ticket", &format!("{}\n", ticket["ticket"].as_str().unwrap()));
    let listen = issuer.json(&["status"])["listen"].clone();
    node.kill();
    let config = node.dir.path().join("node.toml");
    let rest = fs::read_to_string(&config).unwrap();
    fs::write(config, format!("ticket_file = {file:?}\nbootstrap = {listen}\n{rest}")).unwrap();
    node.start_again();
    node.until_it_answers();
    (node, ticket)
}

#[test]
fn a_ticket_admits_its_node_until_it_is_revoked_for_all_and_for_ever() {
    let mut holder = Node::start_with_key("");
    holder.keep_its_port();
    let mut second = Node::start_beside(&holder, "", |_| {});
    let (guest, ticket) = start_with_ticket(&holder, "1h");
    see_each_other(&[&holder, &second, &guest]);
    let (id, guest_id) = (ticket["id"].as_str().unwrap(), peer_id(&guest));
    let shown = guest.json(&["key", "show"]);
    assert_eq!(shown["ticket"]["id"], id);
    assert_eq!((&shown["cluster"], &shown["accepted"][0]), (&Value::Null, &holder.json(&["key", "show"])["cluster"]));
    let refused = guest.ctl(&["token", "issue", "--peer", &guest_id, "--role", "operator"]).with(6);
    assert!(refused.stderr.contains("does not hold the cluster key"), "{refused:?}");

    second.kill();
    holder.ctl(&["token", "revoke", id]).with(0);
    wait_until("it is still connected", || connected(&holder).is_empty().then_some(()));
    // Who was away hears it when it is back, though it still knows the address of who was revoked.
    second.start_again();
    second.until_it_answers();
    wait_until("it does not hear of the revocation", || {
        (second.json(&["key", "show"])["revocations"] == 1).then_some(())
    });
    wait_until("it is still connected", || (connected(&second) == [peer_id(&holder)]).then_some(()));
    assert_eq!(connected(&guest), [""; 0]);

    holder.kill();
    holder.start_again();
    holder.until_it_answers();
    see_each_other(&[&holder, &second]);
    assert_eq!(holder.json(&["key", "show"])["revocations"], 1);
    assert_eq!(connected(&guest), [""; 0], "a restart forgets nothing");
}

#[test]
fn a_revoked_peer_goes_from_every_member_though_it_holds_the_key() {
    let holder = Node::start_with_key("");
    let (second, third) = (Node::start_beside(&holder, "", |_| {}), Node::start_beside(&holder, "", |_| {}));
    see_each_other(&[&holder, &second, &third]);
    let gone = peer_id(&third);
    let revoked = holder.json(&["token", "revoke", &gone]);
    assert_eq!(revoked["revoked"]["peer"], gone.as_str());
    for (node, other) in [(&holder, &second), (&second, &holder)] {
        wait_until("it is still connected", || (connected(node) == [peer_id(other)]).then_some(()));
    }
    let own = holder.ctl(&["token", "revoke", &peer_id(&holder)]).with(2);
    assert!(own.stderr.contains("would revoke itself"), "{own:?}");
}

#[test]
fn from_elsewhere_a_ticket_lets_ask_what_its_role_may() {
    let node = Node::start_with_key("");
    let listen = node.json(&["status"])["listen"][0].as_str().unwrap().to_owned();
    let dir = tempfile::tempdir().unwrap();
    let (key, file) = (dir.path().join("key"), dir.path().join("ticket"));
    let elsewhere = |arguments: &[&str]| {
        let door = ["--node", &listen, "--key", key.to_str().unwrap(), "--ticket", file.to_str().unwrap()];
        nodectl(&[&door[..], arguments].concat())
    };
    let wish = elsewhere(&["status"]).with(2).stderr;
    let me = wish.split("--peer ").nth(1).unwrap().trim().to_owned();
    let ticket = node.json(&["token", "issue", "--peer", &me, "--role", "agent"]);
    fs::write(&file, ticket["ticket"].as_str().unwrap()).unwrap();

    let status = elsewhere(&["-o", "json", "status"]).with(0).json();
    assert_eq!(status["peer_id"], peer_id(&node).as_str());
    assert_eq!(status["peers"], Value::Array(vec![]), "a guest is no member");
    elsewhere(&["task", "submit", "--kind", "noop", "--wait", "--timeout", "30s"]).with(0);
    let refused = elsewhere(&["worker", "drain"]).with(6);
    assert!(refused.stderr.contains("this needs the role operator, the caller has agent"), "{refused:?}");
    elsewhere(&["token", "issue", "--peer", &me, "--role", "operator"]).with(6);

    node.ctl(&["token", "revoke", ticket["id"].as_str().unwrap()]).with(0);
    let revoked = elsewhere(&["status"]).with(4);
    assert!(revoked.stderr.contains("it does not admit this ticket"), "{revoked:?}");
}

#[test]
fn what_is_no_ticket_to_issue_or_revoke_is_refused_in_words() {
    let node = Node::start();
    let refused = |arguments: &[&str], code: i32, words: &str| {
        let ended = node.ctl(arguments).with(code);
        assert!(ended.stderr.contains(words), "{ended:?}");
    };
    let me = peer_id(&node);
    refused(&["token", "issue", "--peer", &me, "--role", "peer"], 6, "does not hold the cluster key");
    refused(&["token", "issue", "--peer", "me", "--role", "peer"], 2, "is not a peer id");
    refused(&["token", "issue", "--peer", &me, "--role", "root"], 2, "peer, agent or operator");
    refused(&["token", "revoke", "everybody"], 2, "neither a ticket id");
    let holder = Node::start_with_key("");
    let ended = holder.ctl(&["token", "issue", "--peer", &me, "--role", "agent", "--expires", "500d"]).with(2);
    assert!(ended.stderr.contains("at most 400 days"), "{ended:?}");
    let printed = holder.ctl(&["token", "issue", "--peer", &me, "--role", "agent"]).with(0).stdout;
    assert!(printed.starts_with("magpie-ticket-1-") && printed.lines().count() == 1, "{printed}");
}

#[test]
fn a_new_cluster_key_is_taken_node_by_node_and_the_former_one_ends_when_it_is_told() {
    let one = Node::start_with_key("");
    let other = Node::start_beside(&one, "", |_| {});
    let (old, new) = (one.dir.path().join("cluster.key"), one.dir.path().join("cluster-2.key"));
    magpie_net::ClusterKey::load_or_create(&new).unwrap();
    let (old, new) = (old.to_str().unwrap(), new.to_str().unwrap());
    let before = one.json(&["key", "show"])["cluster"].clone();
    for node in [&one, &other] {
        let view = node.json(&["key", "rotate", new]);
        assert_eq!(view["former"]["cluster"], before, "{view:#}");
        assert_ne!(view["cluster"], before);
    }
    assert!(one.ctl(&["key", "show"]).with(0).stdout.contains(" until "));
    for node in [&one, &other] {
        let view = node.json(&["key", "rotate", new, "--overlap", "0s"]);
        assert!(view["former"].is_null(), "{view:#}");
    }
    let back = one.ctl(&["key", "rotate", old]).with(2);
    assert!(back.stderr.contains("was replaced"), "{back:?}");
    let missing = one.ctl(&["key", "rotate", "/nonexistent/key"]).with(2);
    assert!(missing.stderr.contains("openssl rand"), "{missing:?}");
    wait_until("the two do not see each other", || {
        (one.json(&["status"])["peers"][0]["state"] == "alive").then_some(())
    });
}

#[test]
fn a_bearer_token_of_an_impossible_length_locks_nobody_out_and_a_wrong_file_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens.toml");
    let path = file.to_str().unwrap();
    let add = |name: &str, expires: &str| {
        nodectl(&["token", "bearer", "add", name, "--scope", "read", "--file", path, "--expires", expires])
    };
    add("first", "400d").with(0);
    let before = fs::read_to_string(&file).unwrap();
    for expires in ["99999999d", "401d", "0s", "10ms"] {
        let refused = add("second", expires).with(2);
        assert!(refused.stderr.contains("1s to 400d"), "{refused:?}");
        assert_eq!(fs::read_to_string(&file).unwrap(), before);
    }
    let tokens = format!("http = {{listen = \"127.0.0.1:0\", tokens = {path:?}}}");
    let node = Node::start_configured(&tokens);
    assert!(!node.ctl(&["status"]).with(0).stdout.contains("no bearer token"));
    fs::write(&file, before.replace("read", "root")).unwrap();
    let told = node.ctl(&["status"]).with(0).stdout;
    assert!(told.contains("notice: no bearer token is taken until their file is right"), "{told}");
    let faults = node.ctl(&["doctor"]).with(1).stdout;
    assert!(faults.contains("FAULT    tokens"), "{faults}");
}
