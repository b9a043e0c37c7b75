//! How the node is.

use crate::mcp::catalog::entry::{Action, Category, Hints, Reach, Scope, ToolEntry};
use crate::mcp::tools::system::{ServiceHealth, SystemStatus};

pub(super) const TOOLS: &[ToolEntry] = &[
    ToolEntry {
        name: "get_system_status",
        category: Category::System,
        title: "Show how the node is",
        description: "Shows whether the node is well: its services, load, memory, what does not work. For its queue use p2p_taskqueue_status.",
        hints: Hints::READS,
        scope: Scope::Read,
        reach: Reach::Node,
        aliases: &[],
        keywords: &["health", "ok", "degraded", "overall", "resources", "uptime"],
        also: &[],
        rare: &[],
        example: "{}",
        rest: "",
        action: Action::Run(&SystemStatus),
    },
    ToolEntry {
        name: "get_service_health",
        category: Category::System,
        title: "Check services",
        description: "Says of each service whether it is ok and why not: mcp, p2p, ledger, worker, inference. All at once with load: get_system_status.",
        hints: Hints::READS,
        scope: Scope::Read,
        reach: Reach::Node,
        aliases: &[],
        keywords: &["up", "down", "alive", "check", "probe"],
        also: &[],
        rare: &[],
        example: r#"{"services": ["p2p", "ledger"]}"#,
        rest: "",
        action: Action::Run(&ServiceHealth),
    },
];
