use std::fs;
use std::path::Path;

use magpie_core::ids::ContentId;
use magpie_core::task::Durability;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rusqlite::params;

use super::*;
use crate::store::log_probe::{LEDGER, Probe, body, entries, fast_dir, frames, open, reopened, try_reopened};
use crate::store::sqlite::CommitTo;

/// A ledger of `len` entries in `root`, closed cleanly.
fn closed_ledger(root: &Path, len: u64) {
    let log = open(root, &Probe::default());
    log.append(entries(1..=len, Durability::Sync)).unwrap();
    log.close().unwrap();
}

/// What a killed process leaves of a running ledger: its files, the write-ahead log cut to `wal_len`, and no word of how far it was synced
/// if that was further.
fn crashed(running: &Path, wal_len: usize) -> tempfile::TempDir {
    let root = fast_dir();
    let wal = frames(running);
    fs::copy(running.join("ledger.db"), root.path().join("ledger.db")).unwrap();
    fs::write(root.path().join("ledger.db-wal"), &wal[..wal_len.min(wal.len())]).unwrap();
    if wal_len >= wal.len() {
        fs::copy(running.join("ledger.db-synced"), root.path().join("ledger.db-synced")).unwrap();
    }
    root
}

fn assert_prefix(stored: &[StoredEntry]) {
    for (at, entry) in stored.iter().enumerate() {
        let expected = body(at as u64 + 1);
        assert_eq!((entry.index.0, &entry.body, entry.event), (at as u64 + 1, &expected, ContentId::of(&expected)));
    }
}

fn random_numbers(test: &str) -> impl FnMut(usize) -> usize {
    let seed: u64 = match std::env::var("MAGPIE_SEED") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().into(),
    };
    println!("{test}: MAGPIE_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    move |below| rng.random_range(0..below)
}

#[test]
fn a_new_ledger_is_empty_and_keeps_its_id() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    let recovery = LedgerLog::open(&dir, LEDGER).unwrap();
    assert_eq!((recovery.ledger(), recovery.tip()), (LEDGER, LogIndex(0)));
    drop(recovery);
    assert_eq!(LedgerLog::open(&dir, LedgerId([9; 16])).unwrap().ledger(), LEDGER);
}

#[test]
fn a_clean_close_leaves_one_file() {
    let root = tempfile::tempdir().unwrap();
    closed_ledger(root.path(), 3);
    let mut names: Vec<_> = fs::read_dir(root.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["ledger.db", "lock"]);
}

#[test]
fn a_replay_twice_is_a_replay_once() {
    let root = tempfile::tempdir().unwrap();
    closed_ledger(root.path(), 300);
    let first = reopened(root.path());
    assert_eq!(first.len(), 300);
    assert_prefix(&first);
    assert_eq!(reopened(root.path()), first);
}

#[test]
fn a_reopened_log_goes_on_where_it_ended() {
    let root = tempfile::tempdir().unwrap();
    for start in [1, 11, 21] {
        let probe = Probe::default();
        let log = open(root.path(), &probe);
        assert_eq!(log.next_index(), LogIndex(start));
        log.append(entries(start..=start + 9, Durability::Sync)).unwrap();
        probe.wait_synced(start + 9);
        log.close().unwrap();
    }
    assert_prefix(&reopened(root.path()));
}

#[test]
fn a_crash_anywhere_in_the_write_ahead_log_keeps_every_synced_entry_and_order() {
    let root = tempfile::tempdir().unwrap();
    let probe = Probe::default();
    let log = open(root.path(), &probe);
    let mut synced = vec![(0, 0)];
    for step in 1..=12u64 {
        let first = log.next_index().0;
        log.append(entries(first..=first + step, Durability::Sync)).unwrap();
        probe.wait_synced(first + step);
        synced.push((frames(root.path()).len(), first + step));
    }
    let mut random = random_numbers("crash");
    let whole = synced.last().unwrap().0;
    let cuts = synced.iter().map(|(len, _)| *len).chain((0..60).map(|_| random(whole + 1))).collect::<Vec<_>>();
    for cut in cuts {
        let stored = reopened(crashed(root.path(), cut).path());
        let acknowledged = synced.iter().rfind(|(len, _)| *len <= cut).unwrap().1;
        assert_eq!(stored.len() as u64, acknowledged, "cut at {cut} of {whole}");
        assert_prefix(&stored);
    }
}

#[test]
fn a_flipped_bit_in_the_write_ahead_log_is_harmless_or_refused_each_time() {
    let root = fast_dir();
    let probe = Probe::default();
    let log = open(root.path(), &probe);
    for index in 1..=20 {
        log.append(entries(index..=index, Durability::Sync)).unwrap();
        probe.wait_synced(index);
    }
    let wal = frames(root.path());
    let mut random = random_numbers("wal flip");
    let (mut whole, mut refused) = (0, 0);
    for _ in 0..300 {
        let image = crashed(root.path(), usize::MAX);
        let bit = random(wal.len() * 8);
        let mut flipped = wal.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(image.path().join("ledger.db-wal"), &flipped).unwrap();
        match try_reopened(image.path()) {
            Ok(stored) => {
                assert_prefix(&stored);
                assert_eq!(stored.len(), 20, "bit {bit} lost acknowledged entries");
                whole += 1;
            }
            Err(error) => {
                assert!(error.contains("ledger.db is damaged"), "{error}");
                let again = try_reopened(image.path()).map(|stored| stored.len());
                assert_eq!(again, Err(error), "bit {bit}: the next start says so too");
                refused += 1;
            }
        }
    }
    println!("wal flips: {whole} harmless, {refused} refused");
    assert!(refused > 200);
}

#[test]
fn a_flipped_bit_in_the_database_is_harmless_or_refused_by_name() {
    let root = fast_dir();
    closed_ledger(root.path(), 60);
    let file = root.path().join("ledger.db");
    let pristine = fs::read(&file).unwrap();
    let before = reopened(root.path());
    let mut random = random_numbers("database flip");
    let (mut harmless, mut refused) = (0, 0);
    for _ in 0..2_000 {
        let bit = random(pristine.len() * 8);
        let mut flipped = pristine.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        for companion in ["ledger.db-wal", "ledger.db-shm", "ledger.db-journal"] {
            let _ = fs::remove_file(root.path().join(companion));
        }
        fs::write(&file, &flipped).unwrap();
        match try_reopened(root.path()) {
            Ok(stored) => {
                assert!(stored == before, "bit {bit} changed an entry");
                harmless += 1;
            }
            Err(error) => {
                assert!(error.contains("ledger.db"), "bit {bit}: {error}");
                refused += 1;
            }
        }
    }
    println!("database flips: {harmless} harmless, {refused} refused of {} bytes", pristine.len());
    assert!(refused > harmless);
}

#[test]
fn a_cut_database_is_refused() {
    let root = tempfile::tempdir().unwrap();
    closed_ledger(root.path(), 200);
    let file = root.path().join("ledger.db");
    let pristine = fs::read(&file).unwrap();
    for len in (0..pristine.len()).step_by(1_999) {
        fs::write(&file, &pristine[..len]).unwrap();
        let refused = try_reopened(root.path()).unwrap_err();
        assert!(refused.contains("ledger.db is damaged"), "{len} bytes left: {refused}");
    }
}

#[test]
fn a_database_that_is_gone_while_its_write_ahead_log_is_there_is_refused() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("ledger.db-wal"), "x").unwrap();
    let refused = try_reopened(root.path()).unwrap_err();
    assert!(refused.contains("missing while its -wal is there"), "{refused}");
}

#[test]
fn an_entry_or_a_tail_that_somebody_deleted_is_named() {
    for (deleted, sentence) in
        [(17, "entry 17 is missing, 18 follows"), (30, "it ends at entry 29 and should end at 30")]
    {
        let root = tempfile::tempdir().unwrap();
        closed_ledger(root.path(), 30);
        let mut database = Database::open(&root.path().join("ledger.db")).unwrap();
        let delete = "DELETE FROM log WHERE idx = ?1";
        database.transaction(CommitTo::Disk, |tx| tx.execute(delete, params![deleted])).unwrap();
        drop(database);
        let refused = try_reopened(root.path()).unwrap_err();
        let file = root.path().join("ledger.db");
        assert!(refused.contains(&format!("{} is damaged: {sentence}; restore", file.display())), "{refused}");
    }
}

#[test]
fn a_newer_format_is_refused_in_words() {
    let root = tempfile::tempdir().unwrap();
    closed_ledger(root.path(), 1);
    let mut database = Database::open(&root.path().join("ledger.db")).unwrap();
    database.transaction(CommitTo::Disk, |tx| log_file::write_format(tx, FORMAT_VERSION + 1)).unwrap();
    drop(database);
    let refused = try_reopened(root.path()).unwrap_err();
    assert!(refused.ends_with("ledger.db has format 3 and this node reads up to 2; run a newer node"), "{refused}");
}

#[test]
fn an_unfinished_creation_is_started_over() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("ledger.new"), "half").unwrap();
    assert!(reopened(root.path()).is_empty());
    assert!(!root.path().join("ledger.new").exists());
}

#[test]
fn a_visitor_that_refuses_stops_the_replay_with_the_entry() {
    let root = tempfile::tempdir().unwrap();
    closed_ledger(root.path(), 9);
    let dir = DataDir::open(root.path()).unwrap();
    let visit = |entry: StoredEntry| if entry.index == LogIndex(4) { Err("unknown record kind") } else { Ok(()) };
    let refused = LedgerLog::open(&dir, LEDGER).unwrap().replay(Probe::default().callbacks(), visit).unwrap_err();
    assert!(refused.to_string().ends_with("ledger.db was refused at entry 4: unknown record kind"), "{refused}");
    LedgerLog::open(&dir, LEDGER).unwrap();
}
