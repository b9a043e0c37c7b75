//! A mesh of homes, workers and clients in one thread: time, chance, network, disks and crashes are the simulator's.
//!
//! The same seed gives the same run. Each seed draws how bad its faults are; after a while they stop, and then
//! everything must end. Checkers compare what leaves a node with what is on its disk, and all that clients saw.

pub mod agent;
pub mod binding;
pub mod book;
pub mod canary;
pub mod canary_table;
pub mod checkers;
pub mod client;
pub mod clock;
pub mod command;
pub mod disk;
pub mod faults;
pub mod home_shell;
pub mod mesh;
pub mod minimise;
pub mod nemesis;
pub mod network;
pub mod node;
pub mod operator;
pub mod partition;
pub mod permits;
pub mod queue_book;
pub mod rng;
pub mod runner;
pub mod schedule_book;
pub mod settings;
pub mod trace;
pub mod verdict;
pub mod worker_shell;
pub mod workload;
pub mod world;

use std::cell::Cell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};

pub use canary::Planted;
use checkers::Violation;
use faults::FaultSet;
use world::World;
pub use world::{Counters, Options};

/// What a seed came to.
#[derive(Debug, Clone)]
pub struct Report {
    pub seed: u64,
    pub trace_hash: u64,
    /// What the seed drew, less what was left out.
    pub faults: FaultSet,
    pub counters: Counters,
    pub lines: String,
    pub failure: Option<Failure>,
}

/// Why a run was not good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    Violated(Violation),
    /// An assertion in the core, in its own words.
    Panicked(String),
}

impl Failure {
    /// What failures of one cause have in common: the invariant, or how the words of the assertion begin.
    pub fn signature(&self) -> String {
        match self {
            Self::Violated(violation) => format!("{} {}", violation.id, violation.invariant.replace('_', " ")),
            Self::Panicked(words) if words.starts_with("invariant") => words.clone(),
            Self::Panicked(words) => words.chars().take_while(|c| !c.is_ascii_digit()).collect(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violated(violation) => violation.fmt(formatter),
            Self::Panicked(words) => write!(formatter, "panicked: {words}"),
        }
    }
}

thread_local! {
    /// Where this thread panicked last.
    static PANICKED_AT: Cell<Option<String>> = const { Cell::new(None) };
}

/// From now on a panic of the core is not printed where it happens: it is a failure of its seed, printed with it.
pub fn keep_panics() {
    panic::set_hook(Box::new(|panic| {
        PANICKED_AT.set(panic.location().map(|place| format!(" ({}:{})", place.file(), place.line())));
    }));
}

/// Runs one seed to its end.
pub fn run_seed(seed: u64, options: Options) -> Report {
    canary::plant(options.planted);
    let mut world = World::new(seed, options);
    let kinds = world.faults.kinds;
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| world.run()));
    canary::plant(None);
    let failure = match outcome {
        Ok(verdict) => verdict.err().map(Failure::Violated),
        Err(panic) => {
            let words = panic.downcast_ref::<String>().cloned();
            let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
            let words = words.unwrap_or_else(|| "without words".to_owned());
            Some(Failure::Panicked(words + &PANICKED_AT.take().unwrap_or_default()))
        }
    };
    Report {
        seed,
        trace_hash: world.trace.hash(),
        faults: kinds,
        counters: world.counters,
        lines: world.trace.lines().to_owned(),
        failure,
    }
}
