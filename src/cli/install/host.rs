//! The hosts: where each keeps its configuration, and in which form.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::ValueEnum;

use super::entry::Entry;
use super::{json_file, toml_file};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Host {
    ClaudeCode,
    ClaudeDesktop,
    Vscode,
    Cursor,
    Codex,
    GeminiCli,
    Zed,
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Servers by name under `key`, in JSON that may have comments. `typed`: each says that it is of standard input.
    Json { key: &'static str, typed: bool },
    /// A table `mcp_servers.NAME`.
    Toml,
}

impl Host {
    pub fn format(self) -> Format {
        match self {
            Self::ClaudeCode => Format::Json { key: "mcpServers", typed: true },
            Self::ClaudeDesktop | Self::Cursor | Self::GeminiCli => Format::Json { key: "mcpServers", typed: false },
            Self::Vscode => Format::Json { key: "servers", typed: true },
            Self::Zed => Format::Json { key: "context_servers", typed: false },
            Self::Codex => Format::Toml,
        }
    }

    /// What the file of a host that knows no other server says.
    pub fn snippet(self, entry: &Entry) -> String {
        match self.format() {
            Format::Json { key, typed } => json_file::alone(key, entry, typed),
            Format::Toml => toml_file::alone(entry),
        }
    }

    /// The file of this user. Claude Code has it for a project, here: its own state is in the user's.
    ///
    /// # Errors
    /// If the environment does not say where the user's files are.
    pub fn file(self, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<PathBuf, String> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = || set("HOME").ok_or_else(|| "HOME is not set; name the file with --file".to_owned());
        let config = || set("XDG_CONFIG_HOME").map_or_else(|| Ok(home()?.join(".config")), Ok::<_, String>);
        let applications = || if IS_MAC { Ok(home()?.join("Library/Application Support")) } else { config() };
        Ok(match self {
            Self::ClaudeCode => PathBuf::from(".mcp.json"),
            Self::ClaudeDesktop => applications()?.join("Claude/claude_desktop_config.json"),
            Self::Vscode => applications()?.join("Code/User/mcp.json"),
            Self::Cursor => home()?.join(".cursor/mcp.json"),
            Self::Codex => {
                set("CODEX_HOME").map_or_else(|| Ok(home()?.join(".codex")), Ok::<_, String>)?.join("config.toml")
            }
            Self::GeminiCli => home()?.join(".gemini/settings.json"),
            Self::Zed if IS_MAC => home()?.join(".config/zed/settings.json"),
            Self::Zed => config()?.join("zed/settings.json"),
        })
    }

    /// What to do then.
    pub fn next(self) -> &'static str {
        match self {
            Self::ClaudeCode => "start claude in this folder and approve the server; /mcp shows it",
            Self::ClaudeDesktop => "quit Claude Desktop and start it again",
            Self::Vscode => "run `MCP: List Servers` and start it",
            Self::Cursor => "reload Cursor's window",
            Self::Codex => "start codex; /mcp shows it",
            Self::GeminiCli => "start gemini; /mcp shows it",
            Self::Zed => "Zed starts it at once",
        }
    }
}

const IS_MAC: bool = cfg!(target_os = "macos");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_where_the_environment_says() {
        let file = |host: Host, set: &[(&str, &str)]| {
            let variable =
                |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
            host.file(&variable)
        };
        let home = [("HOME", "/home/ann"), ("XDG_CONFIG_HOME", "")];
        assert_eq!(file(Host::Cursor, &home).unwrap(), PathBuf::from("/home/ann/.cursor/mcp.json"));
        assert_eq!(file(Host::Codex, &home).unwrap(), PathBuf::from("/home/ann/.codex/config.toml"));
        assert_eq!(file(Host::ClaudeCode, &[]).unwrap(), PathBuf::from(".mcp.json"));
        assert!(file(Host::GeminiCli, &[]).unwrap_err().contains("--file"));
        assert_eq!(file(Host::Codex, &[("CODEX_HOME", "/c")]).unwrap(), PathBuf::from("/c/config.toml"));
        if !IS_MAC {
            let config = [("HOME", "/home/ann"), ("XDG_CONFIG_HOME", "/conf")];
            assert_eq!(file(Host::Zed, &config).unwrap(), PathBuf::from("/conf/zed/settings.json"));
            assert_eq!(file(Host::Vscode, &home).unwrap(), PathBuf::from("/home/ann/.config/Code/User/mcp.json"));
        }
    }
}
