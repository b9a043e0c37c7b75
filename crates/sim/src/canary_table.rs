//! How soon each planted bug is found: the measure of the simulator itself.

use crate::{Failure, Options, Planted, runner};

/// Each bug must be found by one of so many seeds.
pub const SEEDS_MAX: u64 = 100;
/// Finds that a median is made of, and the seeds after which the search for them ends.
const FINDS_MAX: usize = 20;
const SEARCH_MAX: u64 = 1_000;
/// Seeds that run before it is looked whether there are enough finds.
const ROUND: u64 = 50;

/// What the seeds from 1 on say of one bug.
#[derive(Debug)]
pub struct Search {
    pub planted: Planted,
    /// The first seed that finds it, and what it found.
    pub first: Option<(u64, Failure)>,
    /// Seeds from one find to the next, in order of size.
    waits: Vec<u64>,
}

impl Search {
    /// Plants a bug and runs seeds until it was found `finds_max` times, or `seeds_max` ran.
    pub fn run(planted: Planted, finds_max: usize, seeds_max: u64, jobs: usize) -> Self {
        let options = Options { planted: Some(planted), ..Options::default() };
        let mut found = std::collections::BTreeMap::new();
        let mut from = 1;
        while found.len() < finds_max && from <= seeds_max {
            let round = from..(from + ROUND).min(seeds_max + 1);
            from = round.end;
            runner::run_all(round, options, jobs, |report| {
                found.extend(report.failure.map(|failure| (report.seed, failure)));
            });
        }
        let seeds: Vec<u64> = found.keys().copied().take(finds_max).collect();
        let before = std::iter::once(0).chain(seeds.iter().copied());
        let mut waits: Vec<u64> = seeds.iter().zip(before).map(|(seed, before)| seed - before).collect();
        waits.sort_unstable();
        Self { planted, first: found.into_iter().next(), waits }
    }

    /// Seeds that it takes to find the bug, in the median.
    pub fn median(&self) -> Option<u64> {
        self.waits.get(self.waits.len() / 2).copied()
    }

    /// Whether it was found soon enough, by the invariant that it breaks.
    pub fn is_good(&self) -> bool {
        self.first.as_ref().is_some_and(|(seed, failure)| {
            let by_checker =
                matches!(failure, Failure::Violated(violation) if self.planted.breaks().contains(&violation.id));
            *seed <= SEEDS_MAX && by_checker
        })
    }
}

/// Prints the table. Returns whether every bug was found.
pub fn print(jobs: usize) -> bool {
    println!("{:<26} {:>10} {:>7}  broken invariant", "planted bug", "first seed", "median");
    let mut good = true;
    for planted in Planted::all() {
        let search = Search::run(planted, FINDS_MAX, SEARCH_MAX, jobs);
        let median = search.median().map_or("-".to_owned(), |median| median.to_string());
        match &search.first {
            Some((seed, failure)) => {
                println!("{planted:<26} {seed:>10} {median:>7}  {}", failure.signature());
            }
            None => println!("{planted:<26} {:>10} {median:>7}  not found by {SEARCH_MAX} seeds", "-"),
        }
        good &= search.is_good();
    }
    good
}
