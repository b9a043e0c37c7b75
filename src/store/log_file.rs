//! The ledger's database: its tables, and the digests by which each row proves that nobody changed it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use magpie_core::ids::{ContentId, LedgerId, LogIndex};
use magpie_core::queue::LogStart;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use sha2::{Digest, Sha256};

use super::DiskFailure;
use super::log::StoredEntry;
use super::sqlite::{CHECKPOINT_PAGES, CommitTo, Database, PAGE_BYTES};

/// The format that this program writes, and the newest that it reads. Since 2 a log may begin behind entries that were
/// cut off; a log of format 1 is of format 2 from its first cut on.
pub(super) const FORMAT_VERSION: u64 = 2;
const FORMAT_OLDEST: u64 = 1;

const SCHEMA: &str = "
    CREATE TABLE meta(key TEXT PRIMARY KEY, value BLOB NOT NULL, digest BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE log(idx INTEGER PRIMARY KEY, body BLOB NOT NULL, event BLOB NOT NULL, digest BLOB NOT NULL);
";
const FORMAT_KEY: &str = "format";
const LEDGER_KEY: &str = "ledger";
const MARK_KEY: &str = "mark";
const START_KEY: &str = "start";
const START_BYTES: usize = 8 + 32;

/// Half of a sha256: enough to tell decay from data, which is all that it is for. The events' own chain tells forgery.
pub(super) const DIGEST_BYTES: usize = 16;
type RowDigest = [u8; DIGEST_BYTES];

pub(super) fn digest(parts: [&[u8]; 3]) -> RowDigest {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let whole = hash.finalize();
    std::array::from_fn(|at| whole[at])
}

fn entry_digest(index: LogIndex, body: &[u8], event: ContentId) -> RowDigest {
    digest([&index.0.to_be_bytes(), body, &event.0])
}

fn meta_digest(key: &str, value: &[u8]) -> RowDigest {
    digest([b"meta", key.as_bytes(), value])
}

/// What each transaction says of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// Counts transactions. SQLite leaves out what would change no byte of the file, and its fsync with it, so no
    /// transaction may look like the one before.
    pub(super) turn: u64,
    /// The last entry: shows that a tail went missing from the database.
    pub(super) written: LogIndex,
    /// How far the log was synced when the transaction began: shows that a synced transaction went missing from the
    /// write-ahead log, which SQLite itself takes for one that never finished.
    pub(super) synced: LogIndex,
}

const MARK_MAGIC: &[u8; 8] = b"\xf5mpmark\x01";
const MARK_BYTES: usize = MARK_MAGIC.len() + 24 + DIGEST_BYTES;

impl Mark {
    fn encode(self) -> [u8; MARK_BYTES] {
        let mut bytes = [0; MARK_BYTES];
        bytes[..8].copy_from_slice(MARK_MAGIC);
        for (at, number) in [(8, self.turn), (16, self.written.0), (24, self.synced.0)] {
            bytes[at..at + 8].copy_from_slice(&number.to_be_bytes());
        }
        let digest = digest([MARK_MAGIC, &bytes[8..32], b""]);
        bytes[32..].copy_from_slice(&digest);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let mark = Self { turn: number(8)?, written: LogIndex(number(16)?), synced: LogIndex(number(24)?) };
        (mark.encode() == *bytes).then_some(mark)
    }
}

/// Makes an empty ledger in `path`, whole or not at all. The caller renames it into place.
pub(super) fn create(path: &Path, ledger: LedgerId) -> Result<(), DiskFailure> {
    let mut database = Database::open_or_create(path)?;
    database.transaction(CommitTo::Disk, |tx| {
        tx.execute_batch(SCHEMA)?;
        write_format(tx, FORMAT_VERSION)?;
        write_meta(tx, LEDGER_KEY, &ledger.0)?;
        write_mark(tx, Mark::default())
    })?;
    // The caller renames this one file. What stood in its write-ahead log only, because a disk refused the checkpoint
    // that SQLite does on closing and says nothing of, would be left behind.
    database.checkpoint()
}

fn write_meta(tx: &Transaction<'_>, key: &str, value: &[u8]) -> rusqlite::Result<()> {
    let mut statement = tx.prepare_cached("INSERT OR REPLACE INTO meta(key, value, digest) VALUES (?1, ?2, ?3)")?;
    statement.execute(params![key, value, meta_digest(key, value)]).map(drop)
}

pub(super) fn write_format(tx: &Transaction<'_>, format: u64) -> rusqlite::Result<()> {
    write_meta(tx, FORMAT_KEY, &format.to_be_bytes())
}

pub(super) fn write_mark(tx: &Transaction<'_>, mark: Mark) -> rusqlite::Result<()> {
    write_meta(tx, MARK_KEY, &mark.encode())
}

/// The start of a log without the entries before `first`: it names the event that the chain then goes on from.
pub(super) fn start_at(connection: &Connection, first: LogIndex) -> Result<LogStart, DiskFailure> {
    let last_cut = LogIndex(first.0 - 1);
    let mut statement = connection.prepare_cached(SELECT_ENTRIES)?;
    let mut rows = statement.query(params![last_cut.0.cast_signed(), last_cut.0.cast_signed()])?;
    match rows.next()? {
        Some(row) => Ok(LogStart { first, after: read_entry(row, last_cut)?.event }),
        None => Err(DiskFailure::Damaged(format!("entry {last_cut} is missing"))),
    }
}

/// Removes all entries before a log's new start.
pub(super) fn cut(tx: &Transaction<'_>, start: LogStart) -> rusqlite::Result<()> {
    let LogStart { first, after } = start;
    tx.prepare_cached("DELETE FROM log WHERE idx < ?1")?.execute([first.0.cast_signed()])?;
    let mut bytes = [0; START_BYTES];
    bytes[..8].copy_from_slice(&first.0.to_be_bytes());
    bytes[8..].copy_from_slice(&after.0);
    write_meta(tx, START_KEY, &bytes)?;
    write_format(tx, FORMAT_VERSION)
}

fn decode_start(bytes: &[u8]) -> Option<LogStart> {
    let bytes: &[u8; START_BYTES] = bytes.try_into().ok()?;
    let (first, after) = bytes.split_at(8);
    Some(LogStart {
        first: LogIndex(u64::from_be_bytes(first.try_into().ok()?)),
        after: ContentId(after.try_into().ok()?),
    })
}

/// Adds one entry. The index is the key: a second one with the same index is refused.
pub(super) fn write_entry(
    tx: &Transaction<'_>,
    index: LogIndex,
    body: &[u8],
    event: ContentId,
) -> rusqlite::Result<()> {
    let mut statement = tx.prepare_cached("INSERT INTO log(idx, body, event, digest) VALUES (?1, ?2, ?3, ?4)")?;
    statement.execute(params![index.0.cast_signed(), body, event.0, entry_digest(index, body, event)]).map(drop)
}

/// What a ledger's file says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) ledger: LedgerId,
    pub(super) mark: Mark,
    /// Where the log begins, if its oldest part was cut off.
    pub(super) start: Option<LogStart>,
}

impl Header {
    /// The first entry that the log holds.
    pub(super) fn first(&self) -> LogIndex {
        self.start.map_or(LogIndex(1), |start| start.first)
    }
}

/// Reads the header; of a newer format nothing but its number is trusted.
pub(super) fn read_header(connection: &Connection) -> Result<Result<Header, NewerFormat>, DiskFailure> {
    let lacks = |key: &str| DiskFailure::Damaged(format!("the row {key:?} of its table meta is missing or changed"));
    let format = read_meta(connection, FORMAT_KEY)?.and_then(|value| Some(u64::from_be_bytes(value.try_into().ok()?)));
    match format {
        Some(FORMAT_OLDEST..=FORMAT_VERSION) => {}
        Some(format) if format > FORMAT_VERSION => return Ok(Err(NewerFormat { format })),
        _ => return Err(lacks(FORMAT_KEY)),
    }
    let ledger = read_meta(connection, LEDGER_KEY)?.and_then(|value| value.try_into().ok());
    let mark = read_meta(connection, MARK_KEY)?.and_then(|value| Mark::decode(&value));
    // A row that is missing, or changed, says that nothing was cut: the first entry is missing then.
    let start = read_meta(connection, START_KEY)?.and_then(|value| decode_start(&value));
    Ok(Ok(Header {
        ledger: LedgerId(ledger.ok_or_else(|| lacks(LEDGER_KEY))?),
        mark: mark.ok_or_else(|| lacks(MARK_KEY))?,
        start,
    }))
}

/// A ledger that a later program wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NewerFormat {
    pub(super) format: u64,
}

/// The value under `key`, unless it is missing or its digest is another.
fn read_meta(connection: &Connection, key: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    let row = connection
        .query_row("SELECT value, digest FROM meta WHERE key = ?1", [key], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?))
        })
        .optional()?;
    Ok(row.filter(|(value, digest)| meta_digest(key, value) == **digest).map(|(value, _)| value))
}

/// Columns and order that [`read_entry`] expects.
pub(super) const SELECT_ENTRIES: &str =
    "SELECT idx, body, event, digest FROM log WHERE idx BETWEEN ?1 AND ?2 ORDER BY idx";

/// Reads the row that must hold the entry `expected`.
pub(super) fn read_entry(row: &Row<'_>, expected: LogIndex) -> Result<StoredEntry, DiskFailure> {
    let index = row.get::<_, i64>(0)?.cast_unsigned();
    if index != expected.0 {
        return Err(DiskFailure::Damaged(format!("entry {expected} is missing, {index} follows")));
    }
    let body: Vec<u8> = row.get(1)?;
    let event = row.get(2).map(ContentId)?;
    if row.get::<_, RowDigest>(3)? != entry_digest(expected, &body, event) {
        return Err(DiskFailure::Damaged(format!("entry {expected} does not have its digest")));
    }
    Ok(StoredEntry { index: expected, body, event })
}

pub(super) const WAL_HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
const FRAME_BYTES: usize = FRAME_HEADER_BYTES + PAGE_BYTES;
/// As far as SQLite fills its write-ahead log between two checkpoints.
const WAL_BYTES: u64 = (WAL_HEADER_BYTES + CHECKPOINT_PAGES * FRAME_BYTES) as u64;

/// Fills a write-ahead log with zeros up to its full length, behind what it holds.
///
/// An fsync after an append to a growing file waits for the file system's own journal too. Over blocks that were
/// written before it waits for its data only, which takes about half as long.
pub(super) fn fill_write_ahead_log(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    let held = file.metadata()?.len();
    // A disk that has no room for zeros needs what it has for records.
    fill_with_zeros(&file, held).inspect_err(|_| drop(file.set_len(held)))
}

fn fill_with_zeros(file: &File, mut len: u64) -> io::Result<()> {
    let zeros = vec![0; 1024 * 1024];
    while len < WAL_BYTES {
        let piece = zeros.len().min((WAL_BYTES - len) as usize);
        file.write_all_at(&zeros[..piece], len)?;
        len += piece as u64;
    }
    file.sync_all()
}

/// The furthest point that any transaction in a write-ahead log knew to be synced, whether SQLite accepts it or not.
///
/// Frames that a crash cut off, or that were left from before a checkpoint, only say less than what is there. A file
/// that is missing says nothing.
pub(super) fn synced_by_write_ahead_log(path: &Path) -> io::Result<LogIndex> {
    let mut synced = LogIndex(0);
    let mut file = match File::open(path) {
        Ok(file) => BufReader::with_capacity(64 * 1024, file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(synced),
        Err(error) => return Err(error),
    };
    io::copy(&mut file.by_ref().take(WAL_HEADER_BYTES as u64), &mut io::sink())?;
    let mut frame = Vec::with_capacity(FRAME_BYTES);
    loop {
        frame.clear();
        let read = file.by_ref().take(FRAME_BYTES as u64).read_to_end(&mut frame)?;
        if read == 0 {
            return Ok(synced);
        }
        if frame.starts_with(&[0; 4]) {
            continue; // No page has the number 0: nothing was written here yet.
        }
        // Its first byte alone tells nearly all other places apart, and faster than all eight.
        let begins = |bytes: &&[u8]| bytes[0] == MARK_MAGIC[0] && bytes.starts_with(MARK_MAGIC);
        let marks = frame.windows(MARK_BYTES).filter(begins).filter_map(Mark::decode);
        synced = marks.map(|mark| mark.synced).fold(synced, LogIndex::max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::write_ahead_log;
    use proptest::prelude::*;

    fn mark(turn: u64, written: u64, synced: u64) -> Mark {
        Mark { turn, written: LogIndex(written), synced: LogIndex(synced) }
    }

    proptest! {
        #[test]
        fn a_mark_survives_its_bytes_and_no_flipped_bit(turn: u64, written: u64, synced: u64, bit in 0..MARK_BYTES * 8) {
            let mut bytes = mark(turn, written, synced).encode();
            prop_assert_eq!(Mark::decode(&bytes), Some(mark(turn, written, synced)));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Mark::decode(&bytes), None);
        }

        #[test]
        fn an_entry_digest_covers_index_body_and_event(index: u64, body: Vec<u8>, event: [u8; 32]) {
            let whole = entry_digest(LogIndex(index), &body, ContentId(event));
            let mut longer = body.clone();
            longer.push(0);
            let mut other = event;
            other[31] ^= 1;
            prop_assert_ne!(whole, entry_digest(LogIndex(index ^ 1), &body, ContentId(event)));
            prop_assert_ne!(whole, entry_digest(LogIndex(index), &longer, ContentId(event)));
            prop_assert_ne!(whole, entry_digest(LogIndex(index), &body, ContentId(other)));
        }
    }

    #[test]
    fn a_new_ledger_has_its_format_its_id_and_an_empty_log() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        create(&path, LedgerId([7; 16])).unwrap();
        let database = Database::open(&path).unwrap();
        let header = read_header(database.connection()).unwrap().unwrap();
        assert_eq!(header, Header { ledger: LedgerId([7; 16]), mark: Mark::default(), start: None });
    }

    #[test]
    fn a_filled_write_ahead_log_holds_what_it_held() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        create(&path, LedgerId([7; 16])).unwrap();
        let mut database = Database::open(&path).unwrap();
        let wal = write_ahead_log(&path);
        database.transaction(CommitTo::Disk, |tx| write_mark(tx, mark(1, 3, 2))).unwrap();
        fill_write_ahead_log(&wal).unwrap();
        database.transaction(CommitTo::Disk, |tx| write_mark(tx, mark(2, 4, 3))).unwrap();
        assert_eq!(std::fs::metadata(&wal).unwrap().len(), WAL_BYTES);
        assert_eq!(synced_by_write_ahead_log(&wal).unwrap(), LogIndex(3));
        let copy = dir.path().join("copy.db");
        std::fs::copy(&path, &copy).unwrap();
        std::fs::copy(&wal, write_ahead_log(&copy)).unwrap();
        let copied = Database::open(&copy).unwrap();
        assert_eq!(read_header(copied.connection()).unwrap().unwrap().mark, mark(2, 4, 3));
    }

    #[test]
    fn the_write_ahead_log_tells_the_furthest_sync_that_any_frame_knew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        assert_eq!(synced_by_write_ahead_log(&write_ahead_log(&path)).unwrap(), LogIndex(0));
        create(&path, LedgerId([7; 16])).unwrap();
        let mut database = Database::open(&path).unwrap();
        for (turn, written, synced) in [(1, 3, 0), (2, 9, 3), (3, 12, 9)] {
            database.transaction(CommitTo::Disk, |tx| write_mark(tx, mark(turn, written, synced))).unwrap();
        }
        assert_eq!(synced_by_write_ahead_log(&write_ahead_log(&path)).unwrap(), LogIndex(9));
    }
}
