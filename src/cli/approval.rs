//! `nodectl approval`: what waits for a person.

use clap::{Args, Subcommand};
use magpie_core::ids::TaskId;
use magpie_core::queue::{ApprovalReply, ApprovalRequest, ApprovalView, Decided, Decision, LedgerReply, LedgerRequest};
use serde::Serialize;

use super::args::{Context, namespace};
use super::connection::{ANSWER_PATIENCE, unexpected};
use super::exit::{CommandError, Exit};
use super::id_prefix::{Noun, resolve};
use super::{human, table};

/// Characters of what is asked that a row of a table shows.
const INPUT_CHARS_MAX: usize = 60;

#[derive(Debug, Subcommand)]
pub enum ApprovalCommand {
    /// List what waits for a decision, the oldest first
    Ls(LsArgs),
    /// Let it go on: a step succeeds, a held call is made
    Approve(DecideArgs),
    /// Fail it for good, with the comment
    Deny(DecideArgs),
}

#[derive(Debug, Args)]
pub struct LsArgs {
    /// Only of this namespace
    #[arg(long, value_parser = namespace)]
    namespace: Option<String>,
    /// Only of this workflow, and of the workflows in it
    #[arg(long, value_name = "ID")]
    workflow: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// Go on after this one: next_cursor of the page before
    #[arg(long, value_name = "ID")]
    cursor: Option<TaskId>,
}

#[derive(Debug, Args)]
pub struct DecideArgs {
    id: String,
    /// Why, for who asked
    #[arg(long, default_value = "")]
    comment: String,
    /// Who decides, for those who look later; without it the name of the user
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

#[derive(Serialize)]
struct Page<'a> {
    items: &'a [ApprovalView],
    next_cursor: Option<TaskId>,
}

impl ApprovalCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        match self {
            Self::Ls(args) => list(context, args).await,
            Self::Approve(args) => decide(context, args, true).await,
            Self::Deny(args) => decide(context, args, false).await,
        }
    }
}

async fn list(context: &Context, args: LsArgs) -> Result<Exit, CommandError> {
    let LsArgs { namespace, workflow, limit, cursor } = args;
    let of = match workflow {
        Some(typed) => Some(resolve(&context.link, Noun::Workflow, &typed).await?),
        None => None,
    };
    let request = ApprovalRequest::List { of, namespace, decided: false, cursor, limit };
    let (items, next_cursor) = match context.link.ledger(LedgerRequest::Approval(request)).await? {
        LedgerReply::Approval(reply) => match *reply {
            ApprovalReply::List { items, next_cursor } => (items, next_cursor),
            ApprovalReply::Decided(_) => return Err(unexpected()),
        },
        _ => return Err(unexpected()),
    };
    context.document(&Page { items: &items, next_cursor }, || text(&items, next_cursor))?;
    Ok(Exit::Ok)
}

fn text(items: &[ApprovalView], next_cursor: Option<TaskId>) -> String {
    if items.is_empty() {
        return "nothing waits for a decision\n".to_owned();
    }
    let now = human::now();
    let row = |view: &ApprovalView| {
        let step = human::or_dash(view.step.as_ref());
        let input = serde_json::to_string(&view.input).unwrap_or_default();
        // What others wrote is shown without what a terminal would obey.
        let input: String = input.chars().filter(|letter| !letter.is_control()).take(INPUT_CHARS_MAX).collect();
        let what = if view.held_call { "held call" } else { "approval" };
        [view.id.to_string(), what.to_owned(), step, view.owner.clone(), human::ago(Some(view.asked_at), now), input]
    };
    let mut text = table::rows(["ID", "WHAT", "STEP", "ASKED BY", "ASKED", "INPUT"], items.iter().map(row));
    if let Some(cursor) = next_cursor {
        text += &format!("more: --cursor {cursor}\n");
    }
    text
}

async fn decide(context: &Context, args: DecideArgs, approved: bool) -> Result<Exit, CommandError> {
    let id = resolve(&context.link, Noun::Task, &args.id).await?;
    let by = args
        .by
        .or_else(|| std::env::var("USER").ok())
        .unwrap_or_else(|| format!("uid-{}", rustix::process::getuid().as_raw()));
    let decision = Decision { approved, by: format!("operator:{by}"), comment: args.comment };
    let request = LedgerRequest::Approval(ApprovalRequest::Decide { id, decision });
    let deadline = context.link.submission_deadline(None).await?;
    // The same decision again changes nothing, so it may be said again where an answer was lost.
    let decided = match context.link.insist_ledger(request, ANSWER_PATIENCE, deadline).await? {
        LedgerReply::Approval(reply) => match *reply {
            ApprovalReply::Decided(decided) => decided,
            ApprovalReply::List { .. } => return Err(unexpected()),
        },
        _ => return Err(unexpected()),
    };
    context.document(&decided, || format!("{}\n", in_words(&decided)))?;
    Ok(Exit::Ok)
}

fn in_words(decided: &Decided) -> String {
    let Decided { id, state, words, .. } = decided;
    format!("{id} is {state}: {words}")
}
