//! The tools, one file per category: input, output, one message, one reply.

pub mod cache;
pub mod dashboard;
pub mod detail;
pub mod endpoints;
pub mod follow;
pub mod hardware;
pub mod inference;
pub mod logs;
mod machines;
pub mod manager;
pub mod models;
pub mod mounts;
pub mod operation;
pub mod output;
pub mod outside;
pub mod peer;
pub mod queue;
pub mod queue_change;
pub mod scheduler;
pub mod status;
pub mod storage;
pub mod system;
pub mod task_queue;
pub mod unavailable;
pub mod upload;
pub mod worker;
pub mod workflow;
