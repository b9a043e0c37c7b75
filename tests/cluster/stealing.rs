//! Several nodes, one home.

use std::collections::BTreeMap;

use magpie_core::ids::PeerId;
use magpie_core::task::{Durability, TaskKind, TaskSpec, TaskState};

use crate::mesh::mesh;

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_share_what_one_was_given() {
    let nodes = mesh(3).await;
    let mut spec = TaskSpec::new(TaskKind::Sleep);
    spec.input = serde_json::from_str("\"100ms\"").unwrap();
    let ids = nodes[0].submit(spec, 60).await;
    for id in ids {
        assert_eq!(nodes[0].wait(id).await.state, TaskState::Succeeded);
    }
    let stats = nodes[0].status().await.queue;
    assert_eq!(stats.commits_by_worker.len(), 3, "{:?}", stats.commits_by_worker);
    assert_eq!(stats.commits_by_worker.values().sum::<u64>(), 60);
    let anywhere = nodes[2].submit(TaskSpec::new(TaskKind::Noop), 1).await[0];
    assert_eq!(nodes[1].wait(anywhere).await.state, TaskState::Succeeded, "any node answers for any id");
}

#[tokio::test(flavor = "multi_thread")]
async fn sleeps_behind_a_backlog_of_noops_are_shared_too() {
    let nodes = mesh(3).await;
    let noops = TaskSpec { durability: Durability::Memory, ..TaskSpec::new(TaskKind::Noop) };
    for _ in 0..4 {
        nodes[0].submit(noops.clone(), 5_000).await;
    }
    let mut spec = TaskSpec::new(TaskKind::Sleep);
    spec.input = serde_json::from_str("\"500ms\"").unwrap();
    let ids = nodes[0].submit(spec, 12).await;
    let mut by_worker: BTreeMap<PeerId, usize> = BTreeMap::new();
    for id in ids {
        let view = nodes[0].wait(id).await;
        assert_eq!(view.state, TaskState::Succeeded);
        *by_worker.entry(view.worker.unwrap()).or_default() += 1;
    }
    let home = by_worker.get(&nodes[0].node.peer_id).copied().unwrap_or(0);
    assert!(by_worker.len() >= 2 && home < 12, "{by_worker:?}");
}
