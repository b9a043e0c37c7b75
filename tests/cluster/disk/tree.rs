use std::collections::BTreeMap;
use std::sync::Arc;

use super::content::Content;

pub type Ino = u64;
pub const ROOT: Ino = 1;

/// What a disk is asked to change or to keep, one request each.
#[derive(Debug, Clone)]
pub enum Io {
    Write { file: Ino, at: u64, bytes: Arc<[u8]> },
    SetLen { file: Ino, len: u64 },
    Sync { file: Ino },
    Make { dir: Ino, name: String, node: Ino, kind: Kind, mode: u32 },
    Link { dir: Ino, name: String, node: Ino },
    Remove { dir: Ino, name: String },
    Rename { from: (Ino, String), to: (Ino, String), node: Ino },
    SyncDir { dir: Ino },
}

impl Io {
    /// Directories whose names it changes.
    pub fn dirs(&self) -> Vec<Ino> {
        match self {
            Self::Write { .. } | Self::SetLen { .. } | Self::Sync { .. } | Self::SyncDir { .. } => Vec::new(),
            Self::Make { dir, .. } | Self::Link { dir, .. } | Self::Remove { dir, .. } => vec![*dir],
            Self::Rename { from, to, .. } => vec![from.0, to.0],
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Dir,
    Socket,
    Fifo,
}

#[derive(Debug, Clone)]
pub struct Node {
    pub kind: Kind,
    pub mode: u32,
    /// Of a file.
    pub content: Content,
    /// Of a directory.
    pub names: BTreeMap<String, Ino>,
}

impl Node {
    pub fn new(kind: Kind, mode: u32) -> Self {
        Self { kind, mode, content: Content::default(), names: BTreeMap::new() }
    }
}

/// A file system at one moment. What has lost its last name stays: somebody may have it open.
#[derive(Debug, Clone)]
pub struct Tree {
    nodes: BTreeMap<Ino, Node>,
}

impl Default for Tree {
    fn default() -> Self {
        Self { nodes: BTreeMap::from([(ROOT, Node::new(Kind::Dir, 0o700))]) }
    }
}

impl Tree {
    pub fn node(&self, ino: Ino) -> Option<&Node> {
        self.nodes.get(&ino)
    }

    pub fn node_mut(&mut self, ino: Ino) -> Option<&mut Node> {
        self.nodes.get_mut(&ino)
    }

    pub fn lookup(&self, dir: Ino, name: &str) -> Option<Ino> {
        self.node(dir)?.names.get(name).copied()
    }

    /// What is at a path from the root on.
    pub fn find(&self, path: &str) -> Option<&Node> {
        let ino = path.split('/').try_fold(ROOT, |dir, name| self.lookup(dir, name))?;
        self.node(ino)
    }

    pub fn insert(&mut self, ino: Ino, node: Node) {
        self.nodes.insert(ino, node);
    }

    /// The length of all files that have a name.
    pub fn bytes(&self) -> u64 {
        let mut named: Vec<Ino> = self.nodes.values().flat_map(|node| node.names.values().copied()).collect();
        named.sort_unstable();
        named.dedup();
        named.into_iter().filter_map(|ino| self.node(ino)).map(|node| node.content.len()).sum()
    }

    pub fn apply(&mut self, io: &Io) {
        match io {
            Io::Write { file, at, bytes } => {
                if let Some(node) = self.node_mut(*file) {
                    node.content.write(*at, bytes);
                }
            }
            Io::SetLen { file, len } => {
                if let Some(node) = self.node_mut(*file) {
                    node.content.set_len(*len);
                }
            }
            Io::Sync { .. } | Io::SyncDir { .. } => {}
            Io::Make { dir, name, node, kind, mode } => {
                self.nodes.entry(*node).or_insert_with(|| Node::new(*kind, *mode));
                self.name(*dir, name, *node);
            }
            Io::Link { dir, name, node } => self.name(*dir, name, *node),
            Io::Remove { dir, name } => drop(self.unname(*dir, name)),
            Io::Rename { from, to, node } => {
                // The new name is kept whether or not the old one ever was.
                self.unname(from.0, &from.1);
                self.name(to.0, &to.1, *node);
            }
        }
    }

    fn name(&mut self, dir: Ino, name: &str, node: Ino) {
        if let Some(dir) = self.node_mut(dir) {
            dir.names.insert(name.to_owned(), node);
        }
    }

    fn unname(&mut self, dir: Ino, name: &str) -> Option<Ino> {
        self.node_mut(dir)?.names.remove(name)
    }
}
