//! Real nodes on 127.0.0.1, through the crate's public API; hostile peers through a bare swarm.

// What supports tests is not a test to clippy: a failed step of it fails the test, as it should.
#![allow(clippy::unwrap_used)]

mod crash;
mod forge;
mod hostile;
mod meet;
mod named;
mod node;
mod parting;
mod raw;
mod reach;
mod refuse;
mod registry;
mod relays;
mod siege;
mod start;
mod strangers;
mod streams;
mod tickets;
mod traffic;
mod ways;
