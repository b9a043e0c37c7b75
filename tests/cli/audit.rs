//! `nodectl audit`: calls of tools, by whichever door, kept over the node's end.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::fixture::{Node, wait_until};

fn calls(node: &Node, arguments: &[&str]) -> Vec<Value> {
    node.json(&[&["audit"], arguments].concat())["items"].as_array().unwrap().clone()
}

/// Calls over a `node-mcp` of its own, answered before it ends.
fn over_node_mcp(node: &Node, tools: &[&str]) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_node-mcp"))
        .arg("--control")
        .arg(node.socket())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    for (id, tool) in tools.iter().enumerate() {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "wire", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let params = json!({"name": tool, "arguments": {"secret": "s3"}, "_meta": meta});
        writeln!(stdin, "{}", json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})).unwrap();
        answers.next().unwrap().unwrap();
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn calls_by_every_door_are_kept_over_a_kill_and_found_by_what_they_were() {
    let mut node = Node::start();
    assert_eq!(node.json(&["audit"]), json!({"items": [], "more": false}));
    assert_eq!(node.ctl(&["audit"]).with(0).stdout, "no calls\n");
    over_node_mcp(&node, &["list_peers", "tools_list_categories", "no_such_tool_at_all"]);
    node.ctl(&["tool", "call", "task_submit", r#"{"kind": "noop"}"#]).with(0);
    node.ctl(&["tool", "call", "queue_pause"]).with(6);
    let five = || Some(calls(&node, &[])).filter(|calls| calls.len() == 5);
    let before = wait_until("the calls are not in the audit", five);
    let told: Vec<[&str; 4]> = before
        .iter()
        .map(|call| ["principal", "client", "tool", "outcome"].map(|field| call[field].as_str().unwrap()))
        .collect();
    let expected = [
        ["local:node-mcp", "wire", "list_peers", "wrong_argument"],
        ["local:node-mcp", "wire", "tools_list_categories", "wrong_argument"],
        ["local:node-mcp", "wire", "none", "unknown_tool"],
        ["local:nodectl", "nodectl", "p2p_taskqueue_submit", "ok"],
        ["local:nodectl", "nodectl", "none", "low_scope"],
    ];
    assert_eq!(told, expected);
    assert!(before[0]["at"].as_str().unwrap().ends_with('Z') && before[0]["arguments"].as_str().unwrap().len() == 16);
    assert!(!json!(before).to_string().contains("s3"), "a digest tells nothing of the arguments");

    node.kill();
    node.start_again();
    node.until_it_answers();
    assert_eq!(calls(&node, &[]), before);
    assert_eq!(calls(&node, &["--tool", "task_submit"]), before[3..4], "by another name");
    assert_eq!(calls(&node, &["--tool", "queue_pause"]), before[4..], "one that was refused");
    assert_eq!(calls(&node, &["--outcome", "wrong_argument", "--principal", "local:node-mcp"]), before[..2]);
    assert_eq!(calls(&node, &["--limit", "2"]), before[3..]);
    assert_eq!(node.json(&["audit", "--limit", "2"])["more"], true);
    assert_eq!(calls(&node, &["--since", "1h"]).len(), 5);
    assert_eq!(calls(&node, &["--since", "1ms"]).len(), 0);
    let table = node.ctl(&["audit"]).with(0).stdout;
    assert!(table.starts_with("AT ") && table.contains(" (no_such_tool_at_all) "), "{table}");
}

#[test]
fn a_call_while_the_node_is_away_is_told_when_it_is_back() {
    let mut node = Node::start();
    node.kill();
    let socket = node.socket();
    let mut child = Command::new(env!("CARGO_BIN_EXE_node-mcp"))
        .args(["--control".as_ref(), socket.as_os_str()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "patient", "version": "1"},
    }});
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "tools_dispatch_read", "arguments": {"name": "list_peers"},
    }});
    let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let mut stdin = child.stdin.take().unwrap();
    write!(stdin, "{initialize}\n{initialized}\n{call}\n").unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    let answered: Value = serde_json::from_str(&answers.nth(1).unwrap().unwrap()).unwrap();
    assert_eq!(answered["result"]["structuredContent"]["code"], "node_unreachable", "{answered}");
    node.start_again();
    node.until_it_answers();
    let told = wait_until("the call is not told", || calls(&node, &[]).pop());
    assert_eq!((&told["client"], &told["outcome"]), (&json!("patient"), &json!("node_unreachable")));
    drop(stdin);
    assert!(child.wait().unwrap().success());
}
