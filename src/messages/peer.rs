//! About single peers: what this node knows of them, and what a person does about them.

use magpie_core::ids::PeerId;
use magpie_core::peer_metrics::MetricsView;
use serde::{Deserialize, Serialize};

use super::registry::PeerView;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerRequest {
    /// All that is known of one.
    Get { peer: PeerId },
    /// Everyone whom this node dials, what came of it, and how it is reached itself.
    Contacts,
    /// This node's own list.
    Rules,
    /// What was measured of all peers, or of one with its history.
    Metrics { peer: Option<PeerId> },
    /// Dials an address now, and for as long as the node runs; the answer waits for what comes of it.
    Connect { address: String, patience_ms: u64 },
    /// Closes the connections to a peer, which stays away until it is asked for or the node is started again.
    Disconnect { peer: PeerId },
    /// Asks in every configured way for peers, and dials those that are away; the answer says who is known by then.
    Discover,
    /// Keeps a rule about one peer, which goes before the cluster key.
    SetRule { peer: PeerId, rule: RuleName },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleName {
    Allow,
    Deny,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerReply {
    /// As a member, if it is one, and where it is known to be.
    Peer {
        member: Option<Box<PeerView>>,
        contacts: Vec<ContactView>,
        rule: Option<RuleName>,
    },
    Contacts(ContactsView),
    Rules(Vec<RuleView>),
    Metrics(Vec<MetricsView>),
    Connected {
        peer: PeerId,
        /// Where it was connected already, if that is another address than the one to dial, which was not tried.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        elsewhere: Option<String>,
    },
    /// `refused`: it was reached, and one of the two does not admit the other.
    NotConnected {
        why: String,
        refused: bool,
    },
    Disconnected {
        peer: PeerId,
        was_connected: bool,
    },
    Discovered {
        ways: Vec<WayView>,
        contacts: Vec<ContactView>,
    },
    RuleSet(RuleView),
}

/// Someone whom this node knows to be somewhere, or an address at which somebody should be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContactView {
    /// None: nobody has answered at the address yet.
    pub peer_id: Option<PeerId>,
    pub addresses: Vec<AddressView>,
    pub connected: bool,
    /// Both admitted each other.
    pub admitted: bool,
    /// Whether it was ever admitted.
    pub member: bool,
    /// Whether the address is this node's own.
    pub own: bool,
    /// In a row: dials without a connection, and connections without an admission.
    pub failures: u32,
    pub refusals: u32,
    pub dialled_in_ms: Option<u64>,
    /// Why the last dial or connection came to nothing.
    pub trouble: Option<String>,
}

impl ContactView {
    /// Whether one of `ways` names it.
    pub fn is_from(&self, ways: &[&str]) -> bool {
        self.addresses.iter().any(|at| at.sources.iter().any(|source| ways.contains(&source.as_str())))
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AddressView {
    pub address: String,
    /// `bootstrap`, `peer_file`, `dns`, `asked`, `cache`, `mdns`, `members`, `rendezvous`, `kademlia`, `github`, `peer`.
    pub sources: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContactsView {
    pub listen: Vec<String>,
    pub contacts: Vec<ContactView>,
    pub peers_admitted: u64,
    pub peers_refused: u64,
    /// Connections that peers made to this node since its start, and of these the ones from beyond its machine.
    pub connections_taken: u64,
    pub connections_from_afar: u64,
    /// This node's addresses that lead beyond its site.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reach: Vec<ReachView>,
}

/// An address of this node, and whether members that dialled it back got there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReachView {
    pub address: String,
    /// `reached`, `unreached`, or `unknown` where nobody could say.
    pub reach: String,
    /// Whether the configuration names it: then it is told whatever members say.
    pub named: bool,
    /// Why the last member did not get there.
    pub trouble: Option<String>,
}

/// A way of finding peers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WayView {
    pub way: String,
    /// Whether it is configured; one that is not finds nobody.
    pub on: bool,
    /// Those known by it.
    pub known: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleView {
    pub peer_id: PeerId,
    pub rule: RuleName,
}
