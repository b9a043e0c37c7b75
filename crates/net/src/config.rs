//! What a node listens on, whom it looks for, and whom it admits.

use std::collections::BTreeSet;
use std::path::PathBuf;

use libp2p::Multiaddr;
use magpie_core::access::{ClusterId, Revocations, SignedTicket};
use magpie_core::ids::PeerId;
use magpie_core::time::Wall;

use crate::book::split_peer;
use crate::discovery::dns::{DnsName, ParseNameError};
use crate::discovery::github::GithubConfig;
use crate::handle::NetError;
use crate::key::ClusterKey;
use crate::peer_rules::PeerRules;
use crate::rotation::KeyRotation;

/// Who may speak to this node, and what it shows of itself to be admitted elsewhere. The default admits nobody. A
/// running network may be given another: [`NetHandle::admit_by`](crate::NetHandle::admit_by).
#[derive(Debug, Clone, Default)]
pub struct Admission {
    /// Admits every peer that proves to know it.
    pub cluster_key: Option<ClusterKey>,
    /// How it came to be that one: the former one admits as well for a while.
    pub rotation: Option<KeyRotation>,
    /// Clusters whose members and tickets are accepted, though this node does not hold their keys.
    pub clusters: BTreeSet<ClusterId>,
    /// Admits this node where the holders of its issuer's key are.
    pub ticket: Option<SignedTicket>,
    /// Admits these peers without a proof.
    pub allow: BTreeSet<PeerId>,
    /// What a person decided about single peers, which goes before both.
    pub rules: PeerRules,
    /// Admits none of these peers, whatever they show, and nobody by one of these tickets.
    pub revoked: Revocations,
}

impl Admission {
    /// Whose members and tickets are accepted.
    pub fn accepted_clusters(&self, now: Wall) -> Vec<ClusterId> {
        self.held_clusters(now).chain(self.clusters.iter().copied()).collect()
    }

    pub(crate) fn accepts(&self, cluster: ClusterId, now: Wall) -> bool {
        self.clusters.contains(&cluster) || self.held_clusters(now).any(|held| held == cluster)
    }

    fn held_clusters(&self, now: Wall) -> impl Iterator<Item = ClusterId> {
        self.cluster_key.iter().chain(self.former_key(now)).map(|key| key.issuing_key().cluster())
    }

    /// The cluster key before this one, as long as it admits.
    pub fn former_key(&self, now: Wall) -> Option<&ClusterKey> {
        self.rotation.as_ref()?.former(now)
    }

    /// Holds the newest key in the place of the configured one, if `rotation` is about that; whether it is.
    pub fn rotate(&mut self, rotation: &KeyRotation) -> bool {
        let is_of = self.cluster_key.as_ref().is_some_and(|named| rotation.is_of(named));
        if is_of {
            self.cluster_key = Some(rotation.key.clone());
            self.rotation = Some(rotation.clone());
        }
        is_of
    }
}

/// The network side of a node. The default listens nowhere, knows nobody and admits nobody.
#[derive(Debug, Clone, Default)]
pub struct NetConfig {
    /// Multiaddrs: `/ip4/0.0.0.0/tcp/7400`, `/ip4/0.0.0.0/udp/7400/quic-v1`. Port 0 takes a free one.
    pub listen: Vec<String>,
    /// Multiaddrs at which this node can be dialled from elsewhere, as a person knows: told to others as they are.
    pub external: Vec<String>,
    /// Multiaddrs that are dialled for ever, with or without `/p2p/PEER`.
    pub bootstrap: Vec<String>,
    /// Names with a port, `magpie-headless.prod.svc:7400`: whoever listens there, at any of a name's addresses, is
    /// dialled. They are looked up again and again.
    pub dns: Vec<String>,
    /// One multiaddr a line; read again when it changes.
    pub peer_file: Option<PathBuf>,
    /// Members and their addresses, kept across starts.
    pub peer_cache: Option<PathBuf>,
    /// Whether members tell this node of other members, and it them.
    pub members: bool,
    /// Whether to look for peers on the local network.
    pub mdns: bool,
    /// Members that are rendezvous points, with `/p2p/PEER`: this node registers with them and asks them for others.
    pub rendezvous: Vec<String>,
    /// Whether this node is a rendezvous point.
    pub rendezvous_point: bool,
    /// Whether to take part in the Kademlia of members.
    pub kademlia: bool,
    /// Members, with `/p2p/PEER`, that relay connections to this node: whoever cannot reach it finds it there.
    pub relay_via: Vec<String>,
    /// Whether this node relays between members.
    pub relay_for_members: bool,
    /// Whether to ask the router of this node's site, over UPnP, to let others in.
    pub upnp: bool,
    /// A registry of peers in an issue on GitHub.
    pub github: Option<GithubConfig>,
    pub admission: Admission,
    /// Sends every request over a substream of its own, for measurements.
    pub without_lanes: bool,
    /// Listens at `/memory/N` and meets others of its process, nobody else: for measurements of many nodes.
    pub in_memory: Option<InMemory>,
}

/// How nodes of one process speak to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InMemory {
    /// Over Noise, as over TCP.
    Noise,
    /// In plain text, and each takes the other's word for who it is: nobody else is in between.
    #[cfg(feature = "plaintext")]
    Plain,
}

/// A text that is not a multiaddr.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{presented:?} is not a multiaddr ({reason}), as /ip4/10.0.0.7/tcp/7400 or /dns4/node-0/udp/7400/quic-v1")]
pub struct ParseAddressError {
    pub presented: String,
    pub reason: String,
}

/// # Errors
/// If `text` is not a multiaddr.
pub fn check_address(text: &str) -> Result<(), ParseAddressError> {
    parse_address(text).map(drop)
}

/// # Errors
/// If `text` is not the multiaddr of a member that does something for this node: one that names its peer.
pub fn check_member(text: &str) -> Result<(), NetError> {
    parse_member(text).map(drop)
}

pub(crate) fn parse_member(text: &str) -> Result<(Multiaddr, PeerId), NetError> {
    let address = parse_address(text)?;
    let peer = split_peer(address.clone()).and_then(|(_, peer)| peer);
    let peer = peer.ok_or_else(|| NetError::WithoutPeer { address: text.to_owned() })?;
    Ok((address, peer))
}

/// # Errors
/// If `text` is not a name and a port.
pub fn check_dns_name(text: &str) -> Result<(), ParseNameError> {
    text.parse::<DnsName>().map(drop)
}

pub(crate) fn parse_address(text: &str) -> Result<Multiaddr, ParseAddressError> {
    let wrong = |reason: String| ParseAddressError { presented: text.chars().take(200).collect(), reason };
    let address: Multiaddr = text.trim().parse().map_err(|error: libp2p::multiaddr::Error| wrong(error.to_string()))?;
    if address.is_empty() { Err(wrong("it is empty".into())) } else { Ok(address) }
}

pub(crate) fn parse_addresses(texts: &[String]) -> Result<Vec<Multiaddr>, ParseAddressError> {
    texts.iter().map(|text| parse_address(text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_refused_in_words() {
        for wrong in ["", "localhost:7400", "/ip4/1.2.3/tcp/1", "/tcp/99999999", "/nonsense/1"] {
            let words = parse_address(wrong).unwrap_err().to_string();
            assert!(words.contains("is not a multiaddr") && words.contains(&format!("{wrong:?}")), "{words}");
        }
        assert!(parse_address(" /dns4/node-0/tcp/7400\n").is_ok());
    }

    #[test]
    fn nobody_is_admitted_by_default() {
        let admission = NetConfig::default().admission;
        assert!(admission.cluster_key.is_none() && admission.allow.is_empty());
    }
}
