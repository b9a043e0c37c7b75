//! `[mcp.servers.NAME]`: other MCP servers, whose tools this node offers beside its own.

use std::collections::BTreeMap;

use magpie_core::limits;
use serde::{Deserialize, Serialize};

use crate::mcp::catalog::{Category, Scope};
use crate::mcp::surface::SurfaceName;

/// None unless some are named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct McpConfig {
    pub servers: BTreeMap<String, MountConfig>,
}

/// A server that is started as a process and spoken to on its standard input and output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MountConfig {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Its environment, beside `PATH`, `HOME`, `LANG` and `TMPDIR` of the node.
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
        if self.command.first().is_none_or(String::is_empty) {
            return Err("command is empty; write the command and its arguments as a list".to_owned());
        }
        if !(1..=limits::MOUNT_CALLS_MAX).contains(&self.calls) {
            return Err(format!("calls is {}, not 1 to {}", self.calls, limits::MOUNT_CALLS_MAX));
        }
        Ok(())
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
    fn a_server_has_a_name_of_its_own_a_command_and_a_bound() {
        assert_eq!(problem("[servers.files]\ncommand = [\"files-mcp\"]\n"), None);
        for (lines, words) in [
            ("[servers.Files]\ncommand = [\"x\"]\n", "a-z"),
            ("[servers.workflow]\ncommand = [\"x\"]\n", "own tools"),
            ("[servers.full]\ncommand = [\"x\"]\n", "own tools"),
            ("[servers.files]\ncommand = []\n", "command is empty"),
            ("[servers.files]\ncommand = [\"x\"]\ncalls = 0\n", "calls is 0"),
        ] {
            assert!(problem(lines).is_some_and(|problem| problem.contains(words)), "{lines}: {:?}", problem(lines));
        }
    }
}
