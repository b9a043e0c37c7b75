//! Cloned and restored disks: of two copies of a ledger, one goes on at most.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::{Node, wait_until};

const NOOP: [&str; 4] = ["task", "submit", "--kind", "noop"];

/// Until the witness holds the node's newest head, and the node has written down whom it knows.
fn knows(witness: &Node, node: &Node) {
    wait_until("the witness does not hold the newest head", || {
        let queue = node.json(&["queue", "stats"]);
        let clock = witness.json(&["clock", "show"]);
        let heads = clock["heads"].as_array().unwrap().iter().map(|signed| &signed["head"]);
        let mut of_node = heads.filter(|head| head["ledger"] == queue["ledger"]);
        let held = of_node.any(|head| head["count"].as_u64() >= queue["log_index"].as_u64());
        (held && node.dir.path().join("data/peers.json").exists()).then_some(())
    });
}

/// The node's data as it is now, in another directory.
fn copy(node: &Node) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-a").arg(node.dir.path().join("data")).arg(copy.path()).status().unwrap();
    assert!(copied.success());
    copy
}

fn suspended(node: &Node) -> bool {
    !node.json(&["status"])["suspended"].is_null()
}

fn succeeds(node: &Node) -> bool {
    let wait = [&NOOP[..], &["--wait", "--timeout", "30s", "-o", "json"]].concat();
    let ended = node.ctl(&wait);
    ended.code == Some(0) && ended.json()["state"] == "succeeded"
}

#[test]
fn a_restored_disk_stands_still_and_says_why_until_its_ledger_is_claimed() {
    let witness = Node::start_with_key("");
    let mut node = Node::start_beside(&witness, "", |_| {});
    assert!(succeeds(&node));
    knows(&witness, &node);
    let records = node.json(&["queue", "stats"])["log_index"].as_u64().unwrap();
    node.kill();
    let backup = copy(&node);
    node.start_again();
    node.until_it_answers();
    assert!(succeeds(&node) && succeeds(&node));
    knows(&witness, &node);
    node.kill();

    let mut restored = Node::start_on_beside(backup, &witness, "", |_| {});
    wait_until("it does not hear of what it lacks", || suspended(&restored).then_some(()));
    let written = restored.json(&["queue", "stats"])["log_index"].as_u64().unwrap();
    assert_eq!(written, records + 2, "that it started, and that it stands still");
    let refused = restored.ctl(&[&NOOP[..], &["--timeout", "1s"]].concat()).with(4);
    let ledger = restored.json(&["status"])["ledger"].clone();
    let ledger = ledger.as_str().unwrap();
    assert!(refused.stderr.contains(&format!("nodectl home claim {ledger} --accept-loss")), "{refused:?}");
    assert!(restored.ctl(&["status"]).with(0).stdout.contains("\nsuspended: "));
    assert_eq!(restored.json(&["task", "ls"])["items"].as_array().unwrap().len(), 1, "readers are answered");

    // It remembers, whoever is away.
    restored.kill();
    restored.start_again();
    restored.until_it_answers();
    assert!(suspended(&restored));
    let asked = restored.ctl(&["home", "claim", ledger]).with(2);
    assert!(asked.stderr.contains("add --accept-loss"), "{asked:?}");
    let claimed = restored.json(&["home", "claim", ledger, "--accept-loss"]);
    assert_eq!(claimed, json!({"ledger": ledger, "claimed": true}));
    assert!(succeeds(&restored));
    assert!(!suspended(&restored));
    let again = restored.ctl(&["home", "claim", ledger, "--accept-loss"]).with(2);
    assert!(again.stderr.contains("is not suspended"), "{again:?}");
    knows(&witness, &restored);
    let heads = witness.json(&["clock", "show"]);
    let of_ledger = |head: &&Value| head["ledger"] == ledger;
    let newest = heads["heads"].as_array().unwrap().iter().map(|signed| &signed["head"]).find(of_ledger);
    assert_eq!(newest.unwrap()["tenure"], 2, "{heads:#}");
    let homes = witness.json(&["home", "ls"]);
    let home = homes["items"].as_array().unwrap().iter().find(of_ledger).unwrap();
    assert_eq!((&home["tenure"], &home["own"]), (&json!(2), &json!(false)), "{homes:#}");
    assert_eq!(home["peer_id"], restored.json(&["status"])["peer_id"], "{homes:#}");
    assert!(home["last_seen"].is_string(), "{homes:#}");
}

#[test]
fn of_a_cloned_disk_at_most_one_copy_goes_on() {
    let witness = Node::start_with_key("");
    let mut one = Node::start_beside(&witness, "", |_| {});
    assert!(succeeds(&one));
    knows(&witness, &one);
    one.kill();
    let cloned = copy(&one);
    one.start_again();
    one.until_it_answers();
    let _ = fs::remove_file(cloned.path().join("data/control.sock"));
    let other = Node::start_on_beside(cloned, &witness, "", |_| {});
    wait_until("both copies go on", || (suspended(&one) || suspended(&other)).then_some(()));
    let (stands, goes_on) = if suspended(&one) { (&one, &other) } else { (&other, &one) };
    assert_eq!(stands.ctl(&[&NOOP[..], &["--timeout", "1s"]].concat()).code, Some(4));
    // Both may have gone on for a moment: then they stop each other.
    wait_until("the other neither goes on nor stands still", || {
        (succeeds(goes_on) || suspended(goes_on)).then_some(())
    });
}
