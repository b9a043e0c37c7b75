use std::sync::Arc;

use magpie_core::ids::{OperationId, TaskId};
use magpie_core::lease::Grant;
use magpie_core::matching::Capabilities;
use magpie_core::payload::{JsonText, Payload};
use magpie_core::queue::{LedgerReply, LedgerRequest, QueueStats, SubmitAnswer, SubmitItem, TaskView};
use magpie_core::retry::RetryPolicy;
use magpie_core::task::{AttemptResult, Outcome, TaskKind, TaskSpec, TaskState};
use magpie_core::time::DurationMs;

use crate::mesh::Mesh;

pub fn all_kinds() -> Arc<Capabilities> {
    Arc::new(Capabilities { kinds: TaskKind::ALL.into_iter().collect(), ..Capabilities::default() })
}

/// The output tells whose attempt it is.
pub fn success(grant: &Grant) -> Outcome {
    let output = Payload::Inline(JsonText::of(&serde_json::Value::from(grant.fence.epoch.0)));
    Outcome {
        result: AttemptResult::Succeeded { output },
        log_tail: String::new(),
        ran_ms: 1,
        used: Default::default(),
    }
}

/// A task that may be tried `max_attempts` times, a second apart.
pub fn task(max_attempts: u32) -> TaskSpec {
    let retry = RetryPolicy { max_attempts, initial: DurationMs(1_000), jitter: 0.0, ..RetryPolicy::default() };
    TaskSpec { retry, ..TaskSpec::new(TaskKind::Sleep) }
}

impl Mesh {
    pub fn submit(&mut self, spec: TaskSpec) -> TaskId {
        let operation = OperationId((self.log.len() as u128 | 1 << 120).to_be_bytes());
        let reply = self.ask(LedgerRequest::Submit { operation, items: vec![SubmitItem::one(spec)] });
        match reply {
            LedgerReply::Submitted { answers } => match &answers[..] {
                [SubmitAnswer::Accepted { id }] => *id,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    pub fn task(&mut self, id: TaskId) -> TaskView {
        match self.ask(LedgerRequest::GetTask { id }) {
            LedgerReply::Task(view) => *view,
            other => panic!("{other:?}"),
        }
    }

    pub fn state(&mut self, id: TaskId) -> TaskState {
        self.task(id).state
    }

    pub fn stats(&mut self) -> QueueStats {
        match self.ask(LedgerRequest::Stats) {
            LedgerReply::Stats(stats) => *stats,
            other => panic!("{other:?}"),
        }
    }

    pub fn cancel(&mut self, id: TaskId) -> TaskState {
        let operation = OperationId((self.log.len() as u128 | 1 << 121).to_be_bytes());
        match self.ask(LedgerRequest::Cancel { operation, id, reason: "enough".to_owned() }) {
            LedgerReply::Cancelled { state } => state,
            other => panic!("{other:?}"),
        }
    }

    /// The epoch whose outcome became the task's.
    pub fn winner(&mut self, id: TaskId) -> u64 {
        match self.task(id).output {
            Some(Payload::Inline(text)) => text.to_value().as_u64().expect("an epoch"),
            other => panic!("{other:?}"),
        }
    }

    /// Attempts of `id` that started, on all workers, in the order of their epochs.
    pub fn starts(&self, id: TaskId) -> Vec<Grant> {
        let all = self.hosts.iter().flat_map(|host| &host.started);
        let mut starts: Vec<Grant> = all.filter(|grant| grant.fence.task == id).cloned().collect();
        starts.sort_by_key(|grant| grant.fence.epoch);
        starts
    }
}
