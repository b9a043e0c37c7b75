//! Who is there: a small SWIM. Probes go to a few peers at a time, news ride on them, incarnations order the news.
//!
//! A verdict of silence needs an unanswered probe: a peer that was not asked is not suspected. Verdicts steer grants
//! and are shown; they never end a lease.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use crate::ids::{Incarnation, PeerId};
use crate::invariant::{InvariantId, check};
use crate::limits;
use crate::time::Now;

/// What a node holds of a peer. Of two verdicts on one incarnation, the later in this order wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerState {
    Alive,
    Suspect,
    Dead,
}

/// One member's view of another, carried by heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerReport {
    pub peer: PeerId,
    /// A peer's own number: its start's Unix milliseconds, raised by itself alone to contradict a suspicion.
    pub incarnation: Incarnation,
    pub state: PeerState,
}

/// What reaches a node about its peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MembershipEvent {
    /// A message of an admitted peer itself arrived.
    Heard { peer: PeerId, incarnation: Incarnation },
    /// A member says this. Of a peer never heard it changes nothing: hearsay does not admit.
    Reported(PeerReport),
    /// A peer is no longer admitted.
    Removed { peer: PeerId },
}

/// What the node must act on, or show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MembershipChange {
    /// A peer's state is another, or the peer is new.
    Became(PeerReport),
    /// A dead peer's capabilities and credits are void.
    Forgotten { peer: PeerId },
    /// This node was suspected and has raised its own incarnation: its next heartbeats carry it.
    Refuted { incarnation: Incarnation },
    /// [`limits::PEERS_MAX`] peers are kept and none of them is forgotten: this one is not.
    Refused { peer: PeerId },
}

/// A kept peer. Times are of the monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub incarnation: Incarnation,
    pub state: PeerState,
    /// When a message of the peer itself last arrived.
    pub heard_mono_ms: u64,
    /// A dead peer whose capabilities are void. It is still probed, and its incarnation still refuses old news.
    pub forgotten: bool,
    /// When the state began.
    since_mono_ms: u64,
    /// When the first probe since then went out that is not answered yet.
    probed_mono_ms: Option<u64>,
    /// How often the state is still to be reported.
    reports_left: u32,
}

impl Peer {
    /// When time alone takes the peer a state further.
    fn deadline(&self) -> Option<u64> {
        match self.state {
            PeerState::Alive => {
                let silent = self.heard_mono_ms.max(self.since_mono_ms) + limits::PEER_SUSPECT_MS;
                Some(silent.max(self.probed_mono_ms? + limits::HEARTBEAT_MS))
            }
            PeerState::Suspect => {
                let silent = self.heard_mono_ms + limits::PEER_DEAD_MS;
                Some(silent.max(self.since_mono_ms + limits::PEER_REFUTE_MS))
            }
            PeerState::Dead if self.forgotten => None,
            PeerState::Dead => Some(self.since_mono_ms + limits::HEARTBEAT_TIMEOUT_MS - limits::PEER_DEAD_MS),
        }
    }

    /// What was heard may have been said before the silence: only a higher incarnation is younger than a death.
    fn check_return(&self, (incarnation, state): (Incarnation, PeerState)) {
        let holds = state != PeerState::Dead || self.state == PeerState::Dead || self.incarnation > incarnation;
        check(InvariantId::I12, holds, "a dead peer is alive as it was");
    }

    fn enter(&mut self, now: Now, state: PeerState) {
        self.state = state;
        self.since_mono_ms = now.mono_ms;
        self.probed_mono_ms = None;
        self.forgotten = false;
    }
}

/// One node's view of all others. At most [`limits::PEERS_MAX`] peers.
#[derive(Debug)]
pub struct Membership {
    me: PeerId,
    incarnation: Incarnation,
    /// Ordered, so that probes and reports are the same in every run.
    peers: BTreeMap<PeerId, Peer>,
    /// Peers with reports left, each once.
    news: VecDeque<PeerId>,
    last_probed: PeerId,
    rounds: u32,
}

impl Membership {
    pub fn new(me: PeerId, incarnation: Incarnation) -> Self {
        // Nodes that start together go round together: each begins behind itself, so all ask another.
        Self { me, incarnation, peers: BTreeMap::new(), news: VecDeque::new(), last_probed: me, rounds: 0 }
    }

    /// This node's own incarnation: every message between peers carries it.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    pub fn peer(&self, peer: &PeerId) -> Option<&Peer> {
        self.peers.get(peer)
    }

    /// Every kept peer, by id.
    pub fn peers(&self) -> impl Iterator<Item = (&PeerId, &Peer)> {
        self.peers.iter()
    }

    pub fn handle(&mut self, now: Now, event: MembershipEvent) -> Vec<MembershipChange> {
        match event {
            MembershipEvent::Heard { peer, .. } if peer == self.me => Vec::new(),
            MembershipEvent::Heard { peer, incarnation } => self.heard(now, peer, incarnation),
            MembershipEvent::Reported(report) if report.peer == self.me => self.refute(report).into_iter().collect(),
            MembershipEvent::Reported(report) => self.reported(now, report).into_iter().collect(),
            MembershipEvent::Removed { peer } => {
                self.peers.remove(&peer);
                self.news.retain(|queued| *queued != peer);
                Vec::new()
            }
        }
    }

    /// What time alone has changed, at most one state per peer. Due at [`next_deadline`](Self::next_deadline).
    pub fn tick(&mut self, now: Now) -> Vec<MembershipChange> {
        self.excuse_own_stall(now);
        let due: Vec<PeerId> = self.peers.iter().filter(|(_, peer)| is_due(peer, now)).map(|(id, _)| *id).collect();
        due.into_iter().filter_map(|id| self.silent(now, id)).collect()
    }

    /// On the monotonic clock, in milliseconds.
    pub fn next_deadline(&self) -> Option<u64> {
        self.peers.values().filter_map(Peer::deadline).min()
    }

    /// How many heartbeats the round has that is due every [`limits::PROBE_EVERY_MS`]. Who is quiet sends one in every other
    /// round. With something to tell, of its own if `is_busy`, it is up to [`limits::PROBES_MAX`], yet none to one peer in each
    /// of two rounds.
    pub fn probes_due(&mut self, is_busy: bool) -> usize {
        self.rounds = self.rounds.wrapping_add(1);
        let is_suspect = |peer: &Peer| peer.state == PeerState::Suspect;
        if is_busy || !self.news.is_empty() || self.peers.values().any(is_suspect) {
            self.peers.len().div_ceil(2).clamp(2, limits::PROBES_MAX)
        } else {
            usize::from(self.rounds.is_multiple_of(2))
        }
    }

    /// The next peers to send a heartbeat to, at most `n`: suspects in up to half of
    /// the places, then everyone in turn. From here on their answers are waited for.
    pub fn probe_targets(&mut self, now: Now, n: usize) -> Vec<PeerId> {
        let suspects = self.peers.iter().filter(|(_, peer)| peer.state == PeerState::Suspect);
        let mut targets: Vec<PeerId> = suspects.map(|(id, _)| *id).take(n / 2).collect();
        let after = Bound::Excluded(self.last_probed);
        let in_turn = self.peers.range((after, Bound::Unbounded)).chain(&self.peers).map(|(id, _)| *id);
        for id in in_turn.take(self.peers.len()) {
            if targets.len() == n {
                break;
            }
            self.last_probed = id;
            if !targets.contains(&id) {
                targets.push(id);
            }
        }
        targets.iter().for_each(|id| self.probed(now, id));
        targets
    }

    /// A heartbeat goes to this peer out of its turn: from here on its answer is waited for.
    pub fn probed(&mut self, now: Now, id: &PeerId) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.probed_mono_ms.get_or_insert(now.mono_ms);
        }
    }

    /// At most `n` reports to ride on the next heartbeat: each change goes out about 3 log2(peers) times.
    pub fn reports(&mut self, n: usize) -> Vec<PeerReport> {
        let taken: Vec<PeerId> = self.news.drain(..n.min(self.news.len())).collect();
        taken.into_iter().filter_map(|id| self.report(id)).collect()
    }

    fn report(&mut self, id: PeerId) -> Option<PeerReport> {
        check(InvariantId::I12, id != self.me, "a node reports of itself");
        let peer = self.peers.get_mut(&id)?;
        peer.reports_left = peer.reports_left.saturating_sub(1);
        if peer.reports_left > 0 {
            self.news.push_back(id);
        }
        Some(PeerReport { peer: id, incarnation: peer.incarnation, state: peer.state })
    }

    fn heard(&mut self, now: Now, id: PeerId, incarnation: Incarnation) -> Vec<MembershipChange> {
        let Some(peer) = self.peers.get_mut(&id) else { return self.join(now, id, incarnation) };
        peer.heard_mono_ms = now.mono_ms;
        peer.probed_mono_ms = None;
        if peer.state == PeerState::Dead && incarnation <= peer.incarnation {
            // It may have been sent before the silence: the answer tells the peer, which refutes if it is there.
            self.spread(id);
            return Vec::new();
        }
        let before = (peer.incarnation, peer.state);
        let is_news = incarnation > peer.incarnation || peer.state != PeerState::Alive;
        let revived = peer.state != PeerState::Alive;
        peer.incarnation = peer.incarnation.max(incarnation);
        if revived {
            peer.enter(now, PeerState::Alive);
        }
        peer.check_return(before);
        if is_news {
            self.spread(id);
        }
        if revived { self.became(id).into_iter().collect() } else { Vec::new() }
    }

    fn join(&mut self, now: Now, id: PeerId, incarnation: Incarnation) -> Vec<MembershipChange> {
        if self.peers.len() >= limits::PEERS_MAX && !self.drop_longest_forgotten() {
            return vec![MembershipChange::Refused { peer: id }];
        }
        let peer = Peer {
            incarnation,
            state: PeerState::Alive,
            heard_mono_ms: now.mono_ms,
            forgotten: false,
            since_mono_ms: now.mono_ms,
            probed_mono_ms: None,
            reports_left: 0,
        };
        self.peers.insert(id, peer);
        self.spread(id);
        self.became(id).into_iter().collect()
    }

    fn drop_longest_forgotten(&mut self) -> bool {
        let forgotten = self.peers.iter().filter(|(_, peer)| peer.forgotten);
        let longest = forgotten.min_by_key(|(_, peer)| peer.since_mono_ms).map(|(id, _)| *id);
        longest.is_some_and(|id| {
            self.news.retain(|queued| *queued != id);
            self.peers.remove(&id).is_some()
        })
    }

    fn reported(&mut self, now: Now, report: PeerReport) -> Option<MembershipChange> {
        let peer = self.peers.get_mut(&report.peer)?;
        if !is_news(&report, peer) {
            return None;
        }
        let before = (peer.incarnation, peer.state);
        let is_newer = report.incarnation > peer.incarnation;
        peer.incarnation = report.incarnation;
        // A peer that this node hears itself is there, whoever else does not hear it.
        let heard_lately = now.mono_ms < peer.heard_mono_ms + limits::PEER_SUSPECT_MS;
        let state = if heard_lately { PeerState::Alive } else { report.state };
        let changed = state != peer.state;
        if changed {
            peer.enter(now, state);
        }
        peer.check_return(before);
        if changed || is_newer {
            self.spread(report.peer);
        }
        if changed { self.became(report.peer) } else { None }
    }

    /// Nobody but a node itself raises its incarnation, and none agrees that it is gone.
    fn refute(&mut self, report: PeerReport) -> Option<MembershipChange> {
        let held = (self.incarnation, PeerState::Alive);
        if (report.incarnation, report.state) <= held {
            return None;
        }
        self.incarnation = Incarnation(report.incarnation.0.saturating_add(1));
        Some(MembershipChange::Refuted { incarnation: self.incarnation })
    }

    fn silent(&mut self, now: Now, id: PeerId) -> Option<MembershipChange> {
        let peer = self.peers.get_mut(&id)?;
        let state = match peer.state {
            PeerState::Alive => PeerState::Suspect,
            PeerState::Suspect => PeerState::Dead,
            PeerState::Dead => {
                peer.forgotten = true;
                return Some(MembershipChange::Forgotten { peer: id });
            }
        };
        peer.enter(now, state);
        self.spread(id);
        self.became(id)
    }

    /// A node that stood still heard nobody: its peers get that time back, and one interval for what waits unread.
    fn excuse_own_stall(&mut self, now: Now) {
        let Some(deadline) = self.next_deadline() else { return };
        let late_ms = now.mono_ms.saturating_sub(deadline);
        if late_ms <= limits::STALL_MS {
            return;
        }
        let later = |mono_ms: u64| (mono_ms + late_ms + limits::HEARTBEAT_MS).min(now.mono_ms);
        for peer in self.peers.values_mut() {
            peer.since_mono_ms = later(peer.since_mono_ms);
            peer.probed_mono_ms = peer.probed_mono_ms.map(later);
        }
    }

    fn became(&self, id: PeerId) -> Option<MembershipChange> {
        let peer = self.peers.get(&id)?;
        Some(MembershipChange::Became(PeerReport { peer: id, incarnation: peer.incarnation, state: peer.state }))
    }

    fn spread(&mut self, id: PeerId) {
        let sendings = 3 * (usize::BITS - self.peers.len().leading_zeros());
        if let Some(peer) = self.peers.get_mut(&id) {
            if peer.reports_left == 0 {
                self.news.push_back(id);
            }
            peer.reports_left = sendings;
        }
    }
}

/// Whether a report says more than what is held.
fn is_news(report: &PeerReport, held: &Peer) -> bool {
    #[cfg(feature = "canary")]
    if crate::canary::has(crate::canary::Bug::StaleGossipWins) {
        return report.state != held.state;
    }
    (report.incarnation, report.state) > (held.incarnation, held.state)
}

fn is_due(peer: &Peer, now: Now) -> bool {
    peer.deadline().is_some_and(|deadline| deadline <= now.mono_ms)
}

#[cfg(test)]
mod tests;
