//! Every actor is killed on purpose; the node goes on from its durable state.

use std::time::{Duration, Instant};

use magpie::messages::actor::{ActorReply, ActorRequest, ActorView};
use magpie::messages::node::NodeStatus;
use magpie::messages::{Answer, Body};
use magpie_core::queue::{LedgerReply, LedgerRequest};
use magpie_core::task::{TaskKind, TaskSpec, TaskState};

use crate::mesh::{PATIENCE, TestNode, mesh};

async fn ask_supervisor(node: &TestNode, request: ActorRequest) -> ActorReply {
    match node.client.ask(Body::Actor(request), PATIENCE).await.unwrap() {
        Answer::Actor(reply) => reply,
        other => panic!("{other:?}"),
    }
}

async fn tree(node: &TestNode) -> ActorView {
    match ask_supervisor(node, ActorRequest::Tree).await {
        ActorReply::Tree(tree) => tree,
        other => panic!("{other:?}"),
    }
}

async fn restarted(node: &TestNode, name: &str, restarts: u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let view = tree(node).await.children.into_iter().find(|child| child.name == name).unwrap();
        if view.state == "running" && view.restarts == restarts {
            return;
        }
        assert!(Instant::now() < deadline, "{view:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tree_names_every_actor() {
    let node = TestNode::start().await;
    let names: Vec<String> = tree(&node).await.children.into_iter().map(|child| child.name).collect();
    assert_eq!(names, ["ledger", "scheduler", "clock", "swarm", "registry", "worker", "tools", "control"]);
    match ask_supervisor(&node, ActorRequest::Kill { name: "nobody".to_owned() }).await {
        ActorReply::Unknown { known, .. } => assert!(known.contains(&"ledger".to_owned())),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_killed_actor_comes_back_and_work_goes_on() {
    let nodes = mesh(2).await;
    for name in ["clock", "scheduler", "registry", "worker", "swarm", "ledger"] {
        let mut spec = TaskSpec::new(TaskKind::Sleep);
        spec.input = serde_json::from_str("\"20ms\"").unwrap();
        let before = nodes[0].submit(spec.clone(), 10).await;
        ask_supervisor(&nodes[0], ActorRequest::Kill { name: name.to_owned() }).await;
        restarted(&nodes[0], name, 1).await;
        for id in before {
            let view = nodes[0].wait(id).await;
            assert_eq!(view.state, TaskState::Succeeded, "{name}: {view:?}");
        }
        let after = nodes[0].submit(spec, 4).await;
        for id in after {
            assert_eq!(nodes[0].wait(id).await.state, TaskState::Succeeded, "{name}");
        }
    }
    let status = nodes[0].status().await;
    assert_eq!(status.queue.counts.succeeded, 6 * 14);
    assert_eq!(status.queue.generation.0, 2, "a restart of the ledger is a start");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_starts_anew_says_at_once_what_its_node_does() {
    let nodes = mesh(2).await;
    let knows_worker = |status: &NodeStatus| status.peers[0].worker.is_some();
    nodes[0].until("the peer's worker is known", knows_worker).await;
    ask_supervisor(&nodes[1], ActorRequest::Kill { name: "registry".to_owned() }).await;
    restarted(&nodes[1], "registry", 1).await;
    let began = Instant::now();
    let heard_since = |status: &NodeStatus| {
        status.peers[0].last_heard_ms_ago.is_some_and(|ms| Duration::from_millis(ms) < began.elapsed())
    };
    let status = nodes[0].until("the peer is heard again", heard_since).await;
    assert!(knows_worker(&status), "an idle worker has no news of its own: {:?}", status.peers);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_that_starts_anew_hears_who_is_there_before_the_ledger_asks() {
    let node = TestNode::start().await;
    for name in ["scheduler", "ledger"] {
        ask_supervisor(&node, ActorRequest::Kill { name: name.to_owned() }).await;
        restarted(&node, name, 1).await;
    }
    for id in node.submit(TaskSpec::new(TaskKind::Noop), 4).await {
        assert_eq!(node.wait(id).await.state, TaskState::Succeeded);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_goes_while_the_registry_starts_anew_is_not_offered_work_for_ever() {
    let mut nodes = mesh(2).await;
    let gone = nodes.pop().unwrap();
    let peer = gone.status().await.peer_id;
    gone.node.stop().await;
    // Long before its silence says anything.
    ask_supervisor(&nodes[0], ActorRequest::Kill { name: "registry".to_owned() }).await;
    restarted(&nodes[0], "registry", 1).await;
    let mut spec = TaskSpec::new(TaskKind::Noop);
    spec.requires = Some("model:only-there".to_owned());
    let id = nodes[0].submit(spec, 1).await[0];
    let deadline = Instant::now() + PATIENCE;
    loop {
        let pending = match nodes[0].ledger(LedgerRequest::WhyPending { id }).await {
            LedgerReply::Pending(view) => view,
            other => panic!("{other:?}"),
        };
        if pending.nodes.iter().all(|node| node.peer != peer) {
            return;
        }
        assert!(Instant::now() < deadline, "{pending:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
