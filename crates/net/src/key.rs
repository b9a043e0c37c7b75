//! The two secrets of a node: its own identity, and what it shares with its cluster.

use std::fmt;
use std::path::Path;

use data_encoding::{BASE32_NOPAD, HEXLOWER_PERMISSIVE};
use ed25519_dalek::SigningKey;
use hmac::{Hmac, KeyInit, Mac};
use magpie_core::access::IssuingKey;
use magpie_core::ids::{ContentId, PeerId};
use sha2::Sha256;

use crate::secret_file::{self, SecretFileError};

/// What stands before the seed in a node key file, so that no other secret is taken for one.
const NODE_KEY_LABEL: &str = "magpie-node-1";

/// A node key file that could not be loaded or created.
pub type NodeKeyError = SecretFileError;
/// A cluster key file that could not be loaded or created.
pub type ClusterKeyError = SecretFileError;

/// The ed25519 key that a node is: its [`PeerId`] is the public half.
#[derive(Clone)]
pub struct NodeKey(SigningKey);

impl NodeKey {
    /// Makes a key from the system's randomness.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub fn generate() -> Result<Self, NodeKeyError> {
        secret_file::random_seed().map(Self::from_seed)
    }

    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// Loads the key at `path`, or creates one there with mode 0600, durable on return.
    ///
    /// # Errors
    /// If others may read the file, if it holds something else, or if the file system refuses.
    pub fn load_or_create(path: &Path) -> Result<Self, NodeKeyError> {
        if let Some(key) = Self::load(path)? {
            return Ok(key);
        }
        let key = Self::generate()?;
        let seed = key.0.as_bytes();
        let text = format!("{NODE_KEY_LABEL} {} {}\n", HEXLOWER_PERMISSIVE.encode(seed), seed_digest(seed));
        if secret_file::create(path, &text)? {
            return Ok(key);
        }
        Self::load(path)?.ok_or_else(|| malformed(path, NODE_KEY))
    }

    /// Loads the key at `path`, if there is one.
    ///
    /// # Errors
    /// As [`NodeKey::load_or_create`].
    pub fn load(path: &Path) -> Result<Option<Self>, NodeKeyError> {
        let seed = |text: &str| text.strip_prefix(NODE_KEY_LABEL).and_then(parse_seed);
        let read = secret_file::read(path, NODE_KEY, |text| seed(text).is_some())?;
        let Some(text) = read else { return Ok(None) };
        seed(&text).map(|seed| Some(Self::from_seed(seed))).ok_or_else(|| malformed(path, NODE_KEY))
    }

    pub fn peer_id(&self) -> PeerId {
        PeerId(self.0.verifying_key().to_bytes())
    }

    /// The key itself, to sign heads and announcements with.
    pub fn signing_key(&self) -> SigningKey {
        self.0.clone()
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "NodeKey({})", self.peer_id())
    }
}

/// 32 secret bytes that every node of a cluster holds: who proves to know them is admitted.
#[derive(Clone)]
pub struct ClusterKey {
    secret: [u8; 32],
    issuing: IssuingKey,
}

/// What the issuing key is derived with.
const ISSUING_LABEL: &[u8] = b"magpie-issuing-1";

impl ClusterKey {
    /// Makes a key from the system's randomness.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub fn generate() -> Result<Self, ClusterKeyError> {
        secret_file::random_seed().map(Self::from_bytes)
    }

    pub fn from_bytes(secret: [u8; 32]) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret).expect("HMAC takes a key of any length");
        mac.update(ISSUING_LABEL);
        Self { secret, issuing: IssuingKey::from_seed(mac.finalize().into_bytes().into()) }
    }

    /// Loads the key at `path`: 64 hexadecimal or 52 base32 digits, and its digest if it was made by a node.
    ///
    /// # Errors
    /// If there is no such file, if others may read it, or if it holds something else.
    pub fn load(path: &Path) -> Result<Self, ClusterKeyError> {
        let read = secret_file::read(path, CLUSTER_KEY, |text| parse_seed(text).is_some())?;
        let text = read.ok_or_else(|| SecretFileError::Io {
            path: path.to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        })?;
        parse_seed(&text).map(Self::from_bytes).ok_or_else(|| malformed(path, CLUSTER_KEY))
    }

    /// Loads the key at `path`, or creates one there with mode 0600, durable on return.
    ///
    /// # Errors
    /// If others may read the file, if it holds something else, or if the file system refuses.
    pub fn load_or_create(path: &Path) -> Result<Self, ClusterKeyError> {
        if !path.exists() {
            let key = Self::generate()?.secret;
            let text = format!("{} {}\n", HEXLOWER_PERMISSIVE.encode(&key), seed_digest(&key));
            secret_file::create(path, &text)?;
        }
        Self::load(path)
    }

    /// Signs for the cluster: with it tickets are issued.
    pub fn issuing_key(&self) -> &IssuingKey {
        &self.issuing
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.secret
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ClusterKey(..)")
    }
}

const NODE_KEY: &str = "node key (magpie-node-1 and 64 hexadecimal digits)";
const CLUSTER_KEY: &str = "cluster key (64 hexadecimal or 52 base32 digits)";

fn malformed(path: &Path, expected: &'static str) -> SecretFileError {
    SecretFileError::Malformed { path: path.to_owned(), expected }
}

/// Of a changed seed the node would be another node, of a changed cluster key a stranger to its cluster, and nobody
/// would know why: the file says how to tell.
fn seed_digest(seed: &[u8; 32]) -> String {
    HEXLOWER_PERMISSIVE.encode(&ContentId::of(seed).0[..8])
}

/// A secret and, unless an earlier version or a person wrote it, its digest.
pub(crate) fn parse_seed(text: &str) -> Option<[u8; 32]> {
    let mut words = text.split(' ').filter(|word| !word.is_empty());
    let seed = parse_32_bytes(words.next()?)?;
    let is_whole = words.next().is_none_or(|digest| digest.eq_ignore_ascii_case(&seed_digest(&seed)));
    (is_whole && words.next().is_none()).then_some(seed)
}

fn parse_32_bytes(text: &str) -> Option<[u8; 32]> {
    let hex = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
    let bytes = hex.or_else(|| BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).ok())?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn write(path: &Path, text: &str, mode: u32) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_node_keeps_its_key_across_starts() {
        let folder = folder();
        let path = folder.path().join("node.key");
        let first = NodeKey::load_or_create(&path).unwrap();
        let again = NodeKey::load_or_create(&path).unwrap();
        assert_eq!(first.peer_id(), again.peer_id());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing but the key stays");
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_with_the_remedy() {
        let folder = folder();
        let path = folder.path().join("node.key");
        NodeKey::load_or_create(&path).unwrap();
        for mode in [0o640, 0o604, 0o666] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let words = NodeKey::load_or_create(&path).unwrap_err().to_string();
            assert!(words.contains("may be read by others") && words.contains("chmod 600"), "{words}");
        }
    }

    #[test]
    fn nobody_is_told_to_hide_a_file_that_is_no_key() {
        let folder = folder();
        let path = folder.path().join("passwd");
        write(&path, "root:x:0:0:root:/root:/bin/bash\n", 0o644);
        for words in [NodeKey::load(&path).unwrap_err().to_string(), ClusterKey::load(&path).unwrap_err().to_string()] {
            assert!(words.contains("holds no") && !words.contains("chmod"), "{words}");
        }
        let words = ClusterKey::load(folder.path()).unwrap_err().to_string();
        assert!(words.contains("it is a directory"), "{words}");
    }

    #[test]
    fn a_flipped_bit_in_a_node_key_is_refused_or_changes_nothing() {
        let folder = folder();
        let path = folder.path().join("node.key");
        let peer = NodeKey::load_or_create(&path).unwrap().peer_id();
        let whole = std::fs::read(&path).unwrap();
        let mut refused = 0;
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &flipped).unwrap();
            match NodeKey::load_or_create(&path) {
                Ok(key) => assert_eq!(key.peer_id(), peer, "bit {bit}"),
                Err(_) => refused += 1,
            }
            assert_eq!(std::fs::read(&path).unwrap(), flipped);
        }
        assert!(refused > whole.len() * 6, "{refused} refused");
    }

    #[test]
    fn a_flipped_bit_in_a_cluster_key_is_refused_or_changes_nothing() {
        let folder = folder();
        let path = folder.path().join("cluster.key");
        let key = ClusterKey::load_or_create(&path).unwrap().secret;
        let whole = std::fs::read(&path).unwrap();
        let mut refused = 0;
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &flipped).unwrap();
            match ClusterKey::load(&path) {
                Ok(loaded) => assert_eq!(loaded.secret, key, "bit {bit}"),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > whole.len() * 6, "{refused} refused");
    }

    #[test]
    fn the_first_of_two_starts_makes_the_key() {
        let folder = folder();
        let path = folder.path().join("node.key");
        let key = secret_file::create(&path, &format!("{NODE_KEY_LABEL} {}\n", "07".repeat(32)));
        assert!(key.unwrap());
        assert!(!secret_file::create(&path, "another").unwrap());
        assert_eq!(NodeKey::load_or_create(&path).unwrap().peer_id(), NodeKey::from_seed([7; 32]).peer_id());
    }

    #[test]
    fn a_file_that_holds_something_else_is_named_and_kept() {
        let folder = folder();
        let path = folder.path().join("key");
        for text in ["", "hello", "00", &"0".repeat(63), &"z".repeat(64), &"0".repeat(5_000)] {
            write(&path, text, 0o600);
            assert!(matches!(NodeKey::load_or_create(&path), Err(SecretFileError::Malformed { .. })));
            assert!(matches!(ClusterKey::load_or_create(&path), Err(SecretFileError::Malformed { .. })));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_cluster_key_is_read_as_hex_or_as_base32() {
        let folder = folder();
        let path = folder.path().join("cluster.key");
        let made = ClusterKey::load_or_create(&path).unwrap();
        assert_eq!(ClusterKey::load(&path).unwrap().secret, made.secret);
        write(&path, &BASE32_NOPAD.encode(&made.secret).to_ascii_lowercase(), 0o400);
        assert_eq!(ClusterKey::load(&path).unwrap().secret, made.secret);
        assert!(matches!(ClusterKey::load(&folder.path().join("absent")), Err(SecretFileError::Io { .. })));
    }

    #[test]
    fn debug_prints_nothing_secret() {
        let hex = "07".repeat(32);
        assert!(!format!("{:?} {:?}", NodeKey::from_seed([7; 32]), ClusterKey::from_bytes([7; 32])).contains(&hex));
        assert_eq!(format!("{:?}", ClusterKey::from_bytes([7; 32])), "ClusterKey(..)");
    }
}
