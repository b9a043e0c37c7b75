//! `-o json`: the fields that scripts rely on.

use serde_json::{Value, json};

use crate::fixture::Node;

/// Fails unless `document` has these fields; others may be there.
fn has(document: &Value, fields: &[&str]) {
    let object = document.as_object().unwrap_or_else(|| panic!("no object: {document}"));
    for field in fields {
        assert!(object.contains_key(*field), "{field} is missing: {document:#}");
    }
}

const TASK_FIELDS: [&str; 14] = [
    "id",
    "kind",
    "state",
    "priority",
    "attempts",
    "epoch",
    "home",
    "worker",
    "created_at",
    "started_at",
    "finished_at",
    "output",
    "error",
    "unmet",
];

#[test]
fn status_has_what_scripts_read() {
    let node = Node::start();
    let status = node.json(&["status"]);
    has(
        &status,
        &["peer_id", "version", "http", "listen", "peers", "queue", "fenced_total", "devices", "worker", "ledger"],
    );
    let states =
        ["blocked", "delayed", "ready", "leased", "running", "succeeded", "failed", "dead", "cancelled", "skipped"];
    has(&status["queue"], &states);
    assert_eq!(status["http"], Value::Null);
    assert_eq!(status["fenced_total"], 0);
    assert!(status["listen"][0].as_str().unwrap().starts_with("/ip4/127.0.0.1/tcp/"));
    assert_eq!(status["worker"]["slots"]["cpu"], 2);
    let yaml = node.ctl(&["status", "-o", "yaml"]).with(0).stdout;
    assert!(yaml.starts_with(&format!("peer_id: {}\n", status["peer_id"].as_str().unwrap())), "{yaml}");
    let table = node.ctl(&["status"]).with(0).stdout;
    assert!(table.starts_with("node ") && table.contains("\nqueue         empty\n"), "{table}");
}

#[test]
fn what_an_attempt_submits_is_cancelled_with_its_task() {
    let node = Node::start();
    let sleep = ["task", "submit", "--kind", "sleep", "--input", "600000"];
    let parent = node.json(&sleep)["id"].as_str().unwrap().to_owned();
    let inside = |parent: &str| node.command(&sleep).env("MAGPIE_TASK_ID", parent).output().unwrap();
    let child = String::from_utf8(inside(&parent).stdout).unwrap().trim().to_owned();
    assert_eq!(node.json(&["task", "get", &child])["parent"], json!(parent));
    node.json(&["task", "cancel", &parent]);
    let cancelled = node.json(&["task", "get", &child]);
    assert_eq!((&cancelled["state"], &cancelled["error"]["code"]), (&json!("cancelled"), &json!("parent_cancelled")));
    assert_eq!(inside(&parent).status.code(), Some(6));
    assert_eq!(inside("nonsense").status.code(), Some(2));
}

#[test]
fn a_workflow_in_a_file_of_its_own_runs_as_a_step() {
    let node = Node::start();
    node.file("inner.yaml", "name: inner\ninput: {n: 1}\nsteps:\n  - {name: a, kind: noop, input: '${input.n}'}\noutputs: {n: '${steps.a.output}'}\n");
    let file = node.file(
        "outer.yaml",
        "name: outer\nsteps:\n  - {name: sub, kind: workflow, workflow: inner.yaml, input: {n: 7}}\noutputs: {all: '${steps.sub.output}'}\n",
    );
    let run = node.json(&["run", &file, "--wait", "--timeout", "60s"]);
    assert_eq!((&run["state"], &run["outputs"]), (&json!("succeeded"), &json!({"all": {"n": 7}})));
    let child = run["steps"][0]["child"].as_str().unwrap();
    let inner = node.json(&["workflow", "get", child]);
    assert_eq!((&inner["name"], &inner["parent"]), (&json!("inner"), &run["steps"][0]["task_id"]));
    let graph = node.json(&["workflow", "graph", run["id"].as_str().unwrap(), "--format", "json"]);
    assert_eq!(graph["nodes"][0]["child"], json!(child));
    let task = node.json(&["task", "get", run["steps"][0]["task_id"].as_str().unwrap()]);
    assert_eq!((&task["kind"], &task["child"]), (&json!("workflow"), &json!(child)));
}

#[test]
fn a_task_is_submitted_shown_and_listed() {
    let node = Node::start();
    let submitted = node.ctl(&["task", "submit", "--kind", "noop", "--label", "team=a", "-o", "json"]).with(0);
    assert_eq!(submitted.stdout.lines().count(), 1);
    let id = submitted.json()["id"].as_str().unwrap().to_owned();
    let task = node.json(&["task", "wait", &id]);
    has(&task, &TASK_FIELDS);
    assert_eq!((&task["id"], &task["kind"], &task["state"]), (&json!(id), &json!("noop"), &json!("succeeded")));
    assert_eq!((&task["attempts"], &task["error"], &task["unmet"]), (&json!(1), &Value::Null, &json!([])));
    assert_eq!(task["home"], node.json(&["status"])["peer_id"]);
    assert_eq!(task["labels"], json!({"team": "a"}));
    assert!(task["finished_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(node.json(&["task", "get", &id]), task);
    node.json(&["task", "submit", "--kind", "noop", "--wait"]);
    let all = node.json(&["task", "ls"]);
    assert_eq!((&all["next_cursor"], &all["unreachable_homes"]), (&Value::Null, &json!([])));
    assert_eq!(all["items"].as_array().unwrap().len(), 2);
    has(&all["items"][0], &TASK_FIELDS);
    let first = node.json(&["task", "ls", "--limit", "1"]);
    let cursor = first["next_cursor"].as_str().unwrap();
    assert_eq!(node.json(&["task", "ls", "--cursor", cursor])["items"], json!([all["items"][1]]));
    let labelled = node.json(&["task", "ls", "--label", "team=a", "--state", "succeeded", "--kind", "noop"]);
    assert_eq!(labelled["items"], json!([all["items"][0]]));
    let table = node.ctl(&["task", "ls"]).with(0).stdout;
    assert!(table.starts_with("TASK ") && table.contains(&id) && !table.contains('\x1b'), "{table}");
    assert!(node.ctl(&["task", "ls", "-o", "wide"]).with(0).stdout.contains("NAMESPACE"));
}

#[test]
fn a_workflow_runs_and_its_outputs_come_back() {
    let node = Node::start();
    let run = node.json(&["run", "examples/hello.yaml", "--input", "who=you", "--wait", "--timeout", "60s"]);
    has(&run, &["id", "state", "steps", "outputs"]);
    assert_eq!((&run["state"], &run["outputs"]), (&json!("succeeded"), &json!({"greeting": "hello, you"})));
    let fields = ["name", "state", "task_id", "worker", "attempts", "output", "error", "tasks", "workers"];
    run["steps"].as_array().unwrap().iter().for_each(|step| has(step, &fields));
    let names: Vec<&str> = run["steps"].as_array().unwrap().iter().map(|step| step["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["ready", "pause", "greet"]);
    let peer = node.json(&["status"])["peer_id"].as_str().unwrap().to_owned();
    assert_eq!(run["steps"][2]["workers"], json!({peer: 1}));
    assert_eq!(run["steps"][2]["tasks"]["succeeded"], 1);
    let id = run["id"].as_str().unwrap();
    assert_eq!(node.json(&["workflow", "get", id]), run);
    assert_eq!(node.json(&["workflow", "result", id]), run["outputs"]);
    assert_eq!(
        node.json(&["task", "result", run["steps"][2]["task_id"].as_str().unwrap()]),
        json!({"greeting": "hello, you"})
    );
    let list = node.json(&["workflow", "ls", "--state", "succeeded"]);
    assert_eq!((&list["items"][0]["id"], &list["items"][0]["name"]), (&json!(id), &json!("hello")));
    let tasks = node.json(&["task", "ls", "--workflow", &id[..12]]);
    assert_eq!(tasks["items"].as_array().unwrap().len(), 3);
    let graph = node.ctl(&["workflow", "graph", id, "--format", "json"]).with(0).json();
    assert_eq!(graph["edges"], json!([{"from": "ready", "to": "pause"}, {"from": "pause", "to": "greet"}]));
    assert!(node.ctl(&["workflow", "graph", id, "--format", "dot"]).with(0).stdout.starts_with("digraph \"hello\" {"));
    assert!(node.ctl(&["workflow", "graph", id]).with(0).stdout.starts_with("flowchart LR\n"));
    let table = node.ctl(&["workflow", "get", id]).with(0).stdout;
    assert!(table.contains("outputs: {\n  \"greeting\": \"hello, you\"\n}"), "{table}");
}

#[test]
fn a_task_that_no_node_can_run_says_what_is_missing() {
    let node = Node::start();
    let id = node.json(&["task", "submit", "--kind", "noop", "--requires", "gpu.vram >= 16GiB"])["id"].clone();
    let id = id.as_str().unwrap();
    let task = node.json(&["task", "get", id]);
    assert_eq!(task["state"], "ready");
    assert_eq!(task["unmet"][0]["peer"], node.json(&["status"])["peer_id"]);
    assert!(task["unmet"][0]["unmet"][0].as_str().unwrap().contains("gpu.vram"), "{task:#}");
    let why = node.json(&["task", "why-pending", id]);
    assert_eq!(why["reason"], "no known node meets its requirements");
    assert!(node.ctl(&["task", "get", id]).with(0).stdout.contains("no known node can run it:\nPEER "));
    assert_eq!(node.json(&["task", "priority", id, "7"]), json!({"id": id, "priority": 7}));
    assert_eq!(node.json(&["task", "get", id])["priority"], 7);
    let stats = node.json(&["queue", "stats"]);
    assert_eq!((&stats["ready"], &stats["ready_by_shape"][0]["ready"]), (&json!(1), &json!(1)));
    assert_eq!(node.json(&["task", "cancel", id]), json!({"id": id, "state": "cancelled"}));
    assert_eq!(node.json(&["task", "cancel", id])["state"], "cancelled");
}

#[test]
fn the_actors_of_a_node_are_listed_called_and_killed() {
    let node = Node::start();
    let tree = node.json(&["actor", "tree"]);
    let names: Vec<&str> =
        tree["children"].as_array().unwrap().iter().map(|actor| actor["name"].as_str().unwrap()).collect();
    for actor in ["ledger", "scheduler", "clock", "swarm", "registry", "worker", "control"] {
        assert!(names.contains(&actor), "{names:?}");
    }
    let list = node.json(&["actor", "ls"]);
    assert_eq!(list["items"][0]["name"], "node");
    let stats = node.json(&["actor", "call", "ledger", "\"stats\""]);
    assert_eq!(stats["stats"]["submitted"], 0);
    assert!(node.json(&["actor", "call", "node", "\"status\""])["status"]["peer_id"].is_string());
    assert_eq!(node.json(&["actor", "call", "supervisor", "\"tree\""])["tree"]["name"], "node");
    assert_eq!(node.json(&["actor", "kill", "registry"]), json!({"killed": "registry"}));
    let restarts = || {
        let list = node.json(&["actor", "ls"]);
        let registry = list["items"].as_array().unwrap().iter().find(|actor| actor["name"] == "registry").cloned();
        registry.filter(|actor| actor["state"] == "running" && actor["restarts"] == 1)
    };
    crate::fixture::wait_until("the registry is not started again", restarts);
}

#[test]
fn the_other_nouns_answer() {
    let node = Node::start();
    let peer = node.json(&["status"])["peer_id"].clone();
    assert_eq!(node.json(&["peer", "ls"]), json!({"items": []}));
    assert_eq!(node.json(&["device", "ls"]), json!({"items": []}));
    assert_eq!(node.json(&["worker", "ls"])["items"][0]["peer_id"], peer);
    assert_eq!(node.json(&["worker", "drain"])["draining"], true);
    assert_eq!(node.json(&["worker", "ls"])["items"][0]["state"], "draining");
    let id = node.json(&["task", "submit", "--kind", "noop"])["id"].clone();
    assert_eq!(node.json(&["worker", "resume"])["draining"], false);
    assert_eq!(node.json(&["task", "wait", id.as_str().unwrap(), "--timeout", "60s"])["state"], "succeeded");
    let clock = node.json(&["clock", "show"]);
    assert_eq!(clock["node"], peer);
    assert_eq!(clock["merkle_root"].as_str().unwrap().len(), 64);
    for arguments in [&["peer", "ls"][..], &["device", "ls"], &["worker", "ls"], &["clock", "show"], &["actor", "tree"]]
    {
        assert!(node.ctl(arguments).with(0).stdout.lines().count() >= 1);
    }
}

#[test]
fn a_blob_comes_back_as_it_went_in() {
    let node = Node::start();
    // More than one piece.
    let text: String = (0..200_000).map(|n| format!("{n},")).collect();
    let file = node.file("numbers", &text);
    let blob = node.json(&["blob", "put", &file]);
    assert_eq!(blob["bytes"], text.len());
    let cid = blob["cid"].as_str().unwrap();
    assert_eq!(node.json(&["blob", "put", &file]), blob);
    assert_eq!(node.json(&["blob", "stat", cid]), blob);
    assert_eq!(node.ctl(&["blob", "get", cid]).with(0).stdout, text);
    let copy = node.dir.path().join("copy");
    node.ctl(&["blob", "get", cid, "--to", copy.to_str().unwrap()]).with(0);
    assert_eq!(std::fs::read_to_string(copy).unwrap(), text);
    let empty = node.file("empty", "");
    assert_eq!(node.json(&["blob", "put", &empty])["bytes"], 0);
}

#[test]
fn a_large_output_is_a_blob_and_its_result_the_value() {
    let node = Node::start();
    let script = "import json; print(json.dumps(list(range(40000))))";
    let task = node.json(&["task", "submit", "--kind", "process", "--wait", "--", "python3", "-c", script]);
    assert_eq!(task["state"], "succeeded", "{task:#}");
    assert!(task["output"]["cid"].is_string(), "{}", task["output"]);
    let id = task["id"].as_str().unwrap();
    assert_eq!(node.json(&["task", "result", id]).as_array().unwrap().len(), 40_000);
}
