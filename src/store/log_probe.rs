//! What the tests of the log share: a ledger in a directory, and an ear for what its writer says.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use magpie_core::ids::{ContentId, LedgerId, LogIndex};
use magpie_core::task::Durability;

use super::DiskFailure;
use super::data_dir::DataDir;
use super::log::{LedgerLog, LogCallbacks, LogEntry, StoredEntry, Watermark};

pub(super) const LEDGER: LedgerId = LedgerId([7; 16]);
/// Far beyond anything a disk takes: only a bug waits this long.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Default)]
pub(super) struct Probe {
    heard: Arc<(Mutex<Heard>, Condvar)>,
}

#[derive(Debug, Default)]
struct Heard {
    watermarks: Vec<Watermark>,
    failures: Vec<DiskFailure>,
    reserves: usize,
    recoveries: usize,
}

impl Probe {
    pub(super) fn callbacks(&self) -> LogCallbacks {
        let [one, other, third, fourth] = std::array::from_fn(|_| self.clone());
        LogCallbacks {
            on_watermark: Box::new(move |watermark| one.hear(|heard| heard.watermarks.push(watermark))),
            on_failure: Box::new(move |failure| other.hear(|heard| heard.failures.push(failure))),
            on_reserve: Box::new(move || fourth.hear(|heard| heard.reserves += 1)),
            on_recovery: Box::new(move || third.hear(|heard| heard.recoveries += 1)),
        }
    }

    fn hear(&self, change: impl FnOnce(&mut Heard)) {
        change(&mut self.heard.0.lock().unwrap());
        self.heard.1.notify_all();
    }

    pub(super) fn watermarks(&self) -> Vec<Watermark> {
        self.heard.0.lock().unwrap().watermarks.clone()
    }

    pub(super) fn failures(&self) -> Vec<DiskFailure> {
        self.heard.0.lock().unwrap().failures.clone()
    }

    pub(super) fn wait_recovery(&self) {
        drop(self.wait(|heard| heard.recoveries > 0));
    }

    /// How often the writer said that it goes on in the reserve.
    pub(super) fn reserves(&self) -> usize {
        self.heard.0.lock().unwrap().reserves
    }

    pub(super) fn recoveries(&self) -> usize {
        self.heard.0.lock().unwrap().recoveries
    }

    pub(super) fn wait_synced(&self, index: u64) -> Watermark {
        let last = |heard: &Heard| heard.watermarks.last().copied().unwrap_or_default();
        last(&self.wait(|heard| last(heard).synced >= LogIndex(index)))
    }

    pub(super) fn wait_failure(&self) {
        drop(self.wait(|heard| !heard.failures.is_empty()));
    }

    fn wait(&self, heard: impl Fn(&Heard) -> bool) -> MutexGuard<'_, Heard> {
        let waiting = self.heard.1.wait_timeout_while(self.heard.0.lock().unwrap(), PATIENCE, |all| !heard(all));
        let (all, waited) = waiting.unwrap();
        assert!(!waited.timed_out(), "the writer said only this: {all:?}");
        all
    }
}

/// The body of the entry `index`: between 0 and 900 bytes, some of them larger than a page in a row.
pub(super) fn body(index: u64) -> Vec<u8> {
    let len = if index % 50 == 7 { 6_000 } else { (index * 37 % 900) as usize };
    (0..len).map(|at| (at as u64 * 31 + index) as u8).collect()
}

pub(super) fn entry(index: u64, durability: Durability) -> LogEntry {
    let body = body(index);
    LogEntry { index: LogIndex(index), durability, event: ContentId::of(&body), body }
}

pub(super) fn entries(indices: RangeInclusive<u64>, durability: Durability) -> Vec<LogEntry> {
    indices.map(|index| entry(index, durability)).collect()
}

/// What is in use of the write-ahead log in `root`: its frames up to the last, without the zeros behind.
pub(super) fn frames(root: &Path) -> Vec<u8> {
    let mut wal = std::fs::read(root.join("ledger.db-wal")).unwrap();
    let used = wal[32..].chunks(4_120).rposition(|frame| *frame != [0; 4_120]);
    wal.truncate(32 + used.map_or(0, |last| last + 1) * 4_120);
    wal
}

/// A directory in memory where there is one: for tests that open a ledger thousands of times and prove nothing of a disk.
pub(super) fn fast_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub(super) fn open(root: &Path, probe: &Probe) -> LedgerLog {
    let dir = DataDir::open(root).unwrap();
    LedgerLog::open(&dir, LEDGER).unwrap().replay(probe.callbacks(), |_| Ok::<_, String>(())).unwrap()
}

/// Opens the ledger in `root` and gives back all that it holds, or what it says against that.
pub(super) fn try_reopened(root: &Path) -> Result<Vec<StoredEntry>, String> {
    let dir = DataDir::open(root).map_err(|error| error.to_string())?;
    let recovery = LedgerLog::open(&dir, LEDGER).map_err(|error| error.to_string())?;
    let mut stored = Vec::new();
    let keep = |entry| {
        stored.push(entry);
        Ok::<_, String>(())
    };
    recovery.replay(Probe::default().callbacks(), keep).map_err(|error| error.to_string())?;
    Ok(stored)
}

pub(super) fn reopened(root: &Path) -> Vec<StoredEntry> {
    try_reopened(root).unwrap()
}
