//! `nodectl queue`.

use clap::{Args, Subcommand};
use magpie_core::matching::Shape;
use magpie_core::queue::{LedgerReply, LedgerRequest, PausedView, QueueStats, ShapeBacklog};
use magpie_core::task::TaskState;
use serde_json::json;

use super::args::{Context, namespace};
use super::connection::{ANSWER_PATIENCE, NodeLink, unexpected};
use super::exit::{CommandError, Exit};
use super::shapes::QueueStatsDocument;
use super::{human, operation, table};

#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// Show what this home has counted since its ledger was created, and what is paused
    Stats,
    /// Grant nothing more: what runs goes on, what comes is accepted and waits
    Pause(PauseArgs),
    /// Grant again
    Resume(ResumeArgs),
    /// Cancel all that has not started; workflows that have begun go on
    Clear(ClearArgs),
}

#[derive(Debug, Args)]
pub struct PauseArgs {
    /// Only of this namespace
    #[arg(long, value_parser = namespace)]
    namespace: Option<String>,
    /// Why, for those who wonder later
    #[arg(long, default_value = "")]
    reason: String,
    /// Only if the queue is still at this version (queue_version of `queue stats`)
    #[arg(long, value_name = "N")]
    if_version: Option<u64>,
}

#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// Only this namespace
    #[arg(long, value_parser = namespace)]
    namespace: Option<String>,
    /// Only if the queue is still at this version (queue_version of `queue stats`)
    #[arg(long, value_name = "N")]
    if_version: Option<u64>,
}

#[derive(Debug, Args)]
pub struct ClearArgs {
    /// Only of this namespace
    #[arg(long, value_parser = namespace)]
    namespace: Option<String>,
    /// What is cancelled stays so: say that it is meant
    #[arg(long)]
    confirm: bool,
}

impl QueueCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        match self {
            Self::Stats => {
                let stats = stats(&context.link).await?;
                context.format.document(&QueueStatsDocument::of(&stats), || text(&stats))?;
                Ok(Exit::Ok)
            }
            Self::Pause(args) => {
                let (operation, version) = (operation::fresh(), seen(&context.link, args.if_version).await?);
                let PauseArgs { namespace, reason, .. } = args;
                set(context, LedgerRequest::PauseQueue { operation, namespace, version, reason }).await
            }
            Self::Resume(args) => {
                let (operation, version) = (operation::fresh(), seen(&context.link, args.if_version).await?);
                set(context, LedgerRequest::ResumeQueue { operation, namespace: args.namespace, version }).await
            }
            Self::Clear(args) => clear(context, args).await,
        }
    }
}

async fn stats(link: &NodeLink) -> Result<QueueStats, CommandError> {
    match link.ledger(LedgerRequest::Stats).await? {
        LedgerReply::Stats(stats) => Ok(*stats),
        _ => Err(unexpected()),
    }
}

/// The queue's version that the caller goes by: the one that he names, or the one that is.
async fn seen(link: &NodeLink, named: Option<u64>) -> Result<u64, CommandError> {
    match named {
        Some(version) => Ok(version),
        None => Ok(stats(link).await?.queue_version),
    }
}

async fn set(context: &Context, request: LedgerRequest) -> Result<Exit, CommandError> {
    let deadline = context.link.submission_deadline(None).await?;
    let LedgerReply::Queue { version, paused } = context.link.insist_ledger(request, ANSWER_PATIENCE, deadline).await?
    else {
        return Err(unexpected());
    };
    context.format.document(&json!({"queue_version": version, "paused": paused}), || paused_text(&paused))?;
    Ok(Exit::Ok)
}

fn paused_text(paused: &[PausedView]) -> String {
    if paused.is_empty() {
        return "nothing is paused\n".to_owned();
    }
    let row = |view: &PausedView| {
        let what = view.namespace.clone().unwrap_or_else(|| "(all)".to_owned());
        [what, view.since.to_string(), view.reason.clone()]
    };
    table::rows(["PAUSED NAMESPACE", "SINCE", "REASON"], paused.iter().map(row))
}

async fn clear(context: &Context, args: ClearArgs) -> Result<Exit, CommandError> {
    let deadline = context.link.submission_deadline(None).await?;
    let stats = stats(&context.link).await?;
    if !args.confirm {
        let waiting = stats.counts.ready + stats.counts.delayed;
        let of = args.namespace.map_or_else(String::new, |namespace| format!(" that are of {namespace}"));
        let what = format!("this cancels the tasks{of} among {waiting} waiting ones; add --confirm");
        return Err(CommandError::usage(what));
    }
    let (mut tasks, mut workflows) = (0, 0);
    loop {
        let (operation, namespace) = (operation::fresh(), args.namespace.clone());
        let request = LedgerRequest::ClearQueue { operation, namespace, up_to: stats.log_index };
        match context.link.insist_ledger(request, ANSWER_PATIENCE, deadline).await? {
            LedgerReply::Cleared { tasks: more_tasks, workflows: more_workflows, left } => {
                (tasks, workflows) = (tasks + more_tasks, workflows + more_workflows);
                if left == 0 {
                    break;
                }
            }
            _ => return Err(unexpected()),
        }
    }
    let document = json!({"tasks": tasks, "workflows": workflows, "up_to": stats.log_index});
    context.format.document(&document, || format!("cancelled: {tasks} tasks, {workflows} workflows\n"))?;
    Ok(Exit::Ok)
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
        ("queue version", stats.queue_version),
        ("no longer kept", stats.pruned.total()),
    ];
    let mut text = table::details(counts.into_iter().chain(others.map(|(name, count)| (name, count.to_string()))));
    let (kept, most) = (human::bytes(stats.kept_bytes), human::bytes(stats.kept_bytes_max));
    text += &table::details([("kept", format!("{kept} of {most}"))]);
    if !stats.paused.is_empty() {
        text += &format!("\n{}", paused_text(&stats.paused));
    }
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
