//! A home's log is read: record by record, from the first that is kept, until the ledger opens.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::approvals::OpenApprovals;
use super::compaction::{Compaction, CompactionPolicy};
use super::disk::Disk;
use super::effects::Outbox;
use super::fairness::Fairness;
use super::handover::HandoverRecord;
use super::images::Partial;
use super::ledger::{Ledger, LedgerIdentity};
use super::limit_keys::Limits;
use super::namespaces::Namespaces;
use super::operations::Operations;
use super::pace::Pace;
use super::permits::Permits;
use super::ready::ReadySet;
use super::record::{ClockRoot, Record};
use super::retention::Retention;
use super::room::Loads;
use super::settings::QueueSettings;
use super::state::{Changes, State};
use super::stats::SettledStats;
use super::suspension::Comparing;
use super::waiters::Waiters;
use super::workers::Workers;
use crate::clock::chain::Chain;
use crate::clock_alarm::ClockWatch;
use crate::ids::{ContentId, Generation, LogIndex, PeerId};
use crate::invariant::{InvariantId, check};
use crate::limits;
use crate::task::Durability;
use crate::time::{Now, Wall};
use crate::wire;

/// A log that cannot be replayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    #[error("record {index} is not the next one: {expected} is missing")]
    Gap { index: LogIndex, expected: LogIndex },
    #[error("record {index} does not decode: {problem}")]
    Undecodable { index: LogIndex, problem: String },
    #[error("record {index} is not the one that the chain of events names")]
    ChainBroken { index: LogIndex },
    #[error("the log begins at record {first}, and no checkpoint in it makes up for those before")]
    Incomplete { first: LogIndex },
}

/// Where a log begins whose oldest part is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogStart {
    /// The first record that is kept.
    pub first: LogIndex,
    /// The event of the record before it: the chain goes on from there.
    pub after: ContentId,
}

/// A ledger while its log is read, before it serves.
pub struct Replay {
    identity: LedgerIdentity,
    settings: QueueSettings,
    pub(super) state: State,
    chain: Chain,
    first: LogIndex,
    next: LogIndex,
    pub(super) operations: Operations,
    compaction: Compaction,
    compare_with: BTreeSet<PeerId>,
}

impl Replay {
    pub fn new(identity: LedgerIdentity) -> Self {
        Self {
            state: State::new(identity.ledger.tag()),
            chain: Chain::genesis(identity.ledger),
            identity,
            first: LogIndex(1),
            settings: QueueSettings::default(),
            next: LogIndex(1),
            operations: Operations::default(),
            compaction: Compaction::default(),
            compare_with: BTreeSet::new(),
        }
    }

    /// Of a log that begins at `start`, since all before was cut off.
    pub fn resume(identity: LedgerIdentity, start: LogStart) -> Self {
        let LogStart { first, after } = start;
        let mut replay = Self::new(identity);
        if first > LogIndex(1) {
            replay.chain = Chain::resume(replay.identity.ledger, first.0 - 1, after);
            replay.state.partial = Some(Box::new(Partial::from(first)));
            (replay.first, replay.next) = (first, first);
            replay.compaction = Compaction::from(first);
        }
        replay
    }

    /// When the log is made shorter. It is told before the log is read, since what is read decides where it may be cut.
    #[must_use]
    pub fn with_compaction(mut self, policy: CompactionPolicy) -> Self {
        self.compaction.set_policy(policy);
        self
    }

    /// Whether what was read is the whole state.
    ///
    /// # Errors
    /// [`ReplayError::Incomplete`] if a cut log has no checkpoint.
    pub fn check(&self) -> Result<(), ReplayError> {
        if self.state.partial.is_some() { Err(ReplayError::Incomplete { first: self.first }) } else { Ok(()) }
    }

    /// The ledger orders its work by these settings from its start on.
    #[must_use]
    pub fn with_settings(self, settings: QueueSettings) -> Self {
        Self { settings, ..self }
    }

    /// Before its first grant or commit, the ledger hears what these peers hold of it; of those that do not say it in
    /// time, nothing.
    #[must_use]
    pub fn comparing_with(self, compare_with: BTreeSet<PeerId>) -> Self {
        Self { compare_with, ..self }
    }

    /// Applies the next stored record.
    ///
    /// # Errors
    /// If it is not the next, does not decode, or is not the record that the chain was made over.
    pub fn apply(&mut self, index: LogIndex, body: &[u8], event: ContentId) -> Result<(), ReplayError> {
        if index != self.next {
            return Err(ReplayError::Gap { index, expected: self.next });
        }
        let record: Record = wire::decode_record(body)
            .map_err(|error| ReplayError::Undecodable { index, problem: error.to_string() })?;
        if !self.continues(&record) || self.chain.append(record.at(), record.kind(), body) != event {
            return Err(ReplayError::ChainBroken { index });
        }
        self.operations.remember(&record);
        let partial = self.state.partial.is_some();
        self.state.apply(index, &record);
        if let (Record::Checkpoint { totals, .. }, true) = (&record, partial && self.state.partial.is_none()) {
            self.operations.restore(&totals.operations);
        }
        self.compaction.measure(index, &record, body.len());
        // All that is derived is made once, when the ledger opens.
        self.state.changes = Changes::default();
        self.next = index.next();
        Ok(())
    }

    /// A handover says where the log of its home had come to when it was signed.
    fn continues(&self, record: &Record) -> bool {
        let Record::Handover(HandoverRecord::HandedOver { handover, .. }) = record else { return true };
        (handover.handover.count.0, handover.handover.event) == (self.chain.count(), self.chain.tip())
    }

    /// Starts to serve what [`Self::check`] found whole: the generation grows, every recorded lease lives one full TTL
    /// from now.
    pub fn open(self, now: Now) -> Ledger {
        check(InvariantId::I16, self.check().is_ok(), "a part of a log was opened");
        let clock_watch = ClockWatch::new(now, self.state.last_at);
        let mut ledger = Ledger {
            identity: self.identity,
            settings: self.settings,
            fairness: Fairness::default(),
            limits: Limits::opened(Wall(now.wall_ms)),
            permits: Permits::default(),
            loads: Loads::default(),
            namespaces: Namespaces::default(),
            now,
            state: self.state,
            ready: ReadySet::default(),
            workers: Workers::default(),
            outbox: Outbox::starting_at(LogIndex(self.next.0 - 1)),
            chain: self.chain,
            entries: Vec::new(),
            next: self.next,
            grants: 0,
            leases: BTreeSet::new(),
            approvals: OpenApprovals::default(),
            delayed: BTreeSet::new(),
            delayed_until: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            dead: BTreeSet::new(),
            retention: Retention::default(),
            pace: Pace::default(),
            workflow_pace: Pace::default(),
            waiters: Waiters::default(),
            operations: self.operations,
            clock_root: ClockRoot::default(),
            draining: None,
            checked: None,
            disk: Disk::default(),
            settled_stats: SettledStats::default(),
            clock_watch,
            marker: None,
            markers: 0,
            children_due: BTreeSet::new(),
            tick_due_ms: now.mono_ms + limits::TICK_MS,
            fenced_total: 0,
            binding: BTreeMap::new(),
            wanted: VecDeque::new(),
            unpublished: VecDeque::new(),
            grants_due: true,
            preference_due_ms: None,
            tallied: (0, 0, 0),
            tallied_ms: 0,
            keys_forgotten_ms: 0,
            compaction: self.compaction,
            comparing: Comparing::with(self.compare_with, now.mono_ms),
        };
        ledger.fenced_total = ledger.state.fenced_total;
        let generation = Generation(ledger.state.generation.max(ledger.state.standing.generation_used()).0 + 1);
        if ledger.seal().is_some_and(|seal| seal.handover.handover.to == ledger.identity.home) {
            ledger.commit(Durability::Sync, Record::Handover(HandoverRecord::TakenOver { at: ledger.at() }));
        }
        let at = ledger.at();
        ledger.outbox.opened = ledger.next;
        ledger.commit(Durability::Sync, Record::Opened { at, generation });
        ledger.tallied = ledger.tally();
        ledger.permits = Permits::recovered(generation, now.mono_ms, &ledger.state.loans);
        ledger.derive_all();
        if ledger.acts() {
            ledger.bind_wanted();
            ledger.finish_cut();
        }
        ledger
    }
}
