//! `nodectl token`: tickets, by which peers come in, and bearer tokens, which clients of HTTP show.

mod bearer;

use std::time::Duration;

use clap::{Args, Subcommand};
use magpie_core::access::{Revoked, Role};
use magpie_core::ids::PeerId;

use bearer::BearerCommand;

use super::args::{Context, duration};
use super::connection::unexpected;
use super::exit::{CommandError, Exit};
use super::table;
use crate::messages::access::{AccessReply, AccessRequest, TicketView};
use crate::messages::{Answer, Body};

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Sign a ticket for one peer with this node's cluster key, and print it
    Issue(IssueArgs),
    /// Take a ticket, or everything of a peer, back: all members refuse it from now on
    Revoke(RevokeArgs),
    /// Bearer tokens: what clients of a node's HTTP show
    #[command(subcommand)]
    Bearer(BearerCommand),
}

#[derive(Debug, Args)]
pub struct IssueArgs {
    /// The peer id that it is for: another who shows it is refused
    #[arg(long)]
    peer: PeerId,
    /// peer (a member), agent (submits and reads) or operator
    #[arg(long)]
    role: Role,
    /// How long it is good for: 12h, 30d; at most 400d
    #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = duration)]
    expires: Duration,
}

#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// A ticket id or a peer id
    #[arg(value_name = "TICKET|PEER")]
    revoked: Revoked,
}

impl TokenCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        match self {
            Self::Issue(args) => issue(context, args).await,
            Self::Revoke(args) => revoke(context, args).await,
            Self::Bearer(command) => command.run(context).await,
        }
    }
}

/// Asks the node about who may come in.
///
/// # Errors
/// Why it does not answer.
pub async fn ask(context: &Context, request: AccessRequest) -> Result<AccessReply, CommandError> {
    match context.link.ask(Body::Access(request)).await? {
        Answer::Access(reply) => Ok(reply),
        _ => Err(unexpected()),
    }
}

async fn issue(context: &Context, IssueArgs { peer, role, expires }: IssueArgs) -> Result<Exit, CommandError> {
    let request = AccessRequest::IssueTicket { peer, role, life_ms: expires.as_millis() as u64 };
    let AccessReply::Ticket(ticket) = ask(context, request).await? else { return Err(unexpected()) };
    // A line that can be sent to a file as it is.
    let line = || format!("{}\n", ticket.ticket);
    context.document(&ticket, || if context.format.is_wide() { details(&ticket) } else { line() })?;
    Ok(Exit::Ok)
}

/// What a ticket says, for a person.
pub fn details(ticket: &TicketView) -> String {
    table::details([
        ("ticket id", ticket.id.to_string()),
        ("peer", ticket.peer.to_string()),
        ("role", ticket.role.to_string()),
        ("not before", ticket.not_before.to_string()),
        ("expires", ticket.expires.to_string()),
        ("issuer", ticket.issuer.to_string()),
        ("ticket", ticket.ticket.clone()),
    ])
}

async fn revoke(context: &Context, RevokeArgs { revoked }: RevokeArgs) -> Result<Exit, CommandError> {
    let AccessReply::Revoked(signed) = ask(context, AccessRequest::Revoke { revoked }).await? else {
        return Err(unexpected());
    };
    let told = || format!("{revoked} is refused from now on; members that are away hear of it when they are back\n");
    context.document(&signed, told)?;
    Ok(Exit::Ok)
}
