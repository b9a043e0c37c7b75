//! The queue as a whole.

use crate::mcp::catalog::entry::{Action, Category, Hints, Scope, ToolEntry};
use crate::mcp::tools::queue::QueueStats;

pub(super) const TOOLS: &[ToolEntry] = &[ToolEntry {
    name: "queue_stats",
    category: Category::Queue,
    title: "Count the queue",
    description: "Counts the home's tasks by status and state since its ledger began, and says what is paused. For the node and its devices use p2p_taskqueue_status.",
    hints: Hints::READS,
    scope: Scope::Read,
    aliases: &[],
    keywords: &["statistics", "totals", "throughput", "backlog", "paused", "retried", "late", "history", "per worker"],
    also: &[("include_historical", "")],
    rare: &[],
    example: r#"{"include_worker_stats": true}"#,
    rest: "",
    action: Action::Run(&QueueStats),
}];
