//! Connections and admission: from a connected stranger to a member, and back.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use libp2p::core::ConnectedPoint;
use libp2p::request_response::{Event, Message, OutboundFailure, ResponseChannel};
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId as Libp2pPeerId};
use magpie_core::access::Role;
use magpie_core::ids::PeerId;
use magpie_core::time::Wall;
use tokio::time::{Duration, Instant};

use super::Node;
use crate::admission::{Answer, Credentials, Greeting, Passport};
use crate::book::split_peer;
use crate::config::Admission;
use crate::door::Opening;
use crate::event::NetEvent;
use crate::handle::{Link, PeerInfo};
use crate::identity;
use crate::limits;
use crate::network::Network;
use crate::watch::BannedPeer;

/// What a node that does not admit this one says: nothing.
const NOT_ADMITTED: &str =
    "it closed the connection and did not admit this node: another cluster key, or not on its list";

/// How far a connected peer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    Stranger,
    /// Its proof holds; it has not said yet that ours does.
    Verified,
    /// It may ask, as what its ticket says, and is no member: nobody asks or dials it, or tells of it.
    Guest,
    Admitted,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub id: ConnectionId,
    /// Where we dialled it.
    pub dialled: Option<Multiaddr>,
    /// Where it came in, if the peer dialled.
    pub arrived: Option<Multiaddr>,
    pub remote: Multiaddr,
    pub relayed: bool,
    pub since: Instant,
}

/// A connected peer.
#[derive(Debug)]
pub(super) struct Peer {
    standing: Standing,
    /// The life of its process that we verified.
    boot: Option<u64>,
    /// What it was verified to be.
    passport: Option<Passport>,
    pub connections: Vec<Connection>,
    /// Whether there was anything to refuse: this node dialled it or sent it away, or it presented itself.
    spoken: bool,
    /// Until when it must be admitted; a guest, until when it must ask something.
    deadline: Instant,
}

impl Peer {
    pub(super) fn is_admitted(&self) -> bool {
        self.standing == Standing::Admitted
    }

    /// Whether it is sent away when its time is over.
    pub(super) fn may_be_late(&self) -> bool {
        self.standing < Standing::Guest
    }

    fn is_guest(&self) -> bool {
        self.passport.is_some_and(|passport| passport.role != Role::Peer)
    }
}

pub(crate) fn is_loopback(address: &Multiaddr) -> bool {
    address.ip_addr().is_some_and(|ip| ip.is_loopback())
}

impl Node {
    pub(super) fn on_connected(&mut self, peer: Libp2pPeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        let via = self.dials.ended(id);
        let Some(peer) = identity::from_libp2p(&peer) else {
            self.close(id);
            return;
        };
        let now_ms = self.now_ms();
        self.book.connected(peer, via.as_ref(), now_ms);
        let dialled = endpoint.is_dialer().then(|| endpoint.get_remote_address().clone());
        let (is_dialler, relayed) = (dialled.is_some(), endpoint.is_relayed());
        if !is_dialler && !relayed {
            let is_far = !is_loopback(endpoint.get_remote_address());
            self.shared.count(|counters| {
                counters.connections_taken += 1;
                counters.connections_from_afar += u64::from(is_far);
            });
        }
        let arrived = match endpoint {
            ConnectedPoint::Listener { local_addr, .. } => Some(local_addr.clone()),
            ConnectedPoint::Dialer { .. } => None,
        };
        let (remote, since) = (endpoint.get_remote_address().clone(), Instant::now());
        let connection = Connection { id, dialled, arrived, remote, relayed, since };
        let entry = self.peers.entry(peer).or_insert_with(|| Peer {
            standing: Standing::Stranger,
            boot: None,
            passport: None,
            connections: Vec::new(),
            spoken: false,
            deadline: Instant::now() + Duration::from_millis(limits::ADMISSION_MS),
        });
        entry.spoken |= is_dialler;
        entry.connections.push(connection);
        if entry.standing == Standing::Admitted {
            self.doors.shut_half(identity::to_libp2p(peer));
        }
        if !relayed {
            self.leave_the_relay(peer);
        }
        self.note_ways(peer);
        if is_dialler {
            let hello = Greeting::Hello(self.admitter.credentials_for(peer, wall()));
            self.greet(peer, hello);
        }
    }

    pub(super) fn on_disconnected(&mut self, libp2p_peer: Libp2pPeerId, id: ConnectionId, remaining: u32) {
        if remaining == 0 {
            self.doors.forget(&libp2p_peer);
        }
        let Some(peer) = identity::from_libp2p(&libp2p_peer) else { return };
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        entry.connections.retain(|connection| connection.id != id);
        let (standing, spoken) = (entry.standing, entry.spoken);
        let waited = self.partings.closed(peer, id);
        if remaining > 0 {
            self.note_ways(peer);
            if standing == Standing::Admitted {
                self.open_lane_elsewhere(peer, id);
                // Whatever was to be learned over the one that closed: the others were open both ways.
                self.doors.open(libp2p_peer, Opening::BothWays);
            }
            return waited.into_iter().for_each(|request| self.send_request(request));
        }
        self.peers.remove(&peer);
        waited.into_iter().for_each(|request| self.send_request(request));
        let now_ms = self.now_ms();
        self.whereabouts.forget(peer, now_ms);
        self.book.disconnected(peer, now_ms);
        match standing {
            Standing::Admitted => self.lose(peer),
            Standing::Guest => tracing::info!(%peer, "guest left"),
            // As one who looks whether an address of this node answers.
            Standing::Stranger if !spoken => tracing::debug!(%peer, "it came, and left without a word"),
            Standing::Stranger | Standing::Verified => {
                if self.book.trouble_of(peer).is_none() {
                    self.book.note_refusal(peer, NOT_ADMITTED);
                }
                self.book.refused(peer, now_ms);
                self.shared.count(|counters| counters.peers_refused += 1);
            }
        }
    }

    /// Sends a greeting over the connection that request-response picks: standing is the peer's, not the connection's.
    fn greet(&mut self, peer: PeerId, greeting: Greeting) {
        self.swarm.behaviour_mut().admission.send_request(&identity::to_libp2p(peer), greeting);
    }

    pub(super) fn on_admission_event(&mut self, event: Event<Greeting, Answer>) {
        match event {
            Event::Message { peer, connection_id, message } => {
                let Some(peer) = identity::from_libp2p(&peer) else { return };
                self.peers.get_mut(&peer).into_iter().for_each(|entry| entry.spoken = true);
                match message {
                    Message::Request { request: Greeting::Hello(presented), channel, .. } => {
                        self.on_hello(peer, connection_id, &presented, channel);
                    }
                    Message::Request { request: Greeting::Confirm, channel, .. } => self.on_confirm(peer, channel),
                    Message::Response { response: Answer::Welcome(presented), .. } => {
                        self.on_welcome(peer, connection_id, &presented);
                    }
                    Message::Response { response: Answer::Confirmed, .. } => {}
                }
            }
            Event::OutboundFailure { peer, connection_id, error, .. } => {
                let Some(peer) = identity::from_libp2p(&peer) else { return };
                match self.standing(peer) {
                    Some(Standing::Stranger | Standing::Verified) => {
                        self.on_greeting_lost(peer, connection_id, &error);
                    }
                    Some(Standing::Admitted) if is_lost(&error) => self.show_again(peer, connection_id),
                    _ => {}
                }
            }
            Event::InboundFailure { peer, error, .. } => {
                let Some(peer) = identity::from_libp2p(&peer) else { return };
                if self.standing(peer) == Some(Standing::Stranger) {
                    self.send_away(peer, &error.to_string());
                }
            }
            Event::ResponseSent { .. } => {}
        }
    }

    /// A refusal closes every connection. Where another stays, only the greeting went with its connection.
    fn on_greeting_lost(&mut self, peer: PeerId, lost: ConnectionId, error: &OutboundFailure) {
        let closed = is_lost(error);
        let connections = self.peers.get(&peer).into_iter().flat_map(|entry| &entry.connections);
        let others: Vec<bool> = connections.filter(|held| held.id != lost).map(|held| held.dialled.is_some()).collect();
        match others.as_slice() {
            [] => self.send_away(peer, &if closed { NOT_ADMITTED.to_owned() } else { error.to_string() }),
            _ if !closed => self.send_away(peer, &error.to_string()),
            others if others.contains(&true) => {
                let hello = Greeting::Hello(self.admitter.credentials_for(peer, wall()));
                self.greet(peer, hello);
            }
            // The peer dialled the others, and presents itself there.
            _ => {}
        }
    }

    /// What this node showed to a member went with a connection beside another: it may have been what it is by now.
    fn show_again(&mut self, peer: PeerId, lost: ConnectionId) {
        let connections = self.peers.get(&peer).into_iter().flat_map(|entry| &entry.connections);
        if connections.filter(|held| held.id != lost).count() > 0 {
            let hello = Greeting::Hello(self.admitter.credentials_for(peer, wall()));
            self.greet(peer, hello);
        }
    }

    /// The dialler presents itself. Nothing is answered before its proof holds.
    fn on_hello(&mut self, peer: PeerId, id: ConnectionId, presented: &Credentials, channel: ResponseChannel<Answer>) {
        match self.admitter.verify(peer, presented, wall()) {
            Ok(passport) => self.verified(peer, id, presented.boot, passport),
            Err(error) => return self.send_away(peer, &error.to_string()),
        }
        let welcome = Answer::Welcome(self.admitter.credentials_for(peer, wall()));
        // It fails when the peer has gone: its connection then ends too.
        let _ = self.swarm.behaviour_mut().admission.send_response(channel, welcome);
    }

    /// The dialled presents itself in turn.
    fn on_welcome(&mut self, peer: PeerId, id: ConnectionId, presented: &Credentials) {
        match self.admitter.verify(peer, presented, wall()) {
            Ok(Passport { role: Role::Agent | Role::Operator, .. }) => {
                return self.send_away(peer, "it is no member, and only members are dialled");
            }
            Ok(passport) => self.verified(peer, id, presented.boot, passport),
            Err(error) => return self.send_away(peer, &error.to_string()),
        }
        self.admit(peer);
        self.greet(peer, Greeting::Confirm);
    }

    fn on_confirm(&mut self, peer: PeerId, channel: ResponseChannel<Answer>) {
        if self.standing(peer) < Some(Standing::Verified) {
            return self.send_away(peer, "it confirmed what was never answered");
        }
        let _ = self.swarm.behaviour_mut().admission.send_response(channel, Answer::Confirmed);
        self.admit(peer);
    }

    /// Opens the door to a peer whose proof holds: of a guest's, only what it may ask by.
    fn verified(&mut self, peer: PeerId, id: ConnectionId, boot: u64, passport: Passport) {
        if self.peers.get(&peer).is_some_and(|entry| entry.boot.is_some_and(|known| known != boot)) {
            self.on_restarted(peer, id);
        }
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        entry.boot = Some(boot);
        entry.standing = entry.standing.max(Standing::Verified);
        // Who is a member already stays one as long as that holds.
        if entry.standing < Standing::Admitted || passport.role == Role::Peer {
            entry.passport = Some(passport);
        }
        let opening = if entry.is_guest() { Opening::Asking } else { Opening::Inward };
        self.doors.open(identity::to_libp2p(peer), opening);
    }

    /// The peer's process is another than the one we knew: the other connections lead nowhere, whatever they seem to
    /// be. QUIC would need its idle timeout to notice, and a request sent there would be lost.
    fn on_restarted(&mut self, peer: PeerId, id: ConnectionId) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        let was_admitted = std::mem::replace(&mut entry.standing, Standing::Stranger) == Standing::Admitted;
        entry.passport = None;
        entry.deadline = Instant::now() + Duration::from_millis(limits::ADMISSION_MS);
        let dead: Vec<_> =
            entry.connections.iter().map(|connection| connection.id).filter(|known| *known != id).collect();
        dead.into_iter().for_each(|dead| self.close(dead));
        if was_admitted {
            self.lose(peer);
        }
    }

    /// Both sides verified each other.
    pub(super) fn admit(&mut self, peer: PeerId) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        if entry.is_guest() {
            return self.admit_guest(peer);
        }
        self.doors.open(identity::to_libp2p(peer), Opening::BothWays);
        if entry.standing == Standing::Admitted {
            return;
        }
        entry.standing = Standing::Admitted;
        let dialled = entry.connections.iter().find_map(|connection| connection.dialled.clone());
        let remote: Vec<_> = entry.connections.iter().map(|connection| connection.remote.clone()).collect();
        let was_reached = entry.connections.iter().any(|connection| {
            let is_near = Network::of(&connection.remote) < Network::Internet;
            connection.dialled.is_none() && !connection.relayed && is_near
        });
        let now_ms = self.now_ms();
        self.book.admitted(peer, dialled, now_ms);
        let known = self.book.addresses_of(peer).into_iter().chain(remote);
        // Who came by way of a relay came from nowhere else.
        let bare = known.filter_map(split_peer).map(|(address, _)| address).filter(|address| !address.is_empty());
        let bare = bare.map(|address| address.to_string());
        let addresses: Vec<String> = bare.collect::<BTreeSet<_>>().into_iter().collect();
        tracing::info!(%peer, ?addresses, "peer admitted");
        self.shared.count(|counters| counters.peers_admitted += 1);
        self.shared.add_link(peer, Link::new(peer, addresses.clone()));
        self.note_ways(peer);
        self.inbox.tell(NetEvent::PeerAdmitted { peer, addresses });
        self.open_lane_later(peer, 0);
        self.open_the_due_lanes();
        let members = self.admitted().count();
        self.members.ask_the_newest(peer, members, now_ms);
        self.ask_the_next_member();
        if was_reached {
            self.was_reached();
        }
        self.add_to_table(peer);
        self.ask_soon();
    }

    /// Lets a guest ask. It is no member: no event and no link tells of it.
    fn admit_guest(&mut self, peer: PeerId) {
        if self.standing(peer) == Some(Standing::Guest) {
            return;
        }
        if self.peers.values().filter(|entry| entry.standing == Standing::Guest).count() >= limits::GUESTS_MAX {
            return self.send_away(peer, "there are as many guests as may be");
        }
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        entry.standing = Standing::Guest;
        tracing::info!(%peer, passport = ?entry.passport, "guest admitted");
        self.guest_asks(peer);
    }

    /// As what an admitted peer asks; `None` for who may not.
    pub(super) fn role_of(&self, peer: PeerId) -> Option<Role> {
        let entry = self.peers.get(&peer).filter(|entry| entry.standing >= Standing::Guest)?;
        entry.passport.map(|passport| passport.role)
    }

    /// A guest is pinged by nobody: one that went without a word would hold its place for ever.
    pub(super) fn guest_asks(&mut self, peer: PeerId) {
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.deadline = Instant::now() + Duration::from_millis(limits::GUEST_SILENT_MS);
        }
    }

    fn lose(&mut self, peer: PeerId) {
        tracing::info!(%peer, "peer lost");
        self.shared.count(|counters| counters.peers_lost += 1);
        self.shared.remove_link(peer);
        self.lanes.forget(peer);
        self.members.forget(peer);
        self.points.forget(peer);
        self.drop_from_table(peer);
        self.inbox.tell(NetEvent::PeerLost { peer });
    }

    /// The connection that a lane is opened on: of the nearest the one that the peer asks on, if it does, or the newest.
    pub(super) fn connection_of(&self, peer: PeerId) -> Option<ConnectionId> {
        let served_on = self.lanes.served_on(peer);
        let rank = |held: &&Connection| (Network::of(&held.remote), Some(held.id) != served_on, Reverse(held.id));
        let staying = self.peers.get(&peer)?.connections.iter().filter(|held| self.stays(peer, held.id));
        staying.min_by_key(rank).map(|held| held.id)
    }

    /// Whether that connection stands, and is not being closed.
    pub(super) fn stays(&self, peer: PeerId, id: ConnectionId) -> bool {
        let held = self.peers.get(&peer).is_some_and(|entry| entry.connections.iter().any(|held| held.id == id));
        held && !self.partings.is_closing(peer, id)
    }

    /// The nearest network that `peer` is met over: its addresses there are of use to this node, and this node's to it.
    pub(super) fn network_of(&self, peer: PeerId) -> Network {
        self.remotes_of(peer).map(Network::of).min().unwrap_or(Network::Internet)
    }

    /// Where `peer` is met; where a relay is says nothing of where the peer is.
    pub(super) fn remotes_of(&self, peer: PeerId) -> impl Iterator<Item = &Multiaddr> {
        let connections = self.peers.get(&peer).into_iter().flat_map(|entry| &entry.connections);
        connections.filter(|connection| !connection.relayed).map(|connection| &connection.remote)
    }

    /// Where `peer` is met, by way of relays too.
    pub(super) fn all_remotes_of(&self, peer: PeerId) -> impl Iterator<Item = &Multiaddr> {
        self.peers.get(&peer).into_iter().flat_map(|entry| &entry.connections).map(|connection| &connection.remote)
    }

    /// Where that connection came in, if the peer made it.
    pub(super) fn arrived_at(&self, peer: PeerId, id: ConnectionId) -> Option<Multiaddr> {
        let connections = &self.peers.get(&peer)?.connections;
        connections.iter().find(|connection| connection.id == id && !connection.relayed)?.arrived.clone()
    }

    fn note_ways(&self, peer: PeerId) {
        let connections = self.peers.get(&peer).map_or(&[][..], |entry| &entry.connections);
        let relayed = !connections.is_empty() && connections.iter().all(|held| held.relayed);
        let note = |info: &mut PeerInfo| (info.relayed, info.connections) = (relayed, connections.len());
        self.shared.link(peer).into_iter().for_each(|link| link.update(note));
    }

    /// Closes the connections by way of a relay to a peer that is reached without one.
    fn leave_the_relay(&mut self, peer: PeerId) {
        let connections = self.peers.get(&peer).into_iter().flat_map(|entry| &entry.connections);
        let relayed: Vec<_> =
            connections.filter(|connection| connection.relayed).map(|connection| connection.id).collect();
        relayed.into_iter().for_each(|connection| self.close(connection));
    }

    /// The members that this node dialled by way of a relay and meets in no other way, each with where it did. Of two
    /// that dialled each other, it is the lesser that did.
    pub(super) fn dialled_by_relays_alone(&self) -> BTreeMap<PeerId, Multiaddr> {
        let relayed = self.peers.iter().filter(|(peer, entry)| {
            let by_relays_alone = entry.connections.iter().all(|connection| connection.relayed);
            let was_dialled = entry.connections.iter().any(|connection| connection.arrived.is_some());
            entry.standing == Standing::Admitted && by_relays_alone && (!was_dialled || self.local < **peer)
        });
        let dialled = relayed.filter_map(|(peer, entry)| {
            let circuit = entry.connections.iter().find_map(|connection| connection.dialled.clone());
            circuit.map(|circuit| (*peer, circuit))
        });
        dialled.collect()
    }

    /// Closes that connection to `peer` unless it is the only one.
    pub(super) fn close_beside_another(&mut self, peer: PeerId, id: ConnectionId) {
        if self.peers.get(&peer).is_some_and(|entry| entry.connections.iter().any(|held| held.id != id)) {
            self.close(id);
        }
    }

    /// How many were dialled and are connected, and are not admitted yet.
    pub(super) fn unmet(&self) -> usize {
        let is_dialled = |entry: &&Peer| entry.connections.iter().any(|connection| connection.dialled.is_some());
        let unmet = self.peers.values().filter(|entry| entry.standing < Standing::Guest);
        unmet.filter(is_dialled).count()
    }

    pub(super) fn standing(&self, peer: PeerId) -> Option<Standing> {
        self.peers.get(&peer).map(|entry| entry.standing)
    }

    /// Closes every connection to `peer`; it is dialled again after a back-off.
    pub(super) fn send_away(&mut self, peer: PeerId, reason: &str) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        entry.spoken = true;
        tracing::info!(%peer, reason, "peer sent away");
        let now_ms = self.now_ms();
        self.book.note_refusal(peer, reason);
        self.book.refused(peer, now_ms);
        // It fails when the last connection has just closed.
        let _ = self.swarm.disconnect_peer_id(identity::to_libp2p(peer));
    }

    pub(super) fn reconnect(&mut self, peer: PeerId) {
        // It fails when nothing is connected: then it is dialled already.
        let _ = self.swarm.disconnect_peer_id(identity::to_libp2p(peer));
    }

    /// They may come again when their ban is over: until then the quota refuses their connections.
    pub(super) fn send_away_the_banned(&mut self) {
        for BannedPeer { peer, for_ms, times, offence } in self.shared.watch.take_fallen() {
            let offence = offence.name();
            tracing::warn!(%peer, offence, for_ms, times, "peer banned");
            self.shared.count(|counters| counters.peers_banned += 1);
            self.send_away(peer, "it is banned");
        }
    }

    pub(super) fn send_away_the_late(&mut self) {
        let now = Instant::now();
        let late = self.peers.iter().filter(|(_, entry)| entry.deadline < now).filter_map(|(peer, entry)| {
            let reason = match entry.standing {
                Standing::Stranger | Standing::Verified => "it was not admitted in time",
                Standing::Guest => "it asked nothing for long",
                Standing::Admitted => return None,
            };
            Some((*peer, reason))
        });
        let late: Vec<_> = late.collect();
        late.into_iter().for_each(|(peer, reason)| self.send_away(peer, reason));
    }

    /// Looks by what each was admitted: tickets and former keys end.
    pub(super) fn send_away_the_expired(&mut self) {
        let wall = wall();
        let expired = self.peers.iter().filter_map(|(peer, entry)| {
            let error = self.admitter.holds(*peer, &entry.passport?, wall).err()?;
            Some((*peer, error.to_string()))
        });
        let expired: Vec<_> = expired.collect();
        expired.into_iter().for_each(|(peer, reason)| self.send_away(peer, &reason));
    }

    /// Takes other rules: whom they do not admit goes at once, and who stays is shown what this node is by now.
    pub(super) fn admit_by(&mut self, rules: Admission) {
        // What a person decided about single peers is not among them.
        self.admitter.set_rules(Admission { rules: self.rules.clone(), ..rules });
        self.send_away_the_expired();
        let members: Vec<PeerId> = self.admitted().collect();
        for peer in members {
            let hello = Greeting::Hello(self.admitter.credentials_for(peer, wall()));
            self.greet(peer, hello);
        }
    }
}

/// Whether a greeting went with its connection.
fn is_lost(error: &OutboundFailure) -> bool {
    matches!(error, OutboundFailure::ConnectionClosed | OutboundFailure::Io(_))
}

/// Tickets end by the wall clock.
fn wall() -> Wall {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Wall(since.as_millis() as u64)
}
