//! Nodes of one process, over real sockets: what a mesh does when nothing is mocked. And what a node stands on, under
//! conditions that only a test makes: its executors and its disk.

#![allow(clippy::unwrap_used, clippy::unwrap_in_result, reason = "a test may panic where it stands")]

mod compaction;
mod disk;
mod executor;
mod homes;
mod keys;
mod limits;
mod mesh;
mod parents;
mod rotation;
mod single;
mod stealing;
mod supervision;
