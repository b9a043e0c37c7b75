use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    magpie::executor::shim::main_if_shim();
    magpie::cli::node_args::NodeArgs::parse().run()
}
