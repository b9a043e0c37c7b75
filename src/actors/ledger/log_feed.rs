//! Between the ledger actor and its log: entries in order, watermarks back, and what happens when the disk refuses.

use std::path::Path;

use magpie_core::ids::{ContentId, LogIndex};
use magpie_core::queue::{Disk, NewEntry, Refusal};
use ractor::{ActorProcessingErr, ActorRef};

use crate::messages::ledger::LedgerMsg;
use crate::store::DiskFailure;
use crate::store::log::{AppendError, LedgerLog, LogCallbacks, LogReader};

/// Room that submissions must leave in the log's queue for what follows from accepted work.
const RESERVE_ENTRIES: usize = 4_096;

pub struct LogFeed {
    log: LedgerLog,
    /// Entries that the log had no room for.
    waiting: Vec<NewEntry>,
}

impl LogFeed {
    pub fn new(log: LedgerLog) -> Self {
        Self { log, waiting: Vec::new() }
    }

    /// Lets the log remove all entries before `before`.
    pub fn cut(&self, before: LogIndex) {
        self.log.cut(before);
    }

    /// The event of one entry; `None` if it is not synced, not kept any more, or cannot be read.
    pub fn event_at(&self, index: LogIndex) -> Option<ContentId> {
        self.log.read(index, 1).ok()?.first().map(|entry| entry.event)
    }

    /// Reads the log, from any thread.
    pub fn reader(&self) -> LogReader {
        self.log.reader()
    }

    /// Queues entries behind those that wait already.
    pub fn append(&mut self, entries: Vec<NewEntry>) {
        self.waiting.extend(entries);
    }

    /// Hands on what waits; what the log has no room for waits further.
    ///
    /// # Errors
    /// If the log is closed or its order broken: the ledger then starts anew from what is on the disk.
    pub fn flush(&mut self) -> Result<(), ActorProcessingErr> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        match self.log.append(std::mem::take(&mut self.waiting)) {
            Ok(()) => Ok(()),
            Err(AppendError::Full { entries, .. }) => {
                self.waiting = entries;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the queue has room for new work and all that follows from it.
    pub fn admit(&self) -> Result<(), Refusal> {
        if self.log.room().entries >= RESERVE_ENTRIES && self.waiting.is_empty() {
            return Ok(());
        }
        Err(Refusal::Overloaded { retry_after_ms: 1_000, what: "the disk does not keep up".to_owned() })
    }
}

/// The log's writer thread speaks to the ledger's mailbox: one message per commit, and one when its disk changes.
pub fn callbacks(ledger: ActorRef<LedgerMsg>, dir: &Path) -> LogCallbacks {
    let [failing, in_reserve, recovered] = std::array::from_fn(|_| ledger.clone());
    let (dir, reserve_dir) = (dir.to_owned(), dir.to_owned());
    LogCallbacks {
        on_watermark: Box::new(move |watermark| {
            let _ = ledger.cast(LedgerMsg::Durable(watermark));
        }),
        on_failure: Box::new(move |failure| {
            let why = in_words(&failure, &dir);
            tracing::error!(why, "the ledger's disk takes nothing");
            let _ = failing.cast(LedgerMsg::Disk(Disk::Refuses { why }));
        }),
        on_reserve: Box::new(move || {
            let why = in_words(&DiskFailure::DiskFull, &reserve_dir);
            tracing::error!(why, "no new work is taken; what was accepted goes on in the reserve");
            let _ = in_reserve.cast(LedgerMsg::Disk(Disk::Spares { why }));
        }),
        on_recovery: Box::new(move || {
            tracing::info!("the ledger's disk takes new work again");
            let _ = recovered.cast(LedgerMsg::Disk(Disk::Takes));
        }),
    }
}

/// What is the matter, where, and what to do.
fn in_words(failure: &DiskFailure, dir: &Path) -> String {
    format!("{failure} ({}): {}", dir.display(), failure.remedy())
}
