//! A command under its shim, from the worker's side.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as BlockingUnixStream;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use magpie_core::task::Used;
use rustix::io::retry_on_intr;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{ChildStderr, ChildStdout, Command};

use super::strays::kill_strays;
use crate::executor::shim::{self, Arguments, LastWords, Order, Report};

/// How long the pipes of a command may outlive its shim, if that was killed from outside.
const PIPES_AFTER_SHIM: Duration = Duration::from_secs(1);

/// What to start, and where.
pub struct Launch<'a> {
    pub shim: &'a Path,
    pub directory: &'a Path,
    pub environment: &'a BTreeMap<OsString, OsString>,
    pub arguments: Arguments,
}

/// How a command ended; nothing that it started runs any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    Exited {
        status: i32,
    },
    Signalled {
        signal: i32,
    },
    NotStarted {
        errno: i32,
    },
    /// The end of the lease passed: the shim killed it.
    LeaseEnded,
    /// The shim was killed from outside, and the command after it.
    ShimLost,
}

/// An ending with the processor time of the command and all below it, as the shim measured it.
pub struct Ended {
    pub ending: Ending,
    pub used: Used,
}

/// A running shim. Dropped, it takes the command with it.
pub struct Child {
    pub stdout: ChildStdout,
    pub stderr: ChildStderr,
    pub orders: Orders,
    pub end: End,
}

/// Tells the shim what to do.
pub struct Orders(OwnedWriteHalf);

/// Waits for the command's end.
pub struct End {
    shim: tokio::process::Child,
    reports: BufReader<OwnedReadHalf>,
    directory: PathBuf,
}

/// Starts the shim, which starts the command.
///
/// # Errors
/// The operating system's, if the shim itself cannot be started.
pub fn start(launch: Launch<'_>) -> io::Result<Child> {
    let (worker_end, shim_end) = BlockingUnixStream::pair()?;
    worker_end.set_nonblocking(true)?;
    let (reports, orders) = UnixStream::from_std(worker_end)?.into_split();
    let mut command = Command::new(launch.shim);
    command.arg0(shim::NAME).args(launch.arguments.to_argv()).current_dir(launch.directory);
    command.env_clear().envs(launch.environment);
    command.stdin(Stdio::from(OwnedFd::from(shim_end))).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut shim = command.spawn()?;
    let (Some(stdout), Some(stderr)) = (shim.stdout.take(), shim.stderr.take()) else {
        return Err(io::Error::other("a process was started without its pipes"));
    };
    let end = End { shim, reports: BufReader::new(reports), directory: launch.directory.to_owned() };
    Ok(Child { stdout, stderr, orders: Orders(orders), end })
}

impl Orders {
    /// Never waits: at most a few bytes are on their way. A shim that is gone needs no order.
    ///
    /// Past the runtime, which would not write before it has seen the socket writable once.
    pub fn give(&self, order: Order) {
        let _ = retry_on_intr(|| rustix::io::write(self.0.as_ref(), &order.bytes()));
    }
}

impl End {
    /// Waits until the command and all that it started are gone and `reading` of its pipes is over. That is not waited
    /// for without end once the shim was lost: what escaped may hold the pipes open.
    pub async fn reached_after(&mut self, reading: impl Future<Output = ()>) -> Ended {
        let mut reading = pin!(reading);
        let mut read = false;
        let mut reached = pin!(self.reached());
        let ended = loop {
            tokio::select! {
                () = &mut reading, if !read => read = true,
                ended = &mut reached => break ended,
            }
        };
        match (&ended.ending, read) {
            (_, true) => {}
            (Ending::ShimLost, false) => drop(tokio::time::timeout(PIPES_AFTER_SHIM, reading).await),
            (_, false) => reading.await,
        }
        ended
    }

    async fn reached(&mut self) -> Ended {
        let mut line = String::new();
        // A socket that fails says as little as one that ends.
        let _ = self.reports.read_line(&mut line).await;
        // Only this process waits for the shim, so it cannot have been waited for already.
        let _ = self.shim.wait().await;
        let Ok(LastWords { report, cpu_us }) = serde_json::from_str(&line) else {
            self.kill_strays().await;
            return Ended { ending: Ending::ShimLost, used: Used::default() };
        };
        let ending = match report {
            Report::NotStarted { errno } => Ending::NotStarted { errno },
            Report::Exited { status } => Ending::Exited { status },
            Report::Signalled { signal } => Ending::Signalled { signal },
            Report::LeaseEnded => Ending::LeaseEnded,
        };
        Ended { ending, used: Used { cpu_us, gpu_us: None } }
    }

    async fn kill_strays(&self) {
        let directory = self.directory.clone();
        let killed = tokio::task::spawn_blocking(move || kill_strays(&directory)).await;
        if let Err(error) = killed.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            tracing::error!(%error, "processes without a shim may still run");
        }
    }
}
