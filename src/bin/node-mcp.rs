use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use magpie::mcp::catalog::Scope;
use magpie::mcp::surface::SurfaceOptions;
use magpie::mcp::{ServeError, ServeOptions};

/// Serves MCP on standard input and output for the node behind a control socket. It keeps no state; while the node is
/// away every tool says how to start it.
#[derive(Parser)]
#[command(name = "node-mcp", version)]
struct Arguments {
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

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { control, toolset, scope, read_only, flat } = Arguments::parse();
    magpie::telemetry::init();
    let options = ServeOptions { control, surface: SurfaceOptions { toolset, read_only, flat }, scope };
    let Err(error) = magpie::mcp::serve(options).await else { return ExitCode::SUCCESS };
    eprintln!("node-mcp: {error}");
    let is_usage = matches!(error, ServeError::Toolset(_) | ServeError::Config(_));
    ExitCode::from(if is_usage { 2 } else { 1 })
}
