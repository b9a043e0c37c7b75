//! `nodectl peer`.

mod change;
mod metrics;
mod named;
mod show;

pub use named::resolve;

use std::time::Duration;

use clap::{Args, Subcommand};

use super::args::{Context, duration};
use super::connection::unexpected;
use super::exit::{CommandError, Exit};
use super::shapes::{Items, PeerDocument};
use super::status;
use crate::messages::peer::{PeerReply, PeerRequest, RuleName};
use crate::messages::registry::{PeerView, RegistryReply, RegistryRequest};
use crate::messages::{Answer, Body};

#[derive(Debug, Subcommand)]
pub enum PeerCommand {
    /// List the other members of the mesh, as this node sees them
    Ls,
    /// Show a peer: where it is, what came of dialling it, and what this node's own list says of it
    Get {
        #[arg(value_name = "PEER")]
        peer: String,
    },
    /// Show what was measured of peers: round trips, lost heartbeats, transfers, and how far each is to be relied on
    Metrics {
        /// Of this one, with its history
        #[arg(value_name = "PEER")]
        peer: Option<String>,
    },
    /// Dial an address now, and for as long as the node runs; says what came of it
    Connect(ConnectArgs),
    /// Close the connections to a peer; it stays away until `peer connect`, `peer discover` or a restart of the node
    Disconnect {
        #[arg(value_name = "PEER")]
        peer: String,
    },
    /// Ask in every configured way for peers, dial those that are away, and show who is known
    Discover(DiscoverArgs),
    /// Admit a peer that does not know the cluster key; it must admit this node, too
    Allow {
        #[arg(value_name = "PEER")]
        peer: String,
    },
    /// Admit a peer no more, whatever it knows, and disconnect it
    Deny {
        #[arg(value_name = "PEER")]
        peer: String,
    },
    /// List whom this node's own list allows and denies
    Rules,
}

#[derive(Debug, Args)]
pub struct ConnectArgs {
    /// Where the peer listens, as /ip4/10.0.0.7/tcp/7400, with or without /p2p/PEER
    #[arg(value_name = "MULTIADDR")]
    address: String,
    /// Wait this long for it
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10s")]
    timeout: Duration,
}

#[derive(Debug, Args)]
pub struct DiscoverArgs {
    /// Where nobody is known yet, wait this long for the first
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5s")]
    timeout: Duration,
}

impl PeerCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        match self {
            Self::Ls => ls(context).await,
            Self::Get { peer } => show::get(context, &peer).await,
            Self::Metrics { peer } => metrics::run(context, peer.as_deref()).await,
            Self::Connect(args) => change::connect(context, args).await,
            Self::Disconnect { peer } => change::disconnect(context, &peer).await,
            Self::Discover(args) => show::discover(context, args.timeout).await,
            Self::Allow { peer } => change::set_rule(context, &peer, RuleName::Allow).await,
            Self::Deny { peer } => change::set_rule(context, &peer, RuleName::Deny).await,
            Self::Rules => show::rules(context).await,
        }
    }
}

async fn ls(context: &Context) -> Result<Exit, CommandError> {
    let peers = list(context).await?;
    let items = Items { items: peers.iter().map(PeerDocument::of).collect() };
    context.document(&items, || status::peers(&peers, context.format.is_wide()))?;
    Ok(Exit::Ok)
}

/// The other members of the mesh.
///
/// # Errors
/// Why the node does not answer.
pub async fn list(context: &Context) -> Result<Vec<PeerView>, CommandError> {
    match context.link.ask(Body::Registry(RegistryRequest::List)).await? {
        Answer::Registry(RegistryReply::Peers(peers)) => Ok(peers),
        _ => Err(unexpected()),
    }
}

async fn ask(context: &Context, request: PeerRequest) -> Result<PeerReply, CommandError> {
    match context.link.ask(Body::Peer(request)).await? {
        Answer::Peer(reply) => Ok(reply),
        _ => Err(unexpected()),
    }
}
