//! What a disk may refuse, in the words that a caller acts on.

use std::io;
use std::path::Path;

/// Why a write did not reach the disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiskFailure {
    #[error("the disk is full")]
    DiskFull,
    #[error("the disk is read-only")]
    ReadOnly,
    /// The bytes that were read back are not the bytes that were written.
    #[error("the file is damaged: {0}")]
    Damaged(String),
    #[error("{0}")]
    Io(String),
}

impl From<io::Error> for DiskFailure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            _ => Self::Io(error.to_string()),
        }
    }
}

/// Makes the names in `dir` survive a power loss: a rename is on disk only once its directory is.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    std::fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_and_a_read_only_disk_are_told_apart() {
        let failure = |kind: io::ErrorKind| DiskFailure::from(io::Error::from(kind));
        assert_eq!(failure(io::ErrorKind::StorageFull), DiskFailure::DiskFull);
        assert_eq!(failure(io::ErrorKind::QuotaExceeded), DiskFailure::DiskFull);
        assert_eq!(failure(io::ErrorKind::ReadOnlyFilesystem), DiskFailure::ReadOnly);
        assert!(matches!(failure(io::ErrorKind::TimedOut), DiskFailure::Io(_)));
    }
}
