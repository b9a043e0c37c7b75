//! The MCP surface: what is listed, what a call may say, and calls that reach a node.

mod calls;
mod catalogue;
mod panics;
mod rig;
mod wrong_arguments;
