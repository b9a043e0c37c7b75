//! Between the ledger actor and its log: entries in order, watermarks back, and what happens when the disk refuses.

use magpie_core::ids::LogIndex;
use magpie_core::queue::{NewEntry, Refusal};
use ractor::{ActorProcessingErr, ActorRef};

use crate::messages::ledger::LedgerMsg;
use crate::store::log::{AppendError, LedgerLog, LogCallbacks};

/// Room that submissions must leave in the log's queue for what follows from accepted work.
const RESERVE_ENTRIES: usize = 4_096;

pub struct LogFeed {
    log: LedgerLog,
    /// Entries that the log had no room for.
    waiting: Vec<NewEntry>,
    failure: Option<String>,
}

impl LogFeed {
    pub fn new(log: LedgerLog) -> Self {
        Self { log, waiting: Vec::new(), failure: None }
    }

    /// Lets the log remove all entries before `before`.
    pub fn cut(&self, before: LogIndex) {
        self.log.cut(before);
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

    pub fn failed(&mut self, why: String) {
        tracing::error!(error = why, "the ledger's disk refuses; submissions are refused until it takes records again");
        self.failure = Some(why);
    }

    pub fn recovered(&mut self) {
        if self.failure.take().is_some() {
            tracing::info!("the ledger's disk takes records again");
        }
    }

    /// Whether new work may be accepted.
    pub fn admit(&self) -> Result<(), Refusal> {
        let full = self.log.room().entries < RESERVE_ENTRIES || !self.waiting.is_empty();
        let what = match &self.failure {
            Some(failure) => format!("the disk takes no new work: {failure}"),
            None if full => "the disk does not keep up".to_owned(),
            None => return Ok(()),
        };
        Err(Refusal::Overloaded { retry_after_ms: 1_000, what })
    }
}

/// The log's writer thread speaks to the ledger's mailbox: one message per commit.
pub fn callbacks(ledger: ActorRef<LedgerMsg>) -> LogCallbacks {
    let (failures, recoveries) = (ledger.clone(), ledger.clone());
    LogCallbacks {
        on_watermark: Box::new(move |watermark| {
            let _ = ledger.cast(LedgerMsg::Durable(watermark));
        }),
        on_failure: Box::new(move |failure| {
            let _ = failures.cast(LedgerMsg::LogFailed(failure.to_string()));
        }),
        on_recovery: Box::new(move || {
            let _ = recoveries.cast(LedgerMsg::LogRecovered);
        }),
    }
}
