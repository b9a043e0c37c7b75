//! What nodes know of each other's ledgers.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use magpie_core::clock::SignedHead;
use magpie_core::task::{Tag, TaskState};
use magpie_core::time::Wall;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::detail::{Detail, LIMIT_MAX, page};
use super::manager::NoInput;
use super::peer::parse_peer;
use super::status::word;
use crate::mcp::answer::ToolError;
use crate::mcp::handler::{Call, Handler};
use crate::mcp::link::PATIENCE;

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
            timestamp: now(),
            next_cursor,
        })
    }
}

pub struct SchedulerStatus;

#[derive(Serialize, JsonSchema)]
pub struct SchedulerStatusOutput {
    ok: bool,
    node_id: String,
    merkle_root: String,
    /// Tasks of this home by status.
    tasks: BTreeMap<&'static str, u64>,
    workflows_running: u64,
    known_peers: usize,
    /// Slots of this node's worker that are free.
    slots_free: u32,
    /// Ready tasks of this home, by what they require.
    ready_by_requirement: usize,
    timestamp: String,
}

impl Handler for SchedulerStatus {
    type Input = NoInput;
    type Output = SchedulerStatusOutput;

    async fn call(&self, _: NoInput, call: &Call<'_>) -> Result<SchedulerStatusOutput, ToolError> {
        let (status, clock) = (call.link.status(PATIENCE).await?, call.link.clock().await?);
        let mut tasks = BTreeMap::new();
        for state in TaskState::ALL {
            *tasks.entry(word(state)).or_insert(0) += status.queue.counts.of(state);
        }
        Ok(SchedulerStatusOutput {
            ok: true,
            node_id: status.peer_id.to_string(),
            merkle_root: clock.merkle_root,
            tasks,
            workflows_running: status.queue.workflows_running,
            known_peers: status.peers.len(),
            slots_free: status.worker.free.cpu,
            ready_by_requirement: status.queue.ready_by_shape.len(),
            timestamp: now(),
        })
    }
}

pub struct CheckTags;

#[derive(Deserialize, JsonSchema)]
pub struct CheckTagsInput {
    /// As p2p-only, p2p-eligible, unit-test.
    tags: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct CheckTagsOutput {
    ok: bool,
    /// Runs on the mesh and not at GitHub.
    should_bypass_github: bool,
    /// May run nowhere but on the mesh.
    is_p2p_only: bool,
    /// Tags that mean something here.
    known: Vec<String>,
    unknown: Vec<String>,
    timestamp: String,
}

impl Handler for CheckTags {
    type Input = CheckTagsInput;
    type Output = CheckTagsOutput;

    async fn call(&self, input: CheckTagsInput, _: &Call<'_>) -> Result<CheckTagsOutput, ToolError> {
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for name in input.tags.iter().take(LIMIT_MAX) {
            match name.parse::<Tag>() {
                Ok(tag) => known.push(tag),
                Err(_) => unknown.push(name.chars().take(80).collect()),
            }
        }
        Ok(CheckTagsOutput {
            ok: true,
            should_bypass_github: known.iter().any(|tag| tag.runs_on_the_mesh()),
            is_p2p_only: known.contains(&Tag::P2pOnly),
            known: known.iter().map(|tag| tag.name().to_owned()).collect(),
            unknown,
            timestamp: now(),
        })
    }
}

pub struct CompareClocks;

#[derive(Deserialize, JsonSchema)]
pub struct CompareClocksInput {
    /// Only this one.
    peer_id: Option<String>,
    /// At most 100.
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct CompareClocksOutput {
    ok: bool,
    node_id: String,
    merkle_root: String,
    /// Whether the root follows from the heads, and their signatures hold.
    clock_holds: bool,
    peers: Vec<ClockRow>,
    total: usize,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct ClockRow {
    peer_id: String,
    /// Of the peer's clock to this node's: equal, before, after or concurrent.
    #[serde(skip_serializing_if = "Option::is_none")]
    ordering: Option<String>,
    /// Ledgers of which it knows less, and more.
    behind: u64,
    ahead: u64,
    /// Ledgers of which the two hold different events of one number.
    forked: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    unanswered: Option<String>,
}

impl Handler for CompareClocks {
    type Input = CompareClocksInput;
    type Output = CompareClocksOutput;

    async fn call(&self, input: CompareClocksInput, call: &Call<'_>) -> Result<CompareClocksOutput, ToolError> {
        let peer = input.peer_id.as_deref().map(parse_peer).transpose()?;
        let audit = call.link.clock_audit().await?;
        let wanted = audit.peers.into_iter().filter(|other| peer.is_none_or(|peer| peer == other.peer_id));
        let rows: Vec<ClockRow> = wanted
            .map(|other| ClockRow {
                peer_id: other.peer_id.to_string(),
                ordering: other.ordering,
                behind: other.behind,
                ahead: other.ahead,
                forked: other.forked.len(),
                unanswered: other.unanswered,
            })
            .collect();
        if let (Some(peer), true) = (peer, rows.is_empty()) {
            let fix = "take a peer_id that list_peers shows as alive";
            let problem = format!("{peer} is no member that could be asked");
            return Err(ToolError::wrong_argument("peer_id", problem, "a member's peer id", fix));
        }
        let total = rows.len();
        let (peers, next_cursor) = page(rows, input.cursor.as_deref(), input.limit)?;
        Ok(CompareClocksOutput {
            ok: true,
            node_id: audit.node.to_string(),
            merkle_root: audit.merkle_root,
            clock_holds: audit.root_holds && audit.refused.is_empty(),
            peers,
            total,
            timestamp: now(),
            next_cursor,
        })
    }
}

/// What the seeds call it, and what they would have merged on the caller's word.
pub const COMPARE_ALSO: &[(&str, &str)] = &[("id", "peer_id"), ("clock_data", "")];

fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Wall(since.map_or(0, |since| since.as_millis() as u64)).to_string()
}
