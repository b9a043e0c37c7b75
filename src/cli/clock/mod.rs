//! `nodectl clock`.

mod verify;

use clap::Subcommand;
use magpie_core::clock::SignedHead;

use crate::cli::args::Context;
use crate::cli::connection::unexpected;
use crate::cli::exit::{CommandError, Exit};
use crate::cli::table;
use crate::messages::clock::{ClockReply, ClockRequest, ClockView};
use crate::messages::{Answer, Body};

#[derive(Debug, Subcommand)]
pub enum ClockCommand {
    /// Show the Merkle clock: how far each ledger has come, as this node knows
    Show,
    /// Check every head's signature, the Merkle root, this node's own chain against its log, and compare with peers;
    /// exit code 1 if something is wrong
    Verify,
}

impl ClockCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        match self {
            Self::Show => show(context).await,
            Self::Verify => verify::run(context).await,
        }
    }
}

async fn show(context: &Context) -> Result<Exit, CommandError> {
    let Answer::Clock(ClockReply::Clock(view)) = context.link.ask(Body::Clock(ClockRequest::Show)).await? else {
        return Err(unexpected());
    };
    context.document(&view, || text(&view))?;
    Ok(Exit::Ok)
}

fn text(view: &ClockView) -> String {
    let row = |signed: &SignedHead| {
        let head = &signed.head;
        [
            head.ledger.to_string(),
            head.peer.to_string(),
            head.generation.to_string(),
            head.count.to_string(),
            head.event.to_string(),
        ]
    };
    let details = table::details([
        ("node", view.node.to_string()),
        ("merkle root", view.merkle_root.clone()),
        ("heads refused", view.refused.to_string()),
        ("equivocations", view.equivocations.to_string()),
    ]);
    let heads = table::rows(["LEDGER", "HOME", "GENERATION", "EVENTS", "LAST EVENT"], view.heads.iter().map(row));
    format!("{details}\n{heads}")
}
