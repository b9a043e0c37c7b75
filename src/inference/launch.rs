//! How a device process is started, and why it may not be.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use magpie_core::limits::DEVICE_START_TIMEOUT_MS;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::running::DeviceExit;

/// The name of the binary, built beside those of the node.
pub(super) const BINARY: &str = "node-device";

/// How a device process is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceProcessConfig {
    pub binary: PathBuf,
    /// Threads of one operation, at least one.
    pub threads: u32,
    /// The GPU that this process gets, as `CUDA_VISIBLE_DEVICES`; none for the CPU device.
    pub cuda_visible_devices: Option<String>,
}

impl DeviceProcessConfig {
    /// The CPU device: `configured`, or the binary beside the running executable; threads 0 are one per core.
    ///
    /// # Errors
    /// The binary is not there.
    pub fn cpu(configured: Option<&Path>, threads: u32) -> Result<Self, StartDeviceError> {
        let beside = || std::env::current_exe().map(|executable| executable.with_file_name(BINARY));
        let binary = configured.map_or_else(beside, |path| Ok(path.to_owned())).unwrap_or_else(|_| BINARY.into());
        if !binary.is_file() {
            return Err(StartDeviceError::NotBuilt { binary });
        }
        let cores = || std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
        let threads = if threads == 0 { cores() } else { threads };
        Ok(Self { binary, threads, cuda_visible_devices: None })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        // The node's own settings may hold secrets, and the device reads files that strangers made.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MAGPIE_")) {
            command.env_remove(name);
        }
        // libgomp reads these when it is loaded, so they have to be there before. Spinning threads starve the rest.
        command.env("OMP_WAIT_POLICY", "PASSIVE");
        for name in ["OMP_NUM_THREADS", "MKL_NUM_THREADS"] {
            command.env(name, self.threads.to_string());
        }
        command.env("CUDA_VISIBLE_DEVICES", self.cuda_visible_devices.as_deref().unwrap_or_default());
        // A Ctrl-C on the node's terminal is for the node, which still needs its device to drain.
        command.process_group(0).kill_on_drop(true);
        command
    }
}

/// Why there is no device.
#[derive(Debug, thiserror::Error)]
pub enum StartDeviceError {
    #[error("{} is not there; `make build` builds it", binary.display())]
    NotBuilt { binary: PathBuf },
    #[error("{} cannot be started: {source}", binary.display())]
    Spawn { binary: PathBuf, source: io::Error },
    #[error("libtorch is missing: {line}; `make build` fetches it")]
    LibtorchMissing { line: String },
    #[error("{} ended before it was ready: {exit}", binary.display())]
    Ended { binary: PathBuf, exit: DeviceExit },
    #[error("{} said something other than that it is ready", binary.display())]
    NotReady { binary: PathBuf },
    #[error("{} was not ready within {DEVICE_START_TIMEOUT_MS} ms", binary.display())]
    TimedOut { binary: PathBuf },
}

impl StartDeviceError {
    /// The sentence that a node says of itself.
    pub fn in_words(&self) -> String {
        format!("offers no inference because {self}")
    }
}

/// The loader's line about a library that it did not find, if that is how the process ended.
pub(super) fn missing_libtorch(exit: &DeviceExit) -> Option<StartDeviceError> {
    let line = exit.log.lines().find(|line| line.contains("error while loading shared libraries"))?;
    Some(StartDeviceError::LibtorchMissing { line: line.trim().to_owned() })
}

/// Starts the process with one end of a socket pair as its standard input and output; gives the other.
pub(super) fn spawn(config: &DeviceProcessConfig) -> io::Result<(Child, UnixStream)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let mut command = config.command();
    command.stdin(OwnedFd::from(theirs.try_clone()?)).stdout(OwnedFd::from(theirs)).stderr(Stdio::piped());
    Ok((command.spawn()?, UnixStream::from_std(ours)?))
}
