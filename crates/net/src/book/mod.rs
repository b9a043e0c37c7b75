//! The address book: whom this node knows, where, and when to dial whom again. It decides; the swarm loop dials.
//!
//! Time is an argument: milliseconds of a clock that never steps.

mod backoff;
mod contact;
mod pace;

pub use contact::Contact;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::iter;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use magpie_core::ids::PeerId;

use self::pace::Pace;
use crate::identity;
use crate::limits;
use crate::network::is_relayed;

/// Where an address is known from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// The configuration.
    Bootstrap,
    /// The peer file.
    PeerFile,
    /// A name that is looked up.
    Dns,
    /// A caller of this crate.
    Asked,
    /// The peer cache of an earlier start.
    Cache,
    /// The local network.
    Mdns,
    /// Another member.
    Member,
    /// A rendezvous point.
    Rendezvous,
    /// The Kademlia of members.
    Kademlia,
    /// The registry on GitHub.
    Github,
    /// The peer itself, once it was admitted.
    Identify,
}

impl Source {
    /// Whether a person named the address, or where it stands: it is kept and dialled until that is taken back.
    fn is_lasting(self) -> bool {
        matches!(self, Self::Bootstrap | Self::PeerFile | Self::Dns | Self::Asked)
    }
}

impl Source {
    /// Whether others said it of the peer.
    fn is_hearsay(self) -> bool {
        matches!(self, Self::Member | Self::Rendezvous | Self::Kademlia | Self::Github)
    }
}

/// Whom to dial: a peer wherever it is, or whoever is at an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Target {
    Peer(PeerId),
    Address(Multiaddr),
}

/// One dial to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dial {
    pub target: Target,
    pub addresses: Vec<Multiaddr>,
}

#[derive(Debug)]
struct Known {
    address: Multiaddr,
    sources: BTreeSet<Source>,
    /// Whether another than the peer answered there. The fastest answer decides a dial, so one such address spoils
    /// the others: every machine has a bridge or a loopback of the same name.
    misleads: bool,
}

impl Known {
    fn is_lasting(&self) -> bool {
        self.sources.iter().any(|source| source.is_lasting())
    }
}

#[derive(Debug)]
struct Entry {
    addresses: Vec<Known>,
    /// The peer that was last found at a bare address.
    leads_to: Option<PeerId>,
    /// Whether the peer was ever admitted.
    member: bool,
    /// Whether the address turned out to be this node's own.
    own: bool,
    failures: u32,
    refusals: u32,
    due_ms: u64,
    /// When it was last suggested or connected.
    seen_ms: u64,
    /// Why the last dial or connection came to nothing.
    trouble: Option<String>,
}

impl Entry {
    fn new(now_ms: u64) -> Self {
        Self {
            addresses: Vec::new(),
            leads_to: None,
            member: false,
            own: false,
            failures: 0,
            refusals: 0,
            due_ms: now_ms,
            seen_ms: now_ms,
            trouble: None,
        }
    }

    fn is_lasting(&self) -> bool {
        self.addresses.iter().any(Known::is_lasting)
    }

    fn is_cached(&self) -> bool {
        self.addresses.iter().any(|known| known.sources.contains(&Source::Cache))
    }

    /// TCP carries streams and bulk better; QUIC, and the way by a relay, get their turn at every second attempt.
    fn addresses_to_dial(&self) -> Vec<Multiaddr> {
        let some_lead = self.addresses.iter().any(|known| !known.misleads);
        let leading = self.addresses.iter().filter(|known| !some_lead || !known.misleads);
        let all: Vec<_> = leading.map(|known| known.address.clone()).collect();
        let direct: Vec<_> = all.iter().filter(|address| !is_relayed(address)).cloned().collect();
        let tcp: Vec<_> = direct.iter().filter(|address| is_tcp(address)).cloned().collect();
        let first = if tcp.is_empty() { direct } else { tcp };
        if first.is_empty() || !self.failures.is_multiple_of(2) { all } else { first }
    }
}

fn is_tcp(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::Tcp(_)))
}

/// An address without its `/p2p/PEER`, and that peer. `None` if the peer's key is not ed25519.
pub(crate) fn split_peer(mut address: Multiaddr) -> Option<(Multiaddr, Option<PeerId>)> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => {
            address.pop();
            identity::from_libp2p(&peer).map(|peer| (address, Some(peer)))
        }
        _ => Some((address, None)),
    }
}

/// Everyone this node knows.
#[derive(Debug)]
pub(crate) struct Book {
    local: PeerId,
    entries: BTreeMap<Target, Entry>,
    connected: HashSet<PeerId>,
    /// The dials under way, each with when it began.
    under_way: BTreeMap<Target, u64>,
    pace: Pace,
}

impl Book {
    pub fn new(local: PeerId) -> Self {
        Self {
            local,
            entries: BTreeMap::new(),
            connected: HashSet::new(),
            under_way: BTreeMap::new(),
            pace: Pace::new(),
        }
    }

    /// Takes up an address; `true` if it was not known.
    pub fn found(&mut self, address: Multiaddr, source: Source, now_ms: u64) -> bool {
        let Some((address, peer)) = split_peer(address) else { return false };
        if address.is_empty() || peer == Some(self.local) {
            return false;
        }
        let target = peer.map_or_else(|| Target::Address(address.clone()), Target::Peer);
        if !self.make_room(&target, source, now_ms) {
            return false;
        }
        let entry = self.entries.entry(target).or_insert_with(|| Entry::new(now_ms));
        entry.seen_ms = now_ms;
        if source == Source::Asked {
            entry.due_ms = now_ms;
        }
        add_address(&mut entry.addresses, address, source)
    }

    /// Drops an address that its source no longer names, unless another source does. A member is remembered all the
    /// same, by its identity: the bare address may lead to another tomorrow.
    pub fn lost(&mut self, address: Multiaddr, source: Source) {
        let Some((address, peer)) = split_peer(address) else { return };
        let target = peer.map_or_else(|| Target::Address(address.clone()), Target::Peer);
        let Some(entry) = self.entries.get_mut(&target) else { return };
        for known in entry.addresses.iter_mut().filter(|known| known.address == address) {
            known.sources.remove(&source);
        }
        if entry.member && matches!(target, Target::Peer(_)) {
            for unnamed in entry.addresses.iter_mut().filter(|known| known.sources.is_empty()) {
                unnamed.sources.insert(Source::Identify);
            }
            return;
        }
        entry.addresses.retain(|known| !known.sources.is_empty());
        if entry.addresses.is_empty() {
            self.entries.remove(&target);
        }
    }

    /// The dials to make now, while so many peers that were dialled are connected and not admitted yet; each is under way until
    /// its end is reported.
    pub fn due(&mut self, unmet: usize, now_ms: u64) -> Vec<Dial> {
        let room = self.room(unmet, now_ms);
        let under_way = self.under_way.keys().filter_map(|target| peer_of(target, self.entries.get(target)?));
        let mut dialled: HashSet<PeerId> = under_way.collect();
        let mut dials = Vec::new();
        for (target, entry) in self.in_turn(now_ms) {
            if dials.len() == room {
                break;
            }
            if peer_of(target, entry).is_none_or(|peer| dialled.insert(peer)) {
                dials.push(Dial { addresses: entry.addresses_to_dial(), target: target.clone() });
            }
        }
        self.under_way.extend(dials.iter().map(|dial| (dial.target.clone(), now_ms)));
        dials
    }

    /// How many more may be dialled. An address where nobody answers keeps a place for a moment only.
    fn room(&self, unmet: usize, now_ms: u64) -> usize {
        let dialled = self.under_way.values();
        let answering = dialled.filter(|at_ms| now_ms.saturating_sub(**at_ms) < limits::MEETING_SILENT_MS);
        self.pace.width().saturating_sub(unmet + answering.count())
    }

    /// Whose time has come. Each node begins with whoever comes after itself, as in a ring: of two that hear of each other
    /// in the same moment, one is dialled long before it would dial, and no node is everybody's first.
    fn in_turn(&self, now_ms: u64) -> impl Iterator<Item = (&Target, &Entry)> {
        let is_due = move |(target, entry): &(&Target, &Entry)| {
            let may_be = !entry.own && entry.due_ms <= now_ms && !entry.addresses.is_empty();
            let waits = may_be && !self.under_way.contains_key(target);
            waits && peer_of(target, entry).is_none_or(|peer| !self.connected.contains(&peer))
        };
        let (local, beyond_peers) = (Target::Peer(self.local), Target::Address(Multiaddr::empty()));
        let after = self.entries.range(&local..&beyond_peers).filter(is_due);
        let before = self.entries.range(..&local).filter(is_due);
        let anywhere = iter::once_with(move || {
            let mut addresses: Vec<_> = self.entries.range(&beyond_peers..).filter(is_due).collect();
            let first = usize::from(self.local.0[0]) % addresses.len().max(1);
            addresses.rotate_left(first);
            addresses
        });
        after.chain(before).chain(anywhere.flatten())
    }

    /// This node looks at its deadlines, so long after it should have.
    pub fn ticked(&mut self, late_ms: u64, now_ms: u64) {
        self.pace.ticked(late_ms, now_ms);
    }

    /// A connection to `peer` stands, made by dialling `via` or by the peer.
    pub fn connected(&mut self, peer: PeerId, via: Option<&Target>, now_ms: u64) {
        self.connected.insert(peer);
        let Some(target) = via else { return };
        self.under_way.remove(target);
        let Some(entry) = self.entries.get_mut(target) else { return };
        entry.seen_ms = now_ms;
        if matches!(target, Target::Address(_)) {
            entry.leads_to = Some(peer);
        }
    }

    /// `peer` was admitted: it is dialled for ever, at `address` too if that is one that can be dialled. One that dialled
    /// this node has no address yet: it says a moment later where it listens.
    pub fn admitted(&mut self, peer: PeerId, address: Option<Multiaddr>, now_ms: u64) {
        let target = Target::Peer(peer);
        if self.make_room(&target, Source::Identify, now_ms) {
            self.entries.entry(target).or_insert_with(|| Entry::new(now_ms));
        }
        if let Some(address) = address.and_then(split_peer).map(|(address, _)| address) {
            self.found(address.with(Protocol::P2p(identity::to_libp2p(peer))), Source::Identify, now_ms);
        }
        self.each_of(peer, |_, entry| {
            entry.member = true;
            entry.seen_ms = now_ms;
            (entry.failures, entry.refusals) = (0, 0);
            entry.trouble = None;
        });
    }

    /// The last connection to `peer` closed.
    pub fn disconnected(&mut self, peer: PeerId, now_ms: u64) {
        self.connected.remove(&peer);
        self.each_of(peer, |target, entry| {
            entry.seen_ms = now_ms;
            // Where the identity is known it is dialled first; whoever took over the bare address comes second.
            let patience = if matches!(target, Target::Peer(_)) { 1 } else { 4 };
            entry.due_ms = now_ms + limits::REDIAL_FIRST_MS * patience;
        });
    }

    /// `peer` did not admit this node, or was not admitted, or was sent away.
    pub fn refused(&mut self, peer: PeerId, now_ms: u64) {
        let local = self.local;
        self.each_of(peer, |target, entry| {
            entry.refusals = entry.refusals.saturating_add(1);
            entry.due_ms = now_ms + backoff::delay_ms(local, target, entry, now_ms);
        });
    }

    /// A dial did not lead to a connection.
    pub fn failed(&mut self, target: &Target, now_ms: u64) {
        self.under_way.remove(target);
        let Some(entry) = self.entries.get_mut(target) else { return };
        entry.failures = entry.failures.saturating_add(1);
        entry.due_ms = now_ms + backoff::delay_ms(self.local, target, entry, now_ms);
    }

    /// Somebody else than `target` answered at `address`, maybe this node itself: then a bare address is never
    /// dialled again.
    pub fn misled(&mut self, target: &Target, address: Multiaddr, is_own: bool) {
        let Some(entry) = self.entries.get_mut(target) else { return };
        entry.own = is_own && matches!(target, Target::Address(_));
        let Some((address, _)) = split_peer(address) else { return };
        let misleading = entry.addresses.iter_mut().filter(|known| known.address == address);
        misleading.for_each(|known| known.misleads = true);
    }

    /// Forgets what was suggested long ago, was never a member, and that no person named.
    pub fn forget_stale(&mut self, now_ms: u64) {
        let connected = &self.connected;
        self.entries.retain(|target, entry| {
            let stale = entry.seen_ms + limits::SUGGESTION_TTL_MS < now_ms;
            let held = peer_of(target, entry).is_some_and(|peer| connected.contains(&peer));
            !stale || held || entry.member || entry.is_lasting()
        });
    }

    /// What is known of `peer`'s addresses.
    pub fn addresses_of(&self, peer: PeerId) -> Vec<Multiaddr> {
        let entry = self.entries.get(&Target::Peer(peer));
        entry.map(|entry| entry.addresses.iter().map(|known| known.address.clone()).collect()).unwrap_or_default()
    }

    /// Every member with its addresses, for the peer cache; those of an earlier life too, as long as they are dialled: a
    /// node that ends before they are back must not forget them.
    pub fn members(&self) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let members = self.entries.iter().filter_map(|(target, entry)| match target {
            Target::Peer(peer) if entry.member || entry.is_cached() => Some((*peer, self.addresses_of(*peer))),
            _ => None,
        });
        members.filter(|(_, addresses)| !addresses.is_empty()).collect()
    }

    /// Applies `change` to the entry of `peer` and to the bare addresses that lead to it.
    fn each_of(&mut self, peer: PeerId, change: impl Fn(&Target, &mut Entry)) {
        let leading = self.entries.iter_mut().filter(|(target, entry)| peer_of(target, entry) == Some(peer));
        leading.for_each(|(target, entry)| change(target, entry));
    }

    /// Whether there is a place for `target`, if need be after the eldest entry that matters least has gone.
    fn make_room(&mut self, target: &Target, source: Source, now_ms: u64) -> bool {
        if self.entries.contains_key(target) || self.entries.len() < limits::TARGETS_MAX {
            return true;
        }
        self.forget_stale(now_ms);
        if self.entries.len() < limits::TARGETS_MAX {
            return true;
        }
        if !source.is_lasting() && source != Source::Identify {
            return false;
        }
        let connected = &self.connected;
        let dispensable = self.entries.iter().filter(|(target, entry)| {
            let held = peer_of(target, entry).is_some_and(|peer| connected.contains(&peer));
            !held && !self.under_way.contains_key(target) && !entry.is_lasting()
        });
        let eldest =
            dispensable.min_by_key(|(_, entry)| (entry.member, entry.seen_ms)).map(|(target, _)| target.clone());
        eldest.is_some_and(|eldest| self.entries.remove(&eldest).is_some())
    }
}

/// The peer that `target` is or was found to be.
fn peer_of(target: &Target, entry: &Entry) -> Option<PeerId> {
    match target {
        Target::Peer(peer) => Some(*peer),
        Target::Address(_) => entry.leads_to,
    }
}

/// Adds `address` to at most [`limits::PEER_ADDRESSES_MAX`]; one that no person named gives way to a newer one. What others
/// say of a peer displaces only what others said.
fn add_address(addresses: &mut Vec<Known>, address: Multiaddr, source: Source) -> bool {
    if let Some(known) = addresses.iter_mut().find(|known| known.address == address) {
        known.sources.insert(source);
        return false;
    }
    if addresses.len() == limits::PEER_ADDRESSES_MAX {
        let Some(place) = addresses.iter().position(|known| {
            !known.is_lasting() && (!source.is_hearsay() || known.sources.iter().all(|source| source.is_hearsay()))
        }) else {
            return false;
        };
        addresses.remove(place);
    }
    addresses.push(Known { address, sources: [source].into(), misleads: false });
    true
}

#[cfg(test)]
mod tests;
