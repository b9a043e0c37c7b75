//! Workflows that branch, fail, are undone and repaired, as a person sees them.

use serde_json::{Value, json};

use crate::fixture::Node;

fn states(document: &Value) -> Vec<&str> {
    document["steps"].as_array().unwrap().iter().map(|step| step["state"].as_str().unwrap()).collect()
}

#[test]
fn a_failed_workflow_is_retried_from_where_it_failed() {
    let node = Node::start();
    let flag = node.dir.path().join("mended");
    let workflow = format!(
        "name: w\nsteps:\n  - {{name: a, kind: process, run: [sh, -c, 'echo 7']}}\n  \
         - {{name: b, kind: process, needs: [a], run: [test, -e, '{}'], retry: {{max_attempts: 1}}}}\n  \
         - {{name: c, kind: noop, needs: [b], input: '${{steps.a.output}}'}}\noutputs: {{a: '${{steps.a.output}}'}}\n",
        flag.display()
    );
    let file = node.file("w.yaml", &workflow);
    let failed = node.ctl(&["run", &file, "--wait", "--timeout", "60s", "-o", "json"]).with(1).json();
    assert_eq!((&failed["state"], states(&failed)[0], states(&failed)[2]), (&json!("failed"), "succeeded", "skipped"));
    assert_eq!(failed["steps"][2]["reason"], "its workflow ended before it could start");
    let id = failed["id"].as_str().unwrap();
    std::fs::write(&flag, "").unwrap();
    let again = node.json(&["workflow", "retry", id, "--wait", "--timeout", "60s"]);
    assert_eq!((&again["id"], &again["state"], &again["retries"]), (&json!(id), &json!("succeeded"), &json!(1)));
    assert_eq!(again["outputs"], json!({"a": 7}));
    assert_eq!(again["steps"][0]["task_id"], failed["steps"][0]["task_id"]);
    let newest = node.json(&["task", "get", again["steps"][1]["task_id"].as_str().unwrap()]);
    assert_eq!(newest["retry_of"], failed["steps"][1]["task_id"]);
    let first = node.json(&["task", "get", failed["steps"][1]["task_id"].as_str().unwrap()]);
    assert!(["failed", "dead"].contains(&first["state"].as_str().unwrap()), "{first:#}");
    assert_eq!(again["progress"], json!({"steps_over": 3, "steps": 3}));
    assert_eq!(again["critical_path"], json!(["a", "b", "c"]));
    let refused = node.ctl(&["workflow", "retry", id]).with(6).stderr;
    assert!(refused.contains("is succeeded and stays so"), "{refused}");
}

#[test]
fn branches_are_taken_by_their_conditions_and_what_was_done_is_undone() {
    let node = Node::start();
    let workflow = "\
name: w
on_fail: compensate
input: {size: 3}
steps:
  - name: reserve
    kind: process
    run: [sh, -c, 'echo 42']
    compensate: {kind: process, run: [sh, -c, 'echo undone $0', '${steps.reserve.output}']}
  - {name: large, kind: noop, needs: [reserve], when: '${input.size} > 10'}
  - {name: small, kind: noop, needs: [reserve], when: '!(${input.size} > 10)'}
  - {name: either, kind: noop, needs: [large, small], join: any}
  - {name: pay, kind: process, needs: [either], run: ['false'], retry: {max_attempts: 1}}
";
    let file = node.file("w.yaml", workflow);
    let run = node.ctl(&["run", &file, "--wait", "--timeout", "60s", "-o", "json"]).with(1).json();
    assert_eq!(states(&run)[..4], ["succeeded", "skipped", "succeeded", "succeeded"]);
    assert_eq!(run["steps"][1]["reason"], "its condition does not hold: ${input.size} > 10");
    let undo = &run["steps"][0]["compensation"];
    assert_eq!((&undo["state"], &run["steps"][3]["compensation"]), (&json!("succeeded"), &Value::Null));
    let output = node.json(&["task", "result", undo["task_id"].as_str().unwrap()]);
    assert_eq!(output, "undone 42\n");
    let table = node.ctl(&["workflow", "get", run["id"].as_str().unwrap()]).with(0).stdout;
    assert!(table.contains("UNDOES") && table.contains("its condition does not hold"), "{table}");
}

#[test]
fn what_is_wrong_with_a_branch_is_told_with_its_line() {
    let node = Node::start();
    let workflow = "\
name: w
on_fail: give_up
steps:
  - {name: a, kind: noop}
  - name: b
    kind: noop
    needs: [a]
    join: 2
    when: ${steps.a.state} == 'failled'
  - name: c
    kind: noop
    when: ${steps.a.output.n} > 3
";
    let file = node.file("w.yaml", workflow);
    let told = node.ctl(&["run", &file]).with(2).stderr;
    for words in [
        "w.yaml:2: \"give_up\" is not known here",
        "write fail_fast, continue, skip_children or compensate",
        "w.yaml:8: 2 of 1 needed steps cannot succeed",
        "w.yaml:9: column 21: \"failled\" is not the state of a step",
        "write failed",
        "w.yaml:12: c reads the output of a and does not need a",
    ] {
        assert!(told.contains(words), "{words}\n{told}");
    }
}
