//! Calls over HTTP that the node answers without the SDK: as the SDK would, in both eras.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{OPEN, ctl};
use crate::rig::{Rig, ok};
use crate::wire::{Answer, Request};

/// The same to a client, and more than the shortest way takes.
const LONGER: &str = "application/json;q=1, text/event-stream";

struct Session<'a> {
    rig: &'a Rig,
    id: String,
}

impl<'a> Session<'a> {
    async fn open(rig: &'a Rig) -> Self {
        let opened = Request::opening("/mcp/full").send(&rig.http).await;
        Self { rig, id: opened.header("mcp-session-id").unwrap().to_owned() }
    }

    fn request(&self, message: &Value) -> Request {
        let request = Request::new("POST", "/mcp/full").header("mcp-session-id", &self.id);
        request.header("mcp-protocol-version", "2025-11-25").json(message)
    }

    fn call(&self, id: &Value, tool: &str, arguments: &Value) -> Request {
        let params = json!({"name": tool, "arguments": arguments});
        self.request(&json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}))
    }

    async fn send(&self, request: Request) -> Answer {
        request.send(&self.rig.http).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_answered_as_the_sdk_answers_it() {
    let rig = Rig::start_with(|_| OPEN.to_owned()).await;
    let session = Session::open(&rig).await;
    for (tool, arguments) in [
        ("tools_list_categories", json!({})),
        ("tools_get_schema", json!({"names": ["queue_stats"]})),
        ("p2p_taskqueue_get_task", json!({"task_id": "7"})),
        ("p2p_taskqueue_get_task", json!({"moon": 7})),
        ("queue_stat", json!({})),
    ] {
        let call = || Request::call("/mcp/full", tool, arguments.clone());
        let (short, long) = (call().send(&rig.http).await, call().header("accept", LONGER).send(&rig.http).await);
        assert_eq!((short.status, short.json()), (long.status, long.json()), "{tool}");
        assert_eq!(short.header("content-type"), long.header("content-type"));
        assert_eq!(short.json()["result"]["resultType"], "complete", "{short:?}");
        for id in [json!(7), json!("seven")] {
            let call = || session.call(&id, tool, &arguments);
            let (short, long) = (session.send(call()).await, session.send(call().header("accept", LONGER)).await);
            assert_eq!((short.status, short.json()), (long.status, long.json()), "{tool}");
            assert_eq!((&short.json()["id"], short.header("content-type")), (&id, Some("application/json")));
            assert_eq!(long.header("content-type"), Some("text/event-stream"), "the SDK answered it");
        }
    }
}

/// As a client's stream and its first question do. The SDK makes its session of the one, and is to say its beginning to it
/// before the other comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_first_requests_come_at_once_answers_each() {
    let rig = Rig::start_with(|_| OPEN.to_owned()).await;
    for _ in 0..20 {
        let session = Session::open(&rig).await;
        let ask = |id: i64| {
            session.send(session.call(&json!(id), "tools_list_categories", &json!({})).header("accept", LONGER))
        };
        let (one, two, three, four) = tokio::join!(ask(0), ask(1), ask(2), ask(3));
        for (id, answer) in [one, two, three, four].iter().enumerate() {
            assert_eq!((answer.status, &answer.json()["id"]), (200, &json!(id)), "{answer:?}");
        }
    }
}

/// A task that runs until it is cancelled.
async fn sleeper(rig: &Rig) -> String {
    let arguments = json!({"kind": "sleep", "input": "1h", "timeout": "2h"});
    ok(&rig.dispatcher, "p2p_taskqueue_submit", arguments).await["task_id"].as_str().unwrap().to_owned()
}

/// The calls of a tool that are kept.
fn kept(rig: &Rig, tool: &str) -> Vec<Value> {
    let mut lines = ctl(rig, &["audit"])["items"].as_array().unwrap().clone();
    lines.retain(|line| line["called"] == tool);
    lines
}

/// The same, once there are so many.
async fn outcomes(rig: &Rig, tool: &str, count: usize) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let lines = kept(rig, tool);
        if lines.len() >= count {
            return lines;
        }
        assert!(Instant::now() < deadline, "{lines:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_a_session_ends_when_it_is_cancelled() {
    let rig = Rig::start_with(|_| OPEN.to_owned()).await;
    let (task, session) = (sleeper(&rig).await, Session::open(&rig).await);
    let wait = json!({"task_id": task, "wait_ms": 25_000});
    let began = Instant::now();
    let waiting = session.send(session.call(&json!(7), "p2p_taskqueue_wait_task", &wait));
    let cancelling = async {
        let params = json!({"requestId": 7, "reason": "test"});
        let cancelled = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params});
        // Until it has been taken in there is nothing to cancel.
        loop {
            assert_eq!(session.send(session.request(&cancelled)).await.status, 202);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let answer = tokio::select! {
        answer = waiting => answer,
        () = cancelling => unreachable!("it goes on for ever"),
    };
    assert_eq!(answer.json()["result"]["structuredContent"]["code"], "cancelled", "{answer:?}");
    assert!(began.elapsed() < Duration::from_secs(20), "after {:?}", began.elapsed());
    let told = outcomes(&rig, "p2p_taskqueue_wait_task", 1).await;
    assert_eq!((&told[0]["outcome"], &told[0]["client"]), (&json!("cancelled"), &json!("old")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_client_leaves_is_cancelled_and_kept_in_the_audit() {
    let rig = Rig::start_with(|_| OPEN.to_owned()).await;
    let task = sleeper(&rig).await;
    let wait = json!({"task_id": task, "wait_ms": 25_000});
    let deadline = Instant::now() + Duration::from_secs(20);
    // It cannot be seen from here whether the call was taken in before its client left.
    let mut patience = Duration::from_millis(20);
    let told = loop {
        let call = Request::call("/mcp/full", "p2p_taskqueue_wait_task", wait.clone());
        let listener = call.listen(&rig.http).await;
        tokio::time::sleep(patience).await;
        drop(listener);
        let told = kept(&rig, "p2p_taskqueue_wait_task");
        if !told.is_empty() {
            break told;
        }
        assert!(Instant::now() < deadline, "nothing is kept of a call whose client left");
        patience *= 2;
    };
    assert_eq!(told[0]["outcome"], "cancelled", "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_where_more_is_asked_of_it() {
    let rig = Rig::start_with(|_| OPEN.to_owned()).await;
    let session = Session::open(&rig).await;
    let direct = session.send(session.call(&json!(2), "queue_stats", &json!({}))).await;
    assert_eq!(direct.json()["result"]["isError"], false, "{direct:?}");
    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    assert_eq!(session.send(session.request(&ready)).await.status, 202);
    let params = json!({"name": "queue_stats", "arguments": {}, "_meta": {"progressToken": 1}});
    let with_progress = json!({"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": params});
    let answer = session.send(session.request(&with_progress)).await;
    assert_eq!(answer.header("content-type"), Some("text/event-stream"), "{answer:?}");
    assert_eq!(answer.json()["result"]["isError"], false, "{answer:?}");
    let listed = session.send(session.request(&json!({"jsonrpc": "2.0", "id": 4, "method": "tools/list"}))).await;
    assert!(listed.json()["result"]["tools"].as_array().unwrap().len() > 15, "{listed:?}");
    let unknown = session.send(session.request(&json!({"jsonrpc": "2.0", "id": 5, "method": "moon/rise"}))).await;
    assert_eq!(unknown.json()["error"]["code"], -32_601, "{unknown:?}");
    let told = outcomes(&rig, "queue_stats", 2).await;
    assert!(told.iter().all(|line| line["client"] == "old"), "{told:?}");
}
