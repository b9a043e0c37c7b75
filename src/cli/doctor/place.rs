//! Which node is examined: its configuration, its data directory and its socket.

use std::path::{Path, PathBuf};

use super::{Check, DoctorArgs};
use crate::config::{NodeConfig, default_data_dir};

pub(super) struct Place {
    /// What the node would be started with; the default where no file is named or it cannot be read.
    pub config: NodeConfig,
    /// Whether it is a file's.
    pub is_configured: bool,
    /// `None`: nobody says where it could be.
    pub data_dir: Option<PathBuf>,
    pub socket: Option<PathBuf>,
}

impl Place {
    /// Where everything is, and what is wrong with the configuration.
    pub fn find(args: DoctorArgs, control: Option<PathBuf>) -> (Self, Check) {
        let (config, check) = read(args.config.as_deref());
        let is_configured = config.is_some();
        let config = config.unwrap_or_default();
        let beside_socket = || control.as_deref().and_then(Path::parent).map(Path::to_owned);
        let data_dir = args.data_dir.or_else(|| config.data_dir.clone()).or_else(beside_socket);
        let data_dir = data_dir.or_else(|| default_data_dir().ok());
        let in_data_dir = || data_dir.as_ref().map(|dir| dir.join("control.sock"));
        let socket = control.or_else(|| config.control.clone()).or_else(in_data_dir);
        (Self { config, is_configured, data_dir, socket }, check)
    }
}

fn read(file: Option<&Path>) -> (Option<NodeConfig>, Check) {
    const NAME: &str = "config";
    let Some(file) = file else {
        return (None, Check::ok(NAME, "no file named: what every node has is looked at (--config FILE for the rest)"));
    };
    let read = NodeConfig::read(file).and_then(|mut config| {
        config.take_environment(|name| std::env::var_os(name))?;
        Ok(config)
    });
    match read {
        Ok(config) => (Some(config), Check::ok(NAME, format!("{} can be used", file.display()))),
        Err(error) => {
            let remedy = "correct it; `node --check-config FILE` says the same, and a node does not start with it";
            (None, Check::fault(NAME, error.to_string(), remedy))
        }
    }
}
