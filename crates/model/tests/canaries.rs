//! Bugs planted on purpose: each must be found, or the model looks away.

#![allow(clippy::unwrap_used, clippy::unwrap_in_result, reason = "a test may panic where it stands")]

use std::time::Duration;

use magpie_core::canary::Bug;
use magpie_model::{Budget, Interleavings, explore};

const CALM: Budget = Budget { lost: 0, late: 0, crashes: 0, pauses: 0, failures: 0, leaps: 4 };

fn assert_found(planted: Bug, budget: Budget, by: &str) {
    let explored = explore(Interleavings { planted: Some(planted), budget }, Duration::from_secs(120));
    let [(property, steps)] = explored.broken.as_slice() else { panic!("{planted:?} was not found: {explored:?}") };
    println!("{planted:?} after {} states: {property}: {steps}", explored.unique);
    assert!(property.starts_with(by), "{property}");
}

#[test]
fn a_second_grant_beside_a_live_lease_is_found() {
    assert_found(Bug::DoubleGrant, CALM, "I5");
}

#[test]
fn a_home_that_compares_no_epochs_is_found() {
    assert_found(Bug::NoEpochCheck, Budget { late: 1, ..CALM }, "I3");
}

#[test]
fn without_a_bug_the_same_budgets_find_nothing() {
    let explored =
        explore(Interleavings { planted: None, budget: Budget { late: 1, ..CALM } }, Duration::from_secs(120));
    assert!(explored.exhaustive && explored.broken.is_empty(), "{explored:?}");
}
