//! `nodectl task submit`.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, ValueEnum};
use magpie_core::dag::{self, SpecError};
use magpie_core::ids::TaskId;
use magpie_core::task::{Durability, Priority, TaskKind};
use serde_json::{Map, Value, json};

use super::batch;
use super::follow::followed;
use super::list::kind;
use crate::cli::args::{Context, WaitArgs, key_value};
use crate::cli::deadline::Deadline;
use crate::cli::exit::{CommandError, Exit};
use crate::cli::home_arg::HomeArg;
use crate::cli::shapes::IdDocument;
use crate::cli::spec_file::SpecKind;
use crate::cli::submission;
use crate::cli::wait::Waited;

/// Submit a task file, JSON lines from standard input (-), or many tasks of one kind
///
/// Prints the id of each task, in order; of one that is refused, its line and why.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["file", "kind"]))]
pub struct SubmitArgs {
    /// A task file in YAML or JSON; - reads one JSON object a line
    file: Option<PathBuf>,
    /// Submit tasks of this kind
    #[arg(long, value_parser = kind)]
    kind: Option<TaskKind>,
    /// How many of them
    #[arg(long, value_name = "N", default_value_t = 1, requires = "kind", value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Their input, in JSON
    #[arg(long, value_name = "JSON", requires = "kind")]
    input: Option<String>,
    /// Their model
    #[arg(long, requires = "kind")]
    model: Option<String>,
    /// Their capability expression, as 'gpu.vram >= 16GiB'
    #[arg(long, value_name = "EXPRESSION", requires = "kind")]
    requires: Option<String>,
    /// Their priority: 0 runs first, 1000 last
    #[arg(long, value_name = "N", requires = "kind", value_parser = super::priority)]
    priority: Option<Priority>,
    /// A label of theirs; may be given again
    #[arg(long, value_name = "K=V", requires = "kind", value_parser = key_value)]
    label: Vec<(String, String)>,
    /// Their namespace: namespaces share a home by their weights
    #[arg(long, value_name = "NAME", requires = "kind")]
    namespace: Option<String>,
    /// At most as many of one key run at a time as its home's configuration says, or one: NAME or NAME@LEDGERTAG
    #[arg(long, value_name = "KEY", requires = "kind")]
    concurrency_key: Option<String>,
    /// They start at most as often as the configuration says for this key: NAME or NAME@LEDGERTAG
    #[arg(long, value_name = "KEY", requires = "kind")]
    rate_key: Option<String>,
    /// How much of a crash the acknowledgement survives, whatever the file says
    #[arg(long, value_enum)]
    durability: Option<DurabilityArg>,
    #[command(flatten)]
    home: HomeArg,
    #[command(flatten)]
    wait: WaitArgs,
    /// The command of a process
    #[arg(last = true, value_name = "COMMAND", requires = "kind")]
    run: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum DurabilityArg {
    /// Lost with the process
    Memory,
    /// With the kernel, on disk within 100 ms
    Async,
    /// On disk
    Sync,
}

impl From<DurabilityArg> for Durability {
    fn from(arg: DurabilityArg) -> Self {
        match arg {
            DurabilityArg::Memory => Self::Memory,
            DurabilityArg::Async => Self::Async,
            DurabilityArg::Sync => Self::Sync,
        }
    }
}

impl SubmitArgs {
    pub async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        self.home.address(context).await?;
        let durability = self.durability.map(Durability::from);
        match (&self.file, self.kind) {
            (Some(path), _) if path == Path::new("-") => {
                let lines = batch::Lines::of_stdin(durability);
                batch::submit(context, lines, &self.wait).await
            }
            (Some(path), _) => one(context, path, durability, &self.wait).await,
            (None, Some(kind)) => {
                let mut spec = dag::parse_task(&self.document(kind)?).map_err(|errors| wrong(&errors))?;
                spec.durability = durability.unwrap_or(spec.durability);
                if self.count > 1 {
                    return batch::submit(context, batch::Lines::repeated(spec, self.count), &self.wait).await;
                }
                let by = context.link.submission_deadline(self.wait.timeout).await?;
                let id = submission::task(&context.link, spec, by).await?;
                end(context, id, &self.wait).await
            }
            (None, None) => Err(CommandError::usage("name a task file, or --kind")),
        }
    }

    /// The task file that would say the same.
    fn document(&self, kind: TaskKind) -> Result<Value, CommandError> {
        let mut document = Map::from_iter([("kind".to_owned(), json!(kind))]);
        let mut set = |key: &str, value: Value| document.insert(key.to_owned(), value);
        if let Some(text) = &self.input {
            let value: Value = serde_json::from_str(text).map_err(|error| {
                CommandError::usage(format!("--input is not JSON: {error}; quote a text as '\"text\"'"))
            })?;
            set("input", value);
        }
        let texts = [
            ("model", &self.model),
            ("requires", &self.requires),
            ("namespace", &self.namespace),
            ("concurrency_key", &self.concurrency_key),
            ("rate_key", &self.rate_key),
        ];
        for (key, text) in texts {
            if let Some(text) = text {
                set(key, json!(text));
            }
        }
        if let Some(priority) = self.priority {
            set("priority", json!(priority));
        }
        if !self.label.is_empty() {
            set("labels", self.label.iter().map(|(key, value)| (key.clone(), json!(value))).collect());
        }
        if !self.run.is_empty() {
            set("run", json!(self.run));
        }
        Ok(Value::Object(document))
    }
}

fn wrong(errors: &[SpecError]) -> CommandError {
    let told = errors.iter().map(|error| match error.path.split('/').nth(1) {
        Some(field) => format!("{field}: {} ({})", error.problem, error.fix),
        None => format!("{} ({})", error.problem, error.fix),
    });
    CommandError::usage(told.collect::<Vec<_>>().join("; "))
}

/// Submits a task file.
async fn one(
    context: &Context,
    path: &Path,
    durability: Option<Durability>,
    wait: &WaitArgs,
) -> Result<Exit, CommandError> {
    let file = submission::read(path, &[]).await?;
    if file.kind == SpecKind::Workflow {
        let what = format!("{} is a workflow: submit it with `nodectl run`", path.display());
        return Err(CommandError::usage(what));
    }
    let by = context.link.submission_deadline(wait.timeout).await?;
    let id = submission::submit(&context.link, path, &file, durability, by).await?.id();
    end(context, id, wait).await
}

/// Waits for the end of a task, and prints the task.
pub async fn until_end(context: &Context, id: TaskId, wait: &WaitArgs) -> Result<Exit, CommandError> {
    context.goes_on(format!("task {id} goes on"));
    let view = followed(context, id, Deadline::within(wait.timeout)).await?;
    super::print(context, &view)?;
    Ok(view.exit())
}

/// Prints the id of a task, or waits for its end and prints the task.
async fn end(context: &Context, id: TaskId, wait: &WaitArgs) -> Result<Exit, CommandError> {
    if !wait.wait {
        context.format.line(&IdDocument { id }, || id.to_string())?;
        return Ok(Exit::Ok);
    }
    until_end(context, id, wait).await
}
