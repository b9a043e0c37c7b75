//! From a file to a log that may be appended to: check everything, replay it in order, and refuse whatever is not whole.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{io, thread};

use magpie_core::ids::{LedgerId, LogIndex};
use magpie_core::queue::LogStart;
use rusqlite::params;

use super::data_dir::{DataDir, LedgerClaim};
use super::log::{LedgerLog, LogCallbacks, StoredEntry};
use super::log_file::{self, FORMAT_VERSION, Header, NewerFormat};
use super::log_writer::{LogWriter, Shared};
use super::reserve::Reserve;
use super::sqlite::{Database, open_for_reading};
use super::{DiskFailure, disk, sqlite, sync_witness};

/// A ledger did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenLogError {
    #[error("{} is open already in this process", file.display())]
    InUse { file: PathBuf },
    #[error(
        "{} is damaged: {what}; restore it from a backup, with the -wal and -synced that it has there and none of those that it has \
         here, or move all three away to start an empty ledger, which loses its tasks", file.display()
    )]
    Damaged { file: PathBuf, what: String },
    #[error("{} has format {format} and this node reads up to {FORMAT_VERSION}; run a newer node", file.display())]
    NewerFormat { file: PathBuf, format: u64 },
    #[error("{} cannot be written: {}", file.display(), DiskFailure::ReadOnly)]
    ReadOnly { file: PathBuf },
    #[error("cannot open {}: {failure}", file.display())]
    Disk { file: PathBuf, failure: DiskFailure },
}

impl OpenLogError {
    pub(super) fn of(file: &Path, failure: impl Into<DiskFailure>) -> Self {
        let file = file.to_path_buf();
        match failure.into() {
            DiskFailure::Damaged(what) => Self::Damaged { file, what },
            DiskFailure::ReadOnly => Self::ReadOnly { file },
            failure => Self::Disk { file, failure },
        }
    }

    fn damaged(file: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { file: file.to_path_buf(), what: what.into() }
    }
}

/// A replay stopped.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError<E> {
    #[error(transparent)]
    Log(#[from] OpenLogError),
    /// The visitor refused an entry.
    #[error("{} was refused at entry {index}: {refusal}", file.display())]
    Refused { file: PathBuf, index: LogIndex, refusal: E },
}

/// A ledger whose header is read and whose entries are not.
#[derive(Debug)]
pub struct Recovery {
    file: PathBuf,
    database: Database,
    header: Header,
    /// What some transaction knew to be synced: if less than this is found, synced entries are gone.
    witnessed: LogIndex,
    reserve: Reserve,
    claim: LedgerClaim,
}

impl Recovery {
    pub(super) fn open(dir: &DataDir, fresh: LedgerId) -> Result<Self, OpenLogError> {
        let file = dir.ledger_db();
        let claim = dir.claim_ledger().ok_or_else(|| OpenLogError::InUse { file: file.clone() })?;
        let failed = |error: io::Error| OpenLogError::of(&file, error);
        let wal = sqlite::write_ahead_log(&file);
        if !file.try_exists().map_err(failed)? {
            if wal.try_exists().map_err(failed)? {
                return Err(OpenLogError::damaged(&file, "it is missing while its -wal is there"));
            }
            create(&file, fresh)?;
        }
        // SQLite forgets what it cannot read of the write-ahead log, so that is looked at before.
        let witnessed = log_file::synced_by_write_ahead_log(&wal).map_err(failed)?;
        let witnessed = witnessed.max(sync_witness::synced_beside(&wal).map_err(failed)?);
        let database = Database::open_doubted(&file).map_err(|error| OpenLogError::of(&file, error))?;
        let header = check(&file, &database)?;
        Ok(Self { file, database, header, witnessed, reserve: Reserve::none(), claim })
    }

    pub fn ledger(&self) -> LedgerId {
        self.header.ledger
    }

    /// Sets up to `bytes_max` of the disk aside, with which the log goes on when there is no other room.
    #[must_use]
    pub fn with_reserve(self, bytes_max: u64) -> Self {
        let dir = self.file.parent().unwrap_or(Path::new("."));
        Self { reserve: Reserve::open(dir, bytes_max), ..self }
    }

    /// Where the log begins, if its oldest part was cut off.
    pub fn start(&self) -> Option<LogStart> {
        self.header.start
    }

    /// The last entry of the log; 0 in an empty one.
    pub fn tip(&self) -> LogIndex {
        self.header.mark.written
    }

    /// Gives every entry to `visit`, first to last, one in memory at a time, then starts the writer. Blocks.
    ///
    /// All that was replayed is on the disk: the first watermark would be `(tip, tip)`, and is not sent.
    ///
    /// # Errors
    /// The file, the entry and what to do, if an entry is missing or changed; the visitor's refusal; the disk's.
    pub fn replay<E>(
        self,
        callbacks: LogCallbacks,
        visit: impl FnMut(StoredEntry) -> Result<(), E>,
    ) -> Result<LedgerLog, ReplayError<E>> {
        self.visit_entries(visit)?;
        let tip = self.tip();
        let Self { file, database, header, reserve, claim, .. } = self;
        // Until here what is refused is refused again at the next start.
        let database = database.trust().map_err(|failure| OpenLogError::of(&file, failure))?;
        let reader = open_for_reading(&file).map_err(|error| OpenLogError::of(&file, error))?;
        let shared = Arc::new(Shared::new(header.first(), tip));
        let wal = sqlite::write_ahead_log(&file);
        let writer = LogWriter::new(database, Arc::clone(&shared), callbacks, header.mark, wal, (reserve, claim));
        let thread = thread::Builder::new().name("ledger-log".into()).spawn(move || writer.run());
        let thread = thread.map_err(|error| OpenLogError::of(&file, error))?;
        Ok(LedgerLog::started(file, shared, reader, thread))
    }

    fn visit_entries<E>(&self, mut visit: impl FnMut(StoredEntry) -> Result<(), E>) -> Result<(), ReplayError<E>> {
        let failed = |error: rusqlite::Error| OpenLogError::of(&self.file, error);
        let connection = self.database.connection();
        let mut statement = connection.prepare(log_file::SELECT_ENTRIES).map_err(failed)?;
        let mut rows = statement.query(params![i64::MIN, i64::MAX]).map_err(failed)?;
        let mut expected = self.header.first();
        while let Some(row) = rows.next().map_err(failed)? {
            let entry = log_file::read_entry(row, expected).map_err(|failure| OpenLogError::of(&self.file, failure))?;
            visit(entry).map_err(|refusal| {
                let file = self.file.clone();
                ReplayError::Refused { file, index: expected, refusal }
            })?;
            expected = expected.next();
        }
        Ok(self.check_end(LogIndex(expected.0 - 1))?)
    }

    fn check_end(&self, last: LogIndex) -> Result<(), OpenLogError> {
        let (tip, witnessed) = (self.tip(), self.witnessed);
        if last != tip {
            return Err(OpenLogError::damaged(&self.file, format!("it ends at entry {last} and should end at {tip}")));
        }
        if last < witnessed {
            let what = format!("its -wal lost entries {} to {witnessed}, which were on the disk", last.next());
            return Err(OpenLogError::damaged(&self.file, what));
        }
        Ok(())
    }
}

/// Makes a ledger aside and renames it, so that a file of that name is whole from its first moment on.
fn create(file: &Path, ledger: LedgerId) -> Result<(), OpenLogError> {
    let failed = |failure: DiskFailure| OpenLogError::of(file, failure);
    let aside = file.with_extension("new");
    for stale in [sqlite::write_ahead_log(&aside), aside.clone()] {
        match fs::remove_file(&stale) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error.into())),
            _ => {}
        }
    }
    log_file::create(&aside, ledger).map_err(failed)?;
    let dir = file.parent().unwrap_or(Path::new("."));
    let renamed = File::open(&aside).and_then(|aside| aside.sync_all());
    let renamed = renamed.and_then(|()| fs::rename(&aside, file)).and_then(|()| disk::sync_dir(dir));
    renamed.map_err(|error| failed(error.into()))
}

fn check(file: &Path, database: &Database) -> Result<Header, OpenLogError> {
    let failed = |failure: DiskFailure| OpenLogError::of(file, failure);
    let connection = database.connection();
    let header = match log_file::read_header(connection).map_err(failed)? {
        Ok(header) => header,
        Err(NewerFormat { format }) => return Err(OpenLogError::NewerFormat { file: file.to_path_buf(), format }),
    };
    if connection.is_readonly(rusqlite::MAIN_DB).map_err(|error| failed(error.into()))? {
        return Err(OpenLogError::ReadOnly { file: file.to_path_buf() });
    }
    // The digests cover what the pages say; this covers the pages that the next write would go to.
    database.quick_check().map_err(failed)?;
    Ok(header)
}

#[cfg(test)]
mod compaction_tests;
#[cfg(test)]
mod cut_tests;
#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod tests;
