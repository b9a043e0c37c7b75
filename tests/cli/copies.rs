//! Cloned and restored disks: of two copies of a ledger, one goes on at most.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::{Node, wait_until};

const NOOP: [&str; 4] = ["task", "submit", "--kind", "noop"];

/// A cluster of nodes that know each other through one that stays.
struct Cluster {
    key: TempDir,
    witness: Node,
}

impl Cluster {
    fn start() -> Self {
        let key = tempfile::tempdir().unwrap();
        magpie_net::ClusterKey::load_or_create(&key.path().join("cluster.key")).unwrap();
        let witness = Node::start_in(tempfile::tempdir().unwrap(), &Self::with_key(key.path()));
        Self { key, witness }
    }

    fn with_key(dir: &Path) -> String {
        format!("cluster_key = {:?}\n", dir.join("cluster.key"))
    }

    /// A node on the data in `dir`.
    fn node(&self, dir: TempDir) -> Node {
        let address = self.witness.json(&["status"])["listen"][0].clone();
        Node::start_in(dir, &format!("{}bootstrap = [{address}]\n", Self::with_key(self.key.path())))
    }

    /// Until the witness holds the node's newest head, and the node has written down whom it knows.
    fn knows(&self, node: &Node) {
        wait_until("the witness does not hold the newest head", || {
            let queue = node.json(&["queue", "stats"]);
            let clock = self.witness.json(&["clock", "show"]);
            let heads = clock["heads"].as_array().unwrap().iter().map(|signed| &signed["head"]);
            let mut of_node = heads.filter(|head| head["ledger"] == queue["ledger"]);
            let held = of_node.any(|head| head["count"].as_u64() >= queue["log_index"].as_u64());
            (held && node.dir.path().join("data/peers.json").exists()).then_some(())
        });
    }
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
    let cluster = Cluster::start();
    let mut node = cluster.node(tempfile::tempdir().unwrap());
    assert!(succeeds(&node));
    cluster.knows(&node);
    let records = node.json(&["queue", "stats"])["log_index"].as_u64().unwrap();
    node.kill();
    let backup = copy(&node);
    node.start_again();
    node.until_it_answers();
    assert!(succeeds(&node) && succeeds(&node));
    cluster.knows(&node);
    node.kill();

    let mut restored = cluster.node(backup);
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
    cluster.knows(&restored);
    let heads = cluster.witness.json(&["clock", "show"]);
    let of_ledger = |head: &&Value| head["ledger"] == ledger;
    let newest = heads["heads"].as_array().unwrap().iter().map(|signed| &signed["head"]).find(of_ledger);
    assert_eq!(newest.unwrap()["tenure"], 2, "{heads:#}");
}

#[test]
fn of_a_cloned_disk_at_most_one_copy_goes_on() {
    let cluster = Cluster::start();
    let mut one = cluster.node(tempfile::tempdir().unwrap());
    assert!(succeeds(&one));
    cluster.knows(&one);
    one.kill();
    let cloned = copy(&one);
    one.start_again();
    one.until_it_answers();
    let _ = fs::remove_file(cloned.path().join("data/control.sock"));
    let other = cluster.node(cloned);
    wait_until("both copies go on", || (suspended(&one) || suspended(&other)).then_some(()));
    let (stands, goes_on) = if suspended(&one) { (&one, &other) } else { (&other, &one) };
    assert_eq!(stands.ctl(&[&NOOP[..], &["--timeout", "1s"]].concat()).code, Some(4));
    // Both may have gone on for a moment: then they stop each other.
    wait_until("the other neither goes on nor stands still", || {
        (succeeds(goes_on) || suspended(goes_on)).then_some(())
    });
}
