//! A sealed ledger becomes a file.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use magpie_core::ids::{ContentId, LogIndex};
use magpie_core::queue::{LogStart, Record, Seal};
use magpie_core::{limits, wire};

use super::part::{Kind, PartWriter};
use super::{Contents, ExportError, Head, MAGIC, PlaceError};
use crate::store::DiskFailure;
use crate::store::blobs::Blobs;
use crate::store::disk;
use crate::store::log::{LogReader, ReadLogError};

/// Entries that are read at a time.
const ENTRIES_AT_A_TIME: usize = 256;
/// What was asked to be cut off before the seal may go while it is read: then it is read again from where it begins now.
const BEGINNINGS_MAX: usize = 100;
const CUT_PAUSE: Duration = Duration::from_millis(50);

/// Writes the log that ends with `seal` to `file`, whole or not at all, and durable on return. Blocks.
///
/// # Errors
/// See [`ExportError`]; the ledger stays sealed, and the same file can be made again.
pub fn export(file: &Path, log: &LogReader, blobs: &Blobs, seal: &Seal) -> Result<Contents, ExportError> {
    for _ in 1..BEGINNINGS_MAX {
        match try_export(file, log, blobs, seal) {
            Err(ExportError::Log(ReadLogError::Pruned { .. })) => std::thread::sleep(CUT_PAUSE),
            ended => return ended,
        }
    }
    try_export(file, log, blobs, seal)
}

/// Whether `file` can become a ledger of `bytes` and no other file is lost by it: it writes a little aside, and takes
/// that away. Blocks.
///
/// # Errors
/// What is the matter; nothing was changed.
pub fn check_place(file: &Path, bytes: u64) -> Result<(), PlaceError> {
    match fs::metadata(file) {
        Ok(there) if !there.is_file() => return Err(PlaceError::NoFile),
        Ok(_) => check_replaced(file)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(PlaceError::Disk(error.into())),
    }
    let dir = dir_of(file);
    if !dir.is_dir() {
        return Err(PlaceError::NoDirectory { dir: dir.to_owned() });
    }
    let aside = aside(file);
    let written = open_aside(&aside).and_then(|mut out| {
        out.write_all(MAGIC)?;
        out.sync_all()
    });
    // What could not be made is not there.
    let _ = fs::remove_file(&aside);
    written.map_err(DiskFailure::from)?;
    Ok(disk::check_room(dir, bytes, false)?)
}

/// A ledger that was exported before is made again; what is anything else is not written over.
fn check_replaced(file: &Path) -> Result<(), PlaceError> {
    let mut begins = Vec::new();
    let read = File::open(file).and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut begins));
    read.map_err(DiskFailure::from)?;
    if begins.is_empty() || begins == MAGIC { Ok(()) } else { Err(PlaceError::InUse) }
}

fn dir_of(file: &Path) -> &Path {
    file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn open_aside(aside: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(aside)
}

fn try_export(file: &Path, log: &LogReader, blobs: &Blobs, seal: &Seal) -> Result<Contents, ExportError> {
    let failed = |source: io::Error| ExportError::File { file: file.to_owned(), source };
    let aside = aside(file);
    let written = write(&aside, log, blobs, seal);
    let (out, contents) = written.inspect_err(|_| drop(fs::remove_file(&aside)))?;
    let renamed = out.sync_all().and_then(|()| fs::rename(&aside, file));
    let named = renamed.and_then(|()| disk::sync_dir(dir_of(file)));
    named.map_err(failed)?;
    Ok(contents)
}

/// Where it is written before it has its name.
fn aside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

fn write(aside: &Path, log: &LogReader, blobs: &Blobs, seal: &Seal) -> Result<(File, Contents), ExportError> {
    let failed = |source: io::Error| ExportError::File { file: aside.to_owned(), source };
    let start = log.start()?;
    let (first, after) = start.map_or((LogIndex(1), None), |LogStart { first, after }| (first, Some(after)));
    let head = Head { handover: seal.handover, first, after, last: seal.index };
    let head = wire::encode(&head, limits::FRAME_BYTES_MAX).map_err(|error| failed(io::Error::other(error)))?;
    let out = open_aside(aside).map_err(failed)?;
    let mut out = PartWriter::new(BufWriter::new(out));
    out.write_all(MAGIC).and_then(|()| out.part(Kind::Head, &[&head])).map_err(failed)?;
    let mut contents = Contents::default();
    let named = write_entries(&mut out, log, (first, seal.index)).map_err(|error| match error {
        Unwritten::Log(error) => error.into(),
        Unwritten::File(source) => failed(source),
    })?;
    contents.records = seal.index.0 + 1 - first.0;
    for cid in named {
        contents.blobs += u64::from(write_blob(&mut out, blobs, cid)?);
    }
    let (out, bytes) = out.end().map_err(failed)?;
    contents.bytes = bytes;
    let out = out.into_inner().map_err(|error| failed(error.into_error()))?;
    Ok((out, contents))
}

enum Unwritten {
    Log(ReadLogError),
    File(io::Error),
}

/// Writes the entries, and finds the blobs that they name.
fn write_entries(
    out: &mut PartWriter<impl Write>,
    log: &LogReader,
    (first, last): (LogIndex, LogIndex),
) -> Result<BTreeSet<ContentId>, Unwritten> {
    let (mut named, mut next) = (BTreeSet::new(), first);
    while next <= last {
        let len_max = (last.0 + 1 - next.0).min(ENTRIES_AT_A_TIME as u64) as usize;
        for entry in log.read(next, len_max).map_err(Unwritten::Log)? {
            let pieces: [&[u8]; 3] = [&entry.index.0.to_be_bytes(), &entry.event.0, &entry.body];
            out.part(Kind::Entry, &pieces).map_err(Unwritten::File)?;
            find_blobs(&entry.body, &mut named);
            next = entry.index.next();
        }
    }
    Ok(named)
}

/// Every blob that a record names, wherever it stands in it: in JSON a blob is an object of its id and its length.
fn find_blobs(body: &[u8], named: &mut BTreeSet<ContentId>) {
    // What does not decode is found by whoever reads the log, and named there.
    if let Ok(record) = wire::decode_record::<Record>(body)
        && let Ok(value) = serde_json::to_value(record)
    {
        walk(&value, named);
    }
}

fn walk(value: &serde_json::Value, named: &mut BTreeSet<ContentId>) {
    use serde_json::Value;
    match value {
        Value::Object(fields) => {
            if let (Some(Value::String(cid)), Some(Value::Number(_))) = (fields.get("cid"), fields.get("bytes")) {
                named.extend(cid.parse::<ContentId>());
            }
            fields.values().for_each(|field| walk(field, named));
        }
        Value::Array(items) => items.iter().for_each(|item| walk(item, named)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether the blob is here: of a task that is long over it may be gone.
fn write_blob(out: &mut PartWriter<impl Write>, blobs: &Blobs, cid: ContentId) -> Result<bool, ExportError> {
    let failed = |why: String| ExportError::Blob { cid, why };
    let Some(blob) = blobs.verify(cid).map_err(|error| failed(error.to_string()))? else {
        tracing::warn!(%cid, "a blob that this ledger names is not here, and does not go with it");
        return Ok(false);
    };
    let copied = out.begin(Kind::Blob, 32 + blob.bytes).and_then(|()| out.write_all(&cid.0));
    let copied = copied.and_then(|()| io::copy(&mut File::open(blobs.path(cid))?, out));
    match copied {
        Ok(bytes) if bytes == blob.bytes => Ok(true),
        Ok(bytes) => Err(failed(format!("it has {bytes} bytes in place of {}", blob.bytes))),
        Err(error) => Err(failed(error.to_string())),
    }
}
