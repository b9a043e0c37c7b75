//! Models, batches, and the device process that runs them.
//!
//! Nothing here names tch: that is `crates/device`, in a process of its own.

pub mod batch;
mod conversation;
pub mod device_process;
mod launch;
pub mod models;
mod running;
pub mod shares;
