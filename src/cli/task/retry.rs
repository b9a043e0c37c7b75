//! `nodectl task retry`.

use clap::Args;
use magpie_core::ids::TaskId;
use magpie_core::queue::{LedgerReply, LedgerRequest, SubmitAnswer};
use serde::Serialize;

use super::submit::until_end;
use crate::cli::args::{Context, WaitArgs};
use crate::cli::connection::{ANSWER_PATIENCE, NodeLink, unexpected};
use crate::cli::deadline::Deadline;
use crate::cli::exit::{CommandError, Exit};
use crate::cli::id_prefix::{Noun, resolve};
use crate::cli::operation;

/// Run a failed, dead or cancelled task again, as a new task
///
/// A task is retried at most once: of one that was retried before, prints the task that took its place.
#[derive(Debug, Args)]
pub struct RetryArgs {
    id: String,
    #[command(flatten)]
    wait: WaitArgs,
}

/// Of a retry: the new task, and the one whose place it takes.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct RetryDocument {
    pub id: TaskId,
    pub retry_of: TaskId,
}

impl RetryArgs {
    pub async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        let deadline = context.link.submission_deadline(self.wait.timeout).await?;
        let retry_of = resolve(&context.link, Noun::Task, &self.id).await?;
        let mut answers = retry(&context.link, vec![retry_of], deadline).await?;
        let id = match answers.pop().ok_or_else(unexpected)? {
            SubmitAnswer::Accepted { id } => id,
            SubmitAnswer::Refused(refusal) => return Err(refusal.into()),
        };
        if self.wait.wait {
            return until_end(context, id, &self.wait).await;
        }
        context.format.line(&RetryDocument { id, retry_of }, || id.to_string())?;
        Ok(Exit::Ok)
    }
}

/// Retries tasks of one home; each has its answer, in order.
///
/// # Errors
/// Why the home did not answer.
pub async fn retry(link: &NodeLink, ids: Vec<TaskId>, deadline: Deadline) -> Result<Vec<SubmitAnswer>, CommandError> {
    let request = LedgerRequest::RetryTasks { operation: operation::fresh(), ids };
    match link.insist_ledger(request, ANSWER_PATIENCE, deadline).await? {
        LedgerReply::Retried { answers } => Ok(answers),
        _ => Err(unexpected()),
    }
}
