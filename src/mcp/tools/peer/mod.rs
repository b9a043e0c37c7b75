//! The peers of the mesh, as the node sees them.

mod connect;
mod discover;
mod list;
mod metrics;
mod network;

pub use connect::{BOOTSTRAP_ALSO, BootstrapNetwork, CONNECT_ALSO, ConnectPeer, DISCONNECT_ALSO, DisconnectPeer};
pub use discover::{ALSO as DISCOVER_ALSO, DiscoverPeers};
pub use list::ListPeers;
pub use metrics::{ALSO as METRICS_ALSO, PeerMetrics};
pub use network::{Bootstrap, FindPeer, Load, NetworkStatus, PublicAddress, StalePeers};

use magpie_core::ids::PeerId;

use crate::mcp::answer::{Next, ToolError};

/// Reads a peer's id.
///
/// # Errors
/// `wrong_argument` with where to find one.
pub fn parse_peer(text: &str) -> Result<PeerId, ToolError> {
    text.trim().parse().map_err(|error| {
        let fix = "take a peer_id that list_peers shows";
        let next = Next::new("list_peers", serde_json::json!({}), 0);
        ToolError::wrong_argument("peer_id", error, "a peer id as 12D3KooW...", fix).next(next)
    })
}

/// The seeds name a remote node to ask; here every node answers for the whole mesh, so only the own one may be named.
///
/// # Errors
/// If it is another.
pub fn refuse_other_node(field: &str, named: Option<&str>, own: &str) -> Result<(), ToolError> {
    match named.filter(|named| !named.is_empty() && !named.ends_with(own)) {
        None => Ok(()),
        Some(_) => {
            let fix = format!("leave {field} out: any node answers for every task id; list_peers shows the others");
            let problem = "this tool asks the node that it is attached to";
            Err(ToolError::wrong_argument(field, problem, "nothing, or this node's peer id", fix))
        }
    }
}

/// What the seeds call by other names or do elsewhere: discovery runs all the time.
pub const ALSO: &[(&str, &str)] =
    &[("capabilities_timeout_s", ""), ("discover", ""), ("discovery_timeout_s", ""), ("discovery_methods", "")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_node_may_be_named() {
        assert!(refuse_other_node("peer_id", None, "12D3").is_ok());
        assert!(refuse_other_node("peer_id", Some(""), "12D3").is_ok());
        assert!(refuse_other_node("remote_multiaddr", Some("/ip4/1.2.3.4/tcp/1/p2p/12D3"), "12D3").is_ok());
        assert_eq!(refuse_other_node("peer_id", Some("12D4"), "12D3").unwrap_err().code, "wrong_argument");
    }
}
