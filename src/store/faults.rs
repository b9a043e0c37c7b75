//! What becomes of a node's files when bits rot and the power goes: found, or harmless; never a wrong answer.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use magpie_core::ids::{ContentId, Epoch, LedgerTag, LogIndex, TaskId};
use magpie_core::lease::Fence;
use magpie_core::task::Durability;
use magpie_core::time::Wall;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::DiskFailure;
use super::blobs::{Blobs, ReadBlobError};
use super::data_dir::DataDir;
use super::log::LedgerLog;
use super::log_probe::{LEDGER, Probe, body, entries, fast_dir, open, reopened};
use super::spool::Spool;

const NOW: Wall = Wall(1_790_000_000_000);
const SECTOR_BYTES: usize = 512;

fn seeded(test: &str) -> StdRng {
    let seed: u64 = match std::env::var("MAGPIE_SEED") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().into(),
    };
    println!("{test}: MAGPIE_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

fn flipped(whole: &[u8], rng: &mut StdRng) -> Vec<u8> {
    let bit = rng.random_range(0..whole.len() * 8);
    let mut flipped = whole.to_vec();
    flipped[bit / 8] ^= 1 << (bit % 8);
    flipped
}

fn fence(n: u64) -> Fence {
    Fence { task: TaskId { ulid: u128::from(n), ledger: LedgerTag([3; 5]) }, epoch: Epoch(n << 32) }
}

fn outcome(n: u64) -> Vec<u8> {
    vec![n as u8; 40 + (n as usize * 97) % 900]
}

#[test]
fn a_flipped_bit_in_a_blob_is_found() {
    let mut rng = seeded("blob flip");
    let root = fast_dir();
    let blobs = Blobs::open(root.path().join("blobs")).unwrap();
    let kept: Vec<_> = (0..5).map(|n| blobs.put(&vec![n; 300 + 1_000 * usize::from(n)]).unwrap()).collect();
    for turn in 0..400 {
        let blob = kept[turn % kept.len()];
        let file = blobs.path(blob.cid);
        let whole = fs::read(&file).unwrap();
        fs::write(&file, flipped(&whole, &mut rng)).unwrap();
        assert!(matches!(blobs.read(blob.cid, u64::MAX), Err(ReadBlobError::Damaged { .. })));
        assert!(matches!(blobs.verify(blob.cid), Err(ReadBlobError::Damaged { .. })));
        assert_eq!(blobs.put(&whole).unwrap(), blob, "put anew it is whole");
        assert_eq!(blobs.read(blob.cid, u64::MAX).unwrap().unwrap(), whole);
    }
}

#[test]
fn a_flipped_bit_in_the_spool_is_reported_or_harmless_and_changes_no_outcome() {
    let mut rng = seeded("spool flip");
    let root = fast_dir();
    let (spool, _) = Spool::open(root.path()).unwrap();
    for n in 0..40 {
        spool.put(fence(n), &outcome(n), NOW, false).unwrap();
    }
    spool.remove(&[fence(7), fence(8)]).unwrap();
    drop(spool);
    let whole = fs::read(root.path().join("spool.db")).unwrap();
    let (mut harmless, mut reported) = (0, 0);
    for _ in 0..400 {
        let image = fast_dir();
        fs::write(image.path().join("spool.db"), flipped(&whole, &mut rng)).unwrap();
        let (spool, damage) = Spool::open(image.path()).unwrap();
        let outcomes = spool.load(NOW).unwrap().outcomes;
        assert!(outcomes.iter().all(|(fence, bytes)| *bytes == outcome(fence.epoch.0 >> 32)));
        match damage {
            Some(_) => reported += 1,
            None => {
                assert_eq!(outcomes.len(), 38, "an outcome went without a word");
                harmless += 1;
            }
        }
    }
    println!("spool flips: {harmless} harmless, {reported} reported");
    assert!(reported >= 40, "much of the file is content, and only {reported} of 400 flips were reported");
}

/// What the spool of a killed worker lost is an outcome that its home never heard of: the task runs again, as after a crash before the end.
#[test]
fn a_flipped_bit_in_the_spools_write_ahead_log_changes_no_outcome() {
    let mut rng = seeded("spool log flip");
    let root = fast_dir();
    let (spool, _) = Spool::open(root.path()).unwrap();
    for n in 0..40 {
        spool.put(fence(n), &outcome(n), NOW, true).unwrap();
    }
    let whole = fs::read(root.path().join("spool.db-wal")).unwrap();
    let mut shorter = 0;
    for _ in 0..400 {
        let image = fast_dir();
        fs::copy(root.path().join("spool.db"), image.path().join("spool.db")).unwrap();
        fs::write(image.path().join("spool.db-wal"), flipped(&whole, &mut rng)).unwrap();
        let (spool, _) = Spool::open(image.path()).unwrap();
        let outcomes = spool.load(NOW).unwrap().outcomes;
        assert!(outcomes.iter().all(|(fence, bytes)| *bytes == outcome(fence.epoch.0 >> 32)));
        let mut kept: Vec<u64> = outcomes.iter().map(|(fence, _)| fence.epoch.0 >> 32).collect();
        kept.sort_unstable();
        assert!(kept.iter().copied().eq(0..kept.len() as u64), "what is kept is what came first: {kept:?}");
        shorter += usize::from(kept.len() < 40);
        spool.put(fence(100), &outcome(100), NOW, true).unwrap();
    }
    assert!(shorter >= 100, "most flips hit a frame in use, and only {shorter} of 400 cost an outcome");
}

#[test]
fn a_power_loss_at_any_step_of_a_put_leaves_a_blob_whole_or_absent() {
    let content = vec![5; 10_000];
    let cid = ContentId::of(&content);
    // The file grows without a name of its own, is synced, then renamed, then the names are synced.
    let unfinished = |dir: &Path, len: usize| {
        fs::create_dir_all(dir.join("unfinished")).unwrap();
        fs::write(dir.join("unfinished/0"), &content[..len]).unwrap();
    };
    for len in [0, 1, 4_096, 10_000] {
        let root = fast_dir();
        unfinished(root.path(), len);
        let blobs = Blobs::open(root.path()).unwrap();
        assert_eq!(blobs.stat(cid).unwrap(), None);
        assert_eq!(blobs.bytes(), 0, "what an unfinished writer left is removed");
        blobs.put(&content).unwrap();
        assert_eq!(Blobs::open(root.path()).unwrap().read(cid, u64::MAX).unwrap().unwrap(), content);
    }
    // A file system that renames before it has the data leaves a short file: found, and healed by the next put.
    for len in [0, 9_999] {
        let root = fast_dir();
        let blobs = Blobs::open(root.path()).unwrap();
        blobs.put(&content).unwrap();
        fs::write(blobs.path(cid), &content[..len]).unwrap();
        let blobs = Blobs::open(root.path()).unwrap();
        assert!(matches!(blobs.read(cid, u64::MAX), Err(ReadBlobError::Damaged { .. })));
        blobs.put(&content).unwrap();
        assert_eq!(blobs.read(cid, u64::MAX).unwrap().unwrap(), content);
    }
}

#[test]
fn a_power_loss_anywhere_in_the_spools_write_ahead_log_keeps_every_synced_outcome() {
    let root = fast_dir();
    let (spool, _) = Spool::open(root.path()).unwrap();
    let wal = || fs::read(root.path().join("spool.db-wal")).unwrap();
    let mut synced = vec![(wal().len(), 0)];
    for n in 0..30 {
        spool.put(fence(n), &outcome(n), NOW, true).unwrap();
        synced.push((wal().len(), n + 1));
    }
    let whole = wal();
    for cut in (synced[0].0..=whole.len()).step_by(1_009).chain(synced.iter().map(|(len, _)| *len)) {
        let image = fast_dir();
        fs::copy(root.path().join("spool.db"), image.path().join("spool.db")).unwrap();
        fs::write(image.path().join("spool.db-wal"), &whole[..cut]).unwrap();
        let (spool, damage) = Spool::open(image.path()).unwrap();
        assert_eq!(damage, None, "a torn tail is no damage");
        let outcomes = spool.load(NOW).unwrap().outcomes;
        let acknowledged = synced.iter().rfind(|(len, _)| *len <= cut).unwrap().1;
        assert!(outcomes.len() as u64 >= acknowledged, "cut at {cut}: {} of {acknowledged}", outcomes.len());
        assert!(outcomes.iter().all(|(fence, bytes)| *bytes == outcome(fence.epoch.0 >> 32)));
    }
}

#[test]
fn sectors_of_a_transaction_that_reached_the_disk_in_any_order_never_tear_the_log() {
    let mut rng = seeded("reordered sectors");
    let root = fast_dir();
    let probe = Probe::default();
    let log = open(root.path(), &probe);
    log.append(entries(1..=80, Durability::Sync)).unwrap();
    probe.wait_synced(80);
    let (db, wal) = (root.path().join("ledger.db"), root.path().join("ledger.db-wal"));
    let before = fs::read(&wal).unwrap();
    // One transaction: until its fsync nothing of it is acknowledged, and its sectors go to the disk as they like.
    log.append(entries(81..=200, Durability::Sync)).unwrap();
    probe.wait_synced(200);
    let after = fs::read(&wal).unwrap();
    let mut whole = 0;
    for turn in 0..300 {
        let image = fast_dir();
        fs::copy(&db, image.path().join("ledger.db")).unwrap();
        let kept_per_mille = if turn % 10 == 0 { 1_000 } else { rng.random_range(0..1_000) };
        let mut torn = after.clone();
        for at in (0..after.len()).step_by(SECTOR_BYTES) {
            let end = (at + SECTOR_BYTES).min(after.len());
            if rng.random_range(0..1_000) >= kept_per_mille {
                torn[at..end].copy_from_slice(&before[at..end]);
            }
        }
        fs::write(image.path().join("ledger.db-wal"), torn).unwrap();
        let stored = reopened(image.path());
        assert!(stored.len() == 80 || stored.len() == 200, "{} entries", stored.len());
        assert!(stored.iter().zip(1..).all(|(entry, n)| entry.index == LogIndex(n) && entry.body == body(n)));
        whole += usize::from(stored.len() == 200);
    }
    assert!(whole >= 30, "{whole}");
}

/// A small disk of its own, where this process may mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={bytes}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        mounted.is_ok_and(|mounted| mounted.status.success()).then_some(Self(dir))
    }

    /// Takes all that is free, but for what other files hold.
    fn fill(&self) -> std::path::PathBuf {
        let path = self.0.path().join("filler");
        let mut file = fs::File::create(&path).unwrap();
        while file.write(&[1; 4_096]).is_ok_and(|written| written > 0) {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

#[test]
fn a_full_disk_goes_on_in_its_reserve_and_recovers_when_there_is_room() {
    let Some(disk) = SmallDisk::mount(8 * 1024 * 1024) else {
        println!("SKIPPED: this process may not mount a file system of its own; run it as root");
        return;
    };
    let root = disk.0.path().join("data");
    let dir = DataDir::open(&root).unwrap();
    let probe = Probe::default();
    let recovery = LedgerLog::open(&dir, LEDGER).unwrap().with_reserve(64 * 1024 * 1024);
    let log = recovery.replay(probe.callbacks(), |_| Ok::<_, String>(())).unwrap();
    log.append(entries(1..=20, Durability::Sync)).unwrap();
    probe.wait_synced(20);
    let reserve = root.join("reserve");
    assert!((500_000..1_100_000).contains(&reserve.metadata().unwrap().len()), "an eighth of what was free");
    let filler = disk.fill();
    log.append(entries(21..=400, Durability::Sync)).unwrap();
    probe.wait_synced(400);
    assert_eq!((probe.failures(), probe.reserves(), probe.recoveries()), (vec![], 1, 0));
    assert_eq!(reserve.metadata().unwrap().len(), 0, "what follows from accepted work took it");
    assert_eq!(log.read(LogIndex(390), 5).unwrap().len(), 5);
    fs::remove_file(filler).unwrap();
    probe.wait_recovery();
    assert!(reserve.metadata().unwrap().len() > 500_000);
    log.close().unwrap();
    drop(dir);
    assert_eq!(reopened(&root).len(), 400);
}

#[test]
fn a_disk_without_any_reserve_left_refuses_loses_nothing_and_recovers() {
    let Some(disk) = SmallDisk::mount(4 * 1024 * 1024) else {
        println!("SKIPPED: this process may not mount a file system of its own; run it as root");
        return;
    };
    let root = disk.0.path().join("data");
    let probe = Probe::default();
    let log = open(&root, &probe);
    let filler = disk.fill();
    log.append(entries(1..=2_000, Durability::Sync)).unwrap();
    probe.wait_failure();
    assert_eq!(probe.failures(), [DiskFailure::DiskFull]);
    fs::remove_file(filler).unwrap();
    probe.wait_synced(2_000);
    probe.wait_recovery();
    log.close().unwrap();
    assert_eq!(reopened(&root).len(), 2_000);
}
