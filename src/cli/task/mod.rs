//! `nodectl task`.

mod batch;
mod follow;
mod lines;
mod list;
mod logs;
mod reader;
mod result;
mod retry;
mod show;
mod submit;

pub use retry::{RetryDocument, retry};
pub use show::text as show_text;

use std::time::Duration;

pub use self::follow::followed;

use clap::{Args, Subcommand};
use magpie_core::queue::{LedgerReply, LedgerRequest, TaskView};
use magpie_core::task::{Priority, TaskState};
use serde_json::json;

use super::args::{Context, duration};
use super::connection::{ANSWER_PATIENCE, unexpected};
use super::exit::{CommandError, Exit};
use super::id_prefix::{Noun, resolve};
use super::shapes::TaskDocument;
use super::wait::Waited;
use super::{human, operation, table};

#[derive(Debug, Subcommand)]
pub enum TaskCommand {
    Submit(submit::SubmitArgs),
    /// List tasks of this home, the oldest first
    Ls(list::LsArgs),
    /// Show a task; of one that no node can run, what each node lacks
    Get {
        id: String,
    },
    /// Wait for the end of a task; the exit code tells the outcome
    Wait(EndArgs),
    /// Print the output of a task
    Result(EndArgs),
    Logs(logs::LogsArgs),
    /// Cancel a task
    Cancel(CancelArgs),
    Retry(retry::RetryArgs),
    /// Let a task run earlier or later: 0 runs first, 1000 last
    Priority {
        id: String,
        #[arg(value_parser = priority)]
        priority: Priority,
    },
    /// Say why a task does not run
    WhyPending {
        id: String,
    },
}

#[derive(Debug, Args)]
pub struct EndArgs {
    pub id: String,
    /// Give up waiting after this long: 200ms, 5s, 10m, 1h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub struct CancelArgs {
    pub id: String,
    /// Why, for those who look later
    #[arg(long, default_value = "cancelled by nodectl")]
    pub reason: String,
}

/// 0 to 1000.
pub fn priority(text: &str) -> Result<Priority, String> {
    let number: u16 = text.parse().map_err(|_| "a priority is 0 (first) to 1000 (last)".to_owned())?;
    Priority::try_from(number).map_err(|error| error.to_string())
}

impl TaskCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        match self {
            Self::Submit(submit) => submit.run(context).await,
            Self::Ls(list) => list.run(context).await,
            Self::Get { id } => get(context, &id).await,
            Self::Wait(wait) => wait_for(context, &wait).await,
            Self::Result(end) => result::task(context, &end).await,
            Self::Logs(logs) => logs.run(context).await,
            Self::Cancel(args) => cancel(context, Noun::Task, &args).await,
            Self::Retry(retry) => retry.run(context).await,
            Self::Priority { id, priority } => set_priority(context, &id, priority).await,
            Self::WhyPending { id } => why_pending(context, &id).await,
        }
    }
}

async fn get(context: &Context, id: &str) -> Result<Exit, CommandError> {
    let id = resolve(&context.link, Noun::Task, id).await?;
    match context.link.ledger(LedgerRequest::GetTask { id }).await? {
        LedgerReply::Task(view) => print(context, &view)?,
        _ => return Err(unexpected()),
    }
    Ok(Exit::Ok)
}

/// Prints a task as `get` does.
pub fn print(context: &Context, view: &TaskView) -> Result<(), CommandError> {
    context.document(&TaskDocument::of(view), || show::text(view, human::now()))
}

async fn wait_for(context: &Context, args: &EndArgs) -> Result<Exit, CommandError> {
    let deadline = context.link.wait_deadline(args.timeout).await?;
    let id = resolve(&context.link, Noun::Task, &args.id).await?;
    context.goes_on(format!("task {id} goes on"));
    let view = followed(context, id, deadline).await?;
    print(context, &view)?;
    Ok(view.exit())
}

/// Cancels a task or a workflow: of what was cancelled before, it is done; what ended otherwise stays so.
pub async fn cancel(context: &Context, noun: Noun, args: &CancelArgs) -> Result<Exit, CommandError> {
    let deadline = context.link.submission_deadline(None).await?;
    let id = resolve(&context.link, noun, &args.id).await?;
    let request = LedgerRequest::Cancel { operation: operation::fresh(), id, reason: args.reason.clone() };
    let LedgerReply::Cancelled { state } = context.link.insist_ledger(request, ANSWER_PATIENCE, deadline).await? else {
        return Err(unexpected());
    };
    context.document(&json!({"id": id, "state": state}), || format!("{id} is {state}\n"))?;
    match state {
        TaskState::Cancelled => Ok(Exit::Ok),
        ended => Err(CommandError::new(Exit::Refused, format!("{id} had {ended} before it could be cancelled"))),
    }
}

async fn set_priority(context: &Context, id: &str, priority: Priority) -> Result<Exit, CommandError> {
    let deadline = context.link.submission_deadline(None).await?;
    let id = resolve(&context.link, Noun::Task, id).await?;
    let request = LedgerRequest::SetPriority { operation: operation::fresh(), id, priority };
    let LedgerReply::PrioritySet { priority } = context.link.insist_ledger(request, ANSWER_PATIENCE, deadline).await?
    else {
        return Err(unexpected());
    };
    let document = json!({"id": id, "priority": priority});
    context.document(&document, || format!("{id} has priority {}\n", priority.get()))?;
    Ok(Exit::Ok)
}

async fn why_pending(context: &Context, id: &str) -> Result<Exit, CommandError> {
    let id = resolve(&context.link, Noun::Task, id).await?;
    let LedgerReply::Pending(view) = context.link.ledger(LedgerRequest::WhyPending { id }).await? else {
        return Err(unexpected());
    };
    context.document(&view, || {
        let mut text = table::details([
            ("task", view.id.to_string()),
            ("state", view.state.to_string()),
            ("why", view.reason.clone()),
            ("ahead of it", view.ahead.to_string()),
        ]);
        if !view.nodes.is_empty() {
            text += &format!("\n{}", show::unmet(&view.nodes));
        }
        text
    })?;
    Ok(Exit::Ok)
}
