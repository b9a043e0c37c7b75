//! The directory of one attempt: the files it starts with, its standard input, and its end.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use magpie_core::lease::Fence;
use magpie_core::limits;
use magpie_core::payload::{BlobRef, Payload};
use magpie_core::task::FileRef;
use rustix::io::Errno;

use super::strays::kill_strays;
use crate::executor::{Attempt, AttemptError, BlobAccess, BlobError};

/// What an attempt fails with whose directory cannot be made ready.
const CODE: &str = "work_dir";
/// Where an input too large to stand in the standard input is put.
const INPUT_FILE: &str = "input.json";
/// Where outputs of needed steps are put, if they are.
const NEEDS_DIR: &str = "needs";

/// Makes the directory that holds one directory per running process, ends what still runs in it and removes what is
/// left: an earlier life of the node may have been killed together with its shims.
///
/// # Errors
/// The operating system's, with the path.
pub fn prepare_work_dir(work_dir: &Path) -> io::Result<PathBuf> {
    let with_path = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", work_dir.display()));
    DirBuilder::new().recursive(true).mode(0o700).create(work_dir).map_err(with_path)?;
    let work_dir = &fs::canonicalize(work_dir).map_err(with_path)?;
    if let Err(error) = kill_strays(work_dir) {
        tracing::error!(%error, "processes of an earlier life of this node may still run");
    }
    for entry in fs::read_dir(work_dir).map_err(with_path)? {
        remove_tree(&entry?.path()).map_err(with_path)?;
    }
    Ok(work_dir.clone())
}

/// The directory of one attempt; removed with all it holds at the latest when dropped.
#[derive(Debug)]
pub struct WorkDir {
    root: PathBuf,
}

impl WorkDir {
    pub async fn create(work_dir: &Path, fence: Fence) -> io::Result<Self> {
        let root = work_dir.join(format!("{}.{}", fence.task, fence.epoch));
        let mut builder = tokio::fs::DirBuilder::new();
        builder.mode(0o700).create(&root).await?;
        let made = Self { root };
        builder.create(made.files()).await?;
        Ok(made)
    }

    /// Where the command starts: empty but for the task's files and large values.
    pub fn files(&self) -> PathBuf {
        self.root.join("files")
    }

    /// The command's standard input: a file, so neither side ever waits for the other.
    pub fn stdin(&self) -> PathBuf {
        self.root.join("stdin.json")
    }

    /// Where the command tells how far it is.
    pub fn progress(&self) -> PathBuf {
        self.root.join("progress")
    }

    /// Puts everything in place that the command finds.
    pub async fn fill(&self, attempt: &Attempt, blobs: &dyn BlobAccess) -> Result<(), AttemptError> {
        let (spec, stage) = (&attempt.spec, Stage { files: self.files(), attempt, blobs });
        if spec.files.len() > limits::PROCESS_FILES_LEN_MAX {
            let message = format!("{} files are more than {}", spec.files.len(), limits::PROCESS_FILES_LEN_MAX);
            return Err(AttemptError::permanent("bad_file", message));
        }
        for file in &spec.files {
            stage.put_file(file).await?;
        }
        let mut stdin = r#"{"input":"#.to_owned();
        stdin += &stage.value(&spec.input, INPUT_FILE).await?;
        stdin += r#","needs":"#;
        stdin += &stage.needs(&spec.needs).await?;
        if let Some(checkpoint) = &attempt.checkpoint {
            stdin += r#","checkpoint":"#;
            stdin += checkpoint.as_str();
        }
        stdin.push('}');
        tokio::fs::write(self.stdin(), stdin).await.map_err(not_written)
    }

    /// Removes it without blocking the caller's thread.
    pub async fn remove(self) -> io::Result<()> {
        // The task cannot panic and is not aborted.
        tokio::task::spawn_blocking(move || remove_tree(&self.root)).await.unwrap_or(Ok(()))
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        // What cannot be removed now is removed at the node's next start.
        let _ = remove_tree(&self.root);
    }
}

/// What this machine is short of is no fault of the task, and no attempt of it.
pub fn not_prepared(what: &str, error: &io::Error) -> AttemptError {
    let shortages = [Errno::NOSPC, Errno::DQUOT, Errno::ROFS, Errno::IO, Errno::MFILE, Errno::NFILE];
    let message = format!("cannot {what}: {error}");
    match Errno::from_io_error(error) {
        Some(errno) if shortages.contains(&errno) => AttemptError::unstarted(CODE, message),
        _ => AttemptError::retryable(CODE, message),
    }
}

fn not_written(error: io::Error) -> AttemptError {
    not_prepared("prepare the work directory", &error)
}

/// A blob that comes from elsewhere and is not taken here is a matter of this machine's disk too.
fn not_fetched(error: BlobError) -> AttemptError {
    match error {
        BlobError::Io(error) => AttemptError::unstarted(CODE, format!("cannot keep a file of the task: {error}")),
        BlobError::Unavailable { .. } => error.into(),
    }
}

/// What is needed to put files into one attempt's directory.
struct Stage<'a> {
    files: PathBuf,
    attempt: &'a Attempt,
    blobs: &'a dyn BlobAccess,
}

impl Stage<'_> {
    async fn put_file(&self, file: &FileRef) -> Result<(), AttemptError> {
        let blob = BlobRef { cid: file.cid, bytes: file.bytes };
        self.put(&file.path, blob, if file.executable { 0o700 } else { 0o600 }).await
    }

    async fn put(&self, path: &str, blob: BlobRef, mode: u32) -> Result<(), AttemptError> {
        let relative = checked(path)?;
        let source = self.blobs.fetch(blob, self.attempt.fence.task.ledger).await.map_err(not_fetched)?;
        let target = self.files.join(relative);
        let copied = tokio::task::spawn_blocking(move || copy(&source, &target, mode)).await;
        match copied.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            Ok(()) => Ok(()),
            Err(error) if is_clash(&error) => Err(bad_file(path, "another file of this task stands there")),
            Err(error) => Err(not_written(error)),
        }
    }

    /// The value as JSON: itself, or where it stands as a file.
    async fn value(&self, value: &Payload, path: &str) -> Result<String, AttemptError> {
        match value {
            Payload::Inline(text) => Ok(text.as_str().to_owned()),
            Payload::Blob(blob) => {
                self.put(path, *blob, 0o600).await?;
                Ok(serde_json::json!({"file": path}).to_string())
            }
        }
    }

    async fn needs(&self, needs: &BTreeMap<String, Payload>) -> Result<String, AttemptError> {
        let mut object = String::from("{");
        for (step, output) in needs {
            let value = self.value(output, &format!("{NEEDS_DIR}/{step}.json")).await?;
            let comma = if object.len() > 1 { "," } else { "" };
            object += &format!("{comma}{}:{value}", serde_json::Value::from(step.as_str()));
        }
        object.push('}');
        Ok(object)
    }
}

fn bad_file(path: &str, why: &str) -> AttemptError {
    AttemptError::permanent("bad_file", format!("the file path {path:?} cannot be used: {why}"))
}

fn is_clash(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory)
}

/// A path that stays inside the directory it is joined to.
fn checked(path: &str) -> Result<&Path, AttemptError> {
    let plain = |part: &str| !part.is_empty() && part.len() < limits::NAME_BYTES_MAX && part != "." && part != "..";
    let relative = Path::new(path);
    let stays = relative.components().all(|component| matches!(component, Component::Normal(_)));
    if path.contains('\0') || !path.split('/').all(plain) || !stays {
        return Err(bad_file(path, "it must be relative, without an empty part, `.` or `..`"));
    }
    Ok(relative)
}

fn copy(source: &Path, target: &Path, mode: u32) -> io::Result<()> {
    if let Some(parent) = target.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    let mut from = File::open(source)?;
    let mut to = OpenOptions::new().write(true).create_new(true).mode(mode).open(target)?;
    io::copy(&mut from, &mut to)?;
    to.flush()
}

/// Removes a file or a directory, also one with directories that its owner made read-only.
fn remove_tree(path: &Path) -> io::Result<()> {
    let removed = match remove(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_directories(path)?;
            remove(path)
        }
        removed => removed,
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

fn open_directories(directory: &Path) -> io::Result<()> {
    fs::set_permissions(directory, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_directories(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_that_leave_the_directory_are_refused() {
        for path in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/", "a/.", "a\0b", ".."] {
            let error = checked(path).unwrap_err();
            assert!(!error.retryable && error.error.code == "bad_file", "{path:?}");
        }
        for path in ["a", "a/b.json", ".hidden", "a..b", "ä ö"] {
            assert_eq!(checked(path).unwrap(), Path::new(path));
        }
    }

    proptest! {
        #[test]
        fn a_checked_path_stays_below(path in "[a./\\\\~ ]{0,12}") {
            if let Ok(relative) = checked(&path) {
                let joined = Path::new("/work").join(relative);
                prop_assert!(joined.components().skip(2).all(|part| matches!(part, Component::Normal(_))));
                prop_assert!(joined.starts_with("/work"));
            }
        }
    }

    #[test]
    fn a_tree_with_read_only_directories_goes() {
        let base = tempfile::tempdir().unwrap();
        let root = base.path().join("x");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/file"), "").unwrap();
        for directory in ["a/b", "a"] {
            fs::set_permissions(root.join(directory), Permissions::from_mode(0o500)).unwrap();
        }
        remove_tree(&root).unwrap();
        assert!(!root.exists());
        remove_tree(&root).unwrap();
    }

    #[test]
    fn a_link_is_removed_and_not_followed() {
        let base = tempfile::tempdir().unwrap();
        let (kept, work) = (base.path().join("kept"), base.path().join("work"));
        fs::create_dir_all(work.join("stale")).unwrap();
        fs::write(&kept, "x").unwrap();
        for link in ["stale/link", "link"] {
            std::os::unix::fs::symlink(&kept, work.join(link)).unwrap();
        }
        prepare_work_dir(&work).unwrap();
        assert_eq!(fs::read_dir(&work).unwrap().count(), 0);
        assert!(kept.exists());
    }
}
