//! What the node said of itself.

use super::LIST_REST;
use crate::mcp::catalog::entry::{Action, Category, Hints, Reach, Scope, ToolEntry};
use crate::mcp::tools::logs::{self, RecentLogs, SearchLogs};

pub(super) const TOOLS: &[ToolEntry] = &[
    ToolEntry {
        name: "get_recent_logs",
        category: Category::Logs,
        title: "Show the newest log lines",
        description: "Shows the newest lines of the node's own log, by level and service. Of a task: p2p_taskqueue_get_task.",
        hints: Hints::READS,
        scope: Scope::Operate,
        reach: Reach::Node,
        aliases: &[],
        keywords: &["errors", "warnings", "tail", "debug", "journal", "what happened"],
        also: logs::RECENT_ALSO,
        rare: &[],
        example: r#"{"level": "warning", "limit": 20}"#,
        rest: LIST_REST,
        action: Action::Run(&RecentLogs),
    },
    ToolEntry {
        name: "search_logs",
        category: Category::Logs,
        title: "Search the log",
        description: "Finds lines of the node's own log that hold some words, newest first. Without words: get_recent_logs.",
        hints: Hints::READS,
        scope: Scope::Operate,
        reach: Reach::Node,
        aliases: &[],
        keywords: &["find", "grep", "errors", "messages"],
        also: logs::SEARCH_ALSO,
        rare: &[],
        example: r#"{"query": "refused"}"#,
        rest: LIST_REST,
        action: Action::Run(&SearchLogs),
    },
];
