//! `nodectl task ls`.

use std::collections::BTreeMap;

use clap::Args;
use magpie_core::ids::{PeerId, TaskId};
use magpie_core::limits;
use magpie_core::queue::{LedgerReply, LedgerRequest, TaskFilter, TaskView};
use magpie_core::task::{TaskKind, TaskState};
use serde::Serialize;

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
}

/// A kind by its name.
pub fn kind(text: &str) -> Result<TaskKind, String> {
    let names = || TaskKind::WRITTEN.map(TaskKind::name).join(", ");
    let found = TaskKind::WRITTEN.into_iter().find(|kind| kind.name() == text);
    found.ok_or_else(|| format!("{text:?} is not a kind ({})", names()))
}

#[derive(Serialize)]
struct Listing<'a> {
    items: Vec<TaskDocument<'a>>,
    next_cursor: Option<TaskId>,
    /// Homes that were asked in vain: none, since only this node's is asked.
    unreachable_homes: [PeerId; 0],
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
        let (tasks, next_cursor) = pages(context, &filter, self.cursor, self.limit as usize).await?;
        let items = tasks.iter().map(TaskDocument::of).collect();
        let listing = Listing { items, next_cursor, unreachable_homes: [] };
        context.format.document(&listing, || text(&tasks, next_cursor, context.format.is_wide()))?;
        Ok(Exit::Ok)
    }
}

async fn pages(
    context: &Context,
    filter: &TaskFilter,
    mut cursor: Option<TaskId>,
    limit: usize,
) -> Result<(Vec<TaskView>, Option<TaskId>), CommandError> {
    let mut tasks = Vec::new();
    loop {
        let limit_now = (limit - tasks.len()).min(limits::LIST_LEN_MAX);
        let request = LedgerRequest::ListTasks { filter: filter.clone(), cursor, limit: limit_now };
        let LedgerReply::Tasks { items, next_cursor } = context.link.ledger(request).await? else {
            return Err(unexpected());
        };
        tasks.extend(items);
        cursor = next_cursor;
        if cursor.is_none() || tasks.len() >= limit {
            return Ok((tasks, cursor));
        }
    }
}

fn text(tasks: &[TaskView], next: Option<TaskId>, wide: bool) -> String {
    let mut text = if wide { wide_rows(tasks) } else { rows(tasks) };
    if let Some(cursor) = next {
        text += &format!("more: --cursor {cursor}\n");
    }
    text
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
