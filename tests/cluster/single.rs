//! One node alone.

use magpie_core::queue::{LedgerReply, LedgerRequest};
use magpie_core::task::{Durability, TaskKind, TaskSpec, TaskState};
use magpie_core::time::DurationMs;

use crate::mesh::TestNode;

#[tokio::test(flavor = "multi_thread")]
async fn a_noop_of_each_class_succeeds_once() {
    let node = TestNode::start().await;
    for durability in [Durability::Memory, Durability::Async, Durability::Sync] {
        let spec = TaskSpec { durability, ..TaskSpec::new(TaskKind::Noop) };
        let ids = node.submit(spec, 50).await;
        for id in ids {
            let view = node.wait(id).await;
            assert_eq!((view.state, view.attempts), (TaskState::Succeeded, 1));
        }
    }
    let status = node.status().await;
    assert_eq!(status.queue.counts.succeeded, 150);
    assert_eq!(status.queue.fenced_total, 0);
    node.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_survives_a_restart_of_the_node() {
    let node = TestNode::start().await;
    let mut spec = TaskSpec::new(TaskKind::Noop);
    spec.not_before = Some(magpie_core::time::Wall(magpie_core::limits::WALL_MS_MAX));
    let ids = node.submit(spec, 3).await;
    let done = node.submit(TaskSpec::new(TaskKind::Noop), 1).await[0];
    node.wait(done).await;
    let TestNode { node, dir, client } = node;
    drop(client);
    node.stop().await;
    let config = crate::mesh::config(dir.path());
    let node = TestNode::start_with(config, dir).await;
    for id in ids {
        match node.ledger(LedgerRequest::GetTask { id }).await {
            LedgerReply::Task(view) => assert_eq!(view.state, TaskState::Delayed),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(node.wait(done).await.state, TaskState::Succeeded);
    assert_eq!(node.status().await.queue.generation.0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_sleeper_is_cancelled_at_once() {
    let node = TestNode::start().await;
    let mut spec = TaskSpec::new(TaskKind::Sleep);
    spec.input = serde_json::from_str("\"1h\"").unwrap();
    spec.timeout = DurationMs(7_200_000);
    let id = node.submit(spec, 1).await[0];
    node.until("running", |status| status.worker.running == 1).await;
    let operation = magpie_core::ids::OperationId(rand::random());
    let reply = node.ledger(LedgerRequest::Cancel { operation, id, reason: "test".to_owned() }).await;
    assert_eq!(reply, LedgerReply::Cancelled { state: TaskState::Cancelled });
    node.until("its attempt gone", |status| status.worker.running == 0).await;
}
