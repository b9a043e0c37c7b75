//! One lease in the hands of a worker, from the grant to the final answer.

use crate::ids::LeaseToken;
use crate::lease::{Completion, Fence, Grant, Renewal};
use crate::limits;
use crate::task::{AttemptResult, Durability, Outcome, SlotPool};

/// The part of a TTL after which the worker's end of a lease lies.
const WORKER_TTL_MS: u64 = limits::LEASE_TTL_MS - limits::LEASE_WORKER_MARGIN_MS;
/// A task that runs longer than this is reported as started at once; a shorter one's outcome says it soon enough.
const SAY_STARTED_AFTER_MS: u64 = 50;
/// What an outcome takes beside its texts.
const OUTCOME_BYTES: usize = 256;

#[derive(Debug, Clone)]
pub(super) enum Phase {
    Queued(Box<Grant>),
    Running {
        started_ms: u64,
    },
    /// The attempt's process is being ended; its outcome is dropped.
    Stopping,
    /// The outcome waits for the home's final answer.
    Reporting {
        outcome: Box<Outcome>,
        since_ms: u64,
        spooled: bool,
    },
}

#[derive(Debug, Clone)]
pub(super) struct Held {
    pub fence: Fence,
    pub token: LeaseToken,
    pub pool: SlotPool,
    pub durability: Durability,
    pub timeout_ms: u64,
    /// The worker's own end of the lease.
    pub ends_ms: u64,
    pub renew_at_ms: u64,
    pub phase: Phase,
}

impl Held {
    pub fn granted(grant: Grant, credit_sent_ms: u64, now_ms: u64) -> Self {
        Self {
            fence: grant.fence,
            token: grant.token,
            pool: grant.spec.kind.pool(),
            durability: grant.spec.durability,
            timeout_ms: grant.spec.timeout.0,
            ends_ms: credit_sent_ms + WORKER_TTL_MS,
            renew_at_ms: now_ms.min(credit_sent_ms) + limits::LEASE_RENEW_EVERY_MS,
            phase: Phase::Queued(Box::new(grant)),
        }
    }

    /// An outcome that was spooled in an earlier life.
    pub fn recovered(completion: Completion, now_ms: u64) -> Self {
        Self {
            fence: completion.fence,
            token: completion.token,
            pool: SlotPool::Cpu,
            durability: Durability::Sync,
            timeout_ms: 0,
            ends_ms: now_ms,
            renew_at_ms: now_ms + limits::LEASE_RENEW_EVERY_MS,
            phase: Phase::Reporting { outcome: Box::new(completion.outcome), since_ms: now_ms, spooled: true },
        }
    }

    pub fn start(&mut self, now_ms: u64) {
        self.phase = Phase::Running { started_ms: now_ms };
        self.renew_at_ms = self.renew_at_ms.min(now_ms + SAY_STARTED_AFTER_MS);
    }

    /// The outcome itself says that the attempt started, so a renewal has time.
    pub fn finish(&mut self, now_ms: u64, outcome: Outcome) {
        self.phase = Phase::Reporting { outcome: Box::new(outcome), since_ms: now_ms, spooled: false };
        self.renew_at_ms = now_ms + limits::LEASE_RENEW_EVERY_MS;
    }

    /// The renewal to send now. None is sent beyond start + timeout + grace, nor, while an outcome and its blobs go up,
    /// beyond [`limits::LEASE_UPLOAD_MS_MAX`].
    pub fn renewal(&self, now_ms: u64) -> Option<Renewal> {
        let (allowed, started) = match self.phase {
            Phase::Queued(_) => (true, false),
            Phase::Running { started_ms } => (now_ms <= started_ms + self.timeout_ms + limits::LEASE_GRACE_MS, true),
            Phase::Reporting { since_ms, .. } => (now_ms <= since_ms + limits::LEASE_UPLOAD_MS_MAX, true),
            Phase::Stopping => (false, true),
        };
        allowed.then_some(Renewal { fence: self.fence, token: self.token, started })
    }

    pub fn renewed(&mut self, sent_ms: u64) {
        self.ends_ms = self.ends_ms.max(sent_ms + WORKER_TTL_MS);
    }

    pub fn completion(&self) -> Option<Completion> {
        match &self.phase {
            Phase::Reporting { outcome, .. } => {
                Some(Completion { fence: self.fence, token: self.token, outcome: (**outcome).clone() })
            }
            Phase::Queued(_) | Phase::Running { .. } | Phase::Stopping => None,
        }
    }

    /// What its outcome takes, more or less; 0 before there is one.
    pub fn outcome_bytes(&self) -> usize {
        let Phase::Reporting { outcome, .. } = &self.phase else { return 0 };
        let result = match &outcome.result {
            AttemptResult::Succeeded { output } => output.inline_bytes(),
            AttemptResult::Failed { error, .. } => error.code.len() + error.message.len(),
        };
        OUTCOME_BYTES + outcome.log_tail.len() + result
    }
}
