//! `--wait`: ends, time outs, Ctrl-C, and nodes that are away meanwhile.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::fixture::{Ended, Node, signal, wait_until};

fn piped(node: &Node, arguments: &[&str]) -> Child {
    node.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn ended(child: Child) -> Ended {
    child.wait_with_output().unwrap().into()
}

/// The task that runs now.
fn running(node: &Node) -> String {
    wait_until("no task runs", || {
        let tasks = node.json(&["task", "ls", "--state", "running"]);
        tasks["items"][0]["id"].as_str().map(str::to_owned)
    })
}

#[test]
fn the_outcome_is_the_exit_code() {
    let node = Node::start();
    let ok = ["task", "submit", "--kind", "process", "--wait", "-o", "json", "--", "true"];
    assert_eq!(node.ctl(&ok).with(0).json()["state"], "succeeded");
    let file =
        node.file("fails.yaml", "kind: process\nrun: [sh, -c, 'echo no >&2; exit 3']\nretry: {max_attempts: 1}\n");
    for submit in [&["task", "submit"][..], &["run"]] {
        let failed = node.ctl(&[submit, &[&file, "--wait", "--timeout", "60s", "-o", "json"]].concat()).with(1);
        let task = failed.json();
        assert!(["failed", "dead"].contains(&task["state"].as_str().unwrap()), "{task:#}");
        assert_eq!((&task["attempts"], &task["log_tail"]), (&json!(1), &json!("no\n")));
        let id = task["id"].as_str().unwrap();
        node.ctl(&["task", "wait", id]).with(1);
        let told = node.ctl(&["task", "result", id]).with(1).stderr;
        assert!(told.contains("has no output, it is"), "{told}");
    }
}

#[test]
fn a_workflow_that_fails_is_exit_code_1_with_the_document() {
    let node = Node::start();
    let workflow = "name: w\nsteps:\n  - {name: a, kind: process, run: ['false'], retry: {max_attempts: 1}}\n  \
                    - {name: b, kind: noop, needs: [a]}\n";
    let file = node.file("w.yaml", workflow);
    let run = node.ctl(&["run", &file, "--wait", "--timeout", "60s", "-o", "json"]).with(1).json();
    assert_eq!(run["state"], "failed");
    assert_eq!(run["outputs"], json!({}));
    assert_eq!(run["steps"][1]["state"], "skipped");
    assert!(run["steps"][0]["error"]["code"].is_string(), "{run:#}");
    let told = node.ctl(&["workflow", "result", run["id"].as_str().unwrap()]).with(1).stderr;
    assert!(told.contains("has no outputs, it is failed"), "{told}");
}

#[test]
fn after_a_time_out_the_task_goes_on_and_its_id_is_told() {
    let node = Node::start();
    let sleep = ["task", "submit", "--kind", "sleep", "--input", "{\"for\": \"10m\"}"];
    let out = node.ctl(&[&sleep[..], &["--wait", "--timeout", "300ms"]].concat()).with(5);
    let id = running(&node);
    assert_eq!(out.stderr, format!("nodectl: {id} has not ended within the timeout; it goes on\n"));
    assert!(node.ctl(&["task", "result", &id]).with(5).stderr.contains("it has no output yet"));
    // Cancelled while somebody waits for it.
    let waiting = piped(&node, &["task", "wait", &id, "-o", "json"]);
    assert_eq!(node.json(&["task", "cancel", &id, "--reason", "enough"])["state"], "cancelled");
    let waited = ended(waiting).with(1);
    assert_eq!(waited.json()["state"], "cancelled");
}

#[test]
fn who_waits_for_what_no_node_can_run_is_told_why_nothing_happens() {
    let node = Node::start();
    let mut waiting =
        piped(&node, &["task", "submit", "--kind", "noop", "--requires", "label.zone == \"moon\"", "--wait"]);
    let mut told = String::new();
    BufReader::new(waiting.stderr.take().unwrap()).read_line(&mut told).unwrap();
    assert!(told.contains(" waits: no known node meets its requirements; see `nodectl task why-pending "), "{told}");
    waiting.kill().unwrap();
    waiting.wait().unwrap();
}

#[test]
fn after_ctrl_c_the_workflow_goes_on_and_its_id_is_told() {
    let node = Node::start();
    let file = node.file("w.yaml", "name: w\nsteps:\n  - {name: a, kind: sleep, input: {for: 10m}}\n");
    let run = piped(&node, &["run", &file, "--wait"]);
    running(&node);
    signal(&run, Signal::INT);
    let ended = ended(run).with(130);
    let id = node.json(&["workflow", "ls", "--state", "running"])["items"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(ended.stderr, format!("nodectl: interrupted; workflow {id} goes on\n"));
    assert_eq!(node.json(&["workflow", "cancel", &id[..20]])["state"], "cancelled");
    assert_eq!(node.json(&["workflow", "get", &id])["state"], "cancelled");
}

#[test]
fn what_has_ended_is_not_cancelled() {
    let node = Node::start();
    let id = node.json(&["task", "submit", "--kind", "noop", "--wait"])["id"].clone();
    let ended = node.ctl(&["task", "cancel", id.as_str().unwrap()]).with(6);
    assert!(ended.stderr.contains("succeeded"), "{}", ended.stderr);
}

#[test]
fn a_wait_outlives_the_node() {
    let mut node = Node::start();
    let file = node.file("w.yaml", "name: w\nsteps:\n  - {name: a, kind: sleep, input: {for: 3s}}\n");
    let run = piped(&node, &["run", &file, "--wait", "--timeout", "60s", "-o", "json"]);
    running(&node);
    node.kill();
    node.start_again();
    assert_eq!(ended(run).with(0).json()["state"], "succeeded");
}

#[test]
fn a_submission_waits_for_a_node_that_starts() {
    let mut node = Node::start();
    node.kill();
    let submit = piped(&node, &["task", "submit", "--kind", "noop", "--wait", "--timeout", "60s", "-o", "json"]);
    node.start_again();
    assert_eq!(ended(submit).with(0).json()["state"], "succeeded");
    assert_eq!(node.json(&["status"])["queue"]["submitted"], 1, "it was submitted once");
}

#[test]
fn a_stream_outlives_the_node_and_nothing_is_submitted_twice() {
    let mut node = Node::start();
    // Never run: what is counted is what was submitted.
    let many = ["task", "submit", "--kind", "noop", "--requires", "gpu.vram >= 1GiB", "--count", "200000"];
    let mut submit = piped(&node, &many);
    let mut lines = BufReader::new(submit.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut ids: BTreeSet<String> = lines.by_ref().take(1).collect();
    node.kill();
    node.start_again();
    ids.extend(lines);
    let ended = ended(submit).with(0);
    assert_eq!(ids.len(), 200_000, "{ended:?}");
    assert_eq!(node.json(&["status"])["queue"]["submitted"], 200_000);
    assert_eq!(node.json(&["task", "get", ids.last().unwrap()])["state"], "ready");
}

#[test]
fn a_line_that_comes_while_the_node_is_away_is_submitted_when_it_is_back() {
    let mut node = Node::start();
    let mut submit = node.command(&["task", "submit", "-"]);
    let submit = submit.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut submit = submit.spawn().unwrap();
    let (mut lines, told) = (submit.stdin.take().unwrap(), submit.stderr.take().unwrap());
    let mut told = BufReader::new(told).lines().map(Result::unwrap);
    lines.write_all(b"{\"kind\": \"noop\"}\n").unwrap();
    wait_until("the first is not there", || (node.json(&["status"])["queue"]["submitted"] == 1).then_some(()));
    node.kill();
    lines.write_all(b"{\"kind\": \"noop\"}\n").unwrap();
    let away = told.next();
    assert!(away.as_ref().is_some_and(|line| line.ends_with("; trying again")), "{away:?}");
    node.start_again();
    drop(lines);
    let ended = ended(submit).with(0);
    assert_eq!(ended.stdout.lines().collect::<BTreeSet<_>>().len(), 2, "{ended:?}");
    assert_eq!(node.json(&["status"])["queue"]["submitted"], 2);
}

#[test]
fn ctrl_c_is_heard_while_standard_input_is_awaited() {
    let node = Node::start();
    for arguments in [["run", "-"].as_slice(), &["task", "submit", "-"]] {
        let mut child = node.command(arguments).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Before it listens for signals, one ends it as it would end any program.
        let status = wait_until("it does not end", || {
            let _ = kill_process(Pid::from_child(&child), Signal::INT);
            child.try_wait().unwrap()
        });
        assert!(status.code().is_none_or(|code| code == 130), "{status:?}");
    }
}

#[test]
fn a_node_that_does_not_come_back_is_exit_code_4() {
    let mut node = Node::start();
    let sleep = ["task", "submit", "--kind", "sleep", "--input", "{\"for\": \"10m\"}", "-o", "json"];
    let id = node.ctl(&sleep).with(0).json()["id"].as_str().unwrap().to_owned();
    let wait = piped(&node, &["task", "wait", &id, "--timeout", "3s"]);
    node.kill();
    let ended = ended(wait).with(4);
    assert!(ended.stderr.contains("no node listens on"), "{}", ended.stderr);
    assert!(ended.stderr.ends_with(&format!("; task {id} goes on\n")), "{}", ended.stderr);
}
