//! Other MCP servers whose tools this node offers beside its own: processes that are started, or servers that are reached
//! over HTTP; spoken to in the protocol, and started or called again when they end.
//!
//! [`connection`] keeps one server running and knows its tools; [`calls`] keeps the calls that its node has begun;
//! `process`, `pipes` and `lines` are of those that are started: what runs, what it says, and how much it may write.

pub mod calls;
pub mod connection;
pub mod lines;
mod pipes;
mod process;
