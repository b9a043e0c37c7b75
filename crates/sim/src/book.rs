//! What a home's log says, read by other eyes than the core's: the facts that the checkers compare with.

use std::collections::BTreeMap;
use std::sync::Arc;

use magpie_core::dag::{OnFail, WorkflowSpec};
use magpie_core::ids::{
    Epoch, Generation, LeaseToken, LedgerTag, LogIndex, OperationId, PeerId, ScheduleId, TaskId, WorkflowId,
};
use magpie_core::lease::Fence;
use magpie_core::queue::{AfterAttempt, CompletionRecord, GrantRecord, Record, ScheduleRecord};
use magpie_core::task::{Outcome, TaskSpec, TaskState};
use magpie_core::time::Wall;

use crate::queue_book::QueueFacts;
use crate::schedule_book::ScheduleFacts;

/// One home's facts. Entries that a crash lost are taken out again by reading the rest anew.
#[derive(Debug)]
pub struct Book {
    tag: LedgerTag,
    records: Vec<Record>,
    pub generation: Generation,
    /// The record of each operation.
    pub operations: BTreeMap<OperationId, LogIndex>,
    /// The record of the newest generation.
    pub opened: LogIndex,
    pub tasks: BTreeMap<TaskId, TaskFacts>,
    pub workflows: BTreeMap<WorkflowId, WorkflowFacts>,
    /// The record that allows a cut, by where it cuts.
    checkpoints: BTreeMap<LogIndex, LogIndex>,
    pub schedules: BTreeMap<ScheduleId, ScheduleFacts>,
    pub queue: QueueFacts,
}

#[derive(Debug)]
pub struct TaskFacts {
    pub spec: Arc<TaskSpec>,
    pub step: Option<(WorkflowId, u32)>,
    /// The workflow that it runs a step of, or undoes one of.
    pub part_of: Option<WorkflowId>,
    pub submitted: LogIndex,
    /// The last record that names it.
    pub touched: LogIndex,
    pub epochs: Vec<EpochFacts>,
    /// What a record that names it ended it as; the end of its workflow may end it too.
    pub end: Option<(TaskState, LogIndex)>,
    /// The end of its workflow that ended it, if that was retried since.
    pub earlier_end: Option<LogIndex>,
}

#[derive(Debug)]
pub struct EpochFacts {
    pub epoch: Epoch,
    pub token: LeaseToken,
    pub worker: PeerId,
    pub granted: LogIndex,
    /// The last record that says that its worker holds it: granted, started, revived.
    pub held: LogIndex,
    pub started: bool,
    /// It has no lease any more: given back, expired, or its task is over.
    pub over: bool,
    pub outcome: Option<(LogIndex, Outcome)>,
    /// The worker that has it, if that is no node, and the record that says so.
    pub outside: Option<(Arc<str>, LogIndex)>,
}

#[derive(Debug)]
pub struct WorkflowFacts {
    pub spec: Arc<WorkflowSpec>,
    pub submitted: LogIndex,
    pub steps: Vec<StepFacts>,
    /// The first record after which it could not go on.
    pub ended: Option<LogIndex>,
    /// Ends that were followed by a retry, each with when that came.
    earlier_ends: Vec<(LogIndex, Wall)>,
    pub retries: u32,
    /// The task that it is the attempt of.
    pub parent: Option<TaskId>,
}

#[derive(Debug, Clone, Default)]
pub struct StepFacts {
    pub total: Option<u32>,
    pub tasks: Vec<TaskId>,
    /// Its templates had no value.
    pub unbound: bool,
}

impl TaskFacts {
    fn new(spec: Arc<TaskSpec>, step: Option<(WorkflowId, u32)>, index: LogIndex) -> Self {
        let (part_of, epochs) = (step.map(|(workflow, _)| workflow), Vec::new());
        Self { spec, step, part_of, submitted: index, touched: index, epochs, end: None, earlier_end: None }
    }

    pub fn newest(&self) -> Option<&EpochFacts> {
        self.epochs.last()
    }

    pub fn of_epoch(&self, epoch: Epoch) -> Option<&EpochFacts> {
        self.epochs.iter().find(|facts| facts.epoch == epoch)
    }

    /// Whether its newest epoch is of this worker, which is no node.
    pub fn is_of_outside(&self, name: &str) -> bool {
        self.newest().and_then(|newest| newest.outside.as_ref()).is_some_and(|(of, _)| **of == *name)
    }

    /// Whether a worker has a lease of it.
    pub fn is_leased(&self) -> bool {
        self.newest().is_some_and(|epoch| !epoch.over)
    }

    /// Attempts that the log knows to have started.
    pub fn attempts(&self) -> u32 {
        self.epochs.iter().filter(|epoch| epoch.started).count() as u32
    }
}

const COMPENSATION: u32 = 1 << 15;

/// The operation that the tasks of a step get their ids from: the low 12 bytes of the workflow's ULID, the retries of
/// the workflow, then the step.
fn step_operation(workflow: WorkflowId, retries: u32, step: u32) -> OperationId {
    let mut bytes = [0; 16];
    bytes[..12].copy_from_slice(&workflow.ulid.to_be_bytes()[4..]);
    bytes[12..].copy_from_slice(&((retries << 16) | step).to_be_bytes());
    OperationId(bytes)
}

/// The operation that a record is the effect of.
pub fn operation(record: &Record) -> Option<OperationId> {
    match record {
        Record::Submitted { operation, .. }
        | Record::WorkflowSubmitted { operation, .. }
        | Record::WorkflowRetried { operation, .. }
        | Record::Cancelled { operation, .. }
        | Record::PrioritySet { operation, .. }
        | Record::QueuePaused { operation, .. }
        | Record::QueueResumed { operation, .. }
        | Record::QueueCleared { operation, .. }
        | Record::Retried { operation, .. }
        | Record::Schedule(
            ScheduleRecord::Made { operation, .. }
            | ScheduleRecord::RunAsked { operation, .. }
            | ScheduleRecord::Changed { operation, .. },
        ) => Some(*operation),
        _ => None,
    }
}

impl WorkflowFacts {
    /// The record of the end that came at `finished`.
    pub fn end_of(&self, finished: Option<Wall>) -> Option<LogIndex> {
        let retried_later = |(_, retried): &&(LogIndex, Wall)| finished.is_some_and(|finished| finished < *retried);
        self.earlier_ends.iter().find(retried_later).map(|(end, _)| *end).or(self.ended)
    }
}

impl Book {
    pub fn new(tag: LedgerTag) -> Self {
        Self {
            tag,
            records: Vec::new(),
            generation: Generation(0),
            operations: BTreeMap::new(),
            opened: LogIndex(0),
            tasks: BTreeMap::new(),
            workflows: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
            schedules: BTreeMap::new(),
            queue: QueueFacts::default(),
        }
    }

    /// The record that allows all before `before` to go; none is one that never comes.
    pub fn checkpoint_of(&self, before: LogIndex) -> LogIndex {
        self.checkpoints.get(&before).copied().unwrap_or(LogIndex(u64::MAX))
    }

    pub fn tag(&self) -> LedgerTag {
        self.tag
    }

    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The record that a task or a workflow came with.
    pub fn submitted(&self, id: &TaskId) -> Option<LogIndex> {
        let task = self.tasks.get(id).map(|facts| facts.submitted);
        task.or_else(|| self.workflows.get(id).map(|facts| facts.submitted))
    }

    /// Forgets what stood behind `index`.
    pub fn truncate(&mut self, index: LogIndex) {
        let mut records = std::mem::take(&mut self.records);
        records.truncate(index.0 as usize);
        *self = Self::new(self.tag);
        records.into_iter().for_each(|record| self.read(record));
    }

    /// Reads the next record.
    pub fn read(&mut self, record: Record) {
        let index = LogIndex(self.records.len() as u64 + 1);
        if let Some(operation) = operation(&record) {
            self.operations.insert(operation, index);
        }
        match &record {
            Record::Opened { generation, .. } => (self.generation, self.opened) = (*generation, index),
            Record::Submitted { at, operation, items, .. } => {
                let each = items.iter().flat_map(|item| (0..item.count).map(move |_| item));
                let named = (0..).map(|n| TaskId::derive(self.tag, at.0, *operation, n)).zip(each);
                self.queue.read_keys(named.clone());
                self.tasks.extend(named.map(|(id, item)| (id, TaskFacts::new(item.spec.clone(), None, index))));
            }
            Record::WorkflowSubmitted { at, operation, spec, .. } => {
                let id = TaskId::derive(self.tag, at.0, *operation, 0);
                self.start_workflow(id, spec.clone(), index);
            }
            Record::StepBound { .. }
            | Record::StepUnbound { .. }
            | Record::StepSkipped { .. }
            | Record::CompensationBound { .. }
            | Record::CompensationUnbound { .. }
            | Record::WorkflowRetried { .. }
            | Record::WorkflowEnded { .. }
            | Record::ChildrenStarted { .. } => self.read_of_workflow(index, &record),
            Record::Granted { grants, .. } => grants.iter().for_each(|grant| self.grant(index, grant)),
            Record::Started { .. } | Record::TakenOutside { .. } => self.read_starts(index, &record),
            Record::Completed { results, .. } => results.iter().for_each(|result| self.complete(index, result)),
            Record::Released { releases, .. } => {
                releases.iter().for_each(|release| self.epoch(index, release.fence, |epoch| epoch.over = true));
            }
            Record::Expired { fences, .. } => {
                fences.iter().for_each(|fence| self.epoch(index, *fence, |epoch| epoch.over = true));
            }
            // It says when an attempt of a task that has ended was gone: the end does not rest on it.
            Record::AttemptsStopped { .. } | Record::Context(_) | Record::BytesPut { .. } => {}
            Record::Revived { fences, .. } => {
                let revive = |epoch: &mut EpochFacts| (epoch.held, epoch.over) = (index, false);
                fences.iter().for_each(|fence| self.epoch(index, *fence, revive));
            }
            Record::Buried { tasks, .. } => tasks.iter().for_each(|task| self.end(index, *task, TaskState::Dead)),
            Record::DeadlinePassed { tasks, .. } => {
                tasks.iter().for_each(|task| self.end(index, *task, TaskState::Failed));
            }
            Record::Cancelled { target, .. } => {
                self.end(index, *target, TaskState::Cancelled);
                self.end_workflow(*target, index);
            }
            Record::PrioritySet { task, .. } => self.touch(index, *task, |_| {}),
            Record::Checkpointed { checkpoints, .. } => {
                checkpoints.iter().for_each(|record| self.touch(index, record.fence.task, |_| {}));
            }
            Record::QueuePaused { .. }
            | Record::QueueResumed { .. }
            | Record::QueueCleared { .. }
            | Record::KeysForgotten { .. }
            | Record::Pruned { .. }
            | Record::Checkpoint { .. }
            | Record::Retried { .. } => self.read_upkeep(index, &record),
            Record::Schedule(record) => self.read_schedule(index, record),
            Record::Suspended { .. }
            | Record::Claimed { .. }
            | Record::Handover(_)
            | Record::Carried { .. }
            | Record::PermitsLent { .. }
            | Record::MemoryTally { .. } => {}
        }
        self.queue.read(index, &record);
        self.records.push(record);
    }

    fn grant(&mut self, index: LogIndex, grant: &GrantRecord) {
        let GrantRecord { task, epoch, token, worker, .. } = *grant;
        let (granted, started, over, outcome, outside) = (index, false, false, None, None);
        let granted = EpochFacts { epoch, token, worker, granted, held: index, started, over, outcome, outside };
        self.touch(index, task, |facts| facts.epochs.push(granted));
    }

    fn read_starts(&mut self, index: LogIndex, record: &Record) {
        match record {
            Record::Started { fences, .. } => fences.iter().for_each(|fence| self.start(index, *fence)),
            Record::TakenOutside { fence, worker, .. } => {
                self.start(index, *fence);
                self.epoch(index, *fence, |epoch| epoch.outside = Some((worker.clone(), index)));
            }
            _ => {}
        }
    }

    /// What people and time do to a queue.
    fn read_upkeep(&mut self, index: LogIndex, record: &Record) {
        match record {
            Record::QueueCleared { tasks, workflows, .. } => {
                tasks.iter().for_each(|task| self.end(index, *task, TaskState::Cancelled));
                workflows.iter().for_each(|workflow| self.end_workflow(*workflow, index));
            }
            Record::Pruned { tasks, workflows, .. } => {
                tasks.iter().for_each(|task| drop(self.tasks.remove(task)));
                workflows.iter().for_each(|workflow| drop(self.workflows.remove(workflow)));
            }
            Record::Retried { tasks, .. } => {
                for retried in tasks {
                    self.touch(index, retried.of, |_| {});
                    self.tasks.insert(retried.id, TaskFacts::new(retried.spec.clone(), None, index));
                }
            }
            Record::Checkpoint { before, .. } => _ = self.checkpoints.insert(*before, index),
            _ => {}
        }
    }

    fn read_of_workflow(&mut self, index: LogIndex, record: &Record) {
        match record {
            Record::StepBound { at, workflow, step, from, total, tasks, skipped } => {
                let ids = self.bind(index, *at, (*workflow, *step), (*from, *total), tasks);
                skipped.iter().for_each(|place| self.end(index, ids[*place as usize], TaskState::Skipped));
            }
            Record::StepUnbound { workflow, step, .. } => {
                if let Some(facts) = self.workflows.get_mut(workflow) {
                    facts.steps[*step as usize].unbound = true;
                }
                self.fail_step(*workflow, *step, index);
            }
            Record::CompensationBound { at, workflow, step, task } => {
                let retries = self.workflows.get(workflow).map_or(0, |facts| facts.retries);
                let id = TaskId::derive(self.tag, at.0, step_operation(*workflow, retries, step | COMPENSATION), 0);
                // Its failure is not the step's: it stands for itself.
                let facts = TaskFacts::new(task.clone(), None, index);
                self.tasks.insert(id, TaskFacts { part_of: Some(*workflow), ..facts });
            }
            Record::StepSkipped { .. } | Record::CompensationUnbound { .. } => {}
            Record::WorkflowRetried { at, workflow, steps, .. } => self.retry(index, *at, *workflow, steps),
            Record::WorkflowEnded { workflow, outputs, .. } => self.workflow_ended(*workflow, outputs.is_ok(), index),
            Record::ChildrenStarted { at, tasks } => self.start_children(index, *at, tasks),
            _ => {}
        }
    }

    fn complete(&mut self, index: LogIndex, result: &CompletionRecord) {
        self.start(index, result.fence);
        let outcome = Some((index, result.outcome.clone()));
        self.epoch(index, result.fence, |epoch| (epoch.outcome, epoch.over) = (outcome, true));
        match result.next {
            AfterAttempt::Succeeded => self.end(index, result.fence.task, TaskState::Succeeded),
            AfterAttempt::Failed => self.end(index, result.fence.task, TaskState::Failed),
            AfterAttempt::Dead => self.end(index, result.fence.task, TaskState::Dead),
            AfterAttempt::Retry { .. } => {}
        }
    }

    pub fn start_workflow(&mut self, id: WorkflowId, spec: Arc<WorkflowSpec>, index: LogIndex) {
        let steps = vec![StepFacts::default(); spec.steps.len()];
        let (ended, parent, retries) = (None, None, 0);
        self.workflows.insert(
            id,
            WorkflowFacts { spec, submitted: index, steps, ended, earlier_ends: Vec::new(), parent, retries },
        );
    }

    fn bind(
        &mut self,
        index: LogIndex,
        at: Wall,
        (workflow, step): (WorkflowId, u32),
        (from, total): (u32, u32),
        specs: &[Arc<TaskSpec>],
    ) -> Vec<TaskId> {
        let retries = self.workflows.get(&workflow).map_or(0, |facts| facts.retries);
        let operation = step_operation(workflow, retries, step);
        let mut ids = Vec::new();
        for (n, spec) in specs.iter().enumerate() {
            let id = TaskId::derive(self.tag, at.0, operation, from + n as u32);
            self.tasks.insert(id, TaskFacts::new(spec.clone(), Some((workflow, step)), index));
            if let Some(facts) = self.workflows.get_mut(&workflow) {
                facts.steps[step as usize].tasks.push(id);
            }
            ids.push(id);
        }
        if let Some(facts) = self.workflows.get_mut(&workflow) {
            facts.steps[step as usize].total = Some(total);
        }
        ids
    }

    fn has_ended(&self, task: &TaskId, states: &[TaskState]) -> bool {
        self.tasks.get(task).and_then(|facts| facts.end).is_some_and(|(state, _)| states.contains(&state))
    }

    /// Whether to those that need it, a step ended well.
    pub fn ended_well(&self, workflow: &WorkflowFacts, step: usize) -> bool {
        const GOOD: [TaskState; 2] = [TaskState::Succeeded, TaskState::Skipped];
        const BAD: [TaskState; 3] = [TaskState::Failed, TaskState::Dead, TaskState::Cancelled];
        let facts = &workflow.steps[step];
        let forgiven = workflow.spec.on_fail(&workflow.spec.steps[step]) == OnFail::Continue;
        let over = |task: &TaskId| self.has_ended(task, &GOOD) || (forgiven && self.has_ended(task, &BAD));
        let whole = facts.total == Some(facts.tasks.len() as u32) && facts.tasks.iter().all(over);
        if facts.unbound { forgiven } else { whole }
    }

    /// Steps run again: as they were where what they need stays as it is, else from their beginning.
    fn retry(&mut self, index: LogIndex, at: Wall, workflow: WorkflowId, steps: &[u32]) {
        let Some(mut facts) = self.workflows.remove(&workflow) else { return };
        let again: Vec<&String> = steps.iter().map(|step| &facts.spec.steps[*step as usize].name).collect();
        let resumes = |step: &&u32| {
            let (spec, entry) = (&facts.spec.steps[**step as usize], &facts.steps[**step as usize]);
            let succeeded = |task: &TaskId| self.has_ended(task, &[TaskState::Succeeded, TaskState::Skipped]);
            let whole = !entry.unbound && entry.total == Some(entry.tasks.len() as u32);
            let failed = !(whole && entry.tasks.iter().all(succeeded));
            failed && !entry.tasks.is_empty() && spec.needs.iter().all(|need| !again.contains(&need))
        };
        let resumed: Vec<u32> = steps.iter().filter(resumes).copied().collect();
        let of_run = |task: &&mut TaskFacts| task.step.is_some_and(|(of, _)| of == workflow) && task.end.is_none();
        self.tasks.values_mut().filter(of_run).for_each(|task| task.earlier_end = task.earlier_end.or(facts.ended));
        facts.earlier_ends.extend(facts.ended.take().map(|end| (end, at)));
        facts.retries += 1;
        for step in steps {
            let entry = &mut facts.steps[*step as usize];
            entry.unbound = false;
            if !resumed.contains(step) {
                *entry = StepFacts::default();
            }
            let operation = step_operation(workflow, facts.retries, *step);
            for (item, task) in (0..).zip(&mut entry.tasks) {
                if self.has_ended(task, &[TaskState::Succeeded, TaskState::Skipped]) {
                    continue;
                }
                let Some(old) = self.tasks.get(task) else { continue };
                let (spec, id) = (old.spec.clone(), TaskId::derive(self.tag, at.0, operation, item));
                self.tasks.insert(id, TaskFacts::new(spec, Some((workflow, *step)), index));
                *task = id;
            }
        }
        self.workflows.insert(workflow, facts);
    }

    fn touch(&mut self, index: LogIndex, task: TaskId, act: impl FnOnce(&mut TaskFacts)) {
        if let Some(facts) = self.tasks.get_mut(&task) {
            facts.touched = index;
            act(facts);
        }
    }

    fn epoch(&mut self, index: LogIndex, fence: Fence, act: impl FnOnce(&mut EpochFacts)) {
        self.touch(index, fence.task, |facts| {
            if let Some(epoch) = facts.epochs.iter_mut().find(|epoch| epoch.epoch == fence.epoch) {
                act(epoch);
            }
        });
    }

    fn start(&mut self, index: LogIndex, fence: Fence) {
        self.epoch(index, fence, |epoch| (epoch.started, epoch.held) = (true, index));
    }

    fn end(&mut self, index: LogIndex, task: TaskId, state: TaskState) {
        self.touch(index, task, |facts| {
            facts.end = Some((state, index));
            facts.epochs.iter_mut().for_each(|epoch| epoch.over = true);
        });
        self.stop_child(task, index);
        if !matches!(state, TaskState::Succeeded | TaskState::Skipped)
            && let Some((workflow, step)) = self.tasks.get(&task).and_then(|facts| facts.step)
        {
            self.fail_step(workflow, step, index);
        }
    }

    fn fail_step(&mut self, workflow: WorkflowId, step: u32, index: LogIndex) {
        let Some(facts) = self.workflows.get(&workflow) else { return };
        if facts.spec.on_fail(&facts.spec.steps[step as usize]).stops_at_once() {
            self.end_workflow(workflow, index);
        }
    }

    pub fn end_workflow(&mut self, workflow: WorkflowId, index: LogIndex) {
        let Some(facts) = self.workflows.get_mut(&workflow).filter(|facts| facts.ended.is_none()) else { return };
        facts.ended = Some(index);
        let parent = facts.parent;
        self.stop_tasks_of(workflow, index);
        // No drawn policy starts a child that failed again.
        if let Some(parent) = parent {
            self.end(index, parent, TaskState::Failed);
        }
    }

    /// What a workflow had running stops with it, workflows in its steps too.
    fn stop_tasks_of(&mut self, workflow: WorkflowId, index: LogIndex) {
        let of_it = self.tasks.iter_mut().filter(|(_, facts)| facts.part_of == Some(workflow));
        let mut parents = Vec::new();
        for (id, facts) in of_it {
            facts.epochs.iter_mut().for_each(|epoch| epoch.over = true);
            parents.extend(facts.spec.workflow.is_some().then_some(*id));
        }
        parents.into_iter().for_each(|parent| self.stop_child(parent, index));
    }

    /// The workflow that a task stands for ends with the task.
    fn stop_child(&mut self, parent: TaskId, index: LogIndex) {
        let child = self.workflows.iter_mut().find(|(_, facts)| facts.parent == Some(parent) && facts.ended.is_none());
        if let Some((child, facts)) = child {
            facts.ended = Some(index);
            let child = *child;
            self.stop_tasks_of(child, index);
        }
    }

    fn workflow_ended(&mut self, workflow: WorkflowId, well: bool, index: LogIndex) {
        if !well {
            return self.end_workflow(workflow, index);
        }
        let Some(facts) = self.workflows.get_mut(&workflow).filter(|facts| facts.ended.is_none()) else { return };
        facts.ended = Some(index);
        if let Some(parent) = facts.parent {
            self.end(index, parent, TaskState::Succeeded);
        }
    }

    fn start_children(&mut self, index: LogIndex, at: Wall, tasks: &[TaskId]) {
        tasks.iter().for_each(|task| self.start_child(index, at, *task));
    }

    /// The workflow that a task of kind `workflow` stands for: its id follows from the task, which has no attempt yet.
    fn start_child(&mut self, index: LogIndex, at: Wall, task: TaskId) {
        let Some(spec) = self.tasks.get(&task).and_then(|facts| facts.spec.workflow.clone()) else { return };
        let mut operation = [0xff; 16];
        operation[..12].copy_from_slice(&task.ulid.to_be_bytes()[4..]);
        let child = TaskId::derive(self.tag, at.0, OperationId(operation), 0);
        self.touch(index, task, |_| {});
        self.start_workflow(child, spec, index);
        if let Some(facts) = self.workflows.get_mut(&child) {
            facts.parent = Some(task);
        }
    }
}
