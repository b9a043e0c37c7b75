//! `nodectl home`.

use clap::{Args, Subcommand};
use magpie_core::ids::LedgerId;
use magpie_core::queue::{LedgerReply, LedgerRequest};
use serde_json::json;

use super::args::Context;
use super::connection::{ANSWER_PATIENCE, unexpected};
use super::exit::{CommandError, Exit};
use super::operation;

#[derive(Debug, Subcommand)]
pub enum HomeCommand {
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
            Self::Claim(args) => claim(context, args).await,
        }
    }
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
