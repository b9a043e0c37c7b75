//! The table, a file per category; lists keep this order.

mod manager;
mod peer;
mod queue;
mod scheduler;
mod task_queue;
mod workflow;

use super::entry::ToolEntry;

pub(super) const TABLES: [&[ToolEntry]; 6] =
    [manager::TOOLS, task_queue::TOOLS, queue::TOOLS, scheduler::TOOLS, workflow::TOOLS, peer::TOOLS];

/// How to read on where an output, or a list, was cut.
const OUTPUT_REST: &str = "ask with detail: full, or read on with output_offset";
const LIST_REST: &str = "ask with a smaller limit, and follow next_cursor";
