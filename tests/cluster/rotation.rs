//! The cluster key is replaced node by node, and nobody has to wait for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use magpie::messages::access::{AccessReply, AccessRequest, KeyView};
use magpie::messages::{Answer, Body};
use magpie_core::task::{TaskKind, TaskSpec, TaskState};
use magpie_net::{Admission, ClusterKey, NetConfig, NodeKey};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::mesh::{PATIENCE, TestNode, mesh_with};

const HOUR_MS: u64 = 3_600_000;

async fn rotate(node: &TestNode, file: &Path, overlap_ms: u64) -> KeyView {
    let file = file.to_str().unwrap().to_owned();
    let request = Body::Access(AccessRequest::RotateKey { file, overlap_ms });
    match node.client.ask(request, PATIENCE).await.unwrap() {
        Answer::Access(AccessReply::Key(view)) => *view,
        other => panic!("{other:?}"),
    }
}

/// A task that only node `n` may run.
fn on(n: usize) -> TaskSpec {
    TaskSpec { requires: Some(format!("label:n{n}")), ..TaskSpec::new(TaskKind::Noop) }
}

/// Every node has a task run by every other.
async fn all_work_for_each_other(nodes: &[TestNode]) {
    for node in nodes {
        for n in 0..nodes.len() {
            let [id] = node.submit(on(n), 1).await[..] else { panic!() };
            assert_eq!(node.wait(id).await.state, TaskState::Succeeded);
        }
    }
}

/// Whether a stranger that knows `key` comes in.
async fn opens(node: &TestNode, key: &Path) -> bool {
    let admission = Admission { cluster_key: Some(ClusterKey::load(key).unwrap()), ..Admission::default() };
    let config = NetConfig { bootstrap: node.status().await.listen, admission, ..NetConfig::default() };
    let (sender, mut events) = mpsc::channel(64);
    let net = magpie_net::spawn(&NodeKey::generate().unwrap(), config, sender).await.unwrap();
    let hearing = tokio::spawn(async move { while events.recv().await.is_some() {} });
    let deadline = Instant::now() + PATIENCE;
    let opened = loop {
        let counters = net.counters();
        if counters.peers_admitted > 0 || counters.peers_refused > 0 {
            break counters.peers_admitted > 0;
        }
        assert!(Instant::now() < deadline, "neither admitted nor refused");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    net.shutdown().await;
    hearing.abort();
    opened
}

struct Keys {
    _dir: TempDir,
    old: PathBuf,
    new: PathBuf,
}

fn keys() -> Keys {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old.key"), dir.path().join("new.key"));
    for file in [&old, &new] {
        ClusterKey::load_or_create(file).unwrap();
    }
    Keys { old, new, _dir: dir }
}

async fn three(keys: &Keys) -> Vec<TestNode> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    mesh_with(3, |config| {
        config.cluster_key = Some(keys.old.clone());
        config.labels.insert(format!("n{}", next.fetch_add(1, Ordering::Relaxed)), "yes".to_owned());
    })
    .await
}

#[tokio::test]
async fn a_cluster_key_is_replaced_node_by_node_while_all_go_on_and_then_opens_nothing() {
    let keys = keys();
    let nodes = Arc::new(three(&keys).await);
    all_work_for_each_other(&nodes).await;
    // Work goes on all the time, from one node to the two others.
    let over = Arc::new(AtomicBool::new(false));
    let working = tokio::spawn({
        let (nodes, over) = (nodes.clone(), over.clone());
        async move {
            let mut done = 0;
            while !over.load(Ordering::Relaxed) {
                for n in [1, 2] {
                    let [id] = nodes[0].submit(on(n), 1).await[..] else { panic!() };
                    assert_eq!(nodes[0].wait(id).await.state, TaskState::Succeeded);
                    done += 1;
                }
            }
            done
        }
    });
    for node in nodes.iter() {
        let view = rotate(node, &keys.new, HOUR_MS).await;
        let (old, new) = (ClusterKey::load(&keys.old).unwrap(), ClusterKey::load(&keys.new).unwrap());
        assert_eq!(view.cluster, Some(new.issuing_key().cluster()));
        assert_eq!(view.former.map(|former| former.cluster), Some(old.issuing_key().cluster()));
        all_work_for_each_other(&nodes).await;
        assert!(opens(node, &keys.old).await && opens(node, &keys.new).await, "both, for the time being");
    }
    for node in nodes.iter() {
        assert_eq!(rotate(node, &keys.new, 0).await.former, None);
        all_work_for_each_other(&nodes).await;
    }
    over.store(true, Ordering::Relaxed);
    assert!(working.await.unwrap() > 0);
    for node in nodes.iter() {
        assert!(!opens(node, &keys.old).await && opens(node, &keys.new).await);
    }
}

#[tokio::test]
async fn a_node_whose_configuration_names_the_replaced_key_comes_back_with_the_newest() {
    let keys = keys();
    let dir = tempfile::tempdir().unwrap();
    let mut config = crate::mesh::config(dir.path());
    config.cluster_key = Some(keys.old.clone());
    let TestNode { node, client, dir } = TestNode::start_with(config.clone(), dir).await;
    let node = TestNode { node, client, dir };
    rotate(&node, &keys.new, 0).await;
    let TestNode { node, client, dir } = node;
    drop(client);
    node.stop().await;
    let node = TestNode::start_with(config, dir).await;
    assert!(opens(&node, &keys.new).await && !opens(&node, &keys.old).await);
    node.node.stop().await;
}
