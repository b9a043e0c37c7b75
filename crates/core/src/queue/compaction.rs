//! Making a log shorter: what its oldest part still says is carried forward, then that part may go.
//!
//! A pass goes over keys, tasks, workflows and schedules, a bounded piece of them per tick, and appends their images. A checkpoint
//! with the sums ends it; once that is synced, [`Effect::Cut`] lets the store remove what is older than the cut. The
//! pass itself is not durable: a crash forgets it, and its images are then only a few records more.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;

use serde::Serialize;

use super::effects::{Effect, Gate};
use super::images::{Carried, KeyImage, is_related, is_written};
use super::keys::{KeyEntry, KeyPlace};
use super::ledger::Ledger;
use super::operations::DoneOperation;
use super::record::Record;
use super::schedule::Schedule;
use super::state::State;
use super::task_entry::{Soft, Task};
use super::workflow_run::WorkflowRun;
use crate::ids::{LogIndex, ScheduleId, TaskId, WorkflowId};
use crate::limits;
use crate::task::{Durability, TaskState};
use crate::time::Wall;
use crate::wire::Counted;

/// When a log is made shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactionPolicy {
    /// Younger records stay: they answer replayed operations.
    pub keep_ms: u64,
    /// Less is not worth a pass.
    pub bytes_min: u64,
    /// What may go must be this many times as large as all that would be carried forward.
    pub times_the_images: u64,
    /// Images of one record.
    pub piece_len_max: usize,
}

impl Default for CompactionPolicy {
    fn default() -> Self {
        Self {
            keep_ms: limits::OPERATION_TTL_MS,
            bytes_min: limits::COMPACTION_BYTES_MIN,
            times_the_images: 2,
            piece_len_max: limits::COMPACTION_PIECE_LEN_MAX,
        }
    }
}

/// How long the log is, and the pass under way.
#[derive(Debug, Clone)]
pub(super) struct Compaction {
    policy: CompactionPolicy,
    /// The first record that is not cut off.
    first: LogIndex,
    /// Bytes of all records seen, and how many of them stood before `first`.
    bytes: u64,
    cut_bytes: u64,
    /// Bytes of the images that the last pass carried, and of those since its checkpoint.
    images_bytes: u64,
    carried_bytes: u64,
    /// Places where the log may be cut, the oldest first.
    places: VecDeque<CutPlace>,
    pass: Option<Pass>,
    /// The checkpoint of the last pass.
    checkpoint: LogIndex,
    looked_ms: u64,
}

#[derive(Debug, Clone, Copy)]
struct CutPlace {
    first: LogIndex,
    at: Wall,
    /// Bytes of the records before it.
    bytes: u64,
}

#[derive(Debug, Clone)]
struct Pass {
    cut: CutPlace,
    /// The first record that the pass could write.
    started: LogIndex,
    stage: Stage,
    /// What moved, by records that did not name it, after its image was written.
    moved: BTreeSet<TaskId>,
    /// The last record of the pass: the next follows once it is written.
    last: LogIndex,
    /// Ticks in the last stage.
    rounds: usize,
}

#[derive(Debug, Clone)]
enum Stage {
    Keys(Option<KeyPlace>),
    Tasks(Option<TaskId>),
    Workflows(Option<WorkflowId>),
    Schedules(Option<ScheduleId>),
    Moved,
}

/// Time between two looks at whether a pass would pay, and after one that could not be ended.
const LOOK_EVERY_MS: u64 = 1_000;
const GIVEN_UP_MS: u64 = 600_000;
/// What stands around the images in a record, at most.
const RECORD_BYTES: usize = 4 * 1024;

impl Default for Compaction {
    fn default() -> Self {
        Self::from(LogIndex(1))
    }
}

impl Compaction {
    pub fn from(first: LogIndex) -> Self {
        Self {
            policy: CompactionPolicy::default(),
            first,
            bytes: 0,
            cut_bytes: 0,
            images_bytes: 0,
            carried_bytes: 0,
            places: VecDeque::new(),
            pass: None,
            checkpoint: LogIndex(0),
            looked_ms: 0,
        }
    }

    /// Of what was counted before, places are kept as they were.
    pub fn set_policy(&mut self, policy: CompactionPolicy) {
        self.policy = policy;
    }

    /// Counts a record, and keeps few enough places: the newest that is old enough to cut at, and some after it.
    pub fn measure(&mut self, index: LogIndex, record: &Record, bytes: usize) {
        let (at, keep_ms, apart_ms) = (record.at(), self.policy.keep_ms, self.policy.keep_ms / 8);
        if self.places.back().is_none_or(|last| at.0 >= last.at.0 + apart_ms) {
            self.places.push_back(CutPlace { first: index, at, bytes: self.bytes });
        }
        while self.places.get(1).is_some_and(|second| second.at.0 + keep_ms <= at.0) {
            self.places.pop_front();
        }
        self.bytes += bytes as u64;
        if matches!(record, Record::Carried { .. }) {
            self.carried_bytes += bytes as u64;
        } else if matches!(record, Record::Checkpoint { .. }) {
            self.images_bytes = std::mem::take(&mut self.carried_bytes);
        }
    }

    pub fn is_under_way(&self) -> bool {
        self.pass.is_some()
    }

    /// Remembers what moves while a pass is under way.
    pub fn note(&mut self, state: &State) {
        let Some(pass) = &mut self.pass else { return };
        let moved = state.changes.tasks.iter().map(|change| change.task).chain(state.changes.touched.iter().copied());
        let passed: Vec<TaskId> = moved.filter(|id| pass.has_passed(state, *id)).collect();
        pass.moved.extend(passed);
    }

    /// The newest place that is old enough.
    fn place(&self, now: Wall) -> Option<CutPlace> {
        let old = |place: &&CutPlace| place.at.0 + self.policy.keep_ms <= now.0 && place.first > self.first;
        self.places.iter().rev().find(old).copied()
    }
}

impl Pass {
    /// Whether the pass has carried this, or it is newer: what it has yet to come to is carried as it stands then.
    /// A task that stands by itself is followed by the records that name it.
    fn has_passed(&self, state: &State, id: TaskId) -> bool {
        let task = state.tasks.get(&id).filter(|task| is_related(task)).map(|task| (task.durability(), task.base));
        let run = || state.workflows.get(&id).map(|run| (run.spec.durability, run.base));
        let schedule = || state.schedules.get(&id).map(|schedule| (schedule.spec.durability, schedule.base));
        let known = task.or_else(run).or_else(schedule);
        known.is_some_and(|(durability, base)| is_written(durability) && base >= self.started)
    }
}

/// Images on their way into one record.
struct Piece {
    carried: Carried,
    len: usize,
    bytes: usize,
    /// Entries that were looked at.
    seen: usize,
    len_max: usize,
}

impl Piece {
    fn new(len_max: usize) -> Self {
        Self { carried: Carried::default(), len: 0, bytes: 0, seen: 0, len_max }
    }

    /// Whether the tick has done its part.
    fn is_full(&self) -> bool {
        let scanned = self.seen >= limits::COMPACTION_SCAN_LEN_MAX;
        self.len >= self.len_max || self.bytes >= limits::COMPACTION_PIECE_BYTES_MAX || scanned
    }

    fn count(&mut self, image: &impl Serialize) {
        self.len += 1;
        self.bytes += encoded_bytes(image);
    }

    fn add_task(&mut self, task: &Task) {
        self.count(task);
        let state = if task.soft.woken { TaskState::Delayed } else { task.state };
        self.carried.tasks.push(Task { state, soft: Soft::default(), ..task.clone() });
    }

    fn add_key(&mut self, place: &KeyPlace, entry: KeyEntry) {
        let image = KeyImage { name: place.1.clone(), entry };
        self.count(&image);
        self.carried.keys.push(image);
    }

    fn add_workflow(&mut self, run: &WorkflowRun) {
        self.count(run);
        self.carried.workflows.push(run.clone());
    }

    fn add_schedule(&mut self, schedule: &Schedule) {
        self.count(schedule);
        self.carried.schedules.push(schedule.clone());
    }
}

impl Ledger {
    /// Asks for a cut that a crash came before.
    pub(super) fn finish_cut(&mut self) {
        let before = self.state.cut;
        if before > self.compaction.first {
            self.compaction.first = before;
            self.outbox.push(Gate::Synced(self.outbox.synced()), Effect::Cut { before });
        }
    }

    /// One tick of compaction: a look whether it would pay, or the next piece of the pass under way.
    pub(super) fn compact(&mut self) {
        match self.compaction.pass.take() {
            None => self.compaction.pass = self.begin_pass(),
            // One piece at a time is on its way: a disk that refuses gets no more of them.
            Some(pass) if pass.last > self.outbox.written() => self.compaction.pass = Some(pass),
            Some(pass) => {
                self.compaction.pass = Some(pass);
                self.go_on();
            }
        }
    }

    fn begin_pass(&mut self) -> Option<Pass> {
        let now_ms = self.now.mono_ms;
        // A disk that refuses gets no second pass.
        if now_ms < self.compaction.looked_ms || self.compaction.checkpoint > self.outbox.synced() {
            return None;
        }
        self.compaction.looked_ms = now_ms + LOOK_EVERY_MS;
        let policy = self.compaction.policy;
        let cut = self.compaction.place(self.at())?;
        let bytes = cut.bytes.saturating_sub(self.compaction.cut_bytes);
        let images_bytes = self.retention.bytes().max(self.compaction.images_bytes);
        let pays = bytes >= policy.bytes_min && bytes >= policy.times_the_images * images_bytes;
        let (started, last) = (self.next, LogIndex(0));
        pays.then(|| Pass { cut, started, stage: Stage::Keys(None), moved: BTreeSet::new(), last, rounds: 0 })
    }

    fn go_on(&mut self) {
        let Some(mut pass) = self.compaction.pass.take() else { return };
        let mut pieces = 1;
        if matches!(pass.stage, Stage::Moved) {
            // More each time, so that a home which is never quiet comes to an end too.
            pass.rounds += 1;
            pieces = limits::COMPACTION_LAST_PIECES + pass.rounds;
        }
        for _ in 0..pieces {
            let piece = self.next_piece(&mut pass);
            if !fits(piece.bytes) {
                // A workflow beyond what one record holds: nothing is cut while it is there.
                return self.give_up();
            }
            if piece.len > 0 {
                let record = Record::Carried { at: self.at(), carried: piece.carried };
                pass.last = self.commit(Durability::Async, record);
            }
        }
        if matches!(pass.stage, Stage::Moved) && pass.moved.is_empty() {
            return self.end_pass(&pass);
        }
        self.compaction.pass = Some(pass);
    }

    fn next_piece(&self, pass: &mut Pass) -> Piece {
        let mut piece = Piece::new(self.compaction.policy.piece_len_max);
        while !piece.is_full() {
            pass.stage = match std::mem::replace(&mut pass.stage, Stage::Moved) {
                Stage::Keys(after) => self.carry_keys(pass, after, &mut piece),
                Stage::Tasks(after) => self.carry_tasks(pass, after, &mut piece),
                Stage::Workflows(after) => self.carry_workflows(after, &mut piece),
                Stage::Schedules(after) => self.carry_schedules(after, &mut piece),
                Stage::Moved => {
                    self.carry_moved(pass, &mut piece);
                    return piece;
                }
            };
        }
        piece
    }

    /// Keys that a record before the cut gave.
    fn carry_keys(&self, pass: &Pass, after: Option<KeyPlace>, piece: &mut Piece) -> Stage {
        for (place, entry) in self.state.keys.after(after.as_ref()) {
            piece.seen += 1;
            if entry.written && entry.id.made_at() < pass.cut.at {
                piece.add_key(place, entry);
            }
            if piece.is_full() {
                return Stage::Keys(Some(place.clone()));
            }
        }
        Stage::Tasks(None)
    }

    /// Tasks that stand before the cut, and all that records may change without naming them.
    fn carry_tasks(&self, pass: &Pass, after: Option<TaskId>, piece: &mut Piece) -> Stage {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        for id in self.state.order.range((from, Bound::Unbounded)) {
            piece.seen += 1;
            let wanted = |task: &&Task| is_related(task) || task.base < pass.cut.first;
            let task = self.state.tasks.get(id).filter(|task| is_written(task.durability()));
            if let Some(task) = task.filter(wanted) {
                piece.add_task(task);
            }
            if piece.is_full() {
                return Stage::Tasks(Some(*id));
            }
        }
        Stage::Workflows(None)
    }

    fn carry_workflows(&self, after: Option<WorkflowId>, piece: &mut Piece) -> Stage {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        for (id, run) in self.state.workflows.range((from, Bound::Unbounded)) {
            piece.seen += 1;
            if is_written(run.spec.durability) {
                piece.add_workflow(run);
            }
            if piece.is_full() {
                return Stage::Workflows(Some(*id));
            }
        }
        Stage::Schedules(None)
    }

    fn carry_schedules(&self, after: Option<ScheduleId>, piece: &mut Piece) -> Stage {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        for (id, schedule) in self.state.schedules.range((from, Bound::Unbounded)) {
            piece.seen += 1;
            piece.add_schedule(schedule);
            if piece.is_full() {
                return Stage::Schedules(Some(*id));
            }
        }
        Stage::Moved
    }

    fn carry_moved(&self, pass: &mut Pass, piece: &mut Piece) {
        while !piece.is_full()
            && let Some(id) = pass.moved.pop_first()
        {
            piece.seen += 1;
            self.state.tasks.get(&id).into_iter().for_each(|task| piece.add_task(task));
            self.state.workflows.get(&id).into_iter().for_each(|run| piece.add_workflow(run));
            self.state.schedules.get(&id).into_iter().for_each(|schedule| piece.add_schedule(schedule));
        }
    }

    fn end_pass(&mut self, pass: &Pass) {
        let (at, before) = (self.at(), pass.cut.first);
        let operations = self.operations.before(pass.cut.at).filter(|old| self.is_written_operation(old));
        let totals = Box::new(self.state.totals(operations.collect()));
        if !fits(encoded_bytes(&totals)) {
            return self.give_up();
        }
        let index = self.commit(Durability::Sync, Record::Checkpoint { at, before, totals });
        (self.compaction.first, self.compaction.cut_bytes) = (before, pass.cut.bytes);
        self.compaction.checkpoint = index;
        self.outbox.push(Gate::Synced(index), Effect::Cut { before });
    }

    /// Ends a pass without a cut: the next one comes later than usual.
    fn give_up(&mut self) {
        self.compaction.looked_ms = self.now.mono_ms + GIVEN_UP_MS;
    }

    /// What was done to `memory` tasks is forgotten with them.
    fn is_written_operation(&self, old: &DoneOperation) -> bool {
        let subject = old.subject(self.state.tag);
        let task = subject.and_then(|id| self.state.tasks.get(&id)).map(Task::durability);
        let run = subject.and_then(|id| self.state.workflows.get(&id)).map(|run| run.spec.durability);
        task.or(run).is_none_or(is_written)
    }
}

/// Whether images of so many bytes fit into one record.
fn fits(bytes: usize) -> bool {
    bytes + RECORD_BYTES <= limits::LOG_BODY_BYTES_MAX
}

/// What a value takes in a record.
fn encoded_bytes(value: &impl Serialize) -> usize {
    let mut counted = Counted(0);
    rmp_serde::encode::write_named(&mut counted, value).expect("an image has only string keys and plain values");
    counted.0
}
