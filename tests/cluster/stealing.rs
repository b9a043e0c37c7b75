//! Several nodes, one home.

use std::collections::BTreeMap;

use magpie::client::ClientError;
use magpie::messages::Body;
use magpie_core::ids::{OperationId, PeerId};
use magpie_core::queue::{LedgerRequest, Refusal, SubmitItem};
use magpie_core::task::{Durability, TaskKind, TaskSpec, TaskState};

use crate::mesh::{PATIENCE, TestNode, config, mesh, mesh_with};

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

/// Bacalhau 2945: told of nobody, a home that comes back on another port finds those that work for it, and they find it.
#[tokio::test(flavor = "multi_thread")]
async fn requester_finds_workers_after_restart() {
    let key_dir = tempfile::tempdir().unwrap();
    let key = key_dir.path().join("cluster.key");
    magpie_net::ClusterKey::load_or_create(&key).unwrap();
    let mut nodes = mesh_with(3, |config| config.cluster_key = Some(key.clone())).await;
    let TestNode { node, dir, client } = nodes.remove(0);
    drop(client);
    node.stop().await;
    let mut config = config(dir.path());
    config.cluster_key = Some(key);
    let requester = TestNode::start_with(config, dir).await;
    requester
        .until("its workers are back", |status| status.peers.iter().filter(|peer| peer.state == "alive").count() == 2)
        .await;
    // It compares its log with theirs first, and until then asks its callers to come again.
    let noop = || {
        Body::Ledger(LedgerRequest::Submit {
            operation: OperationId([7; 16]),
            items: vec![SubmitItem { spec: TaskSpec::new(TaskKind::Noop).into(), count: 1 }],
        })
    };
    while let Err(refused) = requester.client.ask(noop(), PATIENCE).await {
        assert!(matches!(refused, ClientError::Refused(Refusal::Unavailable { .. })), "{refused}");
    }
    let mut spec = TaskSpec::new(TaskKind::Sleep);
    spec.input = serde_json::from_str("\"100ms\"").unwrap();
    for id in requester.submit(spec, 60).await {
        assert_eq!(requester.wait(id).await.state, TaskState::Succeeded);
    }
    let stats = requester.status().await.queue;
    let by = &stats.commits_by_worker;
    assert!(nodes.iter().all(|worker| by.contains_key(&worker.node.peer_id)), "{by:?}");
}
