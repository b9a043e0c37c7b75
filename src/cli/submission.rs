//! A workflow or task file on its way to a home.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use magpie_core::dag::SpecError;
use magpie_core::ids::{ScheduleId, TaskId, WorkflowId};
use magpie_core::limits;
use magpie_core::queue::{LedgerReply, LedgerRequest, Refusal, ScheduleReply, SubmitAnswer, SubmitItem};
use magpie_core::task::{Durability, TaskSpec};
use magpie_core::time::Wall;

use super::connection::{ANSWER_PATIENCE, NodeLink, unexpected};
use super::deadline::Deadline;
use super::exit::{CommandError, Exit};
use super::spec_file::{SetInputError, Spec, SpecFile, SpecFileError, set_inputs};
use super::{operation, status, upload};
use crate::client::ClientError;
use crate::messages::Answer;

/// Set in the environment of every attempt.
const PARENT_VARIABLE: &str = "MAGPIE_TASK_ID";

/// What a file became.
#[derive(Debug, Clone, Copy)]
pub enum Submitted {
    Task(TaskId),
    Workflow(WorkflowId),
    Schedule { id: ScheduleId, next_at: Option<Wall> },
}

impl Submitted {
    pub fn id(self) -> TaskId {
        match self {
            Self::Task(id) | Self::Workflow(id) | Self::Schedule { id, .. } => id,
        }
    }
}

impl From<SpecFileError> for CommandError {
    fn from(error: SpecFileError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<SetInputError> for CommandError {
    fn from(error: SetInputError) -> Self {
        Self::usage(format!("--input: {error}"))
    }
}

/// Reads a workflow or task file, or standard input for `-`, and sets its parameters.
///
/// # Errors
/// Exit code 2 with the line of every problem.
pub async fn read(path: &Path, inputs: &[(String, String)]) -> Result<SpecFile, CommandError> {
    // A pipe may keep a reader waiting, and Ctrl-C must still be heard.
    let reading = {
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || read_now(&path))
    };
    let mut file = reading.await.map_err(|error| CommandError::new(Exit::Failed, error.to_string()))??;
    set_inputs(&mut file.document, inputs)?;
    Ok(file)
}

fn read_now(path: &Path) -> Result<SpecFile, CommandError> {
    Ok(if path == Path::new("-") { SpecFile::parse(path, standard_input()?)? } else { SpecFile::read(path)? })
}

fn standard_input() -> Result<String, CommandError> {
    let mut text = String::new();
    let most = limits::SPEC_BYTES_MAX;
    let read = std::io::stdin().take(most as u64 + 1).read_to_string(&mut text);
    read.map_err(|error| CommandError::usage(format!("cannot read standard input: {error}")))?;
    if text.len() > most {
        return Err(CommandError::usage(format!("standard input has more than {most} bytes")));
    }
    Ok(text)
}

/// Uploads the files that `file` names, and submits it.
///
/// # Errors
/// Why it was not accepted; what is wrong with the document, with its lines.
pub async fn submit(
    link: &NodeLink,
    path: &Path,
    file: &SpecFile,
    durability: Option<Durability>,
    deadline: Deadline,
) -> Result<Submitted, CommandError> {
    if !file.files.is_empty() {
        files_stay_here(link).await?;
    }
    let mut uploaded = BTreeMap::new();
    for local in &file.files {
        uploaded.insert(local, upload::file(link, &local.absolute, deadline).await?);
    }
    let submission = file.with_uploaded(|local| uploaded[local])?;
    let at_line = |errors: Vec<SpecError>| refused_at(path, file, &errors);
    match submission.spec {
        Spec::Workflow(mut spec) => {
            spec.durability = durability.unwrap_or(spec.durability);
            spec.parent = parent()?;
            let request = LedgerRequest::SubmitWorkflow { operation: operation::fresh(), spec: Arc::new(*spec) };
            match insist(link, request, deadline).await?.map_err(at_line)? {
                LedgerReply::WorkflowSubmitted { id } => Ok(Submitted::Workflow(id)),
                LedgerReply::Schedule(ScheduleReply::Made { id, next_at }) => Ok(Submitted::Schedule { id, next_at }),
                _ => Err(unexpected()),
            }
        }
        Spec::Task(mut spec) => {
            spec.durability = durability.unwrap_or(spec.durability);
            match one(link, *spec, deadline).await? {
                SubmitAnswer::Accepted { id } => Ok(Submitted::Task(id)),
                SubmitAnswer::Refused(Refusal::Invalid { errors }) => Err(at_line(errors)),
                SubmitAnswer::Refused(refusal) => Err(refusal.into()),
            }
        }
    }
}

/// Uploads go into this node's blob store, and a home hands out the files of its tasks from its own.
async fn files_stay_here(link: &NodeLink) -> Result<(), CommandError> {
    let Some(home) = link.home() else { return Ok(()) };
    if status::ask(link).await?.ledger.tag() == home {
        return Ok(());
    }
    Err(CommandError::usage("--home: this names local files, which only the home's own node can keep; submit it there"))
}

/// Submits one task that no file describes.
///
/// # Errors
/// Why it was not accepted.
pub async fn task(link: &NodeLink, spec: TaskSpec, deadline: Deadline) -> Result<TaskId, CommandError> {
    match one(link, spec, deadline).await? {
        SubmitAnswer::Accepted { id } => Ok(id),
        SubmitAnswer::Refused(refusal) => Err(refusal.into()),
    }
}

async fn one(link: &NodeLink, spec: TaskSpec, deadline: Deadline) -> Result<SubmitAnswer, CommandError> {
    tasks(link, vec![SubmitItem::one(spec)], deadline).await?.pop().ok_or_else(unexpected)
}

/// The task whose attempt this command is a part of: what it submits is cancelled with that.
fn parent() -> Result<Option<TaskId>, CommandError> {
    let Some(id) = std::env::var_os(PARENT_VARIABLE).filter(|id| !id.is_empty()) else { return Ok(None) };
    let id = id.to_string_lossy();
    let parsed = id.parse().map(Some);
    parsed.map_err(|error| CommandError::usage(format!("{PARENT_VARIABLE}: {error}; unset it")))
}

/// Submits a batch; each task has its answer, in order.
///
/// # Errors
/// Why the batch as a whole was not accepted.
pub async fn tasks(
    link: &NodeLink,
    mut items: Vec<SubmitItem>,
    deadline: Deadline,
) -> Result<Vec<SubmitAnswer>, CommandError> {
    if let Some(parent) = parent()? {
        items.iter_mut().for_each(|item| Arc::make_mut(&mut item.spec).parent = Some(parent));
    }
    let request = LedgerRequest::Submit { operation: operation::fresh(), items };
    match link.insist_ledger(request, ANSWER_PATIENCE, deadline).await? {
        LedgerReply::Submitted { answers } => Ok(answers),
        _ => Err(unexpected()),
    }
}

/// As [`NodeLink::insist_ledger`], with the problems of a document apart from all other errors.
async fn insist(
    link: &NodeLink,
    request: LedgerRequest,
    deadline: Deadline,
) -> Result<Result<LedgerReply, Vec<SpecError>>, CommandError> {
    match link.insist(&link.to_ledger(request), ANSWER_PATIENCE, deadline).await {
        Ok(Answer::Ledger(reply)) => Ok(Ok(reply)),
        Ok(_) => Err(unexpected()),
        Err(ClientError::Refused(Refusal::Invalid { errors })) => Ok(Err(errors)),
        Err(error) => Err(error.into()),
    }
}

/// What the home found wrong, as [`SpecFileError`] says what was found here.
fn refused_at(path: &Path, file: &SpecFile, errors: &[SpecError]) -> CommandError {
    let told = errors.iter().map(|error| match error.path.as_str() {
        "" => format!("{}: {}\n  = {}", path.display(), error.problem, error.fix),
        at => format!("{}:{}: {}\n  = {}", path.display(), file.lines.line_of(at), error.problem, error.fix),
    });
    CommandError::usage(told.collect::<Vec<_>>().join("\n"))
}
