//! A node whose attempts work on a disk without room: what needs some waits, spends nothing, and runs when there is room.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::json;

use crate::fixture::{Node, wait_until};

/// A small disk of its own, where this process may mount one.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    pub fn mount(at: &Path) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|mounted| mounted.status.success()).then(|| Self(at.to_owned()))
    }

    /// Takes all that is free.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = fs::File::create(&path).unwrap();
        while file.write(&[1; 4_096]).is_ok_and(|written| written > 0) {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// A node whose work directory is such a disk.
fn node_on_a_small_disk() -> Option<(Node, SmallDisk)> {
    let mut disk = None;
    let node = Node::start_prepared(|dir| disk = SmallDisk::mount(&dir.join("data/work")));
    if disk.is_none() {
        println!("SKIPPED: this process may not mount a file system of its own; run it as root");
    }
    Some((node, disk?))
}

fn submit(node: &Node) -> String {
    let file = node.file("task.json", r#"{"kind": "process", "run": ["sh", "-c", "echo 7"]}"#);
    node.json(&["task", "submit", &file])["id"].as_str().unwrap().to_owned()
}

fn succeeds_at_its_first_attempt(node: &Node, id: &str) {
    let view = node.json(&["task", "wait", id]);
    assert_eq!((&view["state"], &view["output"], &view["attempts"]), (&json!("succeeded"), &json!(7), &json!(1)));
}

#[test]
fn a_node_without_room_says_so_and_what_needs_room_waits_while_the_rest_runs() {
    let Some((node, disk)) = node_on_a_small_disk() else { return };
    let filler = disk.fill();
    let own = || node.json(&["worker", "ls"])["items"][0].clone();
    wait_until("it does not notice", || (own()["state"] == "no room").then_some(()));
    assert!(own()["no_room"].as_str().unwrap().contains("the disk is full"), "{}", own());
    assert!(node.ctl(&["status"]).with(0).stdout.contains("no task that needs room on the disk is taken"));
    let id = submit(&node);
    let why = wait_until("the home does not know", || {
        let why = node.ctl(&["task", "why-pending", &id]).with(0).stdout;
        why.contains("no room for it: the disk is full").then_some(why)
    });
    assert!(why.contains("free some space"), "{why}");
    node.ctl(&["task", "submit", "--kind", "noop", "--wait"]).with(0);
    assert_eq!(node.json(&["task", "get", &id])["attempts"], 0);
    fs::remove_file(filler).unwrap();
    succeeds_at_its_first_attempt(&node, &id);
    wait_until("it does not say so", || (own()["state"] == "alive" && own()["no_room"].is_null()).then_some(()));
}

#[test]
fn an_attempt_that_meets_a_full_disk_before_its_node_does_spends_nothing() {
    let Some((node, disk)) = node_on_a_small_disk() else { return };
    let filler = disk.fill();
    let ids = [submit(&node), submit(&node)];
    wait_until("it does not notice", || (node.json(&["worker", "ls"])["items"][0]["state"] == "no room").then_some(()));
    fs::remove_file(filler).unwrap();
    ids.iter().for_each(|id| succeeds_at_its_first_attempt(&node, id));
}

#[test]
fn outcomes_that_a_full_disk_does_not_take_reach_their_home_all_the_same() {
    const SLEEPERS: usize = 100;
    let home = Node::start_with_key("");
    let mut disk = None;
    let worker = Node::start_beside(&home, "labels = {disk = \"small\"}\n", |dir| {
        let config = fs::read_to_string(dir.join("node.toml")).unwrap();
        fs::write(dir.join("node.toml"), config.replace("slots = 2", "slots = 200")).unwrap();
        disk = SmallDisk::mount(&dir.join("data"));
    });
    let Some(disk) = disk else {
        println!("SKIPPED: this process may not mount a file system of its own; run it as root");
        return;
    };
    let task = json!({"kind": "sleep", "input": "4s", "requires": "label:disk"}).to_string() + "\n";
    let ids = home.ctl_with_stdin(&["task", "submit", "-", "-o", "json"], &task.repeat(SLEEPERS)).with(0).json_lines();
    let stats = || worker.json(&["worker", "ls"])["items"][0]["stats"].clone();
    wait_until("they do not run", || (stats()["running"] == SLEEPERS).then_some(()));
    disk.fill();
    home.signal(Signal::STOP);
    let said = wait_until("it does not say so", || {
        let shown = worker.ctl(&["status"]).with(0).stdout;
        shown.contains("wait for their homes and are kept in memory alone: cannot write the spool").then_some(shown)
    });
    home.signal(Signal::CONT);
    assert!(said.contains("the disk is full"), "{said}");
    for id in ids {
        let view = home.json(&["task", "wait", id["id"].as_str().unwrap()]);
        assert_eq!((&view["state"], &view["attempts"]), (&json!("succeeded"), &json!(1)), "{view}");
    }
    wait_until("it still says so", || stats()["spool_refuses"].is_null().then_some(()));
}
