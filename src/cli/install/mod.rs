//! `node-mcp install`: the entry that makes a host start `node-mcp`, in the host's own file.

mod entry;
mod file;
mod host;
mod json_file;
mod jsonc;
#[cfg(test)]
mod pages;
mod toml_file;

use std::path::PathBuf;

use clap::Args;

use super::exit::{CommandError, Exit};
use super::mcp_args::ServeArgs;
use super::output;
use crate::mcp::catalog::Catalog;
use crate::mcp::surface::Surface;
use entry::Entry;
use file::Written;
use host::{Format, Host};

/// Put this program into the configuration of a host of agents, or print what to put there
///
/// Other entries and comments stay as they are, and the file before the change is kept beside it.
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// The host
    #[arg(long, value_enum, value_name = "NAME")]
    client: Host,
    /// Print what the file would say of it, and change nothing
    #[arg(long)]
    print: bool,
    /// Another file than the host's usual one
    #[arg(long, value_name = "FILE", conflicts_with = "print")]
    file: Option<PathBuf>,
    /// What the host calls it
    #[arg(long, value_name = "NAME", default_value = "magpie", value_parser = name)]
    name: String,
    #[command(flatten)]
    serve: ServeArgs,
}

impl InstallArgs {
    /// # Errors
    /// Exit code 2, with what is wrong and nothing changed.
    pub fn run(self) -> Result<(), CommandError> {
        let Self { client, print, file, name, serve } = self;
        // A host would not show why the program that it starts ends at once.
        Surface::new(Catalog::shared(), &serve.surface()).map_err(|error| CommandError::usage(error.to_string()))?;
        let entry = Entry { name, command: own_path()?, args: serve.as_given().map_err(CommandError::usage)? };
        if print {
            return output::print(&client.snippet(&entry));
        }
        // A host makes its own folders; where somebody names a file, a missing one is more likely mistyped.
        let is_usual = file.is_none();
        let file = file.map_or_else(|| client.file(&|name| std::env::var_os(name)).map_err(CommandError::usage), Ok)?;
        let told = |problem: String| {
            let by_hand = format!("put this there by hand:\n{}", client.snippet(&entry));
            CommandError::usage(format!("{}: {problem}; {by_hand}", file.display()))
        };
        let before =
            file::read(&file).map_err(|problem| CommandError::usage(format!("{}: {problem}", file.display())))?;
        let after = match client.format() {
            Format::Json { key, typed } => json_file::with(before.as_deref().unwrap_or_default(), key, &entry, typed),
            Format::Toml => toml_file::with(before.as_deref().unwrap_or_default(), &entry),
        };
        let after = after.map_err(told)?;
        let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty());
        if let Some(dir) = dir.filter(|dir| !is_usual && !dir.is_dir()) {
            let what =
                format!("{}: there is no directory {}: make it, or name another file", file.display(), dir.display());
            return Err(CommandError::usage(what));
        }
        let written = file::replace(&file, before.as_deref(), &after, is_usual);
        let written = written
            .map_err(|error| CommandError::new(Exit::Failed, format!("cannot write {}: {error}", file.display())))?;
        let file = file.display();
        output::print(&match written {
            Written::Same => format!("{file} has it already\n"),
            Written::New => format!("{file} is made; {}\n", client.next()),
            Written::Changed { kept } => {
                format!("{file} has it; before it was as {}; {}\n", kept.display(), client.next())
            }
        })
    }
}

/// Where this program is: a host's search path is not the shell's.
fn own_path() -> Result<String, CommandError> {
    let path = std::env::current_exe().map_err(|error| CommandError::new(Exit::Failed, error.to_string()))?;
    path.into_os_string().into_string().map_err(|path| CommandError::usage(format!("{path:?} is not UTF-8")))
}

/// Hosts make names of tools from it.
fn name(text: &str) -> Result<String, String> {
    const NAME_LEN_MAX: usize = 32;
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    if !text.is_empty() && text.len() <= NAME_LEN_MAX && text.chars().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is no name: letters, digits, - _ and at most {NAME_LEN_MAX}"))
}
