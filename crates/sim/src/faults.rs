//! How bad a run's weather is. Each seed draws which faults it has and how bad each is; the healing phase has none.

use std::fmt;
use std::str::FromStr;

use crate::rng::Rng;

/// A kind of fault that a run has or has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    Loss,
    Duplication,
    /// Messages that arrive so much later that others overtake them.
    Reordering,
    Delay,
    Partition,
    /// A node stands still, its network too.
    Pause,
    /// Clocks that run up to 5 % apart.
    Drift,
    /// Wall clocks that step, also while their node is down.
    Jump,
    /// Processes that are killed, whole nodes or the ledger's actor alone.
    Crash,
    /// Crashes that take what is not on the disk yet.
    PowerLoss,
    /// A crash leaves half of a transaction behind.
    TornWrite,
    SlowDisk,
    /// Syncs that take seconds.
    StalledDisk,
    FullDisk,
    LateTick,
    /// Messages about leases with a token, or an epoch, that nobody was given.
    Forgery,
    /// Workers that are asked to drain, and to resume.
    Drain,
}

impl Fault {
    pub const ALL: [Self; 17] = [
        Self::Loss,
        Self::Duplication,
        Self::Reordering,
        Self::Delay,
        Self::Partition,
        Self::Pause,
        Self::Drift,
        Self::Jump,
        Self::Crash,
        Self::PowerLoss,
        Self::TornWrite,
        Self::SlowDisk,
        Self::StalledDisk,
        Self::FullDisk,
        Self::LateTick,
        Self::Forgery,
        Self::Drain,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Duplication => "duplication",
            Self::Reordering => "reordering",
            Self::Delay => "delay",
            Self::Partition => "partition",
            Self::Pause => "pause",
            Self::Drift => "drift",
            Self::Jump => "jump",
            Self::Crash => "crash",
            Self::PowerLoss => "power-loss",
            Self::TornWrite => "torn-write",
            Self::SlowDisk => "slow-disk",
            Self::StalledDisk => "stalled-disk",
            Self::FullDisk => "full-disk",
            Self::LateTick => "late-tick",
            Self::Forgery => "forgery",
            Self::Drain => "drain",
        }
    }
}

/// Some of the kinds of fault, as `loss,partition` in text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultSet(u32);

impl FaultSet {
    pub fn all() -> Self {
        Fault::ALL.into_iter().collect()
    }

    pub fn has(self, fault: Fault) -> bool {
        self.0 & (1 << fault as u32) != 0
    }

    pub fn with(self, fault: Fault) -> Self {
        Self(self.0 | 1 << fault as u32)
    }

    pub fn less(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Calm runs, runs of a single fault, of some, and of all.
    fn draw(rng: &mut Rng) -> Self {
        match rng.below(10) {
            0 => Self::default(),
            1..=2 => Self::single(rng),
            3..=7 => Fault::ALL.into_iter().filter(|_| rng.chance(500)).collect(),
            _ => Self::all(),
        }
    }

    fn single(rng: &mut Rng) -> Self {
        let only = Self::default().with(rng.pick(&Fault::ALL).copied().unwrap_or(Fault::Crash));
        // These two say what a crash leaves: alone they would be none.
        let needs_crash = only.has(Fault::PowerLoss) || only.has(Fault::TornWrite);
        if needs_crash { only.with(Fault::Crash) } else { only }
    }
}

impl FromIterator<Fault> for FaultSet {
    fn from_iter<Faults: IntoIterator<Item = Fault>>(faults: Faults) -> Self {
        faults.into_iter().fold(Self::default(), Self::with)
    }
}

impl fmt::Display for FaultSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = Fault::ALL.into_iter().filter(|fault| self.has(*fault)).map(Fault::name).collect();
        formatter.write_str(&names.join(","))
    }
}

impl FromStr for FaultSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Fault::ALL.map(Fault::name).join(", ");
        let parse = |name: &str| {
            let found = Fault::ALL.into_iter().find(|fault| fault.name() == name);
            found.ok_or_else(|| format!("no fault {name:?}: {}", known()))
        };
        text.split(',').filter(|name| !name.is_empty()).map(parse).collect()
    }
}

/// Chances are per mille of the messages, writes, ticks or crashes that they befall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    pub kinds: FaultSet,
    pub loss: u64,
    pub duplicate: u64,
    pub straggle: u64,
    pub delay_ms_max: u64,
    pub straggle_ms_max: u64,
    pub write_ms_max: u64,
    pub sync_ms_max: u64,
    /// Syncs that take [`STALLED_SYNC_MS_MAX`] at most.
    pub sync_stall: u64,
    pub late_tick: u64,
    pub forge: u64,
    pub power: u64,
    pub torn: u64,
    /// Starts of a node with another wall clock than it went down with.
    pub jump_at_start: u64,
    /// Means between two faults of a kind, in milliseconds of the whole run; 0: never.
    pub crash_every_ms: u64,
    pub pause_every_ms: u64,
    pub partition_every_ms: u64,
    pub jump_every_ms: u64,
    pub full_every_ms: u64,
    pub drain_every_ms: u64,
}

pub const STALLED_SYNC_MS_MAX: u64 = 3_000;
pub const LATE_TICK_MS_MAX: u64 = 4_000;

impl Faults {
    /// Draws from a source of its own, and the same whatever is left out: a run without a fault is the same run else.
    pub fn draw(rng: &mut Rng, without: FaultSet) -> Self {
        let mut rng = rng.split();
        let kinds = FaultSet::draw(&mut rng).less(without);
        let mut drawn = |fault: Fault, least: u64, most: u64, absent: u64| {
            let value = rng.between(least, most);
            if kinds.has(fault) { value } else { absent }
        };
        Self {
            kinds,
            loss: drawn(Fault::Loss, 1, 300, 0),
            duplicate: drawn(Fault::Duplication, 1, 300, 0),
            straggle: drawn(Fault::Reordering, 1, 100, 0),
            straggle_ms_max: drawn(Fault::Reordering, 500, 12_000, 0),
            delay_ms_max: drawn(Fault::Delay, 6, 120, 5),
            write_ms_max: drawn(Fault::SlowDisk, 2, 40, 1),
            sync_ms_max: drawn(Fault::SlowDisk, 10, 300, 5),
            sync_stall: drawn(Fault::StalledDisk, 1, 50, 0),
            late_tick: drawn(Fault::LateTick, 1, 30, 0),
            forge: drawn(Fault::Forgery, 1, 50, 0),
            power: drawn(Fault::PowerLoss, 200, 1_000, 0),
            torn: drawn(Fault::TornWrite, 300, 1_000, 0),
            jump_at_start: drawn(Fault::Jump, 100, 600, 0),
            crash_every_ms: drawn(Fault::Crash, 400, 8_000, 0),
            pause_every_ms: drawn(Fault::Pause, 1_500, 12_000, 0),
            partition_every_ms: drawn(Fault::Partition, 2_000, 12_000, 0),
            jump_every_ms: drawn(Fault::Jump, 2_000, 12_000, 0),
            full_every_ms: drawn(Fault::FullDisk, 3_000, 15_000, 0),
            drain_every_ms: drawn(Fault::Drain, 2_000, 12_000, 0),
        }
    }

    /// The weather in which everything must end.
    pub fn calm() -> Self {
        Self::draw(&mut Rng::new(0), FaultSet::all())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_as_they_are_printed() {
        let set: FaultSet = "partition,loss".parse().unwrap();
        assert_eq!(set.to_string(), "loss,partition");
        assert_eq!(FaultSet::all().to_string().parse(), Ok(FaultSet::all()));
        assert!("lossy".parse::<FaultSet>().unwrap_err().contains("full-disk"));
        assert!(FaultSet::default().to_string().parse::<FaultSet>().unwrap().is_empty());
    }

    #[test]
    fn seeds_draw_calm_single_and_full_weather() {
        let kinds = (0..200).map(|seed| Faults::draw(&mut Rng::new(seed), FaultSet::default()).kinds);
        let counts: Vec<u32> = kinds.map(|kinds| kinds.0.count_ones()).collect();
        assert!([0, 1, Fault::ALL.len() as u32].iter().all(|wanted| counts.contains(wanted)), "{counts:?}");
    }

    #[test]
    fn a_fault_left_out_leaves_the_others_as_they_were() {
        for seed in 0..50 {
            let all = Faults::draw(&mut Rng::new(seed), FaultSet::default());
            let less = Faults::draw(&mut Rng::new(seed), FaultSet::default().with(Fault::Loss));
            assert_eq!(less, Faults { loss: 0, kinds: less.kinds, ..all });
        }
        assert_eq!(Faults::calm().crash_every_ms, 0);
    }
}
