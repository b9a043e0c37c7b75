use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::recorded::Happened;
use super::tree::{Ino, Io, Kind, Node, ROOT, Tree};

/// What a disk keeps whole; a larger write is several of them, each there or not.
const SECTOR_BYTES: usize = 512;

pub fn seeded(test: &str) -> StdRng {
    let seed: u64 = match std::env::var("MAGPIE_SEED") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().into(),
    };
    println!("{test}: MAGPIE_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// Whether there is time for every case, as at night, and not for a sample only.
pub fn every_one() -> bool {
    std::env::var_os("MAGPIE_ALL").is_some()
}

/// A disk between what is kept for certain and what processes see of it.
#[derive(Debug, Clone, Default)]
pub struct Survivors {
    kept: Tree,
    live: Tree,
    /// Changes of each file since its last sync.
    contents: BTreeMap<Ino, Vec<Io>>,
    /// Changes of names whose directory was not synced since, in order.
    names: Vec<Io>,
}

impl Survivors {
    pub fn happen(&mut self, happened: &Happened, rng: &mut StdRng) {
        match happened {
            Happened::Said(_) => {}
            Happened::Failed(Io::Sync { file }) => {
                // Some of it may have reached the disk; the rest never will, though the next sync succeeds.
                for io in self.contents.remove(file).unwrap_or_default() {
                    keep_some(&mut self.kept, &io, 0.5, rng);
                }
            }
            Happened::Failed(_) => {}
            Happened::Done(io) => {
                self.live.apply(io);
                self.done(io);
            }
        }
    }

    fn done(&mut self, io: &Io) {
        match io {
            Io::Write { file, .. } | Io::SetLen { file, .. } => {
                self.contents.entry(*file).or_default().push(io.clone());
            }
            Io::Sync { file } => {
                let changes = self.contents.remove(file).unwrap_or_default();
                changes.iter().for_each(|io| self.kept.apply(io));
            }
            Io::SyncDir { dir } => {
                let names = std::mem::take(&mut self.names);
                let (synced, others) = names.into_iter().partition(|io| io.dirs().contains(dir));
                self.names = others;
                let synced: Vec<Io> = synced;
                synced.iter().for_each(|io| self.kept.apply(io));
            }
            Io::Make { node, kind, mode, .. } => {
                // What is written into it may be kept before its name is.
                self.kept.insert(*node, Node::new(*kind, *mode));
                self.names.push(io.clone());
            }
            Io::Link { .. } | Io::Remove { .. } | Io::Rename { .. } => self.names.push(io.clone()),
        }
    }

    /// What a killed process leaves: all that it handed to the kernel.
    pub fn after_kill(&self) -> Tree {
        self.live.clone()
    }

    /// What a power loss leaves: all that was synced, and of the rest anything. A directory's names change in order.
    pub fn after_power_loss(&self, rng: &mut StdRng) -> Tree {
        let mut tree = self.kept.clone();
        for changes in self.contents.values() {
            let kept = [0.0, 1.0, rng.random_range(0.0..1.0)][rng.random_range(0..3)];
            changes.iter().for_each(|io| keep_some(&mut tree, io, kept, rng));
        }
        let kept = rng.random_range(0..=self.names.len());
        self.names[..kept].iter().for_each(|io| tree.apply(io));
        tree
    }
}

/// Applies some of one change.
fn keep_some(tree: &mut Tree, io: &Io, kept: f64, rng: &mut StdRng) {
    let Io::Write { file, at, bytes } = io else {
        if rng.random_bool(kept) {
            tree.apply(io);
        }
        return;
    };
    let mut begin = 0;
    while begin < bytes.len() {
        let place = (*at as usize + begin) % SECTOR_BYTES;
        let end = bytes.len().min(begin + SECTOR_BYTES - place);
        if rng.random_bool(kept) {
            tree.apply(&Io::Write { file: *file, at: at + begin as u64, bytes: bytes[begin..end].into() });
        }
        begin = end;
    }
}

/// Writes a tree into a directory of the machine.
pub fn write_out(tree: &Tree, into: &Path) {
    write_dir(tree, ROOT, into);
}

fn write_dir(tree: &Tree, dir: Ino, into: &Path) {
    for (name, ino) in &tree.node(dir).unwrap().names {
        let path = into.join(name);
        let Some(node) = tree.node(*ino) else { continue };
        match node.kind {
            Kind::Dir => {
                fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
                write_dir(tree, *ino, &path);
            }
            Kind::File => {
                let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
                file.set_len(node.content.len()).unwrap();
                node.content.pages().for_each(|(at, bytes)| file.write_all_at(bytes, at).unwrap());
            }
            Kind::Socket | Kind::Fifo => {}
        }
    }
}

/// A directory in memory where there is one: thousands of images prove nothing of the machine's disk.
pub fn fast_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

#[test]
fn what_was_synced_survives_and_the_rest_may_be_torn() {
    let mut rng = seeded("survivors");
    let mut survivors = Survivors::default();
    let write = |byte: u8| Io::Write { file: 2, at: 0, bytes: vec![byte; 4_096].into() };
    let made = Io::Make { dir: ROOT, name: "a".to_owned(), node: 2, kind: Kind::File, mode: 0o600 };
    for io in [made, write(1), Io::Sync { file: 2 }] {
        survivors.happen(&Happened::Done(io), &mut rng);
    }
    let unnamed = (0..100).filter(|_| survivors.after_power_loss(&mut rng).find("a").is_none()).count();
    assert!((1..100).contains(&unnamed), "a name lasts once its directory was synced: {unnamed}");
    survivors.happen(&Happened::Done(Io::SyncDir { dir: ROOT }), &mut rng);
    survivors.happen(&Happened::Done(write(2)), &mut rng);
    assert_eq!(survivors.after_kill().find("a").unwrap().content.read(0, 1), [2]);
    let mut torn = 0;
    for _ in 0..100 {
        let content = survivors.after_power_loss(&mut rng).find("a").unwrap().content.clone();
        let sectors: Vec<u8> = content.read(0, 4_096).chunks(SECTOR_BYTES).map(|sector| sector[0]).collect();
        assert!(sectors.iter().all(|byte| [1, 2].contains(byte)));
        torn += usize::from(sectors.contains(&1) && sectors.contains(&2));
    }
    assert!(torn > 0);
}

#[test]
fn what_a_failed_sync_was_to_keep_is_not_kept_by_the_next() {
    let mut rng = seeded("failed sync");
    let mut lost = 0;
    for _ in 0..50 {
        let mut survivors = Survivors::default();
        let made = Io::Make { dir: ROOT, name: "a".to_owned(), node: 2, kind: Kind::File, mode: 0o600 };
        for io in [made, Io::SyncDir { dir: ROOT }, Io::Write { file: 2, at: 0, bytes: vec![1].into() }] {
            survivors.happen(&Happened::Done(io), &mut rng);
        }
        survivors.happen(&Happened::Failed(Io::Sync { file: 2 }), &mut rng);
        survivors.happen(&Happened::Done(Io::Sync { file: 2 }), &mut rng);
        lost += usize::from(survivors.after_power_loss(&mut rng).find("a").unwrap().content.len() == 0);
    }
    assert!((1..50).contains(&lost), "{lost}");
}
