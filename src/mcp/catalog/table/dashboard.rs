//! Totals, for a dashboard.

use crate::mcp::catalog::entry::{Action, Category, Hints, Reach, Scope, ToolEntry};
use crate::mcp::tools::dashboard::{DashboardMetrics, ModelUsage};

pub(super) const TOOLS: &[ToolEntry] = &[
    ToolEntry {
        name: "get_dashboard_metrics",
        category: Category::Dashboard,
        title: "Show totals",
        description: "Shows totals of tasks, errors, inferences and peers; no history. For the queue alone use queue_stats.",
        hints: Hints::READS,
        scope: Scope::Read,
        reach: Reach::Node,
        aliases: &[],
        keywords: &["metrics", "overview", "error rate", "throughput", "summary"],
        also: &[("time_range", "")],
        rare: &[],
        example: r#"{"metrics": ["error_rate"]}"#,
        rest: "",
        action: Action::Run(&DashboardMetrics),
    },
    ToolEntry {
        name: "get_model_usage_stats",
        category: Category::Dashboard,
        title: "Show how much models were used",
        description: "Shows texts, tokens and busy time of each device of this node since it started. What is loaded: search_models.",
        hints: Hints::READS,
        scope: Scope::Read,
        reach: Reach::Node,
        aliases: &[],
        keywords: &["usage", "tokens", "inference", "load", "busy", "statistics"],
        also: &[("period", ""), ("model_name", "model")],
        rare: &[],
        example: "{}",
        rest: "",
        action: Action::Run(&ModelUsage),
    },
];
