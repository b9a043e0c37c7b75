//! I1: nothing acknowledged is lost, in the sense of its class.

use std::collections::BTreeMap;

use magpie_core::ids::TaskId;
use magpie_core::invariant::InvariantId;
use magpie_core::task::Durability;

use super::{Verdict, require};
use crate::disk::Crash;
use crate::network::Endpoint;

/// `async` is fsynced at the latest after 100 ms; a stalled disk adds to it.
const ASYNC_AT_RISK_MS: u64 = magpie_core::limits::ASYNC_FSYNC_MS + 2 * crate::faults::STALLED_SYNC_MS_MAX;

#[derive(Debug, Clone, Copy)]
struct Acknowledged {
    home: Endpoint,
    class: Durability,
    at_ms: u64,
    /// A crash came that its class does not promise to survive.
    excused: bool,
}

/// Tasks and workflows that a client was told are accepted.
#[derive(Debug, Default)]
pub struct Acknowledgements {
    accepted: BTreeMap<TaskId, Acknowledged>,
}

impl Acknowledgements {
    /// An acknowledgement left its home.
    pub fn acknowledge(&mut self, at_ms: u64, home: Endpoint, class: Durability, id: TaskId) {
        self.accepted.entry(id).or_insert(Acknowledged { home, class, at_ms, excused: false });
    }

    pub fn crash(&mut self, now_ms: u64, home: Endpoint, crash: Crash) {
        for task in self.accepted.values_mut().filter(|task| task.home == home) {
            task.excused |= match task.class {
                Durability::Memory => true,
                Durability::Async => crash != Crash::Process && now_ms <= task.at_ms + ASYNC_AT_RISK_MS,
                Durability::Sync => false,
            };
        }
    }

    pub fn is_excused(&self, id: &TaskId) -> bool {
        self.accepted.get(id).is_some_and(|task| task.excused)
    }

    /// A home answered that it does not know a task.
    pub fn invariant_nothing_acknowledged_is_lost(&self, now_ms: u64, id: &TaskId) -> Verdict {
        let lost = self.accepted.get(id).filter(|task| !task.excused);
        require(InvariantId::I1, "nothing_acknowledged_is_lost", lost.is_none(), || {
            format!("{id} is unknown at {now_ms} ms: {lost:?}")
        })
    }

    pub fn len(&self) -> usize {
        self.accepted.len()
    }

    pub fn is_empty(&self) -> bool {
        self.accepted.is_empty()
    }
}
