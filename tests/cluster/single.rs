//! One node alone.

use magpie_core::ids::{OperationId, TaskId};
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
    cancel(&node, id).await;
    node.until("its attempt gone", |status| status.worker.running == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_is_counted_in_the_very_next_answer_however_long_the_home_was_idle() {
    let node = TestNode::start().await;
    let late = TaskSpec {
        not_before: Some(magpie_core::time::Wall(magpie_core::limits::WALL_MS_MAX)),
        ..TaskSpec::new(TaskKind::Noop)
    };
    let unfit = TaskSpec { requires: Some("label:none".to_owned()), ..TaskSpec::new(TaskKind::Noop) };
    for round in 1..=4_u64 {
        // An idle home looks at itself once a second: between any two of its looks something changes.
        node.until("some time has passed", |status| status.uptime_ms > round * 700).await;
        let late = node.submit(late.clone(), 2).await[0];
        let counts = node.status().await.queue.counts;
        assert_eq!((counts.delayed, counts.cancelled), (round + 1, 2 * (round - 1)));
        cancel(&node, late).await;
        let counts = node.status().await.queue.counts;
        assert_eq!((counts.delayed, counts.cancelled), (round, 2 * round - 1));
        let unfit = node.submit(unfit.clone(), 1).await[0];
        assert_eq!(why_pending(&node, unfit).await, "no known node meets its requirements");
        cancel(&node, unfit).await;
        assert_eq!(why_pending(&node, unfit).await, "it is cancelled and stays so");
        assert_eq!(node.status().await.queue.counts.cancelled, 2 * round);
    }
}

async fn cancel(node: &TestNode, id: TaskId) {
    let operation = OperationId(rand::random());
    let reply = node.ledger(LedgerRequest::Cancel { operation, id, reason: "test".to_owned() }).await;
    assert_eq!(reply, LedgerReply::Cancelled { state: TaskState::Cancelled });
}

async fn why_pending(node: &TestNode, id: TaskId) -> String {
    match node.ledger(LedgerRequest::WhyPending { id }).await {
        LedgerReply::Pending(view) => view.reason,
        other => panic!("{other:?}"),
    }
}
