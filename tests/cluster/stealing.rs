//! Several nodes, one home.

use magpie_core::task::{TaskKind, TaskSpec, TaskState};

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
