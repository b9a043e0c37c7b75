//! `nodectl key`.

use clap::Subcommand;
use magpie_core::access::ClusterId;

use super::args::Context;
use super::connection::unexpected;
use super::exit::{CommandError, Exit};
use super::{human, table, token};
use crate::messages::access::{AccessReply, AccessRequest, KeyView};

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Show this node's identity, whose members and tickets it accepts, and by what it is admitted; nothing secret
    Show,
}

impl KeyCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        let Self::Show = self;
        let AccessReply::Key(view) = token::ask(context, AccessRequest::ShowKey).await? else {
            return Err(unexpected());
        };
        context.format.document(&view, || text(&view))?;
        Ok(Exit::Ok)
    }
}

fn text(view: &KeyView) -> String {
    let accepted: Vec<String> = view.accepted.iter().map(ClusterId::to_string).collect();
    let own = table::details([
        ("peer id", view.peer_id.to_string()),
        ("cluster key held", human::or_dash(view.cluster)),
        ("accepted", if accepted.is_empty() { "-".to_owned() } else { accepted.join(" ") }),
        ("revocations", view.revocations.to_string()),
    ]);
    match &view.ticket {
        Some(ticket) => format!("{own}\nadmitted elsewhere by:\n{}", token::details(ticket)),
        None => own,
    }
}
