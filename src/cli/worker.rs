//! `nodectl worker`.

use std::time::Duration;

use clap::{Args, Subcommand};
use magpie_core::worker::WorkerStats;
use tokio::time::Instant;

use super::args::{Context, duration};
use super::connection::unexpected;
use super::exit::{CommandError, Exit};
use super::shapes::Items;
use super::{human, status, table};
use crate::messages::node::WorkerView;
use crate::messages::worker::{WorkerReply, WorkerRequest};
use crate::messages::{Answer, Body};

/// How often a drain is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug, Subcommand)]
pub enum WorkerCommand {
    /// List the workers of the mesh; of this node's, all it counts
    Ls,
    /// Let this node's worker take no more tasks, give back those it has not started, and finish the others
    Drain(DrainArgs),
    /// Let this node's worker take tasks again
    Resume,
}

#[derive(Debug, Args)]
pub struct DrainArgs {
    /// End what still runs after this long, so that it runs again elsewhere: 30s, 5m, 1h (default: let it finish)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    deadline: Option<Duration>,
    /// Wait until nothing runs here any more
    #[arg(long)]
    wait: bool,
    /// Give up waiting after this long
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "wait")]
    timeout: Option<Duration>,
}

impl WorkerCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        match self {
            Self::Ls => list(context).await,
            Self::Drain(args) => drain(context, &args).await,
            Self::Resume => resume(context).await,
        }
    }
}

async fn list(context: &Context) -> Result<Exit, CommandError> {
    let status = status::ask(&context.link).await?;
    let items = Items { items: status.workers() };
    let row = |worker: &WorkerView<'_>| {
        let count =
            |of: fn(&WorkerStats) -> u64| worker.stats.map_or_else(|| "-".to_owned(), |stats| of(stats).to_string());
        [
            worker.peer_id.to_string(),
            worker.state.to_owned(),
            human::or_dash(worker.slots),
            worker.slots_free.to_string(),
            human::or_dash(worker.running),
            human::or_dash(worker.queued),
            count(|stats| stats.started),
            count(|stats| stats.stolen),
        ]
    };
    let header = ["WORKER", "STATE", "SLOTS", "FREE", "RUNNING", "QUEUED", "STARTED", "STOLEN"];
    context.document(&items, || table::rows(header, items.items.iter().map(row)))?;
    Ok(Exit::Ok)
}

async fn drain(context: &Context, args: &DrainArgs) -> Result<Exit, CommandError> {
    let within_ms = args.deadline.map(|deadline| deadline.as_millis() as u64);
    let end = args.timeout.map(|timeout| Instant::now() + timeout);
    context.link.ask(Body::Worker(WorkerRequest::Drain { within_ms })).await?;
    loop {
        let stats = own_stats(context).await?;
        if !args.wait || (stats.running == 0 && stats.queued == 0) {
            print(context, &stats)?;
            return Ok(Exit::Ok);
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            let what = format!("{} tasks still run; the drain goes on", stats.running);
            return Err(CommandError::new(Exit::TimedOut, what));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn resume(context: &Context) -> Result<Exit, CommandError> {
    context.link.ask(Body::Worker(WorkerRequest::Resume)).await?;
    print(context, &own_stats(context).await?)?;
    Ok(Exit::Ok)
}

async fn own_stats(context: &Context) -> Result<WorkerStats, CommandError> {
    match context.link.ask(Body::Worker(WorkerRequest::Stats)).await? {
        Answer::Worker(WorkerReply::Stats(stats)) => Ok(stats),
        _ => Err(unexpected()),
    }
}

fn print(context: &Context, stats: &WorkerStats) -> Result<(), CommandError> {
    let text = || {
        let state = if stats.draining { "draining" } else { "takes tasks" };
        let left = stats.drain_left_ms.map(|left| format!(", what still runs is ended in {}", human::duration(left)));
        format!("the worker {state}: {} running, {} queued{}\n", stats.running, stats.queued, left.unwrap_or_default())
    };
    context.document(stats, text)
}
