//! Queues that are held back and queues that are emptied: recorded, so that a restart forgets neither.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::effects::{Gate, ReplyTo};
use super::ledger::Ledger;
use super::operations::Done;
use super::protocol::{LedgerReply, Refusal, WorkflowState};
use super::record::{Record, Unwritten};
use super::state::State;
use super::submit::reused;
use super::task_entry::Task;
use super::workflow_run::WorkflowRun;
use crate::ids::{LogIndex, OperationId, TaskId, WorkflowId};
use crate::limits;
use crate::task::{Durability, TaskError, TaskState};
use crate::time::Wall;

/// What a home holds back: tasks of these are accepted and, if they run, go on; none is granted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Paused {
    /// Grows with each pause, resume and clear.
    pub version: u64,
    whole: Option<Pause>,
    namespaces: BTreeMap<String, Pause>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pause {
    pub since: Wall,
    pub reason: String,
}

/// A queue that is held back: a namespace's, or without one the whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PausedView {
    pub namespace: Option<String>,
    pub since: Wall,
    pub reason: String,
}

impl Paused {
    pub fn pause(&mut self, namespace: Option<String>, pause: Pause) {
        self.version += 1;
        match namespace {
            Some(namespace) => drop(self.namespaces.insert(namespace, pause)),
            None => self.whole = Some(pause),
        }
    }

    /// Of the whole: what holds a single namespace stays.
    pub fn resume(&mut self, namespace: Option<&str>) {
        self.version += 1;
        match namespace {
            Some(namespace) => drop(self.namespaces.remove(namespace)),
            None => self.whole = None,
        }
    }

    /// Whether exactly this, a namespace or the whole, is paused.
    fn has(&self, namespace: Option<&str>) -> bool {
        namespace.map_or(self.whole.is_some(), |namespace| self.namespaces.contains_key(namespace))
    }

    pub fn holds(&self, namespace: &str) -> bool {
        self.whole.is_some() || self.namespaces.contains_key(namespace)
    }

    /// Why tasks of a namespace are held back, in words.
    pub fn why_held(&self, namespace: &str) -> Option<String> {
        let whole = self.whole.as_ref().map(|pause| ("the queue is".to_owned(), pause));
        let part = || self.namespaces.get(namespace).map(|pause| (format!("the namespace {namespace} is"), pause));
        let (what, pause) = whole.or_else(part)?;
        let reason = if pause.reason.is_empty() { String::new() } else { format!(" ({})", pause.reason) };
        Some(format!("{what} paused since {}{reason}; `nodectl queue resume` lets it go on", pause.since))
    }

    pub fn views(&self) -> Vec<PausedView> {
        let whole = self.whole.iter().map(|pause| (None, pause));
        let parts = self.namespaces.iter().map(|(namespace, pause)| (Some(namespace.clone()), pause));
        let view = |(namespace, pause): (Option<String>, &Pause)| PausedView {
            namespace,
            since: pause.since,
            reason: pause.reason.clone(),
        };
        whole.chain(parts).map(view).collect()
    }
}

/// What a clear takes: of each list as much as a record holds.
#[derive(Default)]
struct Cleared {
    tasks: Vec<TaskId>,
    workflows: Vec<WorkflowId>,
}

impl Ledger {
    /// Pauses or resumes, as `record` says. What is so already is left as it is.
    pub(super) fn set_queue(
        &mut self,
        operation: OperationId,
        namespace: Option<&str>,
        version: u64,
        record: impl FnOnce(Wall) -> Record,
        reply: ReplyTo,
    ) {
        match self.operations.find(&operation) {
            Some(Done::QueueSet) => return self.answer_queue(self.gate_of_all(), reply),
            Some(_) => return self.refuse(reply, reused(operation)),
            None => {}
        }
        let paused = &self.state.paused;
        if version != paused.version {
            let refusal = LedgerReply::Refused(Refusal::QueueChanged { version: paused.version });
            return self.reply(self.gate_of_all(), reply, refusal);
        }
        let record = record(self.at());
        let pauses = matches!(record, Record::QueuePaused { .. });
        if let Err(refusal) = self.check_pause(&record) {
            return self.refuse(reply, refusal);
        }
        if self.state.paused.has(namespace) == pauses {
            return self.answer_queue(self.gate_of_all(), reply);
        }
        self.operations.remember(&record);
        let index = self.commit(Durability::Sync, record);
        self.ready.hold(&self.state.paused);
        // What is held back asks for no permits.
        self.permits.stir_each(self.ready.gates.keys());
        self.grants_due = true;
        self.answer_queue(Gate::Synced(index), reply);
    }

    /// After a start.
    pub(super) fn hold_what_is_paused(&mut self) {
        #[cfg(feature = "canary")]
        if crate::canary::has(crate::canary::Bug::PauseForgotten) {
            return;
        }
        self.ready.hold(&self.state.paused);
    }

    fn check_pause(&self, record: &Record) -> Result<(), Refusal> {
        let Record::QueuePaused { namespace, reason, .. } = record else { return Ok(()) };
        check_reason(reason)?;
        let Some(namespace) = namespace else { return Ok(()) };
        if namespace.is_empty() || namespace.len() > limits::NAME_BYTES_MAX {
            let fix = format!("write 1 to {} bytes", limits::NAME_BYTES_MAX);
            return Err(Refusal::invalid("/namespace", "the name is empty or too long", fix));
        }
        let paused = &self.state.paused.namespaces;
        if paused.len() >= limits::PAUSED_NAMESPACES_MAX && !paused.contains_key(namespace) {
            let problem = format!("{} namespaces are paused", paused.len());
            return Err(Refusal::invalid("/namespace", problem, "pause the whole queue, or resume some"));
        }
        Ok(())
    }

    fn answer_queue(&mut self, gate: Gate, reply: ReplyTo) {
        let paused = &self.state.paused;
        let answer = LedgerReply::Queue { version: paused.version, paused: paused.views() };
        self.reply(gate, reply, answer);
    }

    /// `memory` tasks are not written, so neither is that they are cleared; all others go with one record.
    pub(super) fn clear_queue(
        &mut self,
        operation: OperationId,
        namespace: Option<String>,
        up_to: LogIndex,
        reply: ReplyTo,
    ) {
        match self.operations.find(&operation) {
            Some(Done::Cleared { tasks, workflows, left }) => {
                return self.reply(self.gate_of_all(), reply, LedgerReply::Cleared { tasks, workflows, left });
            }
            Some(_) => return self.refuse(reply, reused(operation)),
            None => {}
        }
        let ([in_memory, written], left) = self.to_clear(namespace.as_deref(), up_to);
        let tasks = (in_memory.tasks.len() + written.tasks.len()) as u64;
        let workflows = (in_memory.workflows.len() + written.workflows.len()) as u64;
        let at = self.at();
        let unwritten = Unwritten { tasks: in_memory.tasks.len() as u64, workflows: in_memory.workflows.len() as u64 };
        let record = |cleared: Cleared, unwritten| {
            let (namespace, Cleared { tasks, workflows }) = (namespace.clone(), cleared);
            Record::QueueCleared { at, operation, namespace, up_to, tasks, workflows, left, unwritten }
        };
        if unwritten != Unwritten::default() {
            self.commit(Durability::Memory, record(in_memory, Unwritten::default()));
        }
        let record = record(written, unwritten);
        self.operations.remember(&record);
        let index = self.commit(Durability::Sync, record);
        self.reply(Gate::Synced(index), reply, LedgerReply::Cleared { tasks, workflows, left });
    }

    /// What stands unstarted in the queue, apart by whether it is written, and how much more than a record holds.
    ///
    /// A step's task goes with its workflow or not at all: a workflow that has begun goes on. A held call is no work of the
    /// queue: who made it waits for a person's answer.
    fn to_clear(&self, namespace: Option<&str>, up_to: LogIndex) -> ([Cleared; 2], u64) {
        let of_namespace = |other: &str| namespace.is_none_or(|namespace| namespace == other);
        let waits = |task: &&Task| {
            matches!(task.state, TaskState::Ready | TaskState::Delayed)
                && task.kin.step.is_none()
                && !task.is_held_call()
                && task.accepted <= up_to
                && of_namespace(&task.spec.namespace)
        };
        let unbegun = |run: &&WorkflowRun| {
            run.state == WorkflowState::Running
                && run.accepted <= up_to
                && of_namespace(&run.spec.namespace)
                && !self.is_a_step(run)
                && !self.has_begun(run)
        };
        let mut cleared = [Cleared::default(), Cleared::default()];
        let (mut taken, mut left) = (0, 0);
        let mut take = || {
            taken += 1;
            left += u64::from(taken > limits::CLEAR_LEN_MAX);
            taken <= limits::CLEAR_LEN_MAX
        };
        for task in self.state.order.iter().filter_map(|id| self.state.tasks.get(id)).filter(waits) {
            if take() {
                cleared[usize::from(task.durability() != Durability::Memory)].tasks.push(task.id);
            }
        }
        for run in self.state.workflows.values().filter(unbegun) {
            if take() {
                cleared[usize::from(run.spec.durability != Durability::Memory)].workflows.push(run.id);
            }
        }
        (cleared, left)
    }

    /// Whether a workflow was started for a step of another.
    fn is_a_step(&self, run: &WorkflowRun) -> bool {
        run.parent.and_then(|id| self.state.tasks.get(&id)).is_some_and(|task| task.kin.child == Some(run.id))
    }

    /// Whether any task of a workflow was ever granted or started, or is over.
    fn has_begun(&self, run: &WorkflowRun) -> bool {
        let mut tasks = run.steps.iter().flat_map(|step| &step.tasks).filter_map(|id| self.state.tasks.get(id));
        tasks.any(|task| task.epoch.0 > 0 || task.attempts > 0 || task.state.is_terminal())
    }
}

impl State {
    pub(super) fn clear(&mut self, index: LogIndex, at: Wall, tasks: &[TaskId], workflows: &[WorkflowId]) {
        const REASON: &str = "the queue was cleared";
        // What is not written makes no version either: the record beside it does.
        self.paused.version += u64::from(index > LogIndex(0));
        for id in tasks {
            let error = TaskError::new("cancelled", REASON);
            self.change(index, at, *id, |task| task.fail_with(at, TaskState::Cancelled, error));
        }
        for id in workflows {
            self.cancel(index, at, *id, REASON);
        }
    }
}

/// What is written down of why somebody did something.
pub(super) fn check_reason(reason: &str) -> Result<(), Refusal> {
    if reason.len() > limits::ERROR_BYTES_MAX {
        let problem = format!("a reason of {} bytes", reason.len());
        return Err(Refusal::invalid("/reason", problem, format!("write at most {}", limits::ERROR_BYTES_MAX)));
    }
    Ok(())
}
