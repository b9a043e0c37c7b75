//! What would come of a submission, a retry, a cancellation or a new priority: the checks that it would meet, and who
//! could run it. Nothing changes.
//!
//! Whether ended tasks would have to go to make room is not asked: to find that out they would have to go.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::approvals::{ApprovalRequest, check_labels_of};
use super::effects::ReplyTo;
use super::ledger::Ledger;
use super::ownership::run_state;
use super::paused::check_reason;
use super::protocol::{LedgerReply, LedgerRequest, Refusal};
use super::record::SubmitItem;
use super::submit::{Planned, check_batch};
use crate::dag::WorkflowSpec;
use crate::ids::{OperationId, PeerId, TaskId};
use crate::limits;
use crate::task::{Priority, TaskSpec, TaskState};

/// What a home would do with a submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsal {
    /// Tasks, or steps of a workflow, in their order.
    pub total: u64,
    /// The first of them.
    pub tasks: Vec<RehearsedTask>,
}

/// One task, or one step of a workflow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RehearsedTask {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The task that has its idempotency key: no second would be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub existing: Option<TaskId>,
    /// Live nodes that could run it.
    pub able: u64,
    /// The one of them that fits best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearest: Option<PeerId>,
    /// What the node lacks that lacks least, where none could run it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmet: Vec<String>,
}

impl Ledger {
    pub(super) fn rehearse(&mut self, request: &LedgerRequest, reply: ReplyTo) {
        let told = |rehearsal| LedgerReply::Rehearsed(Box::new(rehearsal));
        let rehearsed = match request {
            LedgerRequest::Submit { items, .. } => self.rehearse_tasks(items).map(told),
            LedgerRequest::SubmitWorkflow { spec, .. } => self.rehearse_workflow(spec).map(told),
            LedgerRequest::RetryTasks { ids, .. } => self.rehearse_retries(ids).map(told),
            LedgerRequest::Cancel { id, reason, .. } => self.rehearse_cancel(*id, reason),
            LedgerRequest::SetPriority { id, priority, .. } => self.rehearse_priority(*id, *priority),
            LedgerRequest::Approval(ApprovalRequest::Decide { id, decision }) => self.rehearse_decision(*id, decision),
            _ => Err(Refusal::Unsupported { what: "a home cannot rehearse this".to_owned() }),
        };
        match rehearsed {
            Ok(answer) => self.reply(self.gate_of_all(), reply, answer),
            Err(refusal) => self.refuse(reply, refusal),
        }
    }

    fn rehearse_retries(&self, ids: &[TaskId]) -> Result<Rehearsal, Refusal> {
        self.check_draining()?;
        let (mut planned, mut tasks) = (BTreeMap::new(), Vec::new());
        for of in ids.iter().take(limits::REHEARSED_TASKS_MAX) {
            let new = TaskId { ledger: of.ledger, ulid: 0 };
            let id = self.plan_retry(*of, new, self.at(), &mut planned)?;
            let spec = self.state.tasks.get(of).map(|task| task.spec.clone()).ok_or_else(|| self.missing(*of))?;
            let existing = (id != new).then_some(id);
            tasks.push(RehearsedTask { existing, ..self.rehearsed(&spec) });
        }
        Ok(Rehearsal { total: ids.len() as u64, tasks })
    }

    /// The state after it.
    fn rehearse_cancel(&self, id: TaskId, reason: &str) -> Result<LedgerReply, Refusal> {
        let (state, is_over) = match (self.state.tasks.get(&id), self.state.workflows.get(&id)) {
            (Some(task), _) => (task.state, task.state.is_terminal()),
            (None, Some(run)) => (run_state(run.state), run.state.is_terminal()),
            (None, None) => return Err(self.missing(id)),
        };
        if !is_over {
            check_reason(reason)?;
        }
        Ok(LedgerReply::Cancelled { state: if is_over { state } else { TaskState::Cancelled } })
    }

    fn rehearse_priority(&self, id: TaskId, priority: Priority) -> Result<LedgerReply, Refusal> {
        let task = self.state.tasks.get(&id).ok_or_else(|| self.missing(id))?;
        if task.state.is_terminal() {
            return Err(Refusal::AlreadyTerminal { id, state: task.state });
        }
        Ok(LedgerReply::PrioritySet { priority })
    }

    fn rehearse_tasks(&self, items: &[SubmitItem]) -> Result<Rehearsal, Refusal> {
        check_labels_of(items)?;
        let total = check_batch(items)?;
        self.check_draining()?;
        self.check_live(total)?;
        let mut tasks = Vec::new();
        for (item, plan) in items.iter().zip(self.plan(OperationId([0; 16]), self.at(), items)) {
            let existing = match plan {
                Planned::New { .. } => None,
                Planned::Existing(id) => Some(id),
                Planned::Refused(refusal) => return Err(refusal),
            };
            if tasks.len() < limits::REHEARSED_TASKS_MAX {
                tasks.push(RehearsedTask { existing, ..self.rehearsed(&item.spec) });
            }
        }
        Ok(Rehearsal { total: total as u64, tasks })
    }

    fn rehearse_workflow(&self, spec: &WorkflowSpec) -> Result<Rehearsal, Refusal> {
        self.check_draining()?;
        self.check_workflows_live()?;
        self.check_live(spec.steps.len())?;
        self.check_workflow(spec)?;
        let steps = spec.steps.iter().take(limits::REHEARSED_TASKS_MAX);
        let tasks = steps.map(|step| {
            let step_name = Some(step.name.to_string());
            RehearsedTask { step: step_name, ..self.rehearsed(&spec.task(step)) }
        });
        Ok(Rehearsal { total: spec.steps.len() as u64, tasks: tasks.collect() })
    }

    fn rehearsed(&self, spec: &TaskSpec) -> RehearsedTask {
        // Its home runs it, and the steps in it are what nodes run; or a person decides it.
        let nodes = if spec.kind.runs_at_workers() { self.unmet_everywhere(spec) } else { Vec::new() };
        let mut able = nodes.iter().filter(|node| node.unmet.is_empty());
        let nearest = able.next().map(|node| node.peer);
        let unmet = match (nearest, nodes.first()) {
            (None, Some(node)) => node.unmet.clone(),
            (Some(_), _) | (None, None) => Vec::new(),
        };
        RehearsedTask {
            step: None,
            existing: None,
            able: able.count() as u64 + u64::from(nearest.is_some()),
            nearest,
            unmet,
        }
    }
}
