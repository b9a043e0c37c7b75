//! Asks members whether they can dial this node back, dials back those who ask, and tells others where this node is.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use libp2p::Multiaddr;
use libp2p::request_response::{Event, Message, OutboundFailure, ResponseChannel};
use libp2p::swarm::derive_prelude::{ExternalAddrConfirmed, ExternalAddrExpired, NewExternalAddrCandidate};
use libp2p::swarm::{ConnectionId, FromSwarm, NetworkBehaviour};
use magpie_core::ids::PeerId;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::Node;
use super::admit::Standing;
use crate::identity;
use crate::limits;
use crate::network::{Network, is_afar, is_relayed};
use crate::reach::dial_back::DialBack;
use crate::reach::message::{ReachAnswer, ReachAsk};
use crate::reach::{Seen, may_dial, router};

/// A dial back that has ended: who asked, and what it is told.
pub(super) struct DialledBack {
    peer: PeerId,
    channel: ResponseChannel<ReachAnswer>,
    answer: ReachAnswer,
}

/// The members that are dialled back.
pub(super) struct DialBacks {
    /// Made for the first who asks.
    dial_back: Option<DialBack>,
    under_way: FuturesUnordered<BoxFuture<'static, DialledBack>>,
    /// Who is served just now, or was not long ago.
    served: HashMap<PeerId, Served>,
}

struct Served {
    at_ms: u64,
    is_over: bool,
}

impl Default for DialBacks {
    fn default() -> Self {
        Self { dial_back: None, under_way: FuturesUnordered::new(), served: HashMap::new() }
    }
}

impl DialBacks {
    /// Waits for the next that has ended; none while nobody is dialled back.
    pub async fn next_ended(&mut self) -> Option<DialledBack> {
        self.under_way.next().await
    }

    fn has_room_for(&mut self, peer: PeerId, now_ms: u64) -> bool {
        self.served.retain(|_, served| !served.is_over || served.at_ms + limits::REACH_ANSWER_EVERY_MS > now_ms);
        self.under_way.len() < limits::DIAL_BACKS_MAX && !self.served.contains_key(&peer)
    }

    fn dial_back(&mut self) -> Result<&mut DialBack, String> {
        let made = match self.dial_back.take() {
            Some(made) => made,
            None => {
                let mut seed = [0u8; 32];
                getrandom::fill(&mut seed).map_err(|error| error.to_string())?;
                DialBack::new(seed)?
            }
        };
        Ok(self.dial_back.insert(made))
    }
}

/// To the task that asks the router to let others in, and from it.
pub(super) struct RouterDesk {
    listening: watch::Sender<BTreeSet<Multiaddr>>,
    granted: mpsc::Receiver<BTreeSet<Multiaddr>>,
}

impl RouterDesk {
    pub fn open(tasks: &mut JoinSet<()>) -> Self {
        let (listening, listened) = watch::channel(BTreeSet::new());
        let (grant, granted) = mpsc::channel(1);
        tasks.spawn(router::keep_open(listened, grant));
        Self { listening, granted }
    }

    pub fn listens(&self, listening: &BTreeSet<Multiaddr>) {
        self.listening.send_if_modified(|known| {
            let changed = known != listening;
            known.clone_from(listening);
            changed
        });
    }

    /// What the router lets in by now; nothing where none is asked.
    pub async fn next_granted(desk: &mut Option<Self>) -> Option<BTreeSet<Multiaddr>> {
        match desk {
            Some(desk) => desk.granted.recv().await,
            None => None,
        }
    }
}

/// What others were told of where this node is.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    pub members: BTreeSet<Multiaddr>,
    as_relay: BTreeSet<Multiaddr>,
    /// When it is looked whether that still holds.
    due_ms: u64,
}

fn of_the_internet(addresses: &BTreeSet<Multiaddr>) -> BTreeSet<Multiaddr> {
    addresses.iter().filter(|address| Network::Internet.shares(address)).cloned().collect()
}

impl Node {
    /// Puts the next question, if one is due and somebody can answer it, and tells no more of what was true long ago.
    pub(super) fn look_where_it_is(&mut self) {
        let now_ms = self.now_ms();
        if let Some((peer, address)) = self.whereabouts.question(now_ms) {
            tracing::debug!(%peer, %address, "a member is asked to dial this node back");
            let ask = ReachAsk { address: address.to_string() };
            self.swarm.behaviour_mut().reach.inner_mut().send_request(&identity::to_libp2p(peer), ask);
        }
        if self.told.due_ms <= now_ms {
            self.tell_where_it_is();
        }
    }

    /// A member says where it sees this node. One that dialled a name says that: then the system knows where it came.
    pub(super) fn on_seen(&mut self, peer: PeerId, id: ConnectionId, observed: Multiaddr) {
        let now_ms = self.now_ms();
        if self.told.members.contains(&observed) {
            // Identify keeps to itself what it tells others already; it is where a way through a NAT may lead.
            let news = FromSwarm::NewExternalAddrCandidate(NewExternalAddrCandidate { addr: &observed });
            self.swarm.behaviour_mut().dcutr.inner_mut().on_swarm_event(news);
        }
        let arrived = self.arrived_at(peer, id);
        let seen = Seen::new(observed, arrived.is_some()).or_else(|| Seen::new(arrived?, true));
        if let Some(seen) = seen.filter(|_| self.network_of(peer) == Network::Internet) {
            self.whereabouts.seen_by(peer, seen, now_ms);
        }
    }

    pub(super) fn on_reach_event(&mut self, event: Event<ReachAsk, ReachAnswer>) {
        let now_ms = self.now_ms();
        match event {
            Event::Message { peer, message: Message::Request { request, channel, .. }, .. } => {
                let Some(peer) = identity::from_libp2p(&peer) else { return };
                match self.standing(peer) {
                    // Its confirmation travels on another substream and may come later: a question says the same.
                    Some(Standing::Verified) => self.admit(peer),
                    Some(Standing::Admitted) => {}
                    // A channel that is dropped tells the peer that there is no answer.
                    Some(Standing::Stranger | Standing::Guest) | None => return,
                }
                self.dial_it_back(peer, &request, channel);
            }
            Event::Message { peer, message: Message::Response { response, .. }, .. } => {
                tracing::debug!(%peer, ?response, "a member was asked to dial this node back");
                self.whereabouts.answered(response, now_ms);
                self.tell_where_it_is();
            }
            Event::OutboundFailure { peer, error, .. } => {
                tracing::debug!(%peer, %error, "a member does not say whether it can dial this node back");
                let Some(peer) = identity::from_libp2p(&peer) else { return };
                let knows = !matches!(error, OutboundFailure::UnsupportedProtocols);
                self.whereabouts.unanswered(peer, knows, now_ms);
            }
            Event::InboundFailure { .. } | Event::ResponseSent { .. } => {}
        }
    }

    pub(super) fn on_granted(&mut self, granted: BTreeSet<Multiaddr>) {
        let now_ms = self.now_ms();
        self.whereabouts.granted(granted, now_ms);
        self.tell_where_it_is();
    }

    fn dial_it_back(&mut self, peer: PeerId, ask: &ReachAsk, channel: ResponseChannel<ReachAnswer>) {
        let now_ms = self.now_ms();
        let refusal = match may_dial(&ask.address, &self.seen_at(peer)) {
            Err(why) => why.to_owned(),
            Ok(_) if !self.dial_backs.has_room_for(peer, now_ms) => "too many are asked for".to_owned(),
            Ok(address) => match self.dial_backs.dial_back() {
                Err(why) => why,
                Ok(dial_back) => {
                    let dialled = dial_back.dial(address, identity::to_libp2p(peer));
                    let ended = async move { DialledBack { peer, channel, answer: dialled.await } };
                    self.dial_backs.under_way.push(Box::pin(ended));
                    self.dial_backs.served.insert(peer, Served { at_ms: now_ms, is_over: false });
                    return;
                }
            },
        };
        // It fails when the asker has gone.
        let _ = self.swarm.behaviour_mut().reach.inner_mut().send_response(channel, ReachAnswer::refused(refusal));
    }

    pub(super) fn on_dialled_back(&mut self, DialledBack { peer, channel, answer }: DialledBack) {
        if let Some(served) = self.dial_backs.served.get_mut(&peer) {
            served.is_over = true;
        }
        let _ = self.swarm.behaviour_mut().reach.inner_mut().send_response(channel, answer);
    }

    /// Where this node is, by now: to members, to rendezvous points, at a relay to who listens there, and to who looks
    /// for it in a registry.
    pub(super) fn tell_where_it_is(&mut self) {
        let now_ms = self.now_ms();
        self.answer_as_it_is_reached();
        let written = self.whereabouts.written(now_ms).into_iter().map(|address| self.with_local_peer(address));
        self.shared.set_reach(self.whereabouts.all(now_ms), written.collect());
        let members: BTreeSet<Multiaddr> = self.whereabouts.told_to(Network::Machine, now_ms).into_iter().collect();
        // A person made it a relay: whatever it listens on is of use to members.
        let as_relay = self.swarm.listeners().chain(&members).filter(|address| !is_relayed(address));
        let as_relay = as_relay.cloned().collect();
        let now = Told { members, as_relay, due_ms: now_ms + limits::REACH_RETRY_MS };
        let before = std::mem::replace(&mut self.told, now);
        let Told { members: now, as_relay, .. } = self.told.clone();
        let (near, afar) = (self.met_where(|remote| !is_afar(remote)), self.met_where(is_afar));
        let behaviour = self.swarm.behaviour_mut();
        if let Some(relay) = behaviour.relay.inner_mut().as_mut() {
            tell(relay, &before.as_relay, &as_relay);
        }
        if now == before.members {
            return;
        }
        let identify = behaviour.identify.inner_mut();
        tell(identify, &before.members, &now);
        identify.push(near);
        if let Some(client) = behaviour.rendezvous.inner_mut().as_mut() {
            tell(client, &before.members, &now);
        }
        let (before, now) = (of_the_internet(&before.members), of_the_internet(&now));
        if now == before {
            return;
        }
        let identify = behaviour.identify_afar.inner_mut();
        tell(identify, &before, &now);
        identify.push(afar);
        if let Some(client) = behaviour.rendezvous_afar.inner_mut().as_mut() {
            tell(client, &before, &now);
        }
    }

    /// The members that are met at such a place.
    fn met_where(&self, met: fn(&Multiaddr) -> bool) -> Vec<libp2p::PeerId> {
        let is_met = |peer: &PeerId| self.all_remotes_of(*peer).any(met);
        self.admitted().filter(is_met).map(identity::to_libp2p).collect()
    }

    /// The IP addresses at which this node meets `peer`.
    fn seen_at(&self, peer: PeerId) -> Vec<IpAddr> {
        self.remotes_of(peer).filter_map(Multiaddr::ip_addr).collect()
    }
}

/// Changes what a behaviour says of where this node is. The swarm is not told: a behaviour would tell whom it likes.
fn tell(behaviour: &mut impl NetworkBehaviour, before: &BTreeSet<Multiaddr>, now: &BTreeSet<Multiaddr>) {
    for addr in before.difference(now) {
        behaviour.on_swarm_event(FromSwarm::ExternalAddrExpired(ExternalAddrExpired { addr }));
    }
    for addr in now.difference(before) {
        behaviour.on_swarm_event(FromSwarm::ExternalAddrConfirmed(ExternalAddrConfirmed { addr }));
    }
}
