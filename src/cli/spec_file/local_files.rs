//! The files that a task takes along, found in the directory of its document.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use magpie_core::{dag, limits};

/// A file on this machine that a task needs in its directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalFile {
    /// Relative, with `/`, without `..`.
    pub path_in_task: String,
    pub absolute: PathBuf,
    pub executable: bool,
    /// When it was looked at; what is uploaded counts.
    pub bytes: u64,
}

/// An entry that names no usable file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FindError {
    pub problem: String,
    pub fix: String,
}

impl FindError {
    fn new(problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { problem: problem.into(), fix: fix.into() }
    }

    fn io(path: &str, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => {
                Self::new(format!("there is no file {path:?}"), "write a path relative to this file's directory")
            }
            _ => Self::new(format!("{path:?} cannot be read: {error}"), "correct its permissions, or leave it out"),
        }
    }
}

/// The file, or all files of the directory, that `entry` names below `directory`, sorted by path.
pub(super) fn find(directory: &Path, entry: &str) -> Result<Vec<LocalFile>, FindError> {
    let path = entry.trim_end_matches('/');
    let path = path.strip_prefix("./").unwrap_or(path);
    let mut search = Search { found: Vec::new(), bytes: 0 };
    if path == "." {
        search.directory(directory, "", 0)?;
    } else if entry.starts_with('/') || !dag::is_relative(path) {
        let problem = format!("{entry:?} leads out of this file's directory");
        return Err(FindError::new(problem, "write a relative path without .."));
    } else {
        search.path(&directory.join(path), path, 0)?;
    }
    if search.found.is_empty() {
        return Err(FindError::new(format!("{entry:?} holds no file"), "name a file, or a directory with files"));
    }
    search.found.sort();
    Ok(search.found)
}

struct Search {
    found: Vec<LocalFile>,
    bytes: u64,
}

impl Search {
    /// Symbolic links are followed.
    fn path(&mut self, absolute: &Path, in_task: &str, depth: usize) -> Result<(), FindError> {
        let metadata = std::fs::metadata(absolute).map_err(|error| FindError::io(in_task, &error))?;
        if metadata.is_dir() {
            return self.directory(absolute, in_task, depth);
        }
        if !metadata.is_file() {
            return Err(FindError::new(format!("{in_task:?} is neither a file nor a directory"), "leave it out"));
        }
        self.bytes = self.bytes.saturating_add(metadata.len());
        self.found.push(LocalFile {
            path_in_task: in_task.to_owned(),
            absolute: absolute.to_owned(),
            executable: metadata.permissions().mode() & 0o111 != 0,
            bytes: metadata.len(),
        });
        self.check_bounds()
    }

    fn directory(&mut self, absolute: &Path, in_task: &str, depth: usize) -> Result<(), FindError> {
        if depth == limits::DEPTH_MAX {
            let problem = format!("{in_task:?} is more than {} directories deep", limits::DEPTH_MAX);
            return Err(FindError::new(problem, "make it flatter"));
        }
        let entries = std::fs::read_dir(absolute).map_err(|error| FindError::io(in_task, &error))?;
        for entry in entries {
            let entry = entry.map_err(|error| FindError::io(in_task, &error))?;
            let Ok(name) = entry.file_name().into_string() else {
                let problem = format!("the name of {:?} is not UTF-8", entry.path());
                return Err(FindError::new(problem, "rename it"));
            };
            let inside = if in_task.is_empty() { name } else { format!("{in_task}/{name}") };
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            if is_link && entry.path().is_dir() {
                // It may lead back to where the search came from.
                let problem = format!("{inside:?} is a link to a directory");
                return Err(FindError::new(problem, "name that directory itself, or remove the link"));
            }
            self.path(&entry.path(), &inside, depth + 1)?;
        }
        Ok(())
    }

    fn check_bounds(&self) -> Result<(), FindError> {
        if self.found.len() > limits::TASK_FILES_MAX {
            let problem = format!("more than {} files", limits::TASK_FILES_MAX);
            return Err(FindError::new(problem, "pack them into an archive"));
        }
        if self.bytes > limits::TASK_FILES_BYTES_MAX {
            let problem = format!("more than {} bytes of files", limits::TASK_FILES_BYTES_MAX);
            return Err(FindError::new(problem, "leave out what the task does not read"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn directory(files: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for file in files {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        directory
    }

    fn paths(directory: &Path, entry: &str) -> Vec<String> {
        find(directory, entry).unwrap().into_iter().map(|file| file.path_in_task).collect()
    }

    fn problem(directory: &Path, entry: &str) -> String {
        find(directory, entry).unwrap_err().problem
    }

    #[test]
    fn a_directory_stands_for_its_files_in_order() {
        let root = directory(&["split.py", "books/b.txt", "books/a.txt", "books/more/c.txt"]);
        assert_eq!(paths(root.path(), "split.py"), ["split.py"]);
        assert_eq!(paths(root.path(), "./books/"), ["books/a.txt", "books/b.txt", "books/more/c.txt"]);
        assert_eq!(paths(root.path(), ".").len(), 4);
        let file = &find(root.path(), "books/more").unwrap()[0];
        assert_eq!((file.bytes, file.executable), (16, false));
        assert_eq!(file.absolute, root.path().join("books/more/c.txt"));
    }

    #[test]
    fn an_executable_file_stays_one() {
        let root = directory(&["tool"]);
        fs::set_permissions(root.path().join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(find(root.path(), "tool").unwrap()[0].executable);
    }

    #[test]
    fn links_to_files_are_followed_and_links_to_directories_are_not() {
        let root = directory(&["data/a", "elsewhere"]);
        symlink(root.path().join("elsewhere"), root.path().join("data/link")).unwrap();
        assert_eq!(paths(root.path(), "data"), ["data/a", "data/link"]);
        assert_eq!(find(root.path(), "data/link").unwrap()[0].bytes, 9);
        symlink(root.path(), root.path().join("data/up")).unwrap();
        assert_eq!(problem(root.path(), "data"), "\"data/up\" is a link to a directory");
        symlink("/nowhere/at/all", root.path().join("broken")).unwrap();
        assert_eq!(problem(root.path(), "broken"), "there is no file \"broken\"");
    }

    #[test]
    fn an_entry_cannot_lead_out() {
        let root = directory(&["a"]);
        for entry in ["../a", "/etc/passwd", "x/../../a", "", "a//b", "..", "/"] {
            assert!(problem(root.path(), entry).contains("leads out of this file's directory"), "{entry}");
        }
    }

    #[test]
    fn what_is_no_file_is_refused_in_words() {
        let root = directory(&["a"]);
        fs::create_dir(root.path().join("empty")).unwrap();
        assert_eq!(problem(root.path(), "b"), "there is no file \"b\"");
        assert_eq!(problem(root.path(), "empty/"), "\"empty/\" holds no file");
        let _socket = std::os::unix::net::UnixListener::bind(root.path().join("s")).unwrap();
        assert_eq!(problem(root.path(), "s"), "\"s\" is neither a file nor a directory");
        assert!(problem(root.path(), "a/b").contains("cannot be read"));
    }

    #[test]
    fn too_many_files_and_too_many_bytes_are_refused() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("many")).unwrap();
        for index in 0..=limits::TASK_FILES_MAX {
            fs::write(root.path().join("many").join(index.to_string()), "").unwrap();
        }
        assert_eq!(problem(root.path(), "many"), "more than 1000 files");
        let sparse = fs::File::create(root.path().join("big")).unwrap();
        sparse.set_len(limits::TASK_FILES_BYTES_MAX + 1).unwrap();
        assert_eq!(problem(root.path(), "big"), "more than 1073741824 bytes of files");
    }
}
