//! A node that is told to end while a workflow in a workflow runs here and elsewhere.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fixture::{Node, wait_until};

/// Writes down that it started, waits until it may go on, writes that it ended.
const WAIT: &str =
    r#"echo x >>"$1.started"; while ! [ -e "$2" ]; do sleep 0.05; done; echo x >>"$1.ended"; echo "\"$0\"""#;
const DRAIN_DEADLINE: Duration = Duration::from_secs(1);
/// What ends with the deadline has its grace, and a busy machine its time.
const MUST_END_WITHIN: Duration = Duration::from_secs(20);

fn waiting(dir: &Path, name: &str) -> Value {
    let (mark, go) = (dir.join(name), dir.join("go"));
    let run = json!(["sh", "-c", WAIT, name, mark, go]);
    json!({"name": name, "kind": "process", "requires": format!("label:{name}"), "run": run})
}

fn count(dir: &Path, file: &str) -> usize {
    fs::read_to_string(dir.join(file)).map_or(0, |text| text.lines().count())
}

#[test]
fn a_node_that_ends_amid_a_sub_workflow_takes_it_up_again_and_each_step_has_one_result() {
    let marks = tempfile::tempdir().unwrap();
    let dir = marks.path();
    let mut home = Node::start_with_key("labels = {here = \"yes\"}\ndrain_deadline = \"1s\"\n");
    home.keep_its_port();
    let worker = Node::start_beside(&home, "labels = {there = \"yes\"}\n", |_| {});
    let outputs = json!({"here": "${steps.here.output}", "there": "${steps.there.output}"});
    let inner = json!({"name": "inner", "steps": [waiting(dir, "here"), waiting(dir, "there")], "outputs": outputs});
    let outer = json!({
        "name": "outer",
        "steps": [{"name": "inner", "kind": "workflow", "workflow": inner}],
        "outputs": {"inner": "${steps.inner.output}"},
    });
    let id = home.json(&["run", &home.file("outer.json", &outer.to_string())])["id"].as_str().unwrap().to_owned();
    let both_started = || count(dir, "here.started") == 1 && count(dir, "there.started") == 1;
    wait_until("its steps do not run", || both_started().then_some(()));
    let view = home.json(&["workflow", "get", &id]);
    let (task, child) = (view["steps"][0]["task_id"].clone(), view["steps"][0]["child"].clone());

    let told = Instant::now();
    home.terminate();
    assert_eq!(home.ended(), Some(0));
    let took = told.elapsed();
    assert!((DRAIN_DEADLINE..MUST_END_WITHIN).contains(&took), "{took:?}");
    assert_eq!((count(dir, "here.ended"), count(dir, "there.ended")), (0, 0));
    fs::write(dir.join("go"), "").unwrap();
    wait_until("what runs elsewhere does not end", || (count(dir, "there.ended") == 1).then_some(()));

    home.start_again();
    home.until_it_answers();
    let over = |view: &Value| view["state"] != "running";
    let done = wait_until("it does not end", || Some(home.json(&["workflow", "get", &id])).filter(over));
    assert_eq!((&done["state"], &done["steps"][0]["attempts"]), (&json!("succeeded"), &json!(1)), "{done:#}");
    assert_eq!(done["outputs"], json!({"inner": {"here": "here", "there": "there"}}));
    assert_eq!((&done["steps"][0]["task_id"], &done["steps"][0]["child"]), (&task, &child), "taken up, not made anew");
    assert_eq!((count(dir, "here.started"), count(dir, "here.ended")), (2, 1), "drained, and run again");
    assert_eq!((count(dir, "there.started"), count(dir, "there.ended")), (1, 1), "its worker kept the outcome");
    let queue = home.json(&["status"])["queue"].clone();
    assert_eq!((&queue["submitted"], &queue["succeeded"]), (&json!(3), &json!(3)), "{queue}");
    drop(worker);
}
