//! `nodectl home`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use magpie_core::ids::{LedgerId, PeerId};
use magpie_core::queue::{LedgerReply, LedgerRequest};
use serde_json::json;

use super::args::Context;
use super::connection::{ANSWER_PATIENCE, unexpected};
use super::exit::{CommandError, Exit};
use super::shapes::Items;
use super::{human, operation, peer, table};
use crate::messages::node::{HomeMove, HomeView, NodeReply, NodeRequest};
use crate::messages::{Answer, Body};

/// A whole ledger with its blobs goes to a disk meanwhile, or comes from there.
const MOVE_PATIENCE: Duration = Duration::from_secs(3_600);

#[derive(Debug, Subcommand)]
pub enum HomeCommand {
    /// List the ledgers of the mesh and the nodes that serve them, as this node heard
    Ls,
    /// Seal this node's ledger for another node, for good, and write it to a file
    Export(ExportArgs),
    /// Serve a ledger that was exported for this node, in place of its own, which must never have held anything
    Import(ImportArgs),
    /// Let this copy of a suspended ledger go on, and no other
    Claim(ClaimArgs),
}

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The ledger, as `nodectl status` names it
    ledger: LedgerId,
    /// A file on the node's machine; run again, the same file is made again
    file: PathBuf,
    /// The member that serves it from then on, and no other
    #[arg(long, value_name = "PEER")]
    to: String,
    /// This node never serves the ledger again: say that it is meant
    #[arg(long)]
    confirm: bool,
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// A file on the node's machine, which `home export` made
    file: PathBuf,
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
            Self::Export(args) => export(context, args).await,
            Self::Import(args) => import(context, &args.file).await,
            Self::Claim(args) => claim(context, args).await,
        }
    }
}

async fn list(context: &Context) -> Result<Exit, CommandError> {
    let Answer::Node(NodeReply::Homes(items)) = context.link.ask(Body::Node(NodeRequest::Homes)).await? else {
        return Err(unexpected());
    };
    let items = Items { items };
    context.document(&items, || text(&items.items))?;
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

async fn export(context: &Context, args: ExportArgs) -> Result<Exit, CommandError> {
    let ExportArgs { ledger, file, to, confirm } = args;
    let to = member(context, &to).await?;
    if !confirm {
        let what = format!(
            "this seals {ledger} for good: this node never serves it again, and {to} alone can, once it imported the \
             file; add --confirm"
        );
        return Err(CommandError::usage(what));
    }
    let request = NodeRequest::ExportHome { ledger, to, file: whole(&file)? };
    match context.link.try_ask(Body::Node(request), MOVE_PATIENCE).await? {
        Answer::Node(NodeReply::HomeExported(moved)) => {
            let told = || {
                format!(
                    "{ledger} is sealed and in {} ({}); this node answers for it no more\n\
                     take the file to {to}, and run there: nodectl home import FILE\n",
                    table::printable(&moved.file),
                    contents(&moved)
                )
            };
            context.document(&moved, told)?;
            Ok(Exit::Ok)
        }
        _ => Err(unexpected()),
    }
}

async fn import(context: &Context, file: &Path) -> Result<Exit, CommandError> {
    let request = NodeRequest::ImportHome { file: whole(file)? };
    match context.link.try_ask(Body::Node(request), MOVE_PATIENCE).await? {
        Answer::Node(NodeReply::HomeImported(moved)) => {
            let told = || format!("{} is served here from now on ({})\n", moved.ledger, contents(&moved));
            context.document(&moved, told)?;
            Ok(Exit::Ok)
        }
        _ => Err(unexpected()),
    }
}

/// A ledger goes to a node that is there: to one that nobody knows it would be lost.
async fn member(context: &Context, typed: &str) -> Result<PeerId, CommandError> {
    let to = peer::resolve(context, typed).await?;
    let is_member = peer::list(context).await?.iter().any(|view| view.peer_id == to);
    let what =
        || format!("{to} is no member that this node knows, and only it could serve the ledger; see `nodectl peer ls`");
    is_member.then_some(to).ok_or_else(|| CommandError::new(Exit::NotFound, what()))
}

/// A path that the node understands, whatever its working directory.
///
/// # Errors
/// If it is no text.
pub fn whole(file: &Path) -> Result<String, CommandError> {
    let path =
        std::path::absolute(file).map_err(|error| CommandError::usage(format!("{}: {error}", file.display())))?;
    path.into_os_string().into_string().map_err(|path| CommandError::usage(format!("{path:?} is not a text")))
}

fn contents(moved: &HomeMove) -> String {
    format!("{} records, {} blobs, {}", moved.records, moved.blobs, human::bytes(moved.bytes))
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
            context.document(&json!({"ledger": ledger, "claimed": true}), told)?;
            Ok(Exit::Ok)
        }
        _ => Err(unexpected()),
    }
}
