//! A home's counters, and the last of them that are on the disk, for when the disk refuses the newest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::disk::Disk;
use super::effects::{Gate, ReplyTo};
use super::ledger::Ledger;
use super::paused::PausedView;
use super::protocol::{LedgerReply, TaskCounts};
use super::suspension::Suspension;
use crate::clock_alarm::ClockAlarm;
use crate::ids::{Generation, LedgerId, LogIndex, PeerId};

/// A home's counters since its ledger was created.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueueStats {
    pub ledger: LedgerId,
    pub generation: Generation,
    pub log_index: LogIndex,
    pub synced_index: LogIndex,
    pub submitted: u64,
    pub counts: TaskCounts,
    /// `memory` tasks of earlier generations.
    pub lost: u64,
    /// Messages whose fence was not the recorded one.
    pub fenced_total: u64,
    pub expired_total: u64,
    pub released_total: u64,
    pub retried_total: u64,
    pub workflows_running: u64,
    /// Attempts that workers hold; a task that is a workflow is held by nobody.
    #[serde(default)]
    pub leases: u64,
    /// Ended tasks that are not kept any more: they are among the counts all the same.
    #[serde(default)]
    pub pruned: TaskCounts,
    /// What the kept ones take, more or less, of what they may.
    #[serde(default)]
    pub kept_bytes: u64,
    #[serde(default)]
    pub kept_bytes_max: u64,
    /// Grows with each pause, resume and clear.
    #[serde(default)]
    pub queue_version: u64,
    #[serde(default)]
    pub paused: Vec<PausedView>,
    /// Ready tasks by requirement shape, for thieves: who has what for whom.
    pub ready_by_shape: Vec<ShapeBacklog>,
    /// Succeeded tasks by the worker that ran them.
    pub commits_by_worker: BTreeMap<PeerId, u64>,
    pub invariant_violations: u64,
    #[serde(default)]
    pub schedules: u64,
    /// The wall clock jumped: deadlines and schedules wait until it can be believed again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_alarm: Option<ClockAlarm>,
    /// While it refuses, the counters are those of the last moment that is on it.
    #[serde(default)]
    pub disk: Disk,
    /// Another copy of the ledger has gone on: nothing is accepted, granted, committed or pruned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<Suspension>,
    /// It is sealed: this peer serves the ledger, or is about to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handed_over_to: Option<PeerId>,
}

/// A backlog of one requirement shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShapeBacklog {
    pub shape: crate::matching::Shape,
    pub ready: u64,
}

/// Counters on their way to the disk, and the newest that are on it.
#[derive(Debug, Clone, Default)]
pub(super) struct SettledStats {
    latest: Option<Box<QueueStats>>,
    waiting: Option<Box<QueueStats>>,
    /// Where the log ended when they were last taken.
    taken_at: LogIndex,
}

impl SettledStats {
    fn settle(&mut self, synced: LogIndex) {
        if self.waiting.as_ref().is_some_and(|stats| stats.log_index <= synced) {
            self.latest = self.waiting.take();
        }
    }
}

impl Ledger {
    pub(super) fn stats(&mut self, reply: ReplyTo) {
        let gate = Gate::Synced(self.last_index());
        let settled = self.settled_stats.latest.clone().filter(|_| self.disk.refuses());
        match settled {
            Some(stats) => {
                let (log_index, synced_index) = (self.last_index(), self.outbox.synced());
                let stats = QueueStats { log_index, synced_index, disk: self.disk.clone(), ..*stats };
                self.reply(Gate::Open, reply, LedgerReply::Stats(Box::new(stats)));
            }
            None => {
                let stats = self.current_stats();
                self.reply(gate, reply, LedgerReply::Stats(Box::new(stats)));
            }
        }
    }

    fn last_index(&self) -> LogIndex {
        LogIndex(self.next.0 - 1)
    }

    fn current_stats(&self) -> QueueStats {
        QueueStats {
            ledger: self.identity.ledger,
            generation: self.state.generation,
            log_index: self.last_index(),
            synced_index: self.outbox.synced(),
            submitted: self.state.submitted,
            counts: self.state.counts,
            lost: self.state.lost,
            fenced_total: self.fenced_total,
            expired_total: self.state.expired_total,
            released_total: self.state.released_total,
            retried_total: self.state.retried_total,
            workflows_running: self.state.workflows_running,
            leases: self.leases.len() as u64,
            pruned: self.state.pruned,
            kept_bytes: self.retention.bytes(),
            kept_bytes_max: self.retention.bytes_max(),
            queue_version: self.state.paused.version,
            paused: self.state.paused.views(),
            ready_by_shape: self.backlog(),
            commits_by_worker: self.state.commits_by_worker.clone(),
            invariant_violations: crate::invariant::violations(),
            schedules: self.state.schedules.len() as u64,
            clock_alarm: self.clock_watch.alarm(),
            disk: self.disk.clone(),
            suspended: self.state.standing.suspended(),
            handed_over_to: self.seal().map(|seal| seal.handover.handover.to),
        }
    }

    /// Takes the counters once in a tick, if the log has grown, and keeps them once all that they count is synced.
    pub(super) fn sample_stats(&mut self) {
        let last = self.last_index();
        if self.settled_stats.waiting.is_some() || self.settled_stats.taken_at == last {
            return;
        }
        self.settled_stats.waiting = Some(Box::new(self.current_stats()));
        self.settled_stats.taken_at = last;
        self.settle_stats();
    }

    pub(super) fn settle_stats(&mut self) {
        self.settled_stats.settle(self.outbox.synced());
    }
}
