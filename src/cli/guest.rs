//! `--node`, `--ticket` and `--key`: a node elsewhere, and as whom it is asked.

use std::path::{Path, PathBuf};

use clap::Args;
use magpie_core::access::SignedTicket;
use magpie_core::ids::PeerId;
use magpie_net::NodeKey;

use super::exit::CommandError;
use super::human;
use crate::config::read_ticket;

#[derive(Debug, Args)]
pub struct GuestArgs {
    /// A node elsewhere, asked through its peers' door; needs a ticket of role agent or operator
    #[arg(long, global = true, value_name = "MULTIADDR", help_heading = super::args::GLOBAL)]
    node: Option<String>,
    /// For --node: the file with the ticket, as `nodectl token issue` prints it
    #[arg(long, global = true, value_name = "FILE", help_heading = super::args::GLOBAL)]
    ticket: Option<PathBuf>,
    /// For --node: the key that the ticket is for (default: operator.key in magpie's configuration directory)
    #[arg(long, global = true, value_name = "FILE", help_heading = super::args::GLOBAL)]
    key: Option<PathBuf>,
}

/// Who asks, where and by what right.
#[derive(Debug, Clone)]
pub struct Guest {
    pub address: String,
    pub key: NodeKey,
    pub ticket: SignedTicket,
}

impl GuestArgs {
    /// # Errors
    /// `why`, where a node elsewhere was named.
    pub fn refuse(&self, why: &str) -> Result<(), CommandError> {
        if self.node.is_some() { Err(CommandError::usage(format!("--node: {why}"))) } else { Ok(()) }
    }

    /// The node elsewhere that is asked, if one is. Reads key and ticket; makes the key if there is none.
    ///
    /// # Errors
    /// What is wrong with them, and whom to ask for a ticket.
    pub fn at(self) -> Result<Option<Guest>, CommandError> {
        // clap would not see a --node before the command beside a --ticket behind it.
        let Some(address) = self.node else {
            let given = [("--ticket", &self.ticket), ("--key", &self.key)].into_iter().find(|(_, file)| file.is_some());
            return given.map_or(Ok(None), |(name, _)| Err(CommandError::usage(format!("{name} needs a --node"))));
        };
        magpie_net::check_address(&address).map_err(|error| CommandError::usage(format!("--node: {error}")))?;
        let file = self.key.map_or_else(default_key, Ok)?;
        let key = NodeKey::load_or_create(&file).map_err(|error| CommandError::usage(format!("--key: {error}")))?;
        let me = key.peer_id();
        let wish = format!("have one issued where the cluster key is: nodectl token issue --role operator --peer {me}");
        let file = self.ticket.ok_or_else(|| CommandError::usage(format!("--node needs a --ticket; {wish}")))?;
        let ticket = read(&file, me)
            .map_err(|problem| CommandError::usage(format!("--ticket: {}: {problem}; {wish}", file.display())))?;
        Ok(Some(Guest { address, key, ticket }))
    }
}

/// A ticket that is not for this key, or is over, is known to be refused.
fn read(file: &Path, me: PeerId) -> Result<SignedTicket, String> {
    let ticket = read_ticket(file)?;
    ticket.verify(me, &[ticket.ticket.issuer], human::now()).map_err(|error| error.to_string())?;
    Ok(ticket)
}

fn default_key() -> Result<PathBuf, CommandError> {
    let dir =
        crate::config::config_dir().ok_or_else(|| CommandError::usage("no key: set --key, XDG_CONFIG_HOME or HOME"))?;
    std::fs::create_dir_all(&dir).map_err(|error| CommandError::usage(format!("{}: {error}", dir.display())))?;
    Ok(dir.join("operator.key"))
}
