//! The log seam: `append(batch) -> durable index`.
//!
//! A caller appends and goes on. The writer thread commits everything that has gathered in one transaction and says
//! through [`LogCallbacks`] how far the log reaches. Nothing that rests on an entry leaves the node before its class
//! is served: `written` for `async`, `synced` for `sync`.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use magpie_core::ids::{ContentId, LedgerId, LogIndex};
use magpie_core::limits;
/// What goes in: `Async` or `Sync` (a record of class `Memory` has no place here), at most
/// [`limits::LOG_BODY_BYTES_MAX`] bytes. And how far the log reaches: `synced <= written`.
use magpie_core::queue::LogStart;
pub use magpie_core::queue::{NewEntry as LogEntry, Watermark};
use rusqlite::{Connection, params};

use super::DiskFailure;
use super::data_dir::DataDir;
use super::log_file;
use super::log_writer::Shared;
use super::recovery::{OpenLogError, Recovery};
use super::sqlite::PAGE_BYTES;

/// A record as the log gives it back, with its digest checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntry {
    pub index: LogIndex,
    pub body: Vec<u8>,
    pub event: ContentId,
}

/// What the writer thread says. All are called on that thread and must not wait.
pub struct LogCallbacks {
    pub on_watermark: Box<dyn Fn(Watermark) + Send>,
    /// Nothing is written: the writer keeps the batch and tries again, at most 2 s apart.
    pub on_failure: Box<dyn Fn(DiskFailure) + Send>,
    /// The disk is full, and the writer goes on in the reserve.
    pub on_reserve: Box<dyn Fn() + Send>,
    /// The disk takes entries again, and the reserve is whole.
    pub on_recovery: Box<dyn Fn() + Send>,
}

impl fmt::Debug for LogCallbacks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("LogCallbacks")
    }
}

/// What `append` still takes. With a single appender it only grows until the next append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueRoom {
    pub entries: usize,
    pub bytes: usize,
}

/// Entries were not taken, none of them.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The disk does not keep up: the entries come back, to be appended again later.
    #[error("the log has room for {} entries and {} bytes, presented {} entries", room.entries, room.bytes, entries.len())]
    Full { entries: Vec<LogEntry>, room: QueueRoom },
    #[error("the next entry of the log is {expected}, presented {presented}")]
    NotConsecutive { expected: LogIndex, presented: LogIndex },
    #[error("entry {index} is of class memory and has no place in a log")]
    InMemory { index: LogIndex },
    #[error("entry {index} has {bytes} bytes, the most is {}", limits::LOG_BODY_BYTES_MAX)]
    Oversize { index: LogIndex, bytes: usize },
    #[error("the log is closed")]
    Closed,
}

/// A read of the log failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadLogError {
    /// Those entries are not kept any more.
    #[error("entry {from} was pruned with all before entry {before}")]
    Pruned { from: LogIndex, before: LogIndex },
    #[error("cannot read {} from entry {from}: {failure}", file.display())]
    Disk { file: PathBuf, from: LogIndex, failure: DiskFailure },
}

/// The log closed while its disk refused: what was not acknowledged as synced may be missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {first} and those after it did not reach the disk: {failure}")]
pub struct CloseLogError {
    pub first: LogIndex,
    pub failure: DiskFailure,
}

/// The log of one ledger, open for appending. Made by [`Recovery::replay`] only, so never over entries nobody checked.
///
/// Dropping it closes it, which blocks until what is queued is on the disk or the disk refuses.
#[derive(Debug)]
pub struct LedgerLog {
    reader: LogReader,
    shared: Arc<Shared>,
    writer: Option<JoinHandle<Result<(), CloseLogError>>>,
}

/// Reads an open log, from any thread.
#[derive(Debug, Clone)]
pub struct LogReader {
    file: PathBuf,
    shared: Arc<Shared>,
    connection: Arc<Mutex<Connection>>,
}

impl LogReader {
    /// As [`LedgerLog::read`].
    ///
    /// # Errors
    /// As [`LedgerLog::read`].
    pub fn read(&self, from: LogIndex, len_max: usize) -> Result<Vec<StoredEntry>, ReadLogError> {
        let from = from.max(LogIndex(1));
        let pruned = || Some(self.shared.first()).filter(|before| from < *before);
        let len_max = len_max.min(limits::LIST_LEN_MAX) as u64;
        let last = from.0.saturating_add(len_max).saturating_sub(1).min(self.shared.synced().0);
        let reader = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let read = match pruned() {
            Some(before) => return Err(ReadLogError::Pruned { from, before }),
            None => read_range(&reader, from, LogIndex(last)),
        };
        // It may have been cut off while it was read.
        read.map_err(|failure| match pruned() {
            Some(before) => ReadLogError::Pruned { from, before },
            None => ReadLogError::Disk { file: self.file.clone(), from, failure },
        })
    }

    /// Where the log begins, if its oldest part was cut off.
    ///
    /// # Errors
    /// The disk's refusal.
    pub fn start(&self) -> Result<Option<LogStart>, ReadLogError> {
        let from = self.shared.first();
        let failed = |failure| ReadLogError::Disk { file: self.file.clone(), from, failure };
        let reader = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = |format| DiskFailure::Damaged(format!("it has format {format}"));
        let header = log_file::read_header(&reader).and_then(|read| read.map_err(|found| newer(found.format)));
        header.map(|header| header.start).map_err(failed)
    }

    /// The first record that is kept.
    pub fn first(&self) -> LogIndex {
        self.shared.first()
    }

    /// The last record that is synced.
    pub fn synced(&self) -> LogIndex {
        self.shared.synced()
    }
}

impl LedgerLog {
    /// Opens the ledger of `dir`. Where there is none, an empty one is made, with the id `fresh`.
    ///
    /// # Errors
    /// See [`OpenLogError`]: damaged, of a newer format, open already, or a disk that refuses.
    pub fn open(dir: &DataDir, fresh: LedgerId) -> Result<Recovery, OpenLogError> {
        Recovery::open(dir, fresh)
    }

    pub(super) fn started(
        file: PathBuf,
        shared: Arc<Shared>,
        reader: Connection,
        writer: JoinHandle<Result<(), CloseLogError>>,
    ) -> Self {
        let reader = LogReader { file, shared: shared.clone(), connection: Arc::new(Mutex::new(reader)) };
        Self { reader, shared, writer: Some(writer) }
    }

    /// Queues `entries` for the next transaction and returns at once.
    ///
    /// # Errors
    /// See [`AppendError`]; all or none are taken.
    pub fn append(&self, entries: Vec<LogEntry>) -> Result<(), AppendError> {
        self.shared.queue.push(entries)
    }

    /// The index that the next appended entry must have.
    pub fn next_index(&self) -> LogIndex {
        self.shared.queue.next_index()
    }

    /// What the queue has room for: ask before deciding something that must be logged.
    pub fn room(&self) -> QueueRoom {
        self.shared.queue.room()
    }

    /// Removes all entries before `before`, in steps between the transactions; only what is synced. Returns at once.
    pub fn cut(&self, before: LogIndex) {
        self.shared.queue.cut(before);
    }

    /// Whether a cut was asked for that is neither made nor dropped.
    #[cfg(test)]
    pub(super) fn cut_is_due(&self) -> bool {
        self.shared.queue.cut_before() > self.shared.first()
    }

    /// Refuses growth of the database beyond `bytes_max`, as a full disk would; raised again, the writer goes on.
    pub fn limit_bytes(&self, bytes_max: u64) {
        let pages = (bytes_max / PAGE_BYTES as u64).max(1);
        self.shared.limit_pages(u32::try_from(pages).unwrap_or(u32::MAX));
    }

    /// Up to `len_max` entries from `from` on, in order; only what is synced. At most [`limits::LIST_LEN_MAX`]. Blocks.
    ///
    /// # Errors
    /// [`ReadLogError::Pruned`] if the log begins behind `from`; a missing or changed entry, with its index, or the disk's
    /// refusal.
    pub fn read(&self, from: LogIndex, len_max: usize) -> Result<Vec<StoredEntry>, ReadLogError> {
        self.reader.read(from, len_max)
    }

    /// A reader that may outlive the log.
    pub fn reader(&self) -> LogReader {
        self.reader.clone()
    }

    /// Writes and syncs what is queued, empties the write-ahead log, and ends the writer. Blocks.
    ///
    /// # Errors
    /// The first entry that did not reach the disk, and why.
    pub fn close(mut self) -> Result<(), CloseLogError> {
        self.finish()
    }

    fn finish(&mut self) -> Result<(), CloseLogError> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        self.shared.queue.close();
        writer.join().unwrap_or_else(|_| {
            let failure = DiskFailure::Io("the writer thread panicked".into());
            Err(CloseLogError { first: self.shared.synced().next(), failure })
        })
    }
}

impl Drop for LedgerLog {
    fn drop(&mut self) {
        // An owner that wants to know calls `close`; what was acknowledged is safe either way.
        let _ = self.finish();
    }
}

fn read_range(reader: &Connection, first: LogIndex, last: LogIndex) -> Result<Vec<StoredEntry>, DiskFailure> {
    let mut statement = reader.prepare_cached(log_file::SELECT_ENTRIES)?;
    let mut rows = statement.query(params![first.0.cast_signed(), last.0.cast_signed()])?;
    let mut entries = Vec::new();
    let mut expected = first;
    while let Some(row) = rows.next()? {
        entries.push(log_file::read_entry(row, expected)?);
        expected = expected.next();
    }
    if first <= last && expected != last.next() {
        return Err(DiskFailure::Damaged(format!("entry {expected} is missing at the end")));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::log_probe::{LEDGER, Probe, body, entries, frames, open, reopened};
    use magpie_core::task::Durability;
    use proptest::prelude::*;

    fn indices(entries: &[StoredEntry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.index.0).collect()
    }

    #[test]
    fn threads_share_a_log_and_hand_a_recovery_over() {
        fn shared<T: Send + Sync>() {}
        fn handed_over<T: Send>() {}
        shared::<LedgerLog>();
        handed_over::<Recovery>();
    }

    #[test]
    fn appended_entries_are_synced_and_read_back() {
        let root = tempfile::tempdir().unwrap();
        let probe = Probe::default();
        let log = open(root.path(), &probe);
        log.append(entries(1..=3, Durability::Sync)).unwrap();
        assert_eq!(probe.wait_synced(3), Watermark { written: LogIndex(3), synced: LogIndex(3) });
        let stored = log.read(LogIndex(2), 10).unwrap();
        assert_eq!(indices(&stored), [2, 3]);
        assert_eq!((&stored[0].body, stored[0].event), (&body(2), ContentId::of(&body(2))));
        assert_eq!(indices(&log.read(LogIndex(0), 2).unwrap()), [1, 2]);
        assert_eq!(indices(&log.read(LogIndex(4), 2).unwrap()), [0u64; 0]);
    }

    #[test]
    fn an_async_entry_is_written_first_and_synced_without_another_append() {
        let root = tempfile::tempdir().unwrap();
        let probe = Probe::default();
        let log = open(root.path(), &probe);
        log.append(entries(1..=1, Durability::Async)).unwrap();
        probe.wait_synced(1);
        let expected = [(1, 0), (1, 1)].map(|(w, s)| Watermark { written: LogIndex(w), synced: LogIndex(s) });
        assert_eq!(probe.watermarks(), expected);
    }

    #[test]
    fn the_sync_of_async_entries_writes_to_the_log_since_sqlite_syncs_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let probe = Probe::default();
        let log = open(root.path(), &probe);
        for index in 1..=3 {
            log.append(entries(index..=index, Durability::Async)).unwrap();
            while probe.watermarks().last().is_none_or(|mark| mark.written < LogIndex(index)) {
                std::thread::yield_now();
            }
            let written_len = frames(root.path()).len();
            probe.wait_synced(index);
            assert!(frames(root.path()).len() > written_len, "entry {index}");
        }
    }

    #[test]
    fn a_sync_entry_takes_the_async_ones_before_it_to_the_disk() {
        let root = tempfile::tempdir().unwrap();
        let probe = Probe::default();
        let log = open(root.path(), &probe);
        log.append(entries(1..=5, Durability::Async)).unwrap();
        log.append(entries(6..=6, Durability::Sync)).unwrap();
        probe.wait_synced(6);
        assert!(probe.watermarks().iter().all(|mark| mark.synced == LogIndex(0) || mark.synced == mark.written));
    }

    #[test]
    fn what_is_only_written_is_not_read() {
        let root = tempfile::tempdir().unwrap();
        let probe = Probe::default();
        let log = open(root.path(), &probe);
        log.append(entries(1..=1, Durability::Async)).unwrap();
        while probe.watermarks().is_empty() {
            assert_eq!(log.read(LogIndex(1), 1).unwrap().len() as u64, log.shared.synced().0);
        }
        probe.wait_synced(1);
        assert_eq!(indices(&log.read(LogIndex(1), 1).unwrap()), [1]);
    }

    #[test]
    fn a_full_disk_refuses_loses_nothing_and_recovers() {
        let root = tempfile::tempdir().unwrap();
        let probe = Probe::default();
        let log = open(root.path(), &probe);
        log.append(entries(1..=20, Durability::Sync)).unwrap();
        probe.wait_synced(20);
        log.limit_bytes(64 * 1024);
        log.append(entries(21..=400, Durability::Sync)).unwrap();
        probe.wait_failure();
        assert_eq!(probe.failures(), [DiskFailure::DiskFull]);
        let acknowledged = probe.watermarks().last().copied().unwrap_or_default().synced;
        assert!(acknowledged < LogIndex(400), "something waits");
        assert_eq!(log.read(acknowledged, 1).unwrap().len(), 1, "a full disk is still read");
        log.limit_bytes(u64::MAX);
        probe.wait_synced(400);
        log.close().unwrap();
        assert_eq!(reopened(root.path()).len(), 400);
    }

    #[test]
    fn a_queue_behind_a_full_disk_is_bounded_and_hands_back_what_it_refuses() {
        let root = tempfile::tempdir().unwrap();
        let probe = Probe::default();
        let log = open(root.path(), &probe);
        log.limit_bytes(1);
        let mut next = 1;
        let refused = loop {
            let entry = |index| LogEntry {
                index: LogIndex(index),
                durability: Durability::Sync,
                body: vec![7; 20],
                event: ContentId([9; 32]),
            };
            match log.append((next..next + 5_000).map(entry).collect()) {
                Ok(()) => next += 5_000,
                Err(AppendError::Full { entries, .. }) => break entries,
                Err(other) => panic!("{other}"),
            }
        };
        assert!(next as usize <= 1 + limits::LOG_QUEUE_LEN_MAX + limits::COMMIT_BATCH_LEN_MAX);
        log.limit_bytes(u64::MAX);
        probe.wait_synced(next - 1);
        log.append(refused).unwrap();
        probe.wait_synced(next + 4_999);
    }

    #[test]
    fn closing_on_a_full_disk_names_the_first_entry_that_is_not_on_it() {
        let root = tempfile::tempdir().unwrap();
        let probe = Probe::default();
        let log = open(root.path(), &probe);
        log.append(entries(1..=2, Durability::Sync)).unwrap();
        probe.wait_synced(2);
        log.limit_bytes(1);
        let body = vec![7; 100_000];
        let event = ContentId::of(&body);
        log.append(vec![LogEntry { index: LogIndex(3), durability: Durability::Sync, body, event }]).unwrap();
        let refused = log.close().unwrap_err();
        assert_eq!(refused, CloseLogError { first: LogIndex(3), failure: DiskFailure::DiskFull });
        assert_eq!(reopened(root.path()).len(), 2);
    }

    #[test]
    fn after_an_io_error_the_log_is_written_again_and_goes_on() {
        let root = tempfile::tempdir().unwrap();
        let probe = Probe::default();
        let log = open(root.path(), &probe);
        log.append(entries(1..=50, Durability::Sync)).unwrap();
        probe.wait_synced(50);
        let intruder = Connection::open(&log.reader.file).unwrap();
        intruder.execute_batch("BEGIN IMMEDIATE").unwrap();
        log.append(entries(51..=51, Durability::Sync)).unwrap();
        probe.wait_failure();
        assert_eq!(probe.failures(), [DiskFailure::Io("database is locked".into())]);
        intruder.execute_batch("ROLLBACK").unwrap();
        probe.wait_synced(51);
        log.close().unwrap();
        assert_eq!(reopened(root.path()).len(), 51);
    }

    #[test]
    fn a_dropped_log_keeps_what_was_queued_and_frees_the_ledger() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open(root.path()).unwrap();
        let probe = Probe::default();
        let replay = |recovery: Recovery| recovery.replay(probe.callbacks(), |_| Ok::<_, String>(())).unwrap();
        let log = replay(LedgerLog::open(&dir, LEDGER).unwrap());
        assert!(matches!(LedgerLog::open(&dir, LEDGER), Err(OpenLogError::InUse { .. })));
        log.append(entries(1..=100, Durability::Async)).unwrap();
        drop(log);
        assert_eq!(LedgerLog::open(&dir, LEDGER).unwrap().tip(), LogIndex(100));
    }

    #[test]
    fn a_panicking_callback_closes_the_log_instead_of_hanging_it() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open(root.path()).unwrap();
        let callbacks = LogCallbacks {
            on_watermark: Box::new(|_| panic!("a bug of the owner")),
            on_failure: Box::new(|_| {}),
            on_reserve: Box::new(|| {}),
            on_recovery: Box::new(|| {}),
        };
        let log = LedgerLog::open(&dir, LEDGER).unwrap().replay(callbacks, |_| Ok::<_, String>(())).unwrap();
        log.append(entries(1..=1, Durability::Sync)).unwrap();
        let mut next = 2;
        while log.append(entries(next..=next, Durability::Sync)).is_ok() {
            next += 1;
        }
        assert!(log.close().unwrap_err().to_string().contains("panicked"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn whatever_is_appended_is_replayed(batches in prop::collection::vec((1u64..60, any::<bool>()), 1..12)) {
            let root = tempfile::tempdir().unwrap();
            let log = open(root.path(), &Probe::default());
            let mut next = 1;
            for (len, sync) in batches {
                let durability = if sync { Durability::Sync } else { Durability::Async };
                log.append(entries(next..=next + len - 1, durability)).unwrap();
                next += len;
            }
            log.close().unwrap();
            let stored = reopened(root.path());
            prop_assert_eq!(stored.len() as u64, next - 1);
            prop_assert!(stored.iter().all(|entry| entry.body == body(entry.index.0)));
        }
    }
}
