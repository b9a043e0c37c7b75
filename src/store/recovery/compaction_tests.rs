//! A home whose node is lost at any byte of a pass, its checkpoint and its cut.

use std::fs;
use std::path::Path;

use magpie_core::ids::{LogIndex, OperationId, PeerId, TaskId};
use magpie_core::queue::{
    Caller, CompactionPolicy, Effect, Event, Ledger, LedgerIdentity, LedgerReply, LedgerRequest, NewEntry, QueueStats,
    Replay, ReplyTo, SubmitAnswer, SubmitItem, TaskFilter, TaskView, Watermark,
};
use magpie_core::task::{TaskKind, TaskSpec, TaskState};
use magpie_core::time::Now;

use super::cut_tests::wait_cut;
use super::*;
use crate::store::log_probe::{LEDGER, Probe, fast_dir, frames};

const EVERYTHING: Watermark = Watermark { written: LogIndex(u64::MAX), synced: LogIndex(u64::MAX) };

fn identity() -> LedgerIdentity {
    LedgerIdentity { ledger: LEDGER, home: PeerId([1; 32]), secret: [2; 32] }
}

fn ask(ledger: &mut Ledger, now: Now, request: LedgerRequest) -> LedgerReply {
    let caller = Caller { peer: PeerId([0; 32]), owner: "test".into() };
    ledger.handle(now, Event::Request { caller, request, reply: ReplyTo(1) });
    ledger.handle(now, Event::Durable(EVERYTHING));
    let answer = |effect| match effect {
        Effect::Reply { to: ReplyTo(1), reply } => Some(reply),
        _ => None,
    };
    ledger.take_effects().into_iter().find_map(answer).unwrap()
}

/// What a home shows that starts now.
fn shown(replay: Replay) -> (Vec<TaskView>, QueueStats) {
    let now = Now { mono_ms: 1_000, wall_ms: 1_796_000_000_000 };
    let mut ledger = replay.open(now);
    let request = LedgerRequest::ListTasks { filter: TaskFilter::default(), cursor: None, limit: 1_000 };
    let (tasks, stats) = (ask(&mut ledger, now, request), ask(&mut ledger, now, LedgerRequest::Stats));
    match (tasks, stats) {
        (LedgerReply::Tasks { items, .. }, LedgerReply::Stats(stats)) => (items, *stats),
        other => panic!("{other:?}"),
    }
}

/// A home over a log on the disk. What was cut off stays in `whole`.
struct Home {
    ledger: Ledger,
    log: LedgerLog,
    probe: Probe,
    now: Now,
    whole: Vec<NewEntry>,
    cuts: usize,
}

impl Home {
    fn new(root: &Path) -> Self {
        let probe = Probe::default();
        let log = crate::store::log_probe::open(root, &probe);
        let now = Now { mono_ms: 1_000, wall_ms: 1_795_230_000_000 };
        let policy =
            CompactionPolicy { keep_ms: 300, bytes_min: 0, times_the_images: 0, ..CompactionPolicy::default() };
        let ledger = Replay::new(identity()).with_compaction(policy).open(now);
        let mut home = Self { ledger, log, probe, now, whole: Vec::new(), cuts: 0 };
        home.persist();
        home
    }

    /// Writes what the ledger wants written, each record by itself, and makes the cuts that follow.
    fn persist(&mut self) {
        for entry in self.ledger.take_entries() {
            self.whole.push(entry.clone());
            self.log.append(vec![entry]).unwrap();
            self.probe.wait_synced(self.whole.len() as u64);
        }
        let all = LogIndex(self.whole.len() as u64);
        self.ledger.handle(self.now, Event::Durable(Watermark { written: all, synced: all }));
        for effect in self.ledger.take_effects() {
            if let Effect::Cut { before } = effect {
                self.log.cut(before);
                wait_cut(&self.log, before.0);
                self.cuts += 1;
            }
        }
    }

    fn ask(&mut self, request: LedgerRequest) -> LedgerReply {
        let reply = ask(&mut self.ledger, self.now, request);
        self.persist();
        reply
    }

    fn operation(&self) -> OperationId {
        OperationId((self.whole.len() as u128 + 1).to_be_bytes())
    }

    fn submit(&mut self) -> TaskId {
        let (operation, items) = (self.operation(), vec![SubmitItem::one(TaskSpec::new(TaskKind::Noop))]);
        match self.ask(LedgerRequest::Submit { operation, items }) {
            LedgerReply::Submitted { answers } => match answers[0] {
                SubmitAnswer::Accepted { id } => id,
                SubmitAnswer::Refused(ref refusal) => panic!("{refusal}"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn cancel(&mut self, id: TaskId) {
        let (operation, reason) = (self.operation(), "enough".to_owned());
        let state = TaskState::Cancelled;
        assert_eq!(self.ask(LedgerRequest::Cancel { operation, id, reason }), LedgerReply::Cancelled { state });
    }

    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 100 {
            (self.now.mono_ms, self.now.wall_ms) = (self.now.mono_ms + 100, self.now.wall_ms + 100);
            self.ledger.handle(self.now, Event::Tick);
            self.persist();
        }
    }

    /// What a home must show whose log ends after `tip`.
    fn expected(&self, tip: LogIndex) -> (Vec<TaskView>, QueueStats) {
        let mut replay = Replay::new(identity());
        let known = self.whole.iter().take(tip.0 as usize);
        known.for_each(|entry| replay.apply(entry.index, &entry.body, entry.event).unwrap());
        shown(replay)
    }
}

/// Starts a home from what is left in `root`.
fn started(root: &Path) -> (LogIndex, LogIndex, (Vec<TaskView>, QueueStats)) {
    let dir = DataDir::open(root).unwrap();
    let recovery = LedgerLog::open(&dir, LEDGER).unwrap();
    let (start, tip) = (recovery.start(), recovery.tip());
    let mut replay = start.map_or_else(|| Replay::new(identity()), |start| Replay::resume(identity(), start));
    let read =
        recovery.replay(Probe::default().callbacks(), |entry| replay.apply(entry.index, &entry.body, entry.event));
    drop(read.unwrap());
    replay.check().unwrap();
    (start.map_or(LogIndex(1), |start| start.first), tip, shown(replay))
}

#[test]
fn a_home_that_is_lost_anywhere_in_a_pass_or_a_cut_starts_as_it_was() {
    let root = tempfile::tempdir().unwrap();
    let mut home = Home::new(root.path());
    for round in 0..4 {
        let ids: Vec<TaskId> = (0..6).map(|_| home.submit()).collect();
        ids[round..].iter().for_each(|id| home.cancel(*id));
        home.pass(2_500);
    }
    assert!(home.cuts >= 3, "{} cuts", home.cuts);
    let wal = frames(root.path());
    let mut starts = std::collections::BTreeSet::new();
    for len in (0..=wal.len()).step_by(4_120 / 2).chain([wal.len()]) {
        let image = fast_dir();
        fs::copy(root.path().join("ledger.db"), image.path().join("ledger.db")).unwrap();
        fs::write(image.path().join("ledger.db-wal"), &wal[..len]).unwrap();
        let (first, tip, shown) = started(image.path());
        assert_eq!(shown, home.expected(tip), "{first} to {tip}");
        starts.insert(first);
    }
    assert!(starts.len() > home.cuts, "{starts:?}");
}
