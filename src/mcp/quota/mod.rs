//! How much a caller may use: what its token or the configuration allows, what was counted, and whether more is let through.
//!
//! `spending` says of every message what it would use, `door` asks the home what was used and lets the message through
//! or not. Here it is decided, from those two alone. A quota more is a [`Kind`] more.

mod door;
mod spending;

use std::sync::Arc;

use magpie_core::queue::{HOUR_MS, Spent, UsageView};
use magpie_core::time::{DurationMs, Wall};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

pub use door::{ask, usage};

use super::answer::ToolError;

/// A window is whole hours: use is kept by the hour, and as long as the longest window.
const PER_MS_MIN: u64 = HOUR_MS;
const PER_MS_MAX: u64 = 7 * 24 * HOUR_MS;
const MINUTE_MS: u64 = 60_000;
/// Some task ends sooner or later: it is looked for again after this.
const LOOK_AGAIN_AFTER_MS: u64 = 5_000;

/// What a caller may use: `quota = {tasks = 100, cpu_s = 3600, per = "24h"}`. What is not named is not bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Tasks that are not over, at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<u64>,
    /// Measured processor seconds of its tasks within `per`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_s: Option<u64>,
    /// Measured GPU seconds of its tasks within `per`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_s: Option<u64>,
    /// Bytes of the blobs that it puts and of its tasks' outputs within `per`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    #[serde(default = "a_day")]
    pub per: DurationMs,
}

fn a_day() -> DurationMs {
    DurationMs(24 * HOUR_MS)
}

impl Quota {
    /// # Errors
    /// In words, if it bounds nothing or its window is none.
    pub fn check(&self) -> Result<(), String> {
        if Kind::ALL.iter().all(|kind| kind.allowed(self).is_none()) {
            let names = Kind::ALL.map(Kind::name).join(", ");
            return Err(format!("the quota bounds nothing: name one of {names}, or leave it out"));
        }
        if !(PER_MS_MIN..=PER_MS_MAX).contains(&self.per.0) || !self.per.0.is_multiple_of(HOUR_MS) {
            return Err(format!("the quota's per is {}: write whole hours, from 1h to 7d", self.per));
        }
        Ok(())
    }

    /// Reads `tasks=10,cpu_s=3600,per=24h`.
    ///
    /// # Errors
    /// In words, what cannot be read of it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut quota = Self { tasks: None, cpu_s: None, gpu_s: None, bytes: None, per: a_day() };
        for part in text.split(',') {
            let form = "write it as tasks=10,cpu_s=3600,per=24h";
            let (name, value) = part.split_once('=').ok_or_else(|| format!("{part:?} has no `=`: {form}"))?;
            if name == "per" {
                quota.per = value.parse::<DurationMs>().map_err(|error| format!("per: {error}"))?;
                continue;
            }
            let number = value.parse::<u64>().map_err(|_| format!("{name}: {value:?} is no whole number"))?;
            let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
            *kind.ok_or_else(|| format!("there is no quota {name:?}: {form}"))?.allowed_mut(&mut quota) = Some(number);
        }
        quota.check().map(|()| quota)
    }
}

/// What a quota may bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Tasks,
    Cpu,
    Gpu,
    Bytes,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Tasks, Self::Cpu, Self::Gpu, Self::Bytes];

    /// As it stands in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tasks => "tasks",
            Self::Cpu => "cpu_s",
            Self::Gpu => "gpu_s",
            Self::Bytes => "bytes",
        }
    }

    fn allowed(self, quota: &Quota) -> Option<u64> {
        match self {
            Self::Tasks => quota.tasks,
            Self::Cpu => quota.cpu_s,
            Self::Gpu => quota.gpu_s,
            Self::Bytes => quota.bytes,
        }
    }

    fn allowed_mut(self, quota: &mut Quota) -> &mut Option<u64> {
        match self {
            Self::Tasks => &mut quota.tasks,
            Self::Cpu => &mut quota.cpu_s,
            Self::Gpu => &mut quota.gpu_s,
            Self::Bytes => &mut quota.bytes,
        }
    }

    /// Of what is counted by the hour, the sum of one; of what is counted as it stands, nothing.
    fn within(self, spent: &Spent) -> Option<u64> {
        match self {
            Self::Tasks => None,
            Self::Cpu => Some(spent.cpu_us),
            Self::Gpu => Some(spent.gpu_us),
            Self::Bytes => Some(spent.bytes),
        }
    }

    /// So many of what is counted are one of what the file says.
    fn unit(self) -> u64 {
        match self {
            Self::Tasks | Self::Bytes => 1,
            Self::Cpu | Self::Gpu => 1_000_000,
        }
    }

    /// What a message is known to need of it. Of time nothing is known before it was measured.
    fn asked(self, asked: &Asked) -> u64 {
        match self {
            Self::Tasks => asked.tasks,
            Self::Bytes => asked.bytes,
            Self::Cpu | Self::Gpu => 0,
        }
    }

    /// Whether a message may use any of it, now or later.
    fn concerns(self, asked: &Asked) -> bool {
        match self {
            Self::Tasks | Self::Cpu | Self::Gpu => asked.tasks > 0,
            Self::Bytes => asked.tasks > 0 || asked.bytes > 0,
        }
    }

    fn in_words(self, amount: u64) -> String {
        match self {
            Self::Tasks => format!("{amount} tasks"),
            Self::Cpu => format!("{:.1} s of processor time", amount as f64 / 1e6),
            Self::Gpu => format!("{:.1} s of GPU time", amount as f64 / 1e6),
            Self::Bytes => format!("{amount} bytes"),
        }
    }
}

/// What a message would use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// Tasks, and steps of workflows.
    pub tasks: u64,
    /// Bytes of a blob.
    pub bytes: u64,
}

/// Why a message is not let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exceeded {
    kind: Kind,
    allowed: u64,
    used: u64,
    asked: u64,
    per: DurationMs,
    /// When the same would be let through; none: never, as it is more than is allowed.
    free_in_ms: Option<u64>,
}

/// Whether a caller that used this much may use more.
///
/// # Errors
/// The first quota that it would pass.
pub fn judge(quota: &Quota, used: &UsageView, asked: &Asked) -> Result<(), Exceeded> {
    for kind in Kind::ALL.into_iter().filter(|kind| kind.concerns(asked)) {
        let Some(allowed) = kind.allowed(quota) else { continue };
        let allowed = allowed.saturating_mul(kind.unit());
        let (sum, needs) = (sum(kind, quota, used), kind.asked(asked));
        // Without anything left nothing begins, though nobody knows what it will take.
        let fits = |sum: u64| sum.saturating_add(needs.max(1)) <= allowed;
        if !fits(sum) {
            let free_in_ms = if fits(0) { Some(free_in(kind, quota, used, fits)) } else { None };
            return Err(Exceeded { kind, allowed, used: sum, asked: needs, per: quota.per, free_in_ms });
        }
    }
    Ok(())
}

fn sum(kind: Kind, quota: &Quota, used: &UsageView) -> u64 {
    let windowed = |spent: &Spent| kind.within(spent);
    match windowed(&Spent::default()) {
        None => used.tasks,
        Some(_) => {
            let hours = used.hours.iter().filter(|hour| leaves_at(hour.from, quota) > used.now);
            hours.filter_map(|hour| windowed(&hour.spent)).fold(0, u64::saturating_add)
        }
    }
}

/// An hour counts until its end has passed by the window.
fn leaves_at(from: Wall, quota: &Quota) -> Wall {
    Wall(from.0.saturating_add(HOUR_MS).saturating_add(quota.per.0))
}

/// How long until it fits, if nothing more is used.
fn free_in(kind: Kind, quota: &Quota, used: &UsageView, fits: impl Fn(u64) -> bool) -> u64 {
    let mut left = sum(kind, quota, used);
    for hour in used.hours.iter().filter(|hour| leaves_at(hour.from, quota) > used.now) {
        let Some(spent) = kind.within(&hour.spent) else { break };
        left = left.saturating_sub(spent);
        if fits(left) {
            return leaves_at(hour.from, quota).0 - used.now.0;
        }
    }
    LOOK_AGAIN_AFTER_MS
}

impl From<Exceeded> for ToolError {
    fn from(exceeded: Exceeded) -> Self {
        let Exceeded { kind, allowed, used, asked, per, free_in_ms } = exceeded;
        let what = match kind {
            Kind::Tasks => "are not over".to_owned(),
            Kind::Cpu | Kind::Gpu | Kind::Bytes => format!("were used in the last {per}"),
        };
        let more = if asked > 0 { format!(", and this takes {asked} more") } else { String::new() };
        let (used, allowed) = (kind.in_words(used), kind.in_words(allowed));
        let message = format!("the quota {} of this caller is {allowed}; {used} {what}{more}", kind.name());
        match (kind, free_in_ms) {
            (_, None) => {
                let fix = "ask for less at a time, or ask whoever runs the node for a larger quota";
                Self::new("quota_exceeded", format!("{message}: that is never free"), fix)
            }
            (Kind::Tasks, Some(ms)) => {
                let fix = "wait until tasks have ended, cancel some, or ask whoever runs the node for a larger quota";
                Self::passing("quota_exceeded", format!("{message}; each is free again when it ends"), fix, ms)
            }
            (Kind::Cpu | Kind::Gpu | Kind::Bytes, Some(ms)) => {
                let fix = "call again then, or ask whoever runs the node for a larger quota";
                let message =
                    format!("{message}; enough is free again in {}", DurationMs(ms.next_multiple_of(MINUTE_MS)));
                Self::passing("quota_exceeded", message, fix, ms)
            }
        }
    }
}

/// A caller's quota, and whose turn it is to use some of it: what is asked at the same time is counted one by one.
#[derive(Debug, Clone)]
pub struct Account {
    pub quota: Quota,
    turn: Arc<Mutex<()>>,
}

impl Account {
    pub fn new(quota: Quota) -> Self {
        Self { quota, turn: Arc::default() }
    }

    /// The same caller with another quota, or by another token: there is one queue for both.
    #[must_use]
    pub fn beside(self, other: &Self) -> Self {
        Self { turn: other.turn.clone(), ..self }
    }

    #[cfg(test)]
    pub fn is_beside(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.turn, &other.turn)
    }
}

/// One quota as a caller is shown it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct QuotaRow {
    /// tasks (not over, at a time), cpu_s, gpu_s (measured seconds) or bytes (of blobs put and outputs).
    pub quota: &'static str,
    pub used: f64,
    pub allowed: u64,
    /// The window in which it is counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per: Option<String>,
}

/// A quota with what is used of it.
pub fn rows(quota: &Quota, used: &UsageView) -> Vec<QuotaRow> {
    let row = |kind: Kind| {
        let allowed = kind.allowed(quota)?;
        let amount = sum(kind, quota, used) as f64 / kind.unit() as f64;
        let per = kind.within(&Spent::default()).map(|_| quota.per.to_string());
        Some(QuotaRow { quota: kind.name(), used: amount, allowed, per })
    };
    Kind::ALL.into_iter().filter_map(row).collect()
}

#[cfg(test)]
mod tests;
