//! The process of a mounted server.

use std::collections::BTreeMap;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;

use super::lines::{Pace, PacedLines};
use crate::mcp::text;

/// Of the node's environment a server gets these, and what its configuration says.
const ENVIRONMENT: [&str; 4] = ["PATH", "HOME", "LANG", "TMPDIR"];
/// A line of its standard error is kept so far.
const ERROR_LINE_BYTES_MAX: usize = 512;
/// For the exit status of a server that closed its output.
const EXIT_PATIENCE: Duration = Duration::from_secs(1);

/// The process, in a group of its own: dropped, all of the group is killed.
pub struct Process(Child);

impl Process {
    /// Starts it, and waits until it has begun.
    ///
    /// # Errors
    /// The operating system's.
    pub fn start(command: &[String], environment: &BTreeMap<String, String>) -> io::Result<Self> {
        let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear();
        command.envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.envs(environment).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().map(Self)
    }

    pub fn pipes(&mut self) -> Option<(ChildStdin, ChildStdout, ChildStderr)> {
        Some((self.0.stdin.take()?, self.0.stdout.take()?, self.0.stderr.take()?))
    }

    /// How it ended, if it has.
    pub async fn status(&mut self) -> Option<ExitStatus> {
        tokio::time::timeout(EXIT_PATIENCE, self.0.wait()).await.ok()?.ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Not waited for yet, so the number is still this process's.
        if let Some(group) = self.0.id().and_then(|id| rustix::process::Pid::from_raw(id as i32)) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

/// Its standard error goes to the log, to its end; the last line is kept for whoever asks why it ended.
pub async fn listen(name: String, errors: ChildStderr, last_words: watch::Sender<String>) {
    let mut errors = BufReader::new(PacedLines::new(errors, usize::MAX, Pace::default()));
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut errors).take(ERROR_LINE_BYTES_MAX as u64).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let words = text::clean(String::from_utf8_lossy(&line).trim().to_owned());
                if !words.is_empty() {
                    tracing::info!(server = name, said = words, "a mounted server speaks");
                    last_words.send_replace(words);
                }
            }
        }
    }
}
