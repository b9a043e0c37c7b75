//! What the address book knows of whom it dials, as a person reads it.

use magpie_core::ids::PeerId;

use super::{Book, Entry, Source, Target, peer_of};
use crate::limits;

/// Someone whom this node knows to be somewhere, or an address at which somebody should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// `None`: nobody has answered at the address yet.
    pub peer: Option<PeerId>,
    /// Without `/p2p/PEER`, and where each is known from.
    pub addresses: Vec<(String, Vec<Source>)>,
    pub connected: bool,
    /// Whether it was ever admitted.
    pub member: bool,
    /// Whether the address is this node's own.
    pub own: bool,
    /// Dials in a row that led to no connection, and connections that led to no admission.
    pub failures: u32,
    pub refusals: u32,
    /// When it is dialled next, from now; `None` while it is connected or dialled.
    pub dialled_in_ms: Option<u64>,
    /// Why the last dial or connection came to nothing.
    pub trouble: Option<String>,
}

impl Source {
    pub fn name(self) -> &'static str {
        match self {
            Self::Bootstrap => "bootstrap",
            Self::PeerFile => "peer_file",
            Self::Dns => "dns",
            Self::Asked => "asked",
            Self::Cache => "cache",
            Self::Mdns => "mdns",
            Self::Member => "members",
            Self::Rendezvous => "rendezvous",
            Self::Kademlia => "kademlia",
            Self::Github => "github",
            Self::Identify => "peer",
        }
    }
}

impl Book {
    /// Everyone this node knows.
    pub fn contacts(&self, now_ms: u64) -> Vec<Contact> {
        self.entries.iter().map(|(target, entry)| self.contact(target, entry, now_ms)).collect()
    }

    fn contact(&self, target: &Target, entry: &Entry, now_ms: u64) -> Contact {
        let peer = peer_of(target, entry);
        let connected = peer.is_some_and(|peer| self.connected.contains(&peer));
        let waits = !connected && !self.under_way.contains_key(target) && !entry.own && !entry.addresses.is_empty();
        let addresses = entry.addresses.iter();
        Contact {
            peer,
            addresses: addresses
                .map(|known| (known.address.to_string(), known.sources.iter().copied().collect()))
                .collect(),
            connected,
            member: entry.member,
            own: entry.own,
            failures: entry.failures,
            refusals: entry.refusals,
            dialled_in_ms: waits.then(|| entry.due_ms.saturating_sub(now_ms)),
            trouble: entry.trouble.clone(),
        }
    }

    /// Remembers why a dial of `target` came to nothing.
    pub fn note_failure(&mut self, target: &Target, why: &str) {
        if let Some(entry) = self.entries.get_mut(target) {
            entry.trouble = Some(cut(why));
        }
    }

    /// Remembers why `peer` was sent away, or left.
    pub fn note_refusal(&mut self, peer: PeerId, why: &str) {
        self.each_of(peer, |_, entry| entry.trouble = Some(cut(why)));
    }

    pub fn trouble_of(&self, peer: PeerId) -> Option<&str> {
        let mut entries = self.entries.iter().filter(|(target, entry)| peer_of(target, entry) == Some(peer));
        entries.find_map(|(_, entry)| entry.trouble.as_deref())
    }

    /// Whoever is away is dialled at once.
    pub fn dial_all_now(&mut self, now_ms: u64) {
        self.entries.values_mut().for_each(|entry| entry.due_ms = entry.due_ms.min(now_ms));
    }

    /// Who is known to be at `address`, or to have been: the peer it names, and those that are known there.
    pub fn peers_at(&self, address: &libp2p::Multiaddr) -> Vec<PeerId> {
        let Some((bare, named)) = super::split_peer(address.clone()) else { return Vec::new() };
        let there = self.entries.iter().filter(|(_, entry)| entry.addresses.iter().any(|known| known.address == bare));
        named.into_iter().chain(there.filter_map(|(target, entry)| peer_of(target, entry))).collect()
    }

    /// The peer that `target` is or was found to be.
    pub fn peer_at(&self, target: &Target) -> Option<PeerId> {
        self.entries.get(target).and_then(|entry| peer_of(target, entry))
    }
}

/// At most [`limits::TROUBLE_BYTES_MAX`] of it: a dial of many addresses has much to tell.
fn cut(why: &str) -> String {
    let end = why.floor_char_boundary(limits::TROUBLE_BYTES_MAX);
    why[..end].to_owned()
}
