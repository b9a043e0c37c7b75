//! Commands that follow: what attempts say, and the events of a home, once and in order, whatever is cut meanwhile.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

use serde_json::{Value, json};

use crate::fixture::{Ended, Node, wait_until};

/// A command whose lines are read while it runs.
struct Reading {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Reading {
    fn start(node: &Node, arguments: &[&str]) -> Self {
        let mut command = node.command(arguments);
        let mut child = command.args(["-o", "json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn next(&mut self) -> Value {
        serde_json::from_str(&self.lines.next().expect("it goes on").unwrap()).unwrap()
    }

    /// All lines to its end, and how it ended.
    fn rest(mut self) -> (Vec<Value>, Ended) {
        let rest = self.lines.by_ref().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
        (rest, self.child.wait_with_output().unwrap().into())
    }

    fn stop(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A task that writes lines until its file `stop` is there, and goes on only while its file `go` is.
fn chatty(node: &Node, requires: &str, dir: &Path, lines: u32) -> String {
    let script = format!(
        r#"n=0; while [ $n -lt {lines} ]; do n=$((n+1)); echo "line $n of the log" >&2
           if [ $n -eq {half} ]; then while ! [ -e {dir}/go ]; do sleep 0.05; done; fi; done"#,
        half = lines / 2,
        dir = dir.display()
    );
    let requires = Some(requires).filter(|requires| !requires.is_empty());
    let spec = json!({"kind": "process", "run": ["sh", "-c", script], "requires": requires, "timeout": "10m"});
    let file = node.file("chatty.json", &spec.to_string());
    node.ctl(&["task", "submit", &file]).with(0).stdout.trim().to_owned()
}

/// What the lines say of the log, by epoch, each record once and in its place. Returns that of the last epoch.
fn log_of(lines: &[Value]) -> String {
    let (mut epoch, mut seq, mut log) = (0, 0, String::new());
    for line in lines {
        assert!(line.get("gone").is_none(), "{line}");
        if line.get("lost").is_some() {
            continue;
        }
        let of = line["epoch"].as_u64().unwrap();
        if of != epoch {
            assert!(of > epoch, "{line}");
            (epoch, seq, log) = (of, 0, String::new());
        }
        seq += 1;
        assert_eq!(line["seq"], seq, "{line}");
        log += line["log"].as_str().unwrap_or_default();
    }
    log
}

fn whole(lines: u32) -> String {
    (1..=lines).map(|n| format!("line {n} of the log\n")).collect()
}

#[test]
fn a_log_is_followed_while_it_is_written_and_read_again_from_anywhere() {
    let node = Node::start();
    let id = chatty(&node, "", node.dir.path(), 400);
    let mut following = Reading::start(&node, &["task", "logs", "-f", &id]);
    let mut lines = vec![following.next()];
    // It is told while the attempt runs, which waits for this.
    node.file("go", "");
    let (rest, ended) = following.rest();
    ended.with(0);
    lines.extend(rest);
    assert_eq!(log_of(&lines), whole(400));
    let all = node.ctl(&["task", "logs", &id]).with(0);
    assert_eq!((all.stdout.as_str(), all.stderr.as_str()), (whole(400).as_str(), ""));
    let first = &lines[0];
    let after = format!("{}:{}", first["epoch"], first["seq"]);
    let behind = node.ctl(&["task", "logs", &id, "--after", &after]).with(0).stdout;
    assert_eq!(first["log"].as_str().unwrap().to_owned() + &behind, whole(400));
}

#[test]
fn progress_stands_between_the_log_where_it_was_said() {
    let node = Node::start();
    let script = r#"echo before >&2; echo '{"progress": 0.5, "message": "half"}' >"$MAGPIE_PROGRESS"; echo after >&2"#;
    let spec = json!({"kind": "process", "run": ["sh", "-c", script]});
    let file = node.file("progress.json", &spec.to_string());
    let id = node.json(&["task", "submit", &file, "--wait"])["id"].as_str().unwrap().to_owned();
    let lines = node.ctl(&["task", "logs", &id, "-o", "json"]).with(0).json_lines();
    assert_eq!(log_of(&lines), "before\nafter\n");
    let progress: Vec<&Value> = lines.iter().filter_map(|line| line.get("progress")).collect();
    assert_eq!(progress, [&json!({"fraction": 0.5, "message": "half"})]);
}

#[test]
fn a_log_is_whole_through_other_nodes_a_cut_and_a_restart_of_its_home() {
    let mut home = Node::start_with_key("");
    home.keep_its_port();
    let worker = Node::start_beside(&home, "labels = {place = \"there\"}\n", |_| {});
    let id = chatty(&home, "label.place == \"there\"", home.dir.path(), 2_000);
    // Through the worker's node: that asks the home, which asks the worker.
    let mut through = Reading::start(&worker, &["task", "logs", "-f", &id, "--timeout", "120s"]);
    let mut direct = Reading::start(&home, &["task", "logs", "-f", &id, "--timeout", "120s"]);
    let (mut far, mut near) = (vec![through.next()], vec![direct.next()]);
    let peer = worker.json(&["status"])["peer_id"].as_str().unwrap().to_owned();
    home.ctl(&["peer", "disconnect", &peer]).with(0);
    let address = worker.json(&["status"])["listen"][0].as_str().unwrap().to_owned();
    wait_until("the two do not meet again", || {
        (home.ctl(&["peer", "connect", &address]).code == Some(0)).then_some(())
    });
    home.kill();
    home.start_again();
    home.until_it_answers();
    home.file("go", "");
    for (lines, reading) in [(&mut far, through), (&mut near, direct)] {
        let (rest, ended) = reading.rest();
        lines.extend(rest);
        assert_eq!(log_of(lines), whole(2_000), "{ended:?}");
        ended.with(0);
    }
}

#[test]
fn of_a_worker_that_forgot_the_end_of_the_log_is_told_and_said_to_be_that() {
    let mut node = Node::start();
    let spec = json!({"kind": "process", "run": ["sh", "-c", "echo the end >&2"]});
    let file = node.file("short.json", &spec.to_string());
    let id = node.json(&["task", "submit", &file, "--wait"])["id"].as_str().unwrap().to_owned();
    node.kill();
    node.start_again();
    node.until_it_answers();
    let told = node.ctl(&["task", "logs", "-f", &id]).with(0);
    assert_eq!(told.stdout, "the end\n");
    assert!(told.stderr.contains("its worker has not kept what it said; its home has the end of its log"), "{told:?}");
    let noop = node.json(&["task", "submit", "--kind", "noop", "--wait"])["id"].as_str().unwrap().to_owned();
    let silent = node.ctl(&["task", "logs", "-f", &noop]).with(0);
    assert_eq!((silent.stdout.as_str(), silent.stderr.as_str()), ("", ""));
}

#[test]
fn who_follows_a_task_is_led_through_its_attempts() {
    let node = Node::start();
    let script = r#"echo "attempt $MAGPIE_ATTEMPT" >&2; exit 1"#;
    let retry = json!({"max_attempts": 3, "initial": "10ms"});
    let spec = json!({"kind": "process", "run": ["sh", "-c", script], "retry": retry, "not_before": null});
    let file = node.file("retried.json", &spec.to_string());
    let id = node.ctl(&["task", "submit", &file]).with(0).stdout.trim().to_owned();
    let (lines, ended) = Reading::start(&node, &["task", "logs", "-f", &id]).rest();
    ended.with(0);
    assert_eq!(log_of(&lines), "attempt 3\n");
    let first = lines[0]["log"].as_str().unwrap();
    assert!(["attempt 1\n", "attempt 2\n", "attempt 3\n"].contains(&first), "{lines:?}");
}

#[test]
fn events_are_followed_through_another_node_each_once_whatever_becomes_of_their_home() {
    let mut home = Node::start_with_key("");
    home.keep_its_port();
    let other = Node::start_beside(&home, "", |_| {});
    let peer = home.json(&["status"])["peer_id"].as_str().unwrap().to_owned();
    let mut following = Reading::start(&other, &["events", "-f", "--after", "0", "--home", &peer]);
    let mut seen = Vec::new();
    for round in 0..3 {
        let id = home.ctl(&["task", "submit", "--kind", "noop", "--requires", "gpu.count >= 9"]).with(0).stdout;
        let is_it = |event: &Value| event["kind"] == "submitted" && event["subjects"][0]["id"] == id.trim();
        while !seen.last().is_some_and(is_it) {
            seen.push(following.next());
        }
        if round < 2 {
            home.kill();
            home.start_again();
            home.until_it_answers();
        }
    }
    following.stop();
    let numbers: Vec<u64> = seen.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=seen.len() as u64).collect::<Vec<_>>(), "0 gaps, 0 duplicates");
    let again = home.ctl(&["events", "--after", "0", "-o", "json"]).with(0).json_lines();
    assert_eq!(seen, again[..seen.len()]);
    assert_eq!(seen.iter().filter(|event| event["kind"] == "opened").count(), 3);
}

#[test]
fn events_begin_where_one_says() {
    let node = Node::start();
    node.ctl(&["task", "submit", "--kind", "noop", "--count", "5", "--wait"]).with(0);
    let all = node.ctl(&["events", "--after", "0", "-o", "json"]).with(0).json_lines();
    let newest = all.last().unwrap()["seq"].as_u64().unwrap();
    let some = node.ctl(&["events", "--after", &(newest - 2).to_string(), "-o", "json"]).with(0).json_lines();
    assert_eq!(some[..2], all[all.len() - 2..]);
    assert!(node.ctl(&["events", "--last", "1"]).with(0).stdout.lines().count() >= 1);
    let refused = node.ctl(&["events", "--after", "99999999"]).with(2).stderr;
    assert!(refused.contains("record 99999999 was to be its last: it lost its end"), "{refused}");
    assert!(node.ctl(&["events", "--after", "1", "--last", "1"]).code == Some(2));
}

#[test]
fn what_cannot_be_followed_is_said() {
    let node = Node::start();
    assert!(node.ctl(&["task", "logs", "x", "--after", "7"]).with(2).stderr.contains("EPOCH:SEQ"));
    let sleep = ["task", "submit", "--kind", "sleep", "--input", "{\"for\": \"10m\"}"];
    let id = node.ctl(&sleep).with(0).stdout.trim().to_owned();
    let unknown = id.replacen("01", "00", 1);
    assert!(node.ctl(&["task", "logs", &unknown]).with(3).stderr.contains("is not known at its home"));
    assert_eq!(node.ctl(&["task", "logs", &id]).with(0).stdout, "", "without -f it does not wait");
    let told = node.ctl(&["task", "logs", "-f", &id, "--timeout", "300ms"]).with(5).stderr;
    assert!(told.contains("goes on"), "{told}");
}
