//! Outcomes that wait for their home: on disk until a final answer, bounded in bytes and age.
//!
//! Every call blocks.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use magpie_core::ids::{Epoch, LedgerTag, TaskId};
use magpie_core::lease::Fence;
use magpie_core::limits;
use magpie_core::time::Wall;
use rusqlite::{Connection, Row, params};
use sha2::{Digest, Sha256};

use super::spool_format::FORMAT_VERSION;
use super::sqlite::{CommitTo, Database};

use super::{DiskFailure, disk, spool_format};

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS outcome(
        key BLOB PRIMARY KEY, at_ms INTEGER NOT NULL, bytes BLOB NOT NULL, digest BLOB NOT NULL);
";
const KEY_BYTES: usize = 29;
type Key = [u8; KEY_BYTES];
type RowDigest = [u8; 32];

/// A spool did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenSpoolError {
    #[error("{} has format {format} and this node reads up to {FORMAT_VERSION}; run a newer node", file.display())]
    NewerFormat { file: PathBuf, format: u64 },
    #[error("cannot use {}: {failure}", file.display())]
    Disk { file: PathBuf, failure: DiskFailure },
}

/// Outcomes were not kept, none of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PutSpoolError {
    /// The worker takes no new lease until homes have taken some of what waits.
    #[error("the spool holds {held} of {bytes_max} bytes, presented {presented}")]
    Full { held: u64, bytes_max: u64, presented: u64 },
    #[error("cannot write the spool: {0}")]
    Disk(DiskFailure),
}

/// A spool was not read or shortened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot use the spool: {0}")]
pub struct UseSpoolError(pub DiskFailure);

/// A damaged spool was set aside; what was whole is in a new one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the spool was damaged ({what}): {kept} outcomes were saved, the old file is {}", aside.display())]
pub struct SpoolDamage {
    pub what: String,
    pub kept: usize,
    pub aside: PathBuf,
}

/// What waits in a spool.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Spooled {
    /// Oldest first.
    pub outcomes: Vec<(Fence, Vec<u8>)>,
    /// Dropped because they waited longer than [`limits::SPOOL_AGE_MAX_MS`].
    pub expired: Vec<Fence>,
}

/// The spool of one worker.
#[derive(Debug)]
pub struct Spool {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    database: Database,
    bytes: u64,
    bytes_max: u64,
}

impl Spool {
    /// Opens the spool in the directory `dir`, creating it where it is missing, and checks every outcome in it. It
    /// takes up to [`limits::SPOOL_BYTES_MAX`].
    ///
    /// A damaged spool is not fatal: what is whole moves to a new one, the old file is set aside and reported.
    ///
    /// # Errors
    /// The disk's refusal, or a spool that a newer node wrote.
    pub fn open(dir: &Path) -> Result<(Self, Option<SpoolDamage>), OpenSpoolError> {
        Self::open_bounded(dir, limits::SPOOL_BYTES_MAX)
    }

    fn open_bounded(dir: &Path, bytes_max: u64) -> Result<(Self, Option<SpoolDamage>), OpenSpoolError> {
        let file = dir.join("spool.db");
        let failed = |failure: DiskFailure| OpenSpoolError::Disk { file: file.clone(), failure };
        disk::create_dir(dir).map_err(|error| failed(error.into()))?;
        let (database, damage) = match open_checked(&file) {
            Ok(database) => (database, None),
            Err(Unusable::Disk(failure)) => return Err(failed(failure)),
            Err(Unusable::Newer { format }) => return Err(OpenSpoolError::NewerFormat { file, format }),
            Err(Unusable::Damaged { what, whole }) => {
                let (database, damage) = start_over(&file, what, &whole).map_err(failed)?;
                (database, Some(damage))
            }
        };
        let bytes = sum_bytes(database.connection()).map_err(|error| failed(error.into()))?;
        Ok((Self { state: Mutex::new(State { database, bytes, bytes_max }) }, damage))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes of all outcomes that wait.
    pub fn bytes(&self) -> u64 {
        self.state().bytes
    }

    /// Keeps one outcome: see [`Spool::put_many`].
    ///
    /// # Errors
    /// See [`PutSpoolError`].
    pub fn put(&self, fence: Fence, bytes: &[u8], at: Wall, durable: bool) -> Result<(), PutSpoolError> {
        self.put_many(&[(fence, bytes)], at, durable)
    }

    /// Keeps all of `outcomes` with one fsync, or, unless `durable`, hands them to the kernel.
    ///
    /// The first outcome of a fence is its only one: a later one changes nothing.
    ///
    /// # Errors
    /// See [`PutSpoolError`]; all or none are kept.
    pub fn put_many(&self, outcomes: &[(Fence, &[u8])], at: Wall, durable: bool) -> Result<(), PutSpoolError> {
        let mut state = self.state();
        let presented = outcomes.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        if state.bytes + presented > state.bytes_max {
            return Err(PutSpoolError::Full { held: state.bytes, bytes_max: state.bytes_max, presented });
        }
        let commit_to = if durable { CommitTo::Disk } else { CommitTo::Kernel };
        let rows = outcomes.iter().map(|(fence, bytes)| (key(*fence), at, *bytes));
        let kept = insert(&mut state.database, commit_to, rows).map_err(PutSpoolError::Disk)?;
        state.bytes += kept;
        if durable && kept == 0 {
            // All were there, perhaps only with the kernel, and a transaction without a change syncs nothing.
            state.database.checkpoint().map_err(PutSpoolError::Disk)?;
        }
        Ok(())
    }

    /// Forgets outcomes that got a final answer. A power loss may bring some back: the home answers them the same again.
    ///
    /// # Errors
    /// The disk's refusal.
    pub fn remove(&self, fences: &[Fence]) -> Result<(), UseSpoolError> {
        let mut state = self.state();
        let removed = delete(&mut state.database, fences).map_err(UseSpoolError)?;
        state.bytes -= removed;
        Ok(())
    }

    /// All that waits, and drops what is too old at the time `now`.
    ///
    /// # Errors
    /// The disk's refusal, or damage since the spool was opened: open it anew to save what is whole.
    pub fn load(&self, now: Wall) -> Result<Spooled, UseSpoolError> {
        let mut spooled = Spooled::default();
        {
            let state = self.state();
            let sort = |row: SpooledRow| {
                let expired = now.0.saturating_sub(row.at.0) > limits::SPOOL_AGE_MAX_MS;
                if expired { spooled.expired.push(row.fence) } else { spooled.outcomes.push((row.fence, row.bytes)) }
            };
            read_all(state.database.connection(), sort).map_err(UseSpoolError)?;
        }
        if !spooled.expired.is_empty() {
            self.remove(&spooled.expired)?;
        }
        Ok(spooled)
    }
}

enum Unusable {
    Damaged {
        what: String,
        whole: Vec<SpooledRow>,
    },
    /// Nothing but the number is trusted.
    Newer {
        format: u64,
    },
    Disk(DiskFailure),
}

struct SpooledRow {
    fence: Fence,
    at: Wall,
    bytes: Vec<u8>,
}

fn open_checked(file: &Path) -> Result<Database, Unusable> {
    let opened = Database::open_or_create(file).and_then(|mut database| {
        let format = spool_format::read(database.connection())?;
        if let Some(format) = format.filter(|format| *format > FORMAT_VERSION) {
            return Ok(Err(Unusable::Newer { format }));
        }
        make_tables(&mut database)?;
        database.sync_names()?;
        // The digests cover the rows that are found; this finds rows that no page names any more.
        database.quick_check()?;
        read_all(database.connection(), |_| {})?;
        Ok(Ok(database))
    });
    opened.unwrap_or_else(|failure| match failure {
        DiskFailure::Damaged(what) => Err(Unusable::Damaged { what, whole: salvage(file) }),
        DiskFailure::DiskFull | DiskFailure::ReadOnly | DiskFailure::FileTooLarge | DiskFailure::Io(_) => {
            Err(Unusable::Disk(failure))
        }
    })
}

fn make_tables(database: &mut Database) -> Result<(), DiskFailure> {
    database.transaction(CommitTo::Disk, |tx| {
        tx.execute_batch(SCHEMA)?;
        spool_format::write(tx, FORMAT_VERSION)
    })?;
    Ok(())
}

/// Every outcome that can still be read and has its digest.
fn salvage(file: &Path) -> Vec<SpooledRow> {
    let mut whole = Vec::new();
    // It ends where the file cannot be read any further: that is the damage which is being reported.
    let _ = salvage_into(file, &mut whole);
    whole
}

fn salvage_into(file: &Path, whole: &mut Vec<SpooledRow>) -> Result<(), DiskFailure> {
    let database = Database::open(file)?;
    let mut statement = database.connection().prepare(SELECT)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        whole.extend(read_row(row).ok());
    }
    Ok(())
}

fn start_over(file: &Path, what: String, whole: &[SpooledRow]) -> Result<(Database, SpoolDamage), DiskFailure> {
    let aside = file.with_extension("db.damaged");
    fs::rename(file, &aside)?;
    for companion in ["db-wal", "db-shm"] {
        match fs::rename(file.with_extension(companion), aside.with_extension(format!("damaged-{companion}"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    let mut database = Database::open_or_create(file)?;
    make_tables(&mut database)?;
    database.sync_names()?;
    insert(&mut database, CommitTo::Disk, whole.iter().map(|row| (key(row.fence), row.at, row.bytes.as_slice())))?;
    Ok((database, SpoolDamage { what, kept: whole.len(), aside }))
}

/// Inserts what is not there yet and returns the bytes that it added.
fn insert<'a>(
    database: &mut Database,
    commit_to: CommitTo,
    rows: impl Iterator<Item = (Key, Wall, &'a [u8])>,
) -> Result<u64, DiskFailure> {
    database.transaction(commit_to, |tx| {
        let mut statement = tx.prepare_cached(
            "INSERT INTO outcome(key, at_ms, bytes, digest) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        )?;
        let mut added = 0;
        for (key, at, bytes) in rows {
            let inserted = statement.execute(params![key, at.0.cast_signed(), bytes, digest(&key, at, bytes)])?;
            added += inserted as u64 * bytes.len() as u64;
        }
        Ok(added)
    })
}

/// Deletes what is there and returns the bytes that it freed.
fn delete(database: &mut Database, fences: &[Fence]) -> Result<u64, DiskFailure> {
    database.transaction(CommitTo::Kernel, |tx| {
        let mut statement = tx.prepare_cached("DELETE FROM outcome WHERE key = ?1 RETURNING length(bytes)")?;
        let mut freed = 0;
        for fence in fences {
            let mut rows = statement.query([key(*fence)])?;
            while let Some(row) = rows.next()? {
                freed += row.get::<_, i64>(0)?.cast_unsigned();
            }
        }
        Ok(freed)
    })
}

const SELECT: &str = "SELECT key, at_ms, bytes, digest FROM outcome ORDER BY rowid";

fn read_all(connection: &Connection, mut visit: impl FnMut(SpooledRow)) -> Result<(), DiskFailure> {
    let mut statement = connection.prepare_cached(SELECT)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        visit(read_row(row)?);
    }
    Ok(())
}

fn read_row(row: &Row<'_>) -> Result<SpooledRow, DiskFailure> {
    let key: Key = row.get(0)?;
    let at = Wall(row.get::<_, i64>(1)?.cast_unsigned());
    let bytes: Vec<u8> = row.get(2)?;
    if row.get::<_, RowDigest>(3)? != digest(&key, at, &bytes) {
        return Err(DiskFailure::Damaged(format!("the outcome of {:?} does not have its digest", fence(&key))));
    }
    Ok(SpooledRow { fence: fence(&key), at, bytes })
}

fn sum_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let sum = "SELECT coalesce(sum(length(bytes)), 0) FROM outcome";
    connection.query_row(sum, [], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
}

fn digest(key: &Key, at: Wall, bytes: &[u8]) -> RowDigest {
    Sha256::new().chain_update(key).chain_update(at.0.to_be_bytes()).chain_update(bytes).finalize().into()
}

fn key(fence: Fence) -> Key {
    let mut key = [0; KEY_BYTES];
    key[..16].copy_from_slice(&fence.task.ulid.to_be_bytes());
    key[16..21].copy_from_slice(&fence.task.ledger.0);
    key[21..].copy_from_slice(&fence.epoch.0.to_be_bytes());
    key
}

fn fence(key: &Key) -> Fence {
    let number = |bytes: &[u8]| bytes.iter().fold(0u128, |number, byte| number << 8 | u128::from(*byte));
    let tag = std::array::from_fn(|at| key[16 + at]);
    Fence { task: TaskId { ulid: number(&key[..16]), ledger: LedgerTag(tag) }, epoch: Epoch(number(&key[21..]) as u64) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const NOW: Wall = Wall(1_790_000_000_000);

    fn fence_of(n: u64) -> Fence {
        Fence { task: TaskId { ulid: u128::from(n) << 70 | 5, ledger: LedgerTag([3; 5]) }, epoch: Epoch(n << 32) }
    }

    fn open(dir: &Path) -> Spool {
        let (spool, damage) = Spool::open(dir).unwrap();
        assert_eq!(damage, None);
        spool
    }

    fn waiting(spool: &Spool) -> Vec<(Fence, Vec<u8>)> {
        spool.load(NOW).unwrap().outcomes
    }

    #[test]
    fn an_outcome_waits_across_restarts_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let spool = open(dir.path());
        spool.put(fence_of(1), b"one", NOW, true).unwrap();
        spool.put_many(&[(fence_of(2), b"two"), (fence_of(3), b"three")], NOW, false).unwrap();
        drop(spool);
        let spool = open(dir.path());
        assert_eq!(spool.bytes(), 11);
        spool.remove(&[fence_of(2), fence_of(9)]).unwrap();
        assert_eq!(waiting(&spool), [(fence_of(1), b"one".to_vec()), (fence_of(3), b"three".to_vec())]);
        assert_eq!(spool.bytes(), 8);
    }

    #[test]
    fn the_first_outcome_of_a_fence_is_its_only_one() {
        let dir = tempfile::tempdir().unwrap();
        let spool = open(dir.path());
        spool.put(fence_of(1), b"first", NOW, true).unwrap();
        spool.put(fence_of(1), b"second one", NOW, true).unwrap();
        assert_eq!(waiting(&spool), [(fence_of(1), b"first".to_vec())]);
        assert_eq!(spool.bytes(), 5);
    }

    #[test]
    fn a_full_spool_refuses_all_and_takes_more_once_some_went() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open_bounded(dir.path(), 1_001).unwrap();
        for n in 0..4 {
            spool.put(fence_of(n), &[1; 250], NOW, false).unwrap();
        }
        let presented = [(fence_of(4), &b"x"[..]), (fence_of(5), b"y")];
        let refused = spool.put_many(&presented, NOW, true).unwrap_err();
        assert_eq!(refused, PutSpoolError::Full { held: 1_000, bytes_max: 1_001, presented: 2 });
        assert_eq!(waiting(&spool).len(), 4);
        spool.remove(&[fence_of(0)]).unwrap();
        spool.put_many(&presented, NOW, true).unwrap();
    }

    #[test]
    fn an_outcome_past_its_age_is_dropped_and_reported() {
        let dir = tempfile::tempdir().unwrap();
        let spool = open(dir.path());
        let old = Wall(NOW.0 - limits::SPOOL_AGE_MAX_MS - 1);
        spool.put(fence_of(1), b"old", old, true).unwrap();
        spool.put(fence_of(2), b"from a clock that was ahead", Wall(NOW.0 + 1_000), true).unwrap();
        let spooled = spool.load(NOW).unwrap();
        assert_eq!(spooled.expired, [fence_of(1)]);
        assert_eq!(spooled.outcomes.len(), 1);
        assert_eq!(spool.load(NOW).unwrap().expired, []);
        assert_eq!(spool.bytes(), 27);
    }

    #[test]
    fn a_changed_outcome_is_set_aside_and_the_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let spool = open(dir.path());
        for n in 0..5 {
            spool.put(fence_of(n), &[n as u8; 10], NOW, true).unwrap();
        }
        let changed = "UPDATE outcome SET bytes = x'00' WHERE key = ?1";
        spool.state().database.connection().execute(changed, [key(fence_of(2))]).unwrap();
        assert!(matches!(spool.load(NOW), Err(UseSpoolError(DiskFailure::Damaged(_)))));
        drop(spool);
        let (spool, damage) = Spool::open(dir.path()).unwrap();
        let damage = damage.unwrap();
        assert_eq!((damage.kept, damage.aside.exists()), (4, true));
        let fences: Vec<_> = waiting(&spool).into_iter().map(|(fence, _)| fence).collect();
        assert_eq!(fences, [0, 1, 3, 4].map(fence_of));
        drop(spool);
        assert_eq!(open(dir.path()).bytes(), 40);
    }

    #[test]
    fn a_file_that_is_no_database_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("spool.db"), vec![b'x'; 10_000]).unwrap();
        let (spool, damage) = Spool::open(dir.path()).unwrap();
        assert_eq!(fs::read(damage.unwrap().aside).unwrap(), vec![b'x'; 10_000]);
        spool.put(fence_of(1), b"one", NOW, true).unwrap();
        assert_eq!(waiting(&spool).len(), 1);
    }

    #[test]
    fn a_damaged_page_costs_no_outcome_before_it_and_never_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let spool = open(dir.path());
        for n in 0..200 {
            spool.put(fence_of(n), &[n as u8; 500], NOW, false).unwrap();
        }
        drop(spool);
        let file = dir.path().join("spool.db");
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 5_000].fill(0xff);
        fs::write(&file, bytes).unwrap();
        let (spool, damage) = Spool::open(dir.path()).unwrap();
        let damage = damage.unwrap();
        let outcomes = waiting(&spool);
        assert_eq!(outcomes.len(), damage.kept);
        assert!((20..200).contains(&damage.kept), "{damage}");
        assert!(outcomes.iter().all(|(fence, bytes)| *bytes == [(fence.epoch.0 >> 32) as u8; 500]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn a_spool_is_a_map_that_keeps_the_first(
            steps in prop::collection::vec((0u64..6, prop::option::of(prop::collection::vec(any::<u8>(), 0..40))), 1..30)
        ) {
            let dir = tempfile::tempdir().unwrap();
            let spool = open(dir.path());
            let mut model = BTreeMap::new();
            for (n, put) in steps {
                match put {
                    Some(bytes) => {
                        spool.put(fence_of(n), &bytes, NOW, false).unwrap();
                        model.entry(fence_of(n)).or_insert(bytes);
                    }
                    None => {
                        spool.remove(&[fence_of(n)]).unwrap();
                        model.remove(&fence_of(n));
                    }
                }
            }
            prop_assert_eq!(spool.bytes(), model.values().map(|bytes| bytes.len() as u64).sum::<u64>());
            prop_assert_eq!(waiting(&spool).into_iter().collect::<BTreeMap<_, _>>(), model);
        }

        #[test]
        fn a_key_gives_its_fence_back(ulid: u128, tag: [u8; 5], epoch: u64) {
            let one = Fence { task: TaskId { ulid, ledger: LedgerTag(tag) }, epoch: Epoch(epoch) };
            prop_assert_eq!(fence(&key(one)), one);
        }
    }
}
