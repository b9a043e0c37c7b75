//! Concurrency and rate keys at one home: queues behind a key that is used up are passed over, and hide nothing.
//!
//! A concurrency key counts live leases, a fact of the tasks' states. A rate's mark is in the grants that moved it. So
//! both are right after a replay, and a restart gives no burst.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ledger::Ledger;
use super::protocol::Refusal;
use super::task_entry::Task;
use crate::ids::{LedgerTag, TaskId};
use crate::limiter::{LimitKey, LimitKind, RateMark};
use crate::task::{TaskKind, TaskSpec};
use crate::time::Wall;

/// One limit that a queue of ready tasks stands behind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Limit {
    pub kind: LimitKind,
    pub key: LimitKey,
}

impl Limit {
    pub fn all_of(spec: &TaskSpec, own: LedgerTag) -> Vec<Self> {
        let kinds = [LimitKind::Concurrency, LimitKind::Rate].into_iter();
        kinds.filter_map(|kind| Some(Self { kind, key: spec.limit(kind, own)? })).collect()
    }
}

#[derive(Debug, Clone)]
pub(super) struct Limits {
    /// Live leases by concurrency key; no entry: none.
    live: BTreeMap<LimitKey, u32>,
    /// Marks of this round's grants, whose records are not applied yet.
    marks: BTreeMap<LimitKey, RateMark>,
    /// Marks that stand for recorded ones which lie further ahead than starts can: the wall clock was set back.
    brought_back: BTreeMap<LimitKey, RateMark>,
    opened: Wall,
}

impl Limits {
    /// Of a home that opens now: what the log says nothing of counts as used up.
    pub fn opened(opened: Wall) -> Self {
        Self { live: BTreeMap::new(), marks: BTreeMap::new(), brought_back: BTreeMap::new(), opened }
    }

    pub fn live(&self, key: &LimitKey) -> u64 {
        self.live.get(key).copied().unwrap_or(0).into()
    }

    /// Brings the count of `task`'s key in line with whether it has a live lease. Returns the limit that this moved.
    pub fn count(&mut self, task: &mut Task) -> Option<Limit> {
        let moved = task.soft.counted != task.has_live_lease();
        let key = task.spec.limit(LimitKind::Concurrency, task.id.ledger).filter(|_| moved)?;
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

    /// The records of a round are applied: the state has its marks, but where a later one is recorded.
    pub fn end_round(&mut self) {
        for (key, mark) in std::mem::take(&mut self.marks) {
            self.brought_back.entry(key).and_modify(|known| *known = mark);
        }
    }

    /// The recorded mark of `key` is the newest again.
    pub fn believe_the_log(&mut self, key: &LimitKey) {
        self.brought_back.remove(key);
    }
}

impl Ledger {
    pub(super) fn rate_mark(&self, key: &LimitKey) -> RateMark {
        let newest = self.limits.marks.get(key).or_else(|| self.limits.brought_back.get(key));
        let known = newest.or_else(|| self.state.rate_marks.get(key)).copied();
        let rate = self.settings.rates.get(&key.name);
        known.or_else(|| rate.map(|rate| rate.used_up(self.limits.opened))).unwrap_or_default()
    }

    /// The wall clock may be set back by hours: the rate waits no longer than after a burst, counted from now.
    pub(super) fn bring_mark_back(&mut self, limit: &Limit) {
        let Limit { kind: LimitKind::Rate, key } = limit else { return };
        let Some(rate) = self.settings.rates.get(&key.name).filter(|_| key.home.is_none()) else { return };
        let mark = self.rate_mark(key);
        let nearest = rate.bounded(mark, Wall(self.now.wall_ms));
        if nearest < mark {
            self.limits.brought_back.insert(key.clone(), nearest);
        }
    }

    pub(super) fn is_open(&self, limit: &Limit) -> bool {
        let key = &limit.key;
        if key.home.is_some() {
            return self.permits.spare(limit, self.now.mono_ms, self.limits.live(key)) > 0;
        }
        let left = match limit.kind {
            LimitKind::Concurrency => self.free_places(limit) > 0,
            LimitKind::Rate => {
                let rate = self.settings.rates.get(&key.name);
                rate.is_some_and(|rate| rate.allows(self.rate_mark(key), Wall(self.now.wall_ms)))
            }
        };
        left && self.permits.is_own_turn(limit)
    }

    /// Places of a concurrency key of this home that nobody has.
    pub(super) fn free_places(&self, limit: &Limit) -> u64 {
        let all = u64::from(self.settings.concurrency(&limit.key.name));
        all.saturating_sub(self.limits.live(&limit.key) + self.permits.lent(limit))
    }

    /// Opens or closes the queues behind a limit, as it stands now.
    pub(super) fn refresh_limit(&mut self, limit: &Limit) {
        self.bring_mark_back(limit);
        self.open_or_close(limit);
        self.permits.stir(limit);
    }

    pub(super) fn open_or_close(&mut self, limit: &Limit) {
        let open = self.is_open(limit);
        if self.ready.set_open(limit, open) {
            self.grants_due |= open;
            // What is worth asking for of one key depends on whether the other is there.
            self.permits.stir_each(&self.ready.beside(limit));
        }
    }

    /// Whether a queue's permits, if it needs some of other homes, may be used at this moment: their time may be over
    /// since the last tick.
    pub(super) fn has_permits(&self, place: usize) -> bool {
        let limits = &self.ready.queues[place].limits;
        limits.iter().filter(|limit| limit.key.home.is_some()).all(|limit| self.is_open(limit))
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
                LimitKind::Rate if key.home.is_some() => {}
                LimitKind::Rate => {
                    let rate = self.settings.rates.get(&key.name).copied()?;
                    let started = rate.started(self.rate_mark(key), Wall(self.now.wall_ms));
                    self.limits.marks.insert(key.clone(), started);
                    mark = Some(started);
                }
            }
            self.permits.took(limit);
            self.refresh_limit(limit);
        }
        mark
    }

    /// What a grant of `task` that never started gives back to its rate.
    pub(super) fn rate_given_back_us(&self, task: &Task) -> Option<u64> {
        let key = task.spec.limit(LimitKind::Rate, task.id.ledger)?;
        if key.home.is_some() {
            return None;
        }
        Some(self.settings.rates.get(&key.name)?.interval_us())
    }

    /// Whether this home can hold to the limits that a task names. One of another home is that home's to know.
    pub(super) fn check_limits(&self, spec: &TaskSpec, path: &str) -> Result<(), Refusal> {
        for (field, key) in [("concurrency_key", &spec.concurrency_key), ("rate_key", &spec.rate_key)] {
            let (problem, fix) = match spec.kind {
                TaskKind::Workflow => {
                    ("a workflow has no lease of its own that a key could count", "give the key to its steps")
                }
                TaskKind::Approval => ("no key counts what a person decides", "give the key to the steps behind it"),
                _ => continue,
            };
            if key.is_some() {
                return Err(Refusal::invalid(&format!("{path}/{field}"), problem, fix));
            }
        }
        let rate = spec.rate_key.as_ref().map(|key| key.seen_from(self.state.tag));
        match rate.filter(|key| key.home.is_none() && !self.settings.rates.contains_key(&key.name)) {
            None => self.permits.check(&Limit::all_of(spec, self.state.tag)),
            Some(key) => {
                let (problem, fix) = no_rate(&key.name);
                Err(Refusal::invalid(&format!("{path}/rate_key"), problem, fix))
            }
        }
    }

    /// The limit that keeps a ready task back, in words.
    pub(super) fn used_up_in_words(&self, task: &Task) -> Option<String> {
        let limits = Limit::all_of(&task.spec, task.id.ledger);
        // Without its start a task asks for no place.
        let limit = limits.iter().rfind(|limit| !self.is_open(limit))?;
        let (kind, key, now) = (limit.kind.name(), &limit.key.seen_from(self.state.tag), Wall(self.now.wall_ms));
        let said = self.limit_in_words(limit);
        let how = match (limit.kind, key.home, self.settings.rates.get(&key.name)) {
            (_, Some(_), _) => match self.permits.said(limit) {
                Ok(said) => format!("{said} over all homes, and this home's turn has not come"),
                Err(why) => format!("no permit of its home: {why}"),
            },
            (LimitKind::Concurrency, None, _) => {
                let lent = self.permits.lent(limit);
                let elsewhere = if lent > 0 { format!(", {lent} of them lent to other homes") } else { String::new() };
                format!("{} of {said} run{elsewhere}", self.limits.live(key) + lent)
            }
            (LimitKind::Rate, None, Some(rate)) => {
                let wait_ms = rate.next_start(self.rate_mark(key), now).0.saturating_sub(now.0);
                format!("{said} is used up for another {wait_ms} ms")
            }
            (LimitKind::Rate, None, None) => said,
        };
        Some(format!("{kind} key {key}: {how}"))
    }

    /// A limit of this home, as its configuration says it.
    pub(super) fn limit_in_words(&self, limit: &Limit) -> String {
        match (limit.kind, self.settings.rates.get(&limit.key.name)) {
            (LimitKind::Concurrency, _) => self.settings.concurrency(&limit.key.name).to_string(),
            (LimitKind::Rate, Some(rate)) => rate.to_string(),
            (LimitKind::Rate, None) => no_rate(&limit.key.name).0,
        }
    }
}

/// The problem and the fix of a rate key without a rate.
pub(super) fn no_rate(name: &str) -> (String, String) {
    let problem = format!("this home's configuration has no rate for {name:?}");
    (problem, format!("set it there: [rate] {name} = \"60/min\""))
}
