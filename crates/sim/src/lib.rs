//! A mesh of homes, workers and clients in one thread: time, chance, network, disks and crashes are the simulator's.
//!
//! The same seed gives the same run. Each seed draws how bad its faults are; after a while they stop, and then
//! everything must end. Checkers compare what leaves a node with what is on its disk, and all that clients saw.

pub mod binding;
pub mod book;
pub mod canary;
pub mod checkers;
pub mod client;
pub mod clock;
pub mod command;
pub mod disk;
pub mod faults;
pub mod home_shell;
pub mod nemesis;
pub mod network;
pub mod node;
pub mod rng;
pub mod schedule_book;
pub mod trace;
pub mod verdict;
pub mod worker_shell;
pub mod workload;
pub mod world;

use std::fmt;
use std::panic::{self, AssertUnwindSafe};

pub use canary::Planted;
use checkers::Violation;
use world::World;
pub use world::{Counters, Options};

/// What a seed came to.
#[derive(Debug, Clone)]
pub struct Report {
    pub seed: u64,
    pub trace_hash: u64,
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

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violated(violation) => violation.fmt(formatter),
            Self::Panicked(words) => write!(formatter, "panicked: {words}"),
        }
    }
}

/// Runs one seed to its end.
pub fn run_seed(seed: u64, options: Options) -> Report {
    canary::plant(options.planted);
    let mut world = World::new(seed, options);
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| world.run()));
    canary::plant(None);
    let failure = match outcome {
        Ok(verdict) => verdict.err().map(Failure::Violated),
        Err(panic) => {
            let words = panic.downcast_ref::<String>().cloned();
            let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
            Some(Failure::Panicked(words.unwrap_or_else(|| "without words".to_owned())))
        }
    };
    Report {
        seed,
        trace_hash: world.trace.hash(),
        counters: world.counters,
        lines: world.trace.lines().to_owned(),
        failure,
    }
}
