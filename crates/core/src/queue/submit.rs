//! Accepting tasks and workflows, and giving a workflow's steps their tasks.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::approvals::check_labels;
use super::effects::{Caller, Gate, ReplyTo};
use super::keys::{KeyName, Keys};
use super::ledger::Ledger;
use super::operations::Done;
use super::ownership::latest;
use super::protocol::{LedgerReply, Refusal, SubmitAnswer};
use super::record::{Record, SubmitItem};
use crate::dag::{self, Join, StepSpec, WorkflowSpec};
use crate::ids::{LogIndex, OperationId, TaskId};
use crate::limits;
use crate::task::{Durability, Tag, TaskKind, TaskSpec};
use crate::time::Wall;

/// What a submitted item is.
pub(super) enum Planned {
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
        let total = match check_batch(&items) {
            Ok(total) => total,
            Err(refusal) => return self.refuse(reply, refusal),
        };
        let replayed = match self.operations.find(&operation) {
            Some(Done::Submitted { at, others }) => Some((at, others)),
            Some(_) => return self.refuse(reply, reused(operation)),
            None => None,
        };
        if let (None, Err(refusal)) = (&replayed, self.check_draining()) {
            return self.refuse(reply, refusal);
        }
        if replayed.is_none()
            && let Err(refusal) = self.check_room(total)
        {
            return self.refuse(reply, refusal);
        }
        let (at, planned, gate) = match replayed {
            Some((at, others)) => (at, self.plan_again(operation, &items, &others), self.gate_of_all()),
            None => {
                let at = self.at();
                let planned = self.plan(operation, at, &items);
                let new = items.iter().zip(&planned).rfind(|(_, plan)| matches!(plan, Planned::New { .. }));
                self.checked = new.map(|(item, _)| item.spec.clone()).or_else(|| self.checked.take());
                let gate = self.record_submission(caller, operation, at, &items, &planned);
                (at, planned, gate)
            }
        };
        let answers = self.submit_answers(operation, at, &items, &planned);
        self.reply(gate, reply, LedgerReply::Submitted { answers });
    }

    /// Everything accepted so far is on disk when the answer to a replay leaves.
    pub(super) fn gate_of_all(&self) -> Gate {
        Gate::Synced(LogIndex(self.next.0 - 1))
    }

    /// A home that ends soon takes no new work, by whatever name it comes: a retry is new work, too.
    pub(super) fn check_draining(&self) -> Result<(), Refusal> {
        self.draining.clone().map_or(Ok(()), |why| Err(Refusal::Draining { why }))
    }

    /// Whether so many more tasks fit. What follows from accepted work is not asked: it always does.
    fn check_room(&mut self, tasks: usize) -> Result<(), Refusal> {
        self.check_live(tasks)?;
        if self.retention.is_full() {
            self.prune();
        }
        if self.retention.is_full() { Err(self.disk_budget_spent()) } else { Ok(()) }
    }

    /// Whether more live tasks are within the bound: if not, when there is room for so many. Those of one submission come whole
    /// while there is room for one: with more than the bound it would never come.
    pub(super) fn check_live(&self, tasks: usize) -> Result<(), Refusal> {
        let (live, most) = (self.live_tasks(), self.settings.live_tasks_max);
        if live < most { Ok(()) } else { Err(self.too_many_tasks(live + tasks - most)) }
    }

    pub(super) fn live_tasks(&self) -> usize {
        (self.state.counts.total() - self.state.counts.terminal()) as usize
    }

    pub(super) fn plan(&self, operation: OperationId, at: Wall, items: &[SubmitItem]) -> Vec<Planned> {
        let mut next = 0;
        let mut keys: BTreeMap<KeyName, (TaskId, &TaskSpec)> = BTreeMap::new();
        let mut planned = Vec::with_capacity(items.len());
        let mut checked = self.checked.as_deref();
        for item in items {
            let (spec, first) = (&*item.spec, next);
            if let Err(refusal) = self.check_item(item, checked) {
                planned.push(Planned::Refused(refusal));
                continue;
            }
            checked = Some(spec);
            if let Some(name) = Keys::name(spec) {
                let here = keys.get(&name).map(|(id, earlier)| (*id, *earlier == spec));
                let kept = || self.owner_of_key(&name).map(|entry| (entry.id, entry.is_for(spec)));
                if let Some((id, same)) = here.or_else(kept) {
                    planned.push(if same { Planned::Existing(id) } else { conflict(spec, id) });
                    continue;
                }
                if self.state.keys.len() + keys.len() >= limits::IDEMPOTENCY_KEYS_MAX {
                    planned.push(Planned::Refused(self.too_many_keys()));
                    continue;
                }
                keys.insert(name, (TaskId::derive(self.state.tag, at.0, operation, first), spec));
            }
            next += item.count;
            planned.push(Planned::New { first });
        }
        planned
    }

    /// What was planned when the operation came first: all but the `others` were new then.
    fn plan_again(&self, operation: OperationId, items: &[SubmitItem], others: &[u32]) -> Vec<Planned> {
        let mut next = 0;
        let plan = |(place, item): (usize, &SubmitItem)| {
            if !others.contains(&(place as u32)) {
                next += item.count;
                return Planned::New { first: next - item.count };
            }
            if let Err(refusal) = self.check_item(item, None) {
                return Planned::Refused(refusal);
            }
            match Keys::name(&item.spec).and_then(|name| self.state.keys.find_even_expired(&name)) {
                Some(entry) if entry.is_for(&item.spec) => Planned::Existing(entry.id),
                Some(entry) => conflict(&item.spec, entry.id),
                None => Planned::Refused(came_before(operation)),
            }
        };
        items.iter().enumerate().map(plan).collect()
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
        let others = (0u32..).zip(planned).filter(|(_, plan)| !matches!(plan, Planned::New { .. }));
        let others = others.map(|(place, _)| place).collect();
        let record = Record::Submitted { at, operation, owner, clock_root, items: new, others };
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

    /// `checked` is a specification that passed: tasks come in flocks, and one that differs in its input alone is not
    /// read again.
    fn check_item(&self, item: &SubmitItem, checked: Option<&TaskSpec>) -> Result<(), Refusal> {
        if item.count > 1 && item.spec.idempotency_key.is_some() {
            let problem = format!("one key for {} tasks", item.count);
            return Err(Refusal::invalid("/idempotency_key", problem, "give each task a key of its own"));
        }
        if item.spec.kind == TaskKind::Workflow {
            let fix = "submit a workflow; one of its steps may be a workflow";
            return Err(Refusal::invalid("/kind", "a task by itself is no workflow", fix));
        }
        self.check_parent(item.spec.parent, item.spec.durability)?;
        let now = Wall(self.now.wall_ms);
        let found = match checked.filter(|checked| checked.is_same_but_for_input(&item.spec)) {
            Some(_) => dag::check_another_input(&item.spec, now),
            None => dag::check_task(&item.spec, now),
        };
        found.map_err(|errors| Refusal::Invalid { errors })?;
        self.check_limits(&item.spec, "")?;
        self.check_tag(&item.spec, "")
    }

    /// The tags and limits of a workflow's steps, and of those of the workflows in it.
    fn check_at_home(&self, spec: &WorkflowSpec, path: &str) -> Result<(), Refusal> {
        for (index, step) in spec.steps.iter().enumerate() {
            let path = format!("{path}/steps/{index}");
            // A child first: what is wrong with it is told at its own place.
            if let Some(child) = &step.workflow {
                self.check_at_home(child, &format!("{path}/workflow"))?;
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
        workflows && self.check_live(spec.steps.len()).is_ok() && !self.retention.is_full()
    }

    /// The same, with when to ask again.
    pub(super) fn check_room_for(&mut self, spec: &WorkflowSpec) -> Result<(), Refusal> {
        self.check_workflows_live()?;
        self.check_room(spec.steps.len())
    }

    pub(super) fn check_workflows_live(&self) -> Result<(), Refusal> {
        let is_full = self.state.workflows_running as usize >= limits::WORKFLOWS_LIVE_MAX;
        if is_full { Err(self.too_many_workflows()) } else { Ok(()) }
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
                let gate = self.gate_of_all();
                if spec.schedule.is_some() {
                    return self.answer_made(operation, at, gate, reply);
                }
                let id = TaskId::derive(self.state.tag, at.0, operation, 0);
                return self.reply(gate, reply, LedgerReply::WorkflowSubmitted { id });
            }
            Some(_) => return self.refuse(reply, reused(operation)),
            None => {}
        }
        if let Err(refusal) = self.check_draining() {
            return self.refuse(reply, refusal);
        }
        let room = self.check_room_for(&spec);
        if let Err(refusal) = room.and_then(|()| self.check_workflow(&spec)) {
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

    /// All but whether there is room for it.
    pub(super) fn check_workflow(&self, spec: &WorkflowSpec) -> Result<(), Refusal> {
        self.check_parent(spec.parent, spec.durability)?;
        dag::check_workflow(spec).map_err(|errors| Refusal::Invalid { errors })?;
        self.check_at_home(spec, "")
    }

    /// What `parse_workflow` refuses at the client's door is refused here too, where a home would break over it.
    fn check_step(&self, spec: &WorkflowSpec, step: &StepSpec, path: &str) -> Result<(), Refusal> {
        let task = spec.task(step);
        check_labels(&task.labels, path)?;
        self.check_limits(&task, path)?;
        self.check_tag(&task, path)?;
        if let Join::Count(count) = step.join
            && !(1..=step.needs.len()).contains(&(count as usize))
        {
            let problem = format!("{count} of {} needed steps cannot succeed", step.needs.len());
            return Err(Refusal::invalid(&format!("{path}/join"), problem, "write a number of needed steps"));
        }
        Ok(())
    }
}

/// How many tasks a submission has, if it is one.
pub(super) fn check_batch(items: &[SubmitItem]) -> Result<usize, Refusal> {
    let total: usize = items.iter().map(|item| item.count as usize).sum();
    if total > limits::SUBMIT_LEN_MAX {
        let problem = format!("{total} tasks in one submission");
        return Err(Refusal::invalid("", problem, format!("send at most {}", limits::SUBMIT_LEN_MAX)));
    }
    let in_memory = |item: &SubmitItem| item.spec.durability == Durability::Memory;
    if items.iter().any(in_memory) && !items.iter().all(in_memory) {
        let fix = "send the memory tasks as a submission of their own";
        return Err(Refusal::invalid("", "memory tasks among tasks that are written", fix));
    }
    Ok(total)
}

fn conflict(spec: &TaskSpec, id: TaskId) -> Planned {
    let key = spec.idempotency_key.clone().unwrap_or_default();
    Planned::Refused(Refusal::IdempotencyConflict { key, id })
}

/// To what a replay would do anew.
pub(super) fn came_before(operation: OperationId) -> Refusal {
    let what = format!("operation {operation} came before and this item was refused: make a new one");
    Refusal::Unsupported { what }
}

pub(super) fn reused(operation: OperationId) -> Refusal {
    Refusal::invalid(
        "/operation",
        format!("operation {operation} already did something else"),
        "make a new operation id",
    )
}
