//! The arguments of `node`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{ConfigError, NodeConfig};
use crate::node::Node;

/// Runs one node of a Magpie mesh. Without arguments: a working node on this machine, with its data in
/// `$XDG_DATA_HOME/magpie`, its control socket there, and mDNS on. MAGPIE_BOOTSTRAP (multiaddrs of nodes to join) and
/// MAGPIE_PEER_FILE (a file that names some) are read beside the file and the flags.
#[derive(Debug, Parser)]
#[command(name = "node", version)]
pub struct NodeArgs {
    /// TOML file; the environment and flags win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the ledger, blobs, keys and the control socket live
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Multiaddr to listen on; may be given again
    #[arg(long, value_name = "MULTIADDR")]
    listen: Vec<String>,
    /// Multiaddr of a node to join; may be given again
    #[arg(long, value_name = "MULTIADDR")]
    bootstrap: Vec<String>,
    /// Path of the control socket
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Label of this node; may be given again
    #[arg(long, value_name = "K=V", value_parser = key_value)]
    label: Vec<(String, String)>,
    /// Tasks that run at a time
    #[arg(long, value_name = "N")]
    slots: Option<u32>,
    /// Serve MCP over HTTP here: 127.0.0.1:7480. Other machines need a token: `http.tokens` in the configuration
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Say what is wrong with a configuration file, and do nothing else
    #[arg(long, value_name = "FILE", exclusive = true)]
    check_config: Option<PathBuf>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not K=V"))?;
    if key.is_empty() { Err(format!("{text:?} has no key")) } else { Ok((key.to_owned(), value.to_owned())) }
}

/// Exit codes of `node`.
const FAILED: u8 = 1;
const USAGE: u8 = 2;

impl NodeArgs {
    /// Runs the node until it is told to end, or cannot go on.
    pub fn run(self) -> ExitCode {
        if let Some(file) = &self.check_config {
            return check(file);
        }
        let config = match self.config() {
            Ok(config) => config,
            Err(error) => return fail(USAGE, &error),
        };
        crate::telemetry::init();
        match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(serve(config)),
            Err(error) => fail(FAILED, &error),
        }
    }

    fn config(self) -> Result<NodeConfig, ConfigError> {
        let mut config = self.config.as_deref().map(NodeConfig::read).transpose()?.unwrap_or_default();
        let is_control_given = self.control.is_some();
        config.take_environment(|name| std::env::var_os(name))?;
        config.data_dir = self.data_dir.or(config.data_dir);
        config.control = self.control.or(config.control);
        config.slots = self.slots.or(config.slots);
        config.http.listen = self.http.or(config.http.listen);
        if !self.listen.is_empty() {
            config.listen = self.listen;
        }
        config.bootstrap.extend(self.bootstrap);
        config.labels.extend(self.label);
        config.check()?;
        config.check_files().map_err(|problem| {
            let is_of_file = !(is_control_given && problem.starts_with("control"));
            ConfigError::of_named(problem, self.config.as_deref().filter(|_| is_of_file))
        })?;
        Ok(config)
    }
}

fn check(file: &Path) -> ExitCode {
    let checked = NodeConfig::read(file)
        .and_then(|config| config.check_files().map_err(|problem| ConfigError::of_named(problem, Some(file))));
    match checked {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(USAGE, &error),
    }
}

fn fail(code: u8, error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("node: {error}");
    ExitCode::from(code)
}

async fn serve(config: NodeConfig) -> ExitCode {
    let pid = PidFile(config.resolved_data_dir().ok().map(|dir| dir.join("pid")));
    let drain_deadline = Duration::from_millis(config.drain_deadline.0);
    let mut ending = match Ending::watch() {
        Ok(ending) => ending,
        Err(error) => return fail(FAILED, &format!("signals cannot be caught: {error}")),
    };
    let mut node = match Node::start(config).await {
        Ok(node) => node,
        Err(error) => return fail(FAILED, &error),
    };
    pid.write();
    tracing::info!(peer = %node.peer_id, control = %node.control.display(), "node ready");
    let asked = tokio::select! {
        why = node.given_up() => Err(why),
        asked = ending.asked() => Ok(asked),
    };
    if let Ok(Asked::ToDrain) = asked {
        tracing::info!(deadline = ?drain_deadline, "the node drains; a second signal ends it at once");
        tokio::select! {
            () = node.drain(drain_deadline) => {}
            _ = ending.asked() => {}
        }
    }
    node.stop().await;
    pid.remove();
    match asked {
        Ok(Asked::ToDrain | Asked::ToEnd) => ExitCode::SUCCESS,
        Err(why) => fail(FAILED, &why),
    }
}

/// `pid` in the data directory: for scripts that signal the node, whoever started it. Only the node that holds the
/// directory touches it, and it works as well without.
struct PidFile(Option<PathBuf>);

impl PidFile {
    fn write(&self) {
        let Some(path) = &self.0 else { return };
        if let Err(error) = super::pid_file::write(path, std::process::id()) {
            tracing::warn!(%error, path = %path.display(), "the process id cannot be written");
        }
    }

    fn remove(&self) {
        // Left behind, it names a process that is gone.
        let _ = self.0.as_ref().map(std::fs::remove_file);
    }
}

/// SIGTERM, by which whoever runs services ends them, and Ctrl-C.
struct Ending {
    terminate: Signal,
    interrupt: Signal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    ToDrain,
    ToEnd,
}

impl Ending {
    fn watch() -> std::io::Result<Self> {
        // By itself it would end the node at a file as large as RLIMIT_FSIZE allows; caught, it is an error of that write.
        drop(signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?);
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn asked(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::ToDrain,
            _ = self.interrupt.recv() => Asked::ToEnd,
        }
    }
}
