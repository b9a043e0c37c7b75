//! A real node on a disk that is full, read-only or broken, and one without file descriptors: what was accepted goes
//! on, what is new is refused with the reason and the remedy, the rest is answered, and nothing needs a restart.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use magpie::client::Client;
use magpie::messages::{Answer, Body, Role};
use magpie_core::ids::OperationId;
use magpie_core::limits;
use magpie_core::queue::{LedgerReply, LedgerRequest, SubmitAnswer, SubmitItem};
use magpie_core::task::{TaskKind, TaskSpec};
use rustix::io::Errno;
use rustix::process::Resource;
use serde_json::json;

use super::apart::apart;
use super::fuse::Mounted;
use super::node::{TestNode, wait_until};
use super::recorded::{Disk, Faults};

const MIB: u64 = 1024 * 1024;

fn mounted(bytes_max: Option<u64>) -> Option<Mounted> {
    let disk = Disk::new();
    disk.set(Faults { bytes_max, ..Faults::default() });
    Mounted::new(disk)
}

/// Others take all that is free.
fn fill(disk: &Disk) {
    let (all, others_bytes) = disk.room();
    disk.set(Faults { bytes_max: Some(all), others_bytes, ..Faults::default() });
}

/// Writes more than the write-ahead log was given room for beforehand, so that the log asks the disk for some.
fn ask_for_room(node: &TestNode) {
    let input = format!("\"{}\"", "x".repeat(50_000));
    node.ctl(&["task", "submit", "--kind", "noop", "--input", &input, "--count", "400", "--timeout", "5s"]);
}

/// Submits until the node says no; it does after at most a few.
fn until_refused(node: &TestNode) -> String {
    wait_until("the node refuses no submission", || {
        let ended = node.ctl(&["task", "submit", "--kind", "noop", "--timeout", "200ms"]);
        (ended.code == Some(6)).then_some(ended.stderr)
    })
}

fn until_accepted(node: &TestNode) -> String {
    wait_until("the node takes no submission", || {
        let ended = node.ctl(&["-o", "json", "task", "submit", "--kind", "noop"]);
        (ended.code == Some(0)).then(|| ended.json()["id"].as_str().unwrap().to_owned())
    })
}

fn until_succeeded(node: &TestNode, id: &str) {
    wait_until("the task does not succeed", || {
        // Before the disk takes its end, nothing is said of it.
        let ended = node.ctl(&["-o", "json", "task", "get", id]);
        (ended.code == Some(0) && ended.json()["state"] == "succeeded").then_some(())
    });
}

/// What must be answered whatever the disk does.
fn everything_else_answers(node: &TestNode, known: &str) {
    node.ctl(&["status"]).with(0);
    let listed = node.json(&["task", "ls"]);
    assert!(listed["items"].as_array().unwrap().iter().any(|item| item["id"] == known), "{listed}");
    assert_eq!(node.state(known), "succeeded");
    for answered in [
        &["workflow", "ls"][..],
        &["dlq", "ls"],
        &["queue", "stats"],
        &["worker", "ls"],
        &["peer", "ls"],
        &["actor", "ls"],
        &["clock", "show"],
    ] {
        let ended = node.ctl(answered);
        assert_eq!(ended.code, Some(0), "{answered:?}: {ended:#?}");
    }
}

fn nothing_was_restarted(node: &TestNode) {
    let log = node.log();
    assert!(!log.contains("actor ended"), "{log}");
}

#[test]
fn a_full_disk_refuses_new_work_in_words_and_commits_what_runs() {
    apart("node_faults::a_full_disk_refuses_new_work_in_words_and_commits_what_runs", || {
        let Some(mounted) = mounted(Some(640 * MIB)) else { return };
        let node = TestNode::start(&mounted.path("data"));
        let known = node.submit(&["--kind", "noop"]);
        until_succeeded(&node, &known);
        let running = node.submit(&["--kind", "sleep", "--input", "\"2s\""]);
        fill(&mounted.disk);
        ask_for_room(&node);
        let refused = until_refused(&node);
        assert!(refused.contains("the disk is full") && refused.contains("free some space"), "{refused}");
        everything_else_answers(&node, &known);
        let status = node.json(&["status"]);
        assert_eq!(status["disk"]["state"], "spares", "{status}");
        until_succeeded(&node, &running);
        mounted.disk.set(Faults::default());
        let after = until_accepted(&node);
        until_succeeded(&node, &after);
        assert_eq!(node.json(&["status"])["disk"]["state"], "takes");
        nothing_was_restarted(&node);
    });
}

#[test]
fn a_node_starts_and_answers_on_a_full_disk() {
    apart("node_faults::a_node_starts_and_answers_on_a_full_disk", || {
        let Some(mounted) = mounted(Some(640 * MIB)) else { return };
        let mut node = TestNode::start(&mounted.path("data"));
        let known = node.submit(&["--kind", "noop"]);
        until_succeeded(&node, &known);
        node.kill();
        fill(&mounted.disk);
        node.start_again();
        node.until_it_answers();
        ask_for_room(&node);
        let refused = until_refused(&node);
        assert!(refused.contains("the disk is full"), "{refused}");
        everything_else_answers(&node, &known);
        mounted.disk.set(Faults::default());
        let after = until_accepted(&node);
        until_succeeded(&node, &after);
        nothing_was_restarted(&node);
    });
}

/// A node that may write nothing between `breaks` and `mends` takes no work meanwhile, and says so with `words`.
fn nothing_is_written(data: &Path, words: &[&str], breaks: impl FnOnce(&TestNode), mends: impl FnOnce(&TestNode)) {
    let node = TestNode::start(data);
    let known = node.submit(&["--kind", "noop"]);
    until_succeeded(&node, &known);
    let running = node.submit(&["--kind", "sleep", "--input", "\"1s\""]);
    wait_until("the task does not start", || (node.state(&running) == "running").then_some(()));
    breaks(&node);
    // The first one is decided before the disk is tried: its sender is told to ask again.
    node.ctl(&["task", "submit", "--kind", "noop", "--timeout", "1s"]);
    let refused = until_refused(&node);
    assert!(words.iter().all(|words| refused.contains(words)), "{refused}");
    everything_else_answers(&node, &known);
    let status = node.json(&["status"]);
    assert_eq!(status["disk"]["state"], "refuses", "{status}");
    // Longer than the task runs and a lease lives.
    std::thread::sleep(Duration::from_secs(12));
    everything_else_answers(&node, &known);
    mends(&node);
    until_succeeded(&node, &running);
    assert_eq!(node.json(&["task", "get", &running])["attempts"], json!(1), "it ran once");
    let after = until_accepted(&node);
    until_succeeded(&node, &after);
    nothing_was_restarted(&node);
}

fn a_disk_that_takes_nothing(errno: Errno, words: &[&str]) {
    let Some(mounted) = mounted(None) else { return };
    let breaks = |_: &TestNode| mounted.disk.set(Faults { all: Some(errno), ..Faults::default() });
    let mends = |_: &TestNode| mounted.disk.set(Faults::default());
    nothing_is_written(&mounted.path("data"), words, breaks, mends);
}

#[test]
fn a_disk_that_fails_takes_no_new_work_and_goes_on_when_it_is_mended() {
    apart("node_faults::a_disk_that_fails_takes_no_new_work_and_goes_on_when_it_is_mended", || {
        a_disk_that_takes_nothing(Errno::IO, &["Input/output error", "dmesg"]);
    });
}

#[test]
fn a_disk_that_became_read_only_is_named_so_and_goes_on_when_it_is_writable() {
    apart("node_faults::a_disk_that_became_read_only_is_named_so_and_goes_on_when_it_is_writable", || {
        a_disk_that_takes_nothing(Errno::ROFS, &["the disk is read-only", "make its file system writable again"]);
    });
}

#[test]
fn a_limit_on_the_size_of_files_is_named_so_and_ends_no_node() {
    let dir = tempfile::tempdir().unwrap();
    let words = ["a file would be larger than this process may make one", "ulimit -f"];
    let limit = |bytes_max| move |node: &TestNode| assert_ne!(node.limit(Resource::Fsize, bytes_max), bytes_max);
    nothing_is_written(&dir.path().join("data"), &words, limit(Some(4_096)), limit(None));
}

#[test]
fn a_node_without_file_descriptors_turns_clients_away_in_words_and_answers_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let node = TestNode::start(&dir.path().join("data"));
    let known = node.submit(&["--kind", "noop"]);
    until_succeeded(&node, &known);
    let running = node.submit(&["--kind", "sleep", "--input", "\"2s\""]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let connect = || runtime.block_on(Client::connect(&node.socket(), "tests", Role::Operator)).unwrap();
    let client = connect();
    let ask = |request| runtime.block_on(client.ask(Body::Ledger(request), Duration::from_secs(10)));
    let submit = |kind| {
        let item = SubmitItem { spec: Arc::new(TaskSpec::new(kind)), count: 1 };
        let submitted = ask(LedgerRequest::Submit { operation: OperationId(rand::random()), items: vec![item] });
        let Answer::Ledger(LedgerReply::Submitted { answers }) = submitted.unwrap() else { panic!("it is an answer") };
        let [SubmitAnswer::Accepted { id }] = answers[..] else { panic!("it is accepted: {answers:?}") };
        id.to_string()
    };
    let before = node.limit(Resource::Nofile, Some(node.open_files()));
    // What was still open of earlier clients is free again by now.
    let _taking_those: Vec<_> = (0..8).map(|_| connect()).collect();
    for _ in 0..3 {
        let refused = node.ctl(&["task", "submit", "--kind", "noop", "--timeout", "200ms"]);
        assert_eq!(refused.code, Some(6), "{}", refused.stdout);
        assert!(
            refused.stderr.contains("no file descriptor left") && refused.stderr.contains("ulimit -n"),
            "{}",
            refused.stderr
        );
    }
    assert!(node.log().contains("turns clients away for now"));
    let told = node.ctl(&["doctor"]);
    assert!(
        told.code == Some(1) && told.stdout.contains("takes no client: this node has no file descriptor left"),
        "{told:?}"
    );
    let meanwhile = submit(TaskKind::Noop);
    node.limit(Resource::Nofile, before);
    node.until_it_answers();
    until_succeeded(&node, &meanwhile);
    until_succeeded(&node, &running);
    let after = until_accepted(&node);
    until_succeeded(&node, &after);
    everything_else_answers(&node, &known);
    nothing_was_restarted(&node);
}

#[test]
fn a_node_with_all_the_clients_that_it_takes_turns_the_next_away_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let node = TestNode::start(&dir.path().join("data"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let connect = || runtime.block_on(Client::connect(&node.socket(), "tests", Role::Agent)).unwrap();
    let clients: Vec<_> = (0..limits::SESSIONS_MAX).map(|_| connect()).collect();
    let told = wait_until("every client finds a place", || {
        let refused = node.ctl(&["task", "submit", "--kind", "noop", "--timeout", "200ms"]);
        (refused.code != Some(0)).then_some(refused.stderr)
    });
    assert!(told.contains(&format!("{} control connections are open", limits::SESSIONS_MAX)), "{told}");
    drop(clients);
    node.until_it_answers();
}
