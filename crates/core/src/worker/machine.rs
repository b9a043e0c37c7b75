//! The worker's state machine: grants in, attempts started, leases renewed, outcomes delivered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::credit::{HomeCredit, split};
use super::held::{Held, Phase};
use crate::ids::{Epoch, Incarnation, LedgerTag, TaskId};
use crate::lease::{
    CompleteAnswer, Completion, CreditOffer, Fence, Grant, Release, ReleaseReason, RenewAnswer, Renewal, Slots,
};
use crate::limits;
use crate::task::{AttemptResult, Outcome, SlotPool};
use crate::time::Now;

/// Tasks whose highest epoch is remembered, so that no fence is ever started twice.
const SEEN_MAX: usize = 200_000;
/// An outcome that a home did not take is offered again after this.
const REOFFER_MS: u64 = 1_000;

/// To a worker.
#[derive(Debug, Clone)]
pub enum WorkerEvent {
    /// A home is reachable; so many tasks wait there that this node could run.
    HomeSeen {
        home: LedgerTag,
        backlog: Slots,
    },
    HomeLost {
        home: LedgerTag,
    },
    Granted {
        home: LedgerTag,
        grants: Vec<Grant>,
    },
    Recalled {
        fences: Vec<Fence>,
    },
    Stopped {
        fences: Vec<Fence>,
    },
    /// An attempt ended, by itself or because it was told to.
    Finished {
        fence: Fence,
        outcome: Outcome,
    },
    RenewAnswered {
        home: LedgerTag,
        sent_ms: u64,
        answers: Vec<(Fence, RenewAnswer)>,
    },
    CompleteAnswered {
        home: LedgerTag,
        answers: Vec<(Fence, CompleteAnswer)>,
    },
    /// A completion's request got no answer.
    CompleteFailed {
        home: LedgerTag,
    },
    /// Found in the spool at the start.
    Recovered {
        completions: Vec<Completion>,
    },
    SlotsChanged {
        slots: Slots,
    },
    Drain,
    Resume,
    Tick,
}

/// What the shell does for a worker.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkerEffect {
    Start {
        grant: Grant,
    },
    /// End the attempt and answer [`WorkerEvent::Finished`]; at once, if another epoch may run elsewhere.
    Stop {
        fence: Fence,
        fenced: bool,
    },
    Offer {
        home: LedgerTag,
        offer: CreditOffer,
    },
    Renew {
        home: LedgerTag,
        renewals: Vec<Renewal>,
    },
    Complete {
        home: LedgerTag,
        completions: Vec<Completion>,
    },
    Release {
        home: LedgerTag,
        releases: Vec<Release>,
    },
    Spool {
        completions: Vec<Completion>,
    },
    Unspool {
        fences: Vec<Fence>,
    },
}

/// Counters since this process started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerStats {
    pub slots: Slots,
    pub free: Slots,
    pub prefetch: u32,
    pub queued: u64,
    pub running: u64,
    pub reporting: u64,
    pub started: u64,
    pub succeeded: u64,
    pub failed: u64,
    /// Started for another node's home.
    pub stolen: u64,
    pub released: u64,
    pub fenced: u64,
    pub draining: bool,
}

pub struct Worker {
    own: LedgerTag,
    incarnation: Incarnation,
    now: Now,
    slots: Slots,
    homes: BTreeMap<LedgerTag, HomeCredit>,
    held: BTreeMap<Fence, Held>,
    queued: [VecDeque<Fence>; 2],
    busy: Slots,
    held_slots: Slots,
    seen: BTreeMap<TaskId, Epoch>,
    seen_order: VecDeque<TaskId>,
    /// Outcomes to send, by home, and whether a request of them is under way: the next carries all that came meanwhile.
    outgoing: BTreeMap<LedgerTag, Outgoing>,
    run_ms: Option<f64>,
    draining: bool,
    stats: WorkerStats,
    effects: Vec<WorkerEffect>,
}

#[derive(Debug, Default)]
struct Outgoing {
    ready: BTreeSet<Fence>,
    under_way: BTreeSet<Fence>,
    retry_at_ms: u64,
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
            seen: BTreeMap::new(),
            seen_order: VecDeque::new(),
            outgoing: BTreeMap::new(),
            run_ms: None,
            draining: false,
            stats: WorkerStats::default(),
            effects: Vec::new(),
        }
    }

    pub fn handle(&mut self, now: Now, event: WorkerEvent) {
        self.now = now;
        match event {
            WorkerEvent::HomeSeen { home, backlog } => {
                let entry = self.homes.entry(home).or_default();
                entry.seen(now.mono_ms, backlog);
            }
            WorkerEvent::HomeLost { home } => self.home_lost(home),
            WorkerEvent::Granted { home, grants } => self.granted(home, grants),
            WorkerEvent::Recalled { fences } => {
                self.give_back(|held| fences.contains(&held.fence), &ReleaseReason::Recalled)
            }
            WorkerEvent::Stopped { fences } => fences.into_iter().for_each(|fence| self.stop(fence, false)),
            WorkerEvent::Finished { fence, outcome } => self.finished(fence, outcome),
            WorkerEvent::RenewAnswered { sent_ms, answers, .. } => self.renew_answered(sent_ms, &answers),
            WorkerEvent::CompleteAnswered { home, answers } => self.complete_answered(home, &answers),
            WorkerEvent::CompleteFailed { home } => self.complete_failed(home),
            WorkerEvent::Recovered { completions } => self.recovered(completions),
            WorkerEvent::SlotsChanged { slots } => self.slots = slots,
            WorkerEvent::Drain => self.drain(),
            WorkerEvent::Resume => self.draining = false,
            WorkerEvent::Tick => self.tick(),
        }
        self.start_queued();
        self.send_outcomes();
        self.send_offers();
    }

    pub fn take_effects(&mut self) -> Vec<WorkerEffect> {
        std::mem::take(&mut self.effects)
    }

    pub fn stats(&self) -> WorkerStats {
        let phases = |wanted: fn(&Phase) -> bool| self.held.values().filter(|held| wanted(&held.phase)).count() as u64;
        WorkerStats {
            slots: self.slots,
            free: self.free(0),
            prefetch: self.prefetch(),
            queued: phases(|phase| matches!(phase, Phase::Queued(_))),
            running: phases(|phase| matches!(phase, Phase::Running { .. } | Phase::Stopping)),
            reporting: phases(|phase| matches!(phase, Phase::Reporting { .. })),
            draining: self.draining,
            ..self.stats.clone()
        }
    }

    /// Whether nothing is held that a drain would wait for.
    pub fn is_idle(&self) -> bool {
        self.held.values().all(|held| !held.takes_slot())
    }

    fn granted(&mut self, home: LedgerTag, grants: Vec<Grant>) {
        let mut releases = Vec::new();
        for grant in grants {
            let fence = grant.fence;
            let refused = self.accept(home, grant);
            if let Some((token, reason)) = refused {
                releases.push(Release { fence, token, reason });
            }
        }
        self.release(home, releases);
    }

    /// Takes a grant, or says why not. A fence that was seen before is neither started nor answered again.
    fn accept(&mut self, home: LedgerTag, grant: Grant) -> Option<(crate::ids::LeaseToken, ReleaseReason)> {
        let (fence, token, pool) = (grant.fence, grant.token, grant.spec.kind.pool());
        if fence.task.ledger != home || !self.first_sight(fence) {
            return None;
        }
        let entry = self.homes.entry(home).or_default();
        let sent_ms = entry.sent_at(grant.credit.sending).filter(|_| grant.credit.incarnation == self.incarnation);
        entry.use_one(pool);
        let Some(sent_ms) = sent_ms else { return Some((token, ReleaseReason::StaleCredit)) };
        if self.draining {
            return Some((token, ReleaseReason::Drained));
        }
        let held = Held::granted(grant, sent_ms, self.now.mono_ms);
        if held.ends_ms <= self.now.mono_ms {
            return Some((token, ReleaseReason::StaleCredit));
        }
        self.held_slots[pool] += 1;
        self.queued[pool as usize].push_back(fence);
        self.held.insert(fence, held);
        None
    }

    fn first_sight(&mut self, fence: Fence) -> bool {
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
            return self.give_back(|held| held.fence == fence, &ReleaseReason::StaleCredit);
        }
        let pool = held.pool;
        let phase = std::mem::replace(&mut held.phase, Phase::Stopping);
        let Phase::Queued(grant) = phase else {
            held.phase = phase;
            return;
        };
        held.start(now_ms);
        self.busy[pool] += 1;
        self.stats.started += 1;
        self.stats.stolen += u64::from(fence.task.ledger != self.own);
        self.effects.push(WorkerEffect::Start { grant: *grant });
    }

    fn finished(&mut self, fence: Fence, outcome: Outcome) {
        let now_ms = self.now.mono_ms;
        let Some(held) = self.held.get_mut(&fence) else { return };
        let Phase::Running { started_ms } = held.phase else { return self.forget(fence) };
        let pool = held.pool;
        let took_ms = (now_ms - started_ms) as f64;
        held.phase = Phase::Reporting { outcome: Box::new(outcome.clone()), since_ms: now_ms, spooled: false };
        self.busy[pool] -= 1;
        self.held_slots[pool] -= 1;
        if pool == SlotPool::Cpu {
            let mean = self.run_ms.unwrap_or(took_ms);
            self.run_ms = Some(mean + (took_ms - mean) / 8.0);
        }
        match outcome.result {
            AttemptResult::Succeeded { .. } => self.stats.succeeded += 1,
            AttemptResult::Failed { .. } => self.stats.failed += 1,
        }
        self.outgoing.entry(fence.task.ledger).or_default().ready.insert(fence);
    }

    /// Ends an attempt whose lease is another's by now; a queued one is dropped, an outcome forgotten.
    fn stop(&mut self, fence: Fence, fenced: bool) {
        let Some(held) = self.held.get_mut(&fence) else { return };
        match held.phase {
            Phase::Running { .. } => {
                held.phase = Phase::Stopping;
                self.effects.push(WorkerEffect::Stop { fence, fenced });
            }
            Phase::Stopping => {}
            Phase::Queued(_) | Phase::Reporting { .. } => self.forget(fence),
        }
    }

    fn forget(&mut self, fence: Fence) {
        let Some(held) = self.held.remove(&fence) else { return };
        match held.phase {
            Phase::Queued(_) => {
                self.held_slots[held.pool] -= 1;
                self.queued[held.pool as usize].retain(|queued| *queued != fence);
            }
            Phase::Running { .. } | Phase::Stopping => {
                self.busy[held.pool] -= 1;
                self.held_slots[held.pool] -= 1;
            }
            Phase::Reporting { spooled, .. } => {
                if let Some(outgoing) = self.outgoing.get_mut(&fence.task.ledger) {
                    outgoing.ready.remove(&fence);
                    outgoing.under_way.remove(&fence);
                }
                if spooled {
                    self.effects.push(WorkerEffect::Unspool { fences: vec![fence] });
                }
            }
        }
    }

    /// Returns the unstarted leases that `wanted` picks.
    fn give_back(&mut self, wanted: impl Fn(&Held) -> bool, reason: &ReleaseReason) {
        let picked = self.held.values().filter(|held| matches!(held.phase, Phase::Queued(_)) && wanted(held));
        let releases: Vec<Release> =
            picked.map(|held| Release { fence: held.fence, token: held.token, reason: reason.clone() }).collect();
        let mut by_home: BTreeMap<LedgerTag, Vec<Release>> = BTreeMap::new();
        for release in releases {
            self.forget(release.fence);
            by_home.entry(release.fence.task.ledger).or_default().push(release);
        }
        for (home, releases) in by_home {
            self.release(home, releases);
        }
    }

    fn release(&mut self, home: LedgerTag, releases: Vec<Release>) {
        self.stats.released += releases.len() as u64;
        for chunk in releases.chunks(limits::BATCH_LEN_MAX) {
            self.effects.push(WorkerEffect::Release { home, releases: chunk.to_vec() });
        }
    }

    fn renew_answered(&mut self, sent_ms: u64, answers: &[(Fence, RenewAnswer)]) {
        for (fence, answer) in answers {
            match answer {
                RenewAnswer::Renewed { .. } => {
                    if let Some(held) = self.held.get_mut(fence) {
                        held.renewed(sent_ms);
                    }
                }
                RenewAnswer::Fenced { .. } => {
                    self.stats.fenced += 1;
                    self.stop(*fence, true);
                }
                RenewAnswer::Terminal { .. } | RenewAnswer::Unknown => self.stop(*fence, false),
            }
        }
    }

    fn complete_answered(&mut self, home: LedgerTag, answers: &[(Fence, CompleteAnswer)]) {
        for (fence, answer) in answers {
            self.stats.fenced += u64::from(matches!(answer, CompleteAnswer::Fenced { .. }));
            self.forget(*fence);
        }
        if let Some(outgoing) = self.outgoing.get_mut(&home) {
            outgoing.ready.append(&mut outgoing.under_way);
        }
    }

    fn complete_failed(&mut self, home: LedgerTag) {
        let retry_at_ms = self.now.mono_ms + REOFFER_MS;
        if let Some(outgoing) = self.outgoing.get_mut(&home) {
            outgoing.ready.append(&mut outgoing.under_way);
            outgoing.retry_at_ms = retry_at_ms;
        }
    }

    fn recovered(&mut self, completions: Vec<Completion>) {
        for completion in completions {
            let fence = completion.fence;
            self.first_sight(fence);
            self.held.insert(fence, Held::recovered(completion, self.now.mono_ms));
            self.outgoing.entry(fence.task.ledger).or_default().ready.insert(fence);
        }
    }

    fn home_lost(&mut self, home: LedgerTag) {
        if let Some(entry) = self.homes.get_mut(&home) {
            entry.disconnect();
        }
    }

    fn drain(&mut self) {
        self.draining = true;
        self.give_back(|_| true, &ReleaseReason::Drained);
    }

    fn tick(&mut self) {
        self.renew_due();
        self.spool_slow();
        let now_ms = self.now.mono_ms;
        let lapsed = |held: &Held| held.ends_ms <= now_ms;
        self.give_back(lapsed, &ReleaseReason::StaleCredit);
    }

    fn renew_due(&mut self) {
        let now_ms = self.now.mono_ms;
        let mut due: BTreeMap<LedgerTag, Vec<Renewal>> = BTreeMap::new();
        for held in self.held.values_mut() {
            if let Some(renewal) = held.renewal(now_ms) {
                held.renewal_sent(now_ms);
                due.entry(held.fence.task.ledger).or_default().push(renewal);
            }
        }
        for (home, renewals) in due {
            for chunk in renewals.chunks(limits::BATCH_LEN_MAX) {
                self.effects.push(WorkerEffect::Renew { home, renewals: chunk.to_vec() });
            }
        }
    }

    /// An outcome that no home has acknowledged for a while goes to the disk.
    fn spool_slow(&mut self) {
        let now_ms = self.now.mono_ms;
        let mut slow = Vec::new();
        for held in self.held.values_mut() {
            let Some(completion) = held.completion() else { continue };
            if let Phase::Reporting { since_ms, spooled, .. } = &mut held.phase
                && !*spooled
                && now_ms >= *since_ms + limits::SPOOL_AFTER_MS
            {
                *spooled = true;
                slow.push(completion);
            }
        }
        if !slow.is_empty() {
            self.effects.push(WorkerEffect::Spool { completions: slow });
        }
    }

    fn send_outcomes(&mut self) {
        let now_ms = self.now.mono_ms;
        for (home, outgoing) in &mut self.outgoing {
            let reachable = self.homes.get(home).is_some_and(|home| home.reachable);
            if outgoing.ready.is_empty()
                || !outgoing.under_way.is_empty()
                || now_ms < outgoing.retry_at_ms
                || !reachable
            {
                continue;
            }
            let batch: BTreeSet<Fence> = outgoing.ready.iter().take(limits::BATCH_LEN_MAX).copied().collect();
            outgoing.ready.retain(|fence| !batch.contains(fence));
            let completions = batch.iter().filter_map(|fence| self.held.get(fence)?.completion()).collect();
            outgoing.under_way = batch;
            self.effects.push(WorkerEffect::Complete { home: *home, completions });
        }
    }

    /// How many leases beyond its slots keep this worker busy while messages travel.
    fn prefetch(&self) -> u32 {
        let Some(run_ms) = self.run_ms else { return 0 };
        let covered = f64::from(self.slots.cpu) * limits::PREFETCH_HORIZON_MS as f64 / run_ms.max(0.05);
        (covered as u32).min(limits::PREFETCH_MAX)
    }

    fn free(&self, prefetch: u32) -> Slots {
        Slots {
            cpu: (self.slots.cpu + prefetch).saturating_sub(self.held_slots.cpu),
            device: self.slots.device.saturating_sub(self.held_slots.device),
        }
    }

    fn send_offers(&mut self) {
        let free = if self.draining { Slots::default() } else { self.free(self.prefetch()) };
        let (now_ms, incarnation) = (self.now.mono_ms, self.incarnation);
        let cpu = split(now_ms, free.cpu, SlotPool::Cpu, self.own, &self.homes);
        let device = split(now_ms, free.device, SlotPool::Device, self.own, &self.homes);
        for (home, entry) in &mut self.homes {
            let share = |split: &BTreeMap<LedgerTag, u32>| split.get(home).copied().unwrap_or(0);
            let wanted = Slots { cpu: share(&cpu), device: share(&device) };
            if entry.must_send(now_ms, wanted) {
                let offer = entry.send(now_ms, incarnation, wanted);
                self.effects.push(WorkerEffect::Offer { home: *home, offer });
            }
        }
    }
}
