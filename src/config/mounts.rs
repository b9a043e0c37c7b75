//! `[mcp]`: what clients of other nodes may do with this one's tools. `[mcp.servers.NAME]`: other MCP servers, whose
//! tools this node offers beside its own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use magpie_core::limits;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::mcp::catalog::{Category, Scope};
use crate::mcp::surface::SurfaceName;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct McpConfig {
    pub peer_scope: PeerScope,
    /// None unless some are named.
    pub servers: BTreeMap<String, MountConfig>,
}

/// The most that calls of tools by other nodes may do here: a scope, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerScope(pub Option<Scope>);

/// What a member may do to this node's queue anyway.
impl Default for PeerScope {
    fn default() -> Self {
        Self(Some(Scope::Submit))
    }
}

const PEERS_OFF: &str = "off";

impl Serialize for PeerScope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.map_or(PEERS_OFF, Scope::name))
    }
}

impl<'de> Deserialize<'de> for PeerScope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            PEERS_OFF => Ok(Self(None)),
            name => match name.parse() {
                Ok(scope) => Ok(Self(Some(scope))),
                Err(problem) => Err(serde::de::Error::custom(format!("peer_scope: {problem}, or {PEERS_OFF}"))),
            },
        }
    }
}

/// A server that is started as a process and spoken to on its standard input and output, or one that is reached over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MountConfig {
    /// The command and its arguments.
    #[serde(default)]
    pub command: Vec<String>,
    /// Of a server that speaks streamable HTTP.
    #[serde(default)]
    pub url: Option<String>,
    /// A file with the bearer token that such a server asks for.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// A process's environment, beside `PATH`, `HOME`, `LANG` and `TMPDIR` of the node.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// One line for those who choose among categories; unset: what the server says of itself.
    #[serde(default)]
    pub description: Option<String>,
    /// What a caller must be allowed to do to call a tool that is not said to be read-only.
    #[serde(default = "submit")]
    pub scope: Scope,
    /// Calls that run at a time; more are refused.
    #[serde(default = "calls")]
    pub calls: usize,
}

fn submit() -> Scope {
    Scope::Submit
}

fn calls() -> usize {
    limits::MOUNT_CALLS
}

impl McpConfig {
    pub(super) fn validate(&self) -> Result<(), String> {
        if self.servers.len() > limits::MOUNTS_MAX {
            return Err(format!("mcp.servers names {} servers, more than {}", self.servers.len(), limits::MOUNTS_MAX));
        }
        self.servers.iter().try_for_each(|(name, server)| {
            check_name(name)?;
            server.validate().map_err(|problem| format!("mcp.servers.{name}: {problem}"))
        })
    }
}

/// A server's name is a category's, and a part of its tools' names.
fn check_name(name: &str) -> Result<(), String> {
    let letters =
        name.bytes().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || b"-_".contains(&letter));
    if name.is_empty() || name.len() > limits::MOUNT_NAME_BYTES_MAX || !letters {
        return Err(format!(
            "mcp.servers.{name}: a name has 1 to {} of a-z, 0-9, - and _",
            limits::MOUNT_NAME_BYTES_MAX
        ));
    }
    if Category::named(name).is_some() || SurfaceName::named(name).is_ok() {
        return Err(format!("mcp.servers.{name}: the node's own tools have that name; take another"));
    }
    Ok(())
}

impl MountConfig {
    fn validate(&self) -> Result<(), String> {
        match (&self.url, self.command.first().filter(|command| !command.is_empty())) {
            (None, None) => return Err("name a command, as a list with its arguments, or a url".to_owned()),
            (Some(_), Some(_)) => return Err("it has a command and a url; name one of the two".to_owned()),
            (Some(url), None) => check_url(url)?,
            (None, Some(_)) if self.token_file.is_some() => {
                return Err("token_file is of servers with a url; give a process its token in env".to_owned());
            }
            (None, Some(_)) => {}
        }
        if !(1..=limits::MOUNT_CALLS_MAX).contains(&self.calls) {
            return Err(format!("calls is {}, not 1 to {}", self.calls, limits::MOUNT_CALLS_MAX));
        }
        Ok(())
    }
}

fn check_url(url: &str) -> Result<(), String> {
    let uri: http::Uri = url.parse().map_err(|error| format!("url {url:?}: {error}"))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(_)) => Ok(()),
        _ => Err(format!("url {url:?} is not one as https://mcp.example/mcp")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(lines: &str) -> Option<String> {
        let config: McpConfig = toml::from_str(lines).unwrap();
        config.validate().err()
    }

    #[test]
    fn other_nodes_may_submit_unless_it_says_otherwise() {
        let scope = |lines: &str| toml::from_str::<McpConfig>(lines).map(|config| config.peer_scope.0);
        assert_eq!(scope(""), Ok(Some(Scope::Submit)));
        assert_eq!(scope("peer_scope = \"off\"\n"), Ok(None));
        assert_eq!(scope("peer_scope = \"operate\"\n"), Ok(Some(Scope::Operate)));
        let problem = scope("peer_scope = \"all\"\n").unwrap_err().to_string();
        assert!(problem.contains("read, submit, operate, admin, or off"), "{problem}");
    }

    #[test]
    fn a_server_has_a_name_of_its_own_a_command_and_a_bound() {
        assert_eq!(problem("[servers.files]\ncommand = [\"files-mcp\"]\n"), None);
        for (lines, words) in [
            ("[servers.Files]\ncommand = [\"x\"]\n", "a-z"),
            ("[servers.workflow]\ncommand = [\"x\"]\n", "own tools"),
            ("[servers.full]\ncommand = [\"x\"]\n", "own tools"),
            ("[servers.files]\ncommand = []\n", "or a url"),
            ("[servers.files]\ncommand = [\"x\"]\nurl = \"http://localhost/mcp\"\n", "one of the two"),
            ("[servers.files]\nurl = \"ftp://localhost/mcp\"\n", "https://"),
            ("[servers.files]\ncommand = [\"x\"]\ntoken_file = \"t\"\n", "in env"),
            ("[servers.files]\ncommand = [\"x\"]\ncalls = 0\n", "calls is 0"),
        ] {
            assert!(problem(lines).is_some_and(|problem| problem.contains(words)), "{lines}: {:?}", problem(lines));
        }
    }
}
