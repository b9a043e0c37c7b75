//! Carries out what the address book decides, and tells it how that went.

use std::collections::HashMap;

use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId as Libp2pPeerId, identify};

use super::Node;
use super::admit::Standing;
use super::asked::{OWN_ADDRESS, dial_trouble};
use crate::book::{Dial, Source, Target, split_peer};
use crate::cache;
use crate::discovery::Suggestion;
use crate::event::NetEvent;
use crate::identity;
use crate::limits;

/// Which dial of the book a connection under way belongs to.
#[derive(Debug, Default)]
pub(super) struct DialsUnderWay(HashMap<ConnectionId, Target>);

impl DialsUnderWay {
    pub fn ended(&mut self, id: ConnectionId) -> Option<Target> {
        self.0.remove(&id)
    }
}

impl Node {
    pub(super) fn on_suggestion(&mut self, suggestion: Suggestion) {
        let now_ms = self.now_ms();
        match suggestion {
            Suggestion::PeerFound { address, source } => {
                let text = address.to_string();
                if self.book.found(address, source, now_ms) {
                    self.tick.stir();
                    self.inbox.hint(NetEvent::Discovered { address: text, source });
                }
            }
            Suggestion::PeerLost { address, source } => self.book.lost(address, source),
        }
    }

    pub(super) fn dial_the_due(&mut self) {
        let now_ms = self.now_ms();
        for Dial { target, addresses } in self.book.due(self.unmet(), now_ms) {
            let banned = matches!(&target, Target::Peer(peer) if self.shared.watch.ban_of(peer).is_some());
            if banned || self.is_shut_out(self.book.peer_at(&target)) {
                // It is looked at again, and dialled once it may be.
                self.book.failed(&target, now_ms);
                continue;
            }
            let options = self.dial_options(&target, addresses);
            let id = options.connection_id();
            match self.swarm.dial(options) {
                Ok(()) => drop(self.dials.0.insert(id, target)),
                Err(error) => self.on_target_failed(&target, &error),
            }
        }
    }

    pub(super) fn on_dial_failed(&mut self, id: ConnectionId, error: &DialError) {
        if let Some(target) = self.dials.ended(id) {
            self.on_target_failed(&target, error);
        }
    }

    fn on_target_failed(&mut self, target: &Target, error: &DialError) {
        tracing::debug!(?target, %error, "a dial came to nothing");
        self.book.note_failure(target, &dial_trouble(error));
        let now_ms = self.now_ms();
        if let DialError::LocalPeerId { address } | DialError::WrongPeerId { address, .. } = error {
            let is_own = matches!(error, DialError::LocalPeerId { .. });
            self.book.misled(target, address.clone(), is_own);
        }
        // The swarm leaves out addresses that it listens on itself.
        if let (DialError::NoAddresses, Target::Address(address)) = (error, target)
            && self.swarm.listeners().any(|own| own == address)
        {
            self.book.misled(target, address.clone(), true);
            self.book.note_failure(target, OWN_ADDRESS);
        }
        self.book.failed(target, now_ms);
    }

    /// Keeps where an admitted peer says it listens. What a stranger says is not kept.
    pub(super) fn on_identified(&mut self, libp2p_peer: &Libp2pPeerId, id: ConnectionId, info: identify::Info) {
        let Some(peer) = identity::from_libp2p(libp2p_peer) else { return };
        if self.standing(peer) < Some(Standing::Verified) {
            return;
        }
        let now_ms = self.now_ms();
        self.on_seen(peer, id, info.observed_addr);
        let network = self.network_of(peer);
        let reachable = info.listen_addrs.into_iter().filter(|address| network.shares(address));
        for address in reachable.take(limits::PEER_ADDRESSES_MAX) {
            let of_peer = split_peer(address).filter(|(_, named)| named.is_none_or(|named| named == peer));
            if let Some((address, _)) = of_peer {
                self.book.found(address.with(Protocol::P2p(*libp2p_peer)), Source::Identify, now_ms);
            }
        }
        if self.standing(peer) == Some(Standing::Admitted) {
            self.add_to_table(peer);
        }
        if let Some(link) = self.shared.link(peer) {
            let known: Vec<_> = self.book.addresses_of(peer).iter().map(ToString::to_string).collect();
            link.update(|info| info.addresses = known);
        }
    }

    /// Rewrites the peer cache if it changed, in the background and not too often.
    pub(super) fn write_cache(&mut self) {
        let now_ms = self.now_ms();
        while let Some(written) = self.cache.writing.try_join_next() {
            if !written.unwrap_or(false) {
                // The disk may take it the next time.
                self.cache.written.clear();
            }
        }
        if self.cache.due_ms > now_ms || !self.cache.writing.is_empty() {
            return;
        }
        self.cache.due_ms = now_ms + limits::PEER_CACHE_EVERY_MS;
        self.book.forget_stale(now_ms);
        let Some(path) = self.cache.path.clone() else { return };
        let members = self.book.members();
        let text = cache::format(&members);
        if members.is_empty() || text == self.cache.written {
            return;
        }
        self.cache.written.clone_from(&text);
        self.cache.writing.spawn_blocking(move || {
            let written = cache::write(&path, &text);
            if let Err(error) = &written {
                tracing::warn!(%error, path = %path.display(), "the peer cache cannot be written");
            }
            written.is_ok()
        });
    }

    /// A port of its own for every dial: with the listening port, a peer restarted on its old port would meet the
    /// remains of the earlier connection. Only at a relay it is the listening port that must be seen: where that one
    /// appears to be is where others find a way through to it.
    fn dial_options(&self, target: &Target, addresses: Vec<Multiaddr>) -> DialOpts {
        match target {
            Target::Peer(peer) => {
                let options = DialOpts::peer_id(identity::to_libp2p(*peer))
                    .addresses(addresses)
                    .condition(PeerCondition::DisconnectedAndNotDialing);
                if self.relays.has(*peer) { options.build() } else { options.allocate_new_port().build() }
            }
            Target::Address(address) => {
                DialOpts::unknown_peer_id().address(address.clone()).allocate_new_port().build()
            }
        }
    }
}
