//! What must hold, compared at every step with what was recorded and answered before.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use magpie_core::ids::{Epoch, LeaseToken, TaskId};
use magpie_core::invariant::InvariantId;
use magpie_core::lease::{CompleteAnswer, Fence};
use magpie_core::queue::{AfterAttempt, Record};

/// An invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    pub id: InvariantId,
    pub what: String,
}

/// The history that later steps are judged by.
#[derive(Debug, Clone, Default)]
pub struct Checks {
    /// By the home's records: the newest epoch of each task with its token, and the tasks that ended.
    recorded: BTreeMap<TaskId, (Epoch, LeaseToken)>,
    ended: BTreeSet<TaskId>,
    /// Of any life of the home.
    highest: BTreeMap<TaskId, Epoch>,
    started: BTreeSet<Fence>,
    committed: BTreeMap<TaskId, Fence>,
    pub breach: Option<Breach>,
    /// What this path has been through: evidence that the model gets there, no part of a state.
    pub witnessed: Witnessed,
}

/// What an exploration must come across, or it does not look where the danger is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Witnessed {
    pub expired: bool,
    pub granted_again: bool,
    pub revived: bool,
    pub fenced: bool,
    pub retried: bool,
    pub recovered_outcome: bool,
}

impl Checks {
    pub fn require(&mut self, id: InvariantId, holds: bool, what: impl FnOnce() -> String) {
        if !holds && self.breach.is_none() {
            self.breach = Some(Breach { id, what: what() });
        }
    }

    /// Reads a record that the home made while it handled a message that presents `presented`.
    pub fn record(&mut self, record: &Record, presented: &[(Fence, LeaseToken)]) {
        self.judge_fences(record, presented);
        match record {
            Record::Granted { grants, .. } => {
                for grant in grants {
                    let (task, epoch) = (grant.task, grant.epoch);
                    let before = self.highest.insert(task, epoch);
                    self.witnessed.granted_again |= before.is_some();
                    self.require(InvariantId::I2, before < Some(epoch), || {
                        format!("{task} is granted in epoch {epoch} after {before:?}")
                    });
                    self.leave_alone(task, record);
                    self.recorded.insert(task, (epoch, grant.token));
                }
            }
            Record::Completed { results, .. } => {
                for result in results {
                    self.leave_alone(result.fence.task, record);
                    let retried = matches!(result.next, AfterAttempt::Retry { .. });
                    self.witnessed.retried |= retried;
                    if !retried {
                        self.ended.insert(result.fence.task);
                    }
                }
            }
            Record::Buried { tasks, .. } | Record::DeadlinePassed { tasks, .. } => {
                for task in tasks {
                    self.leave_alone(*task, record);
                    self.ended.insert(*task);
                }
            }
            Record::Expired { fences, .. } | Record::Revived { fences, .. } | Record::Started { fences, .. } => {
                self.witnessed.expired |= matches!(record, Record::Expired { .. });
                self.witnessed.revived |= matches!(record, Record::Revived { .. });
                fences.iter().for_each(|fence| self.leave_alone(fence.task, record));
            }
            _ => {}
        }
    }

    /// I3: what changed was presented with the recorded epoch and token.
    fn judge_fences(&mut self, record: &Record, presented: &[(Fence, LeaseToken)]) {
        let changed: Vec<Fence> = match record {
            Record::Completed { results, .. } => results.iter().map(|result| result.fence).collect(),
            Record::Released { releases, .. } => releases.iter().map(|release| release.fence).collect(),
            Record::Started { fences, .. } | Record::Revived { fences, .. } => fences.clone(),
            _ => return,
        };
        for fence in changed {
            let recorded = self.recorded.get(&fence.task).copied();
            let by_right =
                recorded.is_some_and(|(epoch, token)| epoch == fence.epoch && presented.contains(&(fence, token)));
            self.require(InvariantId::I3, by_right, || {
                format!("{} of {fence:?} rests on {presented:?}; recorded is {recorded:?}", record.kind())
            });
        }
    }

    /// I4: what ended stays so.
    fn leave_alone(&mut self, task: TaskId, record: &Record) {
        let ended = self.ended.contains(&task);
        self.require(InvariantId::I4, !ended, || format!("{task} has ended, and then came a record {}", record.kind()));
    }

    /// A home starts from what is on its disk: what it knew beyond that is gone.
    pub fn forget_unsynced(&mut self, on_disk: &[Record]) {
        self.recorded.clear();
        self.ended.clear();
        for record in on_disk {
            match record {
                Record::Granted { grants, .. } => {
                    self.recorded.extend(grants.iter().map(|grant| (grant.task, (grant.epoch, grant.token))));
                }
                Record::Completed { results, .. } => {
                    let ends = results.iter().filter(|result| !matches!(result.next, AfterAttempt::Retry { .. }));
                    self.ended.extend(ends.map(|result| result.fence.task));
                }
                Record::Buried { tasks, .. } | Record::DeadlinePassed { tasks, .. } => self.ended.extend(tasks),
                _ => {}
            }
        }
    }

    /// I5: each fence is started at most once, and not after the worker's end of the lease.
    pub fn started(&mut self, fence: Fence, in_time: bool) {
        let first = self.started.insert(fence);
        self.require(InvariantId::I5, first, || format!("{fence:?} was started twice"));
        self.require(InvariantId::I5, in_time, || format!("{fence:?} was started after its end"));
    }

    /// I4, as workers see it: one outcome is the result.
    pub fn answered(&mut self, fence: Fence, answer: CompleteAnswer) {
        self.witnessed.fenced |= matches!(answer, CompleteAnswer::Fenced { .. });
        if answer == CompleteAnswer::Committed {
            let first = *self.committed.entry(fence.task).or_insert(fence);
            self.require(InvariantId::I4, first == fence, || format!("{first:?} is committed, and so is {fence:?}"));
        }
    }

    pub fn has_ended(&self, task: TaskId) -> bool {
        self.ended.contains(&task)
    }

    pub fn fingerprint(&self, hasher: &mut impl Hasher) {
        let Self { recorded, ended, highest, started, committed, breach, witnessed: _ } = self;
        (recorded, ended, highest, started, committed).hash(hasher);
        breach.as_ref().map(|breach| &breach.what).hash(hasher);
    }
}
