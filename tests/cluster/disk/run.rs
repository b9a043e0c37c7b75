//! A run of the store that acknowledges as it goes, and what must be found of it afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs;
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use magpie::store::blobs::Blobs;
use magpie::store::data_dir::DataDir;
use magpie::store::log::{LedgerLog, LogCallbacks, LogEntry};
use magpie::store::spool::Spool;
use magpie_core::ids::{ContentId, Epoch, LedgerId, LedgerTag, LogIndex, PeerId, TaskId};
use magpie_core::lease::Fence;
use magpie_core::task::Durability;
use magpie_core::time::Wall;
use magpie_net::{ClusterKey, NodeKey};
use serde::{Deserialize, Serialize};

use super::apart::{given, use_disk, use_disk_until};

const LEDGER: LedgerId = LedgerId([7; 16]);
const NOW: Wall = Wall(1_790_000_000_000);
/// Far beyond anything that takes: only a bug waits this long.
const PATIENCE: Duration = Duration::from_secs(60);
const TRIES: usize = 4;

/// What was acknowledged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Said {
    Identity(PeerId),
    ClusterKey,
    /// The log, up to this entry.
    Synced(u64),
    Blob(ContentId),
    Spooled(u64),
    /// From now on it may be gone.
    Unspools(u64),
    /// A client was told that its task is accepted.
    Accepted(TaskId),
    /// A client saw that its task had succeeded.
    Succeeded(TaskId),
}

/// A process that works on a mounted disk says what was acknowledged by asking for a file of this name, which there is
/// not: so the disk hears of it in its place among all else that it is asked.
const SAYS: &str = "says:";

impl Said {
    fn say(&self, volume: &Path) {
        let _ = fs::metadata(volume.join(format!("{SAYS}{}", serde_json::to_string(self).unwrap())));
    }

    /// What somebody says who asks for the file `name`.
    pub fn heard(name: &str) -> Option<Self> {
        Some(serde_json::from_str(name.strip_prefix(SAYS)?).unwrap())
    }
}

fn body(index: u64) -> Vec<u8> {
    let len = if index % 40 == 7 { 9_000 } else { (index * 37 % 900) as usize };
    (0..len).map(|at| (at as u64 * 31 + index) as u8).collect()
}

fn blob(n: u64) -> Vec<u8> {
    (0..(n * 1_777) % 20_000).map(|at| (at * 7 + n) as u8).collect()
}

/// From this one on they are large.
const LARGE: u64 = 10_000;

fn outcome(n: u64) -> Vec<u8> {
    let len = if n < LARGE { 40 + (n as usize * 97) % 900 } else { 100_000 };
    vec![n as u8; len]
}

fn fence(n: u64) -> Fence {
    Fence { task: TaskId { ulid: u128::from(n), ledger: LedgerTag([3; 5]) }, epoch: Epoch(n << 32) }
}

/// Does something again that the disk may have refused: what fails goes on failing only where it is broken.
fn again<T, E: Debug>(mut act: impl FnMut() -> Result<T, E>) -> T {
    for _ in 1..TRIES {
        if let Ok(done) = act() {
            return done;
        }
    }
    act().unwrap()
}

/// A log that says what it has synced, in the thread that synced it.
struct SayingLog {
    log: LedgerLog,
    synced: Receiver<u64>,
}

impl SayingLog {
    fn open(dir: &DataDir, volume: &Path) -> Self {
        let opened = again(|| {
            let (sender, synced) = sync_channel(1_024);
            let volume = volume.to_owned();
            let callbacks = LogCallbacks {
                on_watermark: Box::new(move |watermark| {
                    Said::Synced(watermark.synced.0).say(&volume);
                    let _ = sender.try_send(watermark.synced.0);
                }),
                on_failure: Box::new(|_| {}),
                on_reserve: Box::new(|| {}),
                on_recovery: Box::new(|| {}),
            };
            let recovery = LedgerLog::open(dir, LEDGER).map_err(|error| error.to_string())?;
            let log = recovery.replay(callbacks, |_| Ok::<_, String>(())).map_err(|error| error.to_string())?;
            Ok::<_, String>((log, synced))
        });
        Self { log: opened.0, synced: opened.1 }
    }

    fn append(&self, len: u64, durability: Durability) {
        let first = self.log.next_index().0;
        let entry = |index| {
            let body = body(index);
            LogEntry { index: LogIndex(index), durability, event: ContentId::of(&body), body }
        };
        self.log.append((first..first + len).map(entry).collect()).unwrap();
        while self.synced.recv_timeout(PATIENCE).unwrap() < first + len - 1 {}
    }
}

const SPOOLS: &str = "spools";

/// Does `operations` things on the disk that is mounted at `volume`, each acknowledged before the next.
pub fn work(volume: &Path, operations: u64) {
    use_disk("run::works_on_the_disk_that_it_is_given", volume, operations.to_string());
}

/// As [`work`], until `enough` says so.
pub fn work_until(volume: &Path, operations: u64, enough: impl Fn() -> bool) {
    use_disk_until("run::works_on_the_disk_that_it_is_given", volume, operations.to_string(), enough);
}

/// Spools more than a write-ahead log holds, none of it durable, and then one outcome that is.
pub fn spool(volume: &Path) {
    use_disk("run::works_on_the_disk_that_it_is_given", volume, SPOOLS);
}

#[test]
fn works_on_the_disk_that_it_is_given() {
    let Some((volume, task)) = given() else { return };
    if task == SPOOLS { spool_here(&volume) } else { work_here(&volume, task.parse().unwrap()) }
}

fn spool_here(volume: &Path) {
    let dir = DataDir::open(volume.join("data")).unwrap();
    let spool = Spool::open(&dir.spool()).unwrap().0;
    for n in LARGE..LARGE + 200 {
        spool.put(fence(n), &outcome(n), NOW, false).unwrap();
    }
    again(|| spool.put(fence(1), &outcome(1), NOW, true));
    Said::Spooled(1).say(volume);
}

fn work_here(volume: &Path, operations: u64) {
    let say = |said: Said| said.say(volume);
    let dir = again(|| DataDir::open(volume.join("data")));
    let key = again(|| NodeKey::load_or_create(&dir.identity_key()));
    say(Said::Identity(key.peer_id()));
    again(|| ClusterKey::load_or_create(&dir.cluster_key()));
    say(Said::ClusterKey);
    let blobs = again(|| Blobs::open(dir.blobs()));
    let spool = again(|| Spool::open(&dir.spool())).0;
    let mut log = SayingLog::open(&dir, volume);
    for n in 0..operations {
        match n % 8 {
            4 => say(Said::Blob(again(|| blobs.put(&blob(n))).cid)),
            5 => {
                let outcomes = [outcome(n), outcome(n + 1_000)];
                again(|| spool.put_many(&[(fence(n), &outcomes[0]), (fence(n + 1_000), &outcomes[1])], NOW, true));
                say(Said::Spooled(n));
                say(Said::Spooled(n + 1_000));
            }
            6 => again(|| spool.put(fence(n), &outcome(n), NOW, false)),
            7 if n > 8 => {
                say(Said::Unspools(n - 10));
                again(|| spool.remove(&[fence(n - 10)]));
            }
            step => log.append(1 + n % 3, if step == 1 { Durability::Async } else { Durability::Sync }),
        }
        if n % 70 == 60 {
            // A close that fails has lost nothing that was acknowledged.
            let _ = log.log.close();
            log = SayingLog::open(&dir, volume);
        }
    }
    let _ = log.log.close();
}

/// Opens what a crash left, as a node does, and finds all that was acknowledged; nothing of it is half.
pub fn check(root: &Path, said: &[Said]) {
    let dir = DataDir::open(root).unwrap();
    let key = NodeKey::load_or_create(&dir.identity_key()).unwrap();
    ClusterKey::load_or_create(&dir.cluster_key()).unwrap();
    let identity = said.iter().find_map(|said| if let Said::Identity(peer) = said { Some(*peer) } else { None });
    assert!(identity.is_none_or(|peer| peer == key.peer_id()), "the node is another now");
    check_log(&dir, said);
    check_blobs(&dir, said);
    check_spool(&dir, said);
}

fn check_log(dir: &DataDir, said: &[Said]) {
    let synced = said.iter().map(|said| if let Said::Synced(index) = said { *index } else { 0 }).max();
    let mut expected = 0;
    let silent = LogCallbacks {
        on_watermark: Box::new(|_| {}),
        on_failure: Box::new(|_| {}),
        on_reserve: Box::new(|| {}),
        on_recovery: Box::new(|| {}),
    };
    let recovery = LedgerLog::open(dir, LEDGER).unwrap();
    let log = recovery.replay(silent, |entry| {
        expected += 1;
        assert_eq!((entry.index.0, &entry.body), (expected, &body(expected)));
        Ok::<_, String>(())
    });
    drop(log.unwrap());
    assert!(expected >= synced.unwrap_or(0), "{expected} of {synced:?} acknowledged entries");
}

pub fn check_blobs(dir: &DataDir, said: &[Said]) {
    let blobs = Blobs::open(dir.blobs()).unwrap();
    for said in said {
        if let Said::Blob(cid) = said {
            assert!(blobs.verify(*cid).unwrap().is_some(), "blob {cid} is gone");
        }
    }
    for first in fs::read_dir(dir.blobs()).unwrap().map(|dir| dir.unwrap().path()) {
        for file in fs::read_dir(&first).unwrap().map(|file| file.unwrap().path()) {
            let name = format!("{}{}", first.file_name().unwrap().display(), file.file_name().unwrap().display());
            let digest = data_encoding::HEXLOWER.encode(&ContentId::of(&fs::read(&file).unwrap()).0);
            assert_eq!(name, digest, "a blob has its name before it is whole");
        }
    }
}

fn check_spool(dir: &DataDir, said: &[Said]) {
    let (spool, damage) = Spool::open(&dir.spool()).unwrap();
    assert_eq!(damage, None);
    let mut wanted = BTreeSet::new();
    for said in said {
        match said {
            Said::Spooled(n) => drop(wanted.insert(*n)),
            Said::Unspools(n) => drop(wanted.remove(n)),
            _ => {}
        }
    }
    let found: BTreeMap<u64, Vec<u8>> =
        spool.load(NOW).unwrap().outcomes.into_iter().map(|(fence, bytes)| (fence.epoch.0 >> 32, bytes)).collect();
    assert!(found.iter().all(|(n, bytes)| *bytes == outcome(*n)));
    let lost: Vec<_> = wanted.iter().filter(|n| !found.contains_key(n)).collect();
    assert!(lost.is_empty(), "outcomes {lost:?} are gone");
}
