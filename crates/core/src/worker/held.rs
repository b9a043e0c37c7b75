//! One lease in the hands of a worker, from the grant to the final answer.

use super::protocol::StopCause;
use crate::ids::LeaseToken;
use crate::lease::{Completion, Fence, Grant, Renewal};
use crate::limits;
use crate::payload::JsonText;
use crate::progress::AttemptNews;
use crate::task::{AttemptResult, Durability, Outcome, SlotPool, Used};

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
        /// Whether it counts as started: not while it only prepares.
        begun: bool,
    },
    /// The attempt's process is being ended; its outcome is dropped. `tell`: its home wants to know when it is gone.
    Stopping {
        tell: bool,
    },
    /// Nothing of it runs any more, which its home is told until it answers.
    Stopped {
        since_ms: u64,
        used: Used,
    },
    /// The outcome waits for the home's final answer.
    Reporting {
        outcome: Box<Outcome>,
        since_ms: u64,
        spooled: bool,
        checkpoint: Option<JsonText>,
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
    pub exclusive: bool,
    /// Why it was told to end; it will say how it did.
    pub ending: Option<StopCause>,
    /// What its home has not acknowledged.
    pub news: Option<Box<AttemptNews>>,
    /// When news were sent last, and whether something came since.
    pub news_sent_ms: u64,
    pub news_unsent: bool,
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
            exclusive: grant.spec.exclusive,
            ending: None,
            news: None,
            news_sent_ms: 0,
            news_unsent: false,
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
            exclusive: false,
            ending: None,
            news: None,
            news_sent_ms: 0,
            news_unsent: false,
            phase: Phase::Reporting {
                outcome: Box::new(completion.outcome),
                since_ms: now_ms,
                spooled: true,
                checkpoint: completion.checkpoint,
            },
        }
    }

    pub fn start(&mut self, now_ms: u64, begun: bool) {
        self.phase = Phase::Running { started_ms: now_ms, begun: false };
        if begun {
            self.begin(now_ms);
        }
    }

    /// Whether it runs, and counts as started from now on.
    pub fn begin(&mut self, now_ms: u64) -> bool {
        let Phase::Running { begun, .. } = &mut self.phase else { return false };
        *begun = true;
        self.renew_at_ms = self.renew_at_ms.min(now_ms + SAY_STARTED_AFTER_MS);
        true
    }

    /// The outcome itself says that the attempt started, so a renewal has time.
    pub fn finish(&mut self, now_ms: u64, outcome: Outcome) {
        let news = self.news.take().filter(|_| matches!(outcome.result, AttemptResult::Failed { .. }));
        let checkpoint = news.and_then(|news| news.checkpoint);
        self.phase = Phase::Reporting { outcome: Box::new(outcome), since_ms: now_ms, spooled: false, checkpoint };
        self.renew_at_ms = now_ms + limits::LEASE_RENEW_EVERY_MS;
    }

    /// Nothing of an attempt runs any more that was told to end: its home hears of it now.
    pub fn is_gone(&mut self, now_ms: u64, used: Used) {
        self.phase = Phase::Stopped { since_ms: now_ms, used };
        self.news = None;
        self.renew_at_ms = now_ms;
    }

    /// The newest wins; it goes out soon, but not more often than [`limits::PROGRESS_EVERY_MS`].
    pub fn note(&mut self, now_ms: u64, news: AttemptNews) {
        self.news.get_or_insert_default().update(news);
        self.news_unsent = true;
        let due_ms = (self.news_sent_ms + limits::PROGRESS_EVERY_MS).max(now_ms);
        self.renew_at_ms = self.renew_at_ms.min(due_ms);
    }

    /// The renewal to send now. None is sent beyond start + timeout + grace, nor, while an outcome and its blobs go up,
    /// beyond [`limits::LEASE_UPLOAD_MS_MAX`].
    pub fn renewal(&mut self, now_ms: u64) -> Option<Renewal> {
        let (allowed, started) = match self.phase {
            Phase::Queued(_) => (true, false),
            Phase::Running { started_ms, begun } => {
                (now_ms <= started_ms + self.timeout_ms + limits::LEASE_GRACE_MS, begun)
            }
            Phase::Reporting { since_ms, .. } => (now_ms <= since_ms + limits::LEASE_UPLOAD_MS_MAX, true),
            Phase::Stopping { .. } => (false, true),
            Phase::Stopped { since_ms, .. } => (now_ms <= since_ms + limits::STOP_REPORT_MS_MAX, true),
        };
        let (stopped, used) = match self.phase {
            Phase::Stopped { used, .. } => (true, used),
            Phase::Queued(_) | Phase::Running { .. } | Phase::Stopping { .. } | Phase::Reporting { .. } => {
                (false, Used::default())
            }
        };
        if self.news.is_some() {
            (self.news_sent_ms, self.news_unsent) = (now_ms, false);
        }
        let news = self.news.clone();
        allowed.then(|| Renewal { stopped, used, news, ..Renewal::new(self.fence, self.token, started) })
    }

    pub fn renewed(&mut self, sent_ms: u64) {
        self.ends_ms = self.ends_ms.max(sent_ms + WORKER_TTL_MS);
        if sent_ms == self.news_sent_ms && !self.news_unsent {
            self.news = None;
        }
    }

    pub fn completion(&self) -> Option<Completion> {
        match &self.phase {
            Phase::Reporting { outcome, checkpoint, .. } => Some(Completion {
                fence: self.fence,
                token: self.token,
                outcome: (**outcome).clone(),
                checkpoint: checkpoint.clone(),
            }),
            Phase::Queued(_) | Phase::Running { .. } | Phase::Stopping { .. } | Phase::Stopped { .. } => None,
        }
    }

    /// What its outcome takes, more or less; 0 before there is one.
    pub fn outcome_bytes(&self) -> usize {
        let Phase::Reporting { outcome, checkpoint, .. } = &self.phase else { return 0 };
        let result = match &outcome.result {
            AttemptResult::Succeeded { output } => output.inline_bytes(),
            AttemptResult::Failed { error, .. } => error.code.len() + error.message.len(),
        };
        let checkpoint = checkpoint.as_ref().map_or(0, |text| text.as_str().len());
        OUTCOME_BYTES + outcome.log_tail.len() + result + checkpoint
    }
}
