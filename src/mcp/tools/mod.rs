//! The tools, one file per category: input, output, one message, one reply.

pub mod detail;
pub mod follow;
pub mod manager;
pub mod operation;
pub mod output;
pub mod peer;
pub mod queue;
pub mod scheduler;
pub mod status;
pub mod task_queue;
pub mod upload;
pub mod worker;
pub mod workflow;
