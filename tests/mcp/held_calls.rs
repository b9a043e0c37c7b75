//! Calls that a token's holder may not make before a person approves them: over every way to a tool, and once.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::approvals::Client;
use crate::http::{bearer, with_tokens};
use crate::rig::{Rig, failed, ok};
use crate::wire::Request;

/// What a call without tasks of the protocol is answered with.
async fn called(rig: &Rig, token: &str, tool: &str, arguments: Value) -> Value {
    let answer = Request::call("/mcp/full", tool, arguments).token(token).send(&rig.http).await.json();
    answer["result"]["structuredContent"].clone()
}

fn held(answer: &Value) -> Value {
    assert_eq!((&answer["held"], &answer["ok"]), (&json!(true), &json!(true)), "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("was not called"), "{answer}");
    answer["task_id"].clone()
}

async fn decide(rig: &Rig, id: &Value, approve: bool) -> Value {
    ok(&rig.dispatcher, "approval_decide", json!({"approval_id": id, "approve": approve, "comment": "seen"})).await
}

/// The task when it has ended.
async fn ended(rig: &Rig, id: &Value) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let wait = json!({"task_id": id, "wait_ms": 5_000});
        let answer = ok(&rig.dispatcher, "p2p_taskqueue_wait_task", wait).await;
        if answer["done"] == true {
            return answer["task"].clone();
        }
        assert!(Instant::now() < deadline, "{answer}");
    }
}

async fn is_paused(rig: &Rig) -> bool {
    let stats = ok(&rig.dispatcher, "queue_stats", json!({})).await;
    stats.get("paused").is_some_and(|paused| !paused.as_array().unwrap().is_empty())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_call_is_made_once_it_is_approved_and_its_answer_is_the_tasks() {
    let (rig, _) = with_tokens().await;
    let ann = Client::with(&rig, &["ann", "--scope", "operate", "--approve", "writes"]).await;
    let pause = json!({"reason": "to look"});
    let created = ann.call("queue_pause", pause.clone()).await;
    assert_eq!((&created["resultType"], &created["status"]), (&json!("task"), &json!("input_required")), "{created}");
    let id = created["taskId"].clone();
    let waiting = ann.task(&id).await;
    let form = &waiting["inputRequests"][id.as_str().unwrap()]["params"]["message"];
    assert!(form.as_str().unwrap().contains("queue_pause") && form.as_str().unwrap().contains("to look"), "{waiting}");
    let listed = ok(&rig.dispatcher, "approval_list", json!({})).await;
    let row = &listed["approvals"][0];
    assert_eq!((&row["owner"], &row["held_call"]), (&json!("token:ann"), &json!(true)), "{listed}");
    assert_eq!(row["input"], json!({"tool": "queue_pause", "arguments": pause}), "{listed}");
    assert!(!is_paused(&rig).await, "nothing was called");

    assert_eq!(decide(&rig, &id, true).await["state"], "running");
    let done = ann.until_status(&id, "completed").await;
    assert_eq!((&done["result"]["isError"], &done["result"]["structuredContent"]["ok"]), (&json!(false), &json!(true)));
    assert!(done["result"]["structuredContent"]["version"].is_u64(), "it is what queue_pause answers: {done}");
    assert!(is_paused(&rig).await);
    let audit = crate::http::ctl(&rig, &["audit", "--tool", "queue_pause"]);
    let lines: Vec<_> =
        audit["items"].as_array().unwrap().iter().map(|line| [&line["principal"], &line["client"]]).collect();
    assert_eq!(
        lines,
        [[&json!("token:ann"), &json!("wire")], [&json!("token:ann"), &json!("approved-call")]],
        "{audit}"
    );
    // Decided again, it is not made again.
    ok(&rig.dispatcher, "queue_resume", json!({})).await;
    decide(&rig, &id, true).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert!(!is_paused(&rig).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_way_to_a_tool_leads_past_the_policy_and_what_it_does_not_name_is_made() {
    let (rig, _) = with_tokens().await;
    let made = bearer(&rig, &["add", "ann", "--scope", "admin", "--approve", "destructive"]);
    let token = made["token"].as_str().unwrap();
    assert_eq!(made["approve"], "destructive");
    crate::http::until(&rig.http, 200, || Request::rpc("/mcp", "tools/list", json!({})).token(token)).await;
    let clear = json!({"confirm": true});
    let peer = rig.status().await.peer_id.to_string();
    for (tool, arguments) in [
        ("queue_clear", clear.clone()),
        ("tools_dispatch", json!({"name": "queue_clear", "arguments": clear})),
        ("dispatch", json!({"name": "queue_clear", "arguments": clear})),
        ("p2p_taskqueue_call_tool", json!({"name": "queue_clear", "arguments": clear})),
        ("p2p_taskqueue_call_tool", json!({"name": "queue_clear", "arguments": clear, "peer_id": peer})),
        ("p2p_taskqueue_call_tool", json!({"name": "of_a_later_version", "peer_id": peer})),
        (
            "tools_dispatch",
            json!({"name": "p2p_taskqueue_call_tool",
            "arguments": {"name": "queue_clear", "arguments": clear, "peer_id": peer}}),
        ),
        (
            "task_cancel",
            json!({"task_id": ok(&rig.dispatcher, "p2p_taskqueue_submit", json!({"kind": "tool"})).await["task_id"]}),
        ),
    ] {
        let answer = called(&rig, token, tool, arguments.clone()).await;
        held(&answer);
    }
    let wrong = called(&rig, token, "queue_clear", json!({"confirm": false})).await;
    assert_eq!(wrong["field"], "confirm", "nobody is asked about a wrong call: {wrong}");
    let dry = called(&rig, token, "queue_clear", json!({"confirm": true, "dry_run": true})).await;
    assert_eq!((&dry["dry_run"], &dry["would"]["change"]), (&json!(true), &json!("clear_queue")), "{dry}");
    assert!(dry["would"]["takes"].as_str().unwrap().contains("not calls that are held"), "{dry}");
    assert!(dry["would"]["held"].as_str().unwrap().contains("approves"), "{dry}");
    let paused = called(&rig, token, "queue_pause", json!({})).await;
    assert_eq!((paused.get("held"), &paused["ok"]), (None, &json!(true)), "it takes nothing away: {paused}");
    let waiting = ok(&rig.dispatcher, "approval_list", json!({})).await;
    assert_eq!(waiting["count"], 8, "{waiting}");

    // What only looks like a held call is none.
    let forged = json!({"kind": "approval", "labels": {"magpie.held-call": "queue_clear"}});
    let refused = failed(&rig.dispatcher, "p2p_taskqueue_submit", forged).await;
    assert!(refused["problems"][0]["path"].as_str().unwrap().contains("magpie.held-call"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_call_and_one_of_a_revoked_token_are_not_made() {
    let (rig, _) = with_tokens().await;
    let ann = Client::with(&rig, &["ann", "--scope", "operate", "--approve", "queue_pause"]).await;
    let denied = held(&called(&rig, &ann.token, "queue_pause", json!({})).await);
    decide(&rig, &denied, false).await;
    let task = ended(&rig, &denied).await;
    assert_eq!((&task["error"]["code"], &task["state"]), (&json!("denied"), &json!("failed")), "{task}");
    let revoked = held(&called(&rig, &ann.token, "queue_pause", json!({})).await);
    bearer(&rig, &["remove", "ann"]);
    decide(&rig, &revoked, true).await;
    let task = ended(&rig, &revoked).await;
    assert_eq!(task["error"]["code"], "unknown_caller", "{task}");
    assert!(!is_paused(&rig).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_was_approved_before_a_crash_is_made_after_it_and_the_same_key_asks_once() {
    let (mut rig, _) = with_tokens().await;
    let token = Client::with(&rig, &["ann", "--scope", "operate", "--approve", "writes"]).await.token;
    let pause = json!({"reason": "to look", "idempotency_key": "once"});
    let id = held(&called(&rig, &token, "queue_pause", pause.clone()).await);
    assert_eq!(held(&called(&rig, &token, "queue_pause", pause).await), id, "the same call is held once");
    decide(&rig, &id, true).await;
    rig.crash().await;
    let task = ended(&rig, &id).await;
    assert_eq!((&task["state"], &task["output"]["ok"]), (&json!("succeeded"), &json!(true)), "{task}");
    assert!(task["log_tail"].as_str().unwrap().contains("approved by test"), "{task}");
    assert!(is_paused(&rig).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_an_approval_may_take_the_call_back() {
    let (rig, _) = with_tokens().await;
    let ann = Client::with(&rig, &["ann", "--scope", "operate", "--approve", "writes"]).await;
    let id = ann.call("queue_pause", json!({})).await["taskId"].clone();
    let taken = ann.send("tasks/cancel", json!({"taskId": id})).await;
    assert!(taken["result"].is_object(), "{taken}");
    assert_eq!(ann.task(&id).await["status"], "cancelled");
    let refused = failed(&rig.dispatcher, "approval_decide", json!({"approval_id": id, "approve": true})).await;
    assert_eq!(refused["code"], "already_terminal", "{refused}");
    let step = json!({"name": "long", "kind": "sleep", "input": "10m"});
    let running = ok(&rig.dispatcher, "submit_p2p_workflow", json!({"name": "w", "steps": [step]})).await;
    let foreign = ann.send("tasks/cancel", json!({"taskId": running["workflow_id"]})).await;
    assert_eq!(foreign["error"]["code"], -32602, "{foreign}");
}
