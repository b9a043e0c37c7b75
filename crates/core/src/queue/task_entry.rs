//! One task in its home's memory: what the log says of it, and the soft facts of its lease.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::attempts::AttemptNotes;
use super::rare::{Blank, Rare};
use super::record::{AfterAttempt, ClockRoot};
use super::room::Share;
use crate::ids::{Epoch, LeaseToken, LedgerTag, LogIndex, OutcomeDigest, PeerId, TaskId, WorkflowId};
use crate::invariant::{InvariantId, check};
use crate::lease::{CompleteAnswer, Fence};
use crate::limits;
use crate::payload::{JsonText, Payload};
use crate::task::{Durability, Outcome, Priority, TaskError, TaskKind, TaskSpec, TaskState, Used, is_default};
use crate::time::{Now, Wall};

/// The code of an attempt that had all its time.
const OUT_OF_TIME: &str = "timeout";

/// Where a task belongs in a workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StepLink {
    pub workflow: WorkflowId,
    pub step: u32,
    pub part: StepPart,
}

/// What a task does for its step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StepPart {
    /// It runs the step, or this item of it.
    Item(u32),
    /// It undoes the step.
    Compensation,
}

/// How the newest epoch of a task stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum EpochStatus {
    /// No grant yet.
    #[default]
    None,
    Live,
    /// Ended by the home's clock; it acts as if live until a later grant.
    Expired,
    Released,
    /// Its one outcome, and what was answered.
    Reported {
        digest: OutcomeDigest,
        answer: CompleteAnswer,
    },
}

/// Those to whom a task belongs, and those that were made from it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kin {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<StepLink>,
    /// The task that this one was made for anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<TaskId>,
    /// The task that was made for this one anew, by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retried_by: Option<TaskId>,
    /// Of a task that is a workflow: the newest one that was started for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub child: Option<WorkflowId>,
}

impl Blank for Kin {
    const BLANK: &'static Self = &Self { step: None, retry_of: None, retried_by: None, child: None };
}

/// What went wrong with a task so far, what it printed, and what it took.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Past {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<TaskError>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub earlier_errors: Vec<TaskError>,
    /// Why leases of it ended before a start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub log_tail: String,
    /// By all its attempts, as far as it was measured.
    #[serde(skip_serializing_if = "is_default")]
    pub used: Used,
}

impl Blank for BTreeMap<PeerId, (u64, u64)> {
    const BLANK: &'static Self = &Self::new();
}

impl Blank for Past {
    const BLANK: &'static Self = &Self {
        error: None,
        earlier_errors: Vec::new(),
        reasons: Vec::new(),
        log_tail: String::new(),
        used: Used { cpu_us: None, gpu_us: None },
    };
}

/// Serialised it is the image that compaction carries forward: what an image lacks is as in [`Task::blank`], so a field
/// that is left out where it says nothing must be as it is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default = "Task::blank")]
pub(super) struct Task {
    pub id: TaskId,
    /// Shared with tasks that are like it: see [`Self::whole_spec`].
    pub spec: Arc<TaskSpec>,
    /// What the shared specification lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<JsonText>,
    pub owner: Arc<str>,
    pub clock_root: ClockRoot,
    #[serde(skip_serializing_if = "Rare::is_blank")]
    pub kin: Rare<Kin>,
    pub state: TaskState,
    pub priority: Priority,
    pub created: Wall,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Wall>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished: Option<Wall>,
    /// A delayed task's time.
    #[serde(skip_serializing_if = "is_default")]
    pub due: Wall,
    /// It never waits longer than this, whatever the wall clock does meanwhile; `None`: its time is a wall time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_ms_max: Option<u64>,
    /// Set with `due` when the last attempt expired: then it is buried instead of made ready.
    #[serde(skip_serializing_if = "is_default")]
    pub bury_when_due: bool,
    /// Epochs that started.
    #[serde(skip_serializing_if = "is_default")]
    pub attempts: u32,
    #[serde(skip_serializing_if = "is_default")]
    pub false_starts: u32,
    #[serde(skip_serializing_if = "is_default")]
    pub epoch: Epoch,
    #[serde(skip_serializing_if = "is_no_token")]
    pub token: LeaseToken,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<PeerId>,
    #[serde(skip_serializing_if = "is_default")]
    pub epoch_status: EpochStatus,
    #[serde(skip_serializing_if = "is_default")]
    pub epoch_started: bool,
    /// When the newest attempt was said to have started.
    #[serde(skip_serializing_if = "is_default")]
    pub attempt_started: Wall,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Payload>,
    #[serde(skip_serializing_if = "Rare::is_blank")]
    pub past: Rare<Past>,
    #[serde(skip_serializing_if = "is_default")]
    pub ran_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notes: Option<Box<AttemptNotes>>,
    /// The last record that touched it: what a reader of it waits for.
    pub index: LogIndex,
    /// Where the log ended when it was accepted.
    pub accepted: LogIndex,
    /// The record from which a replay knows it: its submission, or the image that was carried forward since.
    #[serde(skip)]
    pub base: LogIndex,
    #[serde(skip)]
    pub soft: Soft,
}

fn is_no_token(token: &LeaseToken) -> bool {
    token.0 == [0; 16]
}

/// What dies with the process.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Soft {
    /// Its place in the ready heap.
    pub ready: Option<(usize, crate::heap::Handle)>,
    pub ready_since_ms: u64,
    /// The home's end of the lease, on its monotonic clock.
    pub expires_ms: u64,
    /// When the lease was given, or last asked back.
    pub recalled_ms: u64,
    /// Workers that are skipped for it after a release: until when, and how long the next time.
    pub skip: Rare<BTreeMap<PeerId, (u64, u64)>>,
    /// A delayed task's time on the monotonic clock.
    pub due_ms: u64,
    /// When the running attempt was said to have started, on the monotonic clock; `None`: in an earlier life, if a node has it.
    pub attempt_started_ms: Option<NonZeroU64>,
    /// Whether it is ready because its time came, which is not written: to the log it is still delayed.
    pub woken: bool,
    /// What it takes of its home's budget, as last weighed.
    pub bytes: u32,
    /// The ready queue that it stood in last.
    pub queue: Option<usize>,
    /// What its live lease counts as at its worker.
    pub share: Option<Box<Share>>,
    /// Whether it takes a place under its concurrency key.
    pub counted: bool,
    /// The state in which its namespace counts it.
    pub tallied: Option<TaskState>,
}

impl Task {
    pub fn new(id: TaskId, spec: Arc<TaskSpec>, owner: Arc<str>, clock_root: ClockRoot, created: Wall) -> Self {
        let due = spec.not_before.unwrap_or_default();
        Self {
            id,
            priority: spec.priority,
            state: if due > created { TaskState::Delayed } else { TaskState::Ready },
            spec,
            input: None,
            owner,
            clock_root,
            kin: Rare::default(),
            created,
            started: None,
            finished: None,
            due,
            wait_ms_max: None,
            bury_when_due: false,
            attempts: 0,
            false_starts: 0,
            epoch: Epoch::default(),
            token: LeaseToken([0; 16]),
            worker: None,
            epoch_status: EpochStatus::None,
            epoch_started: false,
            attempt_started: Wall(0),
            output: None,
            past: Rare::default(),
            ran_ms: 0,
            notes: None,
            index: LogIndex::default(),
            accepted: LogIndex::default(),
            base: LogIndex::default(),
            soft: Soft::default(),
        }
    }

    /// What an image says of a field that it does not have.
    fn blank() -> Self {
        let id = TaskId { ulid: 0, ledger: LedgerTag([0; 5]) };
        Self::new(id, Arc::new(TaskSpec::new(TaskKind::Noop)), "".into(), ClockRoot::default(), Wall(0))
    }

    /// The specification as it was submitted.
    pub fn whole_spec(&self) -> Arc<TaskSpec> {
        match &self.input {
            Some(input) => Arc::new(TaskSpec { input: Payload::Inline(input.clone()), ..(*self.spec).clone() }),
            None => self.spec.clone(),
        }
    }

    pub fn durability(&self) -> Durability {
        self.spec.durability
    }

    pub fn fence(&self) -> Fence {
        Fence { task: self.id, epoch: self.epoch }
    }

    pub fn has_live_lease(&self) -> bool {
        matches!(self.state, TaskState::Leased | TaskState::Running) && !self.is_workflow()
    }

    pub fn grant(&mut self, epoch: Epoch, token: LeaseToken, worker: PeerId) {
        self.state = TaskState::Leased;
        self.epoch = epoch;
        self.token = token;
        self.worker = Some(worker);
        self.epoch_status = EpochStatus::Live;
        self.epoch_started = false;
        self.notes.iter_mut().for_each(|notes| (notes.progress, notes.outside) = (None, None));
    }

    pub(super) fn count_attempt(&mut self) {
        self.attempts += 1;
        check(InvariantId::I7, self.attempts <= self.spec.retry.max_attempts, "an attempt beyond the policy");
    }

    pub fn start(&mut self, at: Wall) {
        if !self.epoch_started {
            self.epoch_started = true;
            self.count_attempt();
            self.attempt_started = at;
            self.started.get_or_insert(at);
        }
        if self.state == TaskState::Leased {
            self.state = TaskState::Running;
        }
    }

    /// The end of an epoch without an outcome: a released lease, or an expired one.
    pub fn lose_lease(&mut self, status: EpochStatus, reason: &str, counts_as_false_start: bool) {
        self.epoch_status = status;
        if counts_as_false_start {
            self.false_starts += 1;
            self.past.reasons.push(reason.to_owned());
            let excess = self.past.reasons.len().saturating_sub(limits::ERRORS_KEPT_MAX);
            self.past.reasons.drain(..excess);
        }
        self.state = TaskState::Ready;
    }

    /// The worker fell silent, or had all its time. An attempt that had started ends with an error of its own, as any other.
    pub fn expire(&mut self, at: Wall) {
        if self.epoch_started {
            let (attempt, timeout) = (self.attempts, self.spec.timeout);
            let overran =
                self.outside().is_some() && at.0 >= self.attempt_started.0 + timeout.0 + limits::LEASE_GRACE_MS;
            self.remember_error(&match overran {
                true => TaskError::new(OUT_OF_TIME, format!("attempt {attempt} took longer than {timeout}")),
                false => {
                    let message = format!("attempt {attempt} ended with its lease: its worker fell silent");
                    TaskError::new("lease_expired", message)
                }
            });
        }
        self.lose_lease(EpochStatus::Expired, "the lease expired", !self.epoch_started);
    }

    /// An expired epoch came back before a later grant: its expiry is as if it had not been.
    fn forget_expiry(&mut self) {
        match (self.epoch_status, self.epoch_started) {
            (EpochStatus::Expired, true) => self.past.error = self.past.earlier_errors.pop(),
            (EpochStatus::Expired, false) => {
                self.false_starts = self.false_starts.saturating_sub(1);
                self.past.reasons.pop();
            }
            (EpochStatus::None | EpochStatus::Live | EpochStatus::Released | EpochStatus::Reported { .. }, _) => {}
        }
        self.epoch_status = EpochStatus::Live;
        self.bury_when_due = false;
    }

    pub fn revive(&mut self) {
        self.forget_expiry();
        self.state = if self.epoch_started { TaskState::Running } else { TaskState::Leased };
    }

    /// The one outcome of an epoch: it says that the attempt started.
    pub fn report(&mut self, at: Wall, outcome: &Outcome, digest: OutcomeDigest, next: AfterAttempt) {
        self.forget_expiry();
        self.start(at);
        if self.past.log_tail != outcome.log_tail {
            self.past.log_tail.clone_from(&outcome.log_tail);
        }
        self.ran_ms = outcome.ran_ms;
        self.add_used(outcome.used);
        let answer = match (&outcome.result, next) {
            (crate::task::AttemptResult::Succeeded { output }, _) => {
                self.output = Some(output.clone());
                self.close_errors();
                self.notes = None;
                self.end(at, TaskState::Succeeded);
                CompleteAnswer::Committed
            }
            (crate::task::AttemptResult::Failed { error, .. }, AfterAttempt::Retry { due, delay_ms }) => {
                self.remember_error(error);
                self.delay(due, delay_ms);
                CompleteAnswer::Recorded { state: TaskState::Delayed }
            }
            (crate::task::AttemptResult::Failed { error, .. }, next) => {
                self.remember_error(error);
                self.end(at, if next == AfterAttempt::Dead { TaskState::Dead } else { TaskState::Failed });
                CompleteAnswer::Committed
            }
        };
        self.epoch_status = EpochStatus::Reported { digest, answer };
    }

    pub fn add_used(&mut self, used: Used) {
        if !used.is_nothing() {
            self.past.used = self.past.used.plus(used);
        }
    }

    /// A failure that another attempt follows.
    pub fn retry_later(&mut self, error: TaskError, due: Wall, at_most_ms: u64) {
        self.remember_error(&error);
        self.delay(due, at_most_ms);
    }

    fn delay(&mut self, due: Wall, at_most_ms: u64) {
        self.state = TaskState::Delayed;
        self.due = due;
        self.wait_ms_max = Some(at_most_ms);
    }

    /// It is leased or runs now: an attempt that starts has its own time from here on. Who is no node, and was promised a lease
    /// in an earlier life of the home, has it from the start of this one: nothing that was promised ends later.
    pub fn note_start(&mut self, now_ms: u64, from: Option<TaskState>) {
        if self.state == TaskState::Leased {
            self.soft.attempt_started_ms = None;
        } else if from == Some(TaskState::Leased) || (from.is_none() && self.outside().is_some()) {
            self.soft.attempt_started_ms = NonZeroU64::new(now_ms);
        }
    }

    /// When a delayed task is due on the monotonic clock. What an attempt may still take counts from its start; after a
    /// restart, as any wait, by the wall clock, and at most its full length.
    pub fn due_ms(&self, now: Now, wait_ms_max: u64) -> u64 {
        match self.soft.attempt_started_ms.filter(|_| self.bury_when_due) {
            Some(started_ms) => started_ms.get() + wait_ms_max,
            None => now.mono_ms + self.due.0.saturating_sub(now.wall_ms).min(wait_ms_max),
        }
    }

    /// The last attempt's lease expired: its outcome may still come, until the attempt's own time is over.
    pub fn bury_later(&mut self) {
        let allowed_ms = self.spec.timeout.0 + limits::LEASE_GRACE_MS;
        self.delay(Wall(self.attempt_started.0 + allowed_ms), allowed_ms);
        self.bury_when_due = true;
    }

    /// The last attempt's worker never answered again: what its expiry left open is now said.
    pub fn bury(&mut self, at: Wall) {
        if self.past.error.as_ref().is_none_or(|error| error.code != OUT_OF_TIME) {
            self.past.error = Some(TaskError::new("lease_expired", "the last attempt's worker never answered again"));
        }
        self.end(at, TaskState::Dead);
    }

    /// No error is the last any more.
    pub fn close_errors(&mut self) {
        if self.past.error.is_some() {
            let past = &mut *self.past;
            past.earlier_errors.extend(past.error.take());
        }
    }

    /// Keeps the newest [`limits::ERRORS_KEPT_MAX`] errors: the last one and those before it.
    fn remember_error(&mut self, error: &TaskError) {
        if let Some(earlier) = self.past.error.replace(error.clone()) {
            self.past.earlier_errors.push(earlier);
            let excess = self.past.earlier_errors.len().saturating_sub(limits::ERRORS_KEPT_MAX - 1);
            self.past.earlier_errors.drain(..excess);
        }
    }

    pub fn fail_with(&mut self, at: Wall, state: TaskState, error: TaskError) {
        self.remember_error(&error);
        self.end(at, state);
    }

    pub fn end(&mut self, at: Wall, state: TaskState) {
        self.state = state;
        self.finished = Some(at);
    }
}
