//! All of a small mesh: three nodes, two tasks, and every way in which the faults of a budget can befall them.

#![allow(clippy::unwrap_used, clippy::unwrap_in_result, reason = "a test may panic where it stands")]

use std::time::Duration;

use magpie_model::{Budget, Explored, Interleavings, explore};

/// On one core; what takes longer is no exhaustive model but a sample.
const TIME_MAX: Duration = Duration::from_secs(600);
const CALM: Budget = Budget { lost: 0, late: 0, crashes: 0, pauses: 0, failures: 0, leaps: 4 };

fn explored(budget: Budget) -> Explored {
    let explored = explore(Interleavings::within(budget), TIME_MAX);
    let Explored { states, unique, depth, seconds, .. } = explored;
    println!("{budget:?}: {states} states, {unique} of them unique, depth {depth}, {seconds:.0} s");
    assert!(explored.broken.is_empty(), "{:#?}", explored.broken);
    assert!(explored.exhaustive, "not everything was seen within {TIME_MAX:?}");
    explored
}

#[test]
fn one_crash_and_two_lost_messages_break_nothing() {
    let explored = explored(Budget { crashes: 1, lost: 2, ..CALM });
    // Messages that arrive in their order come too late to revive anything.
    let all_but = ["an expired epoch is revived", "a failed attempt is retried"];
    assert_eq!(explored.missed, all_but, "an exploration that does not get there proves nothing of it");
}

#[test]
fn one_crash_and_a_message_that_is_late_by_any_time_break_nothing() {
    explored(Budget { crashes: 1, late: 1, ..CALM });
}

#[test]
fn two_messages_that_are_late_by_any_time_break_nothing() {
    let explored = explored(Budget { late: 2, leaps: 5, ..CALM });
    let all_but = ["a failed attempt is retried", "an outcome outlives its process"];
    assert_eq!(explored.missed, all_but, "an exploration that does not get there proves nothing of it");
}

#[test]
fn a_process_that_stands_still_and_a_late_message_break_nothing() {
    explored(Budget { pauses: 1, late: 1, ..CALM });
}

#[test]
fn attempts_that_fail_between_lost_messages_break_nothing() {
    let explored = explored(Budget { failures: 2, lost: 1, ..CALM });
    assert!(!explored.missed.contains(&"a failed attempt is retried"));
}
