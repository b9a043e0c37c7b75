//! Starts nodes in temporary directories and asks them through their control sockets.

use std::path::Path;
use std::time::{Duration, Instant};

use magpie::client::{Client, ClientError};
use magpie::config::NodeConfig;
use magpie::messages::node::{NodeReply, NodeRequest, NodeStatus};
use magpie::messages::{Answer, Body, Role};
use magpie::node::Node;
use magpie_core::ids::{OperationId, TaskId};
use magpie_core::queue::{LedgerReply, LedgerRequest, SubmitAnswer, SubmitItem, TaskView};
use magpie_core::task::TaskSpec;
use tempfile::TempDir;

pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct TestNode {
    pub node: Node,
    pub client: Client,
    pub dir: TempDir,
}

/// A node that listens on a free port of this machine and has nothing to do with inference.
pub fn config(dir: &Path) -> NodeConfig {
    NodeConfig {
        data_dir: Some(dir.to_owned()),
        listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
        mdns: false,
        slots: Some(2),
        inference: magpie::config::InferenceConfig { enabled: false, ..Default::default() },
        ..NodeConfig::default()
    }
}

impl TestNode {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        Self::start_with(config, dir).await
    }

    pub async fn start_with(config: NodeConfig, dir: TempDir) -> Self {
        let node = Node::start(config).await.unwrap();
        let client = Client::connect(&node.control, "test", Role::Operator).await.unwrap();
        Self { node, client, dir }
    }

    pub async fn ledger(&self, request: LedgerRequest) -> LedgerReply {
        match self.client.ask(Body::Ledger(request), PATIENCE).await.unwrap() {
            Answer::Ledger(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    pub async fn submit(&self, spec: TaskSpec, count: u32) -> Vec<TaskId> {
        let items = vec![SubmitItem { spec: spec.into(), count }];
        let operation = OperationId(rand::random());
        match self.ledger(LedgerRequest::Submit { operation, items }).await {
            LedgerReply::Submitted { answers } => answers.into_iter().map(accepted).collect(),
            other => panic!("{other:?}"),
        }
    }

    pub async fn wait(&self, id: TaskId) -> TaskView {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let view = match self.ledger(LedgerRequest::WaitTask { id, timeout_ms: 5_000 }).await {
                LedgerReply::Task(view) => *view,
                other => panic!("{other:?}"),
            };
            if view.state.is_terminal() {
                return view;
            }
            assert!(Instant::now() < deadline, "{id} is {} after {PATIENCE:?}", view.state);
        }
    }

    pub async fn status(&self) -> NodeStatus {
        match self.client.ask(Body::Node(NodeRequest::Status), PATIENCE).await.unwrap() {
            Answer::Node(NodeReply::Status(status)) => *status,
            other => panic!("{other:?}"),
        }
    }

    /// Asks until the status satisfies `wanted`.
    pub async fn until(&self, what: &str, wanted: impl Fn(&NodeStatus) -> bool) -> NodeStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status: Result<Answer, ClientError> = self.client.ask(Body::Node(NodeRequest::Status), PATIENCE).await;
            if let Ok(Answer::Node(NodeReply::Status(status))) = status {
                if wanted(&status) {
                    return *status;
                }
                assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}; {status:#?}");
            }
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

pub fn accepted(answer: SubmitAnswer) -> TaskId {
    match answer {
        SubmitAnswer::Accepted { id } => id,
        SubmitAnswer::Refused(refusal) => panic!("{refusal}"),
    }
}

/// `count` nodes with one cluster key that see each other alive.
pub async fn mesh(count: usize) -> Vec<TestNode> {
    mesh_with(count, |_| {}).await
}

/// As [`mesh`], of nodes that are configured otherwise.
pub async fn mesh_with(count: usize, configure: impl Fn(&mut NodeConfig)) -> Vec<TestNode> {
    let mut nodes: Vec<TestNode> = Vec::new();
    let key_dir = tempfile::tempdir().unwrap();
    let key = key_dir.path().join("cluster.key");
    magpie_net::ClusterKey::load_or_create(&key).unwrap();
    for _ in 0..count {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        config.cluster_key = Some(key.clone());
        configure(&mut config);
        for node in &nodes {
            config.bootstrap.extend(node.status().await.listen);
        }
        nodes.push(TestNode::start_with(config, dir).await);
    }
    for node in &nodes {
        node.until("all peers alive", |status| {
            status.peers.iter().filter(|peer| peer.state == "alive").count() == count - 1
        })
        .await;
    }
    nodes
}
