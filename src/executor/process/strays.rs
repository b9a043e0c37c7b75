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
/// Looks that find nobody before that is believed: one may fork or change its program meanwhile.
const LOOKS: u32 = 3;
/// Looks at a process without an environment before that is believed: on a busy machine an `exec` takes milliseconds.
const LOOKS_FOR_AN_ENVIRONMENT: u32 = 20;
/// One that sleeps in the kernel may not end at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// Kills every process whose `HOME` is `directory` or below, and waits until they are gone. A process inherits that
/// variable across forks and sessions, so only one that rewrote its environment is missed. Blocks.
///
/// # Errors
/// If processes cannot be listed, or one does not end.
pub fn kill_strays(directory: &Path) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut clean = 0;
    while clean < LOOKS {
        let mut strays = 0;
        for pid in processes()?.filter(|pid| is_stray(*pid, directory)) {
            // One that ended meanwhile is what was asked for.
            let _ = kill_process(pid, Signal::KILL);
            strays += 1;
        }
        clean = if strays == 0 { clean + 1 } else { 0 };
        if strays > 0 && Instant::now() > deadline {
            let message = format!("{strays} processes that started in {} do not end", directory.display());
            return Err(io::Error::other(message));
        }
        sleep(LOOK_AGAIN_AFTER);
    }
    Ok(())
}

fn processes() -> io::Result<impl Iterator<Item = Pid>> {
    let pid_of = |entry: fs::DirEntry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?);
    Ok(fs::read_dir("/proc")?.filter_map(move |entry| pid_of(entry.ok()?)))
}

/// A process of another user, and one that ended, shows neither its environment nor its directory. One that just
/// executes another program shows no environment for a moment, so only who shows none for several looks is taken for
/// one that has none: then its directory tells, which alone would also be that of someone who looks around here.
fn is_stray(pid: Pid, directory: &Path) -> bool {
    let process = Path::new("/proc").join(pid.as_raw_nonzero().to_string());
    let lives_below = || fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(directory));
    for _ in 0..LOOKS_FOR_AN_ENVIRONMENT {
        let environment = fs::read(process.join("environ")).unwrap_or_default();
        if !environment.is_empty() {
            return home_of(&environment).is_some_and(|home| home.starts_with(directory));
        }
        if !lives_below() {
            return false;
        }
        sleep(LOOK_AGAIN_AFTER);
    }
    lives_below()
}

fn home_of(environment: &[u8]) -> Option<&Path> {
    let home = environment.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(b"HOME="))?;
    Some(Path::new(OsStr::from_bytes(home)))
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
        let mut strays = [
            start(&directory.path().join("task/files")),
            Command::new("sleep").arg("1000").env_clear().current_dir(directory.path()).spawn().unwrap(),
        ];
        let mut other = Command::new("sleep").arg("1000").current_dir(directory.path()).spawn().unwrap();
        kill_strays(&directory.path().canonicalize().unwrap()).unwrap();
        for stray in &mut strays {
            assert_eq!(stray.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
        }
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
