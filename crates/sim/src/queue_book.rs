//! What a home's log says of its queue as a whole, read by other eyes than the core's.

use std::collections::{BTreeMap, BTreeSet};

use magpie_core::ids::{LedgerTag, LogIndex, TaskId};
use magpie_core::limiter::{LimitKind, LoanFacts};
use magpie_core::queue::{Record, SubmitItem};
use magpie_core::task::TaskSpec;

/// A namespace and an idempotency key in it.
pub type KeyName = (String, String);

#[derive(Debug, Default)]
pub struct QueueFacts {
    whole_is_paused: bool,
    paused: BTreeSet<String>,
    /// Tasks and workflows that are not kept any more, by the record that says so.
    pub pruned: BTreeMap<TaskId, LogIndex>,
    /// What other homes have, by limit of this home.
    loans: BTreeMap<(LimitKind, String), BTreeMap<LedgerTag, LoanFacts>>,
    /// The tasks that keys were given to, less what was forgotten.
    pub keys: BTreeMap<KeyName, TaskId>,
}

pub fn key_of(spec: &TaskSpec) -> Option<KeyName> {
    Some((spec.namespace.clone(), spec.idempotency_key.clone()?))
}

impl QueueFacts {
    pub fn read(&mut self, index: LogIndex, record: &Record) {
        match record {
            Record::QueuePaused { namespace: Some(namespace), .. } => drop(self.paused.insert(namespace.clone())),
            Record::QueuePaused { namespace: None, .. } => self.whole_is_paused = true,
            Record::QueueResumed { namespace: Some(namespace), .. } => drop(self.paused.remove(namespace)),
            Record::QueueResumed { namespace: None, .. } => self.whole_is_paused = false,
            Record::Pruned { tasks, workflows, .. } => {
                self.pruned.extend(tasks.iter().chain(workflows).map(|id| (*id, index)));
            }
            Record::KeysForgotten { .. } => self.keys.clear(),
            Record::PermitsLent { kind, name, loans, .. } => {
                let of_limit = self.loans.entry((*kind, name.clone())).or_default();
                of_limit.extend(loans.iter().map(|facts| (facts.borrower, *facts)));
            }
            _ => {}
        }
    }

    pub fn read_keys<'a>(&mut self, items: impl Iterator<Item = (TaskId, &'a SubmitItem)>) {
        self.keys.extend(items.filter_map(|(id, item)| Some((key_of(&item.spec)?, id))));
    }

    pub fn is_paused(&self, namespace: &str) -> bool {
        self.whole_is_paused || self.paused.contains(namespace)
    }

    /// What a home has of a limit of this one.
    pub fn loan(&self, kind: LimitKind, name: &str, borrower: LedgerTag) -> Option<LoanFacts> {
        self.loans.get(&(kind, name.to_owned()))?.get(&borrower).copied()
    }

    pub fn lent(&self, kind: LimitKind, name: &str) -> u64 {
        let loans = self.loans.get(&(kind, name.to_owned()));
        loans.into_iter().flat_map(BTreeMap::values).map(|facts| facts.count).sum()
    }
}
