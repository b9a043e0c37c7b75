//! A home's log does not grow with its history, and forgets nothing that still counts.

use std::path::Path;
use std::time::{Duration, Instant};

use magpie::client::ClientError;
use magpie::config::{CompactionConfig, NodeConfig};
use magpie::messages::Body;
use magpie::store::data_dir::DataDir;
use magpie::store::log::LedgerLog;
use magpie_core::ids::{LedgerId, LogIndex, OperationId, TaskId};
use magpie_core::queue::{LedgerReply, LedgerRequest, Refusal};
use magpie_core::retry::RetryPolicy;
use magpie_core::task::{Priority, TaskKind, TaskSpec, TaskState};
use magpie_core::time::{DurationMs, Wall};

use crate::mesh::{PATIENCE, TestNode, config};

fn cut_soon(dir: &Path) -> NodeConfig {
    NodeConfig { compaction: CompactionConfig { keep: DurationMs(1_000), bytes: 1_000 }, ..config(dir) }
}

/// Ends a node and starts it again. Returns it with the first and the last record that it found.
async fn restarted(test: TestNode) -> (TestNode, LogIndex, LogIndex) {
    let TestNode { node, dir, client } = test;
    drop(client);
    node.stop().await;
    let (first, last) = {
        let data = DataDir::open(dir.path()).unwrap();
        let recovery = LedgerLog::open(&data, LedgerId([0; 16])).unwrap();
        (recovery.start().map_or(LogIndex(1), |start| start.first), recovery.tip())
    };
    let config = cut_soon(dir.path());
    (TestNode::start_with(config, dir).await, first, last)
}

/// Tasks that die are removed by hand: what the log says of them counts for nothing then but for their number.
async fn die_and_go(test: &TestNode, count: u32) -> Vec<TaskId> {
    // A timeout is worth another attempt, and here there is none.
    let retry = RetryPolicy { max_attempts: 1, ..RetryPolicy::default() };
    let input = serde_json::from_str("\"1h\"").unwrap();
    let spec = TaskSpec { input, timeout: DurationMs(1), retry, ..TaskSpec::new(TaskKind::Sleep) };
    let ids = test.submit(spec, count).await;
    for id in &ids {
        assert_eq!(test.wait(*id).await.state, TaskState::Dead);
    }
    let operation = OperationId(rand::random());
    match test.ledger(LedgerRequest::PurgeDead { operation, ids: ids.clone() }).await {
        LedgerReply::Purged { answers } => assert!(answers.iter().all(Option::is_none), "{answers:?}"),
        other => panic!("{other:?}"),
    }
    ids
}

/// One task that waits long, and of which much is said.
async fn waiting(test: &TestNode, changes: u16) -> TaskId {
    let not_before = Some(Wall(magpie_core::limits::WALL_MS_MAX));
    let id = test.submit(TaskSpec { not_before, ..TaskSpec::new(TaskKind::Noop) }, 1).await[0];
    for priority in 0..changes {
        let (operation, priority) = (OperationId(rand::random()), Priority::try_from(priority % 1_000).unwrap());
        test.ledger(LedgerRequest::SetPriority { operation, id, priority }).await;
    }
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn many_short_tasks_leave_a_short_log_and_a_restart_gives_the_same_counts() {
    let dir = tempfile::tempdir().unwrap();
    let config = cut_soon(dir.path());
    let mut test = TestNode::start_with(config, dir).await;
    let done = test.submit(TaskSpec::new(TaskKind::Noop), 50).await;
    let gone = die_and_go(&test, 60).await;
    let waits = waiting(&test, 800).await;
    for id in &done {
        test.wait(*id).await;
    }
    let before = test.status().await.queue;
    let deadline = Instant::now() + PATIENCE;
    let (mut first, mut last);
    loop {
        // What the writer cut is seen once the node is down: it holds the file while it is up.
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        (test, first, last) = restarted(test).await;
        if first > LogIndex(1) && last.0 - first.0 < 500 {
            break;
        }
        assert!(Instant::now() < deadline, "the log holds {first} to {last} after {PATIENCE:?}");
    }
    assert!(last.0 > 800, "{last} records were written");
    let after = test.status().await.queue;
    assert_eq!((after.submitted, after.counts), (before.submitted, before.counts));
    assert_eq!((before.counts.succeeded, before.counts.dead, before.counts.delayed), (50, 60, 1));
    assert_eq!(test.wait(done[7]).await.state, TaskState::Succeeded);
    let refused = test.client.ask(Body::Ledger(LedgerRequest::GetTask { id: gone[0] }), PATIENCE).await;
    assert!(matches!(refused, Err(ClientError::Refused(Refusal::Pruned { .. }))), "{refused:?}");
    match test.ledger(LedgerRequest::GetTask { id: waits }).await {
        LedgerReply::Task(view) => assert_eq!((view.state, u16::from(view.priority)), (TaskState::Delayed, 799)),
        other => panic!("{other:?}"),
    }
    let more = test.submit(TaskSpec::new(TaskKind::Noop), 1).await[0];
    assert_eq!(test.wait(more).await.state, TaskState::Succeeded);
    test.node.stop().await;
}
