//! The executors from outside, with the built `node` as the shim of their processes.

mod codes;
mod exclusive;
mod fixture;
mod kinds;
mod process;
mod progress;
mod shim;

use std::path::PathBuf;

/// Not a test by itself: the tests of the shim run this one in a process of its own, as a worker that can be killed.
#[test]
#[ignore = "a part of other tests"]
fn worker_stand_in() {
    if let Some(orders) = std::env::var_os(fixture::STAND_IN) {
        fixture::stand_in(&PathBuf::from(orders));
    }
}
