//! Accepting tasks and workflows, and giving a workflow's steps their tasks.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::effects::{Caller, Gate, ReplyTo};
use super::ledger::Ledger;
use super::operations::Done;
use super::ownership::latest;
use super::protocol::{LedgerReply, Refusal, SubmitAnswer};
use super::record::{Record, SubmitItem};
use crate::dag::{Graph, Join, StepSpec, WorkflowSpec};
use crate::ids::{LogIndex, OperationId, TaskId};
use crate::limits;
use crate::matching::Shape;
use crate::payload::Payload;
use crate::task::{Durability, Tag, TaskKind, TaskSpec};
use crate::time::Wall;

/// What a submitted item is.
enum Planned {
    /// Its tasks are the batch's `first` and those after it.
    New {
        first: u32,
    },
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
        if let (None, Some(why)) = (replayed, self.draining.clone()) {
            return self.refuse(reply, Refusal::Draining { why });
        }
        if replayed.is_none() && self.live_tasks() + total > limits::TASKS_LIVE_MAX {
            return self.refuse(reply, overloaded("live tasks"));
        }
        let at = replayed.unwrap_or_else(|| self.at());
        let (planned, gate) = if replayed.is_some() {
            (self.plan_again(caller, operation, at, &items), self.gate_of_replay())
        } else {
            let planned = self.plan(caller, operation, at, &items);
            let gate = self.record_submission(caller, operation, at, &items, &planned);
            (planned, gate)
        };
        let answers = self.submit_answers(operation, at, &items, &planned);
        self.reply(gate, reply, LedgerReply::Submitted { answers });
    }

    /// Everything accepted so far is on disk when the answer to a replay leaves.
    pub(super) fn gate_of_replay(&self) -> Gate {
        Gate::Synced(LogIndex(self.next.0 - 1))
    }

    pub(super) fn live_tasks(&self) -> usize {
        (self.state.counts.total() - self.state.counts.terminal()) as usize
    }

    fn plan(&self, caller: &Caller, operation: OperationId, at: Wall, items: &[SubmitItem]) -> Vec<Planned> {
        let mut next = 0;
        let mut keys: BTreeMap<(&str, &str), (TaskId, &TaskSpec)> = BTreeMap::new();
        let mut planned = Vec::with_capacity(items.len());
        for item in items {
            let (spec, first) = (&*item.spec, next);
            if let Err(refusal) = self.check_item(item) {
                planned.push(Planned::Refused(refusal));
                continue;
            }
            if let Some(key) = &spec.idempotency_key {
                let place = (spec.namespace.as_str(), key.as_str());
                let here = keys.get(&place).map(|(id, spec)| (*id, Some(*spec)));
                if let Some((id, earlier)) = here.or_else(|| self.task_of_key(caller, spec, key)) {
                    let same = earlier == Some(spec);
                    let conflict = || Planned::Refused(Refusal::IdempotencyConflict { key: key.clone(), id });
                    planned.push(if same { Planned::Existing(id) } else { conflict() });
                    continue;
                }
                keys.insert(place, (TaskId::derive(self.state.tag, at.0, operation, first), spec));
            }
            next += item.count;
            planned.push(Planned::New { first });
        }
        planned
    }

    /// The task that has an idempotency key, with its specification while it is kept.
    fn task_of_key(&self, caller: &Caller, spec: &TaskSpec, key: &str) -> Option<(TaskId, Option<&TaskSpec>)> {
        let id = self.state.idempotency.get(&(caller.owner.clone(), spec.namespace.clone(), key.to_owned()))?;
        Some((*id, self.state.tasks.get(id).map(|task| &*task.spec)))
    }

    /// What was planned when the operation came first: an item was new then exactly if its tasks are here now.
    fn plan_again(&self, caller: &Caller, operation: OperationId, at: Wall, items: &[SubmitItem]) -> Vec<Planned> {
        let mut next = 0;
        let plan = |item: &SubmitItem| {
            let SubmitItem { spec, count } = item;
            let id = TaskId::derive(self.state.tag, at.0, operation, next);
            if self.state.tasks.get(&id).is_some_and(|task| task.spec == *spec) {
                next += count;
                return Planned::New { first: next - count };
            }
            if let Err(refusal) = self.check_item(item) {
                return Planned::Refused(refusal);
            }
            let keyed = spec.idempotency_key.as_ref().and_then(|key| Some((key, self.task_of_key(caller, spec, key)?)));
            match keyed {
                Some((_, (id, Some(first)))) if first == &**spec => Planned::Existing(id),
                Some((key, (id, _))) => Planned::Refused(Refusal::IdempotencyConflict { key: key.clone(), id }),
                None => {
                    let what = format!("operation {operation} came before and this item was refused: make a new one");
                    Planned::Refused(Refusal::Unsupported { what })
                }
            }
        };
        items.iter().map(plan).collect()
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
        let is_new = |(_, plan): &(&SubmitItem, &Planned)| matches!(plan, Planned::New { .. });
        let new: Vec<SubmitItem> = items.iter().zip(planned).filter(is_new).map(|(item, _)| item.clone()).collect();
        let existing = planned.iter().filter_map(|plan| match plan {
            Planned::Existing(id) => self.state.tasks.get(id),
            Planned::New { .. } | Planned::Refused(_) => None,
        });
        let gate = existing.fold(Gate::Open, |gate, task| latest(gate, self.early_gate(task.durability(), task.index)));
        let Some(durability) = new.iter().map(|item| item.spec.durability).max() else { return gate };
        let (owner, clock_root) = (caller.owner.clone(), self.clock_root);
        let record = Record::Submitted { at, operation, owner, clock_root, items: new };
        self.operations.remember(&record);
        let index = self.commit(durability, record);
        latest(gate, self.early_gate(durability, index))
    }

    fn submit_answers(
        &self,
        operation: OperationId,
        at: Wall,
        items: &[SubmitItem],
        planned: &[Planned],
    ) -> Vec<SubmitAnswer> {
        let of_item = |(item, plan): (&SubmitItem, &Planned)| -> Vec<SubmitAnswer> {
            let answer = |n| match plan {
                Planned::New { first } => {
                    SubmitAnswer::Accepted { id: TaskId::derive(self.state.tag, at.0, operation, first + n) }
                }
                Planned::Existing(id) => SubmitAnswer::Accepted { id: *id },
                Planned::Refused(refusal) => SubmitAnswer::Refused(refusal.clone()),
            };
            (0..item.count).map(answer).collect()
        };
        items.iter().zip(planned).flat_map(of_item).collect()
    }

    fn check_item(&self, item: &SubmitItem) -> Result<(), Refusal> {
        if item.count > 1 && item.spec.idempotency_key.is_some() {
            let problem = format!("one key for {} tasks", item.count);
            return Err(Refusal::invalid("/idempotency_key", problem, "give each task a key of its own"));
        }
        if item.spec.kind == TaskKind::Workflow {
            let fix = "submit a workflow; one of its steps may be a workflow";
            return Err(Refusal::invalid("/kind", "a task by itself is no workflow", fix));
        }
        self.check_parent(item.spec.parent, item.spec.durability)?;
        check_task(&item.spec, "")?;
        self.check_limits(&item.spec, "")?;
        self.check_tag(&item.spec, "")
    }

    /// The steps of a workflow, and of those in it, whichever door they came through.
    fn check_steps(&self, spec: &WorkflowSpec, path: &str, depth: usize) -> Result<(), Refusal> {
        let at = format!("{path}/steps");
        if depth > limits::WORKFLOW_DEPTH_MAX {
            let fix = format!("let them stand at most {} deep in each other", limits::WORKFLOW_DEPTH_MAX);
            return Err(Refusal::invalid(&at, "workflows in workflows in workflows", fix));
        }
        if spec.steps.len() > limits::WORKFLOW_STEPS_MAX {
            let fix = format!("write at most {}", limits::WORKFLOW_STEPS_MAX);
            return Err(Refusal::invalid(&at, format!("{} steps", spec.steps.len()), fix));
        }
        if let Err(error) = Graph::of(spec) {
            return Err(Refusal::invalid(&at, error.to_string(), "see the workflow reference"));
        }
        for (index, step) in spec.steps.iter().enumerate() {
            let path = format!("{at}/{index}");
            // A child first: what is wrong with it is told at its own place.
            if let Some(child) = &step.workflow {
                self.check_steps(child, &format!("{path}/workflow"), depth + 1)?;
            }
            self.check_step(spec, step, &path)?;
        }
        Ok(())
    }

    /// At submit only: a step that is bound later waits for the node that allows its tag, if that is away.
    fn check_tag(&self, spec: &TaskSpec, path: &str) -> Result<(), Refusal> {
        let Some(tag) = spec.tag.filter(|tag| !self.tag_is_allowed(*tag)) else { return Ok(()) };
        let problem = format!("no known node allows the tag {}", tag.name());
        let fix = "use p2p-eligible, or allow the tag in a node's configuration";
        Err(Refusal::invalid(&format!("{path}/tag"), problem, fix))
    }

    fn tag_is_allowed(&self, tag: Tag) -> bool {
        tag.runs_on_the_mesh() || self.workers.alive().any(|(_, capabilities)| capabilities.tags.contains(&tag))
    }

    /// Whether one more run of `spec` stays within the bounds.
    pub(super) fn has_room_for(&self, spec: &WorkflowSpec) -> bool {
        let workflows = (self.state.workflows_running as usize) < limits::WORKFLOWS_LIVE_MAX;
        workflows && self.live_tasks() + spec.steps.len() <= limits::TASKS_LIVE_MAX
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
                let gate = self.gate_of_replay();
                if spec.schedule.is_some() {
                    return self.answer_made(operation, at, gate, reply);
                }
                let id = TaskId::derive(self.state.tag, at.0, operation, 0);
                return self.reply(gate, reply, LedgerReply::WorkflowSubmitted { id });
            }
            Some(_) => return self.refuse(reply, reused(operation)),
            None => {}
        }
        if let Some(why) = self.draining.clone() {
            return self.refuse(reply, Refusal::Draining { why });
        }
        if !self.has_room_for(&spec) {
            return self.refuse(reply, overloaded("running workflows or live tasks"));
        }
        let parent = self.check_parent(spec.parent, spec.durability);
        if let Err(refusal) = parent.and_then(|()| self.check_steps(&spec, "", 0)) {
            return self.refuse(reply, refusal);
        }
        if let Some(terms) = spec.schedule.clone() {
            return self.make_schedule(caller, operation, spec, &terms, reply);
        }
        let (at, durability) = (self.at(), spec.durability);
        let (owner, clock_root) = (caller.owner.clone(), self.clock_root);
        let record = Record::WorkflowSubmitted { at, operation, owner, clock_root, spec };
        self.operations.remember(&record);
        let index = self.commit(durability, record);
        let id = TaskId::derive(self.state.tag, at.0, operation, 0);
        self.reply(self.early_gate(durability, index), reply, LedgerReply::WorkflowSubmitted { id });
    }

    /// What `parse_workflow` refuses at the client's door is refused here too, where a home would break over it.
    fn check_step(&self, spec: &WorkflowSpec, step: &StepSpec, path: &str) -> Result<(), Refusal> {
        let task = spec.task(step);
        check_task(&task, path)?;
        self.check_limits(&task, path)?;
        self.check_tag(&task, path)?;
        if let Join::Count(count) = step.join
            && !(1..=step.needs.len()).contains(&(count as usize))
        {
            let problem = format!("{count} of {} needed steps cannot succeed", step.needs.len());
            return Err(Refusal::invalid(&format!("{path}/join"), problem, "write a number of needed steps"));
        }
        match &step.compensate {
            None => Ok(()),
            Some(compensate) => check_task(&spec.task(&compensate.as_step(step)), &format!("{path}/compensate")),
        }
    }
}

/// What any task must satisfy, whichever door it came through.
pub(super) fn check_task(spec: &TaskSpec, path: &str) -> Result<(), Refusal> {
    let wrong =
        |field: &str, problem: String, fix: &str| Err(Refusal::invalid(&format!("{path}/{field}"), problem, fix));
    if let Err(error) = Shape::of(spec) {
        return wrong("requires", error.to_string(), "write it as gpu.vram >= 16GiB && model:minilm");
    }
    let is_workflow = spec.kind == TaskKind::Workflow;
    if is_workflow != spec.workflow.as_ref().is_some_and(|child| Graph::of(child).is_ok()) {
        return wrong("workflow", "kind workflow without a valid workflow, or the reverse".to_owned(), "give both");
    }
    if let Err(error) = spec.retry.validate() {
        return wrong("retry", error.to_string(), "see the task reference");
    }
    if spec.timeout.0 == 0 || spec.timeout.0 > 7 * 86_400_000 {
        return wrong("timeout", format!("a timeout of {}", spec.timeout), "choose 1ms to 7d");
    }
    if spec.exclusive && !spec.kind.can_be_exclusive() {
        let problem = format!("a task of kind {} cannot be ended from outside", spec.kind);
        return wrong("exclusive", problem, "remove exclusive");
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
    Ok(())
}

pub(super) fn overloaded(what: &str) -> Refusal {
    Refusal::Overloaded { retry_after_ms: 1_000, what: what.to_owned() }
}

pub(super) fn reused(operation: OperationId) -> Refusal {
    Refusal::invalid(
        "/operation",
        format!("operation {operation} already did something else"),
        "make a new operation id",
    )
}
