//! The directory of `nodectl dev`: one below it for each node, and the key that they share.

use std::fmt::Write;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use magpie_net::ClusterKey;

use super::ports;
use crate::cli::exit::{CommandError, Exit};
use crate::config::{self, NodeConfig};
use crate::store::data_dir::{DataDir, OpenDataDirError};

/// What the kernel allows for the path of a socket.
const SOCKET_PATH_BYTES_MAX: usize = 107;

pub struct DevSettings {
    pub count: u16,
    pub slots: Option<NonZeroU32>,
    pub threads: Option<NonZeroU32>,
    pub inference: bool,
}

pub struct DevDirectory {
    path: PathBuf,
    nodes: Vec<NodeDirectory>,
}

/// What belongs to one node.
#[derive(Debug, Clone)]
pub struct NodeDirectory {
    /// From 1.
    pub number: u16,
    pub path: PathBuf,
}

impl NodeDirectory {
    pub fn name(&self) -> String {
        format!("node-{}", self.number)
    }

    pub fn config(&self) -> PathBuf {
        self.path.join("node.toml")
    }

    pub fn socket(&self) -> PathBuf {
        self.path.join("control.sock")
    }

    pub fn pid(&self) -> PathBuf {
        self.path.join("pid")
    }

    pub fn log(&self) -> PathBuf {
        self.path.join("node.log")
    }
}

impl DevDirectory {
    /// Opens `path`, or makes a new directory: every node in it has a configuration then, and none is running.
    ///
    /// # Errors
    /// Exit code 2 if the directory cannot be used as it is, 6 if one of its nodes is running.
    pub fn open(path: Option<PathBuf>, settings: DevSettings) -> Result<Self, CommandError> {
        let path = path.map_or_else(fresh, Ok)?;
        let failed = |error: std::io::Error| CommandError::usage(format!("cannot use {}: {error}", path.display()));
        std::fs::create_dir_all(&path).map_err(failed)?;
        let path = path.canonicalize().map_err(failed)?;
        let node = |number| NodeDirectory { number, path: path.join(format!("node-{number}")) };
        let nodes: Vec<NodeDirectory> = (1..=settings.count).map(node).collect();
        let directory = Self { path, nodes };
        directory.check(settings.count)?;
        let known = directory.nodes.iter().filter(|node| node.config().exists()).count();
        if known == 0 {
            directory.write_configs(&settings)?;
        } else if settings.slots.is_some() || settings.threads.is_some() || !settings.inference {
            eprintln!("the nodes keep the slots and inference of their node.toml, which was made before");
        }
        Ok(directory)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn nodes(&self) -> &[NodeDirectory] {
        &self.nodes
    }

    /// Refuses what would end in a confusing way later.
    fn check(&self, count: u16) -> Result<(), CommandError> {
        if let Some(long) = self.nodes.iter().map(NodeDirectory::socket).find(|path| is_too_long(path)) {
            let what = format!(
                "the path of the socket {} has more than {SOCKET_PATH_BYTES_MAX} bytes: choose a shorter --dir",
                long.display()
            );
            return Err(CommandError::usage(what));
        }
        for node in &self.nodes {
            // Held for a moment only: the node takes the lock itself.
            DataDir::open(&node.path).map_err(|error| refused(&error))?;
        }
        let held = self.nodes.iter().filter(|node| node.config().exists()).count() as u16;
        let beyond = self.path.join(format!("node-{}", count + 1)).exists();
        if (held != 0 && held != count) || beyond {
            let what = format!(
                "{} holds the data of another number of nodes: start as many, or choose another --dir",
                self.path.display()
            );
            return Err(CommandError::usage(what));
        }
        Ok(())
    }

    fn write_configs(&self, settings: &DevSettings) -> Result<(), CommandError> {
        let key = self.path.join("cluster.key");
        ClusterKey::load_or_create(&key).map_err(|error| CommandError::usage(error.to_string()))?;
        let ports =
            ports::free(self.nodes.len()).map_err(|error| CommandError::new(Exit::Failed, error.to_string()))?;
        let addresses: Vec<String> = ports.iter().map(|port| format!("/ip4/127.0.0.1/tcp/{port}")).collect();
        for (node, own) in self.nodes.iter().zip(&addresses) {
            let others: Vec<&String> = addresses.iter().filter(|address| *address != own).collect();
            let text = config_text(own, &others, &key, settings);
            let file = node.config();
            let failed = |error| CommandError::usage(format!("cannot write {}: {error}", file.display()));
            std::fs::write(&file, text).map_err(failed)?;
            NodeConfig::read(&file).map_err(|error| CommandError::new(Exit::Failed, error.to_string()))?;
        }
        Ok(())
    }

    /// What a person can do next.
    pub fn next_steps(&self) -> String {
        let mut text = "\n".to_owned();
        for node in &self.nodes {
            text.push_str(&format!("  {}  {}\n", node.name(), node.socket().display()));
        }
        let socket = self.nodes.first().map(NodeDirectory::socket).unwrap_or_default();
        text + &format!("\ntry: nodectl --control {} status\nend with Ctrl-C; the data stays\n", socket.display())
    }
}

fn is_too_long(path: &Path) -> bool {
    path.as_os_str().len() > SOCKET_PATH_BYTES_MAX
}

fn refused(error: &OpenDataDirError) -> CommandError {
    let exit = match error {
        OpenDataDirError::InUse { .. } | OpenDataDirError::InUseByUnknown { .. } => Exit::Refused,
        _ => Exit::Usage,
    };
    CommandError::new(exit, error.advise("--dir"))
}

/// A directory that no other `dev` uses.
fn fresh() -> Result<PathBuf, CommandError> {
    let data = config::default_data_dir().map_err(|error| CommandError::usage(format!("{error}, or --dir")))?;
    Ok(data.join(format!("dev-{:08x}", rand::random::<u32>())))
}

/// TOML with the reasons: a person will look into it.
fn config_text(own: &str, others: &[&String], key: &Path, settings: &DevSettings) -> String {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let others: Vec<String> = others.iter().map(|address| quoted(address)).collect();
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    let threads = settings.threads.map_or((cores / u32::from(settings.count)).max(1), NonZeroU32::get);
    let mut text = "# Made by `nodectl dev`, which leaves it alone from then on.\n".to_owned();
    let mut line = |arguments: std::fmt::Arguments<'_>| {
        writeln!(text, "{arguments}").expect("writing to a String does not fail");
    };
    line(format_args!("listen = [{}]", quoted(own)));
    line(format_args!("bootstrap = [{}]", others.join(", ")));
    line(format_args!("mdns = false"));
    line(format_args!("cluster_key = {}", quoted(&key.display().to_string())));
    if let Some(slots) = settings.slots {
        line(format_args!("slots = {slots}"));
    }
    line(format_args!("\n# Any command: only for development, among nodes that admit nobody else."));
    line(format_args!("[process]\nallow = [\"*\"]"));
    line(format_args!("\n[inference]\nthreads = {threads}"));
    if !settings.inference {
        line(format_args!("enabled = false"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(count: u16) -> DevSettings {
        DevSettings { count, slots: NonZeroU32::new(3), threads: None, inference: true }
    }

    fn open(path: &Path, count: u16) -> Result<DevDirectory, CommandError> {
        DevDirectory::open(Some(path.to_owned()), settings(count))
    }

    #[test]
    fn each_node_knows_the_others_and_keeps_its_address() {
        let root = tempfile::tempdir().unwrap();
        let first = open(root.path(), 3).unwrap();
        let configs: Vec<NodeConfig> =
            first.nodes().iter().map(|node| NodeConfig::read(&node.config()).unwrap()).collect();
        for (index, config) in configs.iter().enumerate() {
            assert!(!config.mdns && config.slots == Some(3) && config.inference.threads > 0);
            let others = configs.iter().enumerate().filter(|(other, _)| *other != index);
            let others: Vec<&String> = others.flat_map(|(_, other)| &other.listen).collect();
            assert_eq!(config.bootstrap.iter().collect::<Vec<_>>(), others);
        }
        assert!(configs[0].inference.enabled);
        let again = open(root.path(), 3).unwrap();
        assert_eq!(NodeConfig::read(&again.nodes()[0].config()).unwrap(), configs[0]);
    }

    #[test]
    fn nodes_without_inference_are_configured_so() {
        let root = tempfile::tempdir().unwrap();
        let settings = DevSettings { inference: false, ..settings(2) };
        let directory = DevDirectory::open(Some(root.path().to_owned()), settings).unwrap();
        for node in directory.nodes() {
            assert!(!NodeConfig::read(&node.config()).unwrap().inference.enabled);
        }
    }

    #[test]
    fn another_number_of_nodes_is_refused() {
        let root = tempfile::tempdir().unwrap();
        open(root.path(), 2).unwrap();
        for count in [1, 3] {
            let error = open(root.path(), count).err().unwrap();
            assert_eq!(error.exit, Exit::Usage);
            assert!(error.to_string().contains("another number of nodes"), "{error}");
        }
    }

    #[test]
    fn a_running_node_is_named() {
        let root = tempfile::tempdir().unwrap();
        open(root.path(), 1).unwrap();
        let _running = DataDir::open(root.path().join("node-1")).unwrap();
        let error = open(root.path(), 1).err().unwrap();
        assert_eq!(error.exit, Exit::Refused);
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_refused_before_anything_starts() {
        let root = tempfile::tempdir().unwrap();
        let error = open(&root.path().join("x".repeat(100)), 1).err().unwrap();
        assert!(error.to_string().contains("choose a shorter --dir"), "{error}");
    }
}
