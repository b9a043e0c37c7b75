//! Nodes of one process, over real sockets: what a mesh does when nothing is mocked.

#![allow(clippy::unwrap_used, clippy::unwrap_in_result, reason = "a test may panic where it stands")]

mod compaction;
mod homes;
mod keys;
mod limits;
mod mesh;
mod parents;
mod rotation;
mod single;
mod stealing;
mod supervision;
