//! Two homes under one limit, which one of them holds.

use std::time::Instant;

use magpie_core::task::{TaskKind, TaskSpec, TaskState};

use crate::mesh::{PATIENCE, TestNode, mesh_with};

/// Live leases and ended tasks of one home.
async fn seen(node: &TestNode) -> (u64, u64) {
    let counts = node.status().await.queue.counts;
    (counts.leased + counts.running, counts.terminal())
}

/// Live leases of both homes at one moment: each was asked twice, and nothing had changed.
async fn at_once(nodes: &[TestNode]) -> Option<u64> {
    let first = (seen(&nodes[0]).await, seen(&nodes[1]).await);
    let again = (seen(&nodes[0]).await, seen(&nodes[1]).await);
    (first == again).then_some(first.0.0 + first.1.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_homes_share_a_limit_of_two() {
    let nodes = mesh_with(2, |config| {
        config.slots = Some(8);
        config.concurrency.insert("gpu-api".to_owned(), 2);
    })
    .await;
    let holder = nodes[0].status().await.ledger.tag();
    let mut spec = TaskSpec::new(TaskKind::Sleep);
    spec.input = serde_json::from_str("\"200ms\"").unwrap();
    spec.concurrency_key = Some(format!("gpu-api@{holder}").parse().unwrap());
    let mut ids = Vec::new();
    for node in &nodes {
        ids.push(node.submit(spec.clone(), 10).await);
    }
    let (mut samples, mut most, deadline) = (0, 0, Instant::now() + PATIENCE);
    loop {
        if let Some(live) = at_once(&nodes).await {
            assert!(live <= 2, "{live} leases at once");
            samples += 1;
            most = most.max(live);
        }
        let ended = seen(&nodes[0]).await.1 + seen(&nodes[1]).await.1;
        if ended == 20 {
            break;
        }
        assert!(Instant::now() < deadline, "{ended} of 20 ended within {PATIENCE:?}");
    }
    assert!(samples > 10 && most == 2, "{samples} samples, at most {most} leases");
    for (node, ids) in nodes.iter().zip(ids) {
        for id in ids {
            assert_eq!(node.wait(id).await.state, TaskState::Succeeded);
        }
    }
}
