//! Real nodes on 127.0.0.1, through the crate's public API; hostile peers through a bare swarm.

mod hostile;
mod meet;
mod node;
mod raw;
mod refuse;
mod start;
mod traffic;
