//! Files that hold a secret: readable by their owner only, created whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::regular_file;

/// The longest secret file that is read.
const FILE_BYTES_MAX: u64 = 1_024;

/// A secret file that could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    #[error("{path} may be read by others (mode {mode:03o}): chmod 600 {path}", path = .path.display())]
    ReadableByOthers { path: PathBuf, mode: u32 },
    #[error("{path} holds no {expected}", path = .path.display())]
    Malformed { path: PathBuf, expected: &'static str },
    #[error("{path}: {source}", path = .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the system gives no random bytes: {reason}")]
    NoEntropy { reason: String },
}

impl SecretFileError {
    fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

/// 32 bytes from the system.
pub(crate) fn random_seed() -> Result<[u8; 32], SecretFileError> {
    let mut seed = [0u8; 32];
    getrandom::fill(&mut seed).map_err(|error| SecretFileError::NoEntropy { reason: error.to_string() })?;
    Ok(seed)
}

/// As [`read_long`], of a file that holds a key.
pub(crate) fn read(
    path: &Path,
    expected: &'static str,
    is_one: impl FnOnce(&str) -> bool,
) -> Result<Option<String>, SecretFileError> {
    read_long(path, expected, FILE_BYTES_MAX, is_one)
}

/// The text of the file at `path`, or `None` if there is none. One of more than `bytes_max` is refused, since half of it
/// says something else. `is_one` says whether a text is what was expected: of another file nobody is told to change the
/// mode, since it may be one that others must read.
///
/// # Errors
/// If others may read it, it is no text or no regular file, or it cannot be read.
pub fn read_long(
    path: &Path,
    expected: &'static str,
    bytes_max: u64,
    is_one: impl FnOnce(&str) -> bool,
) -> Result<Option<String>, SecretFileError> {
    let file = match regular_file::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(SecretFileError::io(path, error)),
    };
    let others = other_readers(path, &file)?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|error| SecretFileError::io(path, error))?;
    let malformed = || SecretFileError::Malformed { path: path.to_owned(), expected };
    if bytes.len() as u64 > bytes_max {
        return Err(malformed());
    }
    let text = String::from_utf8(bytes).map_err(|_| malformed())?;
    let text = text.trim();
    match others {
        None => Ok(Some(text.to_owned())),
        Some(mode) if is_one(text) => Err(SecretFileError::ReadableByOthers { path: path.to_owned(), mode }),
        Some(_) => Err(malformed()),
    }
}

/// The mode of a file that others may read or write.
#[cfg(unix)]
fn other_readers(path: &Path, file: &File) -> Result<Option<u32>, SecretFileError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = file.metadata().map_err(|error| SecretFileError::io(path, error))?.permissions().mode() & 0o777;
    Ok((mode & 0o077 != 0).then_some(mode))
}

#[cfg(not(unix))]
fn other_readers(_: &Path, _: &File) -> Result<Option<u32>, SecretFileError> {
    Ok(None)
}

/// Creates `path` with `text`, durable on return; `false` if another process was first.
///
/// A hard link, unlike a rename, never replaces what is there: two first starts agree on one secret.
pub(crate) fn create(path: &Path, text: &str) -> Result<bool, SecretFileError> {
    let fresh = path.with_extension(format!("new-{}", std::process::id()));
    let outcome = write_whole(&fresh, text).and_then(|()| match fs::hard_link(&fresh, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        linked => linked.map(|()| true),
    });
    let removed = fs::remove_file(&fresh);
    let created = outcome.map_err(|error| SecretFileError::io(path, error))?;
    removed.and_then(|()| sync_folder(path)).map_err(|error| SecretFileError::io(path, error))?;
    Ok(created)
}

/// Replaces `path` by a file with `text`, durable on return.
///
/// # Errors
/// If the disk does not take it: then the file is as it was.
pub fn replace(path: &Path, text: &str) -> Result<(), SecretFileError> {
    let fresh = path.with_extension("new");
    let replaced = write_whole(&fresh, text).and_then(|()| fs::rename(&fresh, path)).and_then(|()| sync_folder(path));
    replaced.map_err(|error| SecretFileError::io(path, error))
}

fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
