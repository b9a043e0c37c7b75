//! Keeps the Kademlia table to the members that are here, and asks it for the others.

use libp2p::kad::{Event, GetClosestPeersError, Mode, QueryResult};
use magpie_core::ids::PeerId;

use super::Node;
use crate::discovery::kademlia;
use crate::identity;
use crate::limits;
use crate::network::Network;

/// When the next question is due.
#[derive(Debug, Default)]
pub(super) struct Questions {
    due_ms: u64,
    /// Asked since a member came.
    asked: u32,
    /// Whether somebody of this node's site dialled it.
    was_reached: bool,
}

impl Questions {
    pub fn ask_at_once(&mut self) {
        self.due_ms = 0;
    }
}

impl Node {
    /// Takes an admitted member into the table, wherever it is known to be.
    pub(super) fn add_to_table(&mut self, peer: PeerId) {
        let addresses = self.book.addresses_of(peer);
        let Some(kademlia) = self.swarm.behaviour_mut().kademlia.inner_mut().as_mut() else { return };
        for address in addresses {
            kademlia.add_address(&identity::to_libp2p(peer), address);
        }
    }

    pub(super) fn ask_soon(&mut self) {
        let soon_ms = self.now_ms() + limits::KADEMLIA_FIRST_MS;
        self.questions = Questions { due_ms: self.questions.due_ms.min(soon_ms), asked: 0, ..self.questions };
    }

    pub(super) fn drop_from_table(&mut self, peer: PeerId) {
        if let Some(kademlia) = self.swarm.behaviour_mut().kademlia.inner_mut().as_mut() {
            kademlia.remove_peer(&identity::to_libp2p(peer));
        }
    }

    /// Who can be dialled answers, too: by those of its site who did, or by all since a member dialled it back. A
    /// connection from beyond may have come through a NAT at a moment that does not come again.
    pub(super) fn answer_as_it_is_reached(&mut self) {
        let mode = match self.questions.was_reached || self.whereabouts.is_reached(self.now_ms()) {
            true => Mode::Server,
            false => Mode::Client,
        };
        if let Some(kademlia) = self.swarm.behaviour_mut().kademlia.inner_mut().as_mut()
            && kademlia.mode() != mode
        {
            kademlia.set_mode(Some(mode));
        }
    }

    /// A member of this site dialled this node.
    pub(super) fn was_reached(&mut self) {
        self.questions.was_reached = true;
        self.answer_as_it_is_reached();
    }

    /// Asks for who is nearest to this node, and in turn for who is nearest to anywhere.
    pub(super) fn ask_the_table(&mut self) {
        let now_ms = self.now_ms();
        if self.questions.due_ms > now_ms || self.peers.is_empty() {
            return;
        }
        let Some(kademlia) = self.swarm.behaviour_mut().kademlia.inner_mut().as_mut() else { return };
        let asked = self.questions.asked;
        let wait_ms = (limits::KADEMLIA_FIRST_MS << asked.min(16)).min(limits::KADEMLIA_EVERY_MS);
        (self.questions.due_ms, self.questions.asked) = (now_ms + wait_ms, asked.saturating_add(1));
        let key = if asked.is_multiple_of(2) { identity::to_libp2p(self.local) } else { anywhere() };
        kademlia.get_closest_peers(key);
    }

    pub(super) fn on_kademlia_event(&mut self, event: Event) {
        let peers = match event {
            Event::OutboundQueryProgressed { result: QueryResult::GetClosestPeers(result), .. } => match result {
                Ok(found) => found.peers,
                Err(GetClosestPeersError::Timeout { peers, .. }) => peers,
            },
            _ => return,
        };
        // Who told is not known: what the nearest member may share is of use.
        let nearest = self.peers.keys().map(|peer| self.network_of(*peer)).min().unwrap_or(Network::Internet);
        let suggestions = kademlia::suggestions(peers, nearest, |peer| self.is_absent(peer));
        suggestions.into_iter().for_each(|suggestion| self.on_suggestion(suggestion));
    }
}

/// A key that is nobody's: without randomness always the same.
fn anywhere() -> libp2p::PeerId {
    let mut key = [0u8; 32];
    let _ = getrandom::fill(&mut key);
    identity::to_libp2p(PeerId(key))
}
