//! The node under a failing disk: a file system of our own that records what it is asked to write and to sync, fails what a
//! test wants to fail, and gives back what any power loss could have left.
//!
//! It is mounted through FUSE in namespaces that end with the test. Where neither root nor a user namespace allows that, the
//! tests say so and pass. `MAGPIE_ALL=1` runs every case of those that take a sample otherwise.

mod apart;
mod content;
mod crash;
mod crashes;
mod durability;
mod failures;
mod fuse;
mod node;
mod node_faults;
mod recorded;
mod run;
mod tree;
