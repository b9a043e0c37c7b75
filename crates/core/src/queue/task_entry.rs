//! One task in its home's memory: what the log says of it, and the soft facts of its lease.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::attempts::AttemptNotes;
use super::record::{AfterAttempt, ClockRoot};
use super::room::Share;
use crate::ids::{Epoch, LeaseToken, LogIndex, OutcomeDigest, PeerId, TaskId, WorkflowId};
use crate::lease::{CompleteAnswer, Fence};
use crate::limits;
use crate::payload::Payload;
use crate::task::{Durability, Outcome, Priority, TaskError, TaskSpec, TaskState};
use crate::time::{Now, Wall};

/// Where a task belongs in a workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StepLink {
    pub workflow: WorkflowId,
    pub step: u32,
    pub part: StepPart,
}

/// What a task does for its step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StepPart {
    /// It runs the step, or this item of it.
    Item(u32),
    /// It undoes the step.
    Compensation,
}

/// How the newest epoch of a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum EpochStatus {
    /// No grant yet.
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

#[derive(Debug, Clone)]
pub(super) struct Task {
    pub id: TaskId,
    pub spec: Arc<TaskSpec>,
    pub owner: Arc<str>,
    pub clock_root: ClockRoot,
    pub step: Option<StepLink>,
    /// The task that this one was made for anew.
    pub retry_of: Option<TaskId>,
    /// The task that was made for this one anew, by hand.
    pub retried_by: Option<TaskId>,
    /// Of a task that is a workflow: the newest one that was started for it.
    pub child: Option<WorkflowId>,
    pub state: TaskState,
    pub priority: Priority,
    pub created: Wall,
    pub started: Option<Wall>,
    pub finished: Option<Wall>,
    /// A delayed task's time.
    pub due: Wall,
    /// It never waits longer than this, whatever the wall clock does meanwhile; `None`: its time is a wall time.
    pub wait_ms_max: Option<u64>,
    /// Set with `due` when the last attempt expired: then it is buried instead of made ready.
    pub bury_when_due: bool,
    /// Epochs that started.
    pub attempts: u32,
    pub false_starts: u32,
    pub epoch: Epoch,
    pub token: LeaseToken,
    pub worker: Option<PeerId>,
    pub epoch_status: EpochStatus,
    pub epoch_started: bool,
    /// When the newest attempt was said to have started.
    pub attempt_started: Wall,
    pub output: Option<Payload>,
    pub error: Option<TaskError>,
    pub earlier_errors: Vec<TaskError>,
    pub log_tail: String,
    pub ran_ms: u64,
    pub reasons: Vec<String>,
    pub notes: Option<Box<AttemptNotes>>,
    /// The last record that touched it: what a reader of it waits for.
    pub index: LogIndex,
    /// Where the log ended when it was accepted.
    pub accepted: LogIndex,
    pub soft: Soft,
}

/// What dies with the process.
#[derive(Debug, Clone, Default)]
pub(super) struct Soft {
    /// Its place in the ready heap.
    pub ready: Option<(usize, crate::heap::Handle)>,
    pub ready_since_ms: u64,
    /// The home's end of the lease, on its monotonic clock.
    pub expires_ms: u64,
    /// When the lease was given, or last asked back.
    pub recalled_ms: u64,
    /// Workers that are skipped for it after a release: until when, and how long the next time.
    pub skip: BTreeMap<PeerId, (u64, u64)>,
    /// A delayed task's time on the monotonic clock.
    pub due_ms: u64,
    /// When the running attempt was said to have started, on the monotonic clock; `None`: in an earlier life.
    pub attempt_started_ms: Option<u64>,
    /// What it takes of its home's budget, as last weighed.
    pub bytes: u32,
    /// The ready queue that it stood in last.
    pub queue: Option<usize>,
    /// What its live lease counts as at its worker.
    pub share: Option<Share>,
    /// Whether it takes a place under its concurrency key.
    pub counted: bool,
}

impl Task {
    pub fn new(id: TaskId, spec: Arc<TaskSpec>, owner: Arc<str>, clock_root: ClockRoot, created: Wall) -> Self {
        let due = spec.not_before.unwrap_or_default();
        Self {
            id,
            priority: spec.priority,
            state: if due > created { TaskState::Delayed } else { TaskState::Ready },
            spec,
            owner,
            clock_root,
            step: None,
            retry_of: None,
            retried_by: None,
            child: None,
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
            error: None,
            earlier_errors: Vec::new(),
            log_tail: String::new(),
            ran_ms: 0,
            reasons: Vec::new(),
            notes: None,
            index: LogIndex::default(),
            accepted: LogIndex::default(),
            soft: Soft::default(),
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
        self.notes.iter_mut().for_each(|notes| notes.progress = None);
    }

    pub fn start(&mut self, at: Wall) {
        if !self.epoch_started {
            self.epoch_started = true;
            self.attempts += 1;
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
            self.reasons.push(reason.to_owned());
            let excess = self.reasons.len().saturating_sub(limits::ERRORS_KEPT_MAX);
            self.reasons.drain(..excess);
        }
        self.state = TaskState::Ready;
    }

    /// The worker fell silent. An attempt that had started ends with an error of its own, as any other.
    pub fn expire(&mut self) {
        if self.epoch_started {
            let message = format!("attempt {} ended with its lease: its worker fell silent", self.attempts);
            self.remember_error(&TaskError::new("lease_expired", message));
        }
        self.lose_lease(EpochStatus::Expired, "the lease expired", !self.epoch_started);
    }

    /// An expired epoch came back before a later grant: its expiry is as if it had not been.
    fn forget_expiry(&mut self) {
        match (self.epoch_status, self.epoch_started) {
            (EpochStatus::Expired, true) => self.error = self.earlier_errors.pop(),
            (EpochStatus::Expired, false) => {
                self.false_starts = self.false_starts.saturating_sub(1);
                self.reasons.pop();
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
        self.log_tail = outcome.log_tail.clone();
        self.ran_ms = outcome.ran_ms;
        let answer = match (&outcome.result, next) {
            (crate::task::AttemptResult::Succeeded { output }, _) => {
                self.output = Some(output.clone());
                self.earlier_errors.extend(self.error.take());
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

    /// It is leased or runs now: an attempt that starts has its own time from here on.
    pub fn note_start(&mut self, now_ms: u64, from: Option<TaskState>) {
        if self.state == TaskState::Leased {
            self.soft.attempt_started_ms = None;
        } else if from == Some(TaskState::Leased) {
            self.soft.attempt_started_ms = Some(now_ms);
        }
    }

    /// When a delayed task is due on the monotonic clock. What an attempt may still take counts from its start; after a
    /// restart, as any wait, by the wall clock, and at most its full length.
    pub fn due_ms(&self, now: Now, wait_ms_max: u64) -> u64 {
        match self.soft.attempt_started_ms.filter(|_| self.bury_when_due) {
            Some(started_ms) => started_ms + wait_ms_max,
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
        self.error = Some(TaskError::new("lease_expired", "the last attempt's worker never answered again"));
        self.end(at, TaskState::Dead);
    }

    /// Keeps the newest [`limits::ERRORS_KEPT_MAX`] errors: the last one and those before it.
    fn remember_error(&mut self, error: &TaskError) {
        if let Some(earlier) = self.error.replace(error.clone()) {
            self.earlier_errors.push(earlier);
            let excess = self.earlier_errors.len().saturating_sub(limits::ERRORS_KEPT_MAX - 1);
            self.earlier_errors.drain(..excess);
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
