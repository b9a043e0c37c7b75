//! `nodectl dev`: several nodes on this machine that know each other, until Ctrl-C.

mod directory;
mod nodes;
mod ports;
mod ready;

use std::io::IsTerminal;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::directory::{DevDirectory, DevSettings};
use self::nodes::Nodes;
use super::exit::{CommandError, Exit};
use super::output;

/// Start nodes on this machine that know each other, until Ctrl-C
///
/// Each has an identity, a data directory and a port of its own; they share a cluster key that is made for them. They
/// run any command that a process task names: they listen on 127.0.0.1 only, and admit only each other.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// How many nodes
    #[arg(value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    count: u16,
    /// Where they keep their data (default: a new directory, which is printed)
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Start a node again that has ended
    #[arg(long)]
    restart: bool,
    /// Tasks that each node runs at a time (default: one per core)
    #[arg(long, value_name = "N")]
    slots: Option<NonZeroU32>,
    /// Threads of each node's inference (default: the cores divided by N)
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroU32>,
    /// Nodes that run no models: none has a process for its devices
    #[arg(long, conflicts_with = "threads")]
    no_inference: bool,
}

impl DevArgs {
    pub async fn run(self) -> Result<Exit, CommandError> {
        let mut ending = Ending::watch()?;
        let settings =
            DevSettings { count: self.count, slots: self.slots, threads: self.threads, inference: !self.no_inference };
        let directory = DevDirectory::open(self.dir, settings)?;
        eprintln!("data in {}", directory.path().display());
        let mut nodes = Nodes::start(&directory, self.restart)?;
        let ended = tokio::select! {
            exit = ending.asked() => Ok(exit),
            ended = serve(&directory, &mut nodes) => ended,
        };
        nodes.stop(&mut ending).await;
        ended
    }
}

/// Runs until somebody ends it, or a node does not come up.
async fn serve(directory: &DevDirectory, nodes: &mut Nodes) -> Result<Exit, CommandError> {
    ready::wait(directory, nodes).await?;
    output::print("ready\n")?;
    if std::io::stdout().is_terminal() {
        output::print(&directory.next_steps())?;
    }
    nodes.watch().await
}

/// Ctrl-C and SIGTERM.
struct Ending {
    interrupt: Signal,
    terminate: Signal,
}

impl Ending {
    fn watch() -> Result<Self, CommandError> {
        let failed = |error| CommandError::new(Exit::Failed, format!("signals cannot be caught: {error}"));
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
        })
    }

    /// Waits until it is asked to end; how decides the exit code.
    async fn asked(&mut self) -> Exit {
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Interrupted,
            _ = self.terminate.recv() => Exit::Ok,
        }
    }
}
