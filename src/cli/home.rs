//! `nodectl home`.

use clap::{Args, Subcommand};
use magpie_core::ids::LedgerId;
use magpie_core::queue::{LedgerReply, LedgerRequest};
use serde_json::json;

use super::args::Context;
use super::connection::{ANSWER_PATIENCE, unexpected};
use super::exit::{CommandError, Exit};
use super::shapes::Items;
use super::{human, operation, table};
use crate::messages::node::{HomeView, NodeReply, NodeRequest};
use crate::messages::{Answer, Body};

#[derive(Debug, Subcommand)]
pub enum HomeCommand {
    /// List the ledgers of the mesh and the nodes that serve them, as this node heard
    Ls,
    /// Let this copy of a suspended ledger go on, and no other
    Claim(ClaimArgs),
}

#[derive(Debug, Args)]
pub struct ClaimArgs {
    /// The ledger, as `nodectl status` names it
    ledger: LedgerId,
    /// What only the other copies have written is given up: say that it is meant
    #[arg(long)]
    accept_loss: bool,
}

impl HomeCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        match self {
            Self::Ls => list(context).await,
            Self::Claim(args) => claim(context, args).await,
        }
    }
}

async fn list(context: &Context) -> Result<Exit, CommandError> {
    let Answer::Node(NodeReply::Homes(items)) = context.link.ask(Body::Node(NodeRequest::Homes)).await? else {
        return Err(unexpected());
    };
    let items = Items { items };
    context.format.document(&items, || text(&items.items))?;
    Ok(Exit::Ok)
}

fn text(homes: &[HomeView]) -> String {
    let now = human::now();
    let row = |home: &HomeView| {
        let heard = if home.own { "this node".to_owned() } else { human::ago(home.last_seen, now) };
        [home.ledger.to_string(), home.peer_id.to_string(), home.tenure.to_string(), home.generation.to_string(), heard]
    };
    table::rows(["LEDGER", "HOME", "TENURE", "GENERATION", "HEARD"], homes.iter().map(row))
}

async fn claim(context: &Context, ClaimArgs { ledger, accept_loss }: ClaimArgs) -> Result<Exit, CommandError> {
    if !accept_loss {
        let what = format!(
            "this gives up what other copies of {ledger} accepted and committed and this one has not seen; \
             add --accept-loss"
        );
        return Err(CommandError::usage(what));
    }
    context.link.address(ledger.tag());
    let deadline = context.link.submission_deadline(None).await?;
    let request = LedgerRequest::Claim { operation: operation::fresh() };
    match context.link.insist_ledger(request, ANSWER_PATIENCE, deadline).await? {
        LedgerReply::Claimed { ledger } => {
            let told = || format!("{ledger} goes on here; its other copies stand still once they hear of it\n");
            context.format.document(&json!({"ledger": ledger, "claimed": true}), told)?;
            Ok(Exit::Ok)
        }
        _ => Err(unexpected()),
    }
}
