//! Every wrong call names the field and a call that is right.

use magpie::mcp::catalog::{Action, Catalog, Tool};
use magpie::mcp::surface::SurfaceOptions;
use serde_json::{Map, Value, json};

use crate::rig::{call, failed, ok, without_node};

/// The example with one thing wrong, and the field that is.
fn mutations(tool: &Tool) -> Vec<(String, Map<String, Value>)> {
    let example = tool.example();
    let mut wrong = vec![("no_such_argument".to_owned(), with(&example, "no_such_argument", json!(1)))];
    for name in tool.input_schema.get("required").and_then(Value::as_array).into_iter().flatten() {
        let mut without = example.clone();
        without.remove(name.as_str().unwrap());
        wrong.push((name.as_str().unwrap().to_owned(), without));
    }
    for name in tool.arguments() {
        let schema = tool.argument(name).unwrap();
        let value = match schema.get("type").and_then(Value::as_str) {
            Some("string") => json!(["x"]),
            Some("integer" | "number") => json!("many"),
            Some("boolean") => json!("yes"),
            Some("array") => json!(7),
            Some("object") => json!(7),
            _ => continue,
        };
        wrong.push((name.to_owned(), with(&example, name, value)));
        if schema.get("enum").is_some() {
            wrong.push((name.to_owned(), with(&example, name, json!("no such word"))));
        }
    }
    wrong
}

fn with(example: &Map<String, Value>, name: &str, value: Value) -> Map<String, Value> {
    let mut arguments = example.clone();
    arguments.insert(name.to_owned(), value);
    arguments
}

fn names_the_field(error: &Value, field: &str) -> bool {
    let named = error["field"].as_str().unwrap_or_default().trim_start_matches('/');
    named.split(['/', '.', '[']).next() == Some(field) && error["message"].as_str().unwrap().contains(field)
}

#[tokio::test]
async fn nearly_every_mutation_names_its_field_and_a_call_that_is_right() {
    let dispatcher = without_node(&SurfaceOptions { flat: true, ..Default::default() });
    let (mut total, mut misses) = (0, Vec::new());
    for tool in Catalog::shared().tools() {
        for (field, arguments) in mutations(tool) {
            total += 1;
            let name = tool.entry.name;
            let outcome = call(&dispatcher, name, Value::Object(arguments.clone())).await;
            let error = outcome.value;
            let next = error["next"].clone();
            let next_is_right = match next["tool"].as_str() {
                // It reaches the node, which is away here.
                Some(next_tool) => !matches!(
                    call(&dispatcher, next_tool, next["arguments"].clone()).await.value["code"].as_str(),
                    Some("wrong_argument" | "invalid" | "unknown_tool")
                ),
                None => error["problems"].as_array().is_some_and(|problems| !problems.is_empty()),
            };
            if !outcome.is_error || !names_the_field(&error, &field) || !next_is_right || error["fix"] == "" {
                misses.push(format!("{name} {field} {}: {error}", Value::Object(arguments)));
            }
        }
    }
    println!("{} of {total} mutations are told well; {misses:#?}", total - misses.len());
    assert!(total > 80, "{total}");
    assert!(misses.len() * 20 <= total, "{} of {total}: {misses:#?}", misses.len());
}

#[tokio::test]
async fn errors_say_what_was_expected() {
    let dispatcher = without_node(&SurfaceOptions { flat: true, ..Default::default() });
    for (name, arguments, field, expected) in [
        ("p2p_taskqueue_get_task", json!({}), "task_id", "string"),
        ("p2p_taskqueue_get_task", json!({"task_id": 7}), "task_id", "string"),
        ("p2p_taskqueue_get_task", json!({"task_id": "7"}), "task_id", "an id as 01JD...-k3v9x2aq"),
        ("p2p_taskqueue_submit", json!({"kind": "noop", "priority": 11}), "priority", "integer from 1 to 10"),
        ("p2p_taskqueue_submit", json!({"kind": "noop", "priority": "high"}), "priority", "integer from 1 to 10"),
        ("p2p_taskqueue_list_tasks", json!({"detail": "more"}), "detail", "one of \"concise\", \"full\""),
        ("p2p_taskqueue_heartbeat", json!({"leases": ["x"]}), "leases[0]", "object {epoch, task_id, token}"),
        ("p2p_taskqueue_heartbeat", json!({"leases": [{"task_id": "x"}]}), "leases[0].epoch", "integer"),
        ("tools_get_schema", json!({"names": ["a", "b", "c", "d", "e", "f"]}), "names", "1 to 5 names"),
        (
            "tools_list_tools",
            json!({"category": "tasks"}),
            "category",
            "one of taskqueue, queue, scheduler, workflow, peer, inference, models, hardware, endpoints, github, \
             dashboard, system, logs, storage, mounts",
        ),
    ] {
        let error = failed(&dispatcher, name, arguments.clone()).await;
        assert_eq!((error["code"].as_str(), error["field"].as_str()), (Some("wrong_argument"), Some(field)), "{error}");
        assert_eq!(error["expected"], expected, "{name} {arguments}");
        assert!(!error.to_string().contains("struct ") && !error.to_string().contains("u64"), "{error}");
    }
}

#[tokio::test]
async fn a_misspelt_argument_is_corrected() {
    let dispatcher = without_node(&SurfaceOptions::default());
    let error =
        failed(&dispatcher, "tools_dispatch_read", json!({"name": "list_peers", "arguments": {"limmit": 3}})).await;
    assert_eq!(error["fix"], "write limit instead of limmit, as in list_peers with {\"limit\":3}");
    assert_eq!(error["next"]["tool"], "tools_dispatch_read");
    assert_eq!(error["next"]["arguments"], json!({"name": "list_peers", "arguments": {"limit": 3}}));
}

/// A value that an argument of this schema takes.
fn sample(schema: &Value) -> Option<Value> {
    if let Some(words) = schema["enum"].as_array() {
        return words.first().cloned();
    }
    Some(match schema["type"].as_str()? {
        "string" => json!("x"),
        "integer" => schema.get("minimum").cloned().unwrap_or(json!(1)),
        "number" => json!(0.5),
        "boolean" => json!(true),
        "array" => json!([]),
        "object" => json!({}),
        _ => return None,
    })
}

/// A call with all arguments that the tool has, as a dry run where it has one.
fn with_everything(tool: &Tool) -> Map<String, Value> {
    let samples = tool.arguments().filter_map(|name| Some((name.to_owned(), sample(tool.argument(name)?)?)));
    let mut arguments: Map<String, Value> = samples.collect();
    arguments.extend(tool.example());
    arguments
}

/// The name with a slip at every place of it, and with more that is not its own.
fn slips(name: &str) -> Vec<String> {
    let places = 0..name.len();
    let dropped = places.clone().map(|place| format!("{}{}", &name[..place], &name[place + 1..]));
    let doubled = places.clone().map(|place| format!("{}{}", &name[..=place], &name[place..]));
    let swapped = places.skip(1).map(|place| {
        format!("{}{}{}{}", &name[..place - 1], &name[place..=place], &name[place - 1..place], &name[place + 1..])
    });
    let others =
        [format!("{name}s"), name.replace('_', ""), format!("un{name}"), format!("not_{name}"), "state".to_owned()];
    dropped.chain(doubled).chain(swapped).chain(others).collect()
}

/// The given call with one argument broken: misspelt in all ways, of all wrong types, or one too many.
fn broken(tool: &Tool, given: &Map<String, Value>) -> Vec<Map<String, Value>> {
    let taken = |name: &str| {
        tool.argument(name).is_some() || tool.entry.also.iter().any(|(other, _)| *other == name) || name.is_empty()
    };
    let mut calls = vec![with(given, "no_such_argument", json!("x"))];
    for (name, value) in given {
        for slip in slips(name).into_iter().filter(|slip| !taken(slip)) {
            let mut call = given.clone();
            call.remove(name);
            calls.push(with(&call, &slip, value.clone()));
            calls.push(with(given, &slip, value.clone()));
        }
        for wrong in [json!(5), json!("5"), json!("yes"), json!("true"), json!(true), json!(["x"]), json!({"x": 1})] {
            calls.push(with(given, name, wrong));
        }
    }
    calls
}

/// Whether two values are one, written as itself or as its text.
fn is_same(one: &Value, other: &Value) -> bool {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    one == other || text(one) == text(other)
}

#[tokio::test]
async fn no_call_that_is_suggested_does_more_than_was_asked_for() {
    let dispatcher = without_node(&SurfaceOptions { flat: true, ..Default::default() });
    let (mut total, mut suggested) = (0, 0);
    for tool in Catalog::shared().tools().iter().filter(|tool| tool.entry.writes()) {
        let mut least = tool.example();
        if tool.argument("dry_run").is_some() {
            least.insert("dry_run".to_owned(), json!(true));
        }
        for given in [least, with_everything(tool)].iter().flat_map(|given| broken(tool, given)) {
            let name = tool.entry.name;
            // What is right after all, or wrong for another reason, is another matter.
            let answer = call(&dispatcher, name, Value::Object(given.clone())).await.value;
            if answer["code"] != "wrong_argument" {
                continue;
            }
            total += 1;
            let next = &answer["next"];
            let Some(next_tool) = next["tool"].as_str().and_then(|next| Catalog::shared().find(next)) else { continue };
            if !next_tool.entry.writes() {
                continue;
            }
            suggested += 1;
            let arguments = next["arguments"].as_object().unwrap();
            let told = format!("{name} {} -> {next}", Value::Object(given.clone()));
            assert_eq!(next_tool.entry.name, name, "{told}");
            assert_eq!(arguments.len(), given.len(), "nothing is left out and nothing is added: {told}");
            for (given_name, value) in &given {
                let kept = match arguments.get(given_name) {
                    Some(kept) => is_same(kept, value),
                    None => arguments.iter().any(|(name, kept)| !given.contains_key(name) && is_same(kept, value)),
                };
                assert!(kept, "{given_name} is changed: {told}");
            }
        }
    }
    println!("{suggested} calls are suggested for {total} that are wrong");
    assert!(suggested > 1_000 && suggested < total, "{suggested} of {total}");
}

#[tokio::test]
async fn a_wrong_call_of_what_changes_something_is_put_right_or_leads_to_the_schema() {
    let dispatcher = without_node(&SurfaceOptions { flat: true, ..Default::default() });
    let schema = |tool: &str| json!({"tool": "tools_get_schema", "arguments": {"names": [tool]}, "after_ms": 0});
    let lists = |tool: &str| json!({"tool": tool, "arguments": {}, "after_ms": 0});
    let id = "01JD8Y3Q0M4T5R6W7X8Y9Z0A1B-k3v7x2aq";
    for (tool, arguments, next) in [
        (
            "queue_clear",
            json!({"confirm": true, "dry_run": true, "namespaces": "books"}),
            json!({"tool": "queue_clear", "after_ms": 0,
                "arguments": {"confirm": true, "dry_run": true, "namespace": "books"}}),
        ),
        ("queue_clear", json!({"confirm": true, "dry_run": true, "state": "failed"}), schema("queue_clear")),
        ("queue_clear", json!({"confirm": true, "dry_run": "yes"}), schema("queue_clear")),
        (
            "queue_clear",
            json!({"confirm": true, "dry_run": "true"}),
            json!({"tool": "queue_clear", "after_ms": 0, "arguments": {"confirm": true, "dry_run": true}}),
        ),
        ("queue_pause", json!({"dry_run": true, "namespace": 5}), schema("queue_pause")),
        ("approval_decide", json!({"approval_id": id, "decision": "deny"}), schema("approval_decide")),
        ("approval_decide", json!({"approve": false}), lists("approval_list")),
        ("p2p_taskqueue_submit", json!({"kind": 5}), schema("p2p_taskqueue_submit")),
        ("submit_p2p_workflow", json!({"name": "hello", "stages": []}), schema("submit_p2p_workflow")),
        ("schedule_remove", json!({}), lists("schedule_list")),
        ("p2p_taskqueue_cancel", json!({"dry_run": true}), lists("p2p_taskqueue_list_tasks")),
    ] {
        let error = failed(&dispatcher, tool, arguments.clone()).await;
        assert_eq!(error["next"], next, "{tool} {arguments}: {error}");
        assert!(!error["fix"].as_str().unwrap().contains(id), "{error}");
    }
    let wider = failed(&dispatcher, "queue_clear", json!({"confirm": true, "state": "failed"})).await;
    assert!(!wider["fix"].as_str().unwrap().starts_with("leave"), "{wider}");
}

#[tokio::test]
async fn the_names_of_the_seeds_are_taken_and_two_values_for_one_thing_are_not() {
    let dispatcher = without_node(&SurfaceOptions { flat: true, ..Default::default() });
    for (name, arguments) in [
        (
            "p2p_taskqueue_submit",
            json!({"task_type": "text-generation", "model_name": "gpt2", "payload": {"prompt": "x"}}),
        ),
        ("p2p_taskqueue_submit", json!({"task_type": "noop", "payload": {}, "remote_multiaddr": "", "priority": 5})),
        ("p2p_taskqueue_wait_task", json!({"task_id": "01JD8Y3Q0M4T5R6W7X8Y9Z0A1B-k3v7x2aq", "timeout_s": 60})),
        ("p2p_taskqueue_list_tasks", json!({"status": "completed", "limit": 50, "task_types": ["embedding"]})),
        ("p2p_taskqueue_status", json!({"remote_multiaddr": "", "peer_id": "", "timeout_s": 10, "detail": true})),
        (
            "list_peers",
            json!({"include_capabilities": true, "capabilities_timeout_s": 5, "discover": true,
            "discovery_timeout_s": 1.5, "discovery_methods": ["mdns"], "limit": 50}),
        ),
        (
            "submit_p2p_workflow",
            json!({"name": "w", "tasks": [{"model": "bert-base", "input": "x"}], "priority": 1, "tag": "p2p-only"}),
        ),
        ("get_workflow_status", json!({"workflow_id": "01JD8Y3Q0M4T5R6W7X8Y9Z0A1B-k3v7x2aq"})),
        ("p2p_get_merkle_clock", json!({})),
        (
            "tools_dispatch",
            json!({"category": "taskqueue", "tool": "p2p_taskqueue_submit", "params": {"task_type": "noop"}}),
        ),
        ("dispatch", json!({"name": "list_peers", "arguments": "{\"limit\": 3}"})),
    ] {
        let error = failed(&dispatcher, name, arguments).await;
        assert_eq!(error["code"], "node_unreachable", "{name}: {error}");
    }
    let error = failed(&dispatcher, "p2p_taskqueue_submit", json!({"kind": "noop", "task_type": "sleep"})).await;
    assert_eq!((error["code"].as_str(), error["field"].as_str()), (Some("wrong_argument"), Some("task_type")));
}

/// Tools whose machinery no node of this version has.
const UNAVAILABLE: [&str; 16] = [
    "p2p_taskqueue_submit_docker_hub",
    "p2p_taskqueue_submit_docker_github",
    "register_endpoint",
    "remove_endpoint",
    "cli_inference",
    "gh_list_repos",
    "gh_workflow_runs",
    "gh_cache_stats",
    "gh_provision_runner",
    "ipfs_dht_findprovs",
    "ipfs_ls",
    "ipfs_pin_ls",
    "ipfs_pin_add",
    "ipfs_pin_rm",
    "ipfs_dag_get",
    "ipfs_dag_put",
];

#[tokio::test]
async fn every_tool_of_the_node_says_how_to_start_one_that_is_away() {
    let dispatcher = without_node(&SurfaceOptions::default());
    for tool in Catalog::shared().tools() {
        if matches!(tool.entry.action, Action::Dispatch { .. }) || tool.entry.name.starts_with("tools_") {
            continue;
        }
        if tool.entry.name == "p2p_check_workflow_tags" {
            // What tags mean stands in no node.
            ok(&dispatcher, tool.entry.name, Value::Object(tool.example())).await;
            continue;
        }
        let error = failed(&dispatcher, tool.entry.name, Value::Object(tool.example())).await;
        if UNAVAILABLE.contains(&tool.entry.name) {
            assert_eq!((error["code"].as_str(), error["retryable"].as_bool()), (Some("unavailable_here"), Some(false)));
            continue;
        }
        let told = (error["code"].as_str(), error["retryable"].as_bool());
        assert_eq!(told, (Some("node_unreachable"), Some(true)), "{}: {error}", tool.entry.name);
        assert!(error["fix"].as_str().unwrap().contains("start a node with `node`"), "{}: {error}", tool.entry.name);
        assert!(error["message"].as_str().unwrap().contains("/nowhere/control.sock"), "{error}");
    }
}

#[tokio::test]
async fn a_dispatch_keeps_its_own_rules() {
    let dispatcher = without_node(&SurfaceOptions::default());
    for (tool, arguments, code) in [
        ("tools_dispatch_read", json!({"name": "p2p_taskqueue_submit", "arguments": {"kind": "noop"}}), "writes"),
        ("tools_dispatch", json!({"name": "tools_dispatch", "arguments": {}}), "not_dispatched"),
        ("tools_dispatch", json!({"name": "p2p_taskqueue_sumbit"}), "unknown_tool"),
        ("tools_dispatch", json!({"arguments": {}}), "wrong_argument"),
        ("tools_dispatch", json!({"name": "list_peers", "arguments": "[1]"}), "wrong_argument"),
        (
            "tools_dispatch",
            json!({"name": "p2p_taskqueue_cancel", "idempotency_key": "a",
            "arguments": {"task_id": "x", "idempotency_key": "b"}}),
            "wrong_argument",
        ),
    ] {
        let error = failed(&dispatcher, tool, arguments).await;
        assert_eq!(error["code"], code, "{error}");
    }
    let read_only = without_node(&SurfaceOptions { read_only: true, ..Default::default() });
    for tool in ["p2p_taskqueue_submit", "cancel_workflow", "tools_dispatch"] {
        for (name, arguments) in [(tool, json!({})), ("tools_dispatch_read", json!({"name": tool}))] {
            assert_eq!(failed(&read_only, name, arguments).await["code"], "read_only", "{tool} through {name}");
        }
    }
}
