//! The Tasks extension over real nodes: a client that declares it is given a task of the protocol, which is the ledger's.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::rig::{Rig, call, failed, ok};
use crate::wire::Request;

use crate::http::OPEN;

/// Sends a request of a client that declares tasks.
async fn send(base: &str, token: &str, method: &str, params: Value) -> Value {
    let name =
        params.get("name").or_else(|| params.get("taskId")).and_then(Value::as_str).unwrap_or_default().to_owned();
    let capabilities = json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
    let request = Request::rpc_of("/mcp/full", method, params, capabilities).header("mcp-name", &name).token(token);
    request.send(base).await.json()
}

/// The task that a call is answered with.
async fn started(base: &str, token: &str, tool: &str, arguments: Value) -> Value {
    let answer = send(base, token, "tools/call", json!({"name": tool, "arguments": arguments})).await;
    assert_eq!(answer["result"]["resultType"], "task", "{answer}");
    answer["result"].clone()
}

async fn got(base: &str, token: &str, task: &Value) -> Value {
    send(base, token, "tasks/get", json!({"taskId": task["taskId"]})).await
}

/// Asks until it is done.
async fn ended(base: &str, token: &str, task: &Value) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = got(base, token, task).await;
        let status = answer["result"]["status"].as_str().unwrap_or_else(|| panic!("{answer}"));
        if status != "working" {
            return answer["result"].clone();
        }
        assert!(Instant::now() < deadline, "it goes on: {answer}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_is_a_task_of_the_protocol_to_who_declares_them() {
    let rig = Rig::start_with(|_| OPEN.to_owned()).await;
    let arguments = json!({"kind": "process", "run": ["python3", "-c", "print(6 * 7)"]});
    let task = started(&rig.http, "", "p2p_taskqueue_submit", arguments.clone()).await;
    let done = ended(&rig.http, "", &task).await;
    assert_eq!(done["status"], "completed", "{done}");
    assert_eq!(done["result"]["structuredContent"]["task"]["output"], 42, "{done}");
    assert_eq!(done["result"]["isError"], false, "{done}");
    assert!(done["ttlMs"].as_u64().is_some_and(|kept| kept >= 600_000), "{done}");
    assert_eq!(done["createdAt"], task["createdAt"]);

    let answer = Request::call("/mcp/full", "p2p_taskqueue_submit", arguments).send(&rig.http).await.json();
    assert_eq!(answer["result"]["structuredContent"]["next"]["tool"], "p2p_taskqueue_wait_task", "{answer}");
    let refused = Request::rpc("/mcp/full", "tasks/get", json!({"taskId": task["taskId"]}));
    let refused = refused.header("mcp-name", task["taskId"].as_str().unwrap()).send(&rig.http).await.json();
    assert!(refused["error"]["code"].is_i64(), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_fails_is_completed_with_an_error_to_read_and_one_that_is_cancelled_is_cancelled() {
    let rig = Rig::start_with(|_| OPEN.to_owned()).await;
    let run = json!(["python3", "-c", "import sys; sys.exit('no such thing')"]);
    let arguments = json!({"kind": "process", "run": run, "retry": {"max_attempts": 1}});
    let task = started(&rig.http, "", "p2p_taskqueue_submit", arguments).await;
    let failed = ended(&rig.http, "", &task).await;
    assert_eq!((&failed["status"], &failed["result"]["isError"]), (&json!("completed"), &json!(true)), "{failed}");
    assert!(failed["result"]["structuredContent"]["task"]["log_tail"].as_str().unwrap().contains("no such thing"));

    let step = json!({"name": "long", "kind": "sleep", "input": "10m"});
    let workflow = json!({"name": "w", "steps": [step]});
    for (tool, arguments) in
        [("p2p_taskqueue_submit", json!({"kind": "sleep", "input": "10m"})), ("submit_p2p_workflow", workflow)]
    {
        let task = started(&rig.http, "", tool, arguments).await;
        let working = got(&rig.http, "", &task).await;
        assert_eq!((&working["result"]["status"], &working["result"]["ttlMs"]), (&json!("working"), &Value::Null));
        let update = json!({"taskId": task["taskId"], "inputResponses": {}});
        let updated = send(&rig.http, "", "tasks/update", update).await;
        assert!(updated["result"].is_object(), "{updated}");
        let cancelled = send(&rig.http, "", "tasks/cancel", json!({"taskId": task["taskId"]})).await;
        assert!(cancelled["result"].is_object(), "{cancelled}");
        assert_eq!(ended(&rig.http, "", &task).await["status"], "cancelled");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_task_is_not_found_and_stays_as_it_is() {
    let (rig, root) = crate::http::with_tokens().await;
    let other = crate::http::token(&rig, "other", "admin");
    crate::http::until(&rig.http, 200, || Request::rpc("/mcp", "tools/list", json!({})).token(&other)).await;
    let task = started(&rig.http, &root, "p2p_taskqueue_submit", json!({"kind": "sleep", "input": "10m"})).await;
    let unknown = json!({"taskId": "01JD0000000000000000000000-k3v9x2aq"});
    let nowhere = send(&rig.http, &other, "tasks/get", unknown.clone()).await;
    assert_eq!(nowhere["error"]["code"], -32602, "{nowhere}");
    for method in ["tasks/get", "tasks/cancel", "tasks/update"] {
        let params = json!({"taskId": task["taskId"], "inputResponses": {}});
        let answer = send(&rig.http, &other, method, params).await;
        assert_eq!(answer["error"]["code"], -32602, "{method}: {answer}");
        assert_eq!(answer["error"]["data"]["code"], "not_found", "{method}: {answer}");
    }
    assert_eq!(got(&rig.http, &root, &task).await["result"]["status"], "working");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_outlives_its_node_and_is_read_through_another() {
    let other = Rig::start_with(|_| OPEN.to_owned()).await;
    let mut home = Rig::start_beside(&other, |_| OPEN.to_owned()).await;
    let run = json!(["python3", "-c", "import time; time.sleep(1); print(7)"]);
    let task = started(&home.http, "", "p2p_taskqueue_submit", json!({"kind": "process", "run": run})).await;
    home.crash().await;
    let through_other = ended_somewhere(&other.http, &task).await;
    let done = ended(&home.http, "", &task).await;
    assert_eq!(done["result"]["structuredContent"]["task"]["output"], 7, "{done}");
    assert_eq!(through_other, done);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_home_is_away_a_caller_is_told_how_it_last_saw_its_work_and_nobody_else_is() {
    let other = Rig::start_with(|_| OPEN.to_owned()).await;
    let mut home = Rig::start_beside(&other, |_| OPEN.to_owned()).await;
    let task = ok(&home.dispatcher, "p2p_taskqueue_submit", json!({"kind": "noop", "wait_ms": 20_000})).await;
    let step = json!({"name": "long", "kind": "sleep", "input": "10m"});
    let workflow = ok(&home.dispatcher, "submit_p2p_workflow", json!({"name": "w", "steps": [step]})).await;
    let task = json!({"task_id": task["task_id"]});
    let workflow = json!({"workflow_id": workflow["workflow_id"]});
    let reads = [("p2p_taskqueue_get_task", &task), ("get_workflow_status", &workflow)];
    let deadline = Instant::now() + Duration::from_secs(60);
    for (tool, arguments) in reads {
        while call(&other.dispatcher, tool, arguments.clone()).await.is_error {
            assert!(Instant::now() < deadline, "the other does not know the home");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    home.kill();
    for ((tool, arguments), state) in reads.into_iter().zip(["succeeded", "running"]) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let error = loop {
            let error = failed(&other.dispatcher, tool, arguments.clone()).await;
            if error["code"] == "home_unreachable" {
                break error;
            }
            assert!(Instant::now() < deadline, "its end is not noticed: {error}");
        };
        assert_eq!((&error["code"], &error["retryable"]), (&json!("home_unreachable"), &json!(true)), "{error}");
        assert_eq!(error["stale"]["state"], state, "{error}");
        assert!(error["stale"]["seen_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{error}");
        let theirs = Request::call("/mcp/full", tool, arguments.clone()).send(&other.http).await.json();
        let theirs = &theirs["result"]["structuredContent"];
        assert_eq!((&theirs["code"], theirs.get("stale")), (&json!("home_unreachable"), None), "{theirs}");
    }
}

/// Asks a node that may not reach the home yet; until then it says that this may pass.
async fn ended_somewhere(base: &str, task: &Value) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = got(base, "", task).await;
        match answer["error"]["data"]["retryable"].as_bool() {
            None => return ended(base, "", task).await,
            Some(passes) => assert!(passes, "{answer}"),
        }
        assert!(Instant::now() < deadline, "its home stays away: {answer}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_earlier_era_a_submission_is_answered_even_to_who_declares_tasks() {
    let rig = Rig::start_with(|_| OPEN.to_owned()).await;
    let capabilities = json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
    let client = json!({"name": "inspector-cli", "version": "2.12.0"});
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": client});
    let open = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params});
    let opened = Request::new("POST", "/mcp/full").json(&open).send(&rig.http).await;
    let session = opened.header("mcp-session-id").unwrap();
    let within = |message: &Value| {
        Request::new("POST", "/mcp/full").header("mcp-session-id", session).json(message).send(&rig.http)
    };
    within(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
    let params = json!({"name": "p2p_taskqueue_submit", "arguments": {"kind": "sleep", "input": "1s"}});
    let answer = within(&json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params})).await.json();
    assert_eq!(answer["result"]["structuredContent"]["next"]["tool"], "p2p_taskqueue_wait_task", "{answer}");
}
