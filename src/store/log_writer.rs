//! The one thread that writes the ledger: all that is queued goes into one transaction, and one fsync serves it all.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use magpie_core::ids::LogIndex;
use magpie_core::limits;
use magpie_core::task::Durability;

use super::data_dir::LedgerClaim;
use super::log::{CloseLogError, LogCallbacks, LogEntry, Watermark};
use super::log_file::{self, Mark};
use super::log_queue::{LogQueue, Work};
use super::reserve::Reserve;
use super::sqlite::{CommitTo, Database};
use super::sync_witness::SyncWitness;
use super::{DiskFailure, disk};

/// Half of the promise, so that the fsync itself fits into the other half.
const SYNC_AFTER: Duration = Duration::from_millis(limits::ASYNC_FSYNC_MS / 2);
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// Entries that one step of a cut removes while nothing is written, and pages that one step of shrinking gives back: a
/// few milliseconds' work.
const CUT_LEN: u64 = 512;
const SHRINK_PAGES: u32 = 256;

/// The last word of the writer about its disk.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// It goes on in the reserve, or in what room came back, until the reserve is whole.
    InReserve,
    Fails(DiskFailure),
}

/// What the writer and the log's owner both see.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) queue: LogQueue,
    synced: AtomicU64,
    /// The first entry that was not cut off.
    first: AtomicU64,
    pages_max: AtomicU32,
}

impl Shared {
    pub(super) fn new(first: LogIndex, tip: LogIndex) -> Self {
        Self {
            queue: LogQueue::new(tip.next()),
            synced: AtomicU64::new(tip.0),
            first: AtomicU64::new(first.0),
            pages_max: AtomicU32::new(u32::MAX),
        }
    }

    pub(super) fn first(&self) -> LogIndex {
        LogIndex(self.first.load(Ordering::Acquire))
    }

    pub(super) fn synced(&self) -> LogIndex {
        LogIndex(self.synced.load(Ordering::Acquire))
    }

    pub(super) fn limit_pages(&self, pages_max: u32) {
        self.pages_max.store(pages_max, Ordering::Relaxed);
    }
}

pub(super) struct LogWriter {
    database: Database,
    shared: Arc<Shared>,
    callbacks: LogCallbacks,
    watermark: Watermark,
    /// Transactions that were committed or tried.
    turn: u64,
    /// When the oldest entry that is written and not synced must be.
    sync_due: Option<Instant>,
    /// What the owner was told last, until the disk takes everything again.
    told: Option<Told>,
    pages_max: u32,
    write_ahead_log: PathBuf,
    witness: SyncWitness,
    /// Whether the write-ahead log has its full length.
    filled: bool,
    reserve: Reserve,
    /// When the reserve that was given up is next tried to be taken back.
    take_back_due: Option<Instant>,
    /// Held to the very end: the next opener of this ledger must not meet this writer.
    _claim: LedgerClaim,
}

impl LogWriter {
    pub(super) fn new(
        database: Database,
        shared: Arc<Shared>,
        callbacks: LogCallbacks,
        last: Mark,
        write_ahead_log: PathBuf,
        (reserve, claim): (Reserve, LedgerClaim),
    ) -> Self {
        let watermark = Watermark { written: last.written, synced: last.written };
        Self {
            turn: last.turn,
            database,
            shared,
            callbacks,
            watermark,
            sync_due: None,
            told: None,
            pages_max: u32::MAX,
            witness: SyncWitness::beside(&write_ahead_log),
            write_ahead_log,
            filled: false,
            reserve,
            take_back_due: None,
            _claim: claim,
        }
    }

    /// Writes until the log is closed.
    pub(super) fn run(mut self) -> Result<(), CloseLogError> {
        // However this thread ends, by a panic of a callback too, nobody goes on to append in vain.
        let _stop = StopOnDrop(Arc::clone(&self.shared));
        if !self.reserve.is_held() {
            self.tell_in_reserve();
        }
        loop {
            let due = self.sync_due.into_iter().chain(self.take_back_due).min();
            let done = match self.shared.queue.take(due, self.shared.first()) {
                // A log that is never idle gets shorter all the same: more goes than came.
                Work::Commit(batch) => self.commit(&batch).map(|()| self.cut(CUT_LEN.max(2 * batch.len() as u64))),
                Work::Sync if self.sync_due == due => self.commit(&[]),
                Work::Sync => {
                    self.recover();
                    Ok(())
                }
                Work::Cut => {
                    self.cut(CUT_LEN);
                    Ok(())
                }
                Work::Close => return self.close(),
            };
            if let Err(GivenUp { failure }) = done {
                let first = self.watermark.synced.next();
                return Err(CloseLogError { first, failure });
            }
        }
    }

    /// Tries until the batch is committed. An empty batch syncs what was written before.
    fn commit(&mut self, batch: &[LogEntry]) -> Result<(), GivenUp> {
        let due = self.sync_due.is_some_and(|due| due <= Instant::now());
        let sync = batch.iter().any(|entry| entry.durability == Durability::Sync);
        let commit_to = if sync || due || batch.is_empty() { CommitTo::Disk } else { CommitTo::Kernel };
        let mut pause = RETRY_FIRST;
        while let Err(failure) = self.try_commit(batch, commit_to) {
            if failure == DiskFailure::DiskFull && self.reserve.give_up() {
                self.tell_in_reserve();
                continue;
            }
            // What is over at the next try is no failure for anyone.
            if pause > RETRY_FIRST {
                self.tell_failure(failure);
            }
            if self.shared.queue.pause(pause) {
                return self.try_commit(batch, commit_to).map_err(|failure| GivenUp { failure });
            }
            pause = (pause * 2).min(RETRY_MAX);
        }
        Ok(())
    }

    fn try_commit(&mut self, batch: &[LogEntry], commit_to: CommitTo) -> Result<(), DiskFailure> {
        self.apply_page_limit()?;
        if !self.filled {
            self.database.sync_names()?;
            // A log that could not be filled is slower, and not wrong.
            let _ = log_file::fill_write_ahead_log(&self.write_ahead_log);
            self.filled = true;
        }
        let written = batch.last().map_or(self.watermark.written, |entry| entry.index);
        self.turn += 1;
        let mark = Mark { turn: self.turn, written, synced: self.watermark.synced };
        self.database.transaction(commit_to, |tx| {
            for entry in batch {
                log_file::write_entry(tx, entry.index, &entry.body, entry.event)?;
            }
            log_file::write_mark(tx, mark)
        })?;
        self.advance(written, commit_to);
        Ok(())
    }

    /// One step of a cut, of `len` entries at most, if one is asked for. One that the disk refuses is dropped: the next
    /// checkpoint, or the next start, asks for it again.
    fn cut(&mut self, len: u64) {
        let (first, asked) = (self.shared.first(), self.shared.queue.cut_before());
        let before = asked.min(self.shared.synced());
        if before <= first {
            return self.shared.queue.forget_cut(asked);
        }
        let first = LogIndex(first.0 + len).min(before);
        match self.try_cut(first) {
            Ok(()) => self.shared.first.store(first.0, Ordering::Release),
            Err(_) => self.shared.queue.forget_cut(asked),
        }
    }

    fn try_cut(&mut self, first: LogIndex) -> Result<(), DiskFailure> {
        let start = log_file::start_at(self.database.connection(), first)?;
        self.turn += 1;
        let mark = Mark { turn: self.turn, written: self.watermark.written, synced: self.watermark.synced };
        self.database.transaction(CommitTo::Kernel, |tx| {
            log_file::cut(tx, start)?;
            log_file::write_mark(tx, mark)
        })?;
        // What is not given back now is used again.
        let _ = self.database.shrink(SHRINK_PAGES);
        Ok(())
    }

    fn advance(&mut self, written: LogIndex, commit_to: CommitTo) {
        self.watermark.written = written;
        match commit_to {
            CommitTo::Disk => {
                self.watermark.synced = written;
                self.witness.tell(written);
                self.sync_due = None;
                self.shared.synced.store(written.0, Ordering::Release);
            }
            CommitTo::Kernel => {
                self.sync_due.get_or_insert_with(|| Instant::now() + SYNC_AFTER);
            }
        }
        (self.callbacks.on_watermark)(self.watermark);
        if self.take_back_due.is_none_or(|due| due <= Instant::now()) {
            self.recover();
        }
    }

    /// After a failure: the disk takes entries again, but new work waits until the reserve is whole.
    fn recover(&mut self) {
        if self.told.is_none() {
            return;
        }
        if self.reserve.is_held() || self.reserve.take_back() {
            self.told = None;
            self.take_back_due = None;
            (self.callbacks.on_recovery)();
        } else {
            self.told = Some(Told::InReserve);
            self.take_back_due = Some(Instant::now() + RETRY_MAX);
        }
    }

    fn tell_in_reserve(&mut self) {
        if self.told != Some(Told::InReserve) {
            self.told = Some(Told::InReserve);
            self.take_back_due = Some(Instant::now() + RETRY_MAX);
            (self.callbacks.on_reserve)();
        }
    }

    /// Tells each failure once, however often it is met again.
    fn tell_failure(&mut self, failure: DiskFailure) {
        let told = Some(Told::Fails(failure.clone()));
        if self.told != told {
            self.told = told;
            (self.callbacks.on_failure)(disk::diagnose(&self.write_ahead_log, failure));
        }
    }

    fn apply_page_limit(&mut self) -> Result<(), DiskFailure> {
        let pages_max = self.shared.pages_max.load(Ordering::Relaxed);
        if pages_max != self.pages_max {
            self.database.limit_pages(pages_max)?;
            self.pages_max = pages_max;
        }
        Ok(())
    }

    fn close(mut self) -> Result<(), CloseLogError> {
        if self.watermark.synced < self.watermark.written {
            let first = self.watermark.synced.next();
            self.try_commit(&[], CommitTo::Disk).map_err(|failure| CloseLogError { first, failure })?;
        }
        // Everything is synced: a checkpoint that fails costs the next start some time and nothing else.
        if self.database.checkpoint().is_ok() {
            self.witness.forget();
        }
        Ok(())
    }
}

/// The log was closed while the disk refused.
struct GivenUp {
    failure: DiskFailure,
}

struct StopOnDrop(Arc<Shared>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.queue.stop();
    }
}
