//! `nodectl worker`.

use clap::Subcommand;
use magpie_core::ids::PeerId;
use magpie_core::worker::WorkerStats;
use serde::Serialize;

use super::args::Context;
use super::connection::unexpected;
use super::exit::{CommandError, Exit};
use super::shapes::Items;
use super::{status, table};
use crate::messages::node::NodeStatus;
use crate::messages::worker::{WorkerReply, WorkerRequest};
use crate::messages::{Answer, Body};

#[derive(Debug, Subcommand)]
pub enum WorkerCommand {
    /// List the workers of the mesh; of this node's, all it counts
    Ls,
    /// Let this node's worker take no more tasks, give back those it has not started, and finish the others
    Drain,
    /// Let this node's worker take tasks again
    Resume,
}

/// A worker as this node knows it: of others it hears little.
#[derive(Serialize)]
struct WorkerDocument<'a> {
    peer_id: PeerId,
    state: &'a str,
    slots_free: u32,
    device_slots_free: u32,
    /// This node's own.
    stats: Option<&'a WorkerStats>,
}

impl WorkerCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        match self {
            Self::Ls => list(context).await,
            Self::Drain => change(context, WorkerRequest::Drain).await,
            Self::Resume => change(context, WorkerRequest::Resume).await,
        }
    }
}

async fn list(context: &Context) -> Result<Exit, CommandError> {
    let status = status::ask(&context.link).await?;
    let items = Items { items: workers(&status) };
    let row = |worker: &WorkerDocument<'_>| {
        let count =
            |of: fn(&WorkerStats) -> u64| worker.stats.map_or_else(|| "-".to_owned(), |stats| of(stats).to_string());
        [
            worker.peer_id.to_string(),
            worker.state.to_owned(),
            worker.slots_free.to_string(),
            count(|stats| stats.running),
            count(|stats| stats.queued),
            count(|stats| stats.started),
            count(|stats| stats.stolen),
        ]
    };
    let header = ["WORKER", "STATE", "FREE", "RUNNING", "QUEUED", "STARTED", "STOLEN"];
    context.format.document(&items, || table::rows(header, items.items.iter().map(row)))?;
    Ok(Exit::Ok)
}

fn workers(status: &NodeStatus) -> Vec<WorkerDocument<'_>> {
    let own = WorkerDocument {
        peer_id: status.peer_id,
        state: if status.worker.draining { "draining" } else { "alive" },
        slots_free: status.worker.free.cpu,
        device_slots_free: status.worker.free.device,
        stats: Some(&status.worker),
    };
    let others = status.peers.iter().map(|peer| WorkerDocument {
        peer_id: peer.peer_id,
        state: &peer.state,
        slots_free: peer.slots_free.cpu,
        device_slots_free: peer.slots_free.device,
        stats: None,
    });
    [own].into_iter().chain(others).collect()
}

async fn change(context: &Context, request: WorkerRequest) -> Result<Exit, CommandError> {
    context.link.ask(Body::Worker(request)).await?;
    let Answer::Worker(WorkerReply::Stats(stats)) = context.link.ask(Body::Worker(WorkerRequest::Stats)).await? else {
        return Err(unexpected());
    };
    let text = || {
        let state = if stats.draining { "draining" } else { "takes tasks" };
        format!("the worker {state}: {} running, {} queued\n", stats.running, stats.queued)
    };
    context.format.document(&stats, text)?;
    Ok(Exit::Ok)
}
