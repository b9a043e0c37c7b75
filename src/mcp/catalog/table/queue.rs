//! The queue as a whole, and who works it off.

use super::LIST_REST;
use crate::mcp::catalog::entry::{Action, Category, Hints, Scope, ToolEntry};
use crate::mcp::tools::queue::QueueStats;
use crate::mcp::tools::worker::WorkerStatus;

pub(super) const TOOLS: &[ToolEntry] = &[
    ToolEntry {
        name: "queue_stats",
        category: Category::Queue,
        title: "Count the queue",
        description: "Counts the home's tasks by status and state since its ledger began, and says what is paused. For the node and its devices use p2p_taskqueue_status.",
        hints: Hints::READS,
        scope: Scope::Read,
        aliases: &[],
        keywords: &[
            "statistics",
            "totals",
            "throughput",
            "backlog",
            "paused",
            "retried",
            "late",
            "history",
            "per worker",
        ],
        also: &[("include_historical", "")],
        rare: &[],
        example: r#"{"include_worker_stats": true}"#,
        rest: "",
        action: Action::Run(&QueueStats),
    },
    ToolEntry {
        name: "worker_status",
        category: Category::Queue,
        title: "Show the workers",
        description: "Shows the worker of each node: slots, what runs and waits there, whether it drains or lacks room. What a node can run: list_peers.",
        hints: Hints::READS,
        scope: Scope::Read,
        aliases: &["p2p_taskqueue_worker_stats"],
        keywords: &["slots", "free", "busy", "idle", "drain", "draining", "stolen", "capacity", "machines", "executor"],
        also: &[("id", "worker_id"), ("peer_id", "worker_id"), ("include_tasks", ""), ("include_metrics", "")],
        rare: &[],
        example: "{}",
        rest: LIST_REST,
        action: Action::Run(&WorkerStatus),
    },
];
