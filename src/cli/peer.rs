//! `nodectl peer`.

use clap::Subcommand;

use super::args::Context;
use super::connection::unexpected;
use super::exit::{CommandError, Exit};
use super::shapes::{Items, PeerDocument};
use super::status;
use crate::messages::registry::{PeerView, RegistryReply, RegistryRequest};
use crate::messages::{Answer, Body};

#[derive(Debug, Subcommand)]
pub enum PeerCommand {
    /// List the other members of the mesh, as this node sees them
    Ls,
}

impl PeerCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        let Self::Ls = self;
        let peers = list(context).await?;
        let items = Items { items: peers.iter().map(PeerDocument::of).collect() };
        context.format.document(&items, || status::peers(&peers, context.format.is_wide()))?;
        Ok(Exit::Ok)
    }
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
