//! SQLite as this store uses it: write-ahead log, one writer, and a choice per transaction between kernel and disk.

use std::ffi::CStr;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use super::{DiskFailure, disk};

/// A page of a database, and of a frame in its write-ahead log.
pub(super) const PAGE_BYTES: usize = 4_096;
/// Pages in the write-ahead log after which a commit copies them into the database: 16 MiB.
pub(super) const CHECKPOINT_PAGES: usize = 4_096;
/// The write-ahead log keeps its length between checkpoints, since overwriting syncs faster than growing. Past this it shrinks.
const WAL_BYTES_KEPT: i64 = 64 * 1024 * 1024;
/// The connections of this process share the index of the write-ahead log in its own memory, and no other process gets at
/// the file, which belongs to one node anyway. The usual index is a mapped file: a disk without room for it ends the
/// process, and a disk that does not answer cannot be let go of.
const VFS: &CStr = c"unix-excl";
/// Only a person with a shell on the same file makes this wait.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

const PIECE_BYTES: usize = 64 * 1024;
static ZEROS: [u8; PIECE_BYTES] = [0; PIECE_BYTES];

/// What `PRAGMA auto_vacuum` answers for a file that can be shrunk.
const AUTO_VACUUM_INCREMENTAL: i64 = 2;

/// How far a transaction goes before its commit returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommitTo {
    /// Survives the process, not the machine.
    Kernel,
    /// Survives a power loss, together with every transaction before it: they share one write-ahead log.
    Disk,
}

/// The writing connection of one database.
#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    wal: PathBuf,
    commit_to: CommitTo,
    /// Whether an fsync may have failed since the write-ahead log was last known to be on the disk.
    distrusted: bool,
}

impl Database {
    /// Opens an existing database.
    pub(super) fn open(path: &Path) -> Result<Self, DiskFailure> {
        Self::open_doubted(path)?.trust()
    }

    /// Opens an existing database of which something may be missing: until it is trusted, closing it leaves the write-ahead log as it is.
    pub(super) fn open_doubted(path: &Path) -> Result<Self, DiskFailure> {
        Self::open_with(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
    }

    /// From now on, closing copies what can be read of the write-ahead log into the database and removes it, and with it what would tell
    /// that the rest is missing.
    pub(super) fn trust(self) -> Result<Self, DiskFailure> {
        keep_log_on_close(&self.connection, false)?;
        Ok(self)
    }

    /// Opens a database, or makes an empty one.
    pub(super) fn open_or_create(path: &Path) -> Result<Self, DiskFailure> {
        Self::open_with(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?.trust()
    }

    fn open_with(path: &Path, flags: OpenFlags) -> Result<Self, DiskFailure> {
        let wal = write_ahead_log(path);
        // Whoever wrote them last may have ended after a failed sync, and may have handed some to the kernel only. All that
        // later transactions wrote is in the log; of the database, only the page that names the log came before it.
        write_again(path, PAGE_BYTES as u64)?;
        write_again(&wal, u64::MAX)?;
        let is_new = path.metadata().map_or(0, |file| file.len()) == 0;
        let connection = connect(path, flags)?;
        keep_log_on_close(&connection, true)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        if is_new {
            connection.pragma_update(None, "page_size", PAGE_BYTES as i64)?;
            // Before its first page is written: a file without it reuses its free pages and never shrinks. Asked of a file that has it,
            // SQLite would write, over a log that nobody has checked yet.
            connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        }
        connection.pragma_update(None, "cell_size_check", true)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        begin_log(&connection)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES as i64)?;
        connection.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT)?;
        Ok(Self { connection, wal, commit_to: CommitTo::Disk, distrusted: false })
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Runs `body` in one transaction. Nothing of it remains if it or the commit fails.
    pub(super) fn transaction<T>(
        &mut self,
        commit_to: CommitTo,
        body: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, DiskFailure> {
        if self.distrusted {
            write_again(&self.wal, u64::MAX)?;
            self.distrusted = false;
        }
        let done = self.try_transaction(commit_to, body).map_err(DiskFailure::from);
        self.heed(done)
    }

    /// Makes the names of both files last. SQLite does so itself, but takes no notice of a disk that refuses it.
    pub(super) fn sync_names(&self) -> io::Result<()> {
        disk::sync_dir(self.wal.parent().unwrap_or(Path::new(".")))
    }

    fn try_transaction<T>(
        &mut self,
        commit_to: CommitTo,
        body: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.set_commit_to(commit_to)?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = body(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }

    fn heed<T>(&mut self, done: Result<T, DiskFailure>) -> Result<T, DiskFailure> {
        self.distrusted |= matches!(done, Err(DiskFailure::Io(_)));
        done
    }

    /// SQLite acts on this pragma when it compiles it, so it is compiled anew each time, and only when it changes.
    fn set_commit_to(&mut self, commit_to: CommitTo) -> rusqlite::Result<()> {
        if self.commit_to != commit_to {
            let synchronous = match commit_to {
                CommitTo::Kernel => "NORMAL",
                CommitTo::Disk => "FULL",
            };
            self.connection.pragma_update(None, "synchronous", synchronous)?;
            self.commit_to = commit_to;
        }
        Ok(())
    }

    /// Copies the write-ahead log into the database, syncs that, and empties the log.
    pub(super) fn checkpoint(&mut self) -> Result<(), DiskFailure> {
        let busy = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        let done = match busy {
            Ok(0) => Ok(()),
            Ok(_) => Err(DiskFailure::Io("another connection holds the write-ahead log".into())),
            Err(error) => Err(error.into()),
        };
        self.heed(done)
    }

    /// Whether all pages fit together.
    pub(super) fn quick_check(&self) -> Result<(), DiskFailure> {
        let verdict: String = self.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if verdict == "ok" { Ok(()) } else { Err(DiskFailure::Damaged(verdict)) }
    }

    /// Gives up to `pages_max` free pages back to the file system where more than half of the file is free: fewer are
    /// about to be written again.
    pub(super) fn shrink(&self, pages_max: u32) -> rusqlite::Result<()> {
        let count = |pragma: &str| self.connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
        let mostly_free = count("PRAGMA freelist_count")? * 2 > count("PRAGMA page_count")?;
        if !mostly_free || count("PRAGMA auto_vacuum")? != AUTO_VACUUM_INCREMENTAL {
            return Ok(());
        }
        let mut statement = self.connection.prepare(&format!("PRAGMA incremental_vacuum({pages_max})"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    }

    /// Refuses growth beyond this, as a full disk would. What is there already stays.
    pub(super) fn limit_pages(&self, pages_max: u32) -> rusqlite::Result<()> {
        self.connection.query_row(&format!("PRAGMA max_page_count = {pages_max}"), [], |_| Ok(()))
    }
}

/// The file where SQLite keeps what it has not copied into the database yet.
pub(super) fn write_ahead_log(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// Writes a file over itself, up to `bytes_max` from its start, and syncs it.
///
/// After a failed fsync the kernel holds pages for clean that never reached the disk, and a second fsync would lie. What
/// came later would stand behind a gap. A checkpoint would not do: with the database ahead of what can be read of its log,
/// a power loss would put old pages over new ones.
fn write_again(file: &Path, bytes_max: u64) -> io::Result<()> {
    let file = match OpenOptions::new().read(true).write(true).open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let len = file.metadata()?.len().min(bytes_max);
    let mut piece = vec![0; PIECE_BYTES];
    for at in (0..len).step_by(PIECE_BYTES) {
        let piece = &mut piece[..PIECE_BYTES.min((len - at) as usize)];
        file.read_exact_at(piece, at)?;
        // Nothing was written there yet.
        if piece != &ZEROS[..piece.len()] {
            file.write_all_at(piece, at)?;
        }
    }
    file.sync_all()
}

fn keep_log_on_close(connection: &Connection, keep: bool) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep).map(drop)
}

fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    Connection::open_with_flags_and_vfs(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX, VFS)
}

/// SQLite answers the new mode before it commits the change, and a connection whose change failed goes on with the old
/// journal, which loses its last commits with the power. So the statement is run to its end.
fn begin_log(connection: &Connection) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("PRAGMA journal_mode = WAL")?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// Opens a second connection that cannot write, beside the writing one of this process.
pub(super) fn open_for_reading(path: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    Ok(connection)
}

impl From<rusqlite::Error> for DiskFailure {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull,
            Some(ErrorCode::ReadOnly) => Self::ReadOnly,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(error.to_string()),
            // The tables' types are ours: a value of another type, or a missing table, was not written by us.
            None | Some(ErrorCode::Unknown | ErrorCode::TypeMismatch) => Self::Damaged(error.to_string()),
            Some(_) => Self::Io(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(dir: &Path) -> Database {
        let mut database = Database::open_or_create(&dir.join("x.db")).unwrap();
        database.transaction(CommitTo::Disk, |tx| tx.execute_batch("CREATE TABLE t(a BLOB)")).unwrap();
        database
    }

    fn insert(database: &mut Database, commit_to: CommitTo, bytes: usize) -> Result<(), DiskFailure> {
        let done =
            database.transaction(commit_to, |tx| tx.execute("INSERT INTO t VALUES (zeroblob(?1))", [bytes as i64]))?;
        assert_eq!(done, 1);
        Ok(())
    }

    #[test]
    fn the_write_ahead_log_is_on_and_syncs_each_commit_to_disk() {
        let dir = tempfile::tempdir().unwrap();
        let mut database = database(dir.path());
        let pragma = |database: &Database, name: &str| {
            database.connection.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0)).unwrap()
        };
        assert_eq!(pragma(&database, "journal_mode"), "wal".to_string().into());
        assert_eq!(pragma(&database, "page_size"), (PAGE_BYTES as i64).into());
        assert_eq!(pragma(&database, "synchronous"), 2.into());
        insert(&mut database, CommitTo::Kernel, 1).unwrap();
        assert_eq!(pragma(&database, "synchronous"), 1.into());
        insert(&mut database, CommitTo::Disk, 1).unwrap();
        assert_eq!(pragma(&database, "synchronous"), 2.into());
    }

    #[test]
    fn a_transaction_beyond_the_page_limit_is_a_full_disk_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut database = database(dir.path());
        database.limit_pages(8).unwrap();
        assert_eq!(insert(&mut database, CommitTo::Disk, 100_000), Err(DiskFailure::DiskFull));
        let rows = |database: &Database| {
            database.connection.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap()
        };
        assert_eq!(rows(&database), 0);
        database.limit_pages(1_000).unwrap();
        insert(&mut database, CommitTo::Disk, 100_000).unwrap();
        assert_eq!(rows(&database), 1);
    }

    #[test]
    fn a_reading_connection_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let _database = database(dir.path());
        let reader = open_for_reading(&dir.path().join("x.db")).unwrap();
        let refused = reader.execute("INSERT INTO t VALUES (x'00')", []).unwrap_err();
        assert_eq!(DiskFailure::from(refused), DiskFailure::ReadOnly);
    }

    #[test]
    fn the_index_of_the_write_ahead_log_is_no_file_and_both_connections_see_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut database = database(dir.path());
        let reader = open_for_reading(&dir.path().join("x.db")).unwrap();
        let rows = || reader.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(rows(), 0);
        insert(&mut database, CommitTo::Disk, 1).unwrap();
        assert_eq!(rows(), 1);
        assert!(dir.path().join("x.db-wal").exists() && !dir.path().join("x.db-shm").exists());
    }

    #[test]
    fn a_missing_table_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let database = database(dir.path());
        let failed = database.connection.query_row("SELECT a FROM u", [], |_| Ok(())).unwrap_err();
        assert!(matches!(DiskFailure::from(failed), DiskFailure::Damaged(_)));
    }
}
