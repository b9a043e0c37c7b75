//! Whom a configuration admits, and what the node shows to be admitted.

use std::path::{Path, PathBuf};

use magpie_core::access::SignedTicket;
use magpie_core::ids::PeerId;
use magpie_net::{Admission, KeyRotation};

use super::StartError;
use crate::config::{NodeConfig, load_cluster_key, load_ticket};

/// What `config` says to the network of the node `me`.
///
/// # Errors
/// If the cluster key cannot be used, or the ticket is none for this node.
pub fn of(config: &NodeConfig, me: PeerId) -> Result<Admission, StartError> {
    let load = |file: &PathBuf| load_cluster_key(file).map_err(StartError::Key);
    let ticket = config.ticket_file.as_ref().map(|file| ticket(file, me)).transpose().map_err(StartError::Key)?;
    Ok(Admission {
        cluster_key: config.cluster_key.as_ref().map(load).transpose()?,
        // Whoever issued its ticket is whom the node wants to join.
        clusters: config.cluster_public.into_iter().chain(ticket.map(|ticket| ticket.ticket.issuer)).collect(),
        ticket,
        allow: config.allow.iter().copied().collect(),
        ..Admission::default()
    })
}

/// Holds the key that took the place of the configured one, if one did.
///
/// # Errors
/// If `file` cannot be read: with the former key alone the node would be a stranger to its cluster.
pub fn rotated(mut admission: Admission, file: &Path, notices: &mut Vec<String>) -> Result<Admission, StartError> {
    let rotation = KeyRotation::load(file).map_err(|error| StartError::Key(error.to_string()))?;
    let Some(rotation) = rotation else { return Ok(admission) };
    if !admission.rotate(&rotation) {
        let (key, file) = (rotation.key.issuing_key().cluster(), file.display());
        notices.push(format!("the configured cluster key is none that {key} took the place of: {file} is not heeded"));
    }
    Ok(admission)
}

fn ticket(file: &Path, me: PeerId) -> Result<SignedTicket, String> {
    let ticket = load_ticket(file)?;
    let named = ticket.ticket.peer;
    if named != me {
        let at = file.display();
        return Err(format!(
            "ticket_file: {at}: it is for {named}, and this node is {me}: have one issued for this node"
        ));
    }
    Ok(ticket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use magpie_core::access::{Role, Ticket};
    use magpie_core::ids::TicketId;
    use magpie_core::time::Wall;
    use magpie_net::ClusterKey;

    const ME: PeerId = PeerId([1; 32]);

    #[test]
    fn a_ticket_for_this_node_is_shown_and_its_issuer_accepted() {
        let key = ClusterKey::from_bytes([9; 32]);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ticket");
        let config = NodeConfig { ticket_file: Some(file.clone()), ..NodeConfig::default() };
        let problem = |config: &NodeConfig| of(config, ME).unwrap_err().to_string();
        assert!(problem(&config).contains("ticket_file"), "there is none yet");

        let issue =
            |peer| Ticket::issue(key.issuing_key(), TicketId([7; 16]), peer, Role::Peer, Wall(0), 5_000).unwrap();
        std::fs::write(&file, format!("{}\n", issue(ME))).unwrap();
        let admission = of(&config, ME).unwrap();
        assert_eq!(admission.ticket, Some(issue(ME)));
        assert_eq!(admission.clusters, [key.issuing_key().cluster()].into());
        assert!(admission.cluster_key.is_none());

        std::fs::write(&file, issue(PeerId([2; 32])).to_string()).unwrap();
        assert!(problem(&config).contains("have one issued for this node"));
        std::fs::write(&file, "nonsense").unwrap();
        assert!(problem(&config).contains("it is not a ticket"));
    }
}
