//! I1: nothing acknowledged is lost, in the sense of its class.

use std::collections::BTreeMap;

use magpie_core::ids::TaskId;
use magpie_core::invariant::InvariantId;
use magpie_core::task::Durability;

use super::{Verdict, require};
use crate::disk::Crash;
use crate::network::Endpoint;

#[derive(Debug, Clone, Copy)]
struct Acknowledged {
    home: Endpoint,
    class: Durability,
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
    pub fn acknowledge(&mut self, home: Endpoint, class: Durability, id: TaskId) {
        self.accepted.entry(id).or_insert(Acknowledged { home, class, excused: false });
    }

    /// `is_synced` tells whether the record of a task was on the disk: a power loss may take an `async` one that the disk
    /// had not, however long a node that stood still, or a full disk, kept it from there.
    pub fn crash(&mut self, home: Endpoint, crash: Crash, is_synced: impl Fn(&TaskId) -> bool) {
        for (id, task) in self.accepted.iter_mut().filter(|(_, task)| task.home == home) {
            task.excused |= match task.class {
                Durability::Memory => true,
                Durability::Async => crash != Crash::Process && !is_synced(id),
                Durability::Sync => false,
            };
        }
    }

    pub fn is_excused(&self, id: &TaskId) -> bool {
        self.accepted.get(id).is_some_and(|task| task.excused)
    }

    /// A home answered that it does not keep a task any more; `is_recorded` tells whether its log says so.
    pub fn invariant_what_is_said_to_be_pruned_was(&self, id: &TaskId, is_recorded: bool) -> Verdict {
        let written = |task: &&Acknowledged| !task.excused && task.class != Durability::Memory;
        let kept = self.accepted.get(id).filter(written).filter(|_| !is_recorded);
        require(InvariantId::I1, "what_is_said_to_be_pruned_was", kept.is_none(), || {
            format!("{id} is said to be pruned, and no record says so: {kept:?}")
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use magpie_core::ids::LedgerTag;

    const POWER: Crash = Crash::Power { kept_per_mille: 0 };

    /// Whether the loss of a task of this class is excused after a crash.
    fn excused(class: Durability, crash: Crash, synced: bool) -> bool {
        let id = TaskId { ulid: 1, ledger: LedgerTag([0; 5]) };
        let mut acknowledged = Acknowledgements::default();
        acknowledged.acknowledge(0, class, id);
        acknowledged.crash(0, crash, |_| synced);
        acknowledged.invariant_nothing_acknowledged_is_lost(1, &id).is_ok()
    }

    #[test]
    fn i1_each_class_survives_the_crashes_that_it_promises_to() {
        assert!(excused(Durability::Memory, Crash::Process, true));
        assert!(!excused(Durability::Async, Crash::Process, false) && !excused(Durability::Async, POWER, true));
        assert!(excused(Durability::Async, POWER, false));
        assert!(!excused(Durability::Sync, POWER, false) && !excused(Durability::Sync, Crash::Process, false));
    }
}
