use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    magpie::cli::mcp_args::McpArgs::parse().run().await
}
