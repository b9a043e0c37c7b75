//! Magpie: a task mesh without a broker. At-least-once execution, exactly-once commit.

pub mod actors;
mod awake;
pub mod cli;
pub mod client;
pub mod config;
pub mod executor;
mod id_prefix;
pub mod inference;
mod local_socket;
pub mod mcp;
pub mod messages;
pub mod node;
mod node_thread;
pub mod remote_client;
pub mod store;
pub mod telemetry;
