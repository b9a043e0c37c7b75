//! Concurrency and rate keys at one home: queues behind a key that is used up are passed over, and hide nothing.
//!
//! A concurrency key counts live leases, a fact of the tasks' states. A rate's mark is in the grants that moved it. So
//! both are right after a replay, and a restart gives no burst.

use std::collections::BTreeMap;

use super::ledger::Ledger;
use super::protocol::Refusal;
use super::task_entry::Task;
use crate::ids::{LedgerTag, TaskId};
use crate::limiter::{LimitKey, LimitKind, RateMark};
use crate::task::TaskSpec;
use crate::time::Wall;

/// One limit that a queue of ready tasks stands behind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Limit {
    pub kind: LimitKind,
    pub key: LimitKey,
}

impl Limit {
    pub fn all_of(spec: &TaskSpec, own: LedgerTag) -> Vec<Self> {
        let named = [(LimitKind::Concurrency, &spec.concurrency_key), (LimitKind::Rate, &spec.rate_key)];
        let limit = |(kind, key): (LimitKind, &Option<LimitKey>)| {
            key.as_ref().map(|key| Self { kind, key: key.seen_from(own) })
        };
        named.into_iter().filter_map(limit).collect()
    }
}

#[derive(Debug)]
pub(super) struct Limits {
    /// Live leases by concurrency key; no entry: none.
    live: BTreeMap<LimitKey, u32>,
    /// Marks of this round's grants, whose records are not applied yet.
    marks: BTreeMap<LimitKey, RateMark>,
    opened: Wall,
}

impl Limits {
    /// Of a home that opens now: what the log says nothing of counts as used up.
    pub fn opened(opened: Wall) -> Self {
        Self { live: BTreeMap::new(), marks: BTreeMap::new(), opened }
    }

    fn live(&self, key: &LimitKey) -> u32 {
        self.live.get(key).copied().unwrap_or(0)
    }

    /// Brings the count of `task`'s key in line with whether it has a live lease. Returns the limit that this moved.
    pub fn count(&mut self, task: &mut Task) -> Option<Limit> {
        let key = task.spec.concurrency_key.as_ref().filter(|_| task.soft.counted != task.has_live_lease())?;
        let key = key.seen_from(task.id.ledger);
        task.soft.counted = !task.soft.counted;
        self.shift(&key, task.soft.counted);
        Some(Limit { kind: LimitKind::Concurrency, key })
    }

    fn shift(&mut self, key: &LimitKey, one_more: bool) {
        let live = self.live.entry(key.clone()).or_default();
        *live = if one_more { *live + 1 } else { live.saturating_sub(1) };
        if *live == 0 {
            self.live.remove(key);
        }
    }

    /// The records of a round are applied: the state has its marks.
    pub fn end_round(&mut self) {
        self.marks.clear();
    }
}

impl Ledger {
    fn rate_mark(&self, key: &LimitKey) -> RateMark {
        let known = self.limits.marks.get(key).or_else(|| self.state.rate_marks.get(key)).copied();
        let rate = self.settings.rates.get(&key.name);
        known.or_else(|| rate.map(|rate| rate.used_up(self.limits.opened))).unwrap_or_default()
    }

    fn is_open(&self, limit: &Limit) -> bool {
        let key = &limit.key;
        match limit.kind {
            LimitKind::Concurrency => self.limits.live(key) < self.settings.concurrency(&key.name),
            LimitKind::Rate => {
                let rate = self.settings.rates.get(&key.name);
                rate.is_some_and(|rate| rate.allows(self.rate_mark(key), Wall(self.now.wall_ms)))
            }
        }
    }

    /// Opens or closes the queues behind a limit, as it stands now.
    pub(super) fn refresh_limit(&mut self, limit: &Limit) {
        let open = self.is_open(limit);
        self.grants_due |= self.ready.set_open(limit, open) && open;
    }

    /// A task came to the queue at `place`.
    pub(super) fn refresh_limits_of(&mut self, place: usize) {
        for limit in self.ready.queues[place].limits.clone() {
            self.refresh_limit(&limit);
        }
    }

    /// Rates open with time.
    pub(super) fn refresh_rates(&mut self) {
        for limit in self.ready.closed_rates() {
            self.refresh_limit(&limit);
        }
    }

    /// A task is about to be granted: it takes a place under its keys. The mark of its rate goes into the record.
    pub(super) fn take_limits(&mut self, id: TaskId) -> Option<RateMark> {
        let task = self.state.tasks.get_mut(&id)?;
        let limits = Limit::all_of(&task.spec, id.ledger);
        let mut mark = None;
        for limit in &limits {
            let key = &limit.key;
            match limit.kind {
                LimitKind::Concurrency => {
                    self.state.tasks.get_mut(&id)?.soft.counted = true;
                    self.limits.shift(key, true);
                }
                LimitKind::Rate => {
                    let rate = self.settings.rates.get(&key.name).copied()?;
                    let started = rate.started(self.rate_mark(key), Wall(self.now.wall_ms));
                    self.limits.marks.insert(key.clone(), started);
                    mark = Some(started);
                }
            }
            self.refresh_limit(limit);
        }
        mark
    }

    /// What a grant of `task` that never started gives back to its rate.
    pub(super) fn rate_given_back_us(&self, task: &Task) -> Option<u64> {
        let key = task.spec.rate_key.as_ref()?.seen_from(task.id.ledger);
        Some(self.settings.rates.get(&key.name)?.interval_us())
    }

    /// Whether this home can hold to the limits that a task names.
    pub(super) fn check_limits(&self, spec: &TaskSpec, path: &str) -> Result<(), Refusal> {
        for (field, key) in [("concurrency_key", &spec.concurrency_key), ("rate_key", &spec.rate_key)] {
            let Some(key) = key.as_ref().map(|key| key.seen_from(self.state.tag)) else { continue };
            let wrong = |problem, fix: String| Refusal::invalid(&format!("{path}/{field}"), problem, fix);
            if let Some(home) = key.home {
                let problem = format!("this version does not hold limits at another home ({home})");
                return Err(wrong(problem, format!("write {}: the limit then holds at this home", key.name)));
            }
            if field == "rate_key" && !self.settings.rates.contains_key(&key.name) {
                let problem = format!("this home's configuration has no rate for {:?}", key.name);
                return Err(wrong(problem, format!("set it there: [rate] {} = \"60/min\"", key.name)));
            }
        }
        Ok(())
    }

    /// The limit that keeps a ready task back, in words.
    pub(super) fn used_up_in_words(&self, task: &Task) -> Option<String> {
        let limits = Limit::all_of(&task.spec, task.id.ledger);
        let limit = limits.iter().find(|limit| !self.is_open(limit))?;
        let key = &limit.key;
        Some(match limit.kind {
            LimitKind::Concurrency => {
                format!(
                    "concurrency key {key}: {} of {} run",
                    self.limits.live(key),
                    self.settings.concurrency(&key.name)
                )
            }
            LimitKind::Rate => match self.settings.rates.get(&key.name) {
                Some(rate) => {
                    let now = Wall(self.now.wall_ms);
                    let wait_ms = rate.next_start(self.rate_mark(key), now).0 - now.0;
                    format!("rate key {key}: {rate} is used up for another {wait_ms} ms")
                }
                None => format!("rate key {key}: this home's configuration has no rate for it any more"),
            },
        })
    }
}
