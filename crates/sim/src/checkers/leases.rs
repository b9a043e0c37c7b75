//! I5: at most one live lease per task; the worker's end of it lies before the home's; a fence starts at most once.

use std::collections::{BTreeMap, BTreeSet};

use magpie_core::ids::{Epoch, TaskId};
use magpie_core::invariant::InvariantId;
use magpie_core::lease::Fence;

use super::{Verdict, require};
use crate::network::Endpoint;

/// I17: what a worker that drains holds unstarted goes back.
pub fn invariant_a_draining_worker_starts_nothing(draining: bool, fence: Fence) -> Verdict {
    require(InvariantId::I17, "a_draining_worker_starts_nothing", !draining, || {
        format!("{} epoch {} started after the drain", fence.task, fence.epoch)
    })
}

/// A lease as its worker may see it, in true time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveLease {
    pub worker: Endpoint,
    pub ends_ms: u64,
    /// Its home lost the record of it in a way that the task's class allows, so it may have granted the task again.
    pub forgotten: bool,
}

/// All leases in the hands of workers.
#[derive(Debug, Default)]
pub struct Leases {
    live: BTreeMap<TaskId, BTreeMap<Epoch, LiveLease>>,
    started: BTreeSet<Fence>,
}

impl Leases {
    /// A worker has a lease, or has it longer.
    pub fn hold(&mut self, now_ms: u64, fence: Fence, lease: LiveLease) -> Verdict {
        let held = self.live.entry(fence.task).or_default().entry(fence.epoch).or_insert(lease);
        held.ends_ms = held.ends_ms.max(lease.ends_ms);
        self.invariant_a_task_has_one_live_lease(now_ms, fence)
    }

    pub fn extend(&mut self, now_ms: u64, fence: Fence, ends_ms: u64) -> Verdict {
        let held = self.live.get_mut(&fence.task).and_then(|of_task| of_task.get_mut(&fence.epoch));
        let Some(lease) = held else { return Ok(()) };
        lease.ends_ms = lease.ends_ms.max(ends_ms);
        self.invariant_a_task_has_one_live_lease(now_ms, fence)
    }

    /// The worker's attempt ended, or it gave the lease back.
    pub fn end(&mut self, fence: Fence) {
        if let Some(of_task) = self.live.get_mut(&fence.task) {
            of_task.remove(&fence.epoch);
        }
    }

    pub fn end_all_of(&mut self, worker: Endpoint) {
        self.live.values_mut().for_each(|of_task| of_task.retain(|_, lease| lease.worker != worker));
    }

    /// Leases that their home does not know of any more: a power loss may re-run what is not of class `sync`.
    pub fn forget(&mut self, lost: impl Fn(Fence) -> bool) {
        for (task, of_task) in &mut self.live {
            for (epoch, lease) in of_task {
                lease.forgotten |= lost(Fence { task: *task, epoch: *epoch });
            }
        }
    }

    pub fn invariant_a_task_has_one_live_lease(&self, now_ms: u64, fence: Fence) -> Verdict {
        let live: Vec<_> =
            self.live[&fence.task].iter().filter(|(_, lease)| lease.ends_ms > now_ms && !lease.forgotten).collect();
        require(InvariantId::I5, "a_task_has_one_live_lease", live.len() <= 1, || {
            format!("{} is leased {} times at {now_ms} ms: {live:?}", fence.task, live.len())
        })
    }

    /// A home ended a lease by its clock.
    pub fn invariant_the_workers_end_lies_before_the_homes(&self, now_ms: u64, fence: Fence) -> Verdict {
        let held = self.live.get(&fence.task).and_then(|of_task| of_task.get(&fence.epoch));
        let over = held.is_none_or(|lease| lease.ends_ms <= now_ms);
        require(InvariantId::I5, "the_workers_end_lies_before_the_homes", over, || {
            format!("{} epoch {} expired at {now_ms} ms while {held:?}", fence.task, fence.epoch)
        })
    }

    pub fn invariant_each_fence_starts_once(&mut self, now_ms: u64, fence: Fence) -> Verdict {
        let first = self.started.insert(fence);
        let held = self.live.get(&fence.task).and_then(|of_task| of_task.get(&fence.epoch));
        require(InvariantId::I5, "each_fence_starts_once", first, || {
            format!("{} epoch {} started again", fence.task, fence.epoch)
        })?;
        require(
            InvariantId::I5,
            "no_fence_starts_after_its_lease",
            held.is_some_and(|held| held.ends_ms > now_ms),
            || format!("{} epoch {} started at {now_ms} ms with {held:?}", fence.task, fence.epoch),
        )
    }
}
