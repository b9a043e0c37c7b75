//! Bugs planted on purpose: each must be found, or the simulator looks away.

#![allow(clippy::unwrap_used, clippy::unwrap_in_result, reason = "a test may panic where it stands")]

use magpie_sim::{Failure, Options, Planted, run_seed};

const SEEDS_MAX: u64 = 100;

/// The first seed that finds the bug, with what it found.
fn first_to_find(planted: Planted) -> (u64, Failure) {
    let options = Options { planted: Some(planted), ..Options::default() };
    let found = (1..=SEEDS_MAX).find_map(|seed| Some((seed, run_seed(seed, options).failure?)));
    found.unwrap_or_else(|| panic!("{planted} was not found by {SEEDS_MAX} seeds"))
}

fn assert_found(planted: Planted, by: &[&str]) {
    let (seed, failure) = first_to_find(planted);
    println!("{planted}: seed {seed}: {failure}");
    let Failure::Violated(violation) = failure else { panic!("{planted} was found by a panic only: {failure}") };
    assert!(by.contains(&violation.id.to_string().as_str()), "{violation}");
}

#[test]
fn an_acknowledgement_before_its_fsync_is_found() {
    assert_found(Planted::AcknowledgeBeforeFsync, &["I1", "I10"]);
}

#[test]
fn a_home_that_compares_no_epochs_is_found() {
    assert_found(Planted::NoEpochCheck, &["I3", "I4"]);
}

#[test]
fn a_second_grant_beside_a_live_lease_is_found() {
    assert_found(Planted::DoubleGrant, &["I5"]);
}

#[test]
fn a_head_published_before_its_fsync_is_found() {
    assert_found(Planted::HeadBeforeFsync, &["I10"]);
}
