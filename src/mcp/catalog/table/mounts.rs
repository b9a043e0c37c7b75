//! Other MCP servers, whose tools are found beside these and are no lines of a table.

use super::LIST_REST;
use crate::mcp::catalog::entry::{Action, Category, Hints, Reach, Scope, ToolEntry};
use crate::mcp::tools::mounts::{self, CancelMounted, ListMounts, WaitMounted};

pub(super) const TOOLS: &[ToolEntry] = &[
    ToolEntry {
        name: "mount_list",
        category: Category::Mounts,
        title: "List mounted servers",
        description: "Lists the MCP servers that this node mounts: up or down and why, how many tools. Their tools: tools_list_tools with the server as category.",
        hints: Hints::READS,
        scope: Scope::Read,
        reach: Reach::Node,
        aliases: &[],
        keywords: &["external", "servers", "mcp", "plugins", "down"],
        also: &[],
        rare: &[],
        example: "{}",
        rest: LIST_REST,
        action: Action::Run(&ListMounts),
    },
    ToolEntry {
        name: "mount_wait",
        category: Category::Mounts,
        title: "Wait for a mounted tool",
        description: "Waits for the end of a call of a mounted server's tool that took longer than a call may, at most 25 s. Only as next says.",
        hints: Hints::READS,
        scope: Scope::Read,
        reach: Reach::Node,
        aliases: &[],
        keywords: &["follow", "result", "long", "running"],
        also: &[],
        rare: &[],
        example: r#"{"server": "files", "call": 7}"#,
        rest: mounts::REST,
        action: Action::Run(&WaitMounted),
    },
    ToolEntry {
        name: "mount_cancel",
        category: Category::Mounts,
        title: "Cancel a mounted tool's call",
        description: "Cancels a call of a mounted server's tool that goes on, and tells the server. For tasks use p2p_taskqueue_cancel.",
        hints: Hints::ENDS,
        scope: Scope::Submit,
        reach: Reach::Node,
        aliases: &[],
        keywords: &["stop", "abort"],
        also: &[],
        rare: &[],
        example: r#"{"server": "files", "call": 7}"#,
        rest: LIST_REST,
        action: Action::Run(&CancelMounted),
    },
];
