//! Bugs planted on purpose: each must be found, or the simulator looks away.

#![allow(clippy::unwrap_used, clippy::unwrap_in_result, reason = "a test may panic where it stands")]

use magpie_sim::Planted;
use magpie_sim::canary_table::{SEEDS_MAX, Search};

/// Enough for a first find; the table of `--canaries` has the medians.
const FINDS: usize = 1;

#[test]
fn each_planted_bug_is_found_within_a_hundred_seeds_by_the_invariant_it_breaks() {
    let missed: Vec<Search> = Planted::all()
        .map(|planted| Search::run(planted, FINDS, SEEDS_MAX, 2))
        .filter(|search| !search.is_good())
        .collect();
    assert!(missed.is_empty(), "{missed:#?}");
}
