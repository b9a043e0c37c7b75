//! Which attempt of a task its home reads on, for one who follows what the task's attempts say.

use super::protocol::TaskView;
use crate::ids::{Epoch, PeerId};
use crate::lease::Fence;
use crate::stream::Ask;
use crate::task::TaskState;

/// One question of a reader, until it has an answer.
#[derive(Debug, Clone, Copy)]
pub struct Following {
    pub ask: Ask,
    /// Who said what the reader has.
    said_by: Option<PeerId>,
    /// Nothing more is to be had of the attempts up to this one.
    passed: Epoch,
}

/// What the home does next for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextRead {
    /// Asks the worker. Of an attempt that others followed, what is there is enough.
    Attempt { fence: Fence, worker: PeerId, is_newest: bool },
    /// Waits until an attempt of a later epoch has begun, or the task is over.
    Begin { after: Epoch },
    /// Nothing follows.
    Over,
}

impl Following {
    /// `ended`: the reader has all of the attempt that it has begun to read.
    pub fn new(ask: Ask, said_by: Option<PeerId>, ended: bool) -> Self {
        let passed = ask.after.filter(|_| ended).map_or(Epoch(0), |at| Epoch(at.epoch.0));
        Self { ask, said_by, passed }
    }

    /// The attempt that the reader has begun to read is read to its end, then the newest.
    pub fn next(&self, view: &TaskView) -> NextRead {
        let fence = |epoch| Fence { task: view.id, epoch };
        let begun = self.ask.after.map(|at| Epoch(at.epoch.0));
        if let (Some(epoch), Some(worker)) = (begun, self.said_by)
            && epoch > self.passed
            && epoch < view.epoch
        {
            return NextRead::Attempt { fence: fence(epoch), worker, is_newest: false };
        }
        match view.worker {
            Some(worker) if view.epoch > self.passed && view.state != TaskState::Leased => {
                NextRead::Attempt { fence: fence(view.epoch), worker, is_newest: true }
            }
            Some(_) | None if view.state.is_terminal() => NextRead::Over,
            Some(_) | None => NextRead::Begin { after: self.passed },
        }
    }

    /// The reader has all of an attempt that is to be had.
    pub fn pass(&mut self, epoch: Epoch) {
        self.passed = self.passed.max(epoch);
    }

    /// Whether the reader has something of this attempt.
    pub fn has_begun(&self, epoch: Epoch) -> bool {
        self.ask.after.is_some_and(|at| at.epoch.0 == epoch.0 && at.seq > 0)
    }
}
