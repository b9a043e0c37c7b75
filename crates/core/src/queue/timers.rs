//! What time brings: ends of leases, of back-offs, of deadlines, of patience.

use super::effects::{Effect, Gate};
use super::ledger::{Ledger, Marker};
use super::protocol::WorkerNotice;
use super::record::Record;
use crate::ids::{PeerId, TaskId};
use crate::lease::Fence;
use crate::limits;
use crate::task::{Durability, TaskState};

/// A marker that has not come out after this was lost with the swarm: another is placed.
const MARKER_LOST_MS: u64 = 5_000;
/// Unstarted leases looked at in one tick for a recall.
const RECALLS_PER_TICK: usize = 1_000;

impl Ledger {
    pub(super) fn tick(&mut self) {
        self.forgive_stall();
        self.clock_watch.observe(self.now);
        self.grants_due = true;
        self.place_marker();
        self.wake_delayed();
        self.refresh_rates();
        self.permits_tick();
        self.pass_deadlines();
        self.fire_schedules();
        self.answer_impatient();
        self.recall_unstarted();
        self.bind_again();
        // What only keeps order waits for a disk that writes it.
        if !self.disk.refuses() {
            self.write_tally();
            self.forget_keys();
            self.forget_contexts();
            self.compact();
            self.prune();
            self.sample_stats();
        }
        self.sample_pace();
        self.plan_tick();
    }

    /// Renewals that could not be read while this node stood still must not cost anyone a lease.
    fn forgive_stall(&mut self) {
        let late = self.now.mono_ms.saturating_sub(self.tick_due_ms);
        if late < limits::STALL_MS {
            return;
        }
        self.permits.extend(late);
        let leases = std::mem::take(&mut self.leases);
        for (expires_ms, id) in leases {
            if let Some(task) = self.state.tasks.get_mut(&id) {
                task.soft.expires_ms = expires_ms + late;
                self.leases.insert((task.soft.expires_ms, id));
            }
        }
        if let Some(marker) = &mut self.marker {
            marker.cutoff_ms = 0;
        }
    }

    /// A lease ends only after a marker, put behind the renewals that are on their way, has come out before any of them.
    fn place_marker(&mut self) {
        #[cfg(feature = "canary")]
        if crate::canary::has(crate::canary::Bug::LeaseNotExpired) {
            return;
        }
        let now_ms = self.now.mono_ms;
        let overdue = self.leases.first().is_some_and(|(expires_ms, _)| *expires_ms <= now_ms);
        let under_way = self.marker.is_some_and(|marker| now_ms < marker.placed_ms + MARKER_LOST_MS);
        if overdue && !under_way {
            self.markers += 1;
            self.marker = Some(Marker { id: self.markers, cutoff_ms: now_ms, placed_ms: now_ms });
            self.outbox.push(Gate::Open, Effect::PlaceMarker { marker: self.markers });
        }
    }

    pub(super) fn marker_out(&mut self, id: u64) {
        let Some(marker) = self.marker.take_if(|marker| marker.id == id) else { return };
        let overdue = self.leases.iter().take_while(|(expires_ms, _)| *expires_ms <= marker.cutoff_ms);
        let fences = overdue.filter_map(|(_, id)| self.state.tasks.get(id).map(|task| task.fence()));
        let fences: Vec<Fence> = fences.collect();
        let at = self.at();
        self.commit_by_class(fences, |fence: &Fence| fence.task, |fences| Record::Expired { at, fences });
    }

    /// An attempt whose worker has started anew comes to no end any more; only an outcome that its disk kept may still come, and
    /// that is among the first things that it sends.
    pub(super) fn hasten_burials(&mut self, worker: PeerId) {
        let soon_ms = self.now.mono_ms + limits::REBORN_REPORT_MS;
        let later: Vec<(u64, TaskId)> =
            self.delayed.iter().rev().take_while(|(due_ms, _)| *due_ms > soon_ms).copied().collect();
        for (due_ms, id) in later {
            let Some(task) = self.state.tasks.get_mut(&id) else { continue };
            if task.bury_when_due && task.worker == Some(worker) && self.workers.has_ended(task, self.identity.home) {
                task.soft.due_ms = soon_ms;
                self.delayed.remove(&(due_ms, id));
                self.delayed.insert((soon_ms, id));
            }
        }
    }

    /// Delayed tasks whose time has come: ready is a fact of time, so nothing is written; a burial is.
    fn wake_delayed(&mut self) {
        let now_ms = self.now.mono_ms;
        let mut buried = Vec::new();
        while let Some((due_ms, id)) = self.delayed.first().copied().filter(|(due_ms, _)| *due_ms <= now_ms) {
            self.delayed.remove(&(due_ms, id));
            match self.state.tasks.get(&id) {
                Some(task) if task.bury_when_due => buried.push(id),
                Some(_) => self.wake(id),
                None => {}
            }
        }
        self.wake_by_wall_clock();
        let at = self.at();
        self.commit_by_class(buried, |id: &TaskId| *id, |tasks| Record::Buried { at, tasks });
    }

    /// A `not_before` is a time of the wall clock, also after that was set right.
    fn wake_by_wall_clock(&mut self) {
        let now = self.now.wall_ms;
        while let Some((due, id)) = self.delayed_until.first().copied().filter(|(due, _)| due.0 <= now) {
            self.delayed_until.remove(&(due, id));
            self.wake(id);
        }
    }

    fn wake(&mut self, id: TaskId) {
        let now_ms = self.now.mono_ms;
        let Some(task) = self.state.tasks.get_mut(&id).filter(|task| task.state == TaskState::Delayed) else { return };
        task.state = TaskState::Ready;
        self.state.counts.shift(TaskState::Delayed, TaskState::Ready);
        if let Some(link) = task.kin.step
            && let Some(run) = self.state.workflows.get_mut(&link.workflow)
        {
            run.shift(link, TaskState::Delayed, TaskState::Ready);
        }
        task.soft.ready_since_ms = now_ms;
        task.soft.woken = true;
        if task.is_workflow() {
            self.children_due.insert(id);
        } else {
            let place = self.ready.insert(task, self.workers.alive());
            self.refresh_limits_of(place);
        }
    }

    /// While the wall clock cannot be believed none passes.
    fn pass_deadlines(&mut self) {
        if self.clock_watch.is_raised() {
            return;
        }
        let now = self.now.wall_ms;
        let passed: Vec<TaskId> =
            self.deadlines.iter().take_while(|(deadline, _)| deadline.0 <= now).map(|(_, id)| *id).collect();
        let at = self.at();
        self.commit_by_class(passed, |id: &TaskId| *id, |tasks| Record::DeadlinePassed { at, tasks });
    }

    pub(super) fn answer_impatient(&mut self) {
        for (target, to) in self.waiters.take_due(self.now.mono_ms) {
            if self.state.workflows.contains_key(&target) {
                self.answer_workflow(target, to);
            } else {
                self.answer_task(target, to);
            }
        }
    }

    /// An idle worker beside a lease that nobody started: the home asks for it back, again while nobody answers.
    fn recall_unstarted(&mut self) {
        let now_ms = self.now.mono_ms;
        let mut recalls: std::collections::BTreeMap<crate::ids::PeerId, Vec<Fence>> = std::collections::BTreeMap::new();
        let mut spare = self.spare_credit();
        if spare.is_empty() {
            return;
        }
        for (_, id) in self.leases.iter().take(RECALLS_PER_TICK) {
            let Some(task) = self.state.tasks.get_mut(id) else { continue };
            let old = now_ms >= task.soft.recalled_ms + limits::RECALL_AFTER_MS;
            // Of a queue that is held back, a lease that is given back goes to nobody.
            let held = self.state.paused.holds(&task.spec.namespace);
            let (Some(holder), true) = (task.worker, old && !task.epoch_started && !held) else { continue };
            let Ok(shape) = crate::matching::Shape::of(&task.spec) else { continue };
            let pool = shape.kind.pool();
            let idle = spare.iter_mut().find(|((peer, offered, capabilities), left)| {
                *peer != holder && *offered == pool && *left > 0 && shape.fits(capabilities)
            });
            if let Some((_, left)) = idle {
                *left -= 1;
                task.soft.recalled_ms = now_ms;
                recalls.entry(holder).or_default().push(task.fence());
            }
        }
        for (worker, fences) in recalls {
            self.outbox.push(Gate::Open, Effect::Notify { worker, notice: WorkerNotice::Recall(fences) });
        }
    }

    /// Credit of workers for which nothing is ready.
    #[allow(clippy::type_complexity, reason = "a local list of (who, which slots, what they can) with a count")]
    fn spare_credit(
        &self,
    ) -> Vec<((crate::ids::PeerId, crate::task::SlotPool, std::sync::Arc<crate::matching::Capabilities>), u32)> {
        let pools = [crate::task::SlotPool::Cpu, crate::task::SlotPool::Device];
        let offers = self.workers.entries.iter().filter(|(_, entry)| entry.alive).flat_map(|(peer, entry)| {
            pools.into_iter().filter_map(move |pool| {
                let left = entry.available(self.now.mono_ms, pool);
                let idle = left > 0 && self.ready.eligible_for(peer, pool) == 0;
                let capabilities = entry.capabilities.clone().filter(|_| idle)?;
                Some(((*peer, pool, capabilities), left))
            })
        });
        offers.collect()
    }

    pub(super) fn tally(&self) -> (u64, u64, u64) {
        (self.state.memory_submitted, self.state.memory_terminal, self.fenced_total)
    }

    /// `memory` tasks are not written; how many there are is, so that the next generation can say how many were lost.
    /// Neither is a message that changes nothing, but how many there were.
    fn write_tally(&mut self) {
        let tally = self.tally();
        if tally != self.tallied && self.now.mono_ms >= self.tallied_ms + limits::TALLY_EVERY_MS {
            self.tallied = tally;
            self.tallied_ms = self.now.mono_ms;
            let (at, (submitted, terminal, fenced_total)) = (self.at(), tally);
            let record = Record::MemoryTally { at, submitted, terminal, fenced_total };
            self.commit(Durability::Async, record);
        }
    }
}
