//! `nodectl tool`: what agents have, from the shell.

use serde_json::{Value, json};

use crate::fixture::{Node, nodectl};

fn names(list: &Value) -> Vec<String> {
    list["items"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
}

/// Without a node: what the tools are is in the program.
fn listed(arguments: &[&str]) -> Vec<String> {
    names(&nodectl(&[&["-o", "json", "tool", "ls"], arguments].concat()).with(0).json())
}

#[test]
fn tools_are_listed_by_category_by_words_and_by_what_they_may_do() {
    let all = listed(&["--scope", "admin"]);
    assert!(all.len() > 60, "more than one page: {}", all.len());
    let mut once = all.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), all.len(), "each once");
    assert_eq!(listed(&["run", "steps", "that", "need", "each", "other"])[0], "submit_p2p_workflow");
    let queue = listed(&["--category", "queue", "--scope", "admin"]);
    assert!(queue.contains(&"queue_pause".to_owned()) && !queue.contains(&"list_peers".to_owned()), "{queue:?}");
    assert!(!listed(&["--category", "queue"]).contains(&"queue_pause".to_owned()), "submitting is no operating");
    let reads = listed(&["--category", "workflow", "--read-only"]);
    assert!(reads.contains(&"get_workflow_status".to_owned()) && !reads.contains(&"cancel_workflow".to_owned()));
    let wrong = nodectl(&["tool", "ls", "--category", "quue"]).with(2);
    assert!(wrong.stderr.contains("there is no category \"quue\"") && wrong.stderr.contains("taskqueue"), "{wrong:?}");
    let table = nodectl(&["tool", "ls", "--category", "workflow"]).with(0).stdout;
    assert!(table.starts_with("TOOL ") && table.contains("\ncancel_workflow "), "{table}");
}

#[test]
fn a_schema_says_what_a_tool_takes_and_its_example_is_a_call() {
    let schema = nodectl(&["-o", "json", "tool", "schema", "p2p_taskqueue_wait_task"]).with(0).json();
    assert_eq!((&schema["name"], &schema["writes"]), (&json!("p2p_taskqueue_wait_task"), &json!(false)));
    assert_eq!(schema["input_schema"]["properties"]["task_id"]["type"], "string");
    assert_eq!(schema["output_schema"]["type"], "object");
    let text = nodectl(&["tool", "schema", "task_status"]).with(0).stdout;
    assert!(text.starts_with("p2p_taskqueue_get_task: "), "by any of its names: {text}");
    assert!(text.contains("\nneeds the scope read, changes nothing\n") && text.contains("\ntask_id "), "{text}");
    assert!(text.contains("\nexample: nodectl tool call p2p_taskqueue_get_task '{\"task_id\":"), "{text}");
    let unknown = nodectl(&["tool", "schema", "p2p_taskqueue_sbmit"]).with(3);
    assert!(unknown.stderr.starts_with("nodectl: unknown_tool: there is no tool "), "{unknown:?}");
    assert!(unknown.stderr.contains("\n  = did you mean p2p_taskqueue_submit"), "{unknown:?}");
}

#[test]
fn a_call_takes_its_arguments_from_the_line_a_file_or_standard_input_and_prints_json() {
    let node = Node::start();
    let sleep = json!({"kind": "sleep", "input": "1h", "timeout": "2h"}).to_string();
    let on_the_line = node.ctl(&["tool", "call", "task_submit", &sleep]).with(0).json();
    let file = format!("@{}", node.file("sleep.json", &sleep));
    let in_a_file = node.ctl(&["tool", "call", "task_submit", &file]).with(0).json();
    let on_stdin = node.ctl_with_stdin(&["tool", "call", "task_submit", "-"], &sleep).with(0).json();
    for answer in [&on_the_line, &in_a_file, &on_stdin] {
        let task = node.json(&["task", "get", answer["task_id"].as_str().unwrap()]);
        assert_eq!(task["kind"], "sleep", "{answer}");
    }
    let peers = node.ctl(&["tool", "call", "list_peers"]).with(0).json();
    assert_eq!(peers["ok"], true, "without arguments: {peers}");
    let yaml = node.ctl(&["-o", "yaml", "tool", "call", "list_peers"]).with(0).stdout;
    assert!(yaml.contains("\nok: true\n"), "{yaml}");
}

#[test]
fn a_next_call_is_one_that_may_be_made_as_it_stands() {
    let node = Node::start();
    let submitted = node.ctl(&["tool", "call", "task_submit", r#"{"kind": "sleep", "input": "1s"}"#]).with(0).json();
    let next = &submitted["next"];
    let arguments = next["arguments"].to_string();
    let done = node.ctl(&["tool", "call", next["tool"].as_str().unwrap(), &arguments]).with(0).json();
    assert_eq!((&done["done"], &done["status"]), (&json!(true), &json!("completed")), "{done}");
}

#[test]
fn a_failure_is_an_exit_code_with_what_to_do_and_nothing_on_standard_output() {
    let node = Node::start();
    let cases: [(&[&str], i32, &str, &str); 6] = [
        (
            &["p2p_taskqueue_list_tasks", r#"{"limit": "ten"}"#],
            2,
            "wrong_argument: limit: ",
            "\n  = nodectl tool call ",
        ),
        (&["task_submit", r#"{"kind": "nop"}"#], 2, "", "noop"),
        (&["no_such_tool_at_all"], 3, "unknown_tool: ", "tools_list_tools"),
        (&["queue_pause"], 6, "low_scope: ", "--scope operate of node-mcp and nodectl tool"),
        (&["queue_pause", "--scope", "admin", "--read-only"], 6, "read_only: ", "leave --read-only out"),
        (&["ipfs_dag_get"], 6, "unavailable_here: ", "ipfs_add"),
    ];
    for (arguments, code, told, fix) in cases {
        let ended = node.ctl(&[&["tool", "call"], arguments].concat()).with(code);
        assert!(ended.stderr.starts_with(&format!("nodectl: {told}")), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(fix), "{arguments:?}: {}", ended.stderr);
        assert_eq!(ended.stdout, "");
    }
    assert_eq!(node.json(&["queue", "stats"])["paused"], json!([]), "nothing was changed");
    node.ctl(&["tool", "call", "queue_pause", "--scope", "operate"]).with(0);
    let away = nodectl(&["--control", "/no/such/socket", "tool", "call", "list_peers"]).with(4);
    assert!(away.stderr.starts_with("nodectl: node_unreachable: no node listens on /no/such/socket"), "{away:?}");
    assert!(away.stderr.contains("start a node with `node`"), "{away:?}");
}
