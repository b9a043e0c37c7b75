//! `nodectl dev`: several nodes, one of which is killed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::{Ended, NODECTL, nodectl, signal, wait_until};

struct Dev {
    dir: TempDir,
    child: Child,
}

impl Drop for Dev {
    fn drop(&mut self) {
        // It ends its nodes; killed, it would leave them behind.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

impl Dev {
    fn start(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::start_in(dir, arguments)
    }

    /// Waits for `ready`.
    fn start_in(dir: TempDir, arguments: &[&str]) -> Self {
        let mut child = Command::new(NODECTL)
            .arg("dev")
            .args(arguments)
            .arg("--dir")
            .arg(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let first = BufReader::new(child.stdout.take().unwrap()).lines().next();
        let dev = Self { dir, child };
        assert_eq!(first.map(Result::unwrap).as_deref(), Some("ready"));
        dev
    }

    fn ctl(&self, number: u32, arguments: &[&str]) -> Ended {
        let socket = self.dir.path().join(format!("node-{number}/control.sock"));
        nodectl(&[&["--control", socket.to_str().unwrap()], arguments].concat())
    }

    fn status(&self, number: u32) -> Option<Value> {
        let ended = self.ctl(number, &["status", "-o", "json"]);
        (ended.code == Some(0)).then(|| ended.json())
    }

    fn pid(&self, number: u32) -> Pid {
        let text = fs::read_to_string(self.dir.path().join(format!("node-{number}/pid"))).unwrap();
        Pid::from_raw(text.trim().parse().unwrap()).unwrap()
    }

    fn kill(&self, number: u32) {
        kill_process(self.pid(number), Signal::KILL).unwrap();
    }

    /// Ends it as a person would.
    fn end(mut self, with: Signal) -> (TempDir, Option<i32>) {
        let pids: Vec<Pid> =
            (1..).take_while(|number| self.node(*number).exists()).map(|number| self.pid(number)).collect();
        signal(&self.child, with);
        let code = self.child.wait().unwrap().code();
        for pid in pids {
            assert!(test_kill_process(pid).is_err(), "node {pid:?} outlives dev");
        }
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap());
        (dir, code)
    }

    fn node(&self, number: u32) -> std::path::PathBuf {
        self.dir.path().join(format!("node-{number}/pid"))
    }
}

fn alive(status: &Value) -> usize {
    status["peers"].as_array().unwrap().iter().filter(|peer| peer["state"] == "alive").count()
}

#[test]
fn three_nodes_are_ready_when_each_sees_the_others_and_two_go_on_without_the_third() {
    let dev = Dev::start(&["3", "--slots", "2"]);
    for number in 1..=3 {
        let status = dev.status(number).unwrap();
        assert_eq!(alive(&status), 2, "{status:#}");
        assert_eq!(status["peers"][0]["slots_free"], 2);
        assert!(status["peers"][0]["rtt_ms"].is_number());
        let node = dev.dir.path().join(format!("node-{number}"));
        assert!(node.join("node.log").exists() && node.join("node.toml").exists());
    }
    let many = ["task", "submit", "--kind", "noop", "--count", "500", "--wait", "--timeout", "60s"];
    dev.ctl(1, &many).with(0);
    dev.kill(2);
    wait_until("the killed node is still seen alive", || dev.status(1).filter(|status| alive(status) == 1));
    assert_eq!(dev.ctl(2, &["status"]).code, Some(4));
    dev.ctl(3, &many).with(0);
    let run = dev.ctl(1, &["run", "examples/hello.yaml", "--wait", "--timeout", "60s", "-o", "json"]).with(0);
    assert_eq!(run.json()["state"], "succeeded");
    assert_eq!(dev.end(Signal::TERM).1, Some(0));
}

#[test]
fn a_node_that_ended_starts_again_on_its_data_if_it_was_asked_for() {
    let dev = Dev::start(&["2", "--restart"]);
    let before = dev.status(2).unwrap();
    let pid = dev.pid(2);
    dev.kill(2);
    wait_until("no other process is node 2", || (dev.pid(2) != pid).then_some(()));
    let after = wait_until("node 2 does not answer", || dev.status(2));
    assert_eq!(
        (&after["peer_id"], &after["ledger"], &after["listen"]),
        (&before["peer_id"], &before["ledger"], &before["listen"])
    );
    wait_until("the nodes do not meet again", || dev.status(1).filter(|status| alive(status) == 1));
}

#[test]
fn the_data_outlives_dev_and_the_addresses_stay() {
    let dev = Dev::start(&["2"]);
    let before = dev.status(1).unwrap();
    let id = dev.ctl(1, &["task", "submit", "--kind", "noop", "--wait", "-o", "json"]).with(0).json()["id"].clone();
    let (dir, code) = dev.end(Signal::INT);
    assert_eq!(code, Some(130));
    let dev = Dev::start_in(dir, &["2"]);
    let after = dev.status(1).unwrap();
    assert_eq!((&after["peer_id"], &after["listen"]), (&before["peer_id"], &before["listen"]));
    let task = dev.ctl(1, &["task", "get", id.as_str().unwrap(), "-o", "json"]).with(0).json();
    assert_eq!(task["state"], "succeeded");
}

#[test]
fn a_second_dev_on_the_same_directory_is_refused_and_harms_nothing() {
    let dev = Dev::start(&["1"]);
    let pid = dev.pid(1);
    let second = nodectl(&["dev", "1", "--dir", dev.dir.path().to_str().unwrap()]).with(6);
    assert!(second.stderr.contains("belongs to the running node with process id"), "{}", second.stderr);
    assert_eq!(dev.pid(1), pid);
    assert!(dev.status(1).is_some());
}

#[test]
fn a_node_that_does_not_come_up_is_told_with_the_end_of_its_log() {
    let dir = tempfile::tempdir().unwrap();
    make_unusable(dir.path());
    let ended = nodectl(&["dev", "1", "--dir", dir.path().to_str().unwrap()]).with(4);
    assert!(ended.stderr.contains("node-1 ended with exit code 2 before it was ready"), "{}", ended.stderr);
    assert!(ended.stderr.contains("node.toml:1: "), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
}

fn make_unusable(dir: &Path) {
    fs::create_dir(dir.join("node-1")).unwrap();
    fs::write(dir.join("node-1/node.toml"), "colour = 1\n").unwrap();
}

#[test]
fn the_key_of_the_cluster_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let dev = Dev::start(&["1"]);
    let mode = fs::metadata(dev.dir.path().join("cluster.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
