use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::io::Errno;

use super::content::PAGE_BYTES;
use super::run::Said;
use super::tree::{Ino, Io, Kind, ROOT, Tree};

/// What happened to a disk, in order.
#[derive(Debug, Clone)]
pub enum Happened {
    Done(Io),
    /// Of a sync: what it was to keep is kept in memory only, and no later sync writes it.
    Failed(Io),
    /// Something was acknowledged: all that it rests on came before.
    Said(Said),
}

/// A disk as its users see it now, with all that was ever asked of it. Clones are one disk.
#[derive(Debug, Clone)]
pub struct Disk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    live: Tree,
    happened: Vec<Happened>,
    next_ino: Ino,
    faults: Faults,
    /// Requests that change or keep something, so far.
    ios: u64,
    /// Files whose content no reader trusts after a crash: the index that processes share of a write-ahead log.
    shared_indices: BTreeSet<Ino>,
}

/// What the disk refuses.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// The n-th request that changes or keeps something, counted from 1, fails so.
    pub at: Option<(u64, Errno)>,
    /// Each n-th of them does.
    pub every: Option<(u64, Errno)>,
    /// The n-th and all after it do.
    pub from: Option<(u64, Errno)>,
    /// All do.
    pub all: Option<Errno>,
    /// It holds no more than this.
    pub bytes_max: Option<u64>,
    /// Of that, what others hold.
    pub others_bytes: u64,
}

const BYTES_MAX: u64 = 1 << 40;

impl Disk {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            live: Tree::default(),
            happened: Vec::new(),
            next_ino: ROOT + 1,
            faults: Faults::default(),
            ios: 0,
            shared_indices: BTreeSet::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub fn set(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Notes that something was acknowledged.
    pub fn say(&self, what: Said) {
        self.state().happened.push(Happened::Said(what));
    }

    /// Requests that changed or kept something, so far.
    pub fn ios(&self) -> u64 {
        self.state().ios
    }

    pub fn happened(&self) -> Vec<Happened> {
        self.state().happened.clone()
    }

    pub fn has_failed(&self) -> bool {
        self.state().happened.iter().any(|happened| matches!(happened, Happened::Failed(_)))
    }

    /// How often something was synced, so far.
    pub fn syncs(&self) -> usize {
        let synced = |happened: &&Happened| matches!(happened, Happened::Done(Io::Sync { .. } | Io::SyncDir { .. }));
        self.state().happened.iter().filter(synced).count()
    }

    /// The bytes of a file that processes see.
    pub fn file(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.state();
        let content = &state.live.find(path)?.content;
        Some(content.read(0, content.len() as usize))
    }

    pub fn with_tree<T>(&self, look: impl FnOnce(&Tree) -> T) -> T {
        look(&self.state().live)
    }

    pub fn set_mode(&self, ino: Ino, mode: u32) {
        if let Some(node) = self.state().live.node_mut(ino) {
            node.mode = mode & 0o7777;
        }
    }

    /// Bytes in all and bytes free.
    pub fn room(&self) -> (u64, u64) {
        let state = self.state();
        let all = state.faults.bytes_max.unwrap_or(BYTES_MAX);
        (all, all.saturating_sub(state.live.bytes() + state.faults.others_bytes))
    }

    /// Why nothing can be opened for writing.
    pub fn is_read_only(&self) -> bool {
        self.state().faults.all == Some(Errno::ROFS)
    }

    pub fn make(&self, dir: Ino, name: &str, kind: Kind, mode: u32) -> Result<Ino, Errno> {
        let mut state = self.state();
        if state.live.lookup(dir, name).is_some() {
            return Err(Errno::EXIST);
        }
        let node = state.next_ino;
        state.next_ino += 1;
        if name.ends_with("-shm") {
            state.shared_indices.insert(node);
        }
        state.perform(Io::Make { dir, name: name.to_owned(), node, kind, mode: mode & 0o7777 })?;
        Ok(node)
    }

    pub fn perform(&self, io: Io) -> Result<(), Errno> {
        self.state().perform(io)
    }
}

impl State {
    fn perform(&mut self, io: Io) -> Result<(), Errno> {
        if let Io::Write { file, .. } | Io::SetLen { file, .. } | Io::Sync { file } = &io
            && self.shared_indices.contains(file)
        {
            self.check_room(&io)?;
            self.live.apply(&io);
            return Ok(());
        }
        self.ios += 1;
        if let Err(errno) = self.check_faults().and_then(|()| self.check_room(&io)) {
            self.happened.push(Happened::Failed(io));
            return Err(errno);
        }
        self.live.apply(&io);
        self.happened.push(Happened::Done(io));
        Ok(())
    }

    fn check_faults(&self) -> Result<(), Errno> {
        let Faults { at, every, from, all, bytes_max: _, others_bytes: _ } = self.faults;
        let here = at.filter(|(place, _)| *place == self.ios);
        let again = every.filter(|(step, _)| self.ios.is_multiple_of(*step));
        let after = from.filter(|(place, _)| *place <= self.ios);
        all.or(here.or(again).or(after).map(|(_, errno)| errno)).map_or(Ok(()), Err)
    }

    /// A full disk takes what makes no file longer.
    fn check_room(&self, io: &Io) -> Result<(), Errno> {
        let Some(bytes_max) = self.faults.bytes_max else { return Ok(()) };
        let others_bytes = self.faults.others_bytes;
        let (file, len) = match io {
            Io::Write { file, at, bytes } => (*file, at + bytes.len() as u64),
            Io::SetLen { file, len } => (*file, *len),
            Io::Make { kind: Kind::Dir, .. } => (0, PAGE_BYTES as u64),
            _ => return Ok(()),
        };
        let held = self.live.node(file).map_or(0, |node| node.content.len());
        let fits = len <= held || self.live.bytes() + others_bytes + (len - held) <= bytes_max;
        if fits { Ok(()) } else { Err(Errno::NOSPC) }
    }
}
