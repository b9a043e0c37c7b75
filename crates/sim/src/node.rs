//! One node: a home, a worker, their disks and clocks, and what it heard of the others.

use std::collections::{BTreeMap, BTreeSet};

use magpie_core::clock::MerkleClock;
use magpie_core::ids::{Epoch, LeaseToken, LedgerTag, LogIndex, OperationId, PeerId, Sending, TaskId};
use magpie_core::lease::{Completion, Fence, Slots};
use magpie_core::limiter::PermitAsk;
use magpie_core::membership::Membership;
use magpie_core::queue::{CompactionPolicy, Ledger, LedgerIdentity};
use magpie_core::worker::Worker;

use crate::clock::NodeClock;
use crate::disk::Disk;
use crate::network::Endpoint;
use crate::rng::Rng;

pub struct Node {
    pub identity: LedgerIdentity,
    pub clock: NodeClock,
    pub disk: Disk,
    /// Entries before it are cut off the log: only the checkers still see them.
    pub first_kept: LogIndex,
    pub compaction: CompactionPolicy,
    /// What its cuts draw.
    pub cuts: Rng,
    pub spool: Spool,
    pub home: Option<Home>,
    pub worker: Option<WorkerHost>,
    pub slots: Slots,
    /// Starts of a worker so far: its incarnations.
    pub worker_starts: u64,
    /// Counts lives of both, so that what was under way for an earlier one finds nobody.
    pub lives: u64,
    pub paused_until_ms: u64,
    /// When the last message on its way from the network to the ledger gets there.
    pub ingress_until_ms: u64,
    pub membership: Option<Membership>,
    /// The newest heads that it knows of every ledger, since it started.
    pub heads: MerkleClock,
    /// Which other nodes said last that their home serves.
    pub homes_up: Vec<bool>,
}

impl Node {
    pub fn tag(&self) -> LedgerTag {
        self.identity.ledger.tag()
    }

    pub fn peer(&self) -> PeerId {
        self.identity.home
    }
}

/// A ledger that serves, in the shell of its node.
pub struct Home {
    pub ledger: Ledger,
    pub life: u64,
    /// When the next tick was wanted for, on the ledger's clock.
    pub tick_wanted_ms: u64,
    /// Who waits for which answer.
    pub replies: BTreeMap<u64, Waiting>,
    pub next_reply: u64,
    /// What is ready, as its last counters said.
    pub backlog: Slots,
    /// What the request under way presents.
    pub presented: Vec<(Fence, LeaseToken)>,
    /// What the request under way asks for, of a limit of this home.
    pub asked: Option<PermitAsk>,
    /// Asks for permits of other homes' limits that have no answer yet.
    pub asks: BTreeMap<u64, (LedgerTag, PermitAsk)>,
    /// The log could not be written, and was not since.
    pub disk_refuses: bool,
    /// Before the next try of a write that was refused.
    pub write_pause_ms: u64,
}

/// Who waits for an answer, and what the log said when the request was handled.
#[derive(Debug)]
pub struct Waiting {
    pub from: Endpoint,
    pub call: u64,
    /// What the request presented.
    pub fences: Vec<(Fence, Rests)>,
    /// The retry of a workflow that was asked for.
    pub retry: Option<OperationId>,
}

/// What the log said of a fence when an answer about it was made; the answer may leave later.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rests {
    /// The last record that says that its worker holds it.
    pub held: LogIndex,
    /// The last record of all.
    pub tip: LogIndex,
}

/// A worker that runs, in the shell of its node.
pub struct WorkerHost {
    pub worker: Worker,
    pub life: u64,
    pub calls: BTreeMap<u64, WorkerCall>,
    pub next_call: u64,
    /// When each credit was sent, on the worker's monotonic clock.
    pub sendings: BTreeMap<(LedgerTag, Sending), u64>,
    /// The highest epoch of each task that came in a grant: the worker ignores what comes after it with a lower one.
    pub granted: BTreeMap<TaskId, Epoch>,
    /// Attempts under way.
    pub running: BTreeSet<Fence>,
    pub draining: bool,
}

/// A request of a worker that has no answer yet.
#[derive(Debug, Clone)]
pub enum WorkerCall {
    Credit { home: LedgerTag },
    Renew { home: LedgerTag, sent_ms: u64, fences: Vec<Fence> },
    Complete { home: LedgerTag, fences: Vec<Fence> },
    Release,
}

/// Outcomes on a worker's disk.
#[derive(Debug, Default)]
pub struct Spool {
    /// With whether it is synced.
    outcomes: BTreeMap<Fence, (Completion, bool)>,
}

impl Spool {
    pub fn put(&mut self, completion: Completion) {
        self.outcomes.entry(completion.fence).or_insert((completion, false));
    }

    pub fn sync(&mut self) {
        self.outcomes.values_mut().for_each(|(_, synced)| *synced = true);
    }

    pub fn remove(&mut self, fence: &Fence) {
        self.outcomes.remove(fence);
    }

    pub fn lose_unsynced(&mut self) {
        self.outcomes.retain(|_, (_, synced)| *synced);
    }

    pub fn load(&self) -> Vec<Completion> {
        self.outcomes.values().map(|(completion, _)| completion.clone()).collect()
    }
}
