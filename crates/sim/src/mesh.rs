//! How nodes notice each other: the membership core of each, over heartbeats that may be lost.

use magpie_core::clock::{Head, MerkleClock, SignedHead};
use magpie_core::ids::{ContentId, Incarnation, LogIndex, PeerId};
use magpie_core::lease::Slots;
use magpie_core::limits;
use magpie_core::membership::{Membership, MembershipChange, MembershipEvent, PeerState};
use magpie_core::queue::Event;
use magpie_core::worker::WorkerEvent;

use crate::checkers::{clocks, membership};
use crate::network::{Heartbeat, Message};
use crate::world::{Happening, World};

const PROBES_PER_ROUND: usize = 8;
const REPORTS_PER_HEARTBEAT: usize = 32;
/// Heads go out in one round of so many.
const HEADS_EVERY: u64 = 4;
const UNSIGNED: [u8; 64] = [0; 64];
/// The registry's tick.
pub const ROUND_MS: u64 = limits::HEARTBEAT_MS / 2;

impl World {
    /// A start of a node is a new incarnation.
    pub fn start_membership(&mut self, node: usize) {
        let incarnation = Incarnation(self.clock(node).wall_ms);
        let own = &mut self.nodes[node];
        own.membership = Some(Membership::new(own.peer(), incarnation));
        own.heads = MerkleClock::default();
        own.homes_up.fill(false);
        self.views.forget(node);
    }

    /// Members that a node holds alive, but itself.
    pub fn alive_peers(&self, node: usize) -> Vec<PeerId> {
        let members = self.nodes[node].membership.iter().flat_map(Membership::peers);
        members.filter(|(_, peer)| peer.state != PeerState::Dead).map(|(id, _)| *id).collect()
    }

    fn node_of(&self, peer: PeerId) -> Option<usize> {
        self.nodes.iter().position(|node| node.peer() == peer)
    }

    pub fn heartbeat(&mut self, node: usize) {
        self.after(ROUND_MS, Happening::Heartbeat { node });
        let now = self.clock(node);
        let Some(members) = self.nodes[node].membership.as_mut() else { return };
        let changes = members.tick(now);
        let mut targets = members.probe_targets(now, PROBES_PER_ROUND);
        let known: Vec<PeerId> = members.peers().map(|(id, _)| *id).collect();
        self.check_views(node);
        self.follow(node, changes);
        // Who was never heard is dialled, again and again.
        let me = self.nodes[node].peer();
        targets.extend(self.nodes.iter().map(|other| other.peer()).filter(|id| *id != me && !known.contains(id)));
        self.ask_for_counters(node);
        for target in targets {
            self.greet(node, target, true);
        }
    }

    fn greet(&mut self, node: usize, target: PeerId, wants_answer: bool) {
        let Some(to) = self.node_of(target) else { return };
        let own = &mut self.nodes[node];
        let (home_is_up, backlog) =
            (own.home.is_some(), own.home.as_ref().map(|home| home.backlog).unwrap_or_default());
        let tells = (self.now_ms / ROUND_MS).is_multiple_of(HEADS_EVERY);
        let heads = if tells { own.heads.entries().copied().collect() } else { Vec::new() };
        let me = own.peer();
        let Some(members) = own.membership.as_mut() else { return };
        let (incarnation, reports) = (members.incarnation(), members.reports(REPORTS_PER_HEARTBEAT));
        self.judge(membership::invariant_nobody_declares_itself_dead(me, &reports));
        let heartbeat = Heartbeat { incarnation, reports, home_is_up, backlog, heads, wants_answer };
        self.send(node, to, Message::Heartbeat(heartbeat));
    }

    /// A home's head, which it has just let out.
    pub fn publish_head(&mut self, node: usize, count: LogIndex, event: ContentId) {
        let own = &mut self.nodes[node];
        let Some(generation) = own.home.as_ref().map(|home| home.ledger.generation()) else { return };
        let head = Head { ledger: own.identity.ledger, peer: own.peer(), tenure: 1, generation, count: count.0, event };
        let held = own.heads.head(head.ledger).map(|held| held.head.position());
        // At the place that it is at already a clock does not tick.
        let _ = own.heads.tick(SignedHead { head, signature: UNSIGNED });
        self.judge(clocks::invariant_a_home_goes_on_from_what_it_published(held, head.position()));
        self.trace.note(self.now_ms, "head", &[node as u64, count.0], || format!("node {node} publishes {count}"));
    }

    fn learn_heads(&mut self, node: usize, heads: &[SignedHead]) {
        if heads.is_empty() {
            return;
        }
        let own = &mut self.nodes[node];
        let before = own.heads.clone();
        self.counters.merges += u64::from(clocks::merge(&mut own.heads, heads));
        let verdict = clocks::invariant_a_merge_keeps_the_greater_head_of_each_ledger(&before, heads, &own.heads);
        self.judge(verdict);
    }

    pub fn heard(&mut self, node: usize, other: usize, heartbeat: Heartbeat) {
        let (now, peer) = (self.clock(node), self.nodes[other].peer());
        let Some(members) = self.nodes[node].membership.as_mut() else { return };
        let Heartbeat { incarnation, reports, home_is_up, backlog, heads, wants_answer } = heartbeat;
        let mut changes = members.handle(now, MembershipEvent::Heard { peer, incarnation });
        for report in reports {
            changes.extend(members.handle(now, MembershipEvent::Reported(report)));
        }
        self.check_views(node);
        self.follow(node, changes);
        self.learn_heads(node, &heads);
        let home = self.nodes[other].tag();
        let was_up = std::mem::replace(&mut self.nodes[node].homes_up[other], home_is_up);
        if home_is_up {
            self.tell_worker(node, WorkerEvent::HomeSeen { home, backlog });
        } else if was_up {
            self.tell_worker(node, WorkerEvent::HomeLost { home });
        }
        if wants_answer {
            self.greet(node, peer, false);
        }
    }

    fn check_views(&mut self, node: usize) {
        let own = &self.nodes[node];
        if let Some(members) = &own.membership {
            let verdict =
                self.views.invariant_the_dead_return_with_a_higher_incarnation(node, own.identity.home, members);
            self.judge(verdict);
        }
    }

    fn follow(&mut self, node: usize, changes: Vec<MembershipChange>) {
        for change in changes {
            match change {
                MembershipChange::Became(report) => {
                    let alive = report.state != PeerState::Dead;
                    let facts = [node as u64, report.incarnation.0, report.state as u64];
                    self.trace.note(self.now_ms, "member", &facts, || format!("node {node}: {report:?}"));
                    self.tell_of_worker(node, report.peer, alive);
                    if !alive {
                        self.tell_home_lost(node, report.peer);
                    }
                }
                MembershipChange::Forgotten { peer } => self.tell_home(node, Event::WorkerForgotten { worker: peer }),
                MembershipChange::Refuted { incarnation } => {
                    let facts = [node as u64, incarnation.0];
                    self.trace.note(self.now_ms, "refuted", &facts, || format!("node {node} is {incarnation}"));
                }
                MembershipChange::Refused { .. } => {}
            }
        }
    }

    pub fn tell_of_worker(&mut self, node: usize, worker: PeerId, alive: bool) {
        let capabilities = self.capabilities.clone();
        self.tell_home(node, Event::WorkerSeen { worker, capabilities, alive });
    }

    fn tell_home_lost(&mut self, node: usize, peer: PeerId) {
        if let Some(other) = self.node_of(peer) {
            let home = self.nodes[other].tag();
            self.nodes[node].homes_up[other] = false;
            self.tell_worker(node, WorkerEvent::HomeLost { home });
        }
    }

    pub fn tell_own_worker(&mut self, node: usize) {
        let home = self.nodes[node].tag();
        self.tell_worker(node, WorkerEvent::HomeSeen { home, backlog: Slots::default() });
    }
}
