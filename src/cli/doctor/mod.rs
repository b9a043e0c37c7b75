//! `nodectl doctor`: the checks that a colleague would make, in words, with what to do.
//!
//! It works with a node and without one. Each check is one function that looks and changes nothing.

mod clock;
mod devices;
mod disk;
mod files;
mod models;
mod network;
mod place;
mod ports;
mod process;
mod reach;

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use self::place::Place;
use super::exit::{CommandError, Exit};
use super::output::Format;
use super::table;
use crate::messages::node::NodeStatus;
use crate::messages::peer::ContactsView;

/// Say what is wrong with this node and its surroundings, and what to do
///
/// Exit code 1 if there is a fault. It needs no node: that none runs is a fault only where no configuration is named.
#[derive(Debug, Default, Args)]
pub struct DoctorArgs {
    /// The node's configuration file: without it, what a running node says and what every node has is looked at
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The node's data directory (default: that of the configuration, else where the control socket is)
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    /// It works, and may stop working, or does not do all that it could.
    Warning,
    Fault,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fault => "FAULT",
        }
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    found: String,
    /// What to do about it.
    remedy: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, found: found.into(), remedy: None }
    }

    fn warning(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warning, found: found.into(), remedy: Some(remedy.into()) }
    }

    fn fault(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Fault, found: found.into(), remedy: Some(remedy.into()) }
    }
}

/// What a running node says of itself.
struct Heard {
    status: NodeStatus,
    contacts: ContactsView,
}

#[derive(Serialize)]
pub struct Report {
    checks: Vec<Check>,
}

impl DoctorArgs {
    /// # Errors
    /// If standard output cannot be written to: all else is what is examined.
    pub async fn run(self, control: Option<PathBuf>, format: Format) -> Result<Exit, CommandError> {
        let report = self.report(control).await;
        format.document(&report, || in_words(&report.checks))?;
        let is_sound = report.checks.iter().all(|check| check.verdict != Verdict::Fault);
        Ok(if is_sound { Exit::Ok } else { Exit::Failed })
    }

    /// What was found at the node behind this control socket, and around it.
    pub async fn report(self, control: Option<PathBuf>) -> Report {
        Report { checks: self.examine(control).await }
    }

    async fn examine(self, control: Option<PathBuf>) -> Vec<Check> {
        let (place, config) = Place::find(self, control);
        let mut checks = vec![config];
        let (process, heard) = process::check(&place).await;
        let runs = heard.is_some();
        checks.push(process);
        checks.extend(files::check(&place));
        checks.extend(files::tokens(&place, heard.as_ref()));
        checks.push(disk::check(&place, heard.as_ref()));
        checks.extend(ports::check(&place, runs, heard.as_ref()));
        checks.extend(match &heard {
            Some(heard) => network::of_the_node(heard),
            None => network::by_hand(&place).await,
        });
        checks.extend(heard.as_ref().map(clock::check));
        checks.push(models::check(&place));
        checks.extend(devices::check(&place, heard.as_ref()).await);
        checks
    }
}

fn in_words(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        let found = table::printable(&check.found);
        text += &format!("{:<8} {:<13} {found}\n", check.verdict.name(), check.name);
        if let Some(remedy) = &check.remedy {
            text += &format!("{:>22} -> {}\n", "", table::printable(remedy));
        }
    }
    let count = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    format!("{text}\n{} faults, {} warnings\n", count(Verdict::Fault), count(Verdict::Warning))
}
