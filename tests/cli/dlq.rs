//! Dead letters, retries, and a queue that is paused and cleared, as a person meets them.

use serde_json::{Value, json};

use crate::fixture::{Ended, Node};

/// A process that fails and is not tried again.
const DIES: &str =
    "kind: process\nrun: [sh, -c, 'echo went wrong >&2; exit 3']\ninput: {a: 1}\nretry: {max_attempts: 1}\n";

fn dies(node: &Node) -> String {
    let file = node.file("dies.yaml", DIES);
    let ended = node.ctl(&["task", "submit", &file, "--wait", "-o", "json"]).with(1);
    assert_eq!(ended.json()["state"], "dead");
    text(&ended.json()["id"])
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value}")).to_owned()
}

fn items(document: &Value) -> &Vec<Value> {
    document["items"].as_array().unwrap()
}

#[test]
fn a_dead_task_is_listed_shown_retried_once_and_leaves_the_queue() {
    let node = Node::start();
    let id = dies(&node);
    let listed = node.json(&["dlq", "ls"]);
    let letter = &items(&listed)[0];
    assert_eq!((&letter["id"], &letter["kind"], &letter["attempts"]), (&json!(id), &json!("process"), &json!(1)));
    assert_eq!((&letter["namespace"], &letter["error"]["code"]), (&json!("default"), &json!("exit_status")));
    assert!(letter["dead_at"].as_str().unwrap().ends_with('Z'));
    let shown = node.json(&["dlq", "show", &id]);
    assert_eq!((&shown["spec"]["input"], &shown["spec"]["run"][0]), (&json!({"a": 1}), &json!("sh")));
    assert!(shown["log_tail"].as_str().unwrap().contains("went wrong"), "{shown:#}");
    let table = node.ctl(&["dlq", "show", &id]).with(0).stdout;
    assert!(table.contains("specification:") && table.contains("went wrong"), "{table}");
    let retried = node.json(&["task", "retry", &id]);
    assert_eq!(retried["retry_of"], json!(id));
    assert_eq!(node.json(&["task", "retry", &id]), retried, "a second retry is the first");
    assert_eq!(node.json(&["task", "get", &id])["retried_by"], retried["id"]);
    let new = node.ctl(&["task", "wait", &text(&retried["id"]), "-o", "json"]).with(1).json();
    assert_eq!((&new["retry_of"], &new["state"]), (&json!(id), &json!("dead")));
    let left = node.json(&["dlq", "ls"]);
    assert_eq!((items(&left).len(), &items(&left)[0]["id"]), (1, &retried["id"]));
    let told = node.ctl(&["dlq", "show", &text(&node.json(&["task", "submit", "--kind", "noop", "--wait"])["id"])]);
    assert!(told.with(6).stderr.contains("is succeeded: only dead tasks stand in the dead-letter queue"));
}

#[test]
fn all_dead_tasks_are_retried_and_purged_at_once() {
    let node = Node::start();
    let ids = [dies(&node), dies(&node)];
    let none = node.ctl(&["dlq", "retry", "--all", "--namespace", "other", "-o", "json"]).with(0);
    assert_eq!(none.stdout, "");
    let retried: Vec<Value> = node.ctl(&["dlq", "retry", "--all", "-o", "json"]).with(0).json_lines();
    let of: Vec<&str> = retried.iter().map(|line| line["retry_of"].as_str().unwrap()).collect();
    assert_eq!(of, ids);
    for line in &retried {
        node.ctl(&["task", "wait", &text(&line["id"])]).with(1);
    }
    let told = node.ctl(&["dlq", "purge", "--older-than", "0ms"]).with(2).stderr;
    assert!(told.contains("removes 2 dead tasks for good") && told.contains("--confirm"), "{told}");
    assert_eq!(items(&node.json(&["dlq", "ls"])).len(), 2, "nothing was changed");
    let purged = node.json(&["dlq", "purge", "--older-than", "0ms", "--confirm"]);
    assert_eq!(purged, json!({"purged": 2}));
    assert!(items(&node.json(&["dlq", "ls"])).is_empty());
    let gone = node.ctl(&["task", "get", &text(&retried[0]["id"])]).with(3);
    assert!(gone.stderr.contains("is not kept any more"), "{}", gone.stderr);
    assert_eq!(node.json(&["status"])["queue"]["dead"], 4, "the counters go on counting them");
    // Of the first ones, retried and so not among the dead letters, each may still be purged by its id.
    let purged = node.json(&["dlq", "purge", &ids[0], "--confirm"]);
    assert_eq!(purged, json!({"purged": 1}));
}

#[test]
fn a_refused_retry_says_why_and_does_the_others() {
    let node = Node::start();
    let dead = dies(&node);
    let done = text(&node.json(&["task", "submit", "--kind", "noop", "--wait"])["id"]);
    let told = node.ctl(&["task", "retry", &done]).with(6).stderr;
    assert_eq!(
        told,
        format!("nodectl: {done} cannot be retried: it succeeded, and its result stays; submit a new task\n")
    );
    let mixed: Ended = node.ctl(&["dlq", "retry", &done, &dead, "-o", "json"]).with(6);
    let lines = mixed.json_lines();
    assert!(lines[0]["error"].as_str().unwrap().contains("cannot be retried") && lines[1]["retry_of"] == json!(dead));
    for arguments in [&["dlq", "retry"][..], &["dlq", "purge", "--confirm"], &["dlq", "retry", &dead, "--all"]] {
        node.ctl(arguments).with(2);
    }
}

#[test]
fn a_paused_queue_waits_across_a_restart_and_is_cleared_or_resumed() {
    let mut node = Node::start();
    let paused = node.json(&["queue", "pause", "--reason", "upgrade"]);
    assert_eq!((&paused["queue_version"], &paused["paused"][0]["reason"]), (&json!(1), &json!("upgrade")));
    let stale = node.ctl(&["queue", "resume", "--if-version", "0"]).with(6).stderr;
    assert!(stale.contains("the queue has changed: it is at version 1 now"), "{stale}");
    let waiting = text(&node.json(&["task", "submit", "--kind", "noop"])["id"]);
    node.kill();
    node.start_again();
    node.until_it_answers();
    let why = node.json(&["task", "why-pending", &waiting])["reason"].clone();
    assert!(text(&why).starts_with("the queue is paused since ") && text(&why).contains("(upgrade)"), "{why}");
    assert_eq!(node.json(&["queue", "stats"])["paused"][0]["namespace"], Value::Null);
    let told = node.ctl(&["queue", "clear"]).with(2).stderr;
    assert!(told.contains("among 1 waiting ones; add --confirm"), "{told}");
    let cleared = node.json(&["queue", "clear", "--confirm"]);
    assert_eq!((&cleared["tasks"], &cleared["workflows"]), (&json!(1), &json!(0)));
    assert_eq!(node.json(&["task", "get", &waiting])["state"], "cancelled");
    let next = text(&node.json(&["task", "submit", "--kind", "noop"])["id"]);
    assert_eq!(node.ctl(&["queue", "resume"]).with(0).stdout, "nothing is paused\n");
    node.ctl(&["task", "wait", &next]).with(0);
}

#[test]
fn a_paused_namespace_is_shown_to_people_and_hides_no_other() {
    let node = Node::start();
    let table = node.ctl(&["queue", "pause", "--namespace", "batch"]).with(0).stdout;
    assert!(table.starts_with("PAUSED NAMESPACE") && table.contains("batch"), "{table}");
    node.ctl(&["task", "submit", "--kind", "noop", "--wait"]).with(0);
    let file = node.file("batch.yaml", "kind: noop\nnamespace: batch\n");
    let id = text(&node.json(&["task", "submit", &file])["id"]);
    node.ctl(&["task", "wait", &id, "--timeout", "300ms"]).with(5);
    let stats = node.ctl(&["queue", "stats"]).with(0).stdout;
    assert!(stats.contains("PAUSED NAMESPACE") && stats.contains("kept"), "{stats}");
}

#[test]
fn a_submission_goes_to_the_home_that_it_names_or_to_none() {
    let node = Node::start();
    let status = node.json(&["status"]);
    for home in [text(&status["ledger"]), text(&status["ledger"])[..8].to_owned(), text(&status["peer_id"])] {
        let id = text(&node.json(&["task", "submit", "--kind", "noop", "--home", &home])["id"]);
        assert!(id.ends_with(&text(&status["ledger"])[..8]));
    }
    let told =
        node.ctl(&["task", "submit", "--kind", "noop", "--home", "nowhere", "--timeout", "300ms"]).with(2).stderr;
    assert!(told.contains("names no home"), "{told}");
    let away = node.ctl(&["task", "submit", "--kind", "noop", "--home", "aaaaaaaa", "--timeout", "300ms"]).with(4);
    assert!(away.stderr.contains("the home aaaaaaaa cannot be reached"), "{}", away.stderr);
    assert_eq!(node.json(&["status"])["queue"]["submitted"], 3, "nothing went elsewhere");
}
