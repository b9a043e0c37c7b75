//! Attempts that run: renewed with their news, ended when something demands it.

use std::collections::BTreeMap;

use super::held::{Held, Phase};
use super::machine::Worker;
use super::protocol::{StopCause, WorkerEffect};
use crate::ids::LedgerTag;
use crate::lease::{Fence, ReleaseReason, RenewAnswer, Renewal};
use crate::limits;
use crate::progress::AttemptNews;
use crate::task::Used;

/// A worker takes no lease; what still runs at `deadline_ms` is ended.
#[derive(Debug, Clone, Copy, Hash)]
pub(super) struct Drain {
    deadline_ms: Option<u64>,
}

impl Worker {
    /// Ends an attempt whose lease is another's by now; a queued one is dropped, an outcome forgotten.
    pub(super) fn stop(&mut self, fence: Fence, cause: StopCause) {
        let fenced = cause == StopCause::Fenced;
        let Some(held) = self.held.get_mut(&fence) else { return };
        match held.phase {
            Phase::Running { .. } => {
                held.phase = Phase::Stopping { tell: !fenced };
                self.effects.push(WorkerEffect::Stop { fence, cause });
            }
            // What was to end in its own time must go at once now.
            Phase::Stopping { tell: true } if fenced => {
                held.phase = Phase::Stopping { tell: false };
                self.effects.push(WorkerEffect::Stop { fence, cause });
            }
            Phase::Stopping { .. } => {}
            Phase::Queued(_) | Phase::Reporting { .. } | Phase::Stopped { .. } => self.forget(fence),
        }
    }

    /// An attempt that was told to end has ended: its slots are free, and its home is told.
    pub(super) fn attempt_is_gone(&mut self, fence: Fence, used: Used) {
        let now_ms = self.now.mono_ms;
        let Some(held) = self.held.get_mut(&fence) else { return };
        let (pool, earlier) = (held.pool, held.renew_at_ms);
        held.is_gone(now_ms, used);
        self.exclusive.remove(&fence);
        self.renewals.remove(&(earlier, fence));
        self.renewals.insert((now_ms, fence));
        self.busy[pool] -= 1;
        self.held_slots[pool] -= 1;
        self.gone += 1;
        self.offers_due = true;
        self.renew_due();
    }

    pub(super) fn progressed(&mut self, fence: Fence, news: AttemptNews) {
        let now_ms = self.now.mono_ms;
        let Some(held) = self.held.get_mut(&fence) else { return };
        if !matches!(held.phase, Phase::Running { .. }) {
            return;
        }
        let earlier = held.renew_at_ms;
        held.note(now_ms, news);
        let renew_at_ms = held.renew_at_ms;
        // Beyond start + timeout + grace nothing is renewed, and nothing is told.
        if self.renewals.remove(&(earlier, fence)) {
            self.renewals.insert((renew_at_ms, fence));
        }
    }

    pub(super) fn renew_answered(&mut self, sent_ms: u64, answers: &[(Fence, RenewAnswer)]) {
        for (fence, answer) in answers {
            match answer {
                RenewAnswer::Renewed { .. } => self.renewed(*fence, sent_ms),
                RenewAnswer::Fenced { .. } => {
                    self.stats.fenced += 1;
                    self.stop(*fence, StopCause::Fenced);
                }
                RenewAnswer::Terminal { .. } | RenewAnswer::Unknown => self.stop(*fence, StopCause::TaskEnded),
            }
        }
    }

    fn renewed(&mut self, fence: Fence, sent_ms: u64) {
        let Some(held) = self.held.get_mut(&fence) else { return };
        let before_ms = held.ends_ms;
        held.renewed(sent_ms);
        let ends_ms = held.ends_ms;
        if ends_ms > before_ms && self.exclusive.contains(&fence) {
            self.effects.push(WorkerEffect::LeaseExtended { fence, ends_ms });
        }
    }

    /// A home is back: what is held of it is said before anything new is asked for. Else it would grant anew what runs here.
    pub(super) fn renew_all(&mut self, home: LedgerTag) {
        let now_ms = self.now.mono_ms;
        for held in self.held.values_mut().filter(|held| held.fence.task.ledger == home) {
            if self.renewals.remove(&(held.renew_at_ms, held.fence)) {
                held.renew_at_ms = now_ms;
                self.renewals.insert((now_ms, held.fence));
            }
        }
        self.renew_due();
    }

    /// Sends the renewals that are due, with what is new of their attempts: as many in a message as a frame holds.
    pub(super) fn renew_due(&mut self) {
        let now_ms = self.now.mono_ms;
        let mut due: BTreeMap<LedgerTag, Vec<Renewal>> = BTreeMap::new();
        let mut unheard = Vec::new();
        while let Some((at_ms, fence)) = self.renewals.first().copied().filter(|(at_ms, _)| *at_ms <= now_ms) {
            self.renewals.remove(&(at_ms, fence));
            let Some(held) = self.held.get_mut(&fence) else { continue };
            held.renew_at_ms = now_ms + limits::LEASE_RENEW_EVERY_MS;
            match held.renewal(now_ms) {
                Some(renewal) => {
                    self.renewals.insert((held.renew_at_ms, fence));
                    due.entry(fence.task.ledger).or_default().push(renewal);
                }
                None if matches!(held.phase, Phase::Stopped { .. }) => unheard.push(fence),
                None => {}
            }
        }
        unheard.into_iter().for_each(|fence| self.forget(fence));
        for (home, renewals) in due {
            let mut renewals = renewals.into_iter().peekable();
            while renewals.peek().is_some() {
                self.effects.push(WorkerEffect::Renew { home, sent_ms: now_ms, renewals: next_message(&mut renewals) });
            }
        }
    }

    pub(super) fn drain(&mut self, within_ms: Option<u64>) {
        self.drain = Some(Drain { deadline_ms: within_ms.map(|within_ms| self.now.mono_ms + within_ms) });
        self.offers_due = true;
        self.give_back(|_| true, &ReleaseReason::Drained);
        self.end_overdue();
    }

    pub(super) fn drain_left_ms(&self) -> Option<u64> {
        self.drain?.deadline_ms.map(|deadline_ms| deadline_ms.saturating_sub(self.now.mono_ms))
    }

    /// Ends what may not run any longer here: exclusive attempts past their lease, and all when a drain is over.
    pub(super) fn end_overdue(&mut self) {
        let now_ms = self.now.mono_ms;
        let lapsed = |fence: &&Fence| self.held.get(fence).is_some_and(|held| held.ends_ms <= now_ms);
        let lapsed: Vec<Fence> = self.exclusive.iter().filter(lapsed).copied().collect();
        for fence in lapsed {
            self.exclusive.remove(&fence);
            self.end(fence, StopCause::LeaseEnded);
        }
        if self.drain_left_ms() == Some(0) {
            let runs_on = |held: &&Held| matches!(held.phase, Phase::Running { .. }) && held.ending.is_none();
            let running = self.held.values().filter(runs_on);
            let running: Vec<Fence> = running.map(|held| held.fence).collect();
            running.into_iter().for_each(|fence| self.end(fence, StopCause::Drained));
        }
    }

    /// Tells an attempt to end; how it ended is its outcome.
    fn end(&mut self, fence: Fence, cause: StopCause) {
        if let Some(held) = self.held.get_mut(&fence).filter(|held| matches!(held.phase, Phase::Running { .. })) {
            held.ending = Some(cause);
            self.effects.push(WorkerEffect::Stop { fence, cause });
        }
    }
}

/// As many renewals as one message may carry, in their order.
fn next_message(renewals: &mut std::iter::Peekable<impl Iterator<Item = Renewal>>) -> Vec<Renewal> {
    let (mut message, mut bytes) = (Vec::new(), 0);
    while message.len() < limits::BATCH_LEN_MAX
        && bytes < limits::BATCH_BYTES_MAX
        && let Some(renewal) = renewals.next()
    {
        bytes += renewal.news.as_ref().map_or(0, |news| news.bytes());
        message.push(renewal);
    }
    message
}
