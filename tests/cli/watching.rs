//! `--watch`: what changes is printed, and nothing else.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::fixture::{Node, nodectl};

#[test]
fn each_change_is_printed_once_and_a_node_that_restarts_is_waited_for() {
    let mut node = Node::start();
    let mut command = node.command(&["queue", "stats", "--watch", "-o", "json"]);
    let mut watch = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut printed = Vec::new();
    let mut until = |what: &dyn Fn(&Value) -> bool| loop {
        printed.push(lines.next().unwrap());
        if what(&serde_json::from_str(&printed[printed.len() - 1]).unwrap()) {
            return;
        }
    };
    until(&|stats| stats["ready"] == 0);
    node.json(&["task", "submit", "--kind", "noop", "--requires", "label.role == \"nobody\""]);
    until(&|stats| stats["ready"] == 1);
    let mut errors = BufReader::new(watch.stderr.take().unwrap()).lines().map(Result::unwrap);
    node.kill();
    let said = errors.next().unwrap();
    assert!(said.ends_with("; trying again"), "{said}");
    node.start_again();
    until(&|stats| stats["generation"] == 2 && stats["ready"] == 1);
    watch.kill().unwrap();
    watch.wait().unwrap();
    printed.extend(lines);
    assert!(printed.windows(2).all(|two| two[0] != two[1]), "nothing is printed twice: {printed:#?}");
}

#[test]
fn what_changes_something_is_not_done_again_and_again() {
    let node = Node::start();
    for words in [&["task", "submit", "--kind", "noop"][..], &["queue", "pause"], &["worker", "drain"], &["doctor"]] {
        let told = node.ctl(&[words, &["--watch"]].concat()).with(2).stderr;
        assert!(told.starts_with("nodectl: --watch is for what shows something and changes nothing"), "{told}");
    }
    assert_eq!(node.json(&["task", "ls"])["items"], json!([]));
}

#[test]
fn a_first_look_that_fails_ends_it() {
    let node = Node::start();
    assert_eq!(node.ctl(&["peer", "get", "12D3KooWnobody", "--watch"]).code, Some(3));
    let nowhere = nodectl(&["--control", "/nowhere/control.sock", "status", "--watch"]);
    assert_eq!(nowhere.code, Some(4));
}
