//! Named values of a session: durable, their caller's alone, from any node.

use std::sync::Arc;
use std::time::Duration;

use magpie::mcp::catalog::{Catalog, Scope};
use magpie::mcp::dispatch::Dispatcher;
use magpie::mcp::link::NodeLink;
use magpie::mcp::principal::Principal;
use magpie::mcp::surface::{Surface, SurfaceOptions};
use serde_json::{Value, json};

use crate::rig::{Rig, TestCaller, failed, ok};

async fn begun(dispatcher: &Dispatcher, values: Value) -> String {
    let answer = ok(dispatcher, "state_update", json!({"values": values})).await;
    answer["session_id"].as_str().unwrap().to_owned()
}

async fn values(dispatcher: &Dispatcher, id: &str) -> Value {
    ok(dispatcher, "state_query", json!({"session_id": id})).await["values"].clone()
}

/// Another caller at the same node.
fn another(rig: &Rig) -> Dispatcher {
    let surface = Surface::new(Catalog::shared(), &SurfaceOptions::default()).unwrap();
    let link = NodeLink::new(rig.socket(), Scope::Admin.role());
    Dispatcher::new(&surface, link, Arc::new(Principal::new("another", Scope::Admin)))
}

#[tokio::test(flavor = "multi_thread")]
async fn values_outlive_the_node_and_are_read_as_a_resource() {
    let mut rig = Rig::start().await;
    let id = begun(&rig.dispatcher, json!({"goal": "count", "seen": ["a", "b"], "left": 3})).await;
    let update = json!({"session_id": id, "values": {"left": null}, "key": "step", "value": 2, "ttl_s": 600});
    let changed = ok(&rig.dispatcher, "state_update", update).await;
    assert_eq!(
        (&changed["names"], &changed["uri"]),
        (&json!(["goal", "seen", "step"]), &json!(format!("session://{id}")))
    );
    rig.crash().await;
    let wanted = json!({"goal": "count", "seen": ["a", "b"], "step": 2});
    assert_eq!(values(&rig.dispatcher, &id).await, wanted);
    let one = ok(&rig.dispatcher, "state_query", json!({"session_id": id, "key": "step"})).await;
    assert_eq!((&one["values"], &one["untrusted"]), (&json!({"step": 2}), &json!(["values"])));
    let read = rig.dispatcher.read(&format!("session://{id}"), &TestCaller::default()).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&read.text).unwrap()["values"], wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_its_callers_alone_and_its_end_is_one() {
    let rig = Rig::start().await;
    let id = begun(&rig.dispatcher, json!({"secret": "top secret"})).await;
    let another = another(&rig);
    for (tool, arguments) in [
        ("state_query", json!({"session_id": id})),
        ("state_update", json!({"session_id": id, "values": {"secret": "mine"}})),
    ] {
        let error = failed(&another, tool, arguments).await;
        assert_eq!(
            (&error["code"], &error["next"]["arguments"]["names"][0]),
            (&json!("not_found"), &json!("state_update"))
        );
        assert!(error["fix"].as_str().unwrap().contains("without session_id"), "{error}");
    }
    let refused = another.read(&format!("session://{id}"), &TestCaller::default()).await.unwrap_err();
    assert_eq!(refused.code, "not_found");
    assert_eq!(values(&rig.dispatcher, &id).await, json!({"secret": "top secret"}));
    let events = rig.dispatcher.read("events://recent", &TestCaller::default()).await.unwrap().text;
    assert!(events.contains("context_updated") && !events.contains(&id) && !events.contains("top secret"), "{events}");
    ok(&rig.dispatcher, "state_update", json!({"session_id": id, "ttl_s": 0})).await;
    assert_eq!(failed(&rig.dispatcher, "state_query", json!({"session_id": id})).await["code"], "not_found");
    let wrong = failed(&rig.dispatcher, "state_query", json!({"session_id": "mine"})).await;
    assert_eq!(wrong["field"], "session_id");
    let large = json!({"values": {"v": "x".repeat(70_000)}});
    assert_eq!(failed(&rig.dispatcher, "state_update", large).await["code"], "invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_of_the_mesh_reads_and_changes_what_one_began() {
    let first = Rig::start().await;
    let second = Rig::start_beside(&first, |_| String::new()).await;
    let id = begun(&first.dispatcher, json!({"step": 1})).await;
    assert_eq!(values(&second.dispatcher, &id).await, json!({"step": 1}));
    ok(&second.dispatcher, "state_update", json!({"session_id": id, "values": {"step": 2}})).await;
    assert_eq!(values(&first.dispatcher, &id).await, json!({"step": 2}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_repeated_under_its_key_begins_one_session() {
    let rig = Rig::start().await;
    let update = json!({"values": {"a": 1}, "idempotency_key": "once"});
    let first = ok(&rig.dispatcher, "state_update", update.clone()).await;
    let again = ok(&rig.dispatcher, "state_update", update).await;
    assert_eq!(first["session_id"], again["session_id"]);
    let other = ok(&rig.dispatcher, "state_update", json!({"values": {"a": 1}})).await;
    assert_ne!(first["session_id"], other["session_id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_a_session_hears_of_its_changes() {
    let rig = Rig::start().await;
    let id = begun(&rig.dispatcher, json!({"step": 1})).await;
    let mut watch = rig.dispatcher.watch(&format!("session://{id}"), &TestCaller::default()).await.unwrap();
    ok(&rig.dispatcher, "state_update", json!({"session_id": id, "values": {"step": 2}})).await;
    let heard = tokio::time::timeout(Duration::from_secs(30), watch.changed()).await;
    assert_eq!(heard.ok(), Some(true));
}
