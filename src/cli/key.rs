//! `nodectl key`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use magpie_core::access::ClusterId;

use super::args::{Context, duration};
use super::connection::unexpected;
use super::exit::{CommandError, Exit};
use super::home::whole;
use super::{human, table, token};
use crate::messages::access::{AccessReply, AccessRequest, KeyView};

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Show this node's identity, whose members and tickets it accepts, and by what it is admitted; nothing secret
    Show,
    /// Take a new cluster key at this node; the former one admits as well until the overlap is over
    Rotate(RotateArgs),
}

#[derive(Debug, Args)]
pub struct RotateArgs {
    /// A file on the node's machine with the new key, mode 600
    file: PathBuf,
    /// How long the former key admits: until all nodes have the new one; the same file again changes it, 0s ends it
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
    overlap: Duration,
}

impl KeyCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        let request = match self {
            Self::Show => AccessRequest::ShowKey,
            Self::Rotate(RotateArgs { file, overlap }) => {
                AccessRequest::RotateKey { file: whole(&file)?, overlap_ms: overlap.as_millis() as u64 }
            }
        };
        let AccessReply::Key(view) = token::ask(context, request).await? else {
            return Err(unexpected());
        };
        context.document(&view, || text(&view))?;
        Ok(Exit::Ok)
    }
}

fn text(view: &KeyView) -> String {
    let accepted: Vec<String> = view.accepted.iter().map(ClusterId::to_string).collect();
    let own = table::details([
        ("peer id", view.peer_id.to_string()),
        ("cluster key held", human::or_dash(view.cluster)),
        ("former key", human::or_dash(view.former.map(|former| format!("{} until {}", former.cluster, former.until)))),
        ("accepted", if accepted.is_empty() { "-".to_owned() } else { accepted.join(" ") }),
        ("revocations", view.revocations.to_string()),
    ]);
    match &view.ticket {
        Some(ticket) => format!("{own}\nadmitted elsewhere by:\n{}", token::details(ticket)),
        None => own,
    }
}
