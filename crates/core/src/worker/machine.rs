//! The worker's state machine: grants in, attempts started, leases renewed and given back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::attempt::Drain;
use super::credit::{HomeCredit, split};
use super::delivery::Outgoing;
use super::held::{Held, Phase};
use super::protocol::{StopCause, WorkerEffect, WorkerEvent, WorkerStats};
use crate::ids::{Epoch, Incarnation, LeaseToken, LedgerTag, TaskId};
use crate::lease::{Fence, Grant, Release, ReleaseReason, Slots};
use crate::limits;
use crate::task::SlotPool;
use crate::time::Now;

/// Tasks whose highest epoch is remembered, so that no fence is ever started twice.
const SEEN_MAX: usize = 200_000;

#[derive(Clone)]
pub struct Worker {
    pub(super) own: LedgerTag,
    pub(super) incarnation: Incarnation,
    pub(super) now: Now,
    pub(super) slots: Slots,
    pub(super) homes: BTreeMap<LedgerTag, HomeCredit>,
    pub(super) held: BTreeMap<Fence, Held>,
    pub(super) queued: [VecDeque<Fence>; 2],
    /// Slots that run something, and those and all that is queued.
    pub(super) busy: Slots,
    pub(super) held_slots: Slots,
    /// Leases by when they want to be renewed.
    pub(super) renewals: BTreeSet<(u64, Fence)>,
    pub(super) seen: BTreeMap<TaskId, Epoch>,
    pub(super) seen_order: VecDeque<TaskId>,
    pub(super) outgoing: BTreeMap<LedgerTag, Outgoing>,
    /// Outcomes that are not on the disk, by when they came.
    pub(super) unspooled: VecDeque<(u64, Fence)>,
    pub(super) reporting_bytes: u64,
    pub(super) run_ms: Option<f64>,
    /// Since a drain was asked for.
    pub(super) drain: Option<Drain>,
    /// Attempts of `exclusive` tasks that run.
    pub(super) exclusive: BTreeSet<Fence>,
    /// Attempts that were ended, of which a home has not heard yet.
    pub(super) gone: u64,
    /// Whether what this worker may offer has changed.
    pub(super) offers_due: bool,
    pub(super) stats: WorkerStats,
    pub(super) effects: Vec<WorkerEffect>,
}

impl Worker {
    pub fn new(own: LedgerTag, incarnation: Incarnation, slots: Slots, now: Now) -> Self {
        Self {
            own,
            incarnation,
            now,
            slots,
            homes: BTreeMap::new(),
            held: BTreeMap::new(),
            queued: [VecDeque::new(), VecDeque::new()],
            busy: Slots::default(),
            held_slots: Slots::default(),
            renewals: BTreeSet::new(),
            seen: BTreeMap::new(),
            seen_order: VecDeque::new(),
            outgoing: BTreeMap::new(),
            unspooled: VecDeque::new(),
            reporting_bytes: 0,
            run_ms: None,
            drain: None,
            exclusive: BTreeSet::new(),
            gone: 0,
            offers_due: true,
            stats: WorkerStats::default(),
            effects: Vec::new(),
        }
    }

    /// Takes one event. What it leads to waits in [`Self::take_effects`].
    pub fn handle(&mut self, now: Now, event: WorkerEvent) {
        self.now = now;
        match event {
            WorkerEvent::HomeSeen { home, backlog } => {
                let entry = self.homes.entry(home).or_default();
                let is_back = !entry.reachable;
                // That nothing waits there, as before, moves no slot.
                self.offers_due |= is_back || !backlog.is_zero() || !entry.backlog.is_zero();
                entry.seen(now.mono_ms, backlog);
                if is_back {
                    self.renew_all(home);
                }
            }
            WorkerEvent::HomeOpened { home } => self.home_opened(home),
            WorkerEvent::HomeLost { home } => self.home_lost(home),
            WorkerEvent::Granted { home, grants } => self.granted(home, grants),
            WorkerEvent::Recalled { fences } => self.recalled(fences),
            WorkerEvent::Stopped { fences } => {
                fences.into_iter().for_each(|fence| self.stop(fence, StopCause::TaskEnded));
            }
            WorkerEvent::Begun { fence } => self.begun(fence),
            WorkerEvent::NotStarted { fence, why } => self.not_started(fence, why),
            WorkerEvent::RoomChanged { no_room } => self.room_changed(no_room),
            WorkerEvent::Progressed { fence, news } => self.progressed(fence, news),
            WorkerEvent::Finished { fence, outcome } => self.finished(fence, outcome),
            WorkerEvent::RenewAnswered { sent_ms, answers, .. } => self.renew_answered(sent_ms, &answers),
            WorkerEvent::CompleteAnswered { home, answers } => self.complete_answered(home, &answers),
            WorkerEvent::CompleteFailed { home } => self.complete_failed(home),
            WorkerEvent::SpoolAnswered { fences, refused } => self.spool_answered(&fences, refused),
            WorkerEvent::Recovered { completions } => self.recovered(completions),
            WorkerEvent::SlotsChanged { slots } => {
                self.slots = slots;
                self.offers_due = true;
            }
            WorkerEvent::Drain { within_ms } => self.drain(within_ms),
            WorkerEvent::Resume => {
                self.drain = None;
                self.offers_due = true;
            }
            WorkerEvent::Tick => self.tick(),
        }
        self.start_queued();
        self.send_outcomes();
        if self.offers_due {
            self.send_offers();
        }
    }

    pub fn take_effects(&mut self) -> Vec<WorkerEffect> {
        std::mem::take(&mut self.effects)
    }

    pub fn stats(&self) -> WorkerStats {
        let queued = (self.queued[0].len() + self.queued[1].len()) as u64;
        WorkerStats {
            slots: self.slots,
            free: if self.takes_leases() { self.free(0) } else { Slots::default() },
            prefetch: self.prefetch(),
            queued,
            running: self.held.len() as u64 - queued - self.stats.reporting - self.gone,
            draining: self.drain.is_some(),
            drain_left_ms: self.drain_left_ms(),
            spool_refuses: self.stats.spool_refuses.clone().filter(|_| self.stats.reporting > 0),
            ..self.stats.clone()
        }
    }

    /// When the next [`WorkerEvent::Tick`] is wanted: soon, while anything held may come due.
    pub fn next_tick(&self, now: Now) -> u64 {
        let is_quiet = self.held.is_empty() && self.drain.is_none();
        now.mono_ms + if is_quiet { limits::WORKER_TICK_IDLE_MS } else { limits::SPOOL_AFTER_MS }
    }

    /// Whether nothing is held that a drain would wait for.
    pub fn is_idle(&self) -> bool {
        self.held_slots.is_zero()
    }

    fn granted(&mut self, home: LedgerTag, grants: Vec<Grant>) {
        let mut releases = Vec::new();
        for grant in grants {
            let fence = grant.fence;
            if let Some((token, reason)) = self.accept(home, grant) {
                releases.push(Release { fence, token, reason });
            }
        }
        self.offers_due = true;
        self.release(home, releases);
    }

    /// Takes a grant, or says why not. A fence that was seen before is neither started nor answered again.
    fn accept(&mut self, home: LedgerTag, grant: Grant) -> Option<(LeaseToken, ReleaseReason)> {
        let (fence, token, pool) = (grant.fence, grant.token, grant.spec.kind.pool());
        if fence.task.ledger != home || !self.first_sight(fence) {
            return None;
        }
        let entry = self.homes.entry(home).or_default();
        if grant.credit.incarnation != self.incarnation {
            return Some((token, ReleaseReason::StaleCredit));
        }
        entry.use_one(pool);
        let Some(sent_ms) = entry.sent_at(grant.credit.sending) else {
            return Some((token, ReleaseReason::StaleCredit));
        };
        if self.refuses_leases() || self.lacks_room_for(grant.spec.kind) {
            return Some((token, ReleaseReason::Drained));
        }
        if self.held_slots[pool] >= self.slots[pool] + limits::LEASES_QUEUED_MAX {
            return Some((token, ReleaseReason::NoSlot));
        }
        let held = Held::granted(grant, sent_ms, self.now.mono_ms);
        if held.ends_ms <= self.now.mono_ms {
            return Some((token, ReleaseReason::StaleCredit));
        }
        self.held_slots[pool] += 1;
        self.queued[pool as usize].push_back(fence);
        self.renewals.insert((held.renew_at_ms, fence));
        self.held.insert(fence, held);
        None
    }

    pub(super) fn first_sight(&mut self, fence: Fence) -> bool {
        let newest = self.seen.insert(fence.task, fence.epoch);
        if let Some(newest) = newest.filter(|newest| *newest >= fence.epoch) {
            self.seen.insert(fence.task, newest);
            return false;
        }
        if newest.is_none() {
            self.seen_order.push_back(fence.task);
        }
        if self.seen_order.len() > SEEN_MAX
            && let Some(oldest) = self.seen_order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        true
    }

    fn start_queued(&mut self) {
        for pool in [SlotPool::Cpu, SlotPool::Device] {
            while self.busy[pool] < self.slots[pool] {
                let Some(fence) = self.queued[pool as usize].pop_front() else { break };
                self.start(fence);
            }
        }
    }

    fn start(&mut self, fence: Fence) {
        let now_ms = self.now.mono_ms;
        let Some(held) = self.held.get_mut(&fence) else { return };
        if held.ends_ms <= now_ms {
            let release = Release { fence, token: held.token, reason: ReleaseReason::StaleCredit };
            self.forget(fence);
            return self.release(fence.task.ledger, vec![release]);
        }
        let (pool, earlier) = (held.pool, held.renew_at_ms);
        let Phase::Queued(grant) = std::mem::replace(&mut held.phase, Phase::Stopping { tell: false }) else { return };
        held.start(now_ms, !grant.spec.kind.needs_room());
        let (renew_at_ms, ends_ms) = (held.renew_at_ms, held.exclusive.then_some(held.ends_ms));
        if held.exclusive {
            self.exclusive.insert(fence);
        }
        self.renewals.remove(&(earlier, fence));
        self.renewals.insert((renew_at_ms, fence));
        self.busy[pool] += 1;
        self.stats.started += 1;
        self.stats.stolen += u64::from(fence.task.ledger != self.own);
        self.effects.push(WorkerEffect::Start { grant: *grant, ends_ms });
    }

    pub(super) fn forget(&mut self, fence: Fence) {
        let Some(held) = self.held.remove(&fence) else { return };
        self.renewals.remove(&(held.renew_at_ms, fence));
        self.offers_due = true;
        match held.phase {
            Phase::Queued(_) => {
                self.held_slots[held.pool] -= 1;
                self.queued[held.pool as usize].retain(|queued| *queued != fence);
            }
            Phase::Running { .. } | Phase::Stopping { .. } => {
                self.exclusive.remove(&fence);
                self.busy[held.pool] -= 1;
                self.held_slots[held.pool] -= 1;
            }
            Phase::Stopped { .. } => self.gone -= 1,
            Phase::Reporting { spooled, .. } => {
                self.stats.reporting -= 1;
                self.reporting_bytes -= held.outcome_bytes() as u64;
                if let Some(outgoing) = self.outgoing.get_mut(&fence.task.ledger) {
                    outgoing.forget(&fence);
                }
                if spooled {
                    self.unspool(fence);
                }
            }
        }
    }

    fn unspool(&mut self, fence: Fence) {
        match self.effects.last_mut() {
            Some(WorkerEffect::Unspool { fences }) => fences.push(fence),
            _ => self.effects.push(WorkerEffect::Unspool { fences: vec![fence] }),
        }
    }

    fn recalled(&mut self, fences: Vec<Fence>) {
        let fences: BTreeSet<Fence> = fences.into_iter().collect();
        self.give_back(|held| fences.contains(&held.fence), &ReleaseReason::Recalled);
    }

    /// Returns the unstarted leases that `wanted` picks.
    pub(super) fn give_back(&mut self, wanted: impl Fn(&Held) -> bool, reason: &ReleaseReason) {
        let queued = self.queued.iter().flatten().filter_map(|fence| self.held.get(fence));
        let picked: Vec<(Fence, LeaseToken)> =
            queued.filter(|held| wanted(held)).map(|held| (held.fence, held.token)).collect();
        let mut by_home: BTreeMap<LedgerTag, Vec<Release>> = BTreeMap::new();
        for (fence, token) in picked {
            self.forget(fence);
            by_home.entry(fence.task.ledger).or_default().push(Release { fence, token, reason: reason.clone() });
        }
        for (home, releases) in by_home {
            self.release(home, releases);
        }
    }

    pub(super) fn release(&mut self, home: LedgerTag, releases: Vec<Release>) {
        self.stats.released += releases.len() as u64;
        for chunk in releases.chunks(limits::BATCH_LEN_MAX) {
            self.effects.push(WorkerEffect::Release { home, releases: chunk.to_vec() });
        }
    }

    /// Another ledger may have taken the place of this node's own.
    fn home_opened(&mut self, home: LedgerTag) {
        if home == self.own {
            return;
        }
        self.home_lost(self.own);
        self.own = home;
        // Whatever it was offered went to where it was served before.
        self.home_lost(home);
        self.homes.entry(home).or_default().seen(self.now.mono_ms, Slots::default());
        self.renew_all(home);
    }

    fn home_lost(&mut self, home: LedgerTag) {
        if let Some(entry) = self.homes.get_mut(&home) {
            entry.disconnect();
            self.offers_due = true;
        }
    }

    fn tick(&mut self) {
        self.offers_due = true;
        self.renew_due();
        self.spool_slow();
        let now_ms = self.now.mono_ms;
        self.give_back(|held| held.ends_ms <= now_ms, &ReleaseReason::StaleCredit);
        self.end_overdue();
    }

    /// How many leases beyond its slots keep this worker busy while messages travel.
    pub(super) fn prefetch(&self) -> u32 {
        let Some(run_ms) = self.run_ms else { return 0 };
        let covered = f64::from(self.slots.cpu) * limits::PREFETCH_HORIZON_MS as f64 / run_ms.max(0.05);
        (covered as u32).min(limits::PREFETCH_MAX)
    }

    /// Outcomes that homes have yet to answer take places of the prefetch, and no slots: what is in flight between a
    /// worker and its homes has one bound, or else a home that is flooded would hear of the ends ever later.
    fn free(&self, prefetch: u32) -> Slots {
        let ahead = prefetch.saturating_sub(self.unanswered());
        Slots {
            cpu: (self.slots.cpu + ahead).saturating_sub(self.held_slots.cpu),
            device: self.slots.device.saturating_sub(self.held_slots.device),
        }
    }

    /// Outcomes for homes that can be reached.
    fn unanswered(&self) -> u32 {
        let reachable = |home: &LedgerTag| self.homes.get(home).is_some_and(|home| home.reachable);
        self.outgoing.iter().filter(|(home, _)| reachable(home)).map(|(_, outgoing)| outgoing.len() as u32).sum()
    }

    fn refuses_leases(&self) -> bool {
        #[cfg(feature = "canary")]
        if crate::canary::has(crate::canary::Bug::DrainIgnored) {
            return false;
        }
        self.drain.is_some()
    }

    /// Draining, or with a full spool, a worker takes no new lease.
    fn takes_leases(&self) -> bool {
        !self.refuses_leases() && self.reporting_bytes < limits::SPOOL_BYTES_MAX
    }

    fn send_offers(&mut self) {
        self.offers_due = false;
        let free = if self.takes_leases() { self.free(self.prefetch()) } else { Slots::default() };
        let (now_ms, incarnation, slots) = (self.now.mono_ms, self.incarnation, self.slots);
        let cpu = split(now_ms, free.cpu, SlotPool::Cpu, self.own, &self.homes);
        let device = split(now_ms, free.device, SlotPool::Device, self.own, &self.homes);
        for (home, entry) in &mut self.homes {
            let share = |split: &BTreeMap<LedgerTag, u32>| split.get(home).copied().unwrap_or(0);
            let wanted = Slots { cpu: share(&cpu), device: share(&device) };
            if entry.must_send(now_ms, wanted) {
                let offer = entry.send(now_ms, incarnation, wanted, slots);
                self.effects.push(WorkerEffect::Offer { home: *home, offer });
            }
        }
    }
}
