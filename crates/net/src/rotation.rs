//! A cluster key that replaces another. Until the overlap is over both admit, so that nodes can be told one after another;
//! then the former one opens nothing.

use std::path::Path;

use data_encoding::HEXLOWER_PERMISSIVE;
use magpie_core::access::ClusterId;
use magpie_core::limits;
use magpie_core::time::Wall;

use crate::key::{self, ClusterKey};
use crate::secret_file::{self, SecretFileError};

const HEAD: &str = "magpie-rotation-1";
const EXPECTED: &str = "key rotation (magpie-rotation-1, key, former, until, replaced)";
/// Lines of a few dozen bytes each.
const FILE_BYTES_MAX: u64 = 8 * 1_024;

/// The newest change of a node's cluster key.
#[derive(Debug, Clone)]
pub struct KeyRotation {
    pub key: ClusterKey,
    former: ClusterKey,
    /// When the former key ends.
    pub until: Wall,
    /// Clusters of all keys that were replaced, the newest last: a configuration may name any of them still.
    replaced: Vec<ClusterId>,
}

/// A key that does not take the place of the one that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RotateKeyError {
    #[error("it is the key that this node holds already")]
    Held,
    #[error("it is a key that was replaced here: whoever knows it would come in again")]
    Replaced,
}

impl KeyRotation {
    /// `key` in the place of `held`, which admits until `until`. The key that the last rotation brought keeps its former one,
    /// and changes when that ends.
    ///
    /// # Errors
    /// If `key` is held for long, or was replaced.
    pub fn next(last: Option<&Self>, held: &ClusterKey, key: ClusterKey, until: Wall) -> Result<Self, RotateKeyError> {
        let cluster = key.issuing_key().cluster();
        if held.issuing_key().cluster() == cluster {
            let last = last.filter(|last| last.key.issuing_key().cluster() == cluster).ok_or(RotateKeyError::Held)?;
            return Ok(Self { until, ..last.clone() });
        }
        let mut replaced = last.map(|last| last.replaced.clone()).unwrap_or_default();
        if replaced.contains(&cluster) {
            return Err(RotateKeyError::Replaced);
        }
        replaced.push(held.issuing_key().cluster());
        let surplus = replaced.len().saturating_sub(limits::KEYS_REPLACED_MAX);
        replaced.drain(..surplus);
        Ok(Self { key, former: held.clone(), until, replaced })
    }

    /// Whether it is about the key that a configuration names, as the newest or as one that was replaced.
    pub fn is_of(&self, named: &ClusterKey) -> bool {
        let named = named.issuing_key().cluster();
        named == self.key.issuing_key().cluster() || self.replaced.contains(&named)
    }

    /// The former key, as long as it admits.
    pub fn former(&self, now: Wall) -> Option<&ClusterKey> {
        Some(&self.former).filter(|_| now < self.until)
    }

    pub fn replaced(&self) -> &[ClusterId] {
        &self.replaced
    }

    /// What `path` says, if it is there.
    ///
    /// # Errors
    /// If others may read it, or it holds something else.
    pub fn load(path: &Path) -> Result<Option<Self>, SecretFileError> {
        let is_one = |text: &str| parse(text).is_some();
        let Some(text) = secret_file::read_long(path, EXPECTED, FILE_BYTES_MAX, is_one)? else { return Ok(None) };
        let malformed = || SecretFileError::Malformed { path: path.to_owned(), expected: EXPECTED };
        parse(&text).map(Some).ok_or_else(malformed)
    }

    /// Replaces what `path` says in one step, durable on return.
    ///
    /// # Errors
    /// If the file system refuses: then it is as it was.
    pub fn save(&self, path: &Path) -> Result<(), SecretFileError> {
        let secret = |key: &ClusterKey| HEXLOWER_PERMISSIVE.encode(key.as_bytes());
        let replaced: String = self.replaced.iter().map(|cluster| format!("replaced {cluster}\n")).collect();
        let (key, former, until) = (secret(&self.key), secret(&self.former), self.until.0);
        secret_file::replace(path, &format!("{HEAD}\nkey {key}\nformer {former}\nuntil {until}\n{replaced}"))
    }
}

fn parse(text: &str) -> Option<KeyRotation> {
    let mut lines = text.lines();
    lines.next().filter(|head| *head == HEAD)?;
    let mut line = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned);
    let key = ClusterKey::from_bytes(key::parse_seed(&line("key")?)?);
    let former = ClusterKey::from_bytes(key::parse_seed(&line("former")?)?);
    let until = Wall(line("until")?.parse().ok()?);
    let replaced: Option<Vec<ClusterId>> = lines.map(|line| line.strip_prefix("replaced ")?.parse().ok()).collect();
    Some(KeyRotation { key, former, until, replaced: replaced? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> ClusterKey {
        ClusterKey::from_bytes([n; 32])
    }

    fn cluster(n: u8) -> ClusterId {
        key(n).issuing_key().cluster()
    }

    #[test]
    fn a_rotation_is_kept_and_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cluster.rotation");
        assert!(KeyRotation::load(&path).unwrap().is_none());
        let first = KeyRotation::next(None, &key(1), key(2), Wall(500)).unwrap();
        let second = KeyRotation::next(Some(&first), &key(2), key(3), Wall(900)).unwrap();
        second.save(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let kept = KeyRotation::load(&path).unwrap().unwrap();
        assert_eq!((kept.key.issuing_key().cluster(), kept.until), (cluster(3), Wall(900)));
        assert_eq!(kept.former(Wall(899)).map(|key| key.issuing_key().cluster()), Some(cluster(2)));
        assert!(kept.former(Wall(900)).is_none());
        assert!([1, 2, 3].into_iter().all(|n| kept.is_of(&key(n))) && !kept.is_of(&key(4)));
        for wrong in ["", "magpie-rotation-2\n", "magpie-rotation-1\nkey 12\n"] {
            secret_file::replace(&path, wrong).unwrap();
            assert!(KeyRotation::load(&path).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_key_that_is_held_or_was_replaced_takes_nobodys_place() {
        assert_eq!(KeyRotation::next(None, &key(1), key(1), Wall(5)).unwrap_err(), RotateKeyError::Held);
        let first = KeyRotation::next(None, &key(1), key(2), Wall(500)).unwrap();
        assert_eq!(KeyRotation::next(Some(&first), &key(2), key(1), Wall(5)).unwrap_err(), RotateKeyError::Replaced);
        let ended = KeyRotation::next(Some(&first), &key(2), key(2), Wall(0)).unwrap();
        assert!(ended.former(Wall(0)).is_none(), "the same key again ends the overlap");
        assert_eq!(ended.replaced(), [cluster(1)]);
    }
}
