//! Which blobs each namespace has: those that it put, and those that its tasks were given or gave.
//!
//! An empty file stands for each, in the namespace's folder under the blob's name. Every call blocks. What was given
//! survives a power loss.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use magpie_core::ids::ContentId;

use super::disk;

/// A clone is the same.
#[derive(Debug, Clone)]
pub struct NamespaceBlobs {
    dir: Arc<PathBuf>,
}

impl NamespaceBlobs {
    /// Nothing is made before something is given.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir: Arc::new(dir) }
    }

    /// # Errors
    /// The disk's refusal.
    pub fn has(&self, namespace: &str, cid: ContentId) -> io::Result<bool> {
        self.file(namespace, cid).try_exists()
    }

    /// # Errors
    /// The disk's refusal.
    pub fn give(&self, namespace: &str, cid: ContentId) -> io::Result<()> {
        let file = self.file(namespace, cid);
        if file.try_exists()? {
            return Ok(());
        }
        let folder = file.parent().unwrap_or(&self.dir);
        for made in [Some(self.dir.as_path()), folder.parent(), Some(folder)].into_iter().flatten() {
            disk::create_dir(made)?;
        }
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        disk::sync_dir(folder)
    }

    /// The name of a namespace has no character that means something to a path.
    fn file(&self, namespace: &str, cid: ContentId) -> PathBuf {
        let name = HEXLOWER.encode(&cid.0);
        let (first, rest) = name.split_at(2);
        self.dir.join(namespace).join(first).join(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_had_by_who_was_given_it_also_by_the_next_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("namespaces");
        let blobs = NamespaceBlobs::new(path.clone());
        let (one, two) = (ContentId::of(b"one"), ContentId::of(b"two"));
        assert!(!blobs.has("a", one).unwrap() && !path.exists(), "a question makes nothing");
        blobs.give("a", one).unwrap();
        blobs.give("a", one).unwrap();
        blobs.give("b", two).unwrap();
        let again = NamespaceBlobs::new(path);
        let had = [("a", one), ("a", two), ("b", one), ("b", two)].map(|(namespace, cid)| again.has(namespace, cid));
        assert_eq!(had.map(Result::unwrap), [true, false, false, true]);
    }

    #[test]
    fn a_disk_that_refuses_gives_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "in the way").unwrap();
        assert!(NamespaceBlobs::new(path).give("a", ContentId::of(b"one")).is_err());
    }
}
