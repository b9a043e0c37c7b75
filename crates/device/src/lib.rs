//! The device process: one per GPU, one for the CPU, spoken to by its node in frames over a socket pair.
//!
//! Architecture invariant: `torch` is the only room of Magpie that names tch, and no other crate depends on this
//! one. So the node needs no libtorch, starts anywhere, and survives whatever the C++ side does.
//! Everything else here is plain Rust that builds and is tested without the feature.

pub mod config;
pub mod error;
pub mod frames;
pub mod packing;
pub mod serve;
pub mod tokens;
#[cfg(feature = "torch")]
pub mod torch;
