//! Outcomes on their way: sent in batches, one batch to a home at a time, kept until a final answer.

use std::collections::{BTreeMap, BTreeSet};

use super::held::{Held, Phase};
use super::machine::Worker;
use super::protocol::WorkerEffect;
use crate::ids::LedgerTag;
use crate::lease::{CompleteAnswer, Completion, Fence};
use crate::limits;
use crate::task::{AttemptResult, Durability, Outcome, SlotPool};

/// An outcome that a home did not take is offered again after this.
const REOFFER_MS: u64 = 1_000;
/// An outcome that the disk did not take is put to it again after this; it goes to its home all the same.
const RESPOOL_MS: u64 = 2_000;

/// Outcomes to send to one home: the next request carries all that came while the last was under way.
#[derive(Debug, Clone, Default)]
pub(super) struct Outgoing {
    pub ready: BTreeSet<Fence>,
    pub under_way: BTreeSet<Fence>,
    pub retry_at_ms: u64,
}

impl Outgoing {
    pub fn len(&self) -> usize {
        self.ready.len() + self.under_way.len()
    }

    pub fn forget(&mut self, fence: &Fence) {
        self.ready.remove(fence);
        self.under_way.remove(fence);
    }

    /// The next batch, if none is under way.
    fn take_batch(&mut self, held: &BTreeMap<Fence, Held>) -> Vec<Completion> {
        let (mut completions, mut bytes) = (Vec::new(), 0);
        while completions.len() < limits::BATCH_LEN_MAX
            && bytes < limits::BATCH_BYTES_MAX
            && let Some(fence) = self.ready.pop_first()
        {
            if let Some((held, completion)) = held.get(&fence).and_then(|held| Some((held, held.completion()?))) {
                bytes += held.outcome_bytes();
                completions.push(completion);
                self.under_way.insert(fence);
            }
        }
        completions
    }
}

impl Worker {
    pub(super) fn finished(&mut self, fence: Fence, outcome: Outcome) {
        let now_ms = self.now.mono_ms;
        let Some(held) = self.held.get_mut(&fence) else { return };
        let started_ms = match held.phase {
            Phase::Running { started_ms, .. } => started_ms,
            Phase::Stopping { tell: false } => return self.forget(fence),
            Phase::Stopping { tell: true } => return self.attempt_is_gone(fence, outcome.used),
            // The first outcome of an attempt is its only one.
            Phase::Queued(_) | Phase::Reporting { .. } | Phase::Stopped { .. } => return,
        };
        let pool = held.pool;
        let succeeded = matches!(outcome.result, AttemptResult::Succeeded { .. });
        let earlier = held.renew_at_ms;
        held.finish(now_ms, outcome);
        let (durability, renew_at_ms, bytes) = (held.durability, held.renew_at_ms, held.outcome_bytes());
        self.renewals.remove(&(earlier, fence));
        self.renewals.insert((renew_at_ms, fence));
        self.exclusive.remove(&fence);
        self.busy[pool] -= 1;
        self.held_slots[pool] -= 1;
        if pool == SlotPool::Cpu {
            let took_ms = (now_ms - started_ms) as f64;
            let mean = self.run_ms.unwrap_or(took_ms);
            self.run_ms = Some(mean + (took_ms - mean) / 8.0);
        }
        let count = if succeeded { &mut self.stats.succeeded } else { &mut self.stats.failed };
        *count += 1;
        self.report(fence, bytes);
        if durability != Durability::Memory {
            self.unspooled.push_back((now_ms, fence));
        }
    }

    fn report(&mut self, fence: Fence, bytes: usize) {
        self.stats.reporting += 1;
        self.reporting_bytes += bytes as u64;
        self.offers_due = true;
        self.outgoing.entry(fence.task.ledger).or_default().ready.insert(fence);
    }

    pub(super) fn recovered(&mut self, completions: Vec<Completion>) {
        for completion in completions {
            let fence = completion.fence;
            if self.held.contains_key(&fence) || !self.first_sight(fence) {
                continue;
            }
            let held = Held::recovered(completion, self.now.mono_ms);
            let bytes = held.outcome_bytes();
            self.renewals.insert((held.renew_at_ms, fence));
            self.held.insert(fence, held);
            self.report(fence, bytes);
        }
    }

    pub(super) fn complete_answered(&mut self, home: LedgerTag, answers: &[(Fence, CompleteAnswer)]) {
        for (fence, answer) in answers {
            self.stats.fenced += u64::from(matches!(answer, CompleteAnswer::Fenced { .. }));
            self.end_by_answer(*fence);
        }
        if let Some(outgoing) = self.outgoing.get_mut(&home) {
            outgoing.ready.append(&mut outgoing.under_way);
        }
    }

    /// A final answer ends the outcome, and nothing else: an attempt that runs, or waits, for that fence is none of it.
    fn end_by_answer(&mut self, fence: Fence) {
        if self.held.get(&fence).is_some_and(|held| matches!(held.phase, Phase::Reporting { .. })) {
            self.forget(fence);
        }
    }

    pub(super) fn complete_failed(&mut self, home: LedgerTag) {
        let retry_at_ms = self.now.mono_ms + REOFFER_MS;
        if let Some(outgoing) = self.outgoing.get_mut(&home) {
            outgoing.ready.append(&mut outgoing.under_way);
            outgoing.retry_at_ms = retry_at_ms;
        }
    }

    /// An outcome that no home has acknowledged for a while goes to the disk; never one of class `memory`.
    pub(super) fn spool_slow(&mut self) {
        let now_ms = self.now.mono_ms;
        let mut slow = Vec::new();
        while let Some((since_ms, fence)) = self.unspooled.front().copied() {
            if now_ms < since_ms + limits::SPOOL_AFTER_MS {
                break;
            }
            self.unspooled.pop_front();
            let Some(held) = self.held.get_mut(&fence) else { continue };
            let completion = held.completion();
            if let (Phase::Reporting { spooled, .. }, Some(completion)) = (&mut held.phase, completion) {
                *spooled = true;
                slow.push(completion);
            }
        }
        if !slow.is_empty() {
            self.effects.push(WorkerEffect::Spool { completions: slow });
        }
    }

    /// What the disk refused stays in memory until it is answered, and is tried again.
    pub(super) fn spool_answered(&mut self, fences: &[Fence], refused: Option<String>) {
        let again_ms = self.now.mono_ms + RESPOOL_MS - limits::SPOOL_AFTER_MS;
        for fence in fences.iter().filter(|_| refused.is_some()) {
            if let Some(Phase::Reporting { spooled, .. }) = self.held.get_mut(fence).map(|held| &mut held.phase) {
                *spooled = false;
                self.unspooled.push_back((again_ms, *fence));
            }
        }
        self.stats.spool_refuses = refused;
    }

    pub(super) fn send_outcomes(&mut self) {
        let now_ms = self.now.mono_ms;
        for (home, outgoing) in &mut self.outgoing {
            let reachable = self.homes.get(home).is_some_and(|home| home.reachable);
            if !outgoing.under_way.is_empty() || now_ms < outgoing.retry_at_ms || !reachable {
                continue;
            }
            let completions = outgoing.take_batch(&self.held);
            if !completions.is_empty() {
                self.effects.push(WorkerEffect::Complete { home: *home, completions });
            }
        }
    }
}
