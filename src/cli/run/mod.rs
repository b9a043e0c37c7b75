//! `nodectl run`, and how a workflow is shown.

mod plan;
mod progress;
mod show;

use std::path::{Path, PathBuf};

use clap::Args;
use magpie_core::ids::{ScheduleId, TaskId, WorkflowId};
use magpie_core::queue::WorkflowView;
use magpie_core::time::Wall;
use serde_json::json;

pub use show::text;

use super::args::{Context, WaitArgs, key_value};
use super::deadline::Deadline;
use super::exit::{CommandError, Exit};
use super::home_arg::HomeArg;
use super::shapes::{IdDocument, WorkflowDocument};
use super::spec_file::SpecKind;
use super::submission::{self, Submitted};
use super::wait::{STEP_MAX, Waited, until_terminal};
use super::{human, task};

/// Submit a workflow or task file
///
/// Prints its id; with --wait its progress on a terminal, then its outputs.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// A workflow or task file in YAML or JSON; - reads standard input
    file: PathBuf,
    /// Set a parameter of the file; may be given again
    #[arg(long, value_name = "K=V", value_parser = key_value)]
    input: Vec<(String, String)>,
    /// Print what would be done, and submit nothing
    #[arg(long, conflicts_with_all = ["wait", "timeout"])]
    dry_run: bool,
    #[command(flatten)]
    home: HomeArg,
    #[command(flatten)]
    wait: WaitArgs,
}

impl RunArgs {
    pub async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        self.run_as(context, None).await
    }

    /// As `run`, of a file that must be of `kind`.
    pub async fn run_as(self, context: &Context, kind: Option<SpecKind>) -> Result<Exit, CommandError> {
        let file = submission::read(&self.file, &self.input).await?;
        if kind.is_some_and(|kind| kind != file.kind) {
            return Err(CommandError::usage(other_kind(&self.file)));
        }
        if self.dry_run {
            return plan::print(context, &file);
        }
        if self.wait.wait && file.document.get("schedule").is_some_and(|schedule| !schedule.is_null()) {
            let what = "--wait: a schedule does not end; leave it out, and see `nodectl schedule get ID`";
            return Err(CommandError::usage(what));
        }
        self.home.address(context).await?;
        let until = Deadline::within(self.wait.timeout);
        let by = context.link.submission_deadline(self.wait.timeout).await?;
        let submitted = submission::submit(&context.link, &self.file, &file, None, by).await?;
        if let Submitted::Schedule { id, next_at } = submitted {
            return made(context, id, next_at);
        }
        let id = submitted.id();
        if !self.wait.wait {
            context.document(&IdDocument { id }, || format!("{id}\n"))?;
            return Ok(Exit::Ok);
        }
        match submitted {
            Submitted::Workflow(id) | Submitted::Schedule { id, .. } => follow(context, id, until).await,
            Submitted::Task(id) => follow_task(context, id, until).await,
        }
    }
}

/// Says that a file made a schedule, and when it fires.
fn made(context: &Context, id: ScheduleId, next_at: Option<Wall>) -> Result<Exit, CommandError> {
    let document = json!({"id": id, "schedule": true, "next_at": next_at});
    context.document(&document, || match next_at {
        Some(next) => {
            format!("{id} is a schedule; its first run is {}, at {next}\n", human::ahead(next_at, human::now()))
        }
        None => format!("{id} is a schedule without a time to come\n"),
    })?;
    Ok(Exit::Ok)
}

fn other_kind(path: &Path) -> String {
    format!("{} is a task: submit it with `nodectl task submit` or `nodectl run`", path.display())
}

/// Waits for a workflow, shows its progress on a terminal, prints it; the outcome is the exit code.
pub async fn follow(context: &Context, id: WorkflowId, until: Deadline) -> Result<Exit, CommandError> {
    context.goes_on(format!("workflow {id} goes on"));
    let mut progress = progress::Progress::on_a_terminal();
    let step = progress.as_ref().map_or(STEP_MAX, |_| progress::REFRESH);
    let seen = |view: &WorkflowView| progress.iter_mut().for_each(|progress| progress.show(view));
    let ended: Result<WorkflowView, _> = until_terminal(&context.link, id, until, step, seen).await;
    drop(progress);
    let view = ended?;
    context.document(&WorkflowDocument::of(&view), || show::text(&view))?;
    Ok(view.exit())
}

async fn follow_task(context: &Context, id: TaskId, until: Deadline) -> Result<Exit, CommandError> {
    context.goes_on(format!("task {id} goes on"));
    let view = task::followed(context, id, until).await?;
    task::print(context, &view)?;
    Ok(view.exit())
}
