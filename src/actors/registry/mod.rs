//! The registry: who is a member, alive, and able to do what. Heartbeats are its own; verdicts steer, they never end a lease.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use magpie_core::clock_alarm::PeerClocks;
use magpie_core::conduct::Offence;
use magpie_core::homes::{AnnouncementError, Heard, SignedAnnouncement};
use magpie_core::ids::{Incarnation, LedgerId, LedgerTag, PeerId};
use magpie_core::lease::Slots;
use magpie_core::limits;
use magpie_core::matching::Capabilities;
use magpie_core::membership::{Membership, MembershipChange, MembershipEvent, Peer, PeerState};
use magpie_core::peer_metrics::Measured;
use magpie_core::queue::ShapeBacklog;
use magpie_core::task::TaskKind;
use magpie_core::time::Wall;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::OwnedSemaphorePermit;

use super::Addresses;
use super::access::Access;
use super::address::Address;
use super::alarm::Alarm;
use super::device_mailbox::DeviceMsg;
use super::peers::Peers;
use super::readings::now;
use crate::messages::clock::ClockMsg;
use crate::messages::ledger::LedgerMsg;
use crate::messages::registry::{Heartbeat, PeerView, RegistryMsg, RegistryReply, RegistryRequest};
use crate::messages::scheduler::SchedulerMsg;
use crate::messages::worker::{WorkerBrief, WorkerMsg};
use crate::messages::{Answer, Body};

const REPORTS_PER_HEARTBEAT: usize = 32;
/// Shapes that a heartbeat names: the largest backlogs.
const SHAPES_PER_HEARTBEAT: usize = 64;

pub struct RegistryActor;

#[derive(Clone)]
pub struct RegistryArguments {
    pub peers: Peers,
    pub access: Access,
    pub addresses: Addresses,
    pub capabilities: Arc<Capabilities>,
    pub devices: Vec<Address<DeviceMsg>>,
}

/// What the last heartbeat of a peer said.
struct Known {
    heartbeat: Box<Heartbeat>,
    rtt_ms: Option<f64>,
    /// Its wall clock less this node's, when it was last heard; off by the way of the message.
    clock_ahead_ms: Option<i64>,
}

pub struct RegistryState {
    core: Membership,
    known: BTreeMap<PeerId, Known>,
    capabilities: Arc<Capabilities>,
    /// What each device has loaded, by its name.
    models: BTreeMap<String, BTreeSet<String>>,
    no_room: Option<String>,
    worker: Option<WorkerBrief>,
    backlog: Vec<ShapeBacklog>,
    clock_root: [u8; 32],
    /// Heartbeats to answer when the worker and each device have said what they do; `None`: they have.
    unanswered: Option<Vec<Unanswered>>,
    /// What peers must hear soon when it changes, and how many are still to hear of the last change.
    says: (Arc<Capabilities>, Option<SignedAnnouncement>),
    untold: usize,
    alarm: Alarm<RegistryMsg>,
    began: Instant,
    me: ActorRef<RegistryMsg>,
    arguments: RegistryArguments,
}

struct Unanswered {
    reply: RpcReplyPort<RegistryReply>,
    _permit: OwnedSemaphorePermit,
}

impl Actor for RegistryActor {
    type Msg = RegistryMsg;
    type State = RegistryState;
    type Arguments = RegistryArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        myself.send_interval(Duration::from_millis(limits::PROBE_EVERY_MS), || RegistryMsg::Tick);
        let incarnation = Incarnation(now().wall_ms);
        let mut state = RegistryState {
            core: Membership::new(arguments.peers.me(), incarnation),
            known: BTreeMap::new(),
            capabilities: arguments.capabilities.clone(),
            models: BTreeMap::new(),
            no_room: None,
            worker: None,
            backlog: Vec::new(),
            clock_root: [0; 32],
            unanswered: Some(Vec::new()),
            says: (arguments.capabilities.clone(), None),
            untold: 0,
            alarm: Alarm::default(),
            began: Instant::now(),
            me: myself,
            arguments,
        };
        state.tell_own_capabilities();
        state.ask_around();
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RegistryMsg::Request { from, request: RegistryRequest::Heartbeat(heartbeat), permit, reply } => {
                if let Some(peer) = from {
                    state.heard(peer, heartbeat, None);
                }
                state.answer(Unanswered { reply, _permit: permit });
            }
            RegistryMsg::Request { from: _, request: RegistryRequest::List, permit: _permit, reply } => {
                let _ = reply.send(RegistryReply::Peers(state.views()));
            }
            RegistryMsg::Request { from: _, request: RegistryRequest::Capabilities, permit: _permit, reply } => {
                let _ = reply.send(RegistryReply::Capabilities(state.capabilities.clone()));
            }
            RegistryMsg::PeerAdmitted { peer } => {
                state.arguments.peers.measure(peer, Measured::Connected);
                state.greet(peer);
            }
            RegistryMsg::PeerLost { peer } => state.connection_lost(peer),
            RegistryMsg::Heard { peer, heartbeat, rtt_ms } => state.heard(peer, heartbeat, Some(rtt_ms)),
            RegistryMsg::SchedulerStarted => state.tell_members(),
            RegistryMsg::Members(members) => members.into_iter().for_each(|peer| state.recall(peer)),
            RegistryMsg::Models { device, models } => {
                state.models.insert(device, models);
                state.offer();
                state.speak_if_told();
            }
            RegistryMsg::Room(no_room) if no_room == state.no_room => {}
            RegistryMsg::Room(no_room) => {
                state.no_room = no_room;
                state.offer();
            }
            RegistryMsg::Worker(brief) => {
                state.worker = Some(brief);
                state.speak_if_told();
            }
            RegistryMsg::Backlog(backlog) => state.tell_backlog(backlog),
            RegistryMsg::ClockRoot(root) => state.clock_root = root,
            RegistryMsg::Tick => state.tick(),
            RegistryMsg::Due => {
                state.alarm.rang();
                state.look();
            }
        }
        Ok(())
    }
}

impl RegistryState {
    /// They tell what changed since they told it last: a registry that starts anew has heard of none of it.
    fn ask_around(&mut self) {
        let Addresses { ledger, scheduler, clock, worker, .. } = &self.arguments.addresses;
        let _ = scheduler.cast(SchedulerMsg::RegistryStarted);
        let _ = ledger.cast(LedgerMsg::RegistryStarted);
        let _ = clock.cast(ClockMsg::RegistryStarted);
        let _ = worker.cast(WorkerMsg::RegistryStarted);
        for device in &self.arguments.devices {
            let _ = device.cast(DeviceMsg::RegistryStarted);
        }
    }

    /// A heartbeat without a worker or without models would turn away work that this node can do.
    fn speak_if_told(&mut self) {
        if self.worker.is_some() && self.models.len() == self.arguments.devices.len() {
            self.speak();
        }
    }

    fn speak(&mut self) {
        let Some(unanswered) = self.unanswered.take() else { return };
        unanswered.into_iter().for_each(|heartbeat| self.answer(heartbeat));
        let connected = self.arguments.peers.net().map(|net| net.peers()).unwrap_or_default();
        for info in connected {
            self.arguments.peers.measure(info.peer, Measured::Connected);
            self.greet(info.peer);
        }
    }

    fn answer(&mut self, heartbeat: Unanswered) {
        if let Some(unanswered) = &mut self.unanswered {
            // The permits bound how many.
            return unanswered.push(heartbeat);
        }
        let _ = heartbeat.reply.send(RegistryReply::Heartbeat(Box::new(self.own_heartbeat())));
    }

    fn tell_own_capabilities(&self) {
        let (peer, capabilities) = (self.arguments.peers.me(), self.capabilities.clone());
        let message = SchedulerMsg::Member { peer, capabilities, alive: true };
        let _ = self.arguments.addresses.scheduler.cast(message);
    }

    /// A node without a loaded model offers no inference, one without room nothing that needs some.
    fn offer(&mut self) {
        let mut capabilities = (*self.arguments.capabilities).clone();
        capabilities.models = self.models.values().flatten().cloned().collect();
        if !capabilities.models.is_empty() {
            capabilities.kinds.insert(TaskKind::Embed);
        }
        if self.no_room.is_some() {
            capabilities.kinds.retain(|kind| !kind.needs_room());
        }
        capabilities.no_room = self.no_room.clone();
        self.capabilities = Arc::new(capabilities);
        self.tell_own_capabilities();
    }

    fn own_heartbeat(&mut self) -> Heartbeat {
        let announcement = self.arguments.peers.homes().own().cloned().map(Box::new);
        let home = announcement.as_ref().map(|own| own.announcement);
        Heartbeat {
            incarnation: self.core.incarnation(),
            ledger: home.map_or(LedgerId([0; 16]), |home| home.ledger),
            generation: home.map(|home| home.term.generation).unwrap_or_default(),
            announcement,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            capabilities: self.capabilities.clone(),
            slots_free: self.worker.map(|worker| worker.free).unwrap_or_default(),
            worker: self.worker,
            backlog: self.backlog.iter().take(SHAPES_PER_HEARTBEAT).cloned().collect(),
            clock_root: self.clock_root,
            reports: self.core.reports(REPORTS_PER_HEARTBEAT),
            wall_ms: Some(now().wall_ms),
            revoked_digest: Some(self.arguments.access.digest()).filter(|digest| *digest != 0),
        }
    }

    fn tick(&mut self) {
        if self.began.elapsed() >= Duration::from_millis(limits::HEARTBEAT_MS) {
            // Whoever has not said by now what it does is failing: the peers hear that this node lives.
            self.speak();
        }
        self.look();
        self.greet_round();
        self.tell_clocks();
    }

    /// A verdict that is due before the next tick is not put off until then.
    fn look(&mut self) {
        let now = now();
        let changes = self.core.tick(now);
        self.apply(&changes);
        let soon_ms = now.mono_ms + limits::PROBE_EVERY_MS;
        if let Some(due_ms) = self.core.next_deadline().filter(|due_ms| *due_ms < soon_ms) {
            self.alarm.set(&self.me, due_ms, || RegistryMsg::Due);
        }
    }

    /// The next in turn are sent a heartbeat: the load of a node does not grow with the mesh.
    fn greet_round(&mut self) {
        let says = (self.capabilities.clone(), self.arguments.peers.homes().own().cloned());
        if says != self.says {
            (self.says, self.untold) = (says, self.core.peers().count());
        }
        let is_busy = self.untold > 0 || !self.backlog.is_empty();
        let due = self.core.probes_due(is_busy);
        let targets = self.core.probe_targets(now(), due);
        self.untold = self.untold.saturating_sub(targets.len());
        targets.into_iter().for_each(|peer| self.greet(peer));
    }

    /// How many peers' clocks are far from this node's: the ledger's alarm ends only with them.
    fn tell_clocks(&self) {
        let heard = |(peer, entry): (&PeerId, &Peer)| {
            self.known.get(peer).filter(|_| entry.state == PeerState::Alive)?.clock_ahead_ms
        };
        let ahead: Vec<i64> = self.core.peers().filter_map(heard).collect();
        let far = |ahead_ms: &&i64| ahead_ms.unsigned_abs() > limits::CLOCK_JUMP_MS;
        let clocks = PeerClocks { reachable: ahead.len() as u32, differing: ahead.iter().filter(far).count() as u32 };
        let _ = self.arguments.addresses.ledger.cast(LedgerMsg::PeerClocks(clocks));
    }

    /// Idle nodes hear of new work at once, not with the next heartbeat.
    fn tell_backlog(&mut self, backlog: Vec<ShapeBacklog>) {
        let had_none = self.backlog.is_empty();
        self.backlog = backlog;
        if had_none && !self.backlog.is_empty() {
            self.greet_round();
        }
    }

    /// Sends a heartbeat; the answer is one too.
    fn greet(&mut self, peer: PeerId) {
        if self.unanswered.is_some() {
            return;
        }
        let body = Body::Registry(RegistryRequest::Heartbeat(Box::new(self.own_heartbeat())));
        let (me, sent, peers) = (self.me.clone(), Instant::now(), self.arguments.peers.clone());
        self.arguments.peers.tell(peer, body, move |answer| match answer {
            Ok(Answer::Registry(RegistryReply::Heartbeat(heartbeat))) => {
                let took = sent.elapsed();
                peers.measure(peer, Measured::Answered { round_trip_us: took.as_micros() as u64 });
                let _ = me.cast(RegistryMsg::Heard { peer, heartbeat, rtt_ms: took.as_secs_f64() * 1_000.0 });
            }
            _ => peers.measure(peer, Measured::Unanswered),
        });
    }

    fn heard(&mut self, peer: PeerId, heartbeat: Box<Heartbeat>, rtt_ms: Option<f64>) {
        if heartbeat.capabilities.validate().is_err() {
            tracing::warn!(%peer, "a heartbeat with capabilities beyond the bounds is ignored");
            return;
        }
        let now = now();
        let home = self.hear_home(peer, &heartbeat, Wall(now.wall_ms));
        self.tell_moves(peer, &heartbeat);
        let mut changes = self.core.handle(now, MembershipEvent::Heard { peer, incarnation: heartbeat.incarnation });
        for report in heartbeat.reports.iter().take(REPORTS_PER_HEARTBEAT) {
            changes.extend(self.core.handle(now, MembershipEvent::Reported(*report)));
        }
        if let Some(home) = home {
            self.tell_worker(home, &heartbeat);
        }
        let _ = self.arguments.addresses.clock.cast(ClockMsg::PeerRoot { peer, root: heartbeat.clock_root });
        if let Some(digest) = heartbeat.revoked_digest {
            self.arguments.access.heard_digest(peer, digest);
        }
        let before = self.known.remove(&peer);
        let news = before.as_ref().is_none_or(|known| known.heartbeat.capabilities != heartbeat.capabilities);
        let rtt_ms = rtt_ms.or(before.and_then(|known| known.rtt_ms));
        let clock_ahead_ms =
            heartbeat.wall_ms.map(|theirs| theirs.cast_signed().saturating_sub(now.wall_ms.cast_signed()));
        self.known.insert(peer, Known { heartbeat, rtt_ms, clock_ahead_ms });
        if news {
            self.tell_scheduler(peer, true);
        }
        self.apply(&changes);
    }

    /// The ledger that a peer serves, by its own word; none, if it has none, or another has it.
    fn hear_home(&self, peer: PeerId, heartbeat: &Heartbeat, now: Wall) -> Option<LedgerTag> {
        let announced = heartbeat.announcement.as_deref()?;
        match self.arguments.peers.homes_mut().hear(peer, announced, now) {
            Ok(Heard::Known | Heard::News) => Some(announced.announcement.ledger.tag()),
            // This node handed its ledger over, and its disk is of a time before that.
            Ok(Heard::Copy(term)) => {
                let _ = self.arguments.addresses.ledger.cast(LedgerMsg::TermSeen(term));
                None
            }
            Err(error) => {
                if matches!(error, AnnouncementError::Verify(_)) {
                    self.arguments.peers.blame(peer, Offence::WrongSignature);
                }
                // It says so in each of its heartbeats.
                if self.known.get(&peer).is_none_or(|known| known.heartbeat.announcement != heartbeat.announcement) {
                    tracing::warn!(%peer, %error, "this peer is no home");
                }
                None
            }
        }
    }

    /// A peer that serves another ledger than before: what this node's worker offered to either went elsewhere.
    fn tell_moves(&self, peer: PeerId, heartbeat: &Heartbeat) {
        let ledger_of = |said: &Heartbeat| said.announcement.as_deref().map(|own| own.announcement.ledger.tag());
        let Some(before) = self.known.get(&peer).map(|known| ledger_of(&known.heartbeat)) else { return };
        let now = ledger_of(heartbeat);
        if before == now {
            return;
        }
        before.into_iter().chain(now).for_each(|home| self.tell_lost(home, peer));
    }

    /// What was offered to a home by way of `peer` counts no more, unless it is known to be served elsewhere by now: here, it
    /// is never lost, and nobody would say that it is back.
    fn tell_lost(&self, home: LedgerTag, peer: PeerId) {
        if self.arguments.peers.home_of(home).is_none_or(|serves| serves == peer) {
            let _ = self.arguments.addresses.worker.cast(WorkerMsg::HomeLost { home });
        }
    }

    /// How much of a peer's backlog this node could run.
    fn tell_worker(&self, home: LedgerTag, heartbeat: &Heartbeat) {
        let mut backlog = Slots::default();
        for waiting in &heartbeat.backlog {
            if waiting.shape.fits(&self.capabilities) {
                let pool = &mut backlog[waiting.shape.kind.pool()];
                *pool = pool.saturating_add(u32::try_from(waiting.ready).unwrap_or(u32::MAX));
            }
        }
        let message = WorkerMsg::HomeSeen { home, backlog };
        let _ = self.arguments.addresses.worker.cast(message);
    }

    fn tell_scheduler(&self, peer: PeerId, alive: bool) {
        let Some(known) = self.known.get(&peer) else { return };
        let capabilities = known.heartbeat.capabilities.clone();
        let _ = self.arguments.addresses.scheduler.cast(SchedulerMsg::Member { peer, capabilities, alive });
    }

    fn tell_members(&self) {
        self.tell_own_capabilities();
        for (peer, entry) in self.core.peers() {
            self.tell_scheduler(*peer, entry.state != PeerState::Dead);
        }
    }

    /// Whoever has gone since an earlier life heard it falls silent in this one, and is forgotten.
    fn recall(&mut self, peer: PeerId) {
        if self.core.peer(&peer).is_none() {
            let event = MembershipEvent::Heard { peer, incarnation: Incarnation::default() };
            let changes = self.core.handle(now(), event);
            self.apply(&changes);
        }
    }

    fn connection_lost(&mut self, peer: PeerId) {
        self.arguments.peers.measure(peer, Measured::Disconnected);
        let announced = self.arguments.peers.homes().announced_by(peer).map(|known| known.ledger.tag());
        announced.into_iter().for_each(|home| self.tell_lost(home, peer));
        // It may be dead: its turn may be far.
        if self.core.peer(&peer).is_some() {
            self.core.probed(now(), &peer);
            self.greet(peer);
        }
    }

    fn apply(&mut self, changes: &[MembershipChange]) {
        for change in changes {
            match change {
                MembershipChange::Became(report) => {
                    tracing::info!(peer = %report.peer, state = ?report.state, "membership");
                    self.tell_scheduler(report.peer, report.state != PeerState::Dead);
                    if report.state == PeerState::Dead {
                        self.reconnect(report.peer);
                    }
                }
                MembershipChange::Forgotten { peer } => {
                    let _ = self.arguments.addresses.scheduler.cast(SchedulerMsg::MemberForgotten { peer: *peer });
                    self.known.remove(peer);
                }
                MembershipChange::Refuted { incarnation } => tracing::info!(%incarnation, "a suspicion is refuted"),
                MembershipChange::Refused { peer } => tracing::warn!(%peer, "too many peers: this one is not kept"),
            }
        }
    }

    /// A peer that answers nothing may be behind a cut that has healed meanwhile.
    fn reconnect(&self, peer: PeerId) {
        if let Some(net) = self.arguments.peers.net() {
            self.arguments.peers.errand(async move { net.reconnect(peer).await });
        }
    }

    fn views(&self) -> Vec<PeerView> {
        let net = self.arguments.peers.net();
        let bans = net.as_ref().map(|net| net.bans()).unwrap_or_default();
        let connected = net.map(|net| net.peers()).unwrap_or_default();
        let ban_of = |peer: &PeerId| bans.iter().find(|banned| banned.peer == *peer);
        let views = self.core.peers().map(|(peer, entry)| {
            let known = self.known.get(peer);
            let link = connected.iter().find(|info| info.peer == *peer);
            PeerView {
                peer_id: *peer,
                state: match ban_of(peer) {
                    Some(_) => "banned".to_owned(),
                    None => format!("{:?}", entry.state).to_lowercase(),
                },
                banned_for_ms: ban_of(peer).map(|banned| banned.for_ms),
                connected: link.is_some(),
                relayed: link.is_some_and(|info| info.relayed),
                rtt_ms: known.and_then(|known| known.rtt_ms),
                ledger: self.arguments.peers.homes().announced_by(*peer).map(|home| home.ledger),
                version: known.map(|known| known.heartbeat.version.clone()),
                slots_free: known.map(|known| known.heartbeat.slots_free).unwrap_or_default(),
                worker: known.and_then(|known| known.heartbeat.worker),
                capabilities: known.map(|known| known.heartbeat.capabilities.clone()),
                addresses: link.map(|info| info.addresses.clone()).unwrap_or_default(),
                clock_ahead_ms: known.and_then(|known| known.clock_ahead_ms),
                last_heard_ms_ago: Some(now().mono_ms.saturating_sub(entry.heard_mono_ms)),
            }
        });
        views.collect()
    }
}
