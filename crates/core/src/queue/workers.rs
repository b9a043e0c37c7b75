//! The members a home may grant to: what they offer, and how much of it is used up.

use std::collections::BTreeMap;
use std::sync::Arc;

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
    offered_ms: u64,
    /// Grants of this home to this incarnation.
    granted: Slots,
}

impl WorkerEntry {
    /// Takes an offer, unless a newer one came before it.
    pub fn take_offer(&mut self, now_ms: u64, offer: CreditOffer) {
        match self.offer {
            Some(held) if held.name >= offer.name => return,
            Some(held) if held.name.incarnation == offer.name.incarnation => {
                // Grants of an earlier life of this home count too, once the worker says that it has seen them.
                self.granted.cpu = self.granted.cpu.max(offer.received.cpu);
                self.granted.device = self.granted.device.max(offer.received.device);
            }
            Some(_) | None => self.granted = offer.received,
        }
        self.offer = Some(offer);
        self.offered_ms = now_ms;
    }

    /// Slots of `pool` that may still be granted.
    pub fn available(&self, now_ms: u64, pool: SlotPool) -> u32 {
        let Some(offer) = self.offer.filter(|_| now_ms.saturating_sub(self.offered_ms) <= limits::CREDIT_AGE_MAX_MS)
        else {
            return 0;
        };
        offer.free[pool].saturating_sub(self.granted[pool] - offer.received[pool])
    }

    pub fn use_one(&mut self, pool: SlotPool) {
        self.granted[pool] += 1;
    }
}

#[derive(Debug, Default)]
pub(super) struct Workers {
    pub entries: BTreeMap<PeerId, WorkerEntry>,
}

impl Workers {
    /// Alive members and what they offer.
    pub fn alive(&self) -> impl Iterator<Item = (&PeerId, &Capabilities)> {
        self.entries
            .iter()
            .filter(|(_, entry)| entry.alive)
            .filter_map(|(peer, entry)| entry.capabilities.as_deref().map(|capabilities| (peer, capabilities)))
    }
}
