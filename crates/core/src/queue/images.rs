//! What a home carries forward when old records go, and how a replay that begins behind them gets whole again.
//!
//! A replay of a cut log is *partial* until its checkpoint. What one record does to many (a workflow and the tasks of
//! its steps, a schedule and its runs) is followed through images only: they wait aside, and whatever moved since a
//! pass began is carried once more right before the checkpoint. A task that stands by itself is known from its image,
//! or its submission, on.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::contexts::{Context, Contexts};
use super::keys::{KeyEntry, KeyName};
use super::limit_keys::Limit;
use super::operations::DoneOperation;
use super::paused::Paused;
use super::protocol::{TaskCounts, WorkflowState};
use super::schedule::Schedule;
use super::schedule_record::{ScheduleChange, ScheduleRecord};
use super::state::State;
use super::suspension::Standing;
use super::task_entry::Task;
use super::tasks::Tasks;
use super::usage::{Usage, UsageImage};
use super::workflow_run::{StepPhase, WorkflowRun};
use crate::dag::Graph;
use crate::ids::{ContextId, Generation, LogIndex, PeerId, ScheduleId, TaskId, WorkflowId};
use crate::limiter::{LimitKey, LoanFacts, RateMark};
use crate::task::{Durability, TaskSpec, TaskState};

/// Tasks, workflows, schedules and idempotency keys as they stand.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Carried {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tasks: Vec<Task>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) workflows: Vec<WorkflowRun>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) schedules: Vec<Schedule>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) keys: Vec<KeyImage>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct KeyImage {
    pub name: Arc<KeyName>,
    pub entry: KeyEntry,
}

/// What stands in no task, no workflow and no schedule.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    pub(super) generation: Generation,
    pub(super) standing: Standing,
    pub(super) lost: u64,
    pub(super) memory_submitted: u64,
    pub(super) memory_terminal: u64,
    pub(super) fenced_total: u64,
    pub(super) released_total: u64,
    pub(super) expired_total: u64,
    pub(super) retried_total: u64,
    pub(super) commits_by_worker: Vec<(PeerId, u64)>,
    pub(super) rate_marks: Vec<(LimitKey, RateMark)>,
    /// Each with the limit that it is of.
    pub(super) loans: Vec<(Limit, LoanFacts)>,
    pub(super) paused: Paused,
    pub(super) contexts: Vec<(ContextId, Context)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) usage: Vec<UsageImage>,
    pub(super) pruned: TaskCounts,
    pub(super) pruned_newest: Option<TaskId>,
    /// Those that no kept record tells of.
    pub(super) operations: Vec<DoneOperation>,
}

/// What a replay of a cut log keeps aside.
#[derive(Debug, Clone)]
pub(super) struct Partial {
    /// The first record that it has.
    first: LogIndex,
    tasks: BTreeMap<TaskId, Task>,
    workflows: BTreeMap<WorkflowId, WorkflowRun>,
    schedules: BTreeMap<ScheduleId, Schedule>,
}

impl Partial {
    pub fn from(first: LogIndex) -> Self {
        Self { first, tasks: BTreeMap::new(), workflows: BTreeMap::new(), schedules: BTreeMap::new() }
    }

    /// Removes what was pruned after it was carried.
    pub fn forget(&mut self, tasks: &[TaskId], workflows: &[WorkflowId]) {
        tasks.iter().for_each(|id| drop(self.tasks.remove(id)));
        workflows.iter().for_each(|id| drop(self.workflows.remove(id)));
    }

    /// Schedules are taken from images as well; all that these do not say is that one is gone.
    pub fn hear_of_schedule(&mut self, record: &ScheduleRecord) {
        if let ScheduleRecord::Changed { schedule, change: ScheduleChange::Remove, .. } = record {
            self.schedules.remove(schedule);
        }
    }
}

impl State {
    /// The sums as they stand. Every field of the state is either here, in an image, or made from them: a new one is
    /// to be put where it belongs.
    pub(super) fn totals(&self, operations: Vec<DoneOperation>) -> Totals {
        let Self {
            // In images, or made from them.
            tag: _,
            tasks: _,
            order: _,
            workflows: _,
            keys: _,
            schedules: _,
            children: _,
            counts: _,
            submitted: _,
            workflows_running: _,
            // Of this process, or of each record.
            pruned_memory,
            partial: _,
            cut: _,
            last_at: _,
            last_index: _,
            templates: _,
            changes: _,
            generation,
            standing,
            lost,
            memory_submitted,
            memory_terminal,
            fenced_total,
            released_total,
            expired_total,
            retried_total,
            commits_by_worker,
            rate_marks,
            loans,
            paused,
            contexts,
            usage,
            pruned,
            pruned_newest,
        } = self;
        let of_limit = |(limit, homes): (&Limit, &BTreeMap<_, LoanFacts>)| {
            homes.values().map(|facts| (limit.clone(), *facts)).collect::<Vec<_>>()
        };
        Totals {
            generation: *generation,
            standing: standing.clone(),
            lost: *lost,
            memory_submitted: *memory_submitted,
            memory_terminal: *memory_terminal,
            fenced_total: *fenced_total,
            released_total: *released_total,
            expired_total: *expired_total,
            retried_total: *retried_total,
            commits_by_worker: commits_by_worker.iter().map(|(worker, commits)| (*worker, *commits)).collect(),
            rate_marks: rate_marks.iter().map(|(key, mark)| (key.clone(), *mark)).collect(),
            loans: loans.iter().flat_map(of_limit).collect(),
            paused: paused.clone(),
            contexts: contexts.images(),
            usage: usage.images(),
            pruned: less(pruned, pruned_memory),
            pruned_newest: *pruned_newest,
            operations,
        }
    }

    fn restore(&mut self, before: LogIndex, totals: &Totals) {
        let Totals {
            generation,
            standing,
            lost,
            memory_submitted,
            memory_terminal,
            fenced_total,
            released_total,
            expired_total,
            retried_total,
            commits_by_worker,
            rate_marks,
            loans,
            paused,
            contexts,
            usage,
            pruned,
            pruned_newest,
            operations: _,
        } = totals;
        self.cut = self.cut.max(before);
        (self.generation, self.standing, self.lost) = (*generation, standing.clone(), *lost);
        (self.memory_submitted, self.memory_terminal) = (*memory_submitted, *memory_terminal);
        (self.released_total, self.expired_total) = (*released_total, *expired_total);
        (self.retried_total, self.fenced_total) = (*retried_total, *fenced_total);
        self.commits_by_worker = commits_by_worker.iter().copied().collect();
        self.rate_marks = rate_marks.iter().cloned().collect();
        self.loans.clear();
        for (limit, facts) in loans {
            self.loans.entry(limit.clone()).or_default().insert(facts.borrower, *facts);
        }
        self.paused.clone_from(paused);
        self.contexts = Contexts::of(contexts);
        self.usage = Usage::of(usage);
        (self.pruned, self.pruned_newest) = (pruned.plus(&self.pruned_memory), *pruned_newest);
    }

    /// To a state that knows all of it an image says only from which record on a shorter log knows it too.
    pub(super) fn carry(&mut self, index: LogIndex, carried: &Carried) {
        if self.partial.is_some() {
            return self.take_images(index, carried);
        }
        for image in &carried.tasks {
            self.tasks.get_mut(&image.id).into_iter().for_each(|task| task.base = index);
        }
        for image in &carried.workflows {
            self.workflows.get_mut(&image.id).into_iter().for_each(|run| run.base = index);
        }
        for image in &carried.schedules {
            self.schedules.get_mut(&image.id).into_iter().for_each(|schedule| schedule.base = index);
        }
    }

    fn take_images(&mut self, index: LogIndex, carried: &Carried) {
        let mut shared: Option<(Arc<TaskSpec>, Arc<str>)> = None;
        for image in &carried.tasks {
            let mut task = Task { base: index, ..image.clone() };
            share(shared.as_ref(), &mut task);
            shared = Some((task.spec.clone(), task.owner.clone()));
            match &mut self.partial {
                Some(partial) if is_related(&task) => drop(partial.tasks.insert(task.id, task)),
                Some(_) | None => self.place(task),
            }
        }
        if let Some(partial) = &mut self.partial {
            partial.workflows.extend(carried.workflows.iter().map(|image| (image.id, drawn(image, index))));
            let schedules = carried.schedules.iter().map(|image| Schedule { base: index, ..image.clone() });
            partial.schedules.extend(schedules.map(|schedule| (schedule.id, schedule)));
        }
        for KeyImage { name, entry } in &carried.keys {
            self.keys.put(name.clone(), *entry);
        }
    }

    fn place(&mut self, task: Task) {
        let (id, state) = (task.id, task.state);
        self.order.insert(id);
        match self.tasks.insert(task) {
            Some(earlier) => self.counts.shift(earlier.state, state),
            None => self.counts.add(state, 1),
        }
    }

    pub(super) fn checkpoint(&mut self, before: LogIndex, totals: &Totals) {
        match self.partial.take() {
            // An earlier pass's: it does not make up for what is missing here.
            Some(partial) if before < partial.first => self.partial = Some(partial),
            Some(partial) => {
                let Partial { first: _, tasks, workflows, schedules } = *partial;
                tasks.into_values().for_each(|task| self.place(task));
                (self.workflows, self.schedules) = (workflows, schedules);
                self.restore(before, totals);
                self.recount();
            }
            None => self.restore(before, totals),
        }
    }

    /// Makes what follows from tasks and workflows: while the state was partial it counted what it did not know.
    fn recount(&mut self) {
        settle_waiting(&mut self.workflows, &self.tasks);
        self.find_children();
        let mut counts = self.pruned;
        self.tasks.values().for_each(|task| counts.add(task.state, 1));
        for run in self.workflows.values() {
            counts = counts.plus(&run.placeholders());
            counts.add(TaskState::Blocked, run.unbound());
        }
        self.counts = counts;
        self.submitted = counts.total() + self.lost;
        let running = self.workflows.values().filter(|run| run.state == WorkflowState::Running);
        self.workflows_running = running.count() as u64;
    }

    fn find_children(&mut self) {
        let of_tasks = self.tasks.values().filter_map(|task| Some((task.spec.parent?, task.id)));
        // One that is the attempt of a task, or a schedule's, was not submitted.
        let submitted = self.workflows.values().filter(|run| run.parent == run.spec.parent);
        let of_runs = submitted.filter_map(|run| Some((run.parent?, run.id)));
        let found: Vec<(TaskId, TaskId)> = of_tasks.chain(of_runs).collect();
        self.children.clear();
        found.into_iter().for_each(|(parent, child)| self.add_child(Some(parent), child));
    }
}

/// Whether a record that does not name this task may change it: one about its workflow, its parent, its child.
pub(super) fn is_related(task: &Task) -> bool {
    task.kin.step.is_some() || task.spec.parent.is_some() || task.is_workflow()
}

/// Whether the log knows it.
pub(super) fn is_written(durability: Durability) -> bool {
    durability != Durability::Memory
}

/// That a delayed task's time has come is not written, so the image of its step may say so and its own not.
fn settle_waiting(workflows: &mut BTreeMap<WorkflowId, WorkflowRun>, tasks: &Tasks) {
    let running = workflows.values_mut().filter(|run| run.state == WorkflowState::Running);
    for step in running.flat_map(|run| &mut run.steps).filter(|step| step.phase == StepPhase::Active) {
        let delayed = |id: &&TaskId| tasks.get(id).is_some_and(|task| task.state == TaskState::Delayed);
        let waiting = step.counts.delayed + step.counts.ready;
        step.counts.delayed = step.tasks.iter().filter(delayed).count() as u64;
        step.counts.ready = waiting.saturating_sub(step.counts.delayed);
    }
}

fn drawn(image: &WorkflowRun, index: LogIndex) -> WorkflowRun {
    let graph = Graph::of(&image.spec).expect("the graph was checked when the workflow was submitted");
    WorkflowRun { graph, base: index, ..image.clone() }
}

/// Tasks that were submitted together share their specification and their owner's name; so do their images again.
fn share(before: Option<&(Arc<TaskSpec>, Arc<str>)>, task: &mut Task) {
    let Some((spec, owner)) = before else { return };
    if *owner == task.owner {
        task.owner = owner.clone();
    }
    if *spec == task.spec {
        task.spec = spec.clone();
    }
}

/// Without those that it counts too.
fn less(counts: &TaskCounts, others: &TaskCounts) -> TaskCounts {
    let mut rest = TaskCounts::default();
    TaskState::ALL.into_iter().for_each(|state| rest.add(state, counts.of(state) - others.of(state)));
    rest
}
