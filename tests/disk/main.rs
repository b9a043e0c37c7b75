//! The node under a failing disk: a file system of our own that records what it is asked to write and to sync, fails what a
//! test wants to fail, and gives back what any power loss could have left.
//!
//! It is mounted through FUSE in namespaces that end with the test. Where neither root nor a user namespace allows that, the
//! tests say so and pass. `MAGPIE_ALL=1` runs every case of those that take a sample otherwise.

#![allow(clippy::unwrap_used, clippy::unwrap_in_result, reason = "a test may panic where it stands")]

#[cfg(test)]
mod apart;
#[cfg(test)]
mod content;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod crashes;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod durability;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod fuse;
#[cfg(test)]
mod node;
#[cfg(test)]
mod node_faults;
#[cfg(test)]
mod run;
#[cfg(test)]
mod tree;
