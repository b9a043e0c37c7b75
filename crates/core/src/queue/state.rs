//! The part of a home that the log determines: tasks, workflows, counters. Changed by [`State::apply`] and by nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::contexts::Contexts;
use super::effects::BindingId;
use super::images::{Partial, is_related};
use super::keys::Keys;
use super::limit_keys::Limit;
use super::paused::{Pause, Paused};
use super::permits::Loans;
use super::protocol::{TaskCounts, WorkflowState};
use super::record::{AfterAttempt, CompletionRecord, GrantRecord, Record, ReleaseRecord, SubmitItem};
use super::schedule::Schedule;
use super::suspension::Standing;
use super::task_entry::{EpochStatus, Task};
use super::tasks::Tasks;
use super::templates::Templates;
use super::usage::{Spent, Usage};
use super::workflow_run::WorkflowRun;
use super::workflow_state::Window;
use crate::ids::{Generation, LedgerTag, LogIndex, OperationId, PeerId, ScheduleId, TaskId, WorkflowId};
use crate::invariant::{InvariantId, check};
use crate::limiter::{LimitKey, LimitKind, LoanFacts, RateMark};
use crate::task::{Durability, TaskError, TaskState};
use crate::time::Wall;

/// Tasks that a record moved, for whoever keeps something derived from their states.
#[derive(Debug, Clone, Default)]
pub(super) struct Changes {
    pub tasks: Vec<Change>,
    /// Workflows that ended.
    pub workflows: Vec<WorkflowId>,
    /// Tasks that are not kept any more.
    pub removed: Vec<Task>,
    /// What is to be bound from now on.
    pub bindings: Vec<BindingId>,
    /// Workflows and schedules that changed, and ended tasks of which something else became known.
    pub touched: Vec<TaskId>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    pub task: TaskId,
    /// `None`: it is new.
    pub from: Option<TaskState>,
}

#[derive(Clone)]
pub(super) struct State {
    pub tag: LedgerTag,
    pub generation: Generation,
    pub standing: Standing,
    pub tasks: Tasks,
    /// Task ids in order of creation, for listings.
    pub order: std::collections::BTreeSet<TaskId>,
    pub workflows: BTreeMap<WorkflowId, WorkflowRun>,
    pub keys: Keys,
    pub schedules: BTreeMap<ScheduleId, Schedule>,
    /// What running attempts submitted, by their task.
    pub children: BTreeMap<TaskId, std::collections::BTreeSet<TaskId>>,
    pub counts: TaskCounts,
    pub submitted: u64,
    pub lost: u64,
    pub memory_submitted: u64,
    pub memory_terminal: u64,
    /// As last written.
    pub fenced_total: u64,
    pub released_total: u64,
    pub expired_total: u64,
    pub retried_total: u64,
    pub commits_by_worker: BTreeMap<PeerId, u64>,
    pub workflows_running: u64,
    pub paused: Paused,
    pub contexts: Contexts,
    pub usage: Usage,
    /// Ends that are not kept any more; the other counters go on counting them.
    pub pruned: TaskCounts,
    /// Those among them that were of class `memory`, in this generation.
    pub pruned_memory: TaskCounts,
    /// The newest id among them.
    pub pruned_newest: Option<TaskId>,
    /// While a replay of a cut log has not reached its checkpoint: what is not whole yet.
    pub partial: Option<Box<Partial>>,
    /// What the newest checkpoint made superfluous: all before this record.
    pub cut: LogIndex,
    /// By rate key.
    pub rate_marks: BTreeMap<LimitKey, RateMark>,
    pub loans: Loans,
    /// The newest time in the log.
    pub last_at: Wall,
    /// The newest written record.
    pub last_index: LogIndex,
    pub templates: Templates,
    pub changes: Changes,
}

impl State {
    pub fn new(tag: LedgerTag) -> Self {
        Self {
            tag,
            generation: Generation(0),
            standing: Standing::default(),
            tasks: Tasks::default(),
            order: std::collections::BTreeSet::new(),
            workflows: BTreeMap::new(),
            keys: Keys::default(),
            schedules: BTreeMap::new(),
            children: BTreeMap::new(),
            counts: TaskCounts::default(),
            submitted: 0,
            lost: 0,
            memory_submitted: 0,
            memory_terminal: 0,
            fenced_total: 0,
            released_total: 0,
            expired_total: 0,
            retried_total: 0,
            commits_by_worker: BTreeMap::new(),
            workflows_running: 0,
            paused: Paused::default(),
            contexts: Contexts::default(),
            usage: Usage::default(),
            pruned: TaskCounts::default(),
            pruned_memory: TaskCounts::default(),
            pruned_newest: None,
            partial: None,
            cut: LogIndex(1),
            rate_marks: BTreeMap::new(),
            loans: Loans::new(),
            last_at: Wall(0),
            last_index: LogIndex::default(),
            templates: Templates::default(),
            changes: Changes::default(),
        }
    }

    /// Applies one record. `index` is its place in the log, zero for what is not written (`memory`).
    pub fn apply(&mut self, index: LogIndex, record: &Record) {
        self.last_at = self.last_at.max(record.at());
        self.last_index = self.last_index.max(index);
        match record {
            Record::Opened { generation, .. } => self.open(*generation),
            Record::Submitted { at, operation, owner, clock_root, items, others: _ } => {
                self.submit(index, *at, *operation, (owner, *clock_root), items);
            }
            Record::WorkflowSubmitted { at, operation, owner, clock_root, spec } => {
                let id = TaskId::derive(self.tag, at.0, *operation, 0);
                self.submit_workflow(index, WorkflowRun::new(id, spec.clone(), owner.clone(), *clock_root, *at));
            }
            Record::StepBound { at, workflow, step, from, total, tasks, skipped } => {
                let window = Window { from: *from, total: *total, tasks, skipped };
                self.bind_step(index, *at, (*workflow, *step), &window);
            }
            Record::StepSkipped { at, workflow, step } => self.skip_step(index, *at, (*workflow, *step)),
            Record::CompensationBound { at, workflow, step, task } => {
                self.bind_compensation(index, *at, (*workflow, *step), task);
            }
            Record::CompensationUnbound { at, workflow, step, error } => {
                self.unbind_compensation(index, *at, (*workflow, *step), error);
            }
            Record::WorkflowRetried { at, workflow, steps, .. } => self.retry_workflow(index, *at, *workflow, steps),
            Record::StepUnbound { at, workflow, step, error } => {
                self.unbind_step(index, *at, (*workflow, *step), error)
            }
            Record::Granted { grants, .. } => grants.iter().for_each(|grant| self.grant(index, grant)),
            Record::Started { at, fences } => self.start_attempts(index, *at, fences),
            Record::TakenOutside { at, fence, worker } => self.take_outside(index, *at, *fence, worker),
            Record::Completed { at, results } => results.iter().for_each(|result| self.complete(index, *at, result)),
            Record::Released { at, releases } => releases.iter().for_each(|release| self.release(index, *at, release)),
            Record::Expired { at, fences } => fences.iter().for_each(|fence| self.expire(index, *at, fence.task)),
            Record::Revived { fences, .. } => self.each(index, fences.iter().map(|fence| fence.task), Task::revive),
            Record::Checkpointed { at, checkpoints } => self.keep_checkpoints(index, *at, checkpoints),
            Record::AttemptsStopped { at, fences, used } => self.note_stops(index, *at, fences, used),
            Record::Buried { at, tasks } => self.bury(index, *at, tasks),
            Record::DeadlinePassed { at, tasks } => self.pass_deadlines(index, *at, tasks),
            Record::Cancelled { at, target, reason, .. } => self.cancel(index, *at, *target, reason),
            Record::PrioritySet { task, priority, .. } => {
                self.each(index, [*task].into_iter(), |task| task.priority = *priority);
            }
            Record::QueuePaused { at, namespace, reason, .. } => {
                self.paused.pause(namespace.clone(), Pause { since: *at, reason: reason.clone() });
            }
            Record::QueueResumed { namespace, .. } => self.paused.resume(namespace.as_deref()),
            Record::QueueCleared { at, tasks, workflows, .. } => self.clear(index, *at, tasks, workflows),
            Record::KeysForgotten { before, .. } => self.keys.forget(*before),
            Record::Pruned { tasks, workflows, counts, .. } => self.prune(index, (tasks, workflows), counts),
            Record::Retried { at, clock_root, tasks, .. } => self.retry(index, *at, *clock_root, tasks),
            Record::WorkflowEnded { at, workflow, outputs } => self.end_workflow(index, *at, *workflow, outputs),
            Record::Carried { carried, .. } => self.carry(index, carried),
            Record::Checkpoint { before, totals, .. } => self.checkpoint(*before, totals),
            Record::Suspended { .. } | Record::Claimed { .. } | Record::Handover(_) => {
                self.standing.apply(index, record)
            }
            Record::PermitsLent { kind, name, loans, rate_mark, .. } => {
                self.lend(*kind, LimitKey { name: name.clone(), home: None }, loans, *rate_mark);
            }
            Record::Schedule(record) => self.apply_to_schedules(index, record),
            Record::Context(record) => self.contexts.apply(record),
            Record::BytesPut { at, owner, bytes } => self.usage.add(owner, *at, Spent::bytes(*bytes)),
            Record::ChildrenStarted { at, tasks } => tasks.iter().for_each(|task| self.start_child(index, *at, *task)),
            Record::MemoryTally { submitted, terminal, fenced_total, .. } => {
                self.tally((*submitted, *terminal), *fenced_total);
            }
        }
    }

    fn pass_deadlines(&mut self, index: LogIndex, at: Wall, tasks: &[TaskId]) {
        let error = || TaskError::new("deadline", "the deadline passed before the task ended");
        self.end_each(index, at, tasks, TaskState::Failed, error);
    }

    fn bury(&mut self, index: LogIndex, at: Wall, tasks: &[TaskId]) {
        tasks.iter().for_each(|task| self.change(index, at, *task, |task| task.bury(at)));
    }

    fn tally(&mut self, (submitted, terminal): (u64, u64), fenced_total: u64) {
        (self.memory_submitted, self.memory_terminal) = (submitted, terminal);
        self.fenced_total = self.fenced_total.max(fenced_total);
    }

    fn open(&mut self, generation: Generation) {
        check(InvariantId::I2, generation > self.generation, "a generation did not grow");
        self.generation = generation;
        self.standing.open();
        let lost = self.memory_submitted - self.memory_terminal;
        self.lost += lost;
        self.submitted += lost;
        self.memory_submitted = 0;
        self.memory_terminal = 0;
    }

    fn submit(
        &mut self,
        index: LogIndex,
        at: Wall,
        operation: OperationId,
        (owner, clock_root): (&Arc<str>, super::record::ClockRoot),
        items: &[SubmitItem],
    ) {
        let mut n = 0;
        for item in items {
            let (spec, input) = self.templates.share(&item.spec);
            for _ in 0..item.count {
                let id = TaskId::derive(self.tag, at.0, operation, n);
                n += 1;
                self.keys.give(&item.spec, id, at);
                self.add_child(item.spec.parent, id);
                let task = Task::new(id, spec.clone(), owner.clone(), clock_root, at);
                self.insert(index, Task { input: input.clone(), ..task });
            }
        }
    }

    fn submit_workflow(&mut self, index: LogIndex, mut run: WorkflowRun) {
        run.parent = run.spec.parent;
        self.add_child(run.parent, run.id);
        self.add_workflow(index, run.created, run);
    }

    pub(super) fn insert(&mut self, index: LogIndex, mut task: Task) {
        if self.partial.is_some() && is_related(&task) {
            return;
        }
        task.index = index;
        task.base = index;
        task.accepted = self.last_index;
        self.submitted += 1;
        self.counts.add(task.state, 1);
        let memory = task.durability() == Durability::Memory;
        self.memory_submitted += u64::from(memory);
        self.memory_terminal += u64::from(memory && task.state.is_terminal());
        self.changes.tasks.push(Change { task: task.id, from: None });
        self.order.insert(task.id);
        self.tasks.insert(task);
    }

    fn grant(&mut self, index: LogIndex, grant: &GrantRecord) {
        let GrantRecord { task, epoch, token, worker, rate_mark } = *grant;
        if let (Some(mark), Some(key)) = (rate_mark, self.rate_key(&task)) {
            // One round's grants stand in a record for each class: the latest mark counts.
            let newest = self.rate_marks.entry(key).or_default();
            *newest = mark.max(*newest);
        }
        self.change(index, self.last_at, task, |entry| {
            check(InvariantId::I2, epoch > entry.epoch, "an epoch did not grow");
            check(InvariantId::I5, !entry.has_live_lease(), "a leased task was granted");
            entry.grant(epoch, token, worker);
        });
    }

    fn release(&mut self, index: LogIndex, at: Wall, release: &ReleaseRecord) {
        self.released_total += 1;
        let task = release.fence.task;
        if let (Some(back_us), Some(key)) = (release.rate_back_us, self.rate_key(&task)) {
            self.rate_marks.entry(key).and_modify(|mark| *mark = mark.given_back(back_us));
        }
        let (reason, false_start) = (format!("{:?}", release.reason), release.reason.is_false_start());
        self.change(index, at, task, |task| task.lose_lease(EpochStatus::Released, &reason, false_start));
    }

    fn lend(&mut self, kind: LimitKind, key: LimitKey, loans: &[LoanFacts], rate_mark: Option<RateMark>) {
        if let Some(mark) = rate_mark {
            self.rate_marks.insert(key.clone(), mark);
        }
        let limit = Limit { kind, key };
        let homes = self.loans.entry(limit.clone()).or_default();
        homes.extend(loans.iter().map(|facts| (facts.borrower, *facts)));
        homes.retain(|_, facts| facts.count > 0);
        if homes.is_empty() {
            self.loans.remove(&limit);
        }
    }

    fn rate_key(&self, task: &TaskId) -> Option<LimitKey> {
        Some(self.tasks.get(task)?.spec.rate_key.as_ref()?.seen_from(self.tag))
    }

    fn complete(&mut self, index: LogIndex, at: Wall, result: &CompletionRecord) {
        let digest = crate::lease::outcome_digest(&result.outcome);
        let ended = self.tasks.get(&result.fence.task).is_some_and(|task| task.state.is_terminal());
        check(InvariantId::I4, !ended, "a terminal task was committed again");
        self.change(index, at, result.fence.task, |task| {
            check(InvariantId::I3, task.epoch == result.fence.epoch, "an outcome of another epoch was recorded");
            task.worker = Some(result.worker);
            result.checkpoint.iter().for_each(|checkpoint| task.keep_checkpoint(checkpoint.clone()));
            task.report(at, &result.outcome, digest, result.next);
        });
        if let Some(task) = self.tasks.get(&result.fence.task) {
            self.usage.add(&task.owner, at, Spent::by(&result.outcome));
        }
        match result.next {
            AfterAttempt::Succeeded => *self.commits_by_worker.entry(result.worker).or_default() += 1,
            AfterAttempt::Retry { .. } => self.retried_total += 1,
            AfterAttempt::Failed | AfterAttempt::Dead => {}
        }
    }

    fn expire(&mut self, index: LogIndex, at: Wall, task: TaskId) {
        self.expired_total += 1;
        self.change(index, at, task, |task| {
            let spent = task.epoch_started && task.attempts >= task.spec.retry.max_attempts;
            task.expire(at);
            if spent {
                task.bury_later();
            }
        });
    }

    pub(super) fn each(
        &mut self,
        index: LogIndex,
        tasks: impl Iterator<Item = TaskId>,
        mut act: impl FnMut(&mut Task),
    ) {
        for task in tasks {
            self.change(index, self.last_at, task, &mut act);
        }
    }

    fn end_each(
        &mut self,
        index: LogIndex,
        at: Wall,
        tasks: &[TaskId],
        state: TaskState,
        error: impl Fn() -> TaskError,
    ) {
        for task in tasks {
            self.change(index, at, *task, |task| task.fail_with(at, state, error()));
        }
    }

    /// The one way in which a task changes: counters, changes and its workflow follow.
    ///
    /// What ended stays so: an earlier part of the same record may have ended the workflow, and this task with it.
    pub(super) fn change(&mut self, index: LogIndex, at: Wall, id: TaskId, act: impl FnOnce(&mut Task)) {
        let Some(task) = self.tasks.get_mut(&id).filter(|task| !task.state.is_terminal()) else { return };
        let from = task.state;
        act(task);
        if task.false_starts >= crate::limits::FALSE_STARTS_MAX && !task.state.is_terminal() && !task.has_live_lease() {
            let message =
                format!("{} grants ended before a start: {}", task.false_starts, task.past.reasons.join("; "));
            task.fail_with(at, TaskState::Dead, TaskError::new("false_starts", message));
        }
        task.index = task.index.max(index);
        let (to, step, memory) = (task.state, task.kin.step, task.durability() == Durability::Memory);
        let child = task.kin.child.filter(|_| to.is_terminal());
        self.changes.tasks.push(Change { task: id, from: Some(from) });
        if from == to {
            return;
        }
        task.soft.woken = false;
        self.counts.shift(from, to);
        self.memory_terminal += u64::from(memory && to.is_terminal());
        if to.is_terminal() {
            self.parent_ended(index, at, id, to);
        }
        if let Some(child) = child {
            let error = TaskError::new("cancelled", format!("the task that it runs for is {to}"));
            self.stop_workflow(index, at, child, (WorkflowState::Cancelled, error), false);
        }
        if let Some(link) = step {
            self.step_moved(index, at, link, from, to);
        }
    }

    pub(super) fn cancel(&mut self, index: LogIndex, at: Wall, target: TaskId, reason: &str) {
        if self.workflows.contains_key(&target) {
            let end = (WorkflowState::Cancelled, TaskError::new("cancelled", reason));
            self.stop_workflow(index, at, target, end, false);
        } else {
            let error = TaskError::new("cancelled", reason);
            self.change(index, at, target, |task| task.fail_with(at, TaskState::Cancelled, error));
        }
    }

    /// I9: every task ever accepted is in exactly one state, or lost with its process.
    pub fn conservation_holds(&self) -> bool {
        self.submitted == self.counts.total() + self.lost
    }
}
