//! Accepting tasks and workflows, and giving a workflow's steps their tasks.

use std::sync::Arc;

use super::effects::{BoundWindow, Caller, Gate, ReplyTo};
use super::ledger::{Ledger, OUTPUTS_STEP};
use super::operations::Done;
use super::protocol::{LedgerReply, Refusal, SubmitAnswer};
use super::record::{Record, SubmitItem};
use crate::dag::{Graph, WorkflowSpec};
use crate::ids::{LogIndex, OperationId, TaskId, WorkflowId};
use crate::limits;
use crate::matching::Shape;
use crate::payload::{JsonText, Payload};
use crate::task::{Durability, Tag, TaskError, TaskSpec};
use crate::time::Wall;

/// What a submitted item is.
enum Planned {
    New,
    /// Its idempotency key was used for the same specification.
    Existing(TaskId),
    Refused(Refusal),
}

impl Ledger {
    pub(super) fn submit(&mut self, caller: &Caller, operation: OperationId, items: Vec<SubmitItem>, reply: ReplyTo) {
        let total: usize = items.iter().map(|item| item.count as usize).sum();
        if total > limits::SUBMIT_LEN_MAX {
            let problem = format!("{total} tasks in one submission");
            return self
                .refuse(reply, Refusal::invalid("", problem, format!("send at most {}", limits::SUBMIT_LEN_MAX)));
        }
        let in_memory = |item: &SubmitItem| item.spec.durability == Durability::Memory;
        if items.iter().any(in_memory) && !items.iter().all(in_memory) {
            let fix = "send the memory tasks as a submission of their own";
            return self.refuse(reply, Refusal::invalid("", "memory tasks among tasks that are written", fix));
        }
        let replayed = match self.operations.find(&operation) {
            Some(Done::Submitted { at }) => Some(at),
            Some(_) => return self.refuse(reply, reused(operation)),
            None => None,
        };
        if replayed.is_none() && self.live_tasks() + total > limits::TASKS_LIVE_MAX {
            return self.refuse(reply, overloaded("live tasks"));
        }
        let planned: Vec<Planned> = items.iter().map(|item| self.plan(caller, item, replayed.is_some())).collect();
        let at = replayed.unwrap_or_else(|| self.at());
        let gate = if replayed.is_some() {
            self.gate_of_replay()
        } else {
            self.record_submission(caller, operation, at, &items, &planned)
        };
        let answers = self.submit_answers(operation, at, &items, planned);
        self.reply(gate, reply, LedgerReply::Submitted { answers });
    }

    /// Everything accepted so far is on disk when the answer to a replay leaves.
    fn gate_of_replay(&self) -> Gate {
        Gate::Synced(LogIndex(self.next.0 - 1))
    }

    fn live_tasks(&self) -> usize {
        (self.state.counts.total() - self.state.counts.terminal()) as usize
    }

    fn plan(&self, caller: &Caller, item: &SubmitItem, replayed: bool) -> Planned {
        if let Err(refusal) = self.check_task(&item.spec, "") {
            return Planned::Refused(refusal);
        }
        let Some(key) = &item.spec.idempotency_key else { return Planned::New };
        let place = (caller.owner.clone(), item.spec.namespace.clone(), key.clone());
        let Some(id) = self.state.idempotency.get(&place).filter(|_| !replayed) else { return Planned::New };
        match self.state.tasks.get(id) {
            Some(task) if task.spec == item.spec => Planned::Existing(*id),
            Some(_) | None => Planned::Refused(Refusal::IdempotencyConflict { key: key.clone(), id: *id }),
        }
    }

    /// A batch is written in its strictest class; `memory` tasks stand in batches of their own and are never written.
    fn record_submission(
        &mut self,
        caller: &Caller,
        operation: OperationId,
        at: Wall,
        items: &[SubmitItem],
        planned: &[Planned],
    ) -> Gate {
        let new =
            items.iter().zip(planned).filter(|(_, plan)| matches!(plan, Planned::New)).map(|(item, _)| item.clone());
        let new: Vec<SubmitItem> = new.collect();
        let Some(durability) = new.iter().map(|item| item.spec.durability).max() else { return Gate::Open };
        let (owner, clock_root) = (caller.owner.clone(), self.clock_root);
        let record = Record::Submitted { at, operation, owner, clock_root, items: new };
        self.operations.remember(&record);
        let index = self.commit(durability, record);
        self.early_gate(durability, index)
    }

    fn submit_answers(
        &self,
        operation: OperationId,
        at: Wall,
        items: &[SubmitItem],
        planned: Vec<Planned>,
    ) -> Vec<SubmitAnswer> {
        let mut answers = Vec::new();
        let mut n = 0;
        for (item, plan) in items.iter().zip(planned) {
            for _ in 0..item.count {
                answers.push(match &plan {
                    Planned::New => {
                        n += 1;
                        SubmitAnswer::Accepted { id: TaskId::derive(self.state.tag, at.0, operation, n - 1) }
                    }
                    Planned::Existing(id) => SubmitAnswer::Accepted { id: *id },
                    Planned::Refused(refusal) => SubmitAnswer::Refused(refusal.clone()),
                });
            }
        }
        answers
    }

    /// What any task must satisfy, whichever door it came through.
    fn check_task(&self, spec: &TaskSpec, path: &str) -> Result<(), Refusal> {
        let wrong =
            |field: &str, problem: String, fix: &str| Err(Refusal::invalid(&format!("{path}/{field}"), problem, fix));
        if let Err(error) = Shape::of(spec) {
            return wrong("requires", error.to_string(), "write it as gpu.vram >= 16GiB && model:minilm");
        }
        if let Err(error) = spec.retry.validate() {
            return wrong("retry", error.to_string(), "see the task reference");
        }
        if spec.timeout.0 == 0 || spec.timeout.0 > 7 * 86_400_000 {
            return wrong("timeout", format!("a timeout of {}", spec.timeout), "choose 1ms to 7d");
        }
        let names = [Some(&spec.namespace), spec.idempotency_key.as_ref(), spec.model.as_ref()];
        if names.into_iter().flatten().any(|name| name.len() > limits::NAME_BYTES_MAX || name.is_empty()) {
            return wrong("namespace", "an empty or overlong name".to_owned(), "use 1 to 256 bytes");
        }
        if let Payload::Inline(text) = &spec.input
            && !Payload::fits_inline(text)
        {
            return wrong("input", "an inline value above 64 KiB".to_owned(), "put it as a blob and give {cid, bytes}");
        }
        if let Some(tag) = spec.tag.filter(|tag| !self.tag_is_allowed(*tag)) {
            let problem = format!("no known node allows the tag {}", tag.name());
            return wrong("tag", problem, "use p2p-eligible, or allow the tag in a node's configuration");
        }
        Ok(())
    }

    fn tag_is_allowed(&self, tag: Tag) -> bool {
        tag.runs_on_the_mesh() || self.workers.alive().any(|(_, capabilities)| capabilities.tags.contains(&tag))
    }

    pub(super) fn submit_workflow(
        &mut self,
        caller: &Caller,
        operation: OperationId,
        spec: Arc<WorkflowSpec>,
        reply: ReplyTo,
    ) {
        match self.operations.find(&operation) {
            Some(Done::WorkflowSubmitted { at }) => {
                let id = TaskId::derive(self.state.tag, at.0, operation, 0);
                return self.reply(self.gate_of_replay(), reply, LedgerReply::WorkflowSubmitted { id });
            }
            Some(_) => return self.refuse(reply, reused(operation)),
            None => {}
        }
        if self.state.workflows_running as usize >= limits::WORKFLOWS_LIVE_MAX {
            return self.refuse(reply, overloaded("running workflows"));
        }
        if let Err(error) = Graph::of(&spec) {
            return self.refuse(reply, Refusal::invalid("/steps", error.to_string(), "see the workflow reference"));
        }
        for (index, step) in spec.steps.iter().enumerate() {
            if let Err(refusal) = self.check_task(&spec.task(step), &format!("/steps/{index}")) {
                return self.refuse(reply, refusal);
            }
        }
        let (at, durability) = (self.at(), spec.durability);
        let (owner, clock_root) = (caller.owner.clone(), self.clock_root);
        let record = Record::WorkflowSubmitted { at, operation, owner, clock_root, spec };
        self.operations.remember(&record);
        let index = self.commit(durability, record);
        let id = TaskId::derive(self.state.tag, at.0, operation, 0);
        self.reply(self.early_gate(durability, index), reply, LedgerReply::WorkflowSubmitted { id });
    }

    pub(super) fn bound(
        &mut self,
        workflow: WorkflowId,
        (step, from): (u32, u32),
        bound: Result<BoundWindow, TaskError>,
    ) {
        self.binding.remove(&(workflow, step, from));
        if !self.workflow_is_running(&workflow) {
            return;
        }
        let run = &self.state.workflows[&workflow];
        let expected = run.to_bind().any(|wanted| wanted == (step, from));
        let durability = run.spec.durability;
        if !expected {
            return;
        }
        let at = self.at();
        let checked = bound.and_then(|window| {
            let wrong = window.tasks.iter().find_map(|task| self.check_task(task, "").err());
            wrong.map_or(Ok(window), |refusal| Err(TaskError::new("invalid", refusal.to_string())))
        });
        let record = match checked {
            Ok(BoundWindow { total, tasks }) => Record::StepBound { at, workflow, step, from, total, tasks },
            Err(error) => Record::StepUnbound { at, workflow, step, error },
        };
        self.commit(durability, record);
    }

    pub(super) fn outputs_bound(&mut self, workflow: WorkflowId, outputs: Result<JsonText, TaskError>) {
        self.binding.remove(&(workflow, OUTPUTS_STEP, 0));
        if self.workflow_is_running(&workflow) {
            let (at, durability) = (self.at(), self.state.workflows[&workflow].spec.durability);
            self.commit(durability, Record::WorkflowEnded { at, workflow, outputs });
        }
    }
}

pub(super) fn overloaded(what: &str) -> Refusal {
    Refusal::Overloaded { retry_after_ms: 1_000, what: what.to_owned() }
}

fn reused(operation: OperationId) -> Refusal {
    Refusal::invalid(
        "/operation",
        format!("operation {operation} already did something else"),
        "make a new operation id",
    )
}
