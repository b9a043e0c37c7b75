//! What nodes know of each other's ledgers.

use super::LIST_REST;
use crate::mcp::catalog::entry::{Action, Category, Hints, Scope, ToolEntry};
use crate::mcp::tools::scheduler;

pub(super) const TOOLS: &[ToolEntry] = &[ToolEntry {
    name: "p2p_get_merkle_clock",
    category: Category::Scheduler,
    title: "Show the Merkle clock",
    description: "Shows which events of which peer's ledger this node knows of. Two nodes with one merkle_root know the same. Not for the state of tasks.",
    hints: Hints::READS,
    scope: Scope::Read,
    aliases: &[],
    keywords: &["vector", "root", "sync", "heads", "ledger", "consistency", "time", "order", "events"],
    also: &[],
    rare: &[],
    example: "{}",
    rest: LIST_REST,
    action: Action::Run(&scheduler::GetMerkleClock),
}];
