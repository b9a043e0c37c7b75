//! What of a ledger decides how it goes on, for whoever explores its states and must know one again.
//!
//! Left out is what only numbers or dates things: log indices, the chain, counters that are shown, and the times of
//! records, which differ by a millisecond with the order of what happened. Namespaces beside each other and limits are
//! left out as well: no model has them. Each structure is taken apart in full, so
//! that who adds a field says here whether it decides.

use std::hash::{Hash, Hasher};

use super::effects::Outbox;
use super::ledger::Ledger;
use super::ready::ReadySet;
use super::state::State;
use super::task_entry::{Soft, Task};
use super::workers::WorkerEntry;
use crate::ids::LogIndex;
use crate::lease::Fence;
use crate::limits;
use crate::task::TaskState;

impl Ledger {
    /// Feeds `hasher` with all that decides how this ledger goes on from `now_ms` on.
    #[rustfmt::skip]
    pub fn fingerprint(&self, now_ms: u64, hasher: &mut impl Hasher) {
        let Self {
            identity, state, ready, workers, outbox, grants, clock_root, marker, tick_due_ms, binding, grants_due,
            preference_due_ms, loads, children_due, draining, disk,
            // Of one namespace without limits, in a node whose settings stay and whose clocks agree.
            settings: _, fairness: _, limits: _, permits: _, clock_watch: _,
            // Empty between events.
            wanted: _,
            // Derived from the tasks.
            leases: _, approvals: _, namespaces: _, delayed: _, delayed_until: _, deadlines: _, dead: _, retention: _,
            // Who asked, what was written, what is only shown.
            now: _, waiters: _, operations: _, chain: _, entries: _, next: _, unpublished: _, markers: _,
            fenced_total: _, settled_stats: _, tallied: _, tallied_ms: _, keys_forgotten_ms: _, pace: _, workflow_pace: _,
            // It spares work, and decides nothing.
            checked: _,
            // No model's log is long enough, and each has one copy.
            compaction: _, comparing: _,
        } = self;
        (identity.secret, grants, clock_root.0, tick_due_ms, grants_due, preference_due_ms, binding).hash(hasher);
        marker.map(|marker| (marker.id, marker.cutoff_ms, marker.placed_ms)).hash(hasher);
        (format!("{loads:?}"), children_due, draining, disk).hash(hasher);
        state.fingerprint(now_ms, outbox.synced(), hasher);
        ready.fingerprint(hasher);
        outbox.fingerprint(hasher);
        for (peer, entry) in &workers.entries {
            peer.hash(hasher);
            entry.fingerprint(now_ms, hasher);
        }
    }

    /// The leases that this home holds to be live, with its own end of each.
    pub fn leases(&self) -> impl Iterator<Item = (Fence, u64)> {
        self.leases.iter().filter_map(|(expires_ms, id)| Some((self.state.tasks.get(id)?.fence(), *expires_ms)))
    }
}

impl State {
    #[rustfmt::skip]
    fn fingerprint(&self, now_ms: u64, synced: LogIndex, hasher: &mut impl Hasher) {
        let Self {
            tag: _, generation, tasks, order, workflows, schedules, children, submitted, lost,
            // Of limits, keys, pauses, contexts, use, and what days take away.
            usage: _, rate_marks: _, loans: _, keys: _, paused: _, contexts: _, pruned: _, pruned_memory: _, pruned_newest: _,
            // Of logs that are cut, and of their copies.
            partial: _, cut: _, standing: _,
            // Sums over the tasks, and what is only shown.
            counts: _, memory_submitted: _, memory_terminal: _, fenced_total: _, released_total: _, expired_total: _, retried_total: _,
            commits_by_worker: _, workflows_running: _, last_at: _, last_index: _, changes: _, templates: _,
        } = self;
        (generation, submitted, lost, children, format!("{schedules:?}")).hash(hasher);
        for task in order.iter().filter_map(|id| tasks.get(id)) {
            task.fingerprint(now_ms, synced, hasher);
        }
        for (id, run) in workflows {
            (id, format!("{run:?}")).hash(hasher);
        }
    }
}

impl Task {
    #[rustfmt::skip]
    fn fingerprint(&self, now_ms: u64, synced: LogIndex, hasher: &mut impl Hasher) {
        let Self {
            id, state, priority, attempts, false_starts, epoch, token, worker, epoch_status, epoch_started,
            bury_when_due, wait_ms_max, index, kin, soft, spec,
            // Given at submission, or told to whoever asks.
            input: _, owner: _, clock_root: _, created: _, started: _, finished: _, due: _, attempt_started: _,
            // Of it, only the checkpoint decides: see below.
            notes: _, output: _, past: _, ran_ms: _, accepted: _,
            base: _,
        } = self;
        let Soft {
            ready: _, ready_since_ms, expires_ms, recalled_ms, skip, due_ms, attempt_started_ms, queue: _, share: _, counted: _, bytes: _,
            woken: _, tallied: _,
        } = soft;
        (id, state, priority, attempts, false_starts, bury_when_due, wait_ms_max, kin.child, *index > synced).hash(hasher);
        (epoch, token, worker, epoch_status, epoch_started).hash(hasher);
        match state {
            TaskState::Ready => {
                (*ready_since_ms).max(now_ms.saturating_sub(limits::PREFERENCE_WAIT_MS)).hash(hasher);
            }
            TaskState::Delayed => due_ms.hash(hasher),
            TaskState::Leased | TaskState::Running => {
                // Only the last attempt's time says when its task is buried, and an outside one's when its lease ends.
                let counts = *attempts >= spec.retry.max_attempts || self.outside().is_some();
                let started_ms = attempt_started_ms.filter(|_| counts);
                (expires_ms, recalled_ms, started_ms).hash(hasher);
            }
            TaskState::Blocked | TaskState::Succeeded | TaskState::Failed | TaskState::Dead
            | TaskState::Cancelled | TaskState::Skipped => return,
        }
        self.checkpoint().hash(hasher);
        for (peer, (until_ms, next_ms)) in &**skip {
            (peer, now_ms.max(*until_ms), next_ms).hash(hasher);
        }
    }
}

impl ReadySet {
    /// Tasks in the order in which they leave.
    fn fingerprint(&self, hasher: &mut impl Hasher) {
        let Self { queues, busy: _, empty: _, gates: _, standing: _, aging: _, paused: _, index: _, last: _ } = self;
        queues.iter().for_each(|queue| queue.run_us.hash(hasher));
        for (place, queue) in self.busy() {
            let mut heap = queue.heap.clone();
            place.hash(hasher);
            while let Some((_, task)) = heap.pop() {
                Hash::hash(&task, hasher);
            }
            queue.fitting.keys().for_each(|peer| peer.hash(hasher));
        }
    }
}

impl WorkerEntry {
    fn fingerprint(&self, now_ms: u64, hasher: &mut impl Hasher) {
        let Self { capabilities: _, alive, offer, offered_ms, granted, shares, past, reborn_ms } = self;
        shares.iter().for_each(|share| share.fingerprint(offer.map(|offer| offer.name)).hash(hasher));
        let too_old_ms = now_ms.saturating_sub(limits::CREDIT_AGE_MAX_MS + 1);
        (alive, offer, (*offered_ms).max(too_old_ms), granted, past, reborn_ms).hash(hasher);
    }
}

impl Outbox {
    /// Effects hold whole specifications, which cannot be hashed but in words; few of them wait at a time.
    fn fingerprint(&self, hasher: &mut impl Hasher) {
        let Self { watermark, opened, ready, until_written, until_synced } = self;
        (watermark.synced >= *opened, format!("{ready:?}")).hash(hasher);
        for (index, effect) in until_written.iter().chain(until_synced) {
            (index.0 - watermark.synced.0, format!("{effect:?}")).hash(hasher);
        }
    }
}
