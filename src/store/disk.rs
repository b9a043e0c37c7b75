//! What a disk may refuse, in the words that a caller acts on.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

/// Why a write did not reach the disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiskFailure {
    #[error("the disk is full")]
    DiskFull,
    #[error("the disk is read-only")]
    ReadOnly,
    /// Not the disk: what this process may write has a limit.
    #[error("a file would be larger than this process may make one")]
    FileTooLarge,
    /// The bytes that were read back are not the bytes that were written.
    #[error("the file is damaged: {0}")]
    Damaged(String),
    #[error("{0}")]
    Io(String),
}

impl DiskFailure {
    /// What a person does about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::DiskFull => "free some space on its volume",
            Self::ReadOnly => "make its file system writable again",
            Self::FileTooLarge => "raise the node's limit on the size of files (ulimit -f, LimitFSIZE)",
            Self::Damaged(_) => "stop the node and restore the file from a backup",
            Self::Io(_) => "see what the system says of it (dmesg)",
        }
    }
}

impl From<io::Error> for DiskFailure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            io::ErrorKind::FileTooLarge => Self::FileTooLarge,
            _ => Self::Io(error.to_string()),
        }
    }
}

/// The size of the volume that `dir` is on.
///
/// # Errors
/// If the directory cannot be read.
pub fn volume_bytes(dir: &Path) -> io::Result<u64> {
    let volume = rustix::fs::statvfs(dir)?;
    Ok(volume.f_blocks.saturating_mul(volume.f_frsize))
}

/// Whether the volume of `dir` takes files and has `bytes_min` free. A thorough look writes a small file.
///
/// # Errors
/// What is the matter.
pub fn check_room(dir: &Path, bytes_min: u64, thorough: bool) -> Result<(), DiskFailure> {
    let volume = rustix::fs::statvfs(dir).map_err(io::Error::from)?;
    if volume.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        return Err(DiskFailure::ReadOnly);
    }
    if volume.f_bavail.saturating_mul(volume.f_frsize) < bytes_min {
        return Err(DiskFailure::DiskFull);
    }
    if thorough { write_probe(&dir.join("probe")).map_err(DiskFailure::from) } else { Ok(()) }
}

/// Finds out what is the matter where a database says no more than that an I/O failed: whether its write-ahead log `wal` or
/// itself is as large as a file may be, or its directory does not take a small file, and why not.
pub(super) fn diagnose(wal: &Path, failure: DiskFailure) -> DiskFailure {
    match failure {
        DiskFailure::Io(_) if is_near_limit(wal) || is_near_limit(&wal.with_extension("db")) => {
            DiskFailure::FileTooLarge
        }
        DiskFailure::Io(_) => write_probe(&wal.with_file_name("probe")).map_or_else(DiskFailure::from, |()| failure),
        DiskFailure::DiskFull | DiskFailure::ReadOnly | DiskFailure::FileTooLarge | DiskFailure::Damaged(_) => failure,
    }
}

/// More than a database writes at once.
const WRITE_BYTES_MAX: u64 = 64 * 1024;

fn is_near_limit(file: &Path) -> bool {
    let len = file.metadata().map_or(0, |metadata| metadata.len());
    getrlimit(Resource::Fsize).current.is_some_and(|bytes_max| len.saturating_add(WRITE_BYTES_MAX) > bytes_max)
}

fn write_probe(probe: &Path) -> io::Result<()> {
    let written = File::create(probe).and_then(|mut file| {
        file.write_all(&[0; 512])?;
        file.sync_all()
    });
    let removed = std::fs::remove_file(probe);
    written.and(removed)
}

/// Makes the names in `dir` survive a power loss: a rename is on disk only once its directory is.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Creates `dir` and what is missing above it, for the owner only, so that all of it survives a power loss.
pub(super) fn create_dir(dir: &Path) -> io::Result<()> {
    let made: Vec<_> = dir.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    if made.is_empty() {
        return sync_name(dir).or_else(|error| match error.kind() {
            // Who may not even look at the names there did not make this one.
            io::ErrorKind::PermissionDenied => Ok(()),
            _ => Err(error),
        });
    }
    // Left here, they would look at the next try as if they lasted.
    let undo = |_: &io::Error| made.iter().for_each(|made| drop(std::fs::remove_dir(made)));
    made.iter().try_for_each(|made| sync_name(made)).inspect_err(undo)
}

/// Makes the name of `path` survive a power loss. Whoever gave it one may have been killed, or refused, before this.
fn sync_name(path: &Path) -> io::Result<()> {
    match path.parent() {
        // The parent of a relative path's first name is the empty path.
        Some(parent) => sync_dir(if parent.as_os_str().is_empty() { Path::new(".") } else { parent }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_with_all_above_it_and_stays() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b/c");
        for _ in 0..2 {
            create_dir(&dir).unwrap();
            assert!(dir.is_dir());
        }
        std::fs::write(dir.join("file"), "x").unwrap();
        assert_eq!(create_dir(&dir.join("file")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn an_io_failure_gets_the_name_that_the_system_gives_it() {
        let root = tempfile::tempdir().unwrap();
        let bare = DiskFailure::Io("disk I/O error".to_owned());
        assert_eq!(diagnose(&root.path().join("ledger.db-wal"), bare.clone()), bare, "a small file was taken");
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
        let named = diagnose(&root.path().join("absent/ledger.db-wal"), bare.clone());
        assert!(matches!(&named, DiskFailure::Io(words) if words.contains("No such file")), "{named}");
        assert_eq!(diagnose(root.path(), DiskFailure::DiskFull), DiskFailure::DiskFull);
    }

    #[test]
    fn a_volume_has_a_size() {
        let dir = tempfile::tempdir().unwrap();
        assert!(volume_bytes(dir.path()).unwrap() > 1 << 20);
        assert!(volume_bytes(&dir.path().join("none")).is_err());
    }

    #[test]
    fn a_disk_has_room_or_says_what_is_the_matter() {
        let dir = tempfile::tempdir().unwrap();
        for thorough in [false, true] {
            assert_eq!(check_room(dir.path(), 1, thorough), Ok(()));
            assert_eq!(check_room(dir.path(), u64::MAX, thorough), Err(DiskFailure::DiskFull));
            assert!(matches!(check_room(&dir.path().join("none"), 1, thorough), Err(DiskFailure::Io(_))));
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_full_and_a_read_only_disk_are_told_apart() {
        let failure = |kind: io::ErrorKind| DiskFailure::from(io::Error::from(kind));
        assert_eq!(failure(io::ErrorKind::StorageFull), DiskFailure::DiskFull);
        assert_eq!(failure(io::ErrorKind::QuotaExceeded), DiskFailure::DiskFull);
        assert_eq!(failure(io::ErrorKind::ReadOnlyFilesystem), DiskFailure::ReadOnly);
        assert_eq!(failure(io::ErrorKind::FileTooLarge), DiskFailure::FileTooLarge);
        assert!(matches!(failure(io::ErrorKind::TimedOut), DiskFailure::Io(_)));
    }
}
