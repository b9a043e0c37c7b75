//! What clients do to queues: they look, pause, resume and clear. Once the faults stop, what is held back goes on.

use std::collections::{BTreeMap, BTreeSet};

use magpie_core::ids::{LogIndex, OperationId};
use magpie_core::queue::{LedgerReply, LedgerRequest, PausedView, Refusal};

use crate::rng::Rng;
use crate::workload::NAMESPACES;

/// A home's queue as a client saw it last.
#[derive(Debug, Clone, Default)]
struct Seen {
    version: u64,
    log: LogIndex,
    paused: Vec<Option<String>>,
}

#[derive(Debug, Default)]
pub struct Operator {
    seen: BTreeMap<usize, Seen>,
    /// The home that it looks at in the calm, and those at which it has looked.
    looks_at: Option<usize>,
    looked: BTreeSet<usize>,
}

impl Operator {
    /// Something to do to the queue of `home`; it looks first.
    pub fn next_request(&mut self, rng: &mut Rng, home: usize, operation: OperationId) -> LedgerRequest {
        let Some(seen) = self.seen.get(&home) else { return LedgerRequest::Stats };
        let drawn = rng.chance(600).then(|| rng.pick(&NAMESPACES).copied().unwrap_or("default").to_owned());
        let version = seen.version;
        match (rng.below(6), seen.paused.first()) {
            (0..=1, _) => {
                let reason = "as drawn".to_owned();
                LedgerRequest::PauseQueue { operation, namespace: drawn, version, reason }
            }
            (2..=3, Some(namespace)) => LedgerRequest::ResumeQueue { operation, namespace: namespace.clone(), version },
            (4, _) => LedgerRequest::ClearQueue { operation, namespace: drawn, up_to: seen.log },
            _ => LedgerRequest::Stats,
        }
    }

    /// In the calm: it looks at every home, and resumes what is paused.
    pub fn look_after(&mut self, homes: usize, operation: OperationId) -> Option<(usize, LedgerRequest)> {
        if let Some(home) = (0..homes).find(|home| !self.looked.contains(home)) {
            self.looks_at = Some(home);
            return Some((home, LedgerRequest::Stats));
        }
        let (home, seen) = self.seen.iter().find(|(_, seen)| !seen.paused.is_empty())?;
        let (namespace, version) = (seen.paused[0].clone(), seen.version);
        Some((*home, LedgerRequest::ResumeQueue { operation, namespace, version }))
    }

    /// Whether nothing that it knows of is held back.
    pub fn is_content(&self, homes: usize) -> bool {
        self.looked.len() == homes && self.seen.values().all(|seen| seen.paused.is_empty())
    }

    pub fn hears(&mut self, home: usize, reply: &LedgerReply) {
        let names = |paused: &[PausedView]| paused.iter().map(|view| view.namespace.clone()).collect();
        match reply {
            LedgerReply::Stats(stats) => {
                let (version, log, paused) = (stats.queue_version, stats.log_index, names(&stats.paused));
                self.seen.insert(home, Seen { version, log, paused });
                if self.looks_at.take_if(|looks_at| *looks_at == home).is_some() {
                    self.looked.insert(home);
                }
            }
            LedgerReply::Queue { version, paused } => {
                let log = self.seen.get(&home).map(|seen| seen.log).unwrap_or_default();
                self.seen.insert(home, Seen { version: *version, log, paused: names(paused) });
            }
            // Somebody else did something: it looks again.
            LedgerReply::Cleared { .. } | LedgerReply::Refused(Refusal::QueueChanged { .. }) => {
                self.seen.remove(&home);
                self.looked.remove(&home);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(version: u64, paused: &[Option<&str>]) -> LedgerReply {
        let view = |namespace: &Option<&str>| PausedView {
            namespace: namespace.map(str::to_owned),
            since: Default::default(),
            reason: String::new(),
        };
        LedgerReply::Queue { version, paused: paused.iter().map(view).collect() }
    }

    #[test]
    fn what_is_paused_is_resumed_once_it_has_looked_everywhere() {
        let (mut operator, operation) = (Operator::default(), OperationId([1; 16]));
        operator.looked.insert(0);
        assert_eq!(operator.look_after(2, operation), Some((1, LedgerRequest::Stats)));
        operator.looked.insert(1);
        operator.hears(1, &queue(7, &[Some("other"), None]));
        let namespace = Some("other".to_owned());
        let resume = LedgerRequest::ResumeQueue { operation, namespace, version: 7 };
        assert_eq!(operator.look_after(2, operation), Some((1, resume)));
        assert!(!operator.is_content(2));
        operator.hears(1, &queue(9, &[]));
        assert!(operator.look_after(2, operation).is_none() && operator.is_content(2));
    }
}
