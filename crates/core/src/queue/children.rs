//! Sub-workflows: a task of kind `workflow` stands for one, and its home runs it as the attempt of that task.

use super::ledger::Ledger;
use super::protocol::WorkflowState;
use super::record::{AfterAttempt, Record};
use super::state::State;
use super::task_entry::Task;
use super::workflow_run::WorkflowRun;
use crate::ids::{LogIndex, OperationId, TaskId, WorkflowId};
use crate::limits;
use crate::payload::{JsonText, Payload};
use crate::task::{TaskError, TaskKind, TaskState};
use crate::time::Wall;

/// The error of a task whose workflow did not succeed: `retry.retry_on` may name it.
pub(super) const CHILD_FAILED: &str = "workflow_failed";

impl Task {
    /// Whether its home runs it, and no worker.
    pub fn is_workflow(&self) -> bool {
        self.spec.kind == TaskKind::Workflow
    }

    /// The next attempt is the run of `child`.
    fn start_child(&mut self, at: Wall, child: WorkflowId) {
        self.count_attempt();
        self.attempt_started = at;
        self.started.get_or_insert(at);
        self.kin.child = Some(child);
        self.state = TaskState::Running;
    }

    fn end_child(&mut self, at: Wall, end: ChildEnd) {
        self.ran_ms += at.0.saturating_sub(self.attempt_started.0);
        match end {
            ChildEnd::Succeeded(outputs) => {
                self.output = Some(Payload::Inline(outputs));
                self.close_errors();
                self.end(at, TaskState::Succeeded);
            }
            ChildEnd::Failed(error, AfterAttempt::Retry { due, delay_ms }) => self.retry_later(error, due, delay_ms),
            ChildEnd::Failed(error, AfterAttempt::Dead) => self.fail_with(at, TaskState::Dead, error),
            ChildEnd::Failed(error, AfterAttempt::Failed | AfterAttempt::Succeeded) => {
                self.fail_with(at, TaskState::Failed, error);
            }
            ChildEnd::Cancelled(error) => self.fail_with(at, TaskState::Cancelled, error),
        }
    }
}

/// What the end of a child means for the task that stands for it.
enum ChildEnd {
    Succeeded(JsonText),
    Failed(TaskError, AfterAttempt),
    Cancelled(TaskError),
}

/// The `n`-th child of a task has its id from here.
fn child_operation(task: TaskId) -> OperationId {
    let mut bytes = [0xff; 16];
    bytes[..12].copy_from_slice(&task.ulid.to_be_bytes()[4..]);
    OperationId(bytes)
}

impl State {
    pub(super) fn start_child(&mut self, index: LogIndex, at: Wall, id: TaskId) {
        let Some(task) = self.tasks.get(&id).filter(|task| !task.state.is_terminal()) else { return };
        let Some(spec) = task.spec.workflow.clone() else { return };
        let child = TaskId::derive(self.tag, at.0, child_operation(id), task.attempts);
        let mut run = WorkflowRun::new(child, spec, task.owner.clone(), task.clock_root, at);
        run.parent = Some(id);
        self.change(index, at, id, |task| task.start_child(at, child));
        self.add_workflow(index, at, run);
    }

    /// The end of a workflow is the end of the attempt that it was, in the same record.
    pub(super) fn child_ended(&mut self, index: LogIndex, at: Wall, child: WorkflowId) {
        let Some(run) = self.workflows.get(&child) else { return };
        let Some(parent) = run.parent.and_then(|id| self.tasks.get(&id)).filter(|task| task.kin.child == Some(child))
        else {
            return;
        };
        let error = |code: &str| {
            let reason = run.error.as_ref().map_or_else(String::new, |error| format!(": {}", error.message));
            TaskError::new(code, format!("its workflow {child} is {}{reason}", run.state.name()))
        };
        let end = match run.state {
            WorkflowState::Running => return,
            WorkflowState::Succeeded => ChildEnd::Succeeded(run.outputs.clone().unwrap_or_else(JsonText::null)),
            WorkflowState::Failed => {
                let error = error(CHILD_FAILED);
                let next = after_child(parent, &error, at, child);
                ChildEnd::Failed(error, next)
            }
            WorkflowState::Cancelled => ChildEnd::Cancelled(error("cancelled")),
        };
        let parent = parent.id;
        self.change(index, at, parent, |task| task.end_child(at, end));
    }
}

/// The steps of a child spent their own attempts: it runs again only where the policy names its failure.
fn after_child(task: &Task, error: &TaskError, at: Wall, child: WorkflowId) -> AfterAttempt {
    let policy = &task.spec.retry;
    if !policy.retries(error, false) {
        return AfterAttempt::Failed;
    }
    if task.attempts >= policy.max_attempts {
        return AfterAttempt::Dead;
    }
    // The draw is in the child's id, which is in the log.
    let delay_ms = policy.delay(task.attempts, (child.ulid & u128::from(u64::MAX)) as u64).0;
    AfterAttempt::Retry { due: Wall(at.0 + delay_ms), delay_ms }
}

impl Ledger {
    /// Starts the workflows of tasks that became ready, some at a time; they are follow-ups and are never refused.
    pub(super) fn start_children(&mut self) {
        let due = |id: &TaskId| self.state.tasks.get(id).is_some_and(|task| task.state == TaskState::Ready);
        let mut ready = Vec::new();
        while ready.len() < limits::BATCH_LEN_MAX {
            let Some(id) = self.children_due.pop_first() else { break };
            ready.extend(Some(id).filter(due));
        }
        let at = self.at();
        self.commit_by_class(ready, |id: &TaskId| *id, |tasks| Record::ChildrenStarted { at, tasks });
    }
}
