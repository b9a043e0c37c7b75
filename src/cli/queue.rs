//! `nodectl queue`.

use std::time::Duration;

use clap::{Args, Subcommand};
use magpie_core::ids::{LedgerTag, LogIndex};
use magpie_core::matching::Shape;
use magpie_core::queue::{LedgerReply, LedgerRequest, PausedView, QueueStats, ShapeBacklog};
use magpie_core::task::TaskState;
use serde::Serialize;

use super::all_homes::{AllHomesArg, OfHomes, Scope};
use super::args::{Context, namespace};
use super::connection::{ANSWER_PATIENCE, NodeLink, unexpected};
use super::deadline::Deadline;
use super::exit::{CommandError, Exit};
use super::shapes::QueueStatsDocument;
use super::{human, operation, table};

#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// Show what this home has counted since its ledger was created, and what is paused
    Stats(AllHomesArg),
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
    #[arg(long, value_name = "N", conflicts_with = "all_homes")]
    if_version: Option<u64>,
    #[command(flatten)]
    homes: AllHomesArg,
}

#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// Only this namespace
    #[arg(long, value_parser = namespace)]
    namespace: Option<String>,
    /// Only if the queue is still at this version (queue_version of `queue stats`)
    #[arg(long, value_name = "N", conflicts_with = "all_homes")]
    if_version: Option<u64>,
    #[command(flatten)]
    homes: AllHomesArg,
}

#[derive(Debug, Args)]
pub struct ClearArgs {
    /// Only of this namespace
    #[arg(long, value_parser = namespace)]
    namespace: Option<String>,
    /// What is cancelled stays so: say that it is meant
    #[arg(long)]
    confirm: bool,
    #[command(flatten)]
    homes: AllHomesArg,
}

impl QueueCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        match self {
            Self::Stats(homes) => show(context, homes).await,
            Self::Pause(args) => {
                let PauseArgs { namespace, reason, if_version, homes } = args;
                set(context, homes, if_version, |version| {
                    let (operation, namespace, reason) = (operation::fresh(), namespace.clone(), reason.clone());
                    LedgerRequest::PauseQueue { operation, namespace, version, reason }
                })
                .await
            }
            Self::Resume(args) => {
                let ResumeArgs { namespace, if_version, homes } = args;
                set(context, homes, if_version, |version| {
                    let (operation, namespace) = (operation::fresh(), namespace.clone());
                    LedgerRequest::ResumeQueue { operation, namespace, version }
                })
                .await
            }
            Self::Clear(args) => clear(context, args).await,
        }
    }
}

async fn show(context: &Context, homes: AllHomesArg) -> Result<Exit, CommandError> {
    let link = &context.link;
    match homes.scope(context).await? {
        Scope::Own => {
            let stats = stats(link, link.home()).await?;
            context.document(&QueueStatsDocument::of(&stats), || text(&stats))?;
        }
        Scope::All(homes) => {
            let of_homes = OfHomes::ask(&homes, async |home| stats(link, Some(home)).await).await;
            of_homes.print(context, QueueStatsDocument::of, text)?;
        }
    }
    Ok(Exit::Ok)
}

async fn stats(link: &NodeLink, home: Option<LedgerTag>) -> Result<QueueStats, CommandError> {
    match link.ledger_of(home, LedgerRequest::Stats).await? {
        LedgerReply::Stats(stats) => Ok(*stats),
        _ => Err(unexpected()),
    }
}

/// What is paused at a home, after a change.
#[derive(Serialize)]
struct Paused {
    queue_version: u64,
    paused: Vec<PausedView>,
}

/// Changes what is paused, by a request that names the queue's version: the one that the caller names, or the one that is.
async fn set(
    context: &Context,
    homes: AllHomesArg,
    if_version: Option<u64>,
    request: impl Fn(u64) -> LedgerRequest,
) -> Result<Exit, CommandError> {
    let link = &context.link;
    let deadline = link.submission_deadline(None).await?;
    let change = async |home, deadline| {
        let version = match if_version {
            Some(version) => version,
            None => stats(link, home).await?.queue_version,
        };
        match link.insist_ledger_of(home, request(version), ANSWER_PATIENCE, deadline).await? {
            LedgerReply::Queue { version, paused } => Ok(Paused { queue_version: version, paused }),
            _ => Err(unexpected()),
        }
    };
    match homes.scope(context).await? {
        Scope::Own => {
            let paused = change(link.home(), deadline).await?;
            context.document(&paused, || paused_text(&paused.paused))?;
            Ok(Exit::Ok)
        }
        Scope::All(homes) => {
            let of_homes = OfHomes::ask(&homes, async |home| change(Some(home), at_once()).await).await;
            of_homes.print(context, |paused| paused, |paused| paused_text(&paused.paused))?;
            Ok(of_homes.exit())
        }
    }
}

/// Of many homes, one that is away must not keep the others waiting.
fn at_once() -> Deadline {
    Deadline::after(Duration::ZERO)
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

/// What was cancelled at a home.
#[derive(Serialize)]
struct Cleared {
    tasks: u64,
    workflows: u64,
    up_to: LogIndex,
}

impl Cleared {
    fn text(&self) -> String {
        format!("cancelled: {} tasks, {} workflows\n", self.tasks, self.workflows)
    }
}

async fn clear(context: &Context, args: ClearArgs) -> Result<Exit, CommandError> {
    let ClearArgs { namespace, confirm, homes } = args;
    let link = &context.link;
    let deadline = link.submission_deadline(None).await?;
    let scope = homes.scope(context).await?;
    if !confirm {
        let waiting = match &scope {
            Scope::Own => waiting(&stats(link, link.home()).await?),
            Scope::All(homes) => {
                let of_homes = OfHomes::ask(homes, async |home| Ok(waiting(&stats(link, Some(home)).await?))).await;
                of_homes.answers().sum()
            }
        };
        let of = namespace.map_or_else(String::new, |namespace| format!(" that are of {namespace}"));
        let what = format!("this cancels the tasks{of} among {waiting} waiting ones; add --confirm");
        return Err(CommandError::usage(what));
    }
    match scope {
        Scope::Own => {
            let cleared = clear_home(link, link.home(), namespace.as_deref(), deadline).await?;
            context.document(&cleared, || cleared.text())?;
            Ok(Exit::Ok)
        }
        Scope::All(homes) => {
            let clear = async |home| clear_home(link, Some(home), namespace.as_deref(), at_once()).await;
            let of_homes = OfHomes::ask(&homes, clear).await;
            of_homes.print(context, |cleared| cleared, Cleared::text)?;
            Ok(of_homes.exit())
        }
    }
}

fn waiting(stats: &QueueStats) -> u64 {
    stats.counts.ready + stats.counts.delayed
}

/// Cancels what waits there now, in messages that each cancel so many.
async fn clear_home(
    link: &NodeLink,
    home: Option<LedgerTag>,
    namespace: Option<&str>,
    deadline: Deadline,
) -> Result<Cleared, CommandError> {
    let up_to = stats(link, home).await?.log_index;
    let mut cleared = Cleared { tasks: 0, workflows: 0, up_to };
    loop {
        let (operation, namespace) = (operation::fresh(), namespace.map(str::to_owned));
        let request = LedgerRequest::ClearQueue { operation, namespace, up_to };
        match link.insist_ledger_of(home, request, ANSWER_PATIENCE, deadline).await? {
            LedgerReply::Cleared { tasks, workflows, left } => {
                cleared.tasks += tasks;
                cleared.workflows += workflows;
                if left == 0 {
                    return Ok(cleared);
                }
            }
            _ => return Err(unexpected()),
        }
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
