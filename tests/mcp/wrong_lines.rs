//! What is no message on standard input is answered, so that nobody waits for ever.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);

/// The first `count` answers of a `node-mcp` to these lines.
fn answered(lines: &[Vec<u8>], count: usize) -> Vec<Value> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_node-mcp"))
        .args(["--control", "/nowhere/control.sock"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (said, hears) = mpsc::sync_channel(16);
    let reading = std::thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            let Ok(line) = line else { return };
            let _ = said.send(serde_json::from_str::<Value>(&line).unwrap());
        }
    });
    for line in lines {
        input.write_all(&[line, &b"\n"[..]].concat()).unwrap();
    }
    let mut answers = Vec::new();
    while answers.len() < count
        && let Ok(answer) = hears.recv_timeout(PATIENCE)
    {
        answers.push(answer);
    }
    drop(input);
    child.wait().unwrap();
    reading.join().unwrap();
    answers.extend(hears.try_iter());
    answers
}

fn told(answers: &[Value], id: &Value) -> Vec<i64> {
    let own = answers.iter().filter(|answer| answer["id"] == *id);
    own.filter_map(|answer| answer["error"]["code"].as_i64()).collect()
}

#[test]
fn every_wrong_line_is_answered_with_what_to_do() {
    let opening = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-11-25",
        "capabilities": {}, "clientInfo": {"name": "wire", "version": "1"}}});
    let opened = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let wrong = [
        json!({}),
        json!({"name": 5}),
        json!({"name": "list_peers", "arguments": []}),
        json!({"name": "list_peers", "arguments": "x"}),
        json!(5),
        json!(["list_peers"]),
    ];
    let mut lines = vec![opening.to_string().into_bytes(), opened.to_string().into_bytes()];
    lines.extend([b"not json".to_vec(), b"\xff\xff".to_vec(), vec![b'['; 50_000]]);
    for (id, params) in (1..).zip(&wrong) {
        let call = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params});
        lines.push(call.to_string().into_bytes());
    }
    lines.push(json!({"jsonrpc": "2.0", "id": 99, "method": "no/such"}).to_string().into_bytes());
    let answers = answered(&lines, lines.len() - 1);
    assert_eq!(told(&answers, &Value::Null), [-32_700; 3], "{answers:#?}");
    for (id, params) in (1..).zip(&wrong) {
        assert_eq!(told(&answers, &json!(id)), [-32_602], "{params}: {answers:#?}");
    }
    assert_eq!(told(&answers, &json!(99)), [-32_601], "{answers:#?}");
    let says_what_to_do = |answer: &Value| {
        let message = answer["error"]["message"].as_str().unwrap_or("; send ");
        message.contains("; send ") || message.contains("; the methods are ")
    };
    assert!(answers.iter().all(says_what_to_do), "{answers:#?}");
}
