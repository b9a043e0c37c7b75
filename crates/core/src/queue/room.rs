//! How much work each worker has from this home, and whether more may go there: prefetch is for short tasks.
//!
//! A worker offers slots and, beyond them, leases that keep it busy while messages travel. It sizes these by what it ran
//! last: a home that answered with longer tasks would queue them there while other nodes stand idle.

use std::collections::BTreeMap;

use super::task_entry::Task;
use crate::ids::PeerId;
use crate::limits;
use crate::task::SlotPool;

/// A task that takes its slot for longer than prefetch covers.
const LONG_US: u64 = limits::PREFETCH_HORIZON_MS * 1_000;

/// Live leases of one worker's pool.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    long: u64,
    short: u64,
    short_us: u64,
}

/// Where a lease counts, and as how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    worker: PeerId,
    pool: SlotPool,
    run_us: u64,
}

impl Share {
    pub fn new(worker: PeerId, pool: SlotPool, run_us: u64) -> Self {
        Self { worker, pool, run_us }
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Loads(BTreeMap<(PeerId, SlotPool), Load>);

impl Loads {
    /// Brings the load of `task`'s worker in line with whether it has a live lease. Returns whether a slot came free.
    pub fn count(&mut self, task: &mut Task, run_us: u64) -> bool {
        let worker = task.worker.filter(|_| task.has_live_lease() && task.outside().is_none());
        let share = worker.map(|worker| {
            let counted = task.soft.share.as_deref().copied().filter(|share| share.worker == worker);
            counted.unwrap_or_else(|| Share::new(worker, task.spec.kind.pool(), run_us))
        });
        let left = task.soft.share.as_deref().copied().filter(|left| Some(*left) != share);
        self.set(task, share);
        left.is_some_and(|left| left.run_us > LONG_US)
    }

    /// Counts a lease, or ends to.
    pub fn set(&mut self, task: &mut Task, share: Option<Share>) {
        if share == task.soft.share.as_deref().copied() {
            return;
        }
        if let Some(old) = std::mem::replace(&mut task.soft.share, share.map(Box::new)) {
            self.leave(*old);
        }
        if let Some(Share { worker, pool, run_us }) = share {
            let load = self.0.entry((worker, pool)).or_default();
            if run_us > LONG_US {
                load.long += 1;
            } else {
                load.short += 1;
                load.short_us += run_us;
            }
        }
    }

    fn leave(&mut self, Share { worker, pool, run_us }: Share) {
        let Some(load) = self.0.get_mut(&(worker, pool)) else { return };
        if run_us > LONG_US {
            load.long -= 1;
        } else {
            load.short -= 1;
            load.short_us -= run_us;
        }
        if load.long + load.short == 0 {
            self.0.remove(&(worker, pool));
        }
    }

    /// Whether a worker with `slots` has a slot for a task of `run_us`, or room beside its slots if the task is short.
    pub fn has_room(&self, worker: PeerId, pool: SlotPool, slots: u32, run_us: u64) -> bool {
        let Load { long, short, short_us } = self.0.get(&(worker, pool)).copied().unwrap_or_default();
        let free = u64::from(slots).saturating_sub(long);
        if run_us > LONG_US { free > 0 } else { short < free || (free > 0 && short_us + run_us <= free * LONG_US) }
    }
}
