//! A whole node with the real binary as its device.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use magpie::client::Client;
use magpie::config::{InferenceConfig, NodeConfig};
use magpie::messages::actor::{ActorReply, ActorRequest};
use magpie::messages::{Answer, Body, Role};
use magpie::node::Node;
use magpie_core::ids::OperationId;
use magpie_core::payload::{JsonText, Payload};
use magpie_core::queue::{LedgerReply, LedgerRequest, SubmitAnswer, SubmitItem};
use magpie_core::task::{TaskKind, TaskSpec, TaskState};
use serde_json::json;
use support::write_tiny_model;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn start(dir: &Path) -> (Node, Client) {
    let models = dir.join("models");
    std::fs::create_dir_all(models.join("tiny")).unwrap();
    write_tiny_model(&models.join("tiny"), |n| (n % 7) as f32 / 7.0);
    let inference = InferenceConfig {
        device: Some(env!("CARGO_BIN_EXE_node-device").into()),
        threads: 1,
        models: vec![models],
        load: vec!["tiny".to_owned()],
        ..InferenceConfig::default()
    };
    let config = NodeConfig {
        data_dir: Some(dir.join("data")),
        listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
        mdns: false,
        inference,
        ..NodeConfig::default()
    };
    let node = Node::start(config).await.unwrap();
    let client = Client::connect(&node.control, "test", Role::Operator).await.unwrap();
    (node, client)
}

async fn ask_ledger(client: &Client, request: LedgerRequest) -> LedgerReply {
    match client.ask(Body::Ledger(request), PATIENCE).await.unwrap() {
        Answer::Ledger(reply) => reply,
        other => panic!("{other:?}"),
    }
}

/// Submits a text, and waits for its vector.
async fn embed(client: &Client, number: u8) -> TaskState {
    let spec = TaskSpec {
        input: Payload::Inline(JsonText::of(&json!("red fox"))),
        model: Some("tiny".to_owned()),
        ..TaskSpec::new(TaskKind::Embed)
    };
    let items = vec![SubmitItem { spec: Arc::new(spec), count: 1 }];
    let id = match ask_ledger(client, LedgerRequest::Submit { operation: OperationId([number; 16]), items }).await {
        LedgerReply::Submitted { answers } => match &answers[..] {
            [SubmitAnswer::Accepted { id }] => *id,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask_ledger(client, LedgerRequest::WaitTask { id, timeout_ms: 5_000 }).await {
            LedgerReply::Task(view) if view.state.is_terminal() => return view.state,
            LedgerReply::Task(view) => assert!(Instant::now() < deadline, "{view:?}"),
            other => panic!("{other:?}"),
        }
    }
}

async fn restarts(client: &Client, name: &str) -> u64 {
    match client.ask(Body::Actor(ActorRequest::Tree), PATIENCE).await.unwrap() {
        Answer::Actor(ActorReply::Tree(tree)) => {
            let child = tree.children.into_iter().find(|child| child.name == name).unwrap();
            child.restarts
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_starts_anew_hears_of_the_models_that_are_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let (_node, client) = start(dir.path()).await;
    assert_eq!(embed(&client, 1).await, TaskState::Succeeded);
    let kill = ActorRequest::Kill { name: "registry".to_owned() };
    client.ask(Body::Actor(kill), PATIENCE).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while restarts(&client, "registry").await == 0 {
        assert!(Instant::now() < deadline, "the registry does not come back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(embed(&client, 2).await, TaskState::Succeeded);
}
