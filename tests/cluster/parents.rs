//! Work that a running attempt submits through whatever node it runs on.

use magpie::messages::{Answer, Body};
use magpie_core::dag::{StepSpec, WorkflowSpec};
use magpie_core::ids::OperationId;
use magpie_core::queue::{LedgerReply, LedgerRequest, WorkflowState};
use magpie_core::task::{TaskKind, TaskSpec, TaskState};

use crate::mesh::{PATIENCE, TestNode, mesh};

fn long_sleep() -> TaskSpec {
    TaskSpec { input: serde_json::from_str("\"60s\"").unwrap(), ..TaskSpec::new(TaskKind::Sleep) }
}

fn workflow_for(parent: magpie_core::ids::TaskId) -> WorkflowSpec {
    let json = serde_json::json!({"name": "child", "steps": [], "parent": parent.to_string()});
    let spec: WorkflowSpec = serde_json::from_value(json).unwrap();
    let step = StepSpec {
        input: magpie_core::dag::Template::parse(&"60s".into()).unwrap(),
        ..StepSpec::new("s", TaskKind::Sleep)
    };
    WorkflowSpec { steps: vec![step], ..spec }
}

async fn state_of(node: &TestNode, id: magpie_core::ids::WorkflowId) -> WorkflowState {
    match node.ledger(LedgerRequest::GetWorkflow { id }).await {
        LedgerReply::Workflow(view) => view.summary.state,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_submitted_for_a_task_goes_to_its_home_and_is_cancelled_with_it() {
    let nodes = mesh(3).await;
    let parent = nodes[0].submit(long_sleep(), 1).await[0];
    let child = nodes[1].submit(TaskSpec { parent: Some(parent), ..long_sleep() }, 1).await[0];
    let operation = OperationId(rand::random());
    let request = LedgerRequest::SubmitWorkflow { operation, spec: workflow_for(parent).into() };
    let workflow = match nodes[2].client.ask(Body::Ledger(request), PATIENCE).await.unwrap() {
        Answer::Ledger(LedgerReply::WorkflowSubmitted { id }) => id,
        other => panic!("{other:?}"),
    };
    let home = nodes[0].status().await.ledger.tag();
    assert_eq!((child.ledger, workflow.ledger), (home, home), "one record can cancel all of them");
    for node in &nodes[1..] {
        assert_eq!(node.status().await.queue.submitted, 0, "no other home has any of it");
    }
    let cancel = LedgerRequest::Cancel { operation: OperationId(rand::random()), id: parent, reason: "enough".into() };
    assert_eq!(nodes[1].ledger(cancel).await, LedgerReply::Cancelled { state: TaskState::Cancelled });
    let view = nodes[2].wait(child).await;
    assert_eq!(
        (view.state, view.parent, view.error.unwrap().code.as_str()),
        (TaskState::Cancelled, Some(parent), "parent_cancelled")
    );
    assert_eq!(state_of(&nodes[1], workflow).await, WorkflowState::Cancelled);
    for node in &nodes {
        node.until("nothing runs any more", |status| status.worker.running == 0).await;
    }
}
