//! The seal of a ledger that was handed over, and kept aside where another took its place.

use std::path::Path;

use magpie_core::homes::Handover;
use magpie_core::queue::{HandoverRecord, Record};
use magpie_core::wire;
use rusqlite::params;

use crate::store::DiskFailure;
use crate::store::log_file::{SELECT_ENTRIES, read_entry, read_header};
use crate::store::sqlite::Database;

/// How the ledger in `file` was handed over; none without the file. Blocks.
///
/// # Errors
/// If it cannot be read, or does not end with a seal.
pub(super) fn seal_of(file: &Path) -> Result<Option<Handover>, DiskFailure> {
    if !file.try_exists()? {
        return Ok(None);
    }
    let damaged = |what: &str| DiskFailure::Damaged(format!("{}: {what}", file.display()));
    let database = Database::open(file)?;
    let header = read_header(database.connection())?.map_err(|_| damaged("a later version wrote it"))?;
    let last = header.mark.written;
    let mut statement = database.connection().prepare(SELECT_ENTRIES)?;
    let mut rows = statement.query(params![last.0.cast_signed(), last.0.cast_signed()])?;
    let entry = rows.next()?.map(|row| read_entry(row, last)).transpose()?;
    match entry.map(|entry| wire::decode_record(&entry.body)) {
        Some(Ok(Record::Handover(HandoverRecord::HandedOver { handover, .. }))) => Ok(Some(handover.handover)),
        _ => Err(damaged("it does not end with its handover")),
    }
}
