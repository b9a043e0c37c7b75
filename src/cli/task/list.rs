//! `nodectl task ls`.

use std::collections::BTreeMap;

use clap::Args;
use magpie_core::ids::{PeerId, TaskId};
use magpie_core::queue::{LedgerReply, LedgerRequest, TaskFilter, TaskView};
use magpie_core::task::{TaskKind, TaskState};

use crate::cli::all_homes::{AllHomesArg, Listed, list};
use crate::cli::args::{Context, key_value, namespace};
use crate::cli::connection::unexpected;
use crate::cli::exit::{CommandError, Exit};
use crate::cli::id_prefix::{Noun, resolve};
use crate::cli::shapes::TaskDocument;
use crate::cli::{human, table};

#[derive(Debug, Args)]
pub struct LsArgs {
    /// Only tasks in this state
    #[arg(long)]
    state: Option<TaskState>,
    /// Only tasks of this kind
    #[arg(long, value_parser = kind)]
    kind: Option<TaskKind>,
    /// Only tasks of this workflow
    #[arg(long, value_name = "ID")]
    workflow: Option<String>,
    /// Only tasks of this namespace
    #[arg(long, value_parser = namespace)]
    namespace: Option<String>,
    /// Only tasks with this label; may be given again
    #[arg(long, value_name = "K=V", value_parser = key_value)]
    label: Vec<(String, String)>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Begin after this task: `next_cursor` of an earlier listing
    #[arg(long, value_name = "ID")]
    cursor: Option<TaskId>,
    #[command(flatten)]
    homes: AllHomesArg,
}

/// A kind by its name.
pub fn kind(text: &str) -> Result<TaskKind, String> {
    let names = || TaskKind::WRITTEN.map(TaskKind::name).join(", ");
    let found = TaskKind::WRITTEN.into_iter().find(|kind| kind.name() == text);
    found.ok_or_else(|| format!("{text:?} is not a kind ({})", names()))
}

impl LsArgs {
    pub async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        let workflow = match &self.workflow {
            Some(typed) => Some(resolve(&context.link, Noun::Workflow, typed).await?),
            None => None,
        };
        let filter = TaskFilter {
            state: self.state,
            kind: self.kind,
            workflow,
            namespace: self.namespace,
            labels: BTreeMap::from_iter(self.label),
        };
        let (link, scope) = (&context.link, self.homes.scope(context).await?);
        let page = async |home, cursor, limit| {
            let request = LedgerRequest::ListTasks { filter: filter.clone(), cursor, limit };
            match link.ledger_of(home, request).await? {
                LedgerReply::Tasks { items, next_cursor } => Ok((items, next_cursor)),
                _ => Err(unexpected()),
            }
        };
        let listed = list(link, &scope, self.cursor, self.limit as usize, |task: &TaskView| task.id, page).await?;
        let document = listed.document(TaskDocument::of);
        context.document(&document, || text(&listed, context.format.is_wide()))?;
        Ok(Exit::Ok)
    }
}

fn text(listed: &Listed<TaskView>, wide: bool) -> String {
    let rows = if wide { wide_rows(&listed.items) } else { rows(&listed.items) };
    rows + &listed.rest()
}

fn short(peer: Option<PeerId>) -> String {
    human::or_dash(peer.as_ref().map(human::short_peer))
}

fn rows(tasks: &[TaskView]) -> String {
    let now = human::now();
    let row = |task: &TaskView| {
        [
            task.id.to_string(),
            task.kind.to_string(),
            task.state.to_string(),
            task.attempts.to_string(),
            short(task.worker),
            human::ago(Some(task.created_at), now),
            human::took(task.started_at, task.finished_at, now),
        ]
    };
    table::rows(["TASK", "KIND", "STATE", "ATTEMPTS", "WORKER", "CREATED", "TOOK"], tasks.iter().map(row))
}

fn wide_rows(tasks: &[TaskView]) -> String {
    let now = human::now();
    let row = |task: &TaskView| {
        [
            task.id.to_string(),
            task.kind.to_string(),
            task.state.to_string(),
            task.priority.get().to_string(),
            task.attempts.to_string(),
            human::or_dash(task.worker),
            human::ago(Some(task.created_at), now),
            human::took(task.started_at, task.finished_at, now),
            human::or_dash(task.step.as_ref()),
            task.namespace.clone(),
            human::or_dash(task.error.as_ref()),
        ]
    };
    let header =
        ["TASK", "KIND", "STATE", "PRIORITY", "ATTEMPTS", "WORKER", "CREATED", "TOOK", "STEP", "NAMESPACE", "ERROR"];
    table::rows(header, tasks.iter().map(row))
}
