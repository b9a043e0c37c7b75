//! Which commands a node runs for others.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::executor::AttemptError;

/// Allows every command, also the files that a task brings along.
const ANY: &str = "*";

/// Finds the executable that `run` names, if the configuration allows it. `directory` is where the task's files stand.
///
/// A bare name is looked up in the absolute directories of `path` only, so a task cannot bring its own `python3`.
pub fn resolve(
    run: &[String],
    allow: &[String],
    path: Option<&OsStr>,
    directory: &Path,
) -> Result<PathBuf, AttemptError> {
    let bad = |why: &str| AttemptError::permanent("bad_input", why);
    let Some(name) = run.first().filter(|name| !name.is_empty()) else {
        return Err(bad(r#"a process task needs a command in `run`, as ["python3", "count.py"]"#));
    };
    if run.iter().any(|word| word.contains('\0')) {
        return Err(bad("a word of `run` has a zero byte"));
    }
    let found = match name.contains('/') {
        true => Some(directory.join(name)),
        false => on_path(name, path),
    };
    let allowed = |entry: &String| entry == ANY || entry == name || found.as_deref() == Some(Path::new(entry));
    if !allow.iter().any(allowed) {
        return Err(not_allowed(name, allow));
    }
    found.ok_or_else(|| {
        let path = path.unwrap_or_default().to_string_lossy();
        let message = format!("{name:?} is not on this node's PATH ({path}): install it there or name it by its path");
        AttemptError::permanent("command_not_found", message)
    })
}

fn on_path(name: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    std::env::split_paths(path?)
        .filter(|entry| entry.is_absolute())
        .map(|entry| entry.join(name))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

fn not_allowed(name: &str, allow: &[String]) -> AttemptError {
    let allowed = if allow.is_empty() { "none".to_owned() } else { allow.join(", ") };
    let message = format!(
        "this node does not allow the command {name:?}: add it to process.allow in the node's configuration \
         (allowed: {allowed})"
    );
    AttemptError::permanent("command_not_allowed", message)
}

/// The variables of the node's own environment that a command sees.
pub fn passed_through(names: &[String]) -> impl Iterator<Item = (OsString, OsString)> {
    names.iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn code(run: &[&str], allow: &[&str]) -> Result<PathBuf, String> {
        let path = OsStr::new("bin:/usr/bin:/bin");
        resolve(&words(run), &words(allow), Some(path), Path::new("/work")).map_err(|error| {
            assert!(!error.retryable);
            error.error.code
        })
    }

    #[test]
    fn a_command_is_allowed_by_its_name_its_path_or_a_star() {
        let shell = code(&["sh"], &["sh"]).unwrap();
        assert!(shell.is_absolute() && shell.ends_with("sh"));
        assert_eq!(code(&["sh"], &[shell.to_str().unwrap()]).unwrap(), shell);
        assert_eq!(code(&["/bin/sh", "-c"], &["/bin/sh"]).unwrap(), Path::new("/bin/sh"));
        assert_eq!(code(&["./tool"], &["*"]).unwrap(), Path::new("/work/./tool"));
    }

    #[test]
    fn what_is_not_allowed_is_refused_with_the_fix() {
        for run in [&["curl"][..], &["/tmp/sh"], &["./sh"], &["no-such-command"]] {
            assert_eq!(code(run, &["sh", "python3"]).unwrap_err(), "command_not_allowed", "{run:?}");
        }
        let error = not_allowed("curl", &words(&["sh"])).to_string();
        assert!(error.contains(r#""curl": add it to process.allow"#) && error.contains("(allowed: sh)"), "{error}");
    }

    #[test]
    fn what_cannot_be_found_or_read_is_refused() {
        assert_eq!(code(&["no-such-command"], &["*"]).unwrap_err(), "command_not_found");
        for run in [&[][..], &[""], &["sh", "a\0b"]] {
            assert_eq!(code(run, &["*"]).unwrap_err(), "bad_input", "{run:?}");
        }
    }
}
