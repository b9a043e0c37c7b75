//! The other end of a lease: what one node offers to homes, holds, runs, renews and reports.
//!
//! [`Worker`] is a state machine like [`crate::queue::Ledger`]; it runs nothing itself.

mod credit;
mod held;
mod machine;
#[cfg(test)]
mod tests;

pub use machine::{Worker, WorkerEffect, WorkerEvent, WorkerStats};
