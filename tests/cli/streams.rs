//! Many tasks at once: one object a line, in order.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::sync::mpsc;

use serde_json::json;

use crate::fixture::{Node, PATIENCE};

#[test]
fn a_thousand_tasks_have_a_thousand_ids_and_ends() {
    let node = Node::start();
    let arguments = ["task", "submit", "--kind", "noop", "--count", "1000", "--wait", "--timeout", "60s", "-o", "json"];
    let lines = node.ctl(&arguments).with(0).json_lines();
    let ids: BTreeSet<&str> = lines.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!((lines.len(), ids.len()), (1_000, 1_000));
    let queue = &node.json(&["status"])["queue"];
    assert_eq!((&queue["succeeded"], &queue["submitted"]), (&json!(1_000), &json!(1_000)));
}

#[test]
fn more_than_one_request_holds_is_sent_in_several() {
    let node = Node::start();
    let arguments = ["task", "submit", "--kind", "noop", "--count", "25000", "--durability", "memory"];
    let printed = node.ctl(&arguments).with(0);
    assert_eq!(printed.stdout.lines().collect::<BTreeSet<_>>().len(), 25_000);
}

#[test]
fn a_refused_line_is_told_with_its_number_and_the_others_are_taken() {
    let node = Node::start();
    let lines = [
        r#"{"kind": "noop"}"#,
        "",
        r#"{"kind": "noop", "colour": "red"}"#,
        r#"{"kind": "noop", "durability": "memory"}"#,
        "{",
        r#"{"kind": "noop", "requires": "gpu.vram >="}"#,
        r#"{"kind": "noop"}"#,
    ];
    let ended = node.ctl_with_stdin(&["task", "submit", "-", "-o", "json"], &lines.join("\n")).with(2);
    let told = ended.json_lines();
    assert_eq!(told.len(), 6, "{told:#?}");
    for taken in [0, 2, 5] {
        assert!(told[taken]["id"].is_string(), "{told:#?}");
    }
    for (place, line) in [(1, 3), (3, 5), (4, 6)] {
        assert_eq!(told[place]["line"], line);
        assert!(told[place]["error"].is_string(), "{told:#?}");
    }
    assert!(told[1]["error"].as_str().unwrap().contains("/colour"), "{told:#?}");
    assert_eq!(node.json(&["status"])["queue"]["submitted"], 3);
    let people = node.ctl_with_stdin(&["task", "submit", "-"], &lines.join("\n")).with(2);
    assert_eq!(people.stdout.lines().count(), 3, "ids only: {people:#?}");
    assert!(people.stderr.starts_with("nodectl: line 3: /colour: "), "{people:#?}");
}

#[test]
fn a_used_idempotency_key_is_refused_with_exit_code_6() {
    let node = Node::start();
    let lines = "{\"kind\": \"noop\", \"idempotency_key\": \"k\"}\n\
                 {\"kind\": \"noop\", \"idempotency_key\": \"k\", \"priority\": 3}\n";
    let first = node.ctl_with_stdin(&["task", "submit", "-", "-o", "json"], lines.lines().next().unwrap()).with(0);
    let ended = node.ctl_with_stdin(&["task", "submit", "-", "-o", "json"], lines).with(6);
    let told = ended.json_lines();
    assert_eq!(told[0], first.json(), "the same specification is the same task");
    assert_eq!(told[1]["line"], 2);
    assert!(told[1]["error"].as_str().unwrap().contains("idempotency key"), "{told:#?}");
}

#[test]
fn the_durability_of_the_command_line_wins() {
    let node = Node::start();
    let file = node.file("task.yaml", "kind: noop\ndurability: sync\n");
    let id = node.json(&["task", "submit", &file, "--durability", "memory"])["id"].clone();
    assert_eq!(node.json(&["task", "get", id.as_str().unwrap()])["durability"], "memory");
    let lines =
        node.ctl_with_stdin(&["task", "submit", "-", "--durability", "async"], "{\"kind\": \"noop\"}\n").with(0);
    assert_eq!(node.json(&["task", "get", lines.stdout.trim()])["durability"], "async");
}

#[test]
fn tasks_that_fail_are_named_after_the_wait() {
    let node = Node::start();
    let lines =
        "{\"kind\": \"noop\"}\n{\"kind\": \"process\", \"run\": [\"false\"], \"retry\": {\"max_attempts\": 1}}\n";
    let ended = node.ctl_with_stdin(&["task", "submit", "-", "--wait", "--timeout", "60s"], lines).with(1);
    let ids: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(ids.len(), 2);
    assert!(ended.stderr.starts_with("nodectl: 1 of 2 tasks did not succeed:\n"), "{}", ended.stderr);
    assert!(ended.stderr.contains(ids[1]), "{}", ended.stderr);
}

#[test]
fn ids_are_printed_while_more_lines_may_come() {
    let node = Node::start();
    let arguments = ["task", "submit", "-", "-o", "json"];
    let mut child = node.command(&arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut typed, printed) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let (seen, lines) = mpsc::sync_channel(16);
    let reading = std::thread::spawn(move || printed.lines().for_each(|line| seen.send(line.unwrap()).unwrap()));
    for _ in 0..3 {
        // The second half of a line holds back nothing of the lines before it.
        typed.write_all(b"{\"kind\": \"noop\"}\n{\"kind\":").unwrap();
        assert!(lines.recv_timeout(PATIENCE).expect("the first line is answered").contains("\"id\""));
        typed.write_all(b" \"noop\"}\n{\n").unwrap();
        assert!(lines.recv_timeout(PATIENCE).expect("and the second").contains("\"id\""));
        assert!(lines.recv_timeout(PATIENCE).expect("and the third").contains("not a line of JSON"));
    }
    drop(typed);
    assert_eq!(child.wait().unwrap().code(), Some(2));
    reading.join().unwrap();
    assert_eq!(node.json(&["status"])["queue"]["submitted"], 6);
}
