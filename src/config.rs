//! A node's configuration: a TOML file, then the command line. What is wrong is told with file and line.

mod files;
mod http;
mod mounts;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use magpie_core::access::ClusterId;
use magpie_core::ids::PeerId;
use magpie_core::limiter::Rate;
use magpie_core::limits;
use magpie_core::queue::{CompactionPolicy, QueueSettings, RetentionPolicy};
use magpie_core::task::Tag;
use magpie_core::time::DurationMs;
use magpie_net::{GithubConfig, Token};
use serde::{Deserialize, Serialize};

use crate::executor::ProcessConfig;

pub use files::{load_cluster_key, load_ticket, read_ticket};
pub use http::HttpConfig;
pub use mounts::{McpConfig, MountConfig};

/// Everything a node can be told. The default is a working node that admits nobody.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeConfig {
    /// Where the ledger, blobs, keys and the control socket live; unset: `$XDG_DATA_HOME/magpie`.
    pub data_dir: Option<PathBuf>,
    /// The control socket; unset: `control.sock` in the data directory.
    pub control: Option<PathBuf>,
    /// Multiaddrs to listen on.
    pub listen: Vec<String>,
    /// Multiaddrs at which others dial this node, where it cannot know that itself: told to them as they are.
    pub external: Vec<String>,
    /// Multiaddrs of nodes to join.
    pub bootstrap: Vec<String>,
    /// Names with a port whose addresses are all dialled, looked up again and again: `magpie-headless.prod.svc:7400`.
    pub dns: Vec<String>,
    /// A file with one multiaddr a line, read again when it changes.
    pub peer_file: Option<PathBuf>,
    pub mdns: bool,
    /// Whether members tell this node of other members, and it them.
    pub members: bool,
    /// Multiaddrs, with `/p2p/PEER`, of members that are rendezvous points: this node registers there and asks for others.
    pub rendezvous: Vec<String>,
    /// Whether this node is a rendezvous point for others.
    pub rendezvous_point: bool,
    /// Multiaddrs, with `/p2p/PEER`, of members by way of which this node is reached where it cannot be dialled.
    pub relay_via: Vec<String>,
    /// Whether this node relays connections between members.
    pub relay_for_members: bool,
    /// Whether to ask the router of this node's site, over UPnP, to let others in.
    pub upnp: bool,
    /// Whether to find others by the Kademlia of members.
    pub kademlia: bool,
    /// A file with the cluster's key: who knows it is admitted.
    pub cluster_key: Option<PathBuf>,
    /// The public half of a cluster's key: admits its members and who has a ticket, without the right to issue any.
    pub cluster_public: Option<ClusterId>,
    /// A file with the ticket that admits this node where it does not hold the cluster's key.
    pub ticket_file: Option<PathBuf>,
    /// Peers that are admitted without the key.
    pub allow: Vec<PeerId>,
    pub labels: BTreeMap<String, String>,
    /// Tags that this node runs beside those of the mesh.
    pub tags: Vec<Tag>,
    /// Tasks that run at a time, those on devices aside; unset: one per core.
    pub slots: Option<u32>,
    /// After a SIGTERM, what runs may take so long to finish; then it is ended, to run again.
    pub drain_deadline: DurationMs,
    /// Weights of namespaces at this home: `research = 3` is granted three times what a namespace of weight 1 is.
    pub namespaces: BTreeMap<String, u32>,
    /// Limits of concurrency keys at this home: `gpu-api = 4` lets four of its tasks run at a time; unset: one.
    pub concurrency: BTreeMap<String, u32>,
    /// Limits of rate keys at this home: `openai = "60/min"`.
    pub rate: BTreeMap<String, Rate>,
    /// Tasks at this home that have not ended; more are refused, with when to ask again.
    pub live_tasks_max: usize,
    /// A registry of peers in an issue on GitHub.
    pub github: Option<GithubRegistry>,
    pub http: HttpConfig,
    /// MCP servers whose tools this node offers beside its own.
    pub mcp: McpConfig,
    pub process: ProcessConfig,
    pub retention: RetentionConfig,
    pub compaction: CompactionConfig,
    pub inference: InferenceConfig,
}

/// Where a registry of peers is on GitHub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GithubRegistry {
    /// `owner/name`
    pub repository: String,
    /// The issue whose comments are the registry.
    pub issue: u64,
    /// A file with a token that may write comments; unset: `MAGPIE_GITHUB_TOKEN`.
    pub token_file: Option<PathBuf>,
    /// Of an installation of one's own; unset: GitHub's.
    pub api: Option<String>,
}

impl GithubRegistry {
    /// As the network takes it, with the token that `variable` gives if no file is named.
    ///
    /// # Errors
    /// If a field cannot be right, or the file of the token cannot be used.
    pub fn resolve(&self, variable: impl Fn(&str) -> Option<OsString>) -> Result<GithubConfig, String> {
        let token = match &self.token_file {
            Some(file) => Some(Token::load(file).map_err(|error| error.to_string())?),
            None => {
                match variable(GITHUB_TOKEN_VARIABLE).filter(|value| !value.is_empty()).map(OsString::into_string) {
                    Some(Err(_)) => return Err(format!("{GITHUB_TOKEN_VARIABLE} is not UTF-8")),
                    Some(Ok(text)) => Some(Token(text)),
                    None => None,
                }
            }
        };
        let api = self.api.clone().unwrap_or_else(|| GITHUB_API.to_owned());
        let config = GithubConfig { repository: self.repository.clone(), issue: self.issue, token, api };
        config.check().map_err(|error| error.to_string())?;
        Ok(config)
    }
}

/// A token for the registry on GitHub.
pub const GITHUB_TOKEN_VARIABLE: &str = "MAGPIE_GITHUB_TOKEN";
const GITHUB_API: &str = "https://api.github.com";

/// How long ended work is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionConfig {
    /// Ended tasks and workflows.
    pub terminal: DurationMs,
    /// Dead tasks, and workflows with one.
    pub dead: DurationMs,
    /// What all tasks may take together; beyond it the oldest ended ones go early. Unset: 10 GiB, or a tenth of the
    /// volume if that is less.
    pub bytes: Option<u64>,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        let RetentionPolicy { terminal, dead, .. } = RetentionPolicy::default();
        Self { terminal, dead, bytes: None }
    }
}

impl RetentionConfig {
    fn validate(&self) -> Result<(), String> {
        let allowed = DurationMs(limits::RETENTION_MS_MIN)..=DurationMs(limits::RETENTION_MS_MAX);
        for (name, kept) in [("terminal", self.terminal), ("dead", self.dead)] {
            if !allowed.contains(&kept) {
                return Err(format!("{name} is {kept}, not {} to {}", allowed.start(), allowed.end()));
            }
        }
        match self.bytes {
            Some(bytes) if bytes < RETENTION_BYTES_MIN => {
                Err(format!("bytes is {bytes}: a home needs at least {RETENTION_BYTES_MIN}"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// What a home on a volume of so many bytes keeps.
    pub fn policy(&self, volume_bytes: u64) -> RetentionPolicy {
        let bytes_max = self.bytes.unwrap_or_else(|| limits::RETENTION_BYTES_MAX.min(volume_bytes / 10));
        RetentionPolicy { terminal: self.terminal, dead: self.dead, bytes_max }
    }
}

/// The least budget that leaves a home room to work.
const RETENTION_BYTES_MIN: u64 = 1024 * 1024;

/// When the ledger's log is made shorter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CompactionConfig {
    /// Records that are younger stay.
    pub keep: DurationMs,
    /// Less than this is not cut off.
    pub bytes: u64,
}

impl Default for CompactionConfig {
    fn default() -> Self {
        let CompactionPolicy { keep_ms, bytes_min, .. } = CompactionPolicy::default();
        Self { keep: DurationMs(keep_ms), bytes: bytes_min }
    }
}

impl CompactionConfig {
    fn validate(&self) -> Result<(), String> {
        let allowed = DurationMs(COMPACTION_KEEP_MS_MIN)..=DurationMs(limits::RETENTION_MS_MAX);
        if !allowed.contains(&self.keep) {
            return Err(format!("keep is {}, not {} to {}", self.keep, allowed.start(), allowed.end()));
        }
        Ok(())
    }

    pub fn policy(&self) -> CompactionPolicy {
        CompactionPolicy { keep_ms: self.keep.0, bytes_min: self.bytes, ..CompactionPolicy::default() }
    }
}

/// What an audit of something that happened just now may still read.
const COMPACTION_KEEP_MS_MIN: u64 = 1_000;

/// Where inference comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InferenceConfig {
    pub enabled: bool,
    /// The device process; unset: `node-device` beside this executable.
    pub device: Option<PathBuf>,
    /// Threads of the CPU device; 0: as many as cores.
    pub threads: u32,
    /// Directories that hold one directory per model; unset: the cache that `make build` fills.
    pub models: Vec<PathBuf>,
    /// Models that are loaded at the start.
    pub load: Vec<String>,
}

impl Default for InferenceConfig {
    fn default() -> Self {
        Self { enabled: true, device: None, threads: 0, models: Vec::new(), load: vec!["minilm".to_owned()] }
    }
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            data_dir: None,
            control: None,
            listen: vec!["/ip4/0.0.0.0/tcp/0".to_owned(), "/ip4/0.0.0.0/udp/0/quic-v1".to_owned()],
            external: Vec::new(),
            bootstrap: Vec::new(),
            dns: Vec::new(),
            peer_file: None,
            mdns: true,
            members: true,
            rendezvous: Vec::new(),
            rendezvous_point: false,
            relay_via: Vec::new(),
            relay_for_members: false,
            upnp: false,
            kademlia: false,
            cluster_key: None,
            cluster_public: None,
            ticket_file: None,
            allow: Vec::new(),
            labels: BTreeMap::new(),
            tags: Vec::new(),
            slots: None,
            drain_deadline: DurationMs(limits::DRAIN_DEADLINE_MS),
            namespaces: BTreeMap::new(),
            concurrency: BTreeMap::new(),
            rate: BTreeMap::new(),
            live_tasks_max: limits::TASKS_LIVE_MAX,
            github: None,
            http: HttpConfig::default(),
            mcp: McpConfig::default(),
            process: ProcessConfig::default(),
            retention: RetentionConfig::default(),
            compaction: CompactionConfig::default(),
            inference: InferenceConfig::default(),
        }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}: {source}", file.display())]
    Read { file: PathBuf, source: std::io::Error },
    #[error("{}:{line}: {problem}", file.display())]
    Wrong { file: PathBuf, line: usize, problem: String },
    #[error("{problem}")]
    Invalid { problem: String },
    #[error("no data directory: set --data-dir, XDG_DATA_HOME or HOME")]
    NoDataDir,
}

impl NodeConfig {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// The first problem with its line: syntax, an unknown key, a wrong type, a value out of range.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let text = files::text_of(file)?;
        let wrong = |line, problem| ConfigError::Wrong { file: file.to_owned(), line, problem };
        let config: Self = toml::from_str(&text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = text.get(..start).map_or(1, |before| before.lines().count().max(1));
            wrong(line + usize::from(text[..start].ends_with('\n')), error.message().to_owned())
        })?;
        config.validate().map_err(|problem| wrong(line_of(&text, &problem).unwrap_or(1), problem))?;
        Ok(config)
    }

    /// What TOML's types do not say.
    fn validate(&self) -> Result<(), String> {
        if self.slots == Some(0) {
            return Err("slots is 0: a node runs at least one task at a time".to_owned());
        }
        if self.slots.is_some_and(|slots| slots > 4_096) {
            return Err("slots is above 4096".to_owned());
        }
        if self.drain_deadline.0 > limits::TASK_TIMEOUT_MS_MAX {
            return Err("drain_deadline is above 7d".to_owned());
        }
        if self.inference.threads > 1_024 {
            return Err("threads is above 1024".to_owned());
        }
        for (key, addresses) in [("listen", &self.listen), ("external", &self.external), ("bootstrap", &self.bootstrap)]
        {
            for address in addresses {
                magpie_net::check_address(address).map_err(|error| format!("{key}: {error}"))?;
            }
        }
        for name in &self.dns {
            magpie_net::check_dns_name(name).map_err(|error| format!("dns: {error}"))?;
        }
        for relay in &self.relay_via {
            magpie_net::check_member(relay).map_err(|error| format!("relay_via: {error}"))?;
        }
        for point in &self.rendezvous {
            magpie_net::check_member(point).map_err(|error| format!("rendezvous: {error}"))?;
        }
        if let Some(github) = &self.github {
            let without_token = GithubRegistry { token_file: None, ..github.clone() };
            without_token.resolve(|_| None).map_err(|error| format!("[github]: {error}"))?;
        }
        self.http.validate()?;
        self.mcp.validate()?;
        self.retention.validate()?;
        self.compaction.validate()?;
        self.queue_settings().validate()
    }

    /// Takes up what the environment says of peers, as `variable` reads it: `MAGPIE_BOOTSTRAP` names addresses beside
    /// those of the file, `MAGPIE_PEER_FILE` another peer file.
    ///
    /// # Errors
    /// If a variable holds something else, in a sentence that names it.
    pub fn take_environment(&mut self, variable: impl Fn(&str) -> Option<OsString>) -> Result<(), ConfigError> {
        let invalid = |problem| ConfigError::Invalid { problem };
        let set = |name| variable(name).filter(|value| !value.is_empty());
        if let Some(addresses) = set(BOOTSTRAP_VARIABLE) {
            let text = addresses.to_str().ok_or_else(|| invalid(format!("{BOOTSTRAP_VARIABLE} is not UTF-8")))?;
            for address in text.split(|c: char| c == ',' || c.is_whitespace()).filter(|address| !address.is_empty()) {
                magpie_net::check_address(address)
                    .map_err(|error| invalid(format!("{BOOTSTRAP_VARIABLE}: {error}")))?;
                self.bootstrap.push(address.to_owned());
            }
        }
        if let Some(file) = set(PEER_FILE_VARIABLE) {
            self.peer_file = Some(peer_file(PathBuf::from(file)).map_err(invalid)?);
        }
        Ok(())
    }

    /// How this node's home orders its work.
    pub fn queue_settings(&self) -> QueueSettings {
        QueueSettings {
            weights: self.namespaces.clone(),
            concurrency: self.concurrency.clone(),
            rates: self.rate.clone(),
            live_tasks_max: self.live_tasks_max,
        }
    }

    /// Checks what did not come from a file.
    ///
    /// # Errors
    /// The first problem.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.validate().map_err(|problem| ConfigError::Invalid { problem })
    }

    /// Where the node keeps its data.
    ///
    /// # Errors
    /// If neither the configuration nor the environment says.
    pub fn resolved_data_dir(&self) -> Result<PathBuf, ConfigError> {
        match &self.data_dir {
            Some(dir) => Ok(dir.clone()),
            None => default_data_dir(),
        }
    }

    /// Where models are looked for.
    pub fn model_dirs(&self) -> Vec<PathBuf> {
        if self.inference.models.is_empty() {
            default_cache_dir().map(|dir| dir.join("models")).into_iter().collect()
        } else {
            self.inference.models.clone()
        }
    }
}

/// Multiaddrs of nodes to join, with commas or spaces between them.
pub const BOOTSTRAP_VARIABLE: &str = "MAGPIE_BOOTSTRAP";
/// The peer file, in place of the configuration's.
pub const PEER_FILE_VARIABLE: &str = "MAGPIE_PEER_FILE";

/// A peer file may come later, but not where there is a directory, or where there is no directory for it.
fn peer_file(file: PathBuf) -> Result<PathBuf, String> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if file.is_dir() {
        Err(format!("{PEER_FILE_VARIABLE}: {} is a directory, not a file with one multiaddr a line", file.display()))
    } else if !folder.is_dir() {
        Err(format!(
            "{PEER_FILE_VARIABLE}: there is no directory {} that {} could be in",
            folder.display(),
            file.display()
        ))
    } else {
        Ok(file)
    }
}

/// `$XDG_DATA_HOME/magpie`, else `~/.local/share/magpie`.
///
/// # Errors
/// If neither variable is set.
pub fn default_data_dir() -> Result<PathBuf, ConfigError> {
    xdg("XDG_DATA_HOME", ".local/share").map(|dir| dir.join("magpie")).ok_or(ConfigError::NoDataDir)
}

/// `$XDG_CONFIG_HOME/magpie`, else `~/.config/magpie`.
pub fn config_dir() -> Option<PathBuf> {
    xdg("XDG_CONFIG_HOME", ".config").map(|dir| dir.join("magpie"))
}

/// `$MAGPIE_CACHE`, else `$XDG_CACHE_HOME/magpie`, else `~/.cache/magpie`: where fetched models and libtorch are.
fn default_cache_dir() -> Option<PathBuf> {
    let own = std::env::var_os("MAGPIE_CACHE").map(PathBuf::from);
    own.or_else(|| xdg("XDG_CACHE_HOME", ".cache").map(|dir| dir.join("magpie")))
}

fn xdg(variable: &str, below_home: &str) -> Option<PathBuf> {
    let set = std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    set.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(below_home)))
}

/// The line that names what a problem begins with: a key, in quotes or with the table that it is in.
fn line_of(text: &str, problem: &str) -> Option<usize> {
    let key = problem.split([' ', ':']).next().unwrap_or_default().trim_matches('"');
    let begins = |key: &str| {
        let names = |line: &str| line.trim_start().trim_start_matches('"').starts_with(key);
        text.lines().position(names).map(|line| line + 1)
    };
    begins(key).or_else(|| begins(key.rsplit('.').next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("node.toml");
        std::fs::write(&file, text).unwrap();
        let error = NodeConfig::read(&file).unwrap_err().to_string();
        error.replace(&file.display().to_string(), "node.toml")
    }

    #[test]
    fn an_empty_file_is_the_default_which_admits_nobody() {
        let config: NodeConfig = toml::from_str("").unwrap();
        assert_eq!(config, NodeConfig::default());
        assert!(config.cluster_key.is_none() && config.allow.is_empty());
    }

    #[test]
    fn a_small_volume_keeps_a_tenth_of_itself() {
        let config = RetentionConfig::default();
        assert_eq!(config.policy(u64::MAX), RetentionPolicy::default());
        assert_eq!(config.policy(50 << 30).bytes_max, 5 << 30);
        assert_eq!(RetentionConfig { bytes: Some(1 << 40), ..config }.policy(50 << 30).bytes_max, 1 << 40);
    }

    #[test]
    fn a_log_is_cut_as_the_core_says_unless_the_file_says_otherwise() {
        assert_eq!(NodeConfig::default().compaction.policy(), CompactionPolicy::default());
        let config: NodeConfig = toml::from_str("[compaction]\nkeep = \"1h\"\nbytes = 1000\n").unwrap();
        let expected = CompactionPolicy { keep_ms: 3_600_000, bytes_min: 1_000, ..CompactionPolicy::default() };
        assert_eq!(config.compaction.policy(), expected);
    }

    #[test]
    fn every_configuration_that_a_page_shows_is_one() {
        for page in ["README.md", "docs/discovery.md"] {
            let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
            let shown = text.split("```toml\n").skip(1).map(|after| after.split("```").next().unwrap());
            let configs =
                shown.map(|text| toml::from_str::<NodeConfig>(text).unwrap_or_else(|error| panic!("{error}: {text}")));
            assert!(configs.map(|config| config.check().unwrap()).count() > 0, "{page} shows none");
        }
    }

    #[test]
    fn a_registry_on_github_takes_its_token_from_a_file_or_the_environment() {
        let text = "[github]\nrepository = \"owner/name\"\nissue = 7\n";
        let registry = toml::from_str::<NodeConfig>(text).unwrap().github.unwrap();
        let from_environment =
            registry.resolve(|name| (name == GITHUB_TOKEN_VARIABLE).then(|| "ghp_a".into())).unwrap();
        assert_eq!((from_environment.token, from_environment.api.as_str()), (Some(Token("ghp_a".into())), GITHUB_API));
        assert_eq!(registry.resolve(|_| None).unwrap().token, None);

        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "ghp_b\n").unwrap();
        let with_file = GithubRegistry { token_file: Some(file.clone()), ..registry };
        let mode = |mode| std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        mode(0o644);
        assert!(with_file.resolve(|_| Some("ghp_a".into())).unwrap_err().contains("may be read by others"));
        mode(0o600);
        assert_eq!(with_file.resolve(|_| Some("ghp_a".into())).unwrap().token, Some(Token("ghp_b".into())));
    }

    fn with_environment(variables: &[(&str, &str)]) -> Result<NodeConfig, String> {
        let mut config = NodeConfig { bootstrap: vec!["/ip4/10.0.0.1/tcp/1".to_owned()], ..NodeConfig::default() };
        let read = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        config.take_environment(read).map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn the_environment_adds_addresses_and_replaces_the_peer_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("peers");
        let addresses = " /dns4/a/tcp/1,/ip4/10.0.0.2/udp/1/quic-v1\n/dns4/b/tcp/1, ";
        let config = with_environment(&[
            (BOOTSTRAP_VARIABLE, addresses),
            (PEER_FILE_VARIABLE, file.to_str().unwrap()),
            ("MAGPIE_LISTEN", "nonsense"),
        ]);
        let config = config.unwrap();
        let expected = ["/ip4/10.0.0.1/tcp/1", "/dns4/a/tcp/1", "/ip4/10.0.0.2/udp/1/quic-v1", "/dns4/b/tcp/1"];
        assert_eq!(config.bootstrap, expected);
        assert_eq!(config.peer_file, Some(file));
        let unset = with_environment(&[(BOOTSTRAP_VARIABLE, ""), (PEER_FILE_VARIABLE, "")]).unwrap();
        assert_eq!((unset.bootstrap.len(), unset.peer_file), (1, None));
    }

    #[test]
    fn a_wrong_variable_is_refused_in_a_sentence_that_names_it() {
        let problem = |name, value| with_environment(&[(name, value)]).unwrap_err();
        let address = problem(BOOTSTRAP_VARIABLE, "/dns4/a/tcp/1 node-1:7400");
        assert!(address.starts_with("MAGPIE_BOOTSTRAP: \"node-1:7400\" is not a multiaddr"), "{address}");
        let dir = tempfile::tempdir().unwrap();
        let directory = problem(PEER_FILE_VARIABLE, dir.path().to_str().unwrap());
        assert!(directory.starts_with("MAGPIE_PEER_FILE: ") && directory.contains("is a directory"), "{directory}");
        let nowhere = problem(PEER_FILE_VARIABLE, dir.path().join("absent/peers").to_str().unwrap());
        assert!(nowhere.starts_with("MAGPIE_PEER_FILE: there is no directory"), "{nowhere}");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        assert!(problem("mdns = true\nslotz = 2\n").starts_with("node.toml:2: unknown field `slotz`"));
        assert!(problem("\n\nmdns = 3\n").starts_with("node.toml:3: invalid type"));
        assert!(problem("mdns = \n").starts_with("node.toml:1:"));
        assert!(problem("mdns = true\nslots = 0\n").starts_with("node.toml:2: slots is 0"));
        assert!(problem("live_tasks_max = 0\n").starts_with("node.toml:1: live_tasks_max is 0"));
        assert!(problem("live_tasks_max = 1000001\n").contains("keeps 1 to 1000000 tasks"));
        assert!(problem("[retention]\ndead = \"1m\"\n").starts_with("node.toml:2: dead is 1m, not 10m to 365d"));
        assert!(problem("[retention]\nbytes = 10\n").starts_with("node.toml:2: bytes is 10: a home needs"));
        assert!(problem("[compaction]\nkeep = \"10ms\"\n").starts_with("node.toml:2: keep is 10ms, not 1s to 365d"));
        let name = problem("mdns = false\ndns = [\"magpie\"]\n");
        assert!(name.starts_with("node.toml:2: dns: \"magpie\" is not a name and a port (it has no port)"), "{name}");
        let point = problem("rendezvous = [\"/ip4/10.0.0.7/tcp/1\"]\n");
        assert!(point.starts_with("node.toml:1: rendezvous: /ip4/10.0.0.7/tcp/1 names no peer"), "{point}");
        let github = problem("mdns = true\n[github]\nrepository = \"owner\"\nissue = 7\n");
        assert!(github.starts_with("node.toml:2: [github]: \"owner\" is not a repository"), "{github}");
        assert!(problem("allow = [\"me\"]\n").contains("is not a peer id"));
        assert!(problem("[concurrency]\ngpu-api = 0\n").starts_with("node.toml:2: gpu-api is 0: a concurrency key's"));
        let address = problem("mdns = false\nlisten = [\"/ip4/127.0.0.1/tcp/99999\"]\n");
        assert!(address.starts_with("node.toml:2: listen: ") && address.contains("is not a multiaddr"), "{address}");
        assert!(problem("bootstrap = [\"node-1:7400\"]\n").starts_with("node.toml:1: bootstrap: \"node-1:7400\""));
        let name = problem("[namespaces]\na = 2\nMine = 1\n");
        assert!(name.starts_with("node.toml:3: \"Mine\" is no name of a namespace"), "{name}");
        assert!(problem("[concurrency]\n\"a@b\" = 1\n").starts_with("node.toml:2: \"a@b\" is no name"));
        let host = problem("[http]\nhosts = [\"a b\"]\n");
        assert!(host.starts_with("node.toml:2: http.hosts: \"a b\" is none"), "{host}");
        assert!(problem("[http]\norigins = [\"app\"]\n").starts_with("node.toml:2: http.origins: \"app\" is none"));
        assert!(problem("[rate]\n\nopenai = \"60\"\n").starts_with("node.toml:3: \"60\" is not a rate"));
        assert!(problem("[namespaces]\na = 2\nresearch = 0\n").starts_with("node.toml:3: research is 0: a namespace"));
    }
}
