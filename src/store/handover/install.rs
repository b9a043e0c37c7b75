//! A ledger that was taken in gets the place of the one that was there.

use std::fs;
use std::io;
use std::path::Path;

use magpie_core::ids::LedgerTag;

use crate::store::data_dir::DataDir;
use crate::store::disk;
use crate::store::recovery::OpenLogError;
use crate::store::sqlite::{self, Database};

/// Puts `incoming` in the place of the directory's ledger, which is open nowhere. With `keep`, that one is kept aside
/// under its tag. Blocks; a crash at any step leaves the one or the other, whole.
///
/// # Errors
/// If the ledger is still open, or the disk refuses.
pub fn install(dir: &DataDir, incoming: &Path, keep: Option<LedgerTag>) -> Result<(), OpenLogError> {
    let file = dir.ledger_db();
    let failed = |error: io::Error| OpenLogError::of(&file, error);
    let _claim = dir.claim_ledger().ok_or_else(|| OpenLogError::InUse { file: file.clone() })?;
    if !incoming.try_exists().map_err(failed)? {
        // It was installed before this was asked again.
        return Ok(());
    }
    // What stands in its write-ahead log only would go with that; a log of another database would be read as this one's.
    let mut database = Database::open(&file).map_err(|failure| OpenLogError::of(&file, failure))?;
    database.checkpoint().map_err(|failure| OpenLogError::of(&file, failure))?;
    drop(database);
    remove(&sqlite::write_ahead_log(&file)).map_err(failed)?;
    if let Some(tag) = keep {
        let aside = dir.sealed_ledger(tag);
        remove(&aside).and_then(|()| fs::hard_link(&file, &aside)).map_err(failed)?;
    }
    disk::sync_dir(dir.path()).map_err(failed)?;
    remove(&sqlite::write_ahead_log(incoming)).map_err(failed)?;
    fs::rename(incoming, &file).and_then(|()| disk::sync_dir(dir.path())).map_err(failed)
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
