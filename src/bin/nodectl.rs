use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    magpie::cli::NodectlArgs::parse().run()
}
