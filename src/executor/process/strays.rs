//! Processes of an attempt whose shim is gone: killed from outside, alone or together with its worker.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The killed need a moment to end, and one that was just forked is found by looking again.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(1);
/// One that sleeps in the kernel may not end at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// Kills every process whose `HOME` is `directory` or below, and waits until they are gone. A process inherits that
/// variable across forks and sessions, so only one that rewrote its environment is missed. Blocks.
///
/// # Errors
/// If processes cannot be listed, or one does not end.
pub fn kill_strays(directory: &Path) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut strays = 0;
        for pid in processes()?.filter(|pid| home_is_below(*pid, directory)) {
            // One that ended meanwhile is what was asked for.
            let _ = kill_process(pid, Signal::KILL);
            strays += 1;
        }
        if strays == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            let message = format!("{strays} processes that started in {} do not end", directory.display());
            return Err(io::Error::other(message));
        }
        sleep(LOOK_AGAIN_AFTER);
    }
}

fn processes() -> io::Result<impl Iterator<Item = Pid>> {
    let pid_of = |entry: fs::DirEntry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?);
    Ok(fs::read_dir("/proc")?.filter_map(move |entry| pid_of(entry.ok()?)))
}

/// A process of another user, and one that ended, has no environment to be read.
fn home_is_below(pid: Pid, directory: &Path) -> bool {
    let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap_or_default();
    let home = environment.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(b"HOME="));
    home.is_some_and(|home| Path::new(OsStr::from_bytes(home)).starts_with(directory))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn only_what_lives_below_the_directory_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let start = |home: &Path| Command::new("sleep").arg("1000").env("HOME", home).spawn().unwrap();
        let mut stray = start(&directory.path().join("task/files"));
        let mut other = start(&directory.path().with_extension("x"));
        kill_strays(directory.path()).unwrap();
        assert_eq!(stray.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
