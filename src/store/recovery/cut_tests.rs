//! Logs whose oldest part was cut off, on the disk.

use std::fs;
use std::path::Path;

use magpie_core::ids::ContentId;
use magpie_core::limits;
use magpie_core::queue::LogStart;
use magpie_core::task::Durability;
use rusqlite::params;

use super::*;
use crate::store::log::ReadLogError;
use crate::store::log_probe::{LEDGER, Probe, body, entries, fast_dir, frames, open, reopened, try_reopened};
use crate::store::sqlite::CommitTo;

const LEN: u64 = 1_300;

/// Entries `1..=LEN`, synced, all before `before` cut off.
fn cut_ledger(root: &Path, before: u64) -> LedgerLog {
    let probe = Probe::default();
    let log = open(root, &probe);
    log.append(entries(1..=LEN, Durability::Sync)).unwrap();
    probe.wait_synced(LEN);
    log.cut(LogIndex(before));
    wait_cut(&log, before);
    log
}

pub fn wait_cut(log: &LedgerLog, before: u64) {
    let cut = || matches!(log.read(LogIndex(before - 1), 1), Err(ReadLogError::Pruned { .. }));
    while !cut() {
        std::thread::yield_now();
    }
}

fn start_of(root: &Path) -> Option<LogStart> {
    let dir = DataDir::open(root).unwrap();
    LedgerLog::open(&dir, LEDGER).unwrap().start()
}

fn assert_kept(root: &Path, first: u64, last: u64) {
    let stored = reopened(root);
    let indices: Vec<u64> = stored.iter().map(|entry| entry.index.0).collect();
    assert_eq!(indices, (first..=last).collect::<Vec<_>>());
    assert!(stored.iter().all(|entry| entry.body == body(entry.index.0)));
}

#[test]
fn what_is_before_a_cut_is_gone_and_named_as_pruned() {
    let root = tempfile::tempdir().unwrap();
    let log = cut_ledger(root.path(), 1_100);
    let refused = log.read(LogIndex(7), 1).unwrap_err();
    assert_eq!(refused.to_string(), "entry 7 was pruned with all before entry 1100");
    assert_eq!(log.read(LogIndex(1_100), 3).unwrap().len(), 3);
    log.append(entries(LEN + 1..=LEN + 5, Durability::Sync)).unwrap();
    log.close().unwrap();
    assert_eq!(start_of(root.path()), Some(LogStart { first: LogIndex(1_100), after: ContentId::of(&body(1_099)) }));
    assert_kept(root.path(), 1_100, LEN + 5);
}

#[test]
fn a_cut_log_is_cut_again_where_it_was_left() {
    let root = tempfile::tempdir().unwrap();
    cut_ledger(root.path(), 600).close().unwrap();
    let log = open(root.path(), &Probe::default());
    log.cut(LogIndex(500));
    log.cut(LogIndex(1_200));
    wait_cut(&log, 1_200);
    log.close().unwrap();
    assert_kept(root.path(), 1_200, LEN);
}

#[test]
fn only_what_is_synced_is_cut_off() {
    let root = tempfile::tempdir().unwrap();
    let log = cut_ledger(root.path(), 600);
    log.cut(LogIndex(LEN + 100));
    wait_cut(&log, LEN);
    log.close().unwrap();
    assert_kept(root.path(), LEN, LEN);
}

#[test]
fn the_room_of_what_was_cut_off_is_used_again_or_given_back() {
    let root = tempfile::tempdir().unwrap();
    let probe = Probe::default();
    let log = open(root.path(), &probe);
    let mut lens = Vec::new();
    for round in 1..=6 {
        let last = round * LEN;
        log.append(entries(last - LEN + 1..=last, Durability::Sync)).unwrap();
        probe.wait_synced(last);
        log.cut(LogIndex(last - 10));
        wait_cut(&log, last - 10);
        let mut database = Database::open(&root.path().join("ledger.db")).unwrap();
        database.checkpoint().ok();
        lens.push(fs::metadata(root.path().join("ledger.db")).unwrap().len());
    }
    assert!(lens[5] <= 2 * lens[0].max(100_000), "{lens:?}");
}

#[test]
fn a_crash_anywhere_in_a_cut_leaves_the_log_before_or_after_a_step() {
    let root = tempfile::tempdir().unwrap();
    let probe = Probe::default();
    let log = open(root.path(), &probe);
    log.append(entries(1..=LEN, Durability::Sync)).unwrap();
    log.close().unwrap();
    let log = open(root.path(), &probe);
    log.cut(LogIndex(1_200));
    wait_cut(&log, 1_200);
    let wal = frames(root.path());
    let (mut starts, frame) = (std::collections::BTreeSet::new(), 4_120);
    for len in (0..=wal.len()).step_by(frame / 2).chain([wal.len()]) {
        let image = fast_dir();
        fs::copy(root.path().join("ledger.db"), image.path().join("ledger.db")).unwrap();
        fs::write(image.path().join("ledger.db-wal"), &wal[..len]).unwrap();
        let first = start_of(image.path()).map_or(1, |start| start.first.0);
        assert_kept(image.path(), first, LEN);
        starts.insert(first);
    }
    assert_eq!(starts.into_iter().collect::<Vec<_>>(), [1, 513, 1_025, 1_200]);
}

#[test]
fn a_start_that_was_changed_or_lost_is_refused() {
    for change in ["DELETE FROM meta WHERE key = 'start'", "UPDATE meta SET value = zeroblob(40) WHERE key = 'start'"] {
        let root = tempfile::tempdir().unwrap();
        cut_ledger(root.path(), 600).close().unwrap();
        let mut database = Database::open(&root.path().join("ledger.db")).unwrap();
        database.transaction(CommitTo::Disk, |tx| tx.execute(change, params![])).unwrap();
        drop(database);
        let refused = try_reopened(root.path()).unwrap_err();
        assert!(refused.contains("damaged: entry 1 is missing, 600 follows"), "{refused}");
    }
}

#[test]
fn a_cut_that_the_disk_refuses_is_dropped_and_may_be_asked_for_again() {
    let root = tempfile::tempdir().unwrap();
    let probe = Probe::default();
    let log = open(root.path(), &probe);
    log.append(entries(1..=LEN, Durability::Sync)).unwrap();
    probe.wait_synced(LEN);
    let intruder = rusqlite::Connection::open(root.path().join("ledger.db")).unwrap();
    intruder.execute_batch("BEGIN IMMEDIATE").unwrap();
    log.cut(LogIndex(700));
    while log.cut_is_due() {
        std::thread::yield_now();
    }
    assert_eq!(log.read(LogIndex(1), 1).unwrap().len(), 1);
    intruder.execute_batch("ROLLBACK").unwrap();
    log.cut(LogIndex(700));
    wait_cut(&log, 700);
    log.close().unwrap();
    assert_kept(root.path(), 700, LEN);
}

#[test]
fn a_log_that_is_never_idle_gets_shorter_all_the_same() {
    const BEFORE: u64 = 30_000;
    const CAME_MAX: u64 = 2 * BEFORE;
    // The writer takes a quarter of this at a time.
    const BACKLOG: usize = 4 * limits::COMMIT_BATCH_LEN_MAX;
    let root = fast_dir();
    let probe = Probe::default();
    let log = open(root.path(), &probe);
    // Made before, so that they come faster than they are written.
    let made = (0..BEFORE + CAME_MAX).step_by(1_024).map(|n| entries(n + 1..=n + 1_024, Durability::Async));
    let mut made: std::collections::VecDeque<_> = made.collect();
    let mut keep_busy = || {
        if log.room().entries > limits::LOG_QUEUE_LEN_MAX - BACKLOG {
            let next = made.pop_front().expect("the log got shorter before so much came");
            log.append(next).unwrap();
        }
    };
    let is_synced = || probe.watermarks().last().is_some_and(|watermark| watermark.synced.0 >= BEFORE);
    while !is_synced() {
        keep_busy();
    }
    log.cut(LogIndex(BEFORE));
    let is_cut = || matches!(log.read(LogIndex(BEFORE - 1), 1), Err(ReadLogError::Pruned { .. }));
    while !is_cut() {
        keep_busy();
    }
}
