//! `--watch`: a command that shows something, again and again.

use std::io::{IsTerminal, stdout};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::Parser;
use serde::Serialize;

use super::args::{Command, Context, NodectlArgs};
use super::exit::{CommandError, Exit};
use super::output::{Format, print};

pub const NOT_A_LOOK: &str = "--watch is for what shows something and changes nothing: status, ls, get, show, stats, \
                              why-pending, metrics, tree and stat; `events --follow`, `task logs -f` and `--wait` \
                              follow by themselves";
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// To the upper left corner, with nothing below.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// What was shown last.
#[derive(Debug, Default)]
pub struct Watch(Mutex<Option<String>>);

impl Watch {
    /// Runs `command` every second. While the node is away it goes on trying, once it has shown something.
    ///
    /// # Errors
    /// As the command's own.
    pub async fn run(&self, mut command: Command, context: &Context) -> Result<Exit, CommandError> {
        let mut is_away = false;
        loop {
            match command.run(context).await {
                Ok(_) => is_away = false,
                Err(error) if error.exit == Exit::Unreachable && self.has_shown() => {
                    if !std::mem::replace(&mut is_away, true) {
                        eprintln!("nodectl: {error}; trying again");
                    }
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(LOOK_EVERY).await;
            // A command is spent by its run.
            command = NodectlArgs::parse().command;
        }
    }

    fn has_shown(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Prints it unless it is what was shown last: on a terminal in the place of that, else below it.
    ///
    /// # Errors
    /// If standard output cannot be written to.
    pub fn show(
        &self,
        format: Format,
        document: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), CommandError> {
        let shown = format.in_line(document, text);
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref() == Some(&shown) {
            return Ok(());
        }
        let clear = if stdout().is_terminal() { CLEAR } else { "" };
        print(&format!("{clear}{shown}"))?;
        *last = Some(shown);
        Ok(())
    }
}
