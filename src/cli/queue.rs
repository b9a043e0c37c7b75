//! `nodectl queue`.

use clap::Subcommand;
use magpie_core::matching::Shape;
use magpie_core::queue::{LedgerReply, LedgerRequest, QueueStats, ShapeBacklog};
use magpie_core::task::TaskState;

use super::args::Context;
use super::connection::unexpected;
use super::exit::{CommandError, Exit};
use super::shapes::QueueStatsDocument;
use super::table;

#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// Show what this home has counted since its ledger was created
    Stats,
}

impl QueueCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        let Self::Stats = self;
        let LedgerReply::Stats(stats) = context.link.ledger(LedgerRequest::Stats).await? else {
            return Err(unexpected());
        };
        context.format.document(&QueueStatsDocument::of(&stats), || text(&stats))?;
        Ok(Exit::Ok)
    }
}

fn text(stats: &QueueStats) -> String {
    let counts = TaskState::ALL.map(|state| (state.name(), stats.counts.of(state).to_string()));
    let others = [
        ("submitted", stats.submitted),
        ("lost (class memory)", stats.lost),
        ("retried", stats.retried_total),
        ("released", stats.released_total),
        ("leases expired", stats.expired_total),
        ("refused late", stats.fenced_total),
        ("workflows running", stats.workflows_running),
        ("log records", stats.log_index.0),
        ("log records on disk", stats.synced_index.0),
    ];
    let mut text = table::details(counts.into_iter().chain(others.map(|(name, count)| (name, count.to_string()))));
    if !stats.ready_by_shape.is_empty() {
        let row = |backlog: &ShapeBacklog| [shape(&backlog.shape), backlog.ready.to_string()];
        text += &format!("\n{}", table::rows(["WAITING FOR", "TASKS"], stats.ready_by_shape.iter().map(row)));
    }
    if !stats.commits_by_worker.is_empty() {
        let rows = stats.commits_by_worker.iter().map(|(peer, commits)| [peer.to_string(), commits.to_string()]);
        text += &format!("\n{}", table::rows(["WORKER", "COMMITS"], rows));
    }
    text
}

fn shape(shape: &Shape) -> String {
    let model = shape.model.as_ref().map(|model| format!("model {model}"));
    let command = shape.command.as_ref().map(|command| format!("command {command}"));
    let tag = shape.tag.map(|tag| format!("tag {}", tag.name()));
    let requires = shape.requires.as_ref().map(|requires| requires.to_string());
    let parts = [Some(shape.kind.to_string()), model, command, tag, requires];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
