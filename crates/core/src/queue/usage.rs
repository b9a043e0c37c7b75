//! What each owner's tasks took here, by the hour: for doors that bound what their callers may use.
//!
//! It is part of the state, so a restart, a cut of the log and a move of the ledger keep it. Tasks that are under way are
//! counted where they are; of those that ended only these sums stay.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::effects::{Gate, ReplyTo};
use super::ledger::Ledger;
use super::protocol::{LedgerReply, WorkflowState};
use super::record::Record;
use super::task_entry::Task;
use crate::ids::LedgerTag;
use crate::limits;
use crate::task::{AttemptResult, Durability, Outcome, TaskState, Used, is_default};
use crate::time::Wall;

/// Sums are kept by the hour.
pub const HOUR_MS: u64 = 3_600_000;

/// To a home, about the use of one owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageRequest {
    Of {
        owner: String,
    },
    /// Its owner puts so many bytes: they count from now on.
    Put {
        owner: String,
        bytes: u64,
    },
}

/// What an owner used here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageView {
    pub ledger: LedgerTag,
    /// The home's time.
    pub now: Wall,
    /// Tasks that are not over, and steps that will be tasks.
    pub tasks: u64,
    /// The oldest first; an hour without use is not there.
    pub hours: Vec<HourOfUse>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HourOfUse {
    pub from: Wall,
    pub spent: Spent,
}

/// What is counted of an owner. Time that nobody measured counts nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spent {
    #[serde(skip_serializing_if = "is_default")]
    pub cpu_us: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub gpu_us: u64,
    /// Of blobs that were put, and of outputs.
    #[serde(skip_serializing_if = "is_default")]
    pub bytes: u64,
}

impl Spent {
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            cpu_us: self.cpu_us.saturating_add(other.cpu_us),
            gpu_us: self.gpu_us.saturating_add(other.gpu_us),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    fn of(used: Used, bytes: u64) -> Self {
        Self { cpu_us: used.cpu_us.unwrap_or(0), gpu_us: used.gpu_us.unwrap_or(0), bytes }
    }

    /// By one attempt.
    pub(super) fn by(outcome: &Outcome) -> Self {
        let bytes = match &outcome.result {
            AttemptResult::Succeeded { output } => {
                output.blob().map_or(output.inline_bytes() as u64, |blob| blob.bytes)
            }
            AttemptResult::Failed { .. } => 0,
        };
        Self::of(outcome.used, bytes)
    }

    pub(super) fn bytes(bytes: u64) -> Self {
        Self { bytes, ..Self::default() }
    }

    /// By an attempt that left nothing but what was measured.
    pub(super) fn time(used: Used) -> Self {
        Self::of(used, 0)
    }
}

/// The sums of one owner and hour, as a checkpoint has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct UsageImage {
    owner: Arc<str>,
    from: Wall,
    spent: Spent,
}

/// The sums of all owners.
#[derive(Debug, Clone, Default)]
pub(super) struct Usage {
    /// By the start of the hour.
    hours: BTreeMap<Wall, BTreeMap<Arc<str>, Spent>>,
    len: usize,
}

impl Usage {
    pub fn of(images: &[UsageImage]) -> Self {
        let mut usage = Self::default();
        images.iter().for_each(|image| usage.put(&image.owner, image.from, image.spent));
        usage
    }

    pub fn images(&self) -> Vec<UsageImage> {
        let hours = self.hours.iter();
        let images = hours.flat_map(|(from, owners)| {
            owners.iter().map(|(owner, spent)| UsageImage { owner: owner.clone(), from: *from, spent: *spent })
        });
        images.collect()
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Counts what was spent at `at`. What is too old for any quota goes, and with too many owners the oldest hour.
    pub fn add(&mut self, owner: &Arc<str>, at: Wall, spent: Spent) {
        if spent == Spent::default() {
            return;
        }
        self.put(owner, Wall(at.0 - at.0 % HOUR_MS), spent);
        let oldest = Wall(at.0.saturating_sub(limits::USAGE_KEPT_MS));
        while let Some(first) = self.hours.first_entry() {
            if *first.key() >= oldest && self.len <= limits::USAGE_LEN_MAX {
                break;
            }
            self.len -= first.remove().len();
        }
    }

    fn put(&mut self, owner: &Arc<str>, from: Wall, spent: Spent) {
        let owners = self.hours.entry(from).or_default();
        match owners.get_mut(owner) {
            Some(sum) => *sum = sum.plus(spent),
            None => {
                owners.insert(owner.clone(), spent);
                self.len += 1;
            }
        }
    }

    fn hours_of(&self, owner: &str) -> Vec<HourOfUse> {
        let of = |(from, owners): (&Wall, &BTreeMap<Arc<str>, Spent>)| {
            owners.get(owner).map(|spent| HourOfUse { from: *from, spent: *spent })
        };
        self.hours.iter().filter_map(of).collect()
    }
}

/// How many tasks of each owner are not over. An owner without one takes no room.
#[derive(Debug, Clone, Default)]
pub(super) struct LiveTasks(BTreeMap<Arc<str>, u64>);

impl LiveTasks {
    /// A task went from one state to another; `None`: it was not there, or is not any more.
    pub fn moved(&mut self, task: &Task, from: Option<TaskState>, to: Option<TaskState>) {
        let lives = |state: Option<TaskState>| state.is_some_and(|state| !state.is_terminal());
        match (lives(from), lives(to)) {
            (false, true) => match self.0.get_mut(&task.owner) {
                Some(count) => *count += 1,
                None => drop(self.0.insert(task.owner.clone(), 1)),
            },
            (true, false) => {
                if let Some(count) = self.0.get_mut(&task.owner) {
                    *count -= 1;
                    if *count == 0 {
                        self.0.remove(&task.owner);
                    }
                }
            }
            (true, true) | (false, false) => {}
        }
    }

    pub fn of(&self, owner: &str) -> u64 {
        self.0.get(owner).copied().unwrap_or(0)
    }
}

impl Ledger {
    pub(super) fn usage_request(&mut self, request: UsageRequest, reply: ReplyTo) {
        let (owner, gate) = match request {
            UsageRequest::Of { owner } => (owner, self.gate_of_all()),
            UsageRequest::Put { owner, bytes } => {
                let record = Record::BytesPut { at: self.at(), owner: owner.as_str().into(), bytes };
                let index = self.commit(Durability::Async, record);
                (owner, Gate::Written(index))
            }
        };
        let running = self.state.workflows.values().filter(|run| run.state == WorkflowState::Running);
        let waiting: u64 = running.filter(|run| *run.owner == *owner).map(|run| run.unbound()).sum();
        let view = UsageView {
            ledger: self.state.tag,
            now: self.at(),
            tasks: self.namespaces.live.of(&owner) + waiting,
            hours: self.state.usage.hours_of(&owner),
        };
        self.reply(gate, reply, LedgerReply::Usage(Box::new(view)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(us: u64) -> Spent {
        Spent { cpu_us: us, ..Spent::default() }
    }

    #[test]
    fn an_hour_has_one_sum_and_what_no_quota_looks_at_goes() {
        let (ann, ben): (Arc<str>, Arc<str>) = ("ann".into(), "ben".into());
        let mut usage = Usage::default();
        usage.add(&ann, Wall(HOUR_MS + 1), cpu(1));
        usage.add(&ann, Wall(2 * HOUR_MS - 1), cpu(2));
        usage.add(&ben, Wall(HOUR_MS + 1), cpu(9));
        usage.add(&ann, Wall(2 * HOUR_MS), cpu(4));
        usage.add(&ann, Wall(2 * HOUR_MS), Spent::default());
        let hours = [(HOUR_MS, 3), (2 * HOUR_MS, 4)];
        assert_eq!(usage.hours_of("ann"), hours.map(|(from, us)| HourOfUse { from: Wall(from), spent: cpu(us) }));
        assert_eq!((usage.len(), usage.hours_of("nobody").len()), (3, 0));
        assert_eq!(Usage::of(&usage.images()).images(), usage.images());
        usage.add(&ann, Wall(2 * HOUR_MS + limits::USAGE_KEPT_MS), cpu(1));
        assert_eq!(usage.images().len(), 2, "the first hour has passed");
    }

    #[test]
    fn there_is_a_bound_and_the_oldest_hours_go_first() {
        let mut usage = Usage::default();
        for n in 0..=limits::USAGE_LEN_MAX as u64 {
            usage.add(&n.to_string().into(), Wall(n / 10_000 * HOUR_MS), cpu(1));
        }
        assert!(usage.len() <= limits::USAGE_LEN_MAX && usage.hours_of("0").is_empty());
        assert_eq!(usage.hours_of(&limits::USAGE_LEN_MAX.to_string()).len(), 1);
    }
}
