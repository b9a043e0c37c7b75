//! The other end of a lease: what one node offers to homes, holds, runs, renews and reports.
//!
//! [`Worker`] is a state machine like [`crate::queue::Ledger`]; it runs nothing itself.

mod attempt;
mod credit;
mod delivery;
mod fingerprint;
mod held;
mod machine;
mod protocol;
mod room;
#[cfg(test)]
mod tests;

pub use machine::Worker;
pub use protocol::{StopCause, WorkerEffect, WorkerEvent, WorkerStats};
