use std::fs;
use std::path::Path;

use magpie_core::ids::{LedgerId, OperationId, PeerId};
use magpie_core::payload::{BlobRef, Payload};
use magpie_core::queue::{Caller, Event, Ledger, LedgerIdentity, LedgerRequest, Replay, ReplyTo, Seal, SubmitItem};
use magpie_core::task::{TaskKind, TaskSpec};
use magpie_core::time::Now;
use magpie_net::NodeKey;
use tempfile::TempDir;

use super::*;
use crate::store::blobs::Blobs;
use crate::store::data_dir::DataDir;
use crate::store::log::{LedgerLog, LogCallbacks};
use crate::store::log_probe::{LEDGER, Probe};

fn key(n: u8) -> NodeKey {
    NodeKey::from_seed([n; 32])
}

fn peer(n: u8) -> PeerId {
    key(n).peer_id()
}

/// A node's disk, and who it is.
struct Disk {
    root: TempDir,
    dir: DataDir,
    blobs: Blobs,
    n: u8,
}

/// A ledger that is open on it.
struct Home {
    core: Ledger,
    log: LedgerLog,
    probe: Probe,
}

impl Disk {
    fn new(n: u8) -> Self {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open(root.path()).unwrap();
        let blobs = Blobs::open(dir.blobs()).unwrap();
        Self { root, dir, blobs, n }
    }

    fn open(&self, fresh: LedgerId) -> Home {
        let probe = Probe::default();
        let recovery = LedgerLog::open(&self.dir, fresh).unwrap();
        let identity = LedgerIdentity { ledger: recovery.ledger(), home: peer(self.n), secret: [self.n; 32] };
        let mut replay = match recovery.start() {
            Some(start) => Replay::resume(identity, start),
            None => Replay::new(identity),
        };
        let callbacks: LogCallbacks = probe.callbacks();
        let log = recovery.replay(callbacks, |entry| replay.apply(entry.index, &entry.body, entry.event)).unwrap();
        let mut home = Home { core: replay.open(Now { mono_ms: 1_000, wall_ms: 1_790_000_000_000 }), log, probe };
        home.settle();
        home
    }

    fn stage(&self, file: &Path) -> Result<Staged, ImportError> {
        stage(file, &self.dir, &self.blobs, peer(self.n))
    }

    fn file(&self) -> std::path::PathBuf {
        self.root.path().join("out.ledger")
    }
}

impl Home {
    fn settle(&mut self) {
        let entries = self.core.take_entries();
        let Some(last) = entries.last().map(|entry| entry.index) else { return };
        self.log.append(entries).unwrap();
        self.probe.wait_synced(last.0);
    }

    fn event(&mut self, event: Event) {
        self.core.handle(Now { mono_ms: 2_000, wall_ms: 1_790_000_001_000 }, event);
        self.settle();
    }

    fn submit(&mut self, n: u8, input: Payload) {
        let spec = TaskSpec { input, ..TaskSpec::new(TaskKind::Noop) };
        let (operation, items) = (OperationId([n; 16]), vec![SubmitItem::one(spec)]);
        let caller = Caller { peer: peer(1), owner: "someone".into() };
        self.event(Event::Request {
            caller,
            request: LedgerRequest::Submit { operation, items },
            reply: ReplyTo(u64::from(n)),
        });
    }

    fn seal(&mut self, from: u8, to: u8) -> Seal {
        self.event(Event::HandOver(self.core.handover_to(peer(to)).sign(&key(from).signing_key())));
        self.core.seal().unwrap()
    }
}

/// A home of three tasks, one with a large input, sealed and written to a file for disk 2.
fn exported(disk: &Disk) -> (Home, Seal, BlobRef) {
    let blob = disk.blobs.put(&[b'"'; 200_000]).unwrap();
    let mut home = disk.open(LEDGER);
    for n in 1..=2 {
        home.submit(n, Payload::Inline(Default::default()));
    }
    home.submit(3, Payload::Blob(blob));
    let seal = home.seal(1, 2);
    let contents = export(&disk.file(), &home.log.reader(), &disk.blobs, &seal).unwrap();
    assert_eq!((contents.records, contents.blobs), (seal.index.0, 1));
    assert_eq!(contents.bytes, fs::metadata(disk.file()).unwrap().len());
    (home, seal, blob)
}

#[test]
fn a_ledger_arrives_whole_with_its_blobs_and_goes_on_at_its_new_home() {
    let (old, new) = (Disk::new(1), Disk::new(2));
    let (home, seal, blob) = exported(&old);
    let counts = |home: &Home| home.core.backlog().iter().map(|shape| shape.ready).sum::<u64>();
    let before = counts(&home);
    let own = new.open(LedgerId([9; 16]));
    let staged = new.stage(&old.file()).unwrap();
    assert_eq!(staged.handover, seal.handover);
    assert_eq!(new.blobs.verify(blob.cid).unwrap(), Some(blob));
    assert!(install(&new.dir, &staged.path, None).is_err(), "the one that is there is still open");
    drop(own);
    install(&new.dir, &staged.path, None).unwrap();
    let arrived = new.open(LedgerId([8; 16]));
    assert_eq!((arrived.core.id(), arrived.core.seal()), (LEDGER, None));
    assert_eq!(arrived.core.term().tenure, 2);
    assert_eq!(arrived.core.handovers(), [seal.handover]);
    assert_eq!((counts(&arrived), before), (3, 3));
    drop(arrived);
    assert_eq!(new.open(LedgerId([8; 16])).core.term().tenure, 2, "and it stays");
    assert!(!new.dir.incoming_ledger().exists());
}

#[test]
fn the_same_file_is_made_again_byte_for_byte_also_after_a_restart() {
    let disk = Disk::new(1);
    let (home, seal, _) = exported(&disk);
    let first = fs::read(disk.file()).unwrap();
    drop(home);
    let home = disk.open(LEDGER);
    assert_eq!(home.core.seal(), Some(seal));
    export(&disk.file(), &home.log.reader(), &disk.blobs, &seal).unwrap();
    assert!(first == fs::read(disk.file()).unwrap());
}

#[test]
fn a_file_is_refused_by_every_node_but_the_one_that_it_is_for() {
    let (old, thief) = (Disk::new(1), Disk::new(3));
    exported(&old);
    let refused = thief.stage(&old.file()).unwrap_err();
    assert!(matches!(refused, ImportError::ForAnother { .. }), "{refused}");
    assert!(!thief.dir.incoming_ledger().exists());
}

#[test]
fn a_file_that_is_cut_or_changed_anywhere_is_refused_and_leaves_nothing() {
    let (old, new) = (Disk::new(1), Disk::new(2));
    exported(&old);
    let whole = fs::read(old.file()).unwrap();
    let file = old.root.path().join("changed");
    let places = (0..whole.len()).step_by(whole.len() / 12).chain([whole.len() - 1]);
    for at in places {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        for bytes in [&changed[..], &whole[..at]] {
            fs::write(&file, bytes).unwrap();
            assert!(new.stage(&file).is_err(), "byte {at}");
            assert!(!new.dir.incoming_ledger().exists());
        }
    }
    fs::write(&file, [&whole[..], b"x"].concat()).unwrap();
    assert!(new.stage(&file).is_err(), "something stands behind the end");
}

#[test]
fn a_ledger_that_was_handed_over_is_kept_where_another_takes_its_place() {
    let (old, new) = (Disk::new(1), Disk::new(2));
    let (home, _, _) = exported(&old);
    let mut there = {
        let staged = new.stage(&old.file()).unwrap();
        drop(new.open(LedgerId([9; 16])));
        install(&new.dir, &staged.path, None).unwrap();
        new.open(LEDGER)
    };
    let back = there.seal(2, 1);
    export(&new.file(), &there.log.reader(), &new.blobs, &back).unwrap();
    assert_eq!(home.core.may_give_way_to(&back.handover.handover), Ok(()));
    drop(home);
    let staged = old.stage(&new.file()).unwrap();
    install(&old.dir, &staged.path, Some(LEDGER.tag())).unwrap();
    assert!(old.dir.sealed_ledger(LEDGER.tag()).exists());
    let home = old.open(LEDGER);
    assert_eq!((home.core.term().tenure, home.core.seal()), (3, None));
}

#[test]
fn a_file_of_before_a_ledger_was_handed_on_is_refused_also_where_another_ledger_is_served_since() {
    let (old, new) = (Disk::new(1), Disk::new(2));
    exported(&old);
    let staged = new.stage(&old.file()).unwrap();
    drop(new.open(LedgerId([9; 16])));
    install(&new.dir, &staged.path, None).unwrap();
    let mut there = new.open(LEDGER);
    there.seal(2, 3);
    drop(there);
    // It gives way to another ledger, and is kept.
    let other = new.dir.incoming_ledger();
    crate::store::log_file::create(&other, LedgerId([7; 16])).unwrap();
    install(&new.dir, &other, Some(LEDGER.tag())).unwrap();
    let refused = new.stage(&old.file()).unwrap_err();
    assert!(matches!(refused, ImportError::Former { to } if to == peer(3)), "{refused}");
    assert!(!new.dir.incoming_ledger().exists());
}

#[test]
fn an_install_that_a_crash_cut_short_is_done_again_or_was_done() {
    let (old, new) = (Disk::new(1), Disk::new(2));
    exported(&old);
    drop(new.open(LedgerId([9; 16])));
    let staged = new.stage(&old.file()).unwrap();
    // Before its last step the one that was there is served again, and the import can be repeated.
    assert_eq!(new.open(LEDGER).core.id(), LedgerId([9; 16]));
    install(&new.dir, &staged.path, None).unwrap();
    install(&new.dir, &staged.path, None).unwrap();
    assert_eq!(new.open(LedgerId([8; 16])).core.id(), LEDGER);
}
