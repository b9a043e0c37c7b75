//! Callers that wait for a task or a workflow to end, or for a task to begin.

use std::collections::{BTreeMap, BTreeSet};

use super::effects::ReplyTo;
use crate::ids::TaskId;
use crate::limits;

#[derive(Debug, Clone, Default)]
pub(super) struct Waiters {
    by_target: BTreeMap<TaskId, BTreeSet<(ReplyTo, u64)>>,
    by_deadline: BTreeSet<(u64, TaskId, ReplyTo)>,
    /// Those among them whom a beginning is enough.
    begins: BTreeMap<TaskId, BTreeSet<(ReplyTo, u64)>>,
}

impl Waiters {
    pub fn is_full(&self) -> bool {
        self.len() >= limits::WAITERS_MAX
    }

    pub fn len(&self) -> usize {
        self.by_deadline.len()
    }

    /// When the most impatient of them goes.
    pub fn first_deadline_ms(&self) -> Option<u64> {
        self.by_deadline.first().map(|(until_ms, _, _)| *until_ms)
    }

    pub fn add(&mut self, target: TaskId, to: ReplyTo, until_ms: u64) {
        self.by_target.entry(target).or_default().insert((to, until_ms));
        self.by_deadline.insert((until_ms, target, to));
    }

    /// As [`Self::add`], of one who is answered when an attempt begins, too.
    pub fn add_for_begin(&mut self, target: TaskId, to: ReplyTo, until_ms: u64) {
        self.add(target, to, until_ms);
        self.begins.entry(target).or_default().insert((to, until_ms));
    }

    /// Those who waited for an attempt of `target` to begin.
    pub fn take_begun(&mut self, target: TaskId) -> Vec<ReplyTo> {
        let waiting = self.begins.remove(&target).unwrap_or_default();
        for (to, until_ms) in &waiting {
            self.by_deadline.remove(&(*until_ms, target, *to));
            self.forget(target, (*to, *until_ms));
        }
        waiting.into_iter().map(|(to, _)| to).collect()
    }

    fn forget(&mut self, target: TaskId, waiter: (ReplyTo, u64)) {
        for waiting in [&mut self.by_target, &mut self.begins] {
            if let Some(waiters) = waiting.get_mut(&target) {
                waiters.remove(&waiter);
                if waiters.is_empty() {
                    waiting.remove(&target);
                }
            }
        }
    }

    /// Those who waited for `target`.
    pub fn take(&mut self, target: TaskId) -> Vec<ReplyTo> {
        self.begins.remove(&target);
        let waiting = self.by_target.remove(&target).unwrap_or_default();
        for (to, until_ms) in &waiting {
            self.by_deadline.remove(&(*until_ms, target, *to));
        }
        waiting.into_iter().map(|(to, _)| to).collect()
    }

    /// All of them, with what they waited for.
    pub fn take_all(&mut self) -> Vec<(TaskId, ReplyTo)> {
        let Self { by_deadline, .. } = std::mem::take(self);
        by_deadline.into_iter().map(|(_, target, to)| (target, to)).collect()
    }

    /// Those whose patience ended, with what they waited for.
    pub fn take_due(&mut self, now_ms: u64) -> Vec<(TaskId, ReplyTo)> {
        let later = self.by_deadline.split_off(&(
            now_ms + 1,
            TaskId { ulid: 0, ledger: crate::ids::LedgerTag([0; 5]) },
            ReplyTo(0),
        ));
        let due = std::mem::replace(&mut self.by_deadline, later);
        let due: Vec<(u64, TaskId, ReplyTo)> = due.into_iter().collect();
        for (until_ms, target, to) in &due {
            self.forget(*target, (*to, *until_ms));
        }
        due.into_iter().map(|(_, target, to)| (target, to)).collect()
    }
}
