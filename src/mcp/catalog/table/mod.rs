//! The table, a file per category; lists keep this order.

mod dashboard;
mod endpoints;
mod github;
mod hardware;
mod inference;
mod logs;
mod manager;
mod models;
mod mounts;
mod peer;
mod queue;
mod schedule;
mod scheduler;
mod storage;
mod system;
mod task_queue;
mod workflow;

use super::entry::ToolEntry;

pub(super) const TABLES: [&[ToolEntry]; 17] = [
    manager::TOOLS,
    task_queue::TOOLS,
    queue::TOOLS,
    scheduler::TOOLS,
    workflow::TOOLS,
    schedule::TOOLS,
    peer::TOOLS,
    inference::TOOLS,
    models::TOOLS,
    hardware::TOOLS,
    endpoints::TOOLS,
    github::TOOLS,
    dashboard::TOOLS,
    system::TOOLS,
    logs::TOOLS,
    storage::TOOLS,
    mounts::TOOLS,
];

/// How to read on where an output, or a list, was cut.
const OUTPUT_REST: &str = "ask with detail: full, or read on with output_offset";
const LIST_REST: &str = "ask with a smaller limit, and follow next_cursor";
