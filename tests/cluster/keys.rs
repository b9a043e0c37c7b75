//! One idempotency key through many nodes.

use std::sync::Arc;

use magpie::messages::{Answer, Body};
use magpie_core::ids::{LedgerTag, OperationId};
use magpie_core::queue::{LedgerReply, LedgerRequest, Refusal, SubmitItem};
use magpie_core::task::{TaskKind, TaskSpec, TaskState};
use tokio::task::JoinSet;

use crate::mesh::{PATIENCE, accepted, mesh};

fn submission(home: LedgerTag) -> Body {
    let spec = TaskSpec { idempotency_key: Some("once".to_owned()), ..TaskSpec::new(TaskKind::Noop) };
    let request = LedgerRequest::Submit { operation: OperationId(rand::random()), items: vec![SubmitItem::one(spec)] };
    Body::Home { home, request }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_submits_through_five_nodes_that_name_one_home_make_one_task() {
    let nodes = Arc::new(mesh(5).await);
    let home = nodes[2].status().await.ledger.tag();
    let mut asked = JoinSet::new();
    for n in 0..100 {
        let nodes = nodes.clone();
        asked.spawn(async move { nodes[n % 5].client.ask(submission(home), PATIENCE).await });
    }
    let mut ids = Vec::new();
    while let Some(answer) = asked.join_next().await {
        match answer.unwrap().unwrap() {
            Answer::Ledger(LedgerReply::Submitted { answers }) => ids.extend(answers.into_iter().map(accepted)),
            other => panic!("{other:?}"),
        }
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(ids[0].ledger, home);
    assert_eq!(nodes[4].wait(ids[0]).await.state, TaskState::Succeeded);
    for (n, node) in nodes.iter().enumerate() {
        assert_eq!(node.status().await.queue.submitted, u64::from(n == 2), "node {n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_is_away_gets_no_submission_and_no_other_home_does() {
    let nodes = mesh(2).await;
    let away = LedgerTag([9; 5]);
    let refused = nodes[0].client.ask(submission(away), PATIENCE).await.unwrap_err().to_string();
    assert!(refused.contains(&Refusal::HomeAway { home: away, last_seen: None }.to_string()), "{refused}");
    for node in &nodes {
        assert_eq!(node.status().await.queue.submitted, 0);
    }
}
