//! `nodectl workflow`.

use clap::{Args, Subcommand, ValueEnum};
use magpie_core::ids::WorkflowId;
use magpie_core::queue::{LedgerReply, LedgerRequest, WorkflowState, WorkflowSummary, WorkflowView};
use magpie_core::task::TaskState;
use serde_json::json;

use super::all_homes::{AllHomesArg, list};
use super::args::{Context, WaitArgs};
use super::connection::{ANSWER_PATIENCE, unexpected};
use super::deadline::Deadline;
use super::exit::{CommandError, Exit};
use super::id_prefix::{Noun, resolve};
use super::run::{self, RunArgs};
use super::shapes::{WorkflowDocument, outputs};
use super::spec_file::SpecKind;
use super::task::{self, CancelArgs, EndArgs};
use super::wait::{STEP_MAX, Waited, until_terminal};
use super::{human, operation, output, table};

#[derive(Debug, Subcommand)]
pub enum WorkflowCommand {
    /// Submit a workflow file
    Submit(RunArgs),
    /// List workflows of this home, the oldest first
    Ls(LsArgs),
    /// Show a workflow with its steps and outputs
    Get { id: String },
    /// Wait for the end of a workflow, showing its progress; the exit code tells the outcome
    Wait(EndArgs),
    /// Draw the steps of a workflow and what they need
    Graph {
        id: String,
        #[arg(long, value_enum, default_value = "mermaid")]
        format: GraphFormat,
    },
    /// Print the outputs of a workflow
    Result(EndArgs),
    /// Cancel a workflow and all its tasks
    Cancel(CancelArgs),
    /// Run a failed or cancelled workflow again from where it failed
    ///
    /// What succeeded keeps its results; what failed and what follows from it runs as new tasks.
    Retry(RetryArgs),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum GraphFormat {
    /// `{name, nodes, edges, critical_path}`
    Json,
    /// Graphviz
    Dot,
    /// Mermaid, as Markdown viewers draw it
    Mermaid,
}

#[derive(Debug, Args)]
pub struct RetryArgs {
    id: String,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Debug, Args)]
pub struct LsArgs {
    /// Only workflows in this state
    #[arg(long, value_parser = state)]
    state: Option<WorkflowState>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Begin after this workflow: `next_cursor` of an earlier listing
    #[arg(long, value_name = "ID")]
    cursor: Option<WorkflowId>,
    #[command(flatten)]
    homes: AllHomesArg,
}

fn state(text: &str) -> Result<WorkflowState, String> {
    let found = WorkflowState::ALL.into_iter().find(|state| state.name() == text);
    found.ok_or_else(|| format!("{text:?} is not a state ({})", WorkflowState::ALL.map(WorkflowState::name).join(", ")))
}

impl WorkflowCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        match self {
            Self::Submit(run) => run.run_as(context, Some(SpecKind::Workflow)).await,
            Self::Ls(list) => list.run(context).await,
            Self::Get { id } => {
                let view = view(context, &id).await?;
                context.document(&WorkflowDocument::of(&view), || run::text(&view))?;
                Ok(Exit::Ok)
            }
            Self::Wait(args) => {
                let until = context.link.wait_deadline(args.timeout).await?;
                let id = resolve(&context.link, Noun::Workflow, &args.id).await?;
                run::follow(context, id, until).await
            }
            Self::Graph { id, format } => graph(&view(context, &id).await?, format),
            Self::Result(args) => result(context, &args).await,
            Self::Cancel(args) => task::cancel(context, Noun::Workflow, &args).await,
            Self::Retry(args) => args.run(context).await,
        }
    }
}

impl RetryArgs {
    async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        let until = Deadline::within(self.wait.timeout);
        let by = context.link.submission_deadline(self.wait.timeout).await?;
        let id = resolve(&context.link, Noun::Workflow, &self.id).await?;
        let request = LedgerRequest::RetryWorkflow { operation: operation::fresh(), id };
        let LedgerReply::WorkflowRetried { steps, .. } =
            context.link.insist_ledger(request, ANSWER_PATIENCE, by).await?
        else {
            return Err(unexpected());
        };
        if self.wait.wait {
            return run::follow(context, id, until).await;
        }
        let document = json!({"id": id, "state": WorkflowState::Running, "steps": steps});
        context.document(&document, || format!("{id} is running again: {steps} of its steps\n"))?;
        Ok(Exit::Ok)
    }
}

impl LsArgs {
    async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        let (link, scope) = (&context.link, self.homes.scope(context).await?);
        let page = async |home, cursor, limit| {
            let request = LedgerRequest::ListWorkflows { state: self.state, namespace: None, cursor, limit };
            match link.ledger_of(home, request).await? {
                LedgerReply::Workflows { items, next_cursor } => Ok((items, next_cursor)),
                _ => Err(unexpected()),
            }
        };
        let id_of = |workflow: &WorkflowSummary| workflow.id;
        let listed = list(link, &scope, self.cursor, self.limit as usize, id_of, page).await?;
        let document = listed.document(|workflow| workflow);
        context.document(&document, || rows(&listed.items) + &listed.rest())?;
        Ok(Exit::Ok)
    }
}

fn rows(workflows: &[WorkflowSummary]) -> String {
    let now = human::now();
    let row = |workflow: &WorkflowSummary| {
        [
            workflow.id.to_string(),
            workflow.name.clone(),
            workflow.state.name().to_owned(),
            workflow.steps.to_string(),
            format!("{}/{}", workflow.tasks.of(TaskState::Succeeded), workflow.tasks.total()),
            human::ago(Some(workflow.created_at), now),
            human::took(Some(workflow.created_at), workflow.finished_at, now),
        ]
    };
    let header = ["WORKFLOW", "NAME", "STATE", "STEPS", "TASKS DONE", "CREATED", "TOOK"];
    table::rows(header, workflows.iter().map(row))
}

async fn view(context: &Context, id: &str) -> Result<WorkflowView, CommandError> {
    let id = resolve(&context.link, Noun::Workflow, id).await?;
    match context.link.ledger(LedgerRequest::GetWorkflow { id }).await? {
        LedgerReply::Workflow(view) => Ok(*view),
        _ => Err(unexpected()),
    }
}

fn graph(view: &WorkflowView, format: GraphFormat) -> Result<Exit, CommandError> {
    let (graph, drawing) = view.drawing().map_err(|error| CommandError::new(Exit::Failed, error.to_string()))?;
    output::print(&match format {
        GraphFormat::Json => format!("{}\n", output::json_pretty(&graph.to_json(&drawing))),
        GraphFormat::Dot => graph.to_dot(&drawing),
        GraphFormat::Mermaid => graph.to_mermaid(&drawing),
    })?;
    Ok(Exit::Ok)
}

async fn result(context: &Context, args: &EndArgs) -> Result<Exit, CommandError> {
    let view = match args.timeout {
        None => view(context, &args.id).await?,
        Some(_) => {
            let until = context.link.wait_deadline(args.timeout).await?;
            let id = resolve(&context.link, Noun::Workflow, &args.id).await?;
            until_terminal(&context.link, id, until, STEP_MAX, |_: &WorkflowView| {}).await?
        }
    };
    let (id, state) = (view.summary.id, view.summary.state);
    if state == WorkflowState::Succeeded {
        let outputs = outputs(&view);
        context.document(&outputs, || format!("{}\n", output::json_pretty(&outputs)))?;
        return Ok(view.exit());
    }
    if !state.is_terminal() {
        let what = format!("{id} is running: it has no outputs yet; wait for them with --timeout");
        return Err(CommandError::new(Exit::TimedOut, what));
    }
    let why = view.error.map(|error| format!(": {error}")).unwrap_or_default();
    Err(CommandError::new(Exit::Failed, format!("{id} has no outputs, it is {}{why}", state.name())))
}
