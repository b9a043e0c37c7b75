//! The MCP surface: what is listed, what a call may say, and calls that reach a node.

#![allow(clippy::unwrap_used, clippy::unwrap_in_result, reason = "a test may panic where it stands")]

mod approvals;
mod calls;
mod catalogue;
mod contexts;
mod direct;
mod dry_runs;
mod durable;
mod elsewhere;
mod held_calls;
mod http;
mod jwt;
mod listener;
mod mounted;
mod namespaces;
mod node_tools;
mod outside;
mod panics;
mod prompts;
mod quotas;
mod resources;
mod rig;
mod schedules;
mod subscriptions;
mod wire;
mod wrong_arguments;
mod wrong_lines;
