//! Other MCP servers whose tools this node offers beside its own: processes that are started, spoken to in the protocol,
//! and started again when they end.
//!
//! [`connection`] keeps one server running and knows its tools; [`calls`] keeps the calls that its node has begun;
//! [`lines`] bounds what it may write.

pub mod calls;
pub mod connection;
mod lines;
