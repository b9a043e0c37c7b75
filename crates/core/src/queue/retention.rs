//! How long ended work is kept: a while, within a budget of bytes, the oldest goes first.
//!
//! Derived from the tasks as they are; only that they are gone is recorded.

use std::collections::{BTreeMap, BTreeSet};

use super::ledger::Ledger;
use super::task_entry::Task;
use super::workflow_run::WorkflowRun;
use crate::ids::{TaskId, WorkflowId};
use crate::limits;
use crate::payload::Payload;
use crate::task::{TaskError, TaskState};
use crate::time::{DurationMs, Wall};

/// What a home keeps of what has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// After the end of a task or a workflow.
    pub terminal: DurationMs,
    /// After the end of a dead task, or of a workflow with one.
    pub dead: DurationMs,
    /// Bytes of all tasks together, as their home keeps them.
    pub bytes_max: u64,
}

impl Default for RetentionPolicy {
    fn default() -> Self {
        Self {
            terminal: DurationMs(limits::RETENTION_TERMINAL_MS),
            dead: DurationMs(limits::RETENTION_DEAD_MS),
            bytes_max: limits::RETENTION_BYTES_MAX,
        }
    }
}

/// Ended work by when it goes. A step's task goes with its workflow.
#[derive(Debug, Clone, Default)]
pub(super) struct Retention {
    policy: RetentionPolicy,
    by_end: BTreeSet<(Wall, TaskId)>,
    by_due: BTreeSet<(Wall, TaskId)>,
    /// A workflow may run again: where it stands in the two above.
    workflows: BTreeMap<WorkflowId, (Wall, Wall)>,
    bytes: u64,
}

impl Retention {
    /// A task came, or ended: it takes as many bytes as it has now.
    pub fn weigh(&mut self, task: &mut Task) {
        let bytes = bytes_of(task);
        self.bytes = self.bytes + u64::from(bytes) - u64::from(task.soft.bytes);
        task.soft.bytes = bytes;
    }

    /// A task ended that belongs to no workflow.
    pub fn ended(&mut self, task: &Task) {
        let (end, due) = self.times(task);
        self.by_end.insert((end, task.id));
        self.by_due.insert((due, task.id));
    }

    fn times(&self, task: &Task) -> (Wall, Wall) {
        let end = task.finished.unwrap_or_default();
        let usual = if task.state == TaskState::Dead { self.policy.dead } else { self.policy.terminal };
        (end, Wall(end.0.saturating_add(task.spec.retention.unwrap_or(usual).0)))
    }

    /// A workflow ended, in it a dead task or none.
    pub fn workflow_ended(&mut self, run: &WorkflowRun, with_dead: bool) {
        self.workflow_goes_on(run.id);
        let end = run.finished.unwrap_or_default();
        let kept = if with_dead { self.policy.dead } else { self.policy.terminal };
        let due = Wall(end.0.saturating_add(kept.0));
        self.by_end.insert((end, run.id));
        self.by_due.insert((due, run.id));
        self.workflows.insert(run.id, (end, due));
    }

    /// A workflow that ended is still needed: it is looked at again later, and keeps none from going meanwhile.
    fn postpone(&mut self, id: WorkflowId, now: Wall) {
        self.workflow_goes_on(id);
        let due = Wall(now.0.saturating_add(limits::RETENTION_NEEDED_MS));
        let end = Wall(due.0.saturating_sub(limits::RETENTION_MS_MIN));
        self.by_end.insert((end, id));
        self.by_due.insert((due, id));
        self.workflows.insert(id, (end, due));
    }

    /// A workflow runs, perhaps again, or is gone.
    pub fn workflow_goes_on(&mut self, id: WorkflowId) {
        if let Some((end, due)) = self.workflows.remove(&id) {
            self.by_end.remove(&(end, id));
            self.by_due.remove(&(due, id));
        }
    }

    pub fn removed(&mut self, task: &Task) {
        self.bytes -= u64::from(task.soft.bytes);
        let (end, due) = self.times(task);
        self.by_end.remove(&(end, task.id));
        self.by_due.remove(&(due, task.id));
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn bytes_max(&self) -> u64 {
        self.policy.bytes_max
    }

    pub fn is_full(&self) -> bool {
        self.bytes > self.policy.bytes_max
    }

    /// When the next of what has ended goes.
    pub fn next_due(&self) -> Option<Wall> {
        self.by_due.first().map(|(due, _)| *due)
    }

    /// When the oldest end may go though its time is not over.
    pub fn next_to_give_way(&self) -> Option<Wall> {
        self.by_end.first().map(|(end, _)| Wall(end.0 + limits::RETENTION_MS_MIN))
    }

    /// What goes now, the oldest first: what is due, and beyond the budget what is not too young.
    fn going(&self, now: Wall, bytes: impl Fn(&TaskId) -> u64) -> Vec<TaskId> {
        let due = self.by_due.iter().take_while(|(due, _)| *due <= now).map(|(_, id)| *id);
        let mut going: Vec<TaskId> = due.take(limits::PRUNE_LEN_MAX).collect();
        let mut excess = self.bytes.saturating_sub(self.policy.bytes_max);
        let old = self.by_end.iter().take_while(|(end, _)| end.0 + limits::RETENTION_MS_MIN <= now.0);
        for (_, id) in old.take(limits::PRUNE_LEN_MAX) {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(bytes(id));
            going.push(*id);
        }
        going.sort_unstable();
        going.dedup();
        going
    }
}

impl Ledger {
    /// Keeps ended work as `policy` says from now on.
    pub fn set_retention(&mut self, policy: RetentionPolicy) {
        self.retention = Retention { policy, bytes: self.retention.bytes, ..Retention::default() };
        for task in self.state.tasks.values().filter(|task| task.state.is_terminal() && task.kin.step.is_none()) {
            self.retention.ended(task);
        }
        let runs: Vec<WorkflowId> = self.state.workflows.keys().copied().collect();
        runs.into_iter().for_each(|id| self.keep_workflow(id));
    }

    /// Notes whether a workflow is over, and what it leaves.
    pub(super) fn keep_workflow(&mut self, id: WorkflowId) {
        let Some(run) = self.state.workflows.get(&id) else { return self.retention.workflow_goes_on(id) };
        if !run.state.is_terminal() {
            return self.retention.workflow_goes_on(id);
        }
        let with_dead = self.tasks_of(run).any(|task| task.state == TaskState::Dead);
        self.retention.workflow_ended(&self.state.workflows[&id], with_dead);
    }

    fn tasks_of<'a>(&'a self, run: &'a WorkflowRun) -> impl Iterator<Item = &'a Task> {
        run.all_tasks().filter_map(move |id| self.state.tasks.get(&id))
    }

    /// Whether an ended workflow has tasks that are not over, or is itself a part of one that is not.
    fn is_needed(&self, run: &WorkflowRun) -> bool {
        let part_of = run.parent.and_then(|id| self.state.tasks.get(&id)).and_then(|task| task.kin.step);
        part_of.is_some_and(|link| self.workflow_is_running(&link.workflow))
            || self.tasks_of(run).any(|task| !task.state.is_terminal())
    }

    /// Lets go what is not kept any longer, so much at a time that nobody waits for it. While the wall clock cannot be
    /// believed nothing goes.
    pub(super) fn prune(&mut self) {
        if self.clock_watch.is_raised() {
            return;
        }
        let bytes = |id: &TaskId| match (self.state.tasks.get(id), self.state.workflows.get(id)) {
            (Some(task), _) => u64::from(task.soft.bytes),
            (None, Some(run)) => self.tasks_of(run).map(|task| u64::from(task.soft.bytes)).sum(),
            (None, None) => 0,
        };
        let now = Wall(self.now.wall_ms);
        let going = self.retention.going(now, bytes);
        let (mut tasks, mut workflows, mut needed) = (Vec::new(), Vec::new(), Vec::new());
        for id in going {
            match self.state.workflows.get(&id) {
                None => tasks.push(id),
                Some(run) if self.is_needed(run) => needed.push(id),
                Some(run) => {
                    tasks.extend(self.tasks_of(run).map(|task| task.id));
                    workflows.push(id);
                }
            }
            // A large workflow fills a record by itself.
            if tasks.len() >= limits::PRUNE_LEN_MAX {
                break;
            }
        }
        needed.into_iter().for_each(|id| self.retention.postpone(id, now));
        if !(tasks.is_empty() && workflows.is_empty()) {
            self.commit_pruned(None, tasks, workflows);
        }
    }
}

/// Bytes that a task takes, more or less: its values and texts, and a little for the rest.
fn bytes_of(task: &Task) -> u32 {
    let spec = &*task.spec;
    let values = spec.needs.values().chain([&spec.input]).chain(&task.output).map(Payload::inline_bytes);
    let texts = spec.run.iter().map(String::len);
    let labels = spec.labels.iter().map(|(key, value)| key.len() + value.len());
    let errors = task.past.error.iter().chain(&task.past.earlier_errors).map(|error: &TaskError| error.message.len());
    let printed = [task.past.log_tail.len(), task.input.as_ref().map_or(0, |input| input.as_str().len())];
    let bytes = values.chain(texts).chain(labels).chain(errors).chain(printed).sum::<usize>();
    u32::try_from(bytes + limits::TASK_BYTES_MIN).unwrap_or(u32::MAX)
}
