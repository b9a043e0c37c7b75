//! What nodes know of each other's ledgers.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use magpie_core::clock::SignedHead;
use magpie_core::time::Wall;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::detail::{Detail, page};
use crate::mcp::answer::ToolError;
use crate::mcp::handler::{Call, Handler};

pub struct GetMerkleClock;

#[derive(Deserialize, JsonSchema)]
pub struct GetMerkleClockInput {
    /// full shows each head: generation, event.
    #[serde(default)]
    #[schemars(with = "Option<Detail>")]
    detail: Detail,
    /// At most 100.
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct GetMerkleClockOutput {
    ok: bool,
    tool: &'static str,
    node_id: String,
    /// Hexadecimal; equal roots mean equal clocks.
    merkle_root: String,
    /// Events of each peer's ledger that this node knows of.
    vector: BTreeMap<String, u64>,
    total: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    heads: Vec<HeadRow>,
    /// Heads that were not believed, and peers that signed two for one place.
    refused: u64,
    equivocations: u64,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct HeadRow {
    peer_id: String,
    ledger: String,
    generation: u32,
    count: u64,
    event: String,
}

impl HeadRow {
    fn of(head: &SignedHead) -> Self {
        let head = &head.head;
        Self {
            peer_id: head.peer.to_string(),
            ledger: head.ledger.to_string(),
            generation: head.generation.0,
            count: head.count,
            event: head.event.to_string(),
        }
    }
}

impl Handler for GetMerkleClock {
    type Input = GetMerkleClockInput;
    type Output = GetMerkleClockOutput;

    async fn call(&self, input: GetMerkleClockInput, call: &Call<'_>) -> Result<GetMerkleClockOutput, ToolError> {
        let clock = call.link.clock().await?;
        let total = clock.heads.len();
        let (heads, next_cursor) = page(clock.heads, input.cursor.as_deref(), input.limit)?;
        let mut vector = BTreeMap::new();
        for head in &heads {
            // A peer that moved to a new ledger has one head in each.
            let count: &mut u64 = vector.entry(head.head.peer.to_string()).or_default();
            *count = (*count).max(head.head.count);
        }
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        Ok(GetMerkleClockOutput {
            ok: true,
            tool: "p2p_get_merkle_clock",
            node_id: clock.node.to_string(),
            merkle_root: clock.merkle_root,
            vector,
            total,
            heads: if input.detail.is_full() { heads.iter().map(HeadRow::of).collect() } else { Vec::new() },
            refused: clock.refused,
            equivocations: clock.equivocations,
            timestamp: Wall(now_ms).to_string(),
            next_cursor,
        })
    }
}
