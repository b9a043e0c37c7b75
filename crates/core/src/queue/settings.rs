//! What a node's configuration says about the order of work at its home. Handed over when the ledger opens.

use std::collections::BTreeMap;

use crate::limiter::{LimitKey, Rate};
use crate::{dag, limits};

/// Settings of one home. The default has no namespace before another.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueSettings {
    /// Shares of grants by namespace; one that is not named has [`Self::WEIGHT_DEFAULT`].
    pub weights: BTreeMap<String, u32>,
    /// Leases at a time by concurrency key; one that is not named has [`Self::CONCURRENCY_DEFAULT`].
    pub concurrency: BTreeMap<String, u32>,
    /// Starts by rate key; one that is not named is refused.
    pub rates: BTreeMap<String, Rate>,
    /// Tasks that have not ended; more are refused until some have.
    pub live_tasks_max: usize,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            weights: BTreeMap::new(),
            concurrency: BTreeMap::new(),
            rates: BTreeMap::new(),
            live_tasks_max: limits::TASKS_LIVE_MAX,
        }
    }
}

impl QueueSettings {
    pub const WEIGHT_DEFAULT: u32 = 1;
    /// A concurrency key of which nothing more is said is a mutex.
    pub const CONCURRENCY_DEFAULT: u32 = 1;

    pub fn weight(&self, namespace: &str) -> u32 {
        self.weights.get(namespace).copied().unwrap_or(Self::WEIGHT_DEFAULT)
    }

    pub fn concurrency(&self, name: &str) -> u32 {
        self.concurrency.get(name).copied().unwrap_or(Self::CONCURRENCY_DEFAULT)
    }

    /// # Errors
    /// The first setting out of bounds, beginning with its name.
    pub fn validate(&self) -> Result<(), String> {
        check_names("namespaces", self.weights.keys(), check_namespace)?;
        check_names("concurrency", self.concurrency.keys(), check_key)?;
        check_names("rate", self.rates.keys(), check_key)?;
        if !(1..=limits::TASKS_LIVE_MAX).contains(&self.live_tasks_max) {
            let (given, most) = (self.live_tasks_max, limits::TASKS_LIVE_MAX);
            return Err(format!("live_tasks_max is {given}: a home keeps 1 to {most} tasks that have not ended"));
        }
        check_range("a namespace's weight", &self.weights, limits::NAMESPACE_WEIGHT_MAX)?;
        check_range("a concurrency key's limit", &self.concurrency, limits::CONCURRENCY_MAX)
    }
}

fn check_names<'a>(
    table: &str,
    mut names: impl ExactSizeIterator<Item = &'a String>,
    check: impl Fn(&str) -> Result<(), String>,
) -> Result<(), String> {
    let most = limits::QUEUE_SETTINGS_MAX;
    if names.len() > most {
        return Err(format!("{table} has {} entries: at most {most}", names.len()));
    }
    names.try_for_each(|name| check(name))
}

/// One that no task could name holds nothing back.
fn check_namespace(name: &str) -> Result<(), String> {
    let most = limits::NAME_BYTES_MAX;
    let wrong = || format!("{name:?} is no name of a namespace: use 1 to {most} of a-z, 0-9, - and _");
    if dag::is_name(name) { Ok(()) } else { Err(wrong()) }
}

fn check_key(name: &str) -> Result<(), String> {
    let most = limits::NAME_BYTES_MAX;
    let is_one = name.parse::<LimitKey>().is_ok_and(|key| key.home.is_none());
    let wrong = || format!("{name:?} is no name: use 1 to {most} bytes without @ and control characters");
    if is_one { Ok(()) } else { Err(wrong()) }
}

fn check_range(what: &str, table: &BTreeMap<String, u32>, most: u32) -> Result<(), String> {
    let wrong = table.iter().find(|(_, value)| !(1..=most).contains(*value));
    wrong.map_or(Ok(()), |(name, value)| Err(format!("{name} is {value}: {what} is 1 to {most}")))
}
