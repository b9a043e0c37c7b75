//! Schedules of a home: what is asked of them, and when they start a run.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::disk::Disk;
use super::effects::{Caller, Gate, ReplyTo};
use super::ledger::Ledger;
use super::operations::Done;
use super::ownership::latest;
use super::protocol::{LedgerReply, Refusal, WorkflowState};
use super::record::Record;
use super::schedule::Schedule;
use super::schedule_record::{FireOutcome, ScheduleChange, ScheduleRecord, SkipReason};
use crate::dag::{Overlap, ScheduleSpec, WorkflowSpec};
use crate::ids::{OperationId, PeerId, ScheduleId, TaskId, WorkflowId};
use crate::limits;
use crate::time::Wall;

/// About the schedules of a home; a workflow that has one is submitted as any other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleRequest {
    Get {
        id: ScheduleId,
    },
    List {
        /// Only those of it; a home of an earlier version lists all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        cursor: Option<ScheduleId>,
        limit: usize,
    },
    Change {
        operation: OperationId,
        id: ScheduleId,
        change: ScheduleChange,
    },
    /// Starts a run now, beside whatever runs.
    RunNow {
        operation: OperationId,
        id: ScheduleId,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleReply {
    /// The answer to a submission.
    Made {
        id: ScheduleId,
        next_at: Option<Wall>,
    },
    One(Box<ScheduleView>),
    List {
        items: Vec<ScheduleView>,
        next_cursor: Option<ScheduleId>,
    },
    Removed {
        id: ScheduleId,
    },
    RunStarted {
        id: WorkflowId,
    },
}

/// A schedule as its home shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleView {
    pub id: ScheduleId,
    /// Of the workflow.
    pub name: String,
    pub namespace: String,
    pub schedule: ScheduleSpec,
    pub paused: bool,
    /// `null` while it is paused, and when no time comes any more.
    pub next_at: Option<Wall>,
    /// The newest time that a run was started for.
    pub last_at: Option<Wall>,
    /// The time of the run that waits for an earlier one.
    pub waiting_at: Option<Wall>,
    /// Times that led to a run.
    pub fired: u64,
    /// Times that passed while the home was away.
    pub missed: u64,
    /// Times that passed because of an earlier run, or for want of room.
    pub skipped: u64,
    pub home: PeerId,
    pub owner: String,
    pub created_at: Wall,
    /// The newest last; in a listing only those that are not over.
    pub runs: Vec<ScheduleRunView>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleRunView {
    pub id: WorkflowId,
    /// The time it was started for; of a run out of turn, when it was asked for.
    pub fire_at: Wall,
    /// `null` once the home no longer keeps the run.
    pub state: Option<WorkflowState>,
}

impl ScheduleRequest {
    /// The schedule that it is about.
    pub fn id(&self) -> Option<ScheduleId> {
        match self {
            Self::Get { id } | Self::Change { id, .. } | Self::RunNow { id, .. } => Some(*id),
            Self::List { .. } => None,
        }
    }
}

impl Ledger {
    pub(super) fn schedule_request(&mut self, request: ScheduleRequest, reply: ReplyTo) {
        match request {
            ScheduleRequest::Get { id } => self.answer_schedule(id, reply),
            ScheduleRequest::List { namespace, cursor, limit } => {
                self.list_schedules(namespace.as_deref(), cursor, limit, reply);
            }
            ScheduleRequest::Change { operation, id, change } => self.change_schedule(operation, id, change, reply),
            ScheduleRequest::RunNow { operation, id } => self.run_now(operation, id, reply),
        }
    }

    /// Makes a schedule of a workflow that was checked as any other.
    pub(super) fn make_schedule(
        &mut self,
        caller: &Caller,
        operation: OperationId,
        spec: Arc<WorkflowSpec>,
        terms: &ScheduleSpec,
        reply: ReplyTo,
    ) {
        if self.state.schedules.len() >= limits::SCHEDULES_MAX {
            return self.refuse(reply, self.too_many("schedules"));
        }
        if spec.durability == crate::task::Durability::Memory {
            let fix = "submit it as async or sync, or without a schedule";
            return self.refuse(reply, Refusal::invalid("/durability", "a schedule is written to disk", fix));
        }
        let times = match terms.times() {
            Ok(times) => times,
            Err(error) => {
                let path = format!("/schedule/{}", error.field);
                return self.refuse(reply, Refusal::invalid(&path, error.problem, error.fix));
            }
        };
        let next = times.next_after(Wall(self.now.wall_ms));
        let (at, owner, clock_root, durability) = (self.at(), caller.owner.clone(), self.clock_root, spec.durability);
        let record = Record::Schedule(ScheduleRecord::Made { at, operation, owner, clock_root, spec, next });
        self.operations.remember(&record);
        let index = self.commit(durability, record);
        self.answer_made(operation, at, self.early_gate(durability, index), reply);
    }

    /// The answer to the submission of a schedule, also when it comes again.
    pub(super) fn answer_made(&mut self, operation: OperationId, at: Wall, gate: Gate, reply: ReplyTo) {
        let id = TaskId::derive(self.state.tag, at.0, operation, 0);
        let next_at = self.state.schedules.get(&id).and_then(|schedule| schedule.next);
        self.reply(gate, reply, LedgerReply::Schedule(ScheduleReply::Made { id, next_at }));
    }

    fn change_schedule(&mut self, operation: OperationId, id: ScheduleId, change: ScheduleChange, reply: ReplyTo) {
        if self.operations.find(&operation) == Some(Done::ScheduleChanged { schedule: id }) {
            return self.answer_changed(id, change, reply);
        }
        let Some(schedule) = self.state.schedules.get(&id) else { return self.refuse(reply, Refusal::NotFound { id }) };
        let next = match change {
            ScheduleChange::Pause | ScheduleChange::Remove => None,
            ScheduleChange::Resume if !schedule.paused => schedule.next,
            // What was decided before a clock went back is not decided again.
            ScheduleChange::Resume => {
                let from = Wall(self.now.wall_ms).max(schedule.through);
                schedule.times().and_then(|times| times.next_after(from))
            }
        };
        let durability = schedule.spec.durability;
        let record = ScheduleRecord::Changed { at: self.at(), operation, schedule: id, change, next };
        let record = Record::Schedule(record);
        self.operations.remember(&record);
        self.commit(durability, record);
        self.answer_changed(id, change, reply);
    }

    fn answer_changed(&mut self, id: ScheduleId, change: ScheduleChange, reply: ReplyTo) {
        if change == ScheduleChange::Remove {
            let gate = self.gate_of_all();
            return self.reply(gate, reply, LedgerReply::Schedule(ScheduleReply::Removed { id }));
        }
        self.answer_schedule(id, reply);
    }

    fn run_now(&mut self, operation: OperationId, id: ScheduleId, reply: ReplyTo) {
        let started = |at: Wall, tag| TaskId::derive(tag, at.0, operation, 0);
        if let Some(Done::WorkflowSubmitted { at }) = self.operations.find(&operation) {
            let run = started(at, self.state.tag);
            let gate = self.gate_of_all();
            return self.reply(gate, reply, LedgerReply::Schedule(ScheduleReply::RunStarted { id: run }));
        }
        let Some(schedule) = self.state.schedules.get(&id) else { return self.refuse(reply, Refusal::NotFound { id }) };
        let spec = schedule.spec.clone();
        if let Err(refusal) = self.check_draining().and_then(|()| self.check_room_for(&spec)) {
            return self.refuse(reply, refusal);
        }
        let (at, durability) = (self.at(), spec.durability);
        let record = Record::Schedule(ScheduleRecord::RunAsked { at, operation, schedule: id });
        self.operations.remember(&record);
        let index = self.commit(durability, record);
        let run = started(at, self.state.tag);
        let gate = self.early_gate(durability, index);
        self.reply(gate, reply, LedgerReply::Schedule(ScheduleReply::RunStarted { id: run }));
    }

    /// Starts, skips and counts what has come due. While the wall clock cannot be believed nothing does, and while this
    /// home takes no new work neither: those times wait for its next life, or for its disk.
    pub(super) fn fire_schedules(&mut self) {
        if self.clock_watch.is_raised() || self.draining.is_some() || self.disk != Disk::Takes {
            return;
        }
        let now = Wall(self.now.wall_ms);
        let wanted = |schedule: &&Schedule| {
            !schedule.paused && (schedule.waiting.is_some() || schedule.due.is_some_and(|due| due <= now))
        };
        let wanted: Vec<ScheduleId> =
            self.state.schedules.values().filter(wanted).map(|schedule| schedule.id).collect();
        for id in wanted {
            self.start_waiting(id);
            self.fire_due(id, now);
        }
    }

    fn start_waiting(&mut self, id: ScheduleId) {
        let Some(schedule) = self.state.schedules.get(&id) else { return };
        let (next, room) = (schedule.next, self.has_room_for(&schedule.spec));
        if let Some(fire) = schedule.waiting.filter(|_| room && self.state.running(id).is_empty()) {
            self.record_fire(id, fire, FireOutcome::Dequeued, next);
        }
    }

    fn fire_due(&mut self, id: ScheduleId, now: Wall) {
        let Some(schedule) =
            self.state.schedules.get(&id).filter(|schedule| schedule.due.is_some_and(|due| due <= now))
        else {
            return;
        };
        let Some(times) = schedule.times() else { return };
        let plan = schedule.plan(&times, now);
        if let Some(through) = plan.missed.last().copied() {
            let next = plan.run.first().copied().or(plan.next);
            let (at, durability, missed) = (self.at(), schedule.spec.durability, plan.missed.len() as u64);
            let record = ScheduleRecord::Missed { at, schedule: id, times: missed, through, next };
            self.commit(durability, Record::Schedule(record));
        }
        for (place, fire) in plan.run.iter().enumerate() {
            let next = plan.run.get(place + 1).copied().or(plan.next);
            let outcome = self.outcome_of(id);
            self.record_fire(id, *fire, outcome, next);
        }
    }

    fn record_fire(&mut self, id: ScheduleId, fire: Wall, outcome: FireOutcome, next: Option<Wall>) {
        let Some(schedule) = self.state.schedules.get(&id) else { return };
        let durability = schedule.spec.durability;
        let record = ScheduleRecord::Fired { at: self.at(), schedule: id, fire, outcome, next };
        self.commit(durability, Record::Schedule(record));
    }

    /// What a time that has come leads to now.
    fn outcome_of(&self, id: ScheduleId) -> FireOutcome {
        let schedule = &self.state.schedules[&id];
        let is_free = self.state.running(id).is_empty() && schedule.waiting.is_none();
        let room = self.has_room_for(&schedule.spec);
        match schedule.terms().overlap {
            Overlap::Queue if !is_free && schedule.waiting.is_none() => FireOutcome::Queued,
            Overlap::Skip | Overlap::Queue if !is_free => FireOutcome::Skipped(SkipReason::Overlap),
            Overlap::Skip | Overlap::Queue | Overlap::Replace | Overlap::Allow if !room => {
                FireOutcome::Skipped(SkipReason::Overloaded)
            }
            Overlap::Replace if !is_free => FireOutcome::Replaced,
            Overlap::Skip | Overlap::Queue | Overlap::Replace | Overlap::Allow => FireOutcome::Started,
        }
    }

    fn answer_schedule(&mut self, id: ScheduleId, reply: ReplyTo) {
        let Some(schedule) = self.state.schedules.get(&id) else { return self.refuse(reply, Refusal::NotFound { id }) };
        let view = self.schedule_view(schedule, |_| true);
        let gate = self.gate_of_schedule(schedule);
        self.reply(gate, reply, LedgerReply::Schedule(ScheduleReply::One(Box::new(view))));
    }

    fn list_schedules(&mut self, namespace: Option<&str>, cursor: Option<ScheduleId>, limit: usize, reply: ReplyTo) {
        let limit = limit.clamp(1, limits::LIST_LEN_MAX);
        let from = cursor.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let rest = self.state.schedules.range((from, std::ops::Bound::Unbounded)).map(|(_, schedule)| schedule);
        let is_withheld = |gate| self.instead_of(gate).is_some();
        let of_it = |schedule: &&Schedule| namespace.is_none_or(|namespace| schedule.spec.namespace == namespace);
        let shown = rest.filter(of_it).filter(|schedule| !is_withheld(self.gate_of_schedule(schedule)));
        let mut page: Vec<&Schedule> = shown.take(limit + 1).collect();
        let more = page.len() > limit;
        page.truncate(limit);
        let gate = page.iter().fold(Gate::Open, |gate, schedule| latest(gate, self.gate_of_schedule(schedule)));
        let next_cursor = page.last().filter(|_| more).map(|schedule| schedule.id);
        let is_live = |state: Option<WorkflowState>| state == Some(WorkflowState::Running);
        let items = page.into_iter().map(|schedule| self.schedule_view(schedule, is_live)).collect();
        self.reply(gate, reply, LedgerReply::Schedule(ScheduleReply::List { items, next_cursor }));
    }

    fn schedule_view(&self, schedule: &Schedule, shown: impl Fn(Option<WorkflowState>) -> bool) -> ScheduleView {
        let run = |run: &super::schedule::Run| {
            let state = self.state.workflows.get(&run.workflow).map(|run| run.state);
            ScheduleRunView { id: run.workflow, fire_at: run.fire, state }
        };
        ScheduleView {
            id: schedule.id,
            name: schedule.spec.name.clone(),
            namespace: schedule.spec.namespace.clone(),
            schedule: schedule.terms().clone(),
            paused: schedule.paused,
            next_at: schedule.next.filter(|_| !schedule.paused),
            last_at: schedule.last,
            waiting_at: schedule.waiting,
            fired: schedule.fired,
            missed: schedule.missed,
            skipped: schedule.skipped,
            home: self.identity.home,
            owner: schedule.owner.to_string(),
            created_at: schedule.created,
            runs: schedule.runs.iter().map(run).filter(|run| shown(run.state)).collect(),
        }
    }

    pub(super) fn gate_of_schedule(&self, schedule: &Schedule) -> Gate {
        let own = self.late_gate(schedule.spec.durability, schedule.index);
        let runs = schedule.runs.iter().filter_map(|run| self.state.workflows.get(&run.workflow));
        runs.fold(own, |gate, run| latest(gate, self.late_gate(run.spec.durability, run.index)))
    }
}
