//! The processes of `nodectl dev`.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use super::Ending;
use super::directory::{DevDirectory, NodeDirectory};
use crate::cli::exit::{CommandError, Exit};
use crate::cli::pid_file;

/// Between SIGINT and SIGKILL.
const STOP_GRACE: Duration = Duration::from_secs(10);
const RESTART_FIRST: Duration = Duration::from_millis(100);
const RESTART_MAX: Duration = Duration::from_secs(5);
/// What is shown of the log of a node that did not come up.
const LOG_TAIL_BYTES: u64 = 2_048;
const LOG_TAIL_LINES: usize = 10;

/// One process per node, ended with this value.
pub struct Nodes {
    nodes: Vec<Node>,
    program: PathBuf,
    restart: bool,
}

struct Node {
    directory: NodeDirectory,
    /// None once it has ended and stays so.
    child: Option<Child>,
    back_off: Duration,
}

impl Nodes {
    /// Starts all nodes.
    ///
    /// # Errors
    /// If a process cannot be started.
    pub fn start(directory: &DevDirectory, restart: bool) -> Result<Self, CommandError> {
        let program = program()?;
        let mut nodes = Vec::new();
        for directory in directory.nodes() {
            let child = Some(spawn(&program, directory)?);
            nodes.push(Node { directory: directory.clone(), child, back_off: RESTART_FIRST });
        }
        Ok(Self { nodes, program, restart })
    }

    /// The error of a node that has ended, with the end of its log.
    ///
    /// # Errors
    /// That one.
    pub fn check_all_live(&mut self) -> Result<(), CommandError> {
        for node in &mut self.nodes {
            let Some(child) = &mut node.child else { continue };
            if let Ok(Some(status)) = child.try_wait() {
                let (name, log) = (node.directory.name(), node.directory.log());
                let what = format!("{name} {} before it was ready; {}:\n{}", ended(status), log.display(), tail(&log));
                return Err(CommandError::new(Exit::Unreachable, what));
            }
        }
        Ok(())
    }

    /// Tells of each node that ends, and starts it again if that was asked for.
    pub async fn watch(&mut self) -> Result<Exit, CommandError> {
        loop {
            let (place, status) = self.next_end().await;
            let node = &mut self.nodes[place];
            let name = node.directory.name();
            if !self.restart {
                node.child = None;
                let (config, data) = (node.directory.config(), node.directory.path.display().to_string());
                eprintln!("{name} {}; the others go on", ended(status));
                eprintln!(
                    "to start it again: {} --config {} --data-dir {data}",
                    self.program.display(),
                    config.display()
                );
                continue;
            }
            eprintln!("{name} {}; it starts again", ended(status));
            tokio::time::sleep(node.back_off).await;
            node.back_off = (node.back_off * 2).min(RESTART_MAX);
            node.child = Some(spawn(&self.program, &node.directory)?);
        }
    }

    /// The next process that ends.
    async fn next_end(&mut self) -> (usize, ExitStatus) {
        let places = self.nodes.iter_mut().enumerate();
        let ends = places.filter_map(|(place, node)| node.child.as_mut().map(|child| (place, child)));
        let mut ends: Vec<_> = ends.map(|(place, child)| (place, Box::pin(child.wait()))).collect();
        std::future::poll_fn(|context| {
            for (place, end) in &mut ends {
                if let std::task::Poll::Ready(Ok(status)) = end.as_mut().poll(context) {
                    return std::task::Poll::Ready((*place, status));
                }
            }
            std::task::Poll::Pending
        })
        .await
    }

    /// Ends all nodes: asked first, killed when they take too long or somebody presses Ctrl-C again.
    pub async fn stop(self, ending: &mut Ending) {
        let mut ends = JoinSet::new();
        for node in self.nodes {
            let Some(mut child) = node.child else { continue };
            // Ctrl-C for each: a SIGTERM would let it drain.
            tell(&child, Signal::INT);
            ends.spawn(async move {
                if tokio::time::timeout(STOP_GRACE, child.wait()).await.is_err() {
                    eprintln!("{} does not end: it is killed", node.directory.name());
                    // It may have ended this very moment.
                    let _ = child.kill().await;
                }
                // A node that a person started anew has no process id of ours.
                let _ = std::fs::remove_file(node.directory.pid());
            });
        }
        // Dropped early, the processes are killed.
        tokio::select! {
            _ = ending.asked() => {}
            () = async { while ends.join_next().await.is_some() {} } => {}
        }
    }
}

/// `node` beside this executable.
fn program() -> Result<PathBuf, CommandError> {
    let own = std::env::current_exe();
    let own =
        own.map_err(|error| CommandError::new(Exit::Failed, format!("where nodectl is, is not known: {error}")))?;
    let program = own.with_file_name("node");
    if program.is_file() {
        return Ok(program);
    }
    let what = format!("there is no {}: `make build` puts node and nodectl side by side", program.display());
    Err(CommandError::usage(what))
}

fn spawn(program: &PathBuf, node: &NodeDirectory) -> Result<Child, CommandError> {
    let failed = |error| CommandError::new(Exit::Failed, format!("cannot start {}: {error}", node.name()));
    let log = OpenOptions::new().create(true).append(true).open(node.log()).map_err(failed)?;
    let child = Command::new(program)
        .arg("--config")
        .arg(node.config())
        .arg("--data-dir")
        .arg(&node.path)
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(failed)?)
        .stderr(log)
        // Ctrl-C is for this process, which ends its nodes in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let pid = child.id().unwrap_or_default();
    pid_file::write(&node.pid(), pid).map_err(failed)?;
    Ok(child)
}

fn tell(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|pid| Pid::from_raw(pid as i32));
    if let Some(pid) = pid {
        // It may have ended: then there is nothing to end.
        let _ = kill_process(pid, signal);
    }
}

fn ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("was ended by signal {signal}"),
        (None, code) => format!("ended with exit code {}", code.unwrap_or_default()),
    }
}

/// The last lines of a log.
fn tail(log: &PathBuf) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].iter().map(|line| format!("  {line}\n")).collect::<String>()
}
