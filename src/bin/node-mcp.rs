use std::process::ExitCode;

use clap::Parser;

/// One thread: what comes in goes on to the node and back, and with several each step would wake another one.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    magpie::cli::mcp_args::McpArgs::parse().run().await
}
