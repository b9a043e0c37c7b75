//! `--home`: which home a submission goes to.

use std::str::FromStr;

use clap::Args;
use magpie_core::ids::{LedgerId, LedgerTag, PeerId};

use super::args::Context;
use super::exit::{CommandError, Exit};
use super::status;

/// A home by its ledger, or by the node that serves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HomeName {
    Ledger(LedgerTag),
    Peer(PeerId),
}

impl FromStr for HomeName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let tag = text.parse().or_else(|_| text.parse::<LedgerId>().map(LedgerId::tag)).map(Self::Ledger);
        let found = tag.or_else(|_| text.parse().map(Self::Peer));
        let known = "write the end of one of its task ids, as k3v9x2aq, its ledger's id, or its peer id";
        found.map_err(|_| format!("{:?} names no home: {known}", text.chars().take(80).collect::<String>()))
    }
}

#[derive(Debug, Clone, Copy, Args)]
pub struct HomeArg {
    /// The home that is to keep it: the end of its task ids, its ledger's id, or its peer id (default: this node's)
    ///
    /// A client that may try again through another node names the home: then one idempotency key makes one task.
    #[arg(long, value_name = "HOME")]
    home: Option<HomeName>,
}

impl HomeArg {
    /// Sends what follows to the home that is named, if one is.
    ///
    /// # Errors
    /// If this node does not know the peer, or its ledger.
    pub async fn address(self, context: &Context) -> Result<(), CommandError> {
        match self.home {
            None => {}
            Some(HomeName::Ledger(tag)) => context.link.address(tag),
            Some(HomeName::Peer(peer)) => context.link.address(ledger_of(context, peer).await?),
        }
        Ok(())
    }
}

async fn ledger_of(context: &Context, peer: PeerId) -> Result<LedgerTag, CommandError> {
    let status = status::ask(&context.link).await?;
    let known = status.peers.iter().filter(|view| view.peer_id == peer).find_map(|view| view.ledger);
    let ledger = if status.peer_id == peer { Some(status.ledger) } else { known };
    let unknown = || CommandError::new(Exit::Unreachable, format!("the ledger of {peer} is not known here (yet)"));
    ledger.map(LedgerId::tag).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_named_by_its_ledger_or_by_its_node() {
        let ledger = LedgerId([7; 16]);
        let peer = PeerId([1; 32]);
        assert_eq!(ledger.to_string().parse(), Ok(HomeName::Ledger(ledger.tag())));
        assert_eq!(ledger.tag().to_string().parse(), Ok(HomeName::Ledger(ledger.tag())));
        assert_eq!(peer.to_string().parse(), Ok(HomeName::Peer(peer)));
        let told = "node-1".parse::<HomeName>().unwrap_err();
        assert!(told.starts_with("\"node-1\" names no home: write the end of one of its task ids"), "{told}");
    }
}
