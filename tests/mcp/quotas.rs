//! Callers whose tokens say how much they may use.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{bearer, with_tokens};
use crate::rig::Rig;
use crate::wire::Request;

struct Client {
    token: String,
}

impl Client {
    /// A new caller, once it is let in.
    async fn of(rig: &Rig, name: &str, quota: &str) -> Self {
        let made = bearer(rig, &["add", name, "--scope", "admin", "--quota", quota]);
        let client = Self { token: made["token"].as_str().unwrap().to_owned() };
        let deadline = Instant::now() + Duration::from_secs(30);
        while client.send(rig, Request::rpc("/mcp/full", "tools/list", json!({}))).await["result"].is_null() {
            assert!(Instant::now() < deadline, "the token is not known");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        client
    }

    async fn send(&self, rig: &Rig, request: Request) -> Value {
        request.token(&self.token).send(&rig.http).await.json()
    }

    async fn call(&self, rig: &Rig, tool: &str, arguments: Value) -> Value {
        self.send(rig, Request::call("/mcp/full", tool, arguments)).await["result"].clone()
    }

    async fn ok(&self, rig: &Rig, tool: &str, arguments: Value) -> Value {
        let result = self.call(rig, tool, arguments).await;
        assert_eq!(result["isError"], false, "{tool}: {result}");
        result["structuredContent"].clone()
    }

    /// What a task puts out, however long a busy machine takes for it.
    async fn output(&self, rig: &Rig, task: Value) -> Value {
        let id = self.ok(rig, "p2p_taskqueue_submit", task).await["task_id"].clone();
        let deadline = Instant::now() + Duration::from_secs(180);
        loop {
            let waited = json!({"task_id": id, "wait_ms": 20_000});
            let shown = self.ok(rig, "p2p_taskqueue_wait_task", waited).await;
            if shown["task"]["state"] == "succeeded" {
                return shown["task"]["output"].clone();
            }
            assert!(Instant::now() < deadline, "it does not end: {shown}");
        }
    }

    /// The words of a refusal by quota.
    async fn refused(&self, rig: &Rig, tool: &str, arguments: Value) -> String {
        let result = self.call(rig, tool, arguments).await;
        let error = &result["structuredContent"];
        assert_eq!((&result["isError"], &error["code"]), (&json!(true), &json!("quota_exceeded")), "{tool}: {result}");
        assert!(error["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{error}");
        assert_eq!(error["retryable"].as_bool(), Some(error["retry_after_ms"].is_u64()), "{error}");
        error["message"].as_str().unwrap().to_owned()
    }

    /// What is shown as used of one of its quotas.
    async fn used(&self, rig: &Rig, quota: &str) -> f64 {
        let mut shown = Vec::new();
        for tool in ["get_system_status", "p2p_taskqueue_status"] {
            let status = self.ok(rig, tool, json!({})).await;
            let row = status["quota"].as_array().unwrap().iter().find(|row| row["quota"] == quota).cloned();
            shown.push(row.unwrap_or_else(|| panic!("{status}"))["used"].as_f64().unwrap());
        }
        assert_eq!(shown[0], shown[1]);
        shown[0]
    }
}

/// A task that nobody runs before it is claimed.
fn waiting() -> Value {
    json!({"kind": "tool", "input": 1})
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_as_many_tasks_as_it_may_begins_no_more_by_whatever_tool_and_again_when_one_ends() {
    let (mut rig, root) = with_tokens().await;
    let ann = Client::of(&rig, "ann", "tasks=2").await;
    let first = ann.ok(&rig, "p2p_taskqueue_submit", waiting()).await["task_id"].clone();
    let keyed = json!({"kind": "tool", "input": 2, "idempotency_key": "k"});
    let second = ann.ok(&rig, "p2p_taskqueue_submit", keyed.clone()).await["task_id"].clone();
    let step = |name: &str| json!({"name": name, "kind": "tool", "input": 1});
    let workflow = json!({"name": "w", "steps": [step("a")]});
    let call = json!({"name": "p2p_taskqueue_submit", "arguments": waiting()});
    for (tool, arguments) in [
        ("p2p_taskqueue_submit", waiting()),
        ("p2p_taskqueue_submit", json!({"kind": "tool", "input": 1, "dry_run": true})),
        ("p2p_submit_task", json!({"task_id": "t-9", "name": "review"})),
        ("submit_p2p_workflow", workflow.clone()),
        ("submit_p2p_workflow", json!({"name": "w", "steps": [step("a")], "dry_run": true})),
        ("tools_dispatch", call.clone()),
        ("p2p_taskqueue_call_tool", call),
    ] {
        let words = ann.refused(&rig, tool, arguments).await;
        assert!(words.contains("the quota tasks of this caller is 2 tasks; 2 tasks are not over"), "{tool}: {words}");
    }
    let capabilities = json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
    let params = json!({"name": "p2p_taskqueue_submit", "arguments": waiting()});
    let request = Request::rpc_of("/mcp/full", "tools/call", params, capabilities);
    let answer = ann.send(&rig, request.header("mcp-name", "p2p_taskqueue_submit")).await;
    assert_eq!(answer["result"]["structuredContent"]["code"], "quota_exceeded", "{answer}");
    let again = ann.ok(&rig, "p2p_taskqueue_submit", keyed).await;
    assert_eq!(again["task_id"], second, "what was taken before is answered as before");
    assert_eq!(ann.used(&rig, "tasks").await, 2.0);

    rig.crash().await;
    ann.refused(&rig, "p2p_taskqueue_submit", waiting()).await;
    let other = Client { token: root };
    other.ok(&rig, "p2p_taskqueue_submit", waiting()).await;
    assert!(other.ok(&rig, "get_system_status", json!({})).await["quota"].is_null(), "it has none");

    ann.ok(&rig, "p2p_taskqueue_cancel", json!({"task_id": first})).await;
    ann.refused(&rig, "submit_p2p_workflow", json!({"name": "w", "steps": [step("a"), step("b")]})).await;
    ann.ok(&rig, "submit_p2p_workflow", workflow).await;
    ann.refused(&rig, "p2p_taskqueue_resubmit", json!({"task_id": first})).await;
    let timed = json!({"name": "w", "cron": "@daily", "steps": [step("a")]});
    let refused = ann.call(&rig, "schedule_create", timed).await;
    assert_eq!(refused["structuredContent"]["code"], "not_under_quota", "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn processor_time_that_was_used_stays_used_over_a_restart() {
    let (mut rig, _) = with_tokens().await;
    let ann = Client::of(&rig, "ann", "cpu_s=1,gpu_s=5,per=24h").await;
    let burn = "import time\nwhile time.process_time() < 1.1: pass\nprint(7)";
    let output = ann.output(&rig, json!({"kind": "process", "run": ["python3", "-c", burn]})).await;
    assert_eq!(output, 7);
    let words = ann.refused(&rig, "p2p_taskqueue_submit", waiting()).await;
    assert!(words.contains("the quota cpu_s of this caller is 1.0 s of processor time"), "{words}");
    assert!(words.contains("in the last 1d; enough is free again in"), "{words}");
    let used = ann.used(&rig, "cpu_s").await;
    assert!((1.0..30.0).contains(&used), "{used}");
    rig.crash().await;
    assert_eq!(ann.used(&rig, "cpu_s").await, used);
    ann.refused(&rig, "p2p_taskqueue_submit", waiting()).await;
    let listed = bearer(&rig, &["ls"]);
    let row = listed["items"].as_array().unwrap().iter().find(|row| row["name"] == "ann").cloned().unwrap();
    assert_eq!((&row["quota"]["cpu_s"], &row["used"][0]["used"]), (&json!(1), &json!(used)), "{row}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_put_and_bytes_that_come_out_are_counted_together() {
    let (mut rig, _) = with_tokens().await;
    let ann = Client::of(&rig, "ann", "bytes=10000").await;
    let text = |len: usize| json!({"text": "x".repeat(len)});
    ann.ok(&rig, "ipfs_add", text(3_000)).await;
    ann.output(&rig, json!({"kind": "process", "run": ["python3", "-c", "print('y' * 4000)"]})).await;
    let used = ann.used(&rig, "bytes").await;
    assert!((7_000.0..7_200.0).contains(&used), "{used}");
    rig.crash().await;
    let words = ann.refused(&rig, "ipfs_add", text(4_000)).await;
    assert!(words.contains("the quota bytes of this caller is 10000 bytes"), "{words}");
    let files =
        json!({"kind": "process", "run": ["sh", "-c", "cat a"], "files": [{"path": "a", "text": "z".repeat(4_000)}]});
    ann.refused(&rig, "p2p_taskqueue_submit", files).await;
    ann.ok(&rig, "ipfs_add", text(2_500)).await;
    let words = ann.refused(&rig, "ipfs_add", text(10_001)).await;
    assert!(words.contains("never free"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_at_the_same_time_are_counted_one_by_one() {
    let (rig, _) = with_tokens().await;
    let ann = Client::of(&rig, "ann", "tasks=5").await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let request = Request::call("/mcp/full", "p2p_taskqueue_submit", waiting()).token(&ann.token);
        let base = rig.http.clone();
        calls.spawn(async move { request.send(&base).await.json()["result"].clone() });
    }
    let answers = calls.join_all().await;
    let taken = answers.iter().filter(|answer| answer["isError"] == false).count();
    assert_eq!(taken, 5, "{answers:?}");
}
