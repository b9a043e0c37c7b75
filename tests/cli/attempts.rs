use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::fixture::{Node, wait_until};

fn submit(node: &Node, task: &Value) -> String {
    let file = node.file("task.json", &task.to_string());
    node.json(&["task", "submit", &file])["id"].as_str().unwrap().to_owned()
}

/// A shell script as a task; `$1` is `file`.
fn script(text: &str, file: &Path) -> Value {
    json!({"kind": "process", "run": ["sh", "-c", text, "sh", file]})
}

fn get(node: &Node, id: &str) -> Value {
    node.json(&["task", "get", id])
}

fn until(node: &Node, id: &str, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
    wait_until(what, || {
        // A node that was just started may not answer yet.
        let ended = node.ctl(&["-o", "json", "task", "get", id]);
        (ended.code == Some(0)).then(|| ended.json()).filter(|view| condition(view))
    })
}

/// Whether the process that wrote its id into `file` runs.
fn runs(file: &Path) -> bool {
    let pid = fs::read_to_string(file).unwrap();
    fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_cancel_reaches_a_deaf_process_with_children_and_shows_when_it_was_gone() {
    let node = Node::start();
    let pids = node.dir.path().join("pids");
    let deaf = r#"trap '' TERM; (trap '' TERM; sh -c 'echo $$ >"$0.child"; exec sleep 1000' "$1") &
        while ! [ -s "$1.child" ]; do sleep 0.01; done; echo $$ >"$1"; while :; do sleep 1; done"#;
    let id = submit(&node, &script(deaf, &pids));
    until(&node, &id, "it does not run", |view| view["state"] == "running" && pids.exists());
    node.ctl(&["task", "cancel", &id]).with(0);
    let view = get(&node, &id);
    assert_eq!((&view["state"], &view["attempt_stopped_at"]), (&json!("cancelled"), &Value::Null), "at once");
    let view = until(&node, &id, "the attempt is not gone", |view| !view["attempt_stopped_at"].is_null());
    assert!(!runs(&pids) && !runs(&pids.with_extension("child")));
    assert!(view["attempt_stopped_at"].as_str() > view["finished_at"].as_str(), "after its grace: {view}");
}

#[test]
fn what_a_task_took_is_shown_also_of_one_that_was_cancelled() {
    let node = Node::start();
    let burned = node.dir.path().join("burned");
    let burn =
        r#"while read -r s </proc/$$/stat; set -- "$1" $s; [ $((${15} + ${16})) -lt 20 ]; do :; done; echo 1 >"$1""#;
    let id = submit(&node, &script(burn, &burned));
    let view = until(&node, &id, "it does not succeed", |view| view["state"] == "succeeded");
    assert!(view["used"]["cpu_us"].as_u64() >= Some(190_000) && view["used"]["gpu_us"].is_null(), "{view}");
    assert!(node.ctl(&["task", "get", &id]).with(0).stdout.contains("cpu time"));
    fs::remove_file(&burned).unwrap();
    let id = submit(&node, &script(&format!("{burn}; exec sleep 1000"), &burned));
    until(&node, &id, "it does not run", |_| burned.exists());
    node.ctl(&["task", "cancel", &id]).with(0);
    let view = until(&node, &id, "the attempt is not gone", |view| !view["attempt_stopped_at"].is_null());
    assert!(view["used"]["cpu_us"].as_u64() >= Some(190_000), "{view}");
    let id = submit(&node, &json!({"kind": "noop"}));
    let view = until(&node, &id, "it does not succeed", |view| view["state"] == "succeeded");
    assert_eq!(view["used"], json!({}), "nobody measured it, which is not 0");
}

/// Does ten pages and dies with its node on the fifth; says so.
const PAGES: &str = r#"page=$(sed -n 's/.*"checkpoint":{"page":\([0-9]*\)}.*/\1/p'); page=${page:-0}
    while [ "$page" -lt 10 ]; do
        page=$((page + 1)); echo "$page" >>"$1"
        echo "{\"checkpoint\": {\"page\": $page}, \"progress\": 0.$((page - 1)), \"message\": \"page $page\"}" >"$MAGPIE_PROGRESS"
        if [ "$page" = 5 ] && ! [ -e "$1.again" ]; then exec sleep 1000; fi
    done; echo "$page""#;

#[test]
fn an_attempt_goes_on_from_the_checkpoint_of_one_whose_node_was_killed() {
    let mut node = Node::start();
    let pages = node.dir.path().join("pages");
    let id = submit(&node, &script(PAGES, &pages));
    let view = until(&node, &id, "it leaves no checkpoint", |view| view["checkpoint"]["page"] == 5);
    assert_eq!(view["progress"]["message"], "page 5");
    node.kill();
    fs::write(pages.with_extension("again"), "").unwrap();
    node.start_again();
    let view = until(&node, &id, "it does not succeed", |view| view["state"] == "succeeded");
    assert_eq!((&view["output"], &view["attempts"], &view["checkpoint"]), (&json!(10), &json!(2), &Value::Null));
    let done = fs::read_to_string(&pages).unwrap();
    assert_eq!(done.lines().collect::<Vec<_>>(), ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"], "each page once");
}

#[test]
fn a_drain_with_a_deadline_ends_what_runs_and_a_resume_lets_it_go_on_from_its_checkpoint() {
    let node = Node::start();
    let pages = node.dir.path().join("pages");
    let id = submit(&node, &script(PAGES, &pages));
    until(&node, &id, "it leaves no checkpoint", |view| view["checkpoint"]["page"] == 5);
    let worker = node.json(&["worker", "ls"])["items"][0].clone();
    assert_eq!((&worker["state"], &worker["slots"], &worker["running"]), (&json!("alive"), &json!(2), &json!(1)));
    let stats = node.json(&["worker", "drain", "--deadline", "200ms", "--wait"]);
    assert_eq!((&stats["running"], &stats["draining"]), (&json!(0), &json!(true)));
    assert_eq!(node.json(&["worker", "ls"])["items"][0]["state"], "draining");
    let view = until(&node, &id, "its end is not known", |view| view["state"] != "running");
    assert_eq!((&view["attempts"], &view["error"]["code"]), (&json!(1), &json!("drained")), "{view}");
    fs::write(pages.with_extension("again"), "").unwrap();
    node.ctl(&["worker", "resume"]).with(0);
    let view = until(&node, &id, "it does not succeed", |view| view["state"] == "succeeded");
    assert_eq!((&view["output"], &view["attempts"]), (&json!(10), &json!(2)));
    assert_eq!(fs::read_to_string(&pages).unwrap().lines().count(), 10, "each page once");
}

#[test]
fn a_drain_waits_no_longer_than_it_is_told() {
    let node = Node::start();
    let id = submit(&node, &json!({"kind": "sleep", "input": "60s"}));
    until(&node, &id, "it does not run", |view| view["state"] == "running");
    let late = node.ctl(&["worker", "drain", "--wait", "--timeout", "300ms"]).with(5);
    assert!(late.stderr.contains("1 tasks still run"), "{late:?}");
    assert_eq!(get(&node, &id)["state"], "running", "it may finish");
}

#[test]
fn a_node_that_is_told_to_end_finishes_what_runs_and_refuses_new_work_meanwhile() {
    let mut node = Node::start();
    let go = node.dir.path().join("go");
    let id = submit(&node, &script(r#"while ! [ -e "$1" ]; do sleep 0.05; done; echo '"finished"'"#, &go));
    until(&node, &id, "it does not run", |view| view["state"] == "running");
    node.terminate();
    wait_until("it does not drain", || (node.json(&["worker", "ls"])["items"][0]["state"] == "draining").then_some(()));
    let refused = node.ctl(&["task", "submit", "--kind", "noop"]).with(6);
    assert!(refused.stderr.contains("this node was told to end and drains"), "{refused:?}");
    fs::write(&go, "").unwrap();
    assert_eq!(node.ended(), Some(0));
    node.start_again();
    let view = until(&node, &id, "it is not there", |_| true);
    assert_eq!(
        (&view["state"], &view["output"], &view["attempts"]),
        (&json!("succeeded"), &json!("finished"), &json!(1))
    );
}

#[test]
fn an_exclusive_task_of_a_kind_that_cannot_be_ended_is_refused_at_its_field() {
    let node = Node::start();
    let file = node.file("task.json", r#"{"kind": "http", "input": {"url": "http://localhost"}, "exclusive": true}"#);
    let refused = node.ctl(&["task", "submit", &file]).with(2);
    assert!(
        refused.stderr.contains("exclusive") && refused.stderr.contains("cannot be ended from outside"),
        "{refused:?}"
    );
    let id = submit(&node, &json!({"kind": "process", "run": ["true"], "exclusive": true}));
    until(&node, &id, "it does not succeed", |view| view["state"] == "succeeded");
}

#[test]
fn a_node_that_is_told_to_end_says_nothing_that_sounds_like_a_fault() {
    let mut node = Node::start();
    let id = submit(&node, &json!({"kind": "sleep", "input": "200ms"}));
    until(&node, &id, "it does not run", |view| view["state"] == "running");
    node.terminate();
    assert_eq!(node.ended(), Some(0));
    let log = node.log();
    let is_fault = |line: &&str| line.contains(" ERROR ") || line.contains(" WARN ");
    assert_eq!(log.lines().filter(is_fault).collect::<Vec<_>>(), Vec::<&str>::new());
    let stopped = log.lines().filter_map(|line| line.split("actor stopped actor=").nth(1));
    let names: Vec<&str> = stopped.map(|name| name.trim_matches('"')).collect();
    assert_eq!(
        names,
        ["control", "tools", "worker", "registry", "swarm", "clock", "scheduler", "ledger"],
        "the last first"
    );
}
