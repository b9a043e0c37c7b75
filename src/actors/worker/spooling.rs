//! Outcomes on their way to the disk and back: blocking, beside the actor.

use magpie_core::lease::{Completion, Fence};
use magpie_core::time::Wall;
use magpie_core::wire;
use magpie_core::worker::WorkerEvent;

use super::super::readings::now;
use super::WorkerState;
use crate::messages::worker::WorkerMsg;
use crate::store::spool::{Spool, Spooled};

/// What an earlier life left. What this node cannot read stays there, for the node that wrote it.
pub fn completions_of(spooled: Spooled) -> Vec<Completion> {
    for fence in &spooled.expired {
        tracing::error!(task = %fence.task, "an outcome was dropped: no home took it for too long");
    }
    let read = spooled.outcomes.iter().filter_map(|(fence, bytes)| {
        let complain =
            |error: &_| tracing::error!(task = %fence.task, %error, "an outcome in the spool is not offered");
        wire::decode_record(bytes).inspect_err(complain).ok()
    });
    read.collect()
}

impl WorkerState {
    pub(super) fn spool(&self, completions: Vec<Completion>) {
        let (spool, at, me) = (self.arguments.spool.clone(), Wall(now().wall_ms), self.me.clone());
        let fences: Vec<Fence> = completions.iter().map(|completion| completion.fence).collect();
        let turns = self.spooling.clone();
        self.arguments.routes.peers.errand(async move {
            let _turn = turns.lock().await;
            let put = tokio::task::spawn_blocking(move || put(&spool, &completions, at)).await;
            let refused = put.unwrap_or_else(|panic| Err(panic.to_string())).err();
            let _ = me.cast(WorkerMsg::SpoolAnswered { fences, refused });
        });
    }

    /// Forgets outcomes that were answered: those that the disk keeps all the same are answered the same again.
    pub(super) fn unspool(&self, fences: Vec<Fence>) {
        let (spool, turns) = (self.arguments.spool.clone(), self.spooling.clone());
        self.arguments.routes.peers.errand(async move {
            let _turn = turns.lock().await;
            let removed = tokio::task::spawn_blocking(move || spool.remove(&fences)).await;
            if let Ok(Err(error)) = removed {
                tracing::error!(%error, "answered outcomes stay in the spool");
            }
        });
    }

    pub(super) fn spool_answered(&mut self, fences: Vec<Fence>, refused: Option<String>) {
        let before = self.core.stats().spool_refuses;
        if let Some(why) = refused.as_ref().filter(|_| before.is_none()) {
            tracing::error!(why, "outcomes that wait for their homes are kept in memory alone");
        }
        self.event(WorkerEvent::SpoolAnswered { fences, refused });
    }
}

fn put(spool: &Spool, completions: &[Completion], at: Wall) -> Result<(), String> {
    let mut outcomes = Vec::with_capacity(completions.len());
    for completion in completions {
        let bytes = wire::encode_record(completion).map_err(|error| error.to_string())?;
        outcomes.push((completion.fence, bytes));
    }
    let outcomes: Vec<(Fence, &[u8])> = outcomes.iter().map(|(fence, bytes)| (*fence, bytes.as_slice())).collect();
    spool.put_many(&outcomes, at, true).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use magpie_core::ids::{Epoch, LeaseToken, LedgerTag, TaskId};
    use magpie_core::payload::Payload;
    use magpie_core::task::{AttemptResult, Outcome};

    use super::*;

    #[test]
    fn an_outcome_that_cannot_be_read_costs_no_other_and_stays_in_the_spool() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(dir.path()).unwrap();
        let fence = |n| Fence { task: TaskId { ulid: n, ledger: LedgerTag([3; 5]) }, epoch: Epoch(1) };
        let result = AttemptResult::Succeeded { output: Payload::default() };
        let outcome = Outcome { result, log_tail: String::new(), ran_ms: 1, used: Default::default() };
        let whole = Completion { fence: fence(2), token: LeaseToken([4; 16]), outcome, checkpoint: None };
        spool.put(fence(1), &[99, 1, 2], Wall(1), true).unwrap();
        put(&spool, std::slice::from_ref(&whole), Wall(1)).unwrap();
        for _ in 0..2 {
            let spooled = spool.load(Wall(2)).unwrap();
            assert_eq!(spooled.outcomes.len(), 2);
            assert_eq!(completions_of(spooled), std::slice::from_ref(&whole));
        }
    }
}
