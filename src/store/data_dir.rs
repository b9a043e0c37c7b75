//! The directory that one node owns while it runs.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use magpie_core::ids::LedgerTag;

use super::{disk, reserve};

/// A data directory did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenDataDirError {
    #[error("{} belongs to the running node with process id {pid}", dir.display())]
    InUse { dir: PathBuf, pid: u32 },
    /// The holder took the lock this very moment and has not written its process id yet.
    #[error("{} belongs to another running node", dir.display())]
    InUseByUnknown { dir: PathBuf },
    #[error("{} is not a directory", dir.display())]
    NotADirectory { dir: PathBuf },
    #[error("no permission to write in {}", dir.display())]
    PermissionDenied { dir: PathBuf },
    #[error("{} is on a read-only file system", dir.display())]
    ReadOnly { dir: PathBuf },
    #[error("the disk that holds {} is full", dir.display())]
    DiskFull { dir: PathBuf },
    #[error("cannot use {}: {source}", dir.display())]
    Io { dir: PathBuf, source: io::Error },
}

impl OpenDataDirError {
    fn of(dir: &Path, source: io::Error) -> Self {
        let dir = dir.to_path_buf();
        match source.kind() {
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => Self::NotADirectory { dir },
            io::ErrorKind::PermissionDenied => Self::PermissionDenied { dir },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { dir },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { dir },
            _ => Self::Io { dir, source },
        }
    }

    /// The sentence of the error, and what a person can do who names the directory by `option`.
    pub fn advise(&self, option: &str) -> String {
        let first = match self {
            Self::InUse { .. } | Self::InUseByUnknown { .. } => "end it, or ",
            Self::PermissionDenied { .. } => "become its owner, or ",
            Self::ReadOnly { .. } => "have it mounted to be written to, or ",
            Self::DiskFull { .. } => "make room, or ",
            Self::NotADirectory { .. } | Self::Io { .. } => "",
        };
        format!("{self}; {first}choose another {option}")
    }
}

/// A node's directory, locked against every other process while any clone of this value lives.
#[derive(Debug, Clone)]
pub struct DataDir {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    ledger_claimed: AtomicBool,
    /// The kernel drops the lock with the descriptor, however the process ends.
    _lock: File,
}

/// How long a node waits for the lock of one that was killed and is not quite gone.
const ENDING_MAX: Duration = Duration::from_secs(5);
const ENDING_POLL: Duration = Duration::from_millis(10);

impl DataDir {
    /// Opens `path`, creating it with mode 0700 where it is missing, and locks it.
    ///
    /// # Errors
    /// One sentence that names the directory: held by another node (with its process id), not a directory, no
    /// permission, read-only, disk full.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenDataDirError> {
        let path = path.as_ref();
        let failed = |source| OpenDataDirError::of(path, source);
        disk::create_dir(path).map_err(failed)?;
        let path = path.canonicalize().map_err(failed)?;
        let lock = lock(&path)?;
        Ok(Self { inner: Arc::new(Inner { path, ledger_claimed: AtomicBool::new(false), _lock: lock }) })
    }

    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The log of the home's ledger.
    pub fn ledger_db(&self) -> PathBuf {
        self.path().join("ledger.db")
    }

    /// A ledger that was taken in and is not served yet.
    pub fn incoming_ledger(&self) -> PathBuf {
        self.path().join("ledger.incoming")
    }

    /// A ledger that was handed over, kept where another took its place.
    pub fn sealed_ledger(&self, tag: LedgerTag) -> PathBuf {
        self.path().join(format!("ledger-{tag}.sealed"))
    }

    /// Content-addressed files.
    pub fn blobs(&self) -> PathBuf {
        self.path().join("blobs")
    }

    /// Which blobs each namespace has.
    pub fn namespaces(&self) -> PathBuf {
        self.path().join("namespaces")
    }

    /// Outcomes that wait for a home.
    pub fn spool(&self) -> PathBuf {
        self.path().join("spool")
    }

    /// The node's private key, mode 0600.
    pub fn identity_key(&self) -> PathBuf {
        self.path().join("identity.key")
    }

    /// The key that admits a peer to the mesh, mode 0600.
    pub fn cluster_key(&self) -> PathBuf {
        self.path().join("cluster.key")
    }

    /// The newest change of the cluster key, mode 0600.
    pub fn key_rotation(&self) -> PathBuf {
        self.path().join("cluster.rotation")
    }

    /// Tickets and peers that were revoked.
    pub fn revocations(&self) -> PathBuf {
        self.path().join("revocations.json")
    }

    /// The socket of `nodectl` and `node-mcp`.
    pub fn control_sock(&self) -> PathBuf {
        self.path().join("control.sock")
    }

    /// Peers to dial after a restart.
    pub fn peers_json(&self) -> PathBuf {
        self.path().join("peers.json")
    }

    /// What a person decided about single peers, mode 0600.
    pub fn peer_rules(&self) -> PathBuf {
        self.path().join("peer.rules")
    }

    /// Calls of tools.
    pub fn audit(&self) -> PathBuf {
        self.path().join("audit")
    }

    /// Working directories of `process` tasks.
    pub fn work(&self) -> PathBuf {
        self.path().join("work")
    }

    /// The right to be the one ledger of this directory: a restarted ledger waits here for the writer of the last.
    pub(super) fn claim_ledger(&self) -> Option<LedgerClaim> {
        let claimed = self.inner.ledger_claimed.swap(true, Ordering::AcqRel);
        (!claimed).then(|| LedgerClaim { dir: self.clone() })
    }
}

/// Given back when it is dropped.
#[derive(Debug)]
pub(super) struct LedgerClaim {
    dir: DataDir,
}

impl Drop for LedgerClaim {
    fn drop(&mut self) {
        self.dir.inner.ledger_claimed.store(false, Ordering::Release);
    }
}

fn lock(dir: &Path) -> Result<File, OpenDataDirError> {
    let failed = |source| OpenDataDirError::of(dir, source);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(dir.join("lock")).map_err(failed)?;
    let deadline = Instant::now() + ENDING_MAX;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) => {
                let held = held_by(dir, &mut file);
                let ending = matches!(held, OpenDataDirError::InUse { pid, .. } if is_ending(pid));
                if !ending || Instant::now() >= deadline {
                    return Err(held);
                }
                std::thread::sleep(ENDING_POLL);
            }
        }
    }
    reserve::make_room_to_start(dir).map_err(failed)?;
    file.set_len(0).map_err(failed)?;
    file.rewind().map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}

/// Whether a process is gone but for what the kernel has yet to tear down: a killed node holds its lock until its last
/// thread has ended, which is after it has become a zombie.
fn is_ending(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    let state = stat.rsplit(") ").next().and_then(|fields| fields.chars().next());
    matches!(state, Some('Z' | 'X'))
}

fn held_by(dir: &Path, file: &mut File) -> OpenDataDirError {
    let dir = dir.to_path_buf();
    let mut text = String::new();
    if file.rewind().is_err() {
        return OpenDataDirError::InUseByUnknown { dir };
    }
    let pid = file.take(16).read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
    match pid {
        Some(pid) => OpenDataDirError::InUse { dir, pid },
        None => OpenDataDirError::InUseByUnknown { dir },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_new_directory_is_for_its_owner_only() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open(root.path().join("a/b")).unwrap();
        assert_eq!(dir.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(dir.path().join("lock").metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn only_a_process_that_is_over_is_ending() {
        assert!(!is_ending(std::process::id()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let deadline = Instant::now() + ENDING_MAX;
        while !is_ending(child.id()) {
            assert!(Instant::now() < deadline, "a process that has ended is not seen as ending");
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(is_ending(child.id()), "nothing of it is left");
    }

    #[test]
    fn a_second_node_is_refused_with_the_directory_and_the_holder() {
        let root = tempfile::tempdir().unwrap();
        let first = DataDir::open(root.path()).unwrap();
        let refused = DataDir::open(root.path()).unwrap_err().to_string();
        let expected =
            format!("{} belongs to the running node with process id {}", first.path().display(), std::process::id());
        assert_eq!(refused, expected);
        let clone = first.clone();
        drop(first);
        assert!(DataDir::open(root.path()).is_err(), "a clone keeps the lock");
        drop(clone);
        DataDir::open(root.path()).unwrap();
    }

    #[test]
    fn a_lock_that_names_nobody_still_refuses() {
        let root = tempfile::tempdir().unwrap();
        let _first = DataDir::open(root.path()).unwrap();
        std::fs::write(root.path().join("lock"), "").unwrap();
        assert!(matches!(DataDir::open(root.path()), Err(OpenDataDirError::InUseByUnknown { .. })));
    }

    #[test]
    fn a_file_in_place_of_the_directory_is_named() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("data");
        std::fs::write(&file, "x").unwrap();
        for path in [file.clone(), file.join("below")] {
            let refused = DataDir::open(&path).unwrap_err().to_string();
            assert_eq!(refused, format!("{} is not a directory", path.display()));
        }
    }

    #[test]
    fn each_fault_of_the_file_system_is_one_sentence() {
        for (kind, sentence) in [
            (io::ErrorKind::PermissionDenied, "no permission to write in /data; become its owner, or "),
            (
                io::ErrorKind::ReadOnlyFilesystem,
                "/data is on a read-only file system; have it mounted to be written to, or ",
            ),
            (io::ErrorKind::StorageFull, "the disk that holds /data is full; make room, or "),
            (io::ErrorKind::Interrupted, "cannot use /data: operation interrupted; "),
        ] {
            let error = OpenDataDirError::of(Path::new("/data"), kind.into());
            assert_eq!(error.advise("--data-dir"), format!("{sentence}choose another --data-dir"));
        }
    }

    #[test]
    fn the_ledger_is_claimed_once_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open(root.path()).unwrap();
        let claim = dir.claim_ledger().unwrap();
        assert!(dir.claim_ledger().is_none());
        drop(claim);
        assert!(dir.claim_ledger().is_some());
    }
}
