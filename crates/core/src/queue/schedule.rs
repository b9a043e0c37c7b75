//! One schedule in its home's memory, and what each of its records changes.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::protocol::WorkflowState;
use super::record::ClockRoot;
use super::schedule_record::{FireOutcome, ScheduleChange, ScheduleRecord};
use super::state::State;
use super::workflow_run::WorkflowRun;
use crate::cron::Cron;
use crate::dag::{ScheduleSpec, WorkflowSpec};
use crate::ids::{LedgerTag, LogIndex, OperationId, ScheduleId, TaskId, WorkflowId};
use crate::limits;
use crate::task::TaskError;
use crate::time::Wall;

/// Serialised it is the image that compaction carries forward: a field that is added needs a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Schedule {
    pub id: ScheduleId,
    pub spec: Arc<WorkflowSpec>,
    pub owner: Arc<str>,
    pub clock_root: ClockRoot,
    pub created: Wall,
    pub paused: bool,
    /// The earliest time that nothing was decided about; `None`: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Wall>,
    /// When the run of `next` starts: its time and the draw of the jitter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Wall>,
    /// The newest time that something was decided about. No earlier one comes again, whatever the clock does.
    pub through: Wall,
    /// The newest time that a run was started for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Wall>,
    /// The time of the run that waits for an earlier one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Wall>,
    pub fired: u64,
    pub missed: u64,
    pub skipped: u64,
    /// The newest last.
    pub runs: VecDeque<Run>,
    pub index: LogIndex,
    /// The record from which a replay knows it: what made it, or the image that was carried forward since.
    #[serde(skip)]
    pub base: LogIndex,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Run {
    pub fire: Wall,
    pub workflow: WorkflowId,
}

/// What is to be done about the times that have come.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// They pass without a run.
    pub missed: Vec<Wall>,
    /// They run, the newest last.
    pub run: Vec<Wall>,
    pub next: Option<Wall>,
}

impl Schedule {
    fn new(id: ScheduleId, spec: Arc<WorkflowSpec>, (owner, clock_root): (Arc<str>, ClockRoot), created: Wall) -> Self {
        Self {
            id,
            spec,
            owner,
            clock_root,
            created,
            paused: false,
            next: None,
            due: None,
            through: Wall(0),
            last: None,
            waiting: None,
            fired: 0,
            missed: 0,
            skipped: 0,
            runs: VecDeque::new(),
            index: LogIndex::default(),
            base: LogIndex::default(),
        }
    }

    /// How the workflow says it is scheduled; every schedule was made from one that does.
    pub fn terms(&self) -> &ScheduleSpec {
        self.spec.schedule.as_ref().expect("a schedule is made from a workflow that has one")
    }

    /// The calendar. A later version may not know a zone or an expression of this one: then no time comes any more.
    pub fn times(&self) -> Option<Cron> {
        self.terms().times().ok()
    }

    fn set_next(&mut self, next: Option<Wall>) {
        self.next = next;
        self.due = next.map(|fire| self.due_of(fire));
    }

    /// The draw is a hash of schedule and time: the same in every life of the home.
    fn due_of(&self, fire: Wall) -> Wall {
        let spread = self.terms().jitter.0;
        if spread == 0 {
            return fire;
        }
        let digest = Sha256::new().chain_update(b"jitter").chain_update(fire_operation(self.id, fire).0).finalize();
        let draw = digest.iter().take(8).fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        Wall(fire.0 + draw % (spread + 1))
    }

    /// What to do about all times up to `now`, at most [`limits::SCHEDULE_WALK_MAX`] of them at once.
    pub fn plan(&self, times: &Cron, now: Wall) -> Plan {
        let mut passed = Vec::new();
        let mut next = self.next;
        while let Some(fire) = next.filter(|fire| self.due_of(*fire) <= now && passed.len() < limits::SCHEDULE_WALK_MAX)
        {
            passed.push(fire);
            next = times.next_after(fire);
        }
        let more = next.is_some_and(|fire| self.due_of(fire) <= now);
        let on_time = passed.last().is_some_and(|fire| now.0 - self.due_of(*fire).0 <= limits::SCHEDULE_LATE_MS_MAX);
        let kept = self.terms().catch_up as usize + usize::from(on_time || more);
        let run = passed.split_off(passed.len().saturating_sub(kept));
        // Of so many that more are to come, the newest of these may be among those that run: they are looked at again.
        if more {
            Plan { missed: passed, next: run.first().copied().or(next), run: Vec::new() }
        } else {
            Plan { missed: passed, run, next }
        }
    }
}

/// The run of one time: whoever starts it, and however often, it is this one.
pub(super) fn run_id(tag: LedgerTag, schedule: ScheduleId, fire: Wall) -> WorkflowId {
    TaskId::derive(tag, fire.0, fire_operation(schedule, fire), 0)
}

fn fire_operation(schedule: ScheduleId, fire: Wall) -> OperationId {
    let hash = Sha256::new().chain_update(b"fire").chain_update(schedule.ulid.to_be_bytes());
    let digest = hash.chain_update(schedule.ledger.0).chain_update(fire.0.to_be_bytes()).finalize();
    let mut operation = [0; 16];
    operation.copy_from_slice(&digest[..16]);
    OperationId(operation)
}

impl State {
    pub(super) fn apply_to_schedules(&mut self, index: LogIndex, record: &ScheduleRecord) {
        if let Some(partial) = &mut self.partial {
            return partial.hear_of_schedule(record);
        }
        match record {
            ScheduleRecord::Made { at, operation, owner, clock_root, spec, next } => {
                let id = TaskId::derive(self.tag, at.0, *operation, 0);
                let mut schedule = Schedule::new(id, spec.clone(), (owner.clone(), *clock_root), *at);
                schedule.set_next(*next);
                (schedule.index, schedule.base) = (index, index);
                self.changes.touched.push(id);
                self.schedules.insert(id, schedule);
            }
            ScheduleRecord::Fired { at, schedule, fire, outcome, next } => {
                self.fired(index, *at, *schedule, (*fire, *outcome), *next);
            }
            ScheduleRecord::Missed { schedule, times, through, next, .. } => {
                self.change_schedule(index, *schedule, |schedule| {
                    schedule.missed += times;
                    schedule.through = schedule.through.max(*through);
                    schedule.set_next(*next);
                });
            }
            ScheduleRecord::Changed { schedule, change: ScheduleChange::Remove, .. } => {
                self.schedules.remove(schedule);
            }
            ScheduleRecord::Changed { schedule, change, next, .. } => {
                self.change_schedule(index, *schedule, |schedule| {
                    schedule.paused = *change == ScheduleChange::Pause;
                    schedule.set_next(*next);
                });
            }
            ScheduleRecord::RunAsked { at, operation, schedule } => {
                let id = TaskId::derive(self.tag, at.0, *operation, 0);
                self.start_run(index, *at, *schedule, Run { fire: *at, workflow: id });
            }
        }
    }

    fn change_schedule(&mut self, index: LogIndex, id: ScheduleId, act: impl FnOnce(&mut Schedule)) {
        if let Some(schedule) = self.schedules.get_mut(&id) {
            self.changes.touched.push(id);
            act(schedule);
            schedule.index = index;
        }
    }

    fn fired(
        &mut self,
        index: LogIndex,
        at: Wall,
        id: ScheduleId,
        (fire, outcome): (Wall, FireOutcome),
        next: Option<Wall>,
    ) {
        self.change_schedule(index, id, |schedule| {
            schedule.through = schedule.through.max(fire);
            schedule.set_next(next);
            match outcome {
                FireOutcome::Queued => schedule.waiting = Some(fire),
                FireOutcome::Skipped(_) => schedule.skipped += 1,
                FireOutcome::Dequeued => schedule.waiting = None,
                FireOutcome::Started | FireOutcome::Replaced => {}
            }
        });
        match outcome {
            FireOutcome::Replaced => {
                for run in self.running(id) {
                    let error = TaskError::new("replaced", "the next run of its schedule took its place");
                    self.stop_workflow(index, at, run, (WorkflowState::Cancelled, error), false);
                }
            }
            FireOutcome::Queued | FireOutcome::Skipped(_) => return,
            FireOutcome::Started | FireOutcome::Dequeued => {}
        }
        let workflow = run_id(self.tag, id, fire);
        self.change_schedule(index, id, |schedule| {
            schedule.fired += 1;
            schedule.last = schedule.last.max(Some(fire));
        });
        self.start_run(index, at, id, Run { fire, workflow });
    }

    fn start_run(&mut self, index: LogIndex, at: Wall, id: ScheduleId, run: Run) {
        let Some(schedule) = self.schedules.get_mut(&id) else { return };
        self.changes.touched.push(id);
        schedule.runs.push_back(run);
        // What still runs is kept in sight of the overlap rule, and the bound on running workflows bounds that.
        let is_over = |run: &Run| !is_running(&self.workflows, &run.workflow);
        while schedule.runs.len() > limits::SCHEDULE_RUNS_KEPT_MAX {
            let Some(place) = schedule.runs.iter().take(schedule.runs.len() - 1).position(is_over) else { break };
            schedule.runs.remove(place);
        }
        schedule.index = index;
        let (spec, owner) = (schedule.spec.clone(), schedule.owner.clone());
        let mut started = WorkflowRun::new(run.workflow, spec, owner, schedule.clock_root, at);
        started.schedule = Some(id);
        self.add_workflow(index, at, started);
    }

    /// Runs of a schedule that are not over.
    pub(super) fn running(&self, id: ScheduleId) -> Vec<WorkflowId> {
        let runs = self.schedules.get(&id).into_iter().flat_map(|schedule| &schedule.runs);
        runs.map(|run| run.workflow).filter(|run| is_running(&self.workflows, run)).collect()
    }
}

fn is_running(workflows: &std::collections::BTreeMap<WorkflowId, WorkflowRun>, id: &WorkflowId) -> bool {
    workflows.get(id).is_some_and(|run| run.state == WorkflowState::Running)
}
