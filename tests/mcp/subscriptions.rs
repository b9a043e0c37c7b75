//! Subscriptions in both eras: what is heard, that an end is never missed, and that they end.

use std::time::{Duration, Instant};

use magpie::mcp::principal::WATCHES_MAX;
use serde_json::{Value, json};

use crate::listener::Listener;
use crate::resources::OPEN;
use crate::rig::{Rig, TestCaller, ok};
use crate::wire::{Answer, Request};

const UPDATED: &str = "notifications/resources/updated";

/// A task that runs until it is cancelled.
async fn sleeper(rig: &Rig) -> String {
    let arguments = json!({"kind": "sleep", "input": "1h", "timeout": "2h"});
    let id = ok(&rig.dispatcher, "p2p_taskqueue_submit", arguments).await["task_id"].as_str().unwrap().to_owned();
    let deadline = Instant::now() + Duration::from_secs(60);
    while ok(&rig.dispatcher, "p2p_taskqueue_get_task", json!({"task_id": id})).await["task"]["state"] != "running" {
        assert!(Instant::now() < deadline, "it does not start");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    id
}

async fn cancel(rig: &Rig, id: &str) {
    ok(&rig.dispatcher, "p2p_taskqueue_cancel", json!({"task_id": id})).await;
}

/// A stream of the newer era, past its acknowledgement, which is given too.
async fn listening(rig: &Rig, uris: &Value) -> (Listener, Value) {
    let params = json!({"notifications": {"toolsListChanged": true, "resourceSubscriptions": uris}});
    let mut listener = Request::rpc("/mcp", "subscriptions/listen", params).listen(&rig.http).await;
    let accepted = listener.until("notifications/subscriptions/acknowledged").await;
    (listener, accepted["params"]["notifications"].clone())
}

/// A session of the earlier era.
struct Session<'a> {
    rig: &'a Rig,
    id: String,
}

impl<'a> Session<'a> {
    async fn open(rig: &'a Rig) -> Self {
        let opened = Request::opening("/mcp").send(&rig.http).await;
        let capabilities = opened.json()["result"]["capabilities"].clone();
        assert_eq!(capabilities["resources"]["subscribe"], true, "{capabilities}");
        let session = Self { rig, id: opened.header("mcp-session-id").unwrap().to_owned() };
        let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assert_eq!(session.request("POST").json(&ready).send(&rig.http).await.status, 202);
        session
    }

    fn request(&self, method: &'static str) -> Request {
        Request::new(method, "/mcp").header("mcp-session-id", &self.id).header("mcp-protocol-version", "2025-11-25")
    }

    async fn ask(&self, method: &str, uri: &str) -> Answer {
        let message = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": {"uri": uri}});
        self.request("POST").json(&message).send(&self.rig.http).await
    }

    async fn listen(&self) -> Listener {
        self.request("GET").header("accept", "text/event-stream").listen(&self.rig.http).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_hears_of_the_end_of_a_task_and_of_nothing_that_it_did_not_ask_for() {
    let rig = Rig::start_with(|_| OPEN.to_owned()).await;
    let id = sleeper(&rig).await;
    let uri = format!("task://{id}");
    let (mut listener, accepted) = listening(&rig, &json!([uri, "task://7", "file:///etc/passwd"])).await;
    assert_eq!(accepted, json!({"resourceSubscriptions": [uri]}), "what can be named is accepted");
    let began = Instant::now();
    cancel(&rig, &id).await;
    let update = listener.until(UPDATED).await;
    assert_eq!(update["params"]["uri"], json!(uri), "{update}");
    assert_eq!(update["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 1, "{update}");
    assert!(began.elapsed() < Duration::from_secs(2), "it is heard of at once, after {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_hears_of_the_end_of_a_task_until_it_unsubscribes() {
    let rig = Rig::start_with(|_| OPEN.to_owned()).await;
    let (first, second) = (sleeper(&rig).await, sleeper(&rig).await);
    let session = Session::open(&rig).await;
    let mut listener = session.listen().await;
    for uri in [format!("task://{first}"), format!("task://{second}"), format!("task://{first}")] {
        let answer = session.ask("resources/subscribe", &uri).await.json();
        assert!(answer["result"].is_object(), "{answer}");
    }
    let left = session.ask("resources/unsubscribe", &format!("task://{first}")).await.json();
    assert!(left["result"].is_object(), "{left}");
    cancel(&rig, &first).await;
    cancel(&rig, &second).await;
    let update = listener.until(UPDATED).await;
    assert_eq!(update["params"]["uri"], json!(format!("task://{second}")), "the other was unsubscribed from");
    for uri in ["task://7", "node://moon"] {
        let refused = session.ask("resources/subscribe", uri).await.json();
        assert_eq!(refused["error"]["code"], -32002, "{refused}");
        assert!(refused["error"]["message"].as_str().unwrap().len() > 20, "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_had_ended_before_it_was_subscribed_to_is_told_once() {
    let rig = Rig::start_with(|_| OPEN.to_owned()).await;
    let task = ok(&rig.dispatcher, "p2p_taskqueue_submit", json!({"kind": "noop", "wait_ms": 20_000})).await;
    let uri = format!("task://{}", task["task_id"].as_str().unwrap());
    let (mut listener, _) = listening(&rig, &json!([uri])).await;
    assert_eq!(listener.until(UPDATED).await["params"]["uri"], json!(uri));
    let mut watch = rig.dispatcher.watch(&uri, &TestCaller::default()).await.unwrap();
    assert!(watch.changed().await);
    assert!(!watch.changed().await, "nothing more happens to it");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_resource_tells_of_what_changes() {
    let rig = Rig::start().await;
    let program =
        "import sys, time\nfor n in range(10**6): sys.stderr.write(f'{n}\\n'); sys.stderr.flush(); time.sleep(0.05)";
    let talking = json!({"kind": "process", "run": ["python3", "-c", program], "timeout": "2h"});
    let task = ok(&rig.dispatcher, "p2p_taskqueue_submit", talking).await["task_id"].as_str().unwrap().to_owned();
    let steps = json!({"name": "one", "steps": [{"name": "a", "kind": "sleep", "input": "1h", "timeout": "2h"}]});
    let workflow = ok(&rig.dispatcher, "submit_p2p_workflow", steps).await["workflow_id"].as_str().unwrap().to_owned();
    let uris = [
        "node://status".to_owned(),
        "events://recent".to_owned(),
        format!("logs://{task}"),
        format!("workflow://{workflow}"),
        format!("workflow://{workflow}/graph"),
    ];
    let mut watches = Vec::new();
    for uri in &uris {
        watches.push(rig.dispatcher.watch(uri, &TestCaller::default()).await.unwrap());
    }
    ok(&rig.dispatcher, "cancel_workflow", json!({"workflow_id": workflow})).await;
    for (uri, watch) in uris.iter().zip(&mut watches) {
        let changed = tokio::time::timeout(Duration::from_secs(30), watch.changed()).await;
        assert_eq!(changed.ok(), Some(true), "{uri}");
    }
    cancel(&rig, &task).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    while watches[2].changed().await {
        assert!(Instant::now() < deadline, "the log has an end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_has_so_many_subscriptions_and_gets_their_places_back() {
    let rig = Rig::start().await;
    let caller = TestCaller::default();
    let watch = || rig.dispatcher.watch("node://status", &caller);
    let mut held = Vec::new();
    for _ in 0..WATCHES_MAX {
        held.push(watch().await.unwrap());
    }
    let error = watch().await.err().unwrap();
    assert_eq!((error.code, error.retryable), ("overloaded", true));
    held.pop();
    assert!(watch().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_a_stream_gives_its_places_back() {
    let rig = Rig::start_with(|_| OPEN.to_owned()).await;
    let id = sleeper(&rig).await;
    let uri = format!("task://{id}");
    // One after the other, more than one caller may have at a time.
    for _ in 0..WATCHES_MAX + 8 {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let (mut listener, _) = listening(&rig, &json!([uri])).await;
            let refused = tokio::time::timeout(Duration::from_millis(20), listener.next()).await;
            if refused.is_err() {
                break;
            }
            assert!(Instant::now() < deadline, "no place comes back: {refused:?}");
        }
    }
    cancel(&rig, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_a_node_that_is_killed_hears_of_the_end_after_its_restart() {
    let mut rig = Rig::start().await;
    let id = sleeper(&rig).await;
    let mut watch = rig.dispatcher.watch(&format!("task://{id}"), &TestCaller::default()).await.unwrap();
    let heard = tokio::spawn(async move { while watch.changed().await {} });
    rig.crash().await;
    cancel(&rig, &id).await;
    tokio::time::timeout(Duration::from_secs(30), heard).await.expect("the end is heard of").unwrap();
}
