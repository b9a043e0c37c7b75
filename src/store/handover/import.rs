//! A file becomes a ledger that waits to be served: checked whole, and beside the one that is there.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use magpie_core::homes::{Handover, SignedHandover};
use magpie_core::ids::{ContentId, LogIndex, PeerId};
use magpie_core::queue::{LedgerIdentity, LogStart, Replay};
use magpie_core::{limits, wire};
use magpie_net::regular_file;

use super::part::{Kind, PartReader};
use super::{Contents, Head, ImportError, MAGIC, kept};
use crate::store::blobs::Blobs;
use crate::store::data_dir::DataDir;
use crate::store::log_file::{self, Mark};
use crate::store::sqlite::{self, CommitTo, Database};
use crate::store::{DiskFailure, disk};

/// Entries of one transaction.
const ENTRIES_AT_A_TIME: usize = 512;
const ENTRY_HEAD_BYTES: usize = 8 + 32;
const PIECE_BYTES: usize = 64 * 1024;

/// A ledger that was taken in, and is served by nobody yet.
#[derive(Debug)]
pub struct Staged {
    pub path: PathBuf,
    pub handover: SignedHandover,
    pub contents: Contents,
}

/// Reads `file`, which must be for the node `me`, into a ledger of its own in `dir`, and keeps its blobs. Blocks.
///
/// # Errors
/// See [`ImportError`].
pub fn stage(file: &Path, dir: &DataDir, blobs: &Blobs, me: PeerId) -> Result<Staged, ImportError> {
    let path = dir.incoming_ledger();
    let staged = Stage { file, me, dir, blobs, path: &path }.run();
    if staged.is_err() {
        discard(&path);
    }
    staged
}

/// Removes a ledger that is not to be served after all.
pub fn discard(path: &Path) {
    for file in [path.to_owned(), sqlite::write_ahead_log(path)] {
        // What is not there is removed; what cannot be is written over next time.
        let _ = fs::remove_file(file);
    }
}

struct Stage<'a> {
    file: &'a Path,
    me: PeerId,
    dir: &'a DataDir,
    blobs: &'a Blobs,
    path: &'a Path,
}

impl Stage<'_> {
    fn run(&self) -> Result<Staged, ImportError> {
        let file = regular_file::open(self.file).map_err(|source| self.unread(source))?;
        let mut parts = PartReader::new(BufReader::new(file));
        let mut magic = [0; MAGIC.len()];
        let is_one = parts.read_exact(&mut magic).is_ok() && magic == *MAGIC;
        if !is_one {
            return Err(self.not_a_ledger("it does not begin as one"));
        }
        let head = self.head(&mut parts)?;
        discard(self.path);
        log_file::create(self.path, head.handover.handover.ledger).map_err(ImportError::Disk)?;
        let mut database = Database::open(self.path).map_err(ImportError::Disk)?;
        let contents = self.take(&mut parts, &head, &mut database)?;
        self.finish(database, head.last)?;
        Ok(Staged { path: self.path.to_owned(), handover: head.handover, contents })
    }

    fn head(&self, parts: &mut PartReader<impl Read>) -> Result<Head, ImportError> {
        let (kind, len) = parts.begin().map_err(|error| self.unread(error))?;
        if kind != Kind::Head {
            return Err(self.not_a_ledger("it has no head"));
        }
        let content = parts.content(len, limits::FRAME_BYTES_MAX).map_err(|error| self.unread(error))?;
        let head: Head = wire::decode_frame(&content).map_err(|error| self.not_a_ledger(error))?;
        head.handover.verify().map_err(|error| self.not_a_ledger(error))?;
        let Handover { ledger, to, tenure, .. } = head.handover.handover;
        if to != self.me {
            return Err(ImportError::ForAnother { to, me: self.me });
        }
        // This node may have served the ledger, and have handed it over, before the one that it serves now.
        let former = kept::seal_of(&self.dir.sealed_ledger(ledger.tag())).map_err(ImportError::Disk)?;
        match former.filter(|seal| seal.ledger == ledger && seal.tenure >= tenure) {
            Some(seal) => Err(ImportError::Former { to: seal.to }),
            None => Ok(head),
        }
    }

    /// Takes all entries and blobs, and checks that the log is whole, and the one that the handover names.
    fn take(
        &self,
        parts: &mut PartReader<impl Read>,
        head: &Head,
        database: &mut Database,
    ) -> Result<Contents, ImportError> {
        let mut log = Log::new(head, self.me, database)?;
        let mut contents = Contents::default();
        loop {
            let before = parts.digest();
            let (kind, len) = parts.begin().map_err(|error| self.unread(error))?;
            match kind {
                Kind::Head => return Err(self.not_a_ledger("it has two heads")),
                Kind::Entry => {
                    let len_max = ENTRY_HEAD_BYTES + limits::LOG_BODY_BYTES_MAX;
                    let entry = parts.content(len, len_max).map_err(|error| self.unread(error))?;
                    log.add(entry).map_err(|error| error.in_file(self))?;
                    contents.records += 1;
                }
                Kind::Blob => {
                    self.take_blob(parts, len)?;
                    contents.blobs += 1;
                }
                Kind::End if parts.ends(len, &before).map_err(|error| self.unread(error))? => break,
                Kind::End => return Err(self.not_a_ledger("its end is not the one of what stands before it")),
            }
        }
        log.finish().map_err(|error| error.in_file(self))?;
        contents.bytes = parts.bytes;
        Ok(contents)
    }

    fn take_blob(&self, parts: &mut PartReader<impl Read>, len: u64) -> Result<(), ImportError> {
        let cid = parts.content(32, 32).map_err(|error| self.unread(error))?;
        let cid = ContentId(cid.try_into().map_err(|_| self.not_a_ledger("a blob has no id"))?);
        let kept = |error: &dyn std::fmt::Display| ImportError::Blob(error.to_string());
        let mut left = len.saturating_sub(32);
        if left > limits::BLOB_BYTES_MAX {
            return Err(self.not_a_ledger("it holds a blob that is too large"));
        }
        let mut writer = self.blobs.open_writer().map_err(|error| kept(&error))?;
        let mut piece = vec![0; PIECE_BYTES];
        while left > 0 {
            let piece = &mut piece[..PIECE_BYTES.min(usize::try_from(left).unwrap_or(PIECE_BYTES))];
            parts.read_exact(piece).map_err(|error| self.unread(error))?;
            writer.write(piece).map_err(|error| kept(&error))?;
            left -= piece.len() as u64;
        }
        writer.finish(cid).map(drop).map_err(|error| kept(&error))
    }

    fn finish(&self, mut database: Database, last: LogIndex) -> Result<(), ImportError> {
        let mark = Mark { turn: 1, written: last, synced: last };
        database.transaction(CommitTo::Disk, |tx| log_file::write_mark(tx, mark)).map_err(ImportError::Disk)?;
        database.checkpoint().map_err(ImportError::Disk)?;
        drop(database);
        let dir = self.path.parent().unwrap_or(Path::new("."));
        let synced = File::open(self.path).and_then(|file| file.sync_all()).and_then(|()| disk::sync_dir(dir));
        synced.map_err(|error| ImportError::Disk(error.into()))
    }

    fn unread(&self, source: io::Error) -> ImportError {
        match source.kind() {
            io::ErrorKind::UnexpectedEof => self.not_a_ledger("it ends too early"),
            io::ErrorKind::InvalidData => self.not_a_ledger(source),
            _ => ImportError::File { file: self.file.to_owned(), source },
        }
    }

    fn not_a_ledger(&self, what: impl ToString) -> ImportError {
        ImportError::NotALedger { file: self.file.to_owned(), what: what.to_string() }
    }
}

/// Why an entry was not taken.
enum EntryError {
    Wrong(String),
    Disk(DiskFailure),
}

impl EntryError {
    fn in_file(self, stage: &Stage<'_>) -> ImportError {
        match self {
            Self::Wrong(what) => stage.not_a_ledger(what),
            Self::Disk(failure) => ImportError::Disk(failure),
        }
    }
}

/// The log on its way into a database, replayed as it comes.
struct Log<'a> {
    replay: Replay,
    head: &'a Head,
    database: &'a mut Database,
    waiting: Vec<(LogIndex, ContentId, Vec<u8>)>,
    bytes: usize,
}

impl<'a> Log<'a> {
    fn new(head: &'a Head, me: PeerId, database: &'a mut Database) -> Result<Self, ImportError> {
        let identity = LedgerIdentity { ledger: head.handover.handover.ledger, home: me, secret: [0; 32] };
        let start = head.after.map(|after| LogStart { first: head.first, after });
        let replay = match start {
            Some(start) => Replay::resume(identity, start),
            None => Replay::new(identity),
        };
        if let Some(start) = start {
            database.transaction(CommitTo::Kernel, |tx| log_file::cut(tx, start)).map_err(ImportError::Disk)?;
        }
        Ok(Self { replay, head, database, waiting: Vec::new(), bytes: 0 })
    }

    fn add(&mut self, mut entry: Vec<u8>) -> Result<(), EntryError> {
        let short = || EntryError::Wrong("an entry is too short".to_owned());
        let (head, _) = entry.split_first_chunk::<ENTRY_HEAD_BYTES>().ok_or_else(short)?;
        let (index, event) = head.split_first_chunk::<8>().ok_or_else(short)?;
        let (index, event) = (LogIndex(u64::from_be_bytes(*index)), event.try_into().map_err(|_| short())?);
        let event = ContentId(event);
        let body = entry.split_off(ENTRY_HEAD_BYTES);
        self.replay.apply(index, &body, event).map_err(|error| EntryError::Wrong(error.to_string()))?;
        self.bytes += body.len();
        self.waiting.push((index, event, body));
        if self.waiting.len() >= ENTRIES_AT_A_TIME || self.bytes >= limits::LOG_BODY_BYTES_MAX {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), EntryError> {
        let waiting = std::mem::take(&mut self.waiting);
        self.bytes = 0;
        let written = self.database.transaction(CommitTo::Kernel, |tx| {
            waiting.iter().try_for_each(|(index, event, body)| log_file::write_entry(tx, *index, body, *event))
        });
        written.map_err(EntryError::Disk)
    }

    fn finish(mut self) -> Result<(), EntryError> {
        self.write()?;
        self.replay.check().map_err(|error| EntryError::Wrong(error.to_string()))?;
        let is_sealed =
            self.replay.seal().is_some_and(|seal| seal.handover == self.head.handover && seal.index == self.head.last);
        if is_sealed { Ok(()) } else { Err(EntryError::Wrong("its log does not end with its handover".to_owned())) }
    }
}
