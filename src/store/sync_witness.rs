//! How far the ledger's log was synced, said in a file beside it.
//!
//! Each transaction says how far the one before was synced, so only of the last nothing in the write-ahead log can tell whether a crash
//! cut it off, which is harmless, or whether it was acknowledged and has decayed since. A log that somebody removed says nothing: what is
//! said of it is not held against a database that was put back.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use magpie_core::ids::LogIndex;

use super::log_file;

const MAGIC: &[u8; 8] = b"\xf5mpsync\x01";
const SALTS_BYTES: usize = 8;
const DIGEST_AT: usize = MAGIC.len() + SALTS_BYTES + 8;
const BYTES: usize = DIGEST_AT + log_file::DIGEST_BYTES;

/// What tells one filling of a write-ahead log from the one before, and from that of another database: SQLite draws it anew each time
/// that it begins at the front, and repeats it in each frame.
type Salts = [u8; SALTS_BYTES];
const SALTS_IN_HEADER: u64 = 16;
const SALTS_IN_FIRST_FRAME: u64 = log_file::WAL_HEADER_BYTES as u64 + 8;

/// Says it. Nothing depends on that: a word that is missing only leaves unsaid what the log itself cannot tell.
#[derive(Debug)]
pub(super) struct SyncWitness {
    write_ahead_log: PathBuf,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    write_ahead_log: File,
    witness: File,
}

impl SyncWitness {
    pub(super) fn beside(write_ahead_log: &Path) -> Self {
        Self { write_ahead_log: write_ahead_log.to_path_buf(), open: None }
    }

    /// To be called after the sync: a word that is on the disk before what it speaks of would be a lie.
    pub(super) fn tell(&mut self, synced: LogIndex) {
        if self.try_tell(synced).is_err() {
            self.open = None;
        }
    }

    fn try_tell(&mut self, synced: LogIndex) -> io::Result<()> {
        let open = match self.open.take() {
            Some(open) => open,
            None => Open::of(&self.write_ahead_log)?,
        };
        let open = self.open.insert(open);
        let salts = salts(&open.write_ahead_log, SALTS_IN_HEADER)?;
        open.witness.write_all_at(&encode(salts, synced), 0)
    }

    /// For when the log was copied into its database, where nothing goes missing unseen.
    pub(super) fn forget(self) {
        let _ = fs::remove_file(path(&self.write_ahead_log));
    }
}

impl Open {
    fn of(write_ahead_log: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        Ok(Self { write_ahead_log: File::open(write_ahead_log)?, witness: options.open(path(write_ahead_log))? })
    }
}

/// How far the log was synced at least, by the word beside it; 0 if there is none, or one about other frames.
pub(super) fn synced_beside(write_ahead_log: &Path) -> io::Result<LogIndex> {
    let absent = |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof);
    let read = || {
        let witness = fs::read(path(write_ahead_log))?;
        let Some((told, synced)) = decode(&witness) else { return Ok(LogIndex(0)) };
        let log = File::open(write_ahead_log)?;
        // Either may be what has decayed.
        let same = salts(&log, SALTS_IN_HEADER)? == told || salts(&log, SALTS_IN_FIRST_FRAME)? == told;
        Ok(if same { synced } else { LogIndex(0) })
    };
    match read() {
        Err(error) if absent(&error) => Ok(LogIndex(0)),
        read => read,
    }
}

fn path(write_ahead_log: &Path) -> PathBuf {
    write_ahead_log.with_extension("db-synced")
}

fn salts(write_ahead_log: &File, at: u64) -> io::Result<Salts> {
    let mut salts = [0; SALTS_BYTES];
    write_ahead_log.read_exact_at(&mut salts, at)?;
    Ok(salts)
}

fn encode(salts: Salts, synced: LogIndex) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&salts);
    bytes[16..DIGEST_AT].copy_from_slice(&synced.0.to_be_bytes());
    let digest = log_file::digest([MAGIC, &bytes[8..DIGEST_AT], b""]);
    bytes[DIGEST_AT..].copy_from_slice(&digest);
    bytes
}

fn decode(bytes: &[u8]) -> Option<(Salts, LogIndex)> {
    let salts = bytes.get(8..16)?.try_into().ok()?;
    let synced = LogIndex(u64::from_be_bytes(bytes.get(16..DIGEST_AT)?.try_into().ok()?));
    (encode(salts, synced) == *bytes).then_some((salts, synced))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SALTS: Salts = [1, 2, 3, 4, 5, 6, 7, 8];

    /// The first bytes of a write-ahead log with these salts in its header and in its first frame.
    fn log_with(dir: &Path, header: Salts, frame: Salts) -> PathBuf {
        let mut bytes = vec![0; 64];
        bytes[16..24].copy_from_slice(&header);
        bytes[40..48].copy_from_slice(&frame);
        let log = dir.join("ledger.db-wal");
        fs::write(&log, bytes).unwrap();
        log
    }

    #[test]
    fn a_word_holds_for_the_frames_that_it_was_said_of_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let log = log_with(dir.path(), SALTS, SALTS);
        let mut witness = SyncWitness::beside(&log);
        for synced in [3, 9] {
            witness.tell(LogIndex(synced));
            assert_eq!(synced_beside(&log).unwrap(), LogIndex(synced));
        }
        let other = [0; SALTS_BYTES];
        for (header, frame, synced) in [(other, SALTS, 9), (SALTS, other, 9), (other, other, 0)] {
            let log = log_with(dir.path(), header, frame);
            assert_eq!(synced_beside(&log).unwrap(), LogIndex(synced));
        }
        fs::write(&log, "").unwrap();
        assert_eq!(synced_beside(&log).unwrap(), LogIndex(0), "a log that was emptied");
        fs::remove_file(&log).unwrap();
        assert_eq!(synced_beside(&log).unwrap(), LogIndex(0), "no log");
        log_with(dir.path(), SALTS, SALTS);
        witness.forget();
        assert_eq!(synced_beside(&log).unwrap(), LogIndex(0), "no word");
    }

    #[test]
    fn a_log_that_is_not_there_leaves_it_unsaid() {
        let dir = tempfile::tempdir().unwrap();
        let mut witness = SyncWitness::beside(&dir.path().join("ledger.db-wal"));
        witness.tell(LogIndex(1));
        let log = log_with(dir.path(), SALTS, SALTS);
        assert_eq!(synced_beside(&log).unwrap(), LogIndex(0));
        witness.tell(LogIndex(2));
        assert_eq!(synced_beside(&log).unwrap(), LogIndex(2));
    }

    proptest! {
        #[test]
        fn a_word_survives_its_bytes_and_no_flipped_bit(salts: Salts, synced: u64, bit in 0..BYTES * 8) {
            let mut bytes = encode(salts, LogIndex(synced));
            prop_assert_eq!(decode(&bytes), Some((salts, LogIndex(synced))));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(decode(&bytes), None);
        }
    }
}
