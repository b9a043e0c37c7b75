//! Every test run simulates two hundred meshes.

#![allow(clippy::unwrap_used, clippy::unwrap_in_result, reason = "a test may panic where it stands")]

use magpie_sim::{Options, run_seed};

const FIRST_SEED: u64 = 1;
const SEEDS: u64 = 200;

#[test]
fn two_hundred_seeds_keep_every_invariant() {
    println!("seeds {FIRST_SEED} to {}", FIRST_SEED + SEEDS - 1);
    for seed in FIRST_SEED..FIRST_SEED + SEEDS {
        let report = run_seed(seed, Options::default());
        if let Some(failure) = report.failure {
            panic!("seed {seed}: {failure}; see it again: cargo run -p magpie-sim -- --seed {seed} --trace");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 1..=20 {
        let traces = [(); 2].map(|()| run_seed(seed, Options { keep_lines: true, ..Options::default() }));
        assert_eq!(traces[0].trace_hash, traces[1].trace_hash, "seed {seed}");
        assert_eq!(traces[0].lines, traces[1].lines, "seed {seed}");
        assert_eq!(traces[0].counters, traces[1].counters, "seed {seed}");
    }
}

#[test]
fn two_seeds_give_two_traces() {
    let [one, other] = [1, 2].map(|seed| run_seed(seed, Options::default()).trace_hash);
    assert_ne!(one, other);
}
