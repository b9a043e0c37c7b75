//! `nodectl completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::NodectlArgs;
use super::exit::{CommandError, Exit};
use super::output;

/// Print a completion script for a shell
///
/// To use it: source <(nodectl completions bash)
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    shell: Shell,
}

impl CompletionsArgs {
    pub fn run(&self) -> Result<Exit, CommandError> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut NodectlArgs::command(), "nodectl", &mut script);
        output::print_bytes(&script)?;
        Ok(Exit::Ok)
    }
}
