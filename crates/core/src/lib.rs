//! Everything of Magpie that decides, and nothing that waits.
//!
//! Architecture invariant: this crate has no async runtime, socket, disk, clock or source of randomness;
//! Cargo enforces it by what is absent from its manifest. Time, entropy and bytes are arguments.

pub mod access;
pub mod cache;
pub mod canary;
pub mod clock;
pub mod clock_alarm;
pub mod conduct;
pub mod cron;
pub mod dag;
pub mod device;
pub mod heap;
pub mod histogram;
pub mod homes;
pub mod ids;
pub mod invariant;
pub mod lease;
pub mod limiter;
pub mod limits;
pub mod matching;
pub mod membership;
pub mod outcome;
pub mod payload;
pub mod peer_metrics;
pub mod placement;
pub mod progress;
pub mod queue;
pub mod retry;
pub mod signature;
pub mod stream;
pub mod task;
pub mod time;
pub mod wire;
pub mod worker;
