//! `nodectl dlq`: the dead-letter queue of this node's home.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use magpie_core::ids::{LedgerTag, TaskId};
use magpie_core::limits;
use magpie_core::queue::{DeadFilter, DeadLetter, DeadLetterView, LedgerReply, LedgerRequest, Refusal, SubmitAnswer};
use magpie_core::time::Wall;
use serde::Serialize;
use serde_json::json;

use super::all_homes::{self, AllHomesArg};
use super::args::{Context, duration, namespace};
use super::connection::{ANSWER_PATIENCE, NodeLink, unexpected};
use super::deadline::Deadline;
use super::exit::{CommandError, Exit};
use super::id_prefix::{Noun, resolve};
use super::output::json_pretty;
use super::shapes::TaskDocument;
use super::task::{RetryDocument, retry, show_text};
use super::{human, operation, table};

#[derive(Debug, Subcommand)]
pub enum DlqCommand {
    /// List dead tasks that were not retried, the oldest first
    Ls(LsArgs),
    /// Show a dead task: its specification and input, its last errors, the end of its log
    Show { id: String },
    /// Run dead tasks again, each as a new task
    Retry(RetryArgs),
    /// Remove dead tasks for good
    Purge(PurgeArgs),
}

#[derive(Debug, Args)]
pub struct LsArgs {
    /// Only of this namespace
    #[arg(long, value_parser = namespace)]
    namespace: Option<String>,
    /// Only those dead for this long: 10m, 1h, 7d
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Option<Duration>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// Go on after this one: next_cursor of the page before
    #[arg(long, value_name = "ID")]
    cursor: Option<TaskId>,
    #[command(flatten)]
    homes: AllHomesArg,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["ids", "all"]))]
pub struct RetryArgs {
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// All that are dead now
    #[arg(long)]
    all: bool,
    /// Only of this namespace
    #[arg(long, requires = "all", value_parser = namespace)]
    namespace: Option<String>,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["ids", "older_than"]))]
pub struct PurgeArgs {
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// All that are dead for this long: 0s, 10m, 1h, 7d
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Option<Duration>,
    /// Only of this namespace
    #[arg(long, requires = "older_than", value_parser = namespace)]
    namespace: Option<String>,
    /// They are gone for good: say that it is meant
    #[arg(long)]
    confirm: bool,
}

/// Of `dlq show`.
#[derive(Serialize)]
struct LetterDocument<'a> {
    #[serde(flatten)]
    task: TaskDocument<'a>,
    spec: &'a magpie_core::task::TaskSpec,
}

impl DlqCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        match self {
            Self::Ls(args) => list(context, &args).await,
            Self::Show { id } => show(context, &id).await,
            Self::Retry(args) => args.run(context).await,
            Self::Purge(args) => args.run(context).await,
        }
    }
}

fn filter(namespace: Option<&String>, older_than: Option<Duration>) -> DeadFilter {
    let older_than_ms = older_than.map(|older_than| older_than.as_millis() as u64);
    DeadFilter { namespace: namespace.cloned(), older_than_ms }
}

async fn page(
    link: &NodeLink,
    filter: &DeadFilter,
    home: Option<LedgerTag>,
    cursor: Option<TaskId>,
    limit: usize,
) -> Result<(Vec<DeadLetter>, Option<TaskId>), CommandError> {
    match link.ledger_of(home, LedgerRequest::ListDead { filter: filter.clone(), cursor, limit }).await? {
        LedgerReply::DeadLetters { items, next_cursor } => Ok((items, next_cursor)),
        _ => Err(unexpected()),
    }
}

async fn list(context: &Context, args: &LsArgs) -> Result<Exit, CommandError> {
    let filter = filter(args.namespace.as_ref(), args.older_than);
    let (link, scope) = (&context.link, args.homes.scope(context).await?);
    let page = async |home, cursor, limit| page(link, &filter, home, cursor, limit).await;
    let listed = all_homes::list(link, &scope, args.cursor, args.limit, |letter: &DeadLetter| letter.id, page).await?;
    let now = human::now();
    context.document(&listed.document(|letter| letter), || {
        let header = ["TASK", "KIND", "NAMESPACE", "ATTEMPTS", "DEAD", "ERROR"];
        table::rows(header, listed.items.iter().map(|letter| row(letter, now))) + &listed.rest()
    })?;
    Ok(Exit::Ok)
}

fn row(letter: &DeadLetter, now: Wall) -> [String; 6] {
    [
        letter.id.to_string(),
        letter.kind.to_string(),
        letter.namespace.clone(),
        letter.attempts.to_string(),
        human::ago(Some(letter.dead_at), now),
        human::or_dash(letter.error.as_ref()),
    ]
}

async fn show(context: &Context, id: &str) -> Result<Exit, CommandError> {
    let id = resolve(&context.link, Noun::Task, id).await?;
    let LedgerReply::DeadLetter(view) = context.link.ledger(LedgerRequest::ShowDead { id }).await? else {
        return Err(unexpected());
    };
    let DeadLetterView { task, spec } = &*view;
    let document = LetterDocument { task: TaskDocument::of(task), spec };
    context.document(&document, || {
        let spec: String = json_pretty(spec).lines().map(|line| format!("  {}\n", table::printable(line))).collect();
        format!("{}\nspecification:\n{spec}", show_text(task, human::now()))
    })?;
    Ok(Exit::Ok)
}

/// Ids by home: a message to a home names its own.
async fn by_home(link: &NodeLink, typed: &[String]) -> Result<Vec<Vec<TaskId>>, CommandError> {
    let mut homes: BTreeMap<LedgerTag, Vec<TaskId>> = BTreeMap::new();
    for typed in typed {
        let id = resolve(link, Noun::Task, typed).await?;
        homes.entry(id.ledger).or_default().push(id);
    }
    Ok(homes.into_values().collect())
}

/// The dead tasks of this home that fit, as they are now, in messages of a page each.
async fn all(link: &NodeLink, filter: &DeadFilter) -> Result<Vec<Vec<TaskId>>, CommandError> {
    let (mut pages, mut cursor) = (Vec::new(), None);
    loop {
        let (items, next_cursor) = page(link, filter, link.home(), cursor, limits::LIST_LEN_MAX).await?;
        if !items.is_empty() {
            pages.push(items.iter().map(|letter| letter.id).collect());
        }
        match next_cursor {
            Some(_) => cursor = next_cursor,
            None => return Ok(pages),
        }
    }
}

/// Prints why a task was left as it was.
fn refused(context: &Context, id: TaskId, refusal: &Refusal) -> Result<(), CommandError> {
    context.format.failed_line(&json!({"id": id, "error": refusal.to_string()}), || refusal.to_string())
}

impl RetryArgs {
    async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        let deadline = context.link.submission_deadline(None).await?;
        let batches = if self.all {
            all(&context.link, &filter(self.namespace.as_ref(), None)).await?
        } else {
            by_home(&context.link, &self.ids).await?
        };
        let mut exit = Exit::Ok;
        for batch in batches {
            let answers = retry(&context.link, batch.clone(), deadline).await?;
            for (retry_of, answer) in batch.into_iter().zip(answers) {
                match answer {
                    SubmitAnswer::Accepted { id } => {
                        context.format.line(&RetryDocument { id, retry_of }, || id.to_string())?;
                    }
                    SubmitAnswer::Refused(refusal) => {
                        refused(context, retry_of, &refusal)?;
                        exit = CommandError::from(refusal).exit;
                    }
                }
            }
        }
        Ok(exit)
    }
}

impl PurgeArgs {
    async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        let deadline = context.link.submission_deadline(None).await?;
        let batches = match self.older_than {
            Some(_) => all(&context.link, &filter(self.namespace.as_ref(), self.older_than)).await?,
            None => by_home(&context.link, &self.ids).await?,
        };
        if !self.confirm {
            let count: usize = batches.iter().map(Vec::len).sum();
            let what = format!("this removes {count} dead tasks for good, with their inputs and errors; add --confirm");
            return Err(CommandError::usage(what));
        }
        let (mut purged, mut exit) = (0, Exit::Ok);
        for batch in batches {
            let answers = purge(&context.link, batch.clone(), deadline).await?;
            for (id, answer) in batch.into_iter().zip(answers) {
                match answer {
                    None => purged += 1,
                    Some(refusal) => {
                        refused(context, id, &refusal)?;
                        exit = CommandError::from(refusal).exit;
                    }
                }
            }
        }
        context.format.line(&json!({"purged": purged}), || format!("{purged} dead tasks are gone"))?;
        Ok(exit)
    }
}

async fn purge(link: &NodeLink, ids: Vec<TaskId>, deadline: Deadline) -> Result<Vec<Option<Refusal>>, CommandError> {
    let request = LedgerRequest::PurgeDead { operation: operation::fresh(), ids };
    match link.insist_ledger(request, ANSWER_PATIENCE, deadline).await? {
        LedgerReply::Purged { answers } => Ok(answers),
        _ => Err(unexpected()),
    }
}
