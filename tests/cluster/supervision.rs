//! Every actor is killed on purpose; the node goes on from its durable state.

use magpie::messages::actor::{ActorReply, ActorRequest, ActorView};
use magpie::messages::{Answer, Body};
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
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let view = tree(node).await.children.into_iter().find(|child| child.name == name).unwrap();
        if view.state == "running" && view.restarts == restarts {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{view:?}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tree_names_every_actor() {
    let node = TestNode::start().await;
    let names: Vec<String> = tree(&node).await.children.into_iter().map(|child| child.name).collect();
    assert_eq!(names, ["ledger", "scheduler", "clock", "swarm", "registry", "worker", "control"]);
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
