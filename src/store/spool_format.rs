//! Which format a spool has: a number in a table of its own, which proves by its digest that nobody changed it.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use sha2::{Digest, Sha256};

use super::DiskFailure;

/// The format that this program writes, and the newest that it reads. The first spools of it had no number.
pub(super) const FORMAT_VERSION: u64 = 1;

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS format(number INTEGER PRIMARY KEY, digest BLOB NOT NULL);";

type NumberDigest = [u8; 32];

/// The format of a spool; `None`: it has no number, as a new one and those before the number.
pub(super) fn read(connection: &Connection) -> Result<Option<u64>, DiskFailure> {
    let table = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'format'";
    if connection.query_row(table, [], |_| Ok(())).optional()?.is_none() {
        return Ok(None);
    }
    let newest = "SELECT number, digest FROM format ORDER BY number DESC LIMIT 1";
    let read = connection.query_row(newest, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, NumberDigest>(1)?)));
    match read.optional()? {
        Some((number, presented)) if presented == digest(number.cast_unsigned()) => Ok(Some(number.cast_unsigned())),
        Some(_) => Err(DiskFailure::Damaged("the number of its format does not have its digest".to_owned())),
        None => Ok(None),
    }
}

pub(super) fn write(tx: &Transaction<'_>, format: u64) -> rusqlite::Result<()> {
    tx.execute_batch(SCHEMA)?;
    let insert = "INSERT INTO format(number, digest) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    tx.execute(insert, params![format.cast_signed(), digest(format)]).map(drop)
}

fn digest(format: u64) -> NumberDigest {
    Sha256::new().chain_update(b"spool format").chain_update(format.to_be_bytes()).finalize().into()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use magpie_core::lease::Completion;
    use magpie_core::time::Wall;
    use magpie_core::wire;

    use super::*;
    use crate::store::spool::{OpenSpoolError, Spool};
    use crate::store::sqlite::{CommitTo, Database};

    /// A spool that a node of format 1 wrote, before the format had a number: a success, and a failure with a checkpoint.
    fn golden() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/golden/spool-format-1/spool.db");
        fs::copy(file, root.path().join("spool.db")).unwrap();
        root
    }

    fn set_format(dir: &Path, statement: &str) {
        let mut database = Database::open(&dir.join("spool.db")).unwrap();
        database.transaction(CommitTo::Disk, |tx| tx.execute_batch(statement)).unwrap();
    }

    #[test]
    fn a_spool_of_the_first_format_opens_for_ever() {
        let root = golden();
        for _ in 0..2 {
            let (spool, damage) = Spool::open(root.path()).unwrap();
            assert_eq!(damage, None);
            let outcomes = spool.load(Wall(1_790_000_000_000)).unwrap().outcomes;
            let read: Vec<Completion> = outcomes.iter().map(|(_, bytes)| wire::decode_record(bytes).unwrap()).collect();
            assert_eq!(read.len(), 2);
            assert!(read.iter().zip(&outcomes).all(|(completion, (fence, _))| completion.fence == *fence));
            assert_eq!(read[0].outcome.log_tail, "read 3 files\n");
            let checkpoint = read[1].checkpoint.as_ref().unwrap().to_value();
            assert_eq!(checkpoint, serde_json::json!({"page": 5}));
        }
    }

    #[test]
    fn a_spool_of_a_newer_format_is_refused_in_words_and_stays_as_it_is() {
        let root = golden();
        drop(Spool::open(root.path()).unwrap());
        let mut database = Database::open(&root.path().join("spool.db")).unwrap();
        database.transaction(CommitTo::Disk, |tx| write(tx, FORMAT_VERSION + 1)).unwrap();
        drop(database);
        // What a newer program makes of its outcomes is not looked at.
        set_format(root.path(), "ALTER TABLE outcome RENAME TO result");
        let error = Spool::open(root.path()).unwrap_err();
        assert!(matches!(error, OpenSpoolError::NewerFormat { format: 2, .. }), "{error}");
        let words = "spool.db has format 2 and this node reads up to 1; run a newer node";
        assert!(error.to_string().ends_with(words), "{error}");
        let database = Database::open(&root.path().join("spool.db")).unwrap();
        let count = database.connection().query_row("SELECT count(*) FROM result", [], |row| row.get::<_, i64>(0));
        assert_eq!(count.unwrap(), 2);
    }

    #[test]
    fn a_number_without_its_digest_is_damage_and_no_newer_format() {
        let root = golden();
        drop(Spool::open(root.path()).unwrap());
        set_format(root.path(), "UPDATE format SET number = 7");
        let (spool, damage) = Spool::open(root.path()).unwrap();
        assert_eq!(damage.unwrap().kept, 2);
        assert_eq!(spool.load(Wall(1_790_000_000_000)).unwrap().outcomes.len(), 2);
    }
}
