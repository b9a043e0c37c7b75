//! The MCP surface: one catalogue of tools, served on standard input and output by a process that keeps no state, and
//! over HTTP by the node itself.
//!
//! [`catalog`] says what every tool is; [`dispatch`] lets calls in, runs them and bounds what comes back; [`link`] is
//! the way to the node; [`resources`] and [`prompts`] are what is read; only [`server`], [`http`], `durable` and `asking`
//! speak the protocol's own types.

pub mod answer;
pub mod approve;
pub mod arguments;
mod asking;
pub mod catalog;
pub mod completion;
pub mod dispatch;
mod durable;
pub mod fit;
pub mod handler;
pub mod http;
mod known_tools;
pub mod link;
pub mod mounted;
pub mod namespace;
pub mod panic;
pub mod peer_calls;
pub mod pointer;
pub mod principal;
pub mod prompts;
pub mod quota;
mod recorder;
pub mod rehearsal;
pub mod resources;
pub mod server;
pub mod surface;
pub mod text;
pub mod tools;

pub use server::{ServeError, ServeOptions, serve};
