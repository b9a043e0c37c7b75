//! What goes wrong with nodes: crashes, restarts, pauses, partitions, clocks that jump, disks that are full, drains.

use magpie_core::ids::LogIndex;
use magpie_core::invariant::InvariantId;
use magpie_core::lease::Slots;
use magpie_core::worker::WorkerEvent;

use crate::canary::Planted;
use crate::checkers::{Violation, recovery};
use crate::disk::Crash;
use crate::faults::Faults;
use crate::node::Home;
use crate::partition::{self, Cuts, Shape};
use crate::rng::Rng;
use crate::world::{Happening, World};

const DOWN_MS_MAX: u64 = 6_000;
/// Longer than a lease.
const PAUSE_MS_MAX: u64 = 14_000;
const PARTITION_MS_MAX: u64 = 14_000;
const FLAP_MS_MAX: u64 = 1_500;
const FULL_MS_MAX: u64 = 6_000;
const DRAIN_MS_MAX: u64 = 8_000;
const MINUTE_MS: u64 = 60_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NemesisKind {
    Crash,
    Pause,
    Partition,
    Jump,
    FullDisk,
    Drain,
}

impl NemesisKind {
    pub const ALL: [Self; 6] = [Self::Crash, Self::Pause, Self::Partition, Self::Jump, Self::FullDisk, Self::Drain];

    fn every_ms(self, faults: &Faults) -> u64 {
        match self {
            Self::Crash => faults.crash_every_ms,
            Self::Pause => faults.pause_every_ms,
            Self::Partition => faults.partition_every_ms,
            Self::Jump => faults.jump_every_ms,
            Self::FullDisk => faults.full_every_ms,
            Self::Drain => faults.drain_every_ms,
        }
    }
}

/// By how much a wall clock steps: seconds, minutes beyond what a home takes for a jump, or an hour; either way.
fn draw_jump(rng: &mut Rng) -> i64 {
    let by_ms = match rng.below(10) {
        0..=4 => rng.between(0, 5_000),
        5..=7 => rng.between(MINUTE_MS, 10 * MINUTE_MS),
        _ => 60 * MINUTE_MS,
    } as i64;
    if rng.chance(500) { by_ms } else { -by_ms }
}

impl World {
    pub fn schedule_nemesis(&mut self, kind: NemesisKind) {
        let every_ms = kind.every_ms(&self.faults);
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
            NemesisKind::Crash => self.strike(node),
            NemesisKind::Pause => {
                let wait_ms = self.rng.between(100, PAUSE_MS_MAX);
                self.trace
                    .note(self.now_ms, "pause", &[node as u64, wait_ms], || format!("node {node} for {wait_ms} ms"));
                let until_ms = &mut self.nodes[node].paused_until_ms;
                *until_ms = (*until_ms).max(self.now_ms + wait_ms);
            }
            NemesisKind::Partition => self.part(),
            NemesisKind::Jump => self.jump(node),
            NemesisKind::FullDisk => {
                let wait_ms = self.rng.between(100, FULL_MS_MAX);
                self.trace
                    .note(self.now_ms, "full", &[node as u64, wait_ms], || format!("node {node} for {wait_ms} ms"));
                self.nodes[node].disk.full_until_ms = self.now_ms + wait_ms;
            }
            NemesisKind::Drain => {
                self.drain(node, true);
                let wait_ms = self.rng.between(100, DRAIN_MS_MAX);
                self.after(wait_ms, Happening::Resume { node });
            }
        }
        self.schedule_nemesis(kind);
    }

    fn strike(&mut self, node: usize) {
        let kept_per_mille = self.rng.between(0, 1_000);
        let power = self.rng.chance(self.faults.power);
        let crash = if power { Crash::Power { kept_per_mille } } else { Crash::Process };
        let ledger_only = !power && self.rng.chance(400);
        self.crash(node, crash, ledger_only);
    }

    pub fn jump(&mut self, node: usize) {
        let by_ms = draw_jump(&mut self.rng);
        self.trace.note(self.now_ms, "jump", &[node as u64, by_ms as u64], || format!("node {node} by {by_ms} ms"));
        self.nodes[node].clock.step_wall(by_ms);
        self.spent.start_anew(node);
    }

    pub fn drain(&mut self, node: usize, draining: bool) {
        if let Some(host) = self.nodes[node].worker.as_mut() {
            host.draining = draining;
            self.trace
                .note(self.now_ms, "drain", &[node as u64, u64::from(draining)], || format!("{node}: {draining}"));
            self.tell_worker(node, if draining { WorkerEvent::Drain { within_ms: None } } else { WorkerEvent::Resume });
        }
    }

    fn part(&mut self) {
        let endpoints = self.nodes.len() + self.clients.len() + self.agents.len();
        let (shape, cuts) = partition::draw(&mut self.rng, self.nodes.len(), endpoints);
        let facts = [shape as u64, cuts.len() as u64];
        self.trace.note(self.now_ms, "partition", &facts, || format!("{shape:?}: {cuts:?}"));
        let partition = self.network.part(cuts.clone());
        let wait_ms = self.rng.between(500, PARTITION_MS_MAX);
        self.after(wait_ms, Happening::Heal { partition });
        if shape == Shape::Flapping {
            self.after(FLAP_MS_MAX, Happening::Flap { partition, cuts });
        }
    }

    /// Halves that come together, if they are apart, and else part again.
    pub fn flap(&mut self, partition: u64, cuts: Cuts) {
        if !self.network.is_current(partition) {
            return;
        }
        let apart = cuts.iter().next().is_some_and(|(from, to)| self.network.is_cut(*from, *to));
        self.network.set_cuts(if apart { Cuts::new() } else { cuts.clone() });
        let wait_ms = self.rng.between(50, FLAP_MS_MAX);
        self.after(wait_ms, Happening::Flap { partition, cuts });
    }

    pub fn crash(&mut self, node: usize, crash: Crash, ledger_only: bool) {
        self.counters.crashes += 1;
        self.trace.note(self.now_ms, "crash", &[node as u64, u64::from(ledger_only)], || {
            format!("node {node}: {crash:?}{}", if ledger_only { ", the ledger only" } else { "" })
        });
        self.compare_with_replay(node);
        let torn_per_mille = self.rng.between(0, 1_000);
        let torn = self.rng.chance(self.faults.torn).then_some(torn_per_mille);
        let (book, synced) = (&self.books[node], self.nodes[node].disk.watermark().synced);
        self.acknowledged.crash(node, crash, |id| book.submitted(id).is_some_and(|index| index <= synced));
        let kept: LogIndex = self.nodes[node].disk.crash(crash, torn);
        self.books[node].truncate(kept);
        self.nodes[node].home = None;
        self.forget_leases_of(node);
        self.spent.start_anew(node);
        if !ledger_only {
            self.leases.end_all_of(node);
            self.nodes[node].worker = None;
            self.nodes[node].membership = None;
            if crash != Crash::Process {
                self.nodes[node].spool.lose_unsynced();
            }
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
                (own.disk.entries(), own.first_kept),
                now,
            );
            self.judge(verdict);
        }
    }

    /// Compares every home that is up with its log, without a crash.
    pub fn compare_all_with_replay(&mut self) {
        for node in 0..self.nodes.len() {
            let (now, own) = (self.clock(node), &self.nodes[node]);
            let verdict = recovery::invariant_replaying_twice_is_replaying_once(
                &own.identity,
                (own.disk.entries(), own.first_kept),
                now,
            );
            self.judge(verdict);
            self.compare_with_replay(node);
        }
    }

    /// Starts what is down of a node.
    pub fn start(&mut self, node: usize) {
        if self.nodes[node].membership.is_none() {
            if self.rng.chance(self.faults.jump_at_start) {
                self.jump(node);
            }
            self.start_membership(node);
        }
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
        let accept_torn = self.options.planted == Some(Planted::TornTailAccepted);
        let own = &mut self.nodes[node];
        own.identity.secret = secret;
        own.lives += 1;
        own.disk.recover(accept_torn);
        let life = own.lives;
        let replay = match recovery::replay(&own.identity, own.compaction, own.disk.entries(), own.first_kept) {
            Ok(replay) => replay,
            Err(Violation { what, .. }) => {
                return self.judge(Err(Violation { id: InvariantId::I16, invariant: "a_log_replays", what }));
            }
        };
        self.counters.starts_from_cut_logs += u64::from(own.first_kept > LogIndex(1));
        let mut ledger = replay.with_settings(self.settings.queue.clone()).open(now);
        ledger.set_retention(self.settings.retention);
        own.home = Some(Home {
            ledger,
            life,
            tick_wanted_ms: u64::MAX,
            replies: Default::default(),
            next_reply: 0,
            backlog: Slots::default(),
            presented: Vec::new(),
            asked: None,
            asks: Default::default(),
            disk_refuses: false,
            write_pause_ms: 0,
        });
        own.ingress_until_ms = 0;
        let peer = own.peer();
        self.perform_home(node);
        self.tell_of_worker(node, peer, true);
        for worker in self.alive_peers(node) {
            self.tell_of_worker(node, worker, true);
        }
        self.hasten_tick(node);
        self.tell_own_worker(node);
    }

    /// The faults stop: the network heals, clocks are set right, nodes that are down start.
    pub fn calm_down(&mut self) {
        self.trace.note(self.now_ms, "calm", &[], String::new);
        self.calm = true;
        self.faults = Faults::calm();
        self.network.heal();
        for node in 0..self.nodes.len() {
            self.nodes[node].paused_until_ms = self.now_ms;
            self.nodes[node].disk.full_until_ms = self.now_ms;
            self.nodes[node].clock.set_right(self.now_ms);
            self.spent.start_anew(node);
            self.drain(node, false);
            self.start(node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_jump_by_seconds_by_minutes_and_by_an_hour_either_way() {
        let mut rng = Rng::new(3);
        let jumps: Vec<i64> = (0..200).map(|_| draw_jump(&mut rng)).collect();
        let minute = MINUTE_MS as i64;
        for wanted in [-60 * minute, 60 * minute] {
            assert!(jumps.contains(&wanted));
        }
        assert!(jumps.iter().any(|by_ms| (minute..10 * minute).contains(by_ms)));
        assert!(jumps.iter().any(|by_ms| (-10 * minute..-minute).contains(by_ms)));
        assert!(jumps.iter().any(|by_ms| by_ms.abs() <= 5_000));
    }

    #[test]
    fn no_nemesis_comes_in_the_calm() {
        let calm = Faults::calm();
        assert!(NemesisKind::ALL.iter().all(|kind| kind.every_ms(&calm) == 0) && calm.kinds.is_empty());
    }
}
