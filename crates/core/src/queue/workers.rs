//! The members a home may grant to: what they offer, and how much of it is used up.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::outside::OutsideWorkers;
use super::steal::StealShare;
use super::task_entry::Task;
use crate::ids::PeerId;
use crate::lease::{CreditOffer, Slots};
use crate::limits;
use crate::matching::Capabilities;
use crate::task::SlotPool;

#[derive(Debug, Clone, Default)]
pub(super) struct WorkerEntry {
    pub capabilities: Option<Arc<Capabilities>>,
    pub alive: bool,
    pub offer: Option<CreditOffer>,
    pub offered_ms: u64,
    /// Grants of this home to this incarnation.
    pub granted: Slots,
    /// What it may steal of each pool's tasks.
    pub shares: [StealShare; 2],
    /// What `granted` was, now and then during the last lease's length.
    pub past: VecDeque<(u64, Slots)>,
    /// When its newest incarnation was first heard of; 0 if this home knows of none before.
    pub reborn_ms: u64,
}

const PAST_EVERY_MS: u64 = 1_000;

impl WorkerEntry {
    /// Takes an offer, unless a newer one came before it. Returns whether it is the first of another incarnation: of what the
    /// one before ran, nothing is left but what its disk keeps.
    pub fn take_offer(&mut self, now_ms: u64, offer: CreditOffer) -> bool {
        let reborn = self.offer.is_some_and(|held| held.name.incarnation < offer.name.incarnation);
        match self.offer {
            Some(held) if held.name >= offer.name => return false,
            Some(held) if held.name.incarnation == offer.name.incarnation => {
                self.forget_lost(now_ms, offer.received);
                // Grants of an earlier life of this home count too, once the worker says that it has seen them.
                self.granted.cpu = self.granted.cpu.max(offer.received.cpu);
                self.granted.device = self.granted.device.max(offer.received.device);
            }
            Some(_) | None => (self.granted, self.past) = (offer.received, VecDeque::new()),
        }
        if self.past.back().is_none_or(|(at_ms, _)| at_ms + PAST_EVERY_MS <= now_ms) {
            self.past.push_back((now_ms, self.granted));
        }
        self.offer = Some(offer);
        self.offered_ms = now_ms;
        if reborn {
            self.reborn_ms = now_ms;
        }
        reborn
    }

    /// A grant that the worker has not seen one lease's length later is lost, and so is the lease: without this it would
    /// be missing from the worker's credit for good.
    fn forget_lost(&mut self, now_ms: u64, received: Slots) {
        let is_old = |past: &(u64, Slots)| past.0 + limits::LEASE_TTL_MS <= now_ms;
        while self.past.get(1).is_some_and(is_old) {
            self.past.pop_front();
        }
        let Some((_, granted_then)) = self.past.front().copied().filter(is_old) else { return };
        for pool in [SlotPool::Cpu, SlotPool::Device] {
            let lost = granted_then[pool].saturating_sub(received[pool]);
            self.granted[pool] -= lost;
            self.past.iter_mut().for_each(|(_, granted)| granted[pool] -= lost);
        }
    }

    fn fresh_offer(&self, now_ms: u64) -> Option<CreditOffer> {
        self.offer.filter(|_| now_ms.saturating_sub(self.offered_ms) <= limits::CREDIT_AGE_MAX_MS)
    }

    /// Slots of `pool` that may still be granted.
    pub fn available(&self, now_ms: u64, pool: SlotPool) -> u32 {
        let Some(offer) = self.fresh_offer(now_ms) else { return 0 };
        offer.free[pool].saturating_sub(self.granted[pool] - offer.received[pool])
    }

    /// Whether it works for this home at all, busy as it may be.
    pub fn works(&self, now_ms: u64, pool: SlotPool) -> bool {
        let offer = self.fresh_offer(now_ms).filter(|_| self.alive);
        offer.is_some_and(|offer| offer.slots.unwrap_or(offer.free)[pool] > 0)
    }

    /// Of `eligible` tasks what it may steal now.
    pub fn share(&mut self, now_ms: u64, pool: SlotPool, eligible: usize) -> usize {
        let Some(offer) = self.offer else { return 0 };
        self.shares[pool as usize].of(now_ms, offer.name, eligible)
    }

    pub fn use_one(&mut self, pool: SlotPool) {
        self.granted[pool] += 1;
        self.shares[pool as usize].take_one();
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Workers {
    pub entries: BTreeMap<PeerId, WorkerEntry>,
    pub outside: OutsideWorkers,
}

impl Workers {
    /// Whether the process that had the newest attempt of `task` has ended: its worker at `home` with the life before of that.
    pub fn has_ended(&self, task: &Task, home: PeerId) -> bool {
        match (task.worker, task.soft.attempt_started_ms) {
            (Some(worker), Some(started_ms)) => {
                self.entries.get(&worker).is_some_and(|entry| entry.reborn_ms > started_ms.get())
            }
            (worker, None) => worker == Some(home),
            (None, Some(_)) => false,
        }
    }

    /// Alive members and what they offer.
    pub fn alive(&self) -> impl Iterator<Item = (&PeerId, &Capabilities)> {
        self.entries
            .iter()
            .filter(|(_, entry)| entry.alive)
            .filter_map(|(peer, entry)| entry.capabilities.as_deref().map(|capabilities| (peer, capabilities)))
    }
}
