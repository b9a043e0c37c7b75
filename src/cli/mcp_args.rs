//! The arguments of `node-mcp`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use super::exit::Exit;
use super::install::InstallArgs;
use crate::mcp::catalog::Scope;
use crate::mcp::surface::SurfaceOptions;
use crate::mcp::{ServeError, ServeOptions};

/// Serves MCP on standard input and output for the node behind a control socket. It keeps no state; while the node is
/// away every tool says how to start it.
#[derive(Debug, Parser)]
#[command(name = "node-mcp", version, args_conflicts_with_subcommands = true)]
pub struct McpArgs {
    #[command(flatten)]
    serve: ServeArgs,
    #[command(subcommand)]
    command: Option<McpCommand>,
}

#[derive(Debug, Subcommand)]
enum McpCommand {
    Install(InstallArgs),
}

/// What is served.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// The node's control socket
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// List these directly: manager, core, full, or categories, which bound what may be called
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    toolset: Vec<String>,
    /// What the client may do: read, submit, operate, admin
    #[arg(long, value_name = "SCOPE", default_value = "submit")]
    scope: Scope,
    /// Refuse every tool that changes anything
    #[arg(long)]
    read_only: bool,
    /// The same as --toolset full
    #[arg(long)]
    flat: bool,
}

impl ServeArgs {
    /// The arguments that say the same to a program which another one starts, wherever it stands.
    ///
    /// # Errors
    /// If the socket's path is no text, or the working directory is gone.
    pub fn as_given(&self) -> Result<Vec<String>, String> {
        let mut given = Vec::new();
        if let Some(control) = &self.control {
            let path = std::path::absolute(control).map_err(|error| format!("{}: {error}", control.display()))?;
            let path = path.into_os_string().into_string();
            given.extend(["--control".to_owned(), path.map_err(|path| format!("{path:?} is not UTF-8"))?]);
        }
        if !self.toolset.is_empty() {
            given.extend(["--toolset".to_owned(), self.toolset.join(",")]);
        }
        if self.scope != Scope::Submit {
            given.extend(["--scope".to_owned(), self.scope.name().to_owned()]);
        }
        given.extend(self.read_only.then(|| "--read-only".to_owned()));
        given.extend(self.flat.then(|| "--flat".to_owned()));
        Ok(given)
    }

    pub fn surface(&self) -> SurfaceOptions {
        SurfaceOptions { toolset: self.toolset.clone(), read_only: self.read_only, flat: self.flat }
    }
}

impl McpArgs {
    /// Serves until the client closes, or does what else it was told.
    pub async fn run(self) -> ExitCode {
        if let Some(McpCommand::Install(install)) = self.command {
            return match install.run() {
                Ok(()) => Exit::Ok.into(),
                Err(error) => {
                    eprintln!("node-mcp: {error}");
                    error.exit.into()
                }
            };
        }
        crate::telemetry::init();
        let surface = self.serve.surface();
        let options = ServeOptions { control: self.serve.control, surface, scope: self.serve.scope };
        let Err(error) = crate::mcp::serve(options).await else { return Exit::Ok.into() };
        eprintln!("node-mcp: {error}");
        let is_usage = matches!(error, ServeError::Toolset(_) | ServeError::Config(_));
        if is_usage { Exit::Usage.into() } else { Exit::Failed.into() }
    }
}
