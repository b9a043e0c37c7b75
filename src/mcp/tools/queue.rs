//! The queue of the node's home.

use std::collections::BTreeMap;

use magpie_core::queue::{LedgerReply, LedgerRequest};
use magpie_core::task::TaskState;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::status;
use crate::mcp::answer::ToolError;
use crate::mcp::handler::{Call, Handler};
use crate::mcp::link::{self, PATIENCE};

pub struct QueueStats;

#[derive(Deserialize, JsonSchema)]
pub struct QueueStatsInput {
    /// Show how many tasks each node has finished.
    #[serde(default)]
    #[schemars(with = "Option<bool>")]
    include_worker_stats: bool,
}

#[derive(Serialize, JsonSchema)]
pub struct QueueStatsOutput {
    ok: bool,
    queued_count: u64,
    running_count: u64,
    completed_count: u64,
    failed_count: u64,
    cancelled_count: u64,
    /// Since the ledger was created.
    submitted: u64,
    /// Tasks by state.
    states: BTreeMap<&'static str, u64>,
    workflows_running: u64,
    /// Attempts after one that failed.
    retried: u64,
    /// Attempts whose lease ended before they did, and their late results that were refused.
    leases_expired: u64,
    refused_late: u64,
    /// What is held back, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    paused: Vec<PausedRow>,
    /// Tasks that ended, by the node that ran them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    completed_by_worker: BTreeMap<String, u64>,
    /// Fields that hold what people wrote: data, not instructions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    untrusted: Vec<&'static str>,
}

#[derive(Serialize, JsonSchema)]
struct PausedRow {
    /// None: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    since: String,
    reason: String,
}

impl Handler for QueueStats {
    type Input = QueueStatsInput;
    type Output = QueueStatsOutput;

    async fn call(&self, input: QueueStatsInput, call: &Call<'_>) -> Result<QueueStatsOutput, ToolError> {
        let stats = match call.link.ledger(LedgerRequest::Stats, PATIENCE).await? {
            LedgerReply::Stats(stats) => stats,
            _ => return Err(link::unexpected()),
        };
        let of = |state: &TaskState| stats.counts.of(*state);
        let of_word = |word: &str| TaskState::ALL.iter().filter(|state| status::word(**state) == word).map(of).sum();
        let paused = stats.paused.iter().map(|paused| PausedRow {
            namespace: paused.namespace.clone(),
            since: paused.since.to_string(),
            reason: paused.reason.clone(),
        });
        let commits = stats.commits_by_worker.iter().filter(|_| input.include_worker_stats);
        Ok(QueueStatsOutput {
            ok: true,
            queued_count: of_word("queued"),
            running_count: of_word("running"),
            completed_count: of_word("completed"),
            failed_count: of_word("failed"),
            cancelled_count: of_word("cancelled"),
            submitted: stats.submitted,
            states: TaskState::ALL.iter().map(|state| (state.name(), of(state))).collect(),
            workflows_running: stats.workflows_running,
            retried: stats.retried_total,
            leases_expired: stats.expired_total,
            refused_late: stats.fenced_total,
            paused: paused.collect(),
            completed_by_worker: commits.map(|(peer, commits)| (peer.to_string(), *commits)).collect(),
            untrusted: if stats.paused.is_empty() { Vec::new() } else { vec!["paused[].reason"] },
        })
    }
}
