//! What a home's log says of its schedules, read by other eyes than the core's.

use std::collections::BTreeMap;
use std::sync::Arc;

use magpie_core::dag::WorkflowSpec;
use magpie_core::ids::{ContentId, LedgerTag, LogIndex, OperationId, ScheduleId, TaskId, WorkflowId};
use magpie_core::queue::{FireOutcome, ScheduleChange, ScheduleRecord};
use magpie_core::time::Wall;

use crate::book::Book;

#[derive(Debug)]
pub struct ScheduleFacts {
    pub spec: Arc<WorkflowSpec>,
    /// Each time that something was decided about, with what.
    pub decided: BTreeMap<Wall, FireOutcome>,
    /// The newest time that was decided about or counted as missed.
    pub through: Wall,
    pub runs: Vec<WorkflowId>,
    pub removed: bool,
}

/// The run of a time: it follows from the schedule's id and the time.
fn run_of(tag: LedgerTag, schedule: ScheduleId, fire: Wall) -> WorkflowId {
    let bytes = [&b"fire"[..], &schedule.ulid.to_be_bytes(), &schedule.ledger.0, &fire.0.to_be_bytes()].concat();
    let mut operation = [0; 16];
    operation.copy_from_slice(&ContentId::of(&bytes).0[..16]);
    TaskId::derive(tag, fire.0, OperationId(operation), 0)
}

impl Book {
    pub fn read_schedule(&mut self, index: LogIndex, record: &ScheduleRecord) {
        match record {
            ScheduleRecord::Made { at, operation, spec, .. } => {
                let id = TaskId::derive(self.tag(), at.0, *operation, 0);
                let (spec, decided, runs) = (spec.clone(), BTreeMap::new(), Vec::new());
                self.schedules.insert(id, ScheduleFacts { spec, decided, through: Wall(0), runs, removed: false });
            }
            ScheduleRecord::Fired { schedule, fire, outcome, .. } => self.fired(index, *schedule, *fire, *outcome),
            ScheduleRecord::Missed { schedule, through, .. } => {
                if let Some(facts) = self.schedules.get_mut(schedule) {
                    facts.through = facts.through.max(*through);
                }
            }
            ScheduleRecord::Changed { schedule, change: ScheduleChange::Remove, .. } => {
                if let Some(facts) = self.schedules.get_mut(schedule) {
                    facts.removed = true;
                }
            }
            ScheduleRecord::Changed { .. } => {}
            ScheduleRecord::RunAsked { at, operation, schedule } => {
                self.start_run(index, *schedule, TaskId::derive(self.tag(), at.0, *operation, 0));
            }
        }
    }

    fn fired(&mut self, index: LogIndex, schedule: ScheduleId, fire: Wall, outcome: FireOutcome) {
        let Some(facts) = self.schedules.get_mut(&schedule) else { return };
        facts.through = facts.through.max(fire);
        facts.decided.insert(fire, outcome);
        match outcome {
            FireOutcome::Skipped(_) | FireOutcome::Queued => return,
            FireOutcome::Replaced => {
                for run in facts.runs.clone() {
                    self.end_workflow(run, index);
                }
            }
            FireOutcome::Started | FireOutcome::Dequeued => {}
        }
        self.start_run(index, schedule, run_of(self.tag(), schedule, fire));
    }

    fn start_run(&mut self, index: LogIndex, schedule: ScheduleId, run: WorkflowId) {
        let Some(facts) = self.schedules.get_mut(&schedule) else { return };
        facts.runs.push(run);
        let spec = facts.spec.clone();
        self.start_workflow(run, spec, index);
    }
}
