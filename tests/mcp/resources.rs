//! What is read of a real node by name, and what may be completed.

use magpie::mcp::completion::{About, Completed};
use magpie::mcp::dispatch::Dispatcher;
use magpie::mcp::surface::SurfaceOptions;
use serde_json::{Value, json};

use crate::rig::{Rig, TestCaller, dispatcher, ok, without_node};
use crate::wire::{Answer, Request};

pub const OPEN: &str = "[http]\nlisten = \"127.0.0.1:0\"\n";
const NOWHERE: &str = "01JD8Y3Q0M4T5R6W7X8Y9Z0A1B-k3v7x2aq";

async fn over_http(rig: &Rig, path: &str, method: &str, params: Value) -> Answer {
    let name = params["uri"].as_str().or(params["name"].as_str()).map(str::to_owned);
    let request = Request::rpc(path, method, params);
    let request = name.iter().fold(request, |request, name| request.header("mcp-name", name));
    request.send(&rig.http).await
}

/// What is read, as a document.
async fn document(dispatcher: &Dispatcher, uri: &str) -> Value {
    let contents = dispatcher.read(uri, &TestCaller::default()).await.unwrap_or_else(|error| panic!("{uri}: {error}"));
    assert_eq!((contents.mime_type, contents.uri.as_str()), ("application/json", uri));
    serde_json::from_str(&contents.text).unwrap()
}

async fn refused(dispatcher: &Dispatcher, uri: &str) -> &'static str {
    dispatcher.read(uri, &TestCaller::default()).await.unwrap_err().code
}

async fn completed(dispatcher: &Dispatcher, about: About<'_>, argument: &str, begun: &str) -> Completed {
    dispatcher.complete(about, argument, begun, &TestCaller::default()).await.unwrap()
}

fn process(program: &str) -> Value {
    json!({"kind": "process", "run": ["python3", "-c", program], "wait_ms": 20_000})
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_resource_is_read() {
    let rig = Rig::start().await;
    let program = "import sys; sys.stderr.write('\\x1b[2Jhello\\u202e\\n' * 3); print('\"\\\\u001b[31mred\"')";
    let task = ok(&rig.dispatcher, "p2p_taskqueue_submit", process(program)).await["task_id"].clone();
    let task = task.as_str().unwrap();
    let steps = json!([{"name": "first", "kind": "noop"}, {"name": "second", "kind": "noop", "needs": ["first"]}]);
    let workflow = json!({"name": "pair", "steps": steps, "wait_ms": 20_000});
    let workflow = ok(&rig.dispatcher, "submit_p2p_workflow", workflow).await["workflow_id"].clone();
    let workflow = workflow.as_str().unwrap();

    let status = document(&rig.dispatcher, "node://status").await;
    assert_eq!((&status["queue"]["completed"], status.get("ok")), (&json!(3), None), "{status}");
    let shown = document(&rig.dispatcher, &format!("task://{task}")).await;
    assert_eq!((&shown["task"]["output"], &shown["task"]["status"]), (&json!("red"), &json!("completed")), "{shown}");
    assert_eq!(shown["untrusted"], json!(["task.output", "task.log_tail"]));
    let shown = document(&rig.dispatcher, &format!("workflow://{workflow}")).await;
    assert_eq!((&shown["done"], shown["steps"].as_array().map(Vec::len)), (&json!(true), Some(2)), "{shown}");
    let log = document(&rig.dispatcher, &format!("logs://{task}")).await;
    assert_eq!((&log["log"], &log["state"]), (&json!("hello\n".repeat(3)), &json!("succeeded")), "{log}");
    assert_eq!(log["untrusted"][0], "log");
    let events = document(&rig.dispatcher, "events://recent").await;
    let events = events["events"].as_array().unwrap();
    assert!(events.len() > 4 && events[0]["seq"].as_u64() > events[1]["seq"].as_u64(), "the newest first: {events:?}");
    assert!(events.iter().any(|event| event["subjects"][0]["id"] == task), "{events:?}");

    let graph = format!("workflow://{workflow}/graph");
    let contents = rig.dispatcher.read(&graph, &TestCaller::default()).await.unwrap();
    assert_eq!(contents.mime_type, "text/vnd.mermaid");
    assert!(contents.text.starts_with("flowchart") && contents.text.contains("second"), "{}", contents.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_long_is_read_from_its_end_and_while_it_grows() {
    let rig = Rig::start().await;
    let program = "import sys, time\nfor n in range(20000): sys.stderr.write(f'line {n}\\n')\nsys.stderr.flush()\ntime.sleep(3600)";
    let running = json!({"kind": "process", "run": ["python3", "-c", program], "timeout": "2h"});
    let task = ok(&rig.dispatcher, "p2p_taskqueue_submit", running).await["task_id"].clone();
    let uri = format!("logs://{}", task.as_str().unwrap());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let log = loop {
        let log = document(&rig.dispatcher, &uri).await;
        if log["log"].as_str().unwrap().ends_with("line 19999\n") {
            break log;
        }
        assert!(std::time::Instant::now() < deadline, "{log}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert_eq!(log["state"], "running");
    assert!(log["bytes_before"].as_u64() > Some(100_000) && log["rest"].is_string(), "{log}");
    assert!(log.to_string().len() <= 64 * 1024);
    ok(&rig.dispatcher, "p2p_taskqueue_cancel", json!({"task_id": task})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_not_for_this_caller_is_refused_in_words() {
    let rig = Rig::start().await;
    for uri in [format!("task://{NOWHERE}"), format!("workflow://{NOWHERE}/graph"), format!("logs://{NOWHERE}")] {
        assert_eq!(refused(&rig.dispatcher, &uri).await, "home_unreachable", "{uri}: its home is none of this mesh");
    }
    let own = ok(&rig.dispatcher, "p2p_taskqueue_submit", json!({"kind": "noop"})).await["task_id"].clone();
    let own = own.as_str().unwrap();
    let unknown = format!("00000000000000000000000000-{}", own.split('-').next_back().unwrap());
    for scheme in ["task", "workflow", "logs"] {
        let code = refused(&rig.dispatcher, &format!("{scheme}://{unknown}")).await;
        assert!(["not_found", "pruned"].contains(&code), "{scheme}: {code}");
    }
    for uri in ["file:///etc/passwd", "task://7", "node://statu", ""] {
        assert_eq!(refused(&rig.dispatcher, uri).await, "unknown_resource", "{uri}");
    }
    assert_eq!(refused(&without_node(&SurfaceOptions::default()), "node://status").await, "node_unreachable");
    let only = SurfaceOptions { toolset: vec!["workflow".to_owned()], ..Default::default() };
    let only = dispatcher(&rig.socket(), &only);
    assert_eq!(refused(&only, &format!("task://{own}")).await, "not_in_toolset");
    let listed: Vec<String> = only.resources().map(|entry| entry.uri()).collect();
    assert_eq!(listed, ["workflow://{workflow_id}", "workflow://{workflow_id}/graph"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_resources_are_listed_read_and_refused_as_each_era_has_it() {
    let rig = Rig::start_with(|_| OPEN.to_owned()).await;
    let listed = over_http(&rig, "/mcp", "resources/list", json!({})).await.json()["result"].clone();
    let uris: Vec<&Value> = listed["resources"].as_array().unwrap().iter().map(|entry| &entry["uri"]).collect();
    assert_eq!(uris, ["node://status", "events://recent"]);
    assert_eq!((&listed["ttlMs"], &listed["cacheScope"]), (&json!(3_600_000), &json!("private")));
    let templates = over_http(&rig, "/mcp", "resources/templates/list", json!({})).await.json()["result"].clone();
    assert_eq!(templates["resourceTemplates"].as_array().map(Vec::len), Some(5), "{templates}");
    let wrong = over_http(&rig, "/mcp", "resources/list", json!({"cursor": "20"})).await.json();
    assert_eq!(wrong["error"]["code"], -32602, "{wrong}");

    let read = over_http(&rig, "/mcp/readonly", "resources/read", json!({"uri": "node://status"})).await.json();
    let contents = &read["result"]["contents"][0];
    assert_eq!((&contents["uri"], &contents["mimeType"]), (&json!("node://status"), &json!("application/json")));
    assert_eq!((&read["result"]["ttlMs"], &read["result"]["cacheScope"]), (&json!(0), &json!("private")));
    let missing = over_http(&rig, "/mcp", "resources/read", json!({"uri": "node://moon"})).await.json();
    assert_eq!((&missing["error"]["code"], &missing["error"]["data"]["uri"]), (&json!(-32602), &json!("node://moon")));
    assert!(missing["error"]["message"].as_str().unwrap().contains("events://recent"), "{missing}");
    let elsewhere = over_http(&rig, "/mcp/x/workflow", "resources/read", json!({"uri": "node://status"})).await.json();
    assert_eq!(elsewhere["error"]["data"]["code"], "not_in_toolset", "{elsewhere}");

    let about =
        json!({"ref": {"type": "ref/prompt", "name": "diagnose_task"}, "argument": {"name": "task_id", "value": ""}});
    let values = over_http(&rig, "/mcp", "completion/complete", about).await.json()["result"].clone();
    assert_eq!((&values["completion"]["values"], &values["completion"]["hasMore"]), (&json!([]), &json!(false)));
    let prompt = over_http(&rig, "/mcp", "prompts/get", json!({"name": "join_mesh"})).await.json()["result"].clone();
    assert_eq!(prompt["messages"][0]["role"], "user", "{prompt}");
    let wrong = over_http(&rig, "/mcp", "prompts/get", json!({"name": "diagnose_task"})).await.json();
    assert_eq!((&wrong["error"]["code"], &wrong["error"]["data"]["field"]), (&json!(-32602), &json!("task_id")));
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_are_completed_the_newest_first_and_by_their_beginning() {
    let rig = Rig::start().await;
    let task = About::Template("task://{task_id}");
    assert!(completed(&rig.dispatcher, task, "task_id", "").await.values.is_empty());
    let mut ids = Vec::new();
    for _ in 0..3 {
        let answer = ok(&rig.dispatcher, "p2p_taskqueue_submit", json!({"kind": "noop"})).await;
        ids.push(answer["task_id"].as_str().unwrap().to_owned());
    }
    let newest = completed(&rig.dispatcher, task, "task_id", "").await;
    assert_eq!((newest.values.iter().rev().cloned().collect::<Vec<_>>(), newest.has_more), (ids.clone(), false));
    for len in [1, 10, 26, 30, ids[1].len()] {
        let found = completed(&rig.dispatcher, About::Prompt("diagnose_task"), "task_id", &ids[1][..len]).await;
        assert!(found.values.contains(&ids[1]), "{len}: {found:?}");
        assert!(found.values.iter().all(|value| value.starts_with(&ids[1][..len])), "{len}: {found:?}");
    }
    let lower = completed(&rig.dispatcher, task, "task_id", &ids[1][..26].to_lowercase()).await;
    assert_eq!(lower.values, [ids[1].clone()]);
    assert!(completed(&rig.dispatcher, task, "task_id", "../etc").await.values.is_empty());
    let workflows = About::Template("workflow://{workflow_id}/graph");
    assert!(completed(&rig.dispatcher, workflows, "workflow_id", "").await.values.is_empty());
    let steps = json!({"name": "one", "steps": [{"name": "a", "kind": "noop"}]});
    let id = ok(&rig.dispatcher, "submit_p2p_workflow", steps).await["workflow_id"].clone();
    assert_eq!(json!(completed(&rig.dispatcher, workflows, "workflow_id", "").await.values), json!([id]));
    let error = rig.dispatcher.complete(task, "id", "", &TestCaller::default()).await.unwrap_err();
    assert_eq!((error.code, error.field.as_deref()), ("wrong_argument", Some("argument")));
}
