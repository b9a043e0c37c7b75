//! What goes wrong with nodes: crashes, restarts, pauses, partitions, clocks that step. And how nodes notice each other.

use magpie_core::ids::LogIndex;
use magpie_core::invariant::InvariantId;
use magpie_core::lease::Slots;
use magpie_core::limits;
use magpie_core::queue::Event;
use magpie_core::worker::WorkerEvent;

use crate::checkers::{Violation, recovery};
use crate::disk::Crash;
use crate::faults::Faults;
use crate::network::Message;
use crate::node::Home;
use crate::world::{Happening, NemesisKind, World};

const DOWN_MS_MAX: u64 = 6_000;
/// Longer than a lease.
const PAUSE_MS_MAX: u64 = 14_000;
const PARTITION_MS_MAX: u64 = 14_000;
const WALL_STEP_MS_MAX: u64 = 5_000;

impl World {
    pub fn schedule_nemesis(&mut self, kind: NemesisKind) {
        let every_ms = match kind {
            NemesisKind::Crash => self.faults.crash_every_ms,
            NemesisKind::Pause => self.faults.pause_every_ms,
            NemesisKind::Partition => self.faults.partition_every_ms,
            NemesisKind::WallStep => self.faults.wall_step_every_ms,
        };
        if every_ms > 0 {
            let wait_ms = self.rng.between(1, 2 * every_ms);
            self.after(wait_ms, Happening::Nemesis { kind });
        }
    }

    pub fn nemesis(&mut self, kind: NemesisKind) {
        if self.calm {
            return;
        }
        let node = self.rng.below(self.nodes.len() as u64) as usize;
        match kind {
            NemesisKind::Crash => {
                let kept_per_mille = self.rng.between(0, 1_000);
                let power = self.rng.chance(500);
                let crash = if power { Crash::Power { kept_per_mille } } else { Crash::Process };
                let ledger_only = !power && self.rng.chance(400);
                self.crash(node, crash, ledger_only);
            }
            NemesisKind::Pause => {
                let wait_ms = self.rng.between(100, PAUSE_MS_MAX);
                self.trace
                    .note(self.now_ms, "pause", &[node as u64, wait_ms], || format!("node {node} for {wait_ms} ms"));
                self.nodes[node].paused_until_ms = self.now_ms + wait_ms;
            }
            NemesisKind::Partition => self.partition(node),
            NemesisKind::WallStep => {
                let by_ms = self.rng.between(0, 2 * WALL_STEP_MS_MAX) as i64 - WALL_STEP_MS_MAX as i64;
                self.nodes[node].clock.step_wall(by_ms);
            }
        }
        self.schedule_nemesis(kind);
    }

    /// One node is cut off from some of the others, or they from it, or both.
    fn partition(&mut self, node: usize) {
        let directions = self.rng.below(3);
        for other in (0..self.nodes.len() + self.clients.len()).filter(|other| *other != node) {
            if self.rng.chance(700) {
                if directions != 1 {
                    self.network.cut(node, other);
                }
                if directions != 0 {
                    self.network.cut(other, node);
                }
            }
        }
        self.trace.note(self.now_ms, "partition", &[node as u64, directions], || format!("node {node}, {directions}"));
        let wait_ms = self.rng.between(500, PARTITION_MS_MAX);
        self.after(wait_ms, Happening::Heal);
    }

    pub fn crash(&mut self, node: usize, crash: Crash, ledger_only: bool) {
        self.counters.crashes += 1;
        self.trace.note(self.now_ms, "crash", &[node as u64, u64::from(ledger_only)], || {
            format!("node {node}: {crash:?}{}", if ledger_only { ", the ledger only" } else { "" })
        });
        self.compare_with_replay(node);
        let kept: LogIndex = self.nodes[node].disk.crash(crash);
        self.books[node].truncate(kept);
        self.acknowledged.crash(self.now_ms, node, crash);
        self.nodes[node].home = None;
        self.forget_leases_of(node);
        if !ledger_only {
            self.leases.end_all_of(node);
            self.nodes[node].worker = None;
            if crash != Crash::Process {
                self.nodes[node].spool.lose_unsynced();
            }
            self.nodes[node].heard.fill(Default::default());
        }
        let wait_ms = self.rng.between(10, DOWN_MS_MAX);
        self.after(wait_ms, Happening::Start { node });
    }

    /// A home that lost a grant may run its task again: only `sync` promises more, and that is checked as grants leave.
    fn forget_leases_of(&mut self, node: usize) {
        let (book, tag) = (&self.books[node], self.nodes[node].tag());
        self.leases.forget(|fence| {
            let recorded = book.tasks.get(&fence.task).is_some_and(|facts| facts.of_epoch(fence.epoch).is_some());
            fence.task.ledger == tag && !recorded
        });
    }

    fn compare_with_replay(&mut self, node: usize) {
        let now = self.clock(node);
        let own = &mut self.nodes[node];
        if let Some(home) = own.home.as_mut() {
            let verdict = recovery::invariant_what_is_recovered_is_what_was(
                &mut home.ledger,
                &own.identity,
                own.disk.entries(),
                now,
            );
            self.judge(verdict);
        }
    }

    /// Compares every home that is up with its log, without a crash.
    pub fn compare_all_with_replay(&mut self) {
        (0..self.nodes.len()).for_each(|node| self.compare_with_replay(node));
    }

    /// Starts what is down of a node.
    pub fn start(&mut self, node: usize) {
        if self.nodes[node].home.is_none() {
            self.start_home(node);
        }
        if self.nodes[node].worker.is_none() {
            self.start_worker(node);
        }
    }

    fn start_home(&mut self, node: usize) {
        let now = self.clock(node);
        let secret = self.rng.bytes();
        let own = &mut self.nodes[node];
        own.identity.secret = secret;
        own.lives += 1;
        let life = own.lives;
        let replay = match recovery::replay(&own.identity, own.disk.entries()) {
            Ok(replay) => replay,
            Err(Violation { what, .. }) => {
                return self.judge(Err(Violation { id: InvariantId::I16, invariant: "a_log_replays", what }));
            }
        };
        own.home = Some(Home {
            ledger: replay.open(now),
            life,
            replies: Default::default(),
            next_reply: 0,
            backlog: Slots::default(),
            presented: Vec::new(),
        });
        own.ingress_until_ms = 0;
        let (peer, heard) = (own.peer(), own.heard.clone());
        self.perform_home(node);
        let capabilities = self.capabilities.clone();
        self.tell_home(node, Event::WorkerSeen { worker: peer, capabilities: capabilities.clone(), alive: true });
        for (other, heard) in heard.iter().enumerate().filter(|(other, heard)| *other != node && heard.alive) {
            let worker = self.nodes[other].peer();
            self.tell_home(node, Event::WorkerSeen { worker, capabilities: capabilities.clone(), alive: heard.alive });
        }
        self.after(limits::TICK_MS, Happening::LedgerTick { node, life });
        self.tell_own_worker(node);
    }

    fn tell_own_worker(&mut self, node: usize) {
        let home = self.nodes[node].tag();
        self.tell_worker(node, WorkerEvent::HomeSeen { home, backlog: Slots::default() });
    }

    pub fn heartbeat(&mut self, node: usize) {
        self.after(limits::HEARTBEAT_MS, Happening::Heartbeat { node });
        let own = &self.nodes[node];
        if own.home.is_none() && own.worker.is_none() {
            return;
        }
        self.ask_for_counters(node);
        let home = self.nodes[node].home.as_ref();
        let (home_is_up, backlog) = (home.is_some(), home.map(|home| home.backlog).unwrap_or_default());
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.send(node, other, Message::Heartbeat { home_is_up, backlog });
            self.notice_silence(node, other);
        }
    }

    fn notice_silence(&mut self, node: usize, other: usize) {
        let Some(last_ms) = self.nodes[node].heard[other].last_ms else { return };
        let silent_ms = self.now_ms - last_ms;
        let (worker, home) = (self.nodes[other].peer(), self.nodes[other].tag());
        if silent_ms > limits::PEER_DEAD_MS && self.nodes[node].heard[other].alive {
            self.nodes[node].heard[other].alive = false;
            let capabilities = self.capabilities.clone();
            self.tell_home(node, Event::WorkerSeen { worker, capabilities, alive: false });
            self.tell_worker(node, WorkerEvent::HomeLost { home });
        }
        if silent_ms > limits::HEARTBEAT_TIMEOUT_MS {
            self.nodes[node].heard[other].last_ms = None;
            self.tell_home(node, Event::WorkerForgotten { worker });
        }
    }

    pub fn heard(&mut self, node: usize, other: usize, home_is_up: bool, backlog: Slots) {
        let own = &mut self.nodes[node];
        let was = own.heard[other];
        own.heard[other] = crate::node::Heard { last_ms: Some(self.now_ms), alive: true, home_is_up };
        let (worker, home) = (self.nodes[other].peer(), self.nodes[other].tag());
        if !was.alive {
            let capabilities = self.capabilities.clone();
            self.tell_home(node, Event::WorkerSeen { worker, capabilities, alive: true });
        }
        if home_is_up {
            self.tell_worker(node, WorkerEvent::HomeSeen { home, backlog });
        } else if was.home_is_up {
            self.tell_worker(node, WorkerEvent::HomeLost { home });
        }
    }

    /// The faults stop: the network heals, nodes that are down start.
    pub fn calm_down(&mut self) {
        self.trace.note(self.now_ms, "calm", &[], String::new);
        self.calm = true;
        self.faults = Faults::calm();
        self.network.heal();
        for node in 0..self.nodes.len() {
            self.nodes[node].paused_until_ms = self.now_ms;
            self.start(node);
        }
    }
}
