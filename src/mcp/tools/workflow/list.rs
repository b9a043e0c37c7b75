//! The workflows of the node's home.

use magpie_core::queue::{LedgerReply, LedgerRequest, WorkflowState, WorkflowSummary};
use magpie_core::task::TaskState;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::detail::{LIMIT, LIMIT_MAX, wrong_cursor};
use super::super::status;
use crate::mcp::answer::ToolError;
use crate::mcp::handler::{Call, Handler};
use crate::mcp::link::{self, PATIENCE};

pub struct ListWorkflows;

#[derive(Deserialize, JsonSchema)]
pub struct ListWorkflowsInput {
    /// running, completed, failed or cancelled.
    status: Option<String>,
    /// At most 100.
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct ListWorkflowsOutput {
    ok: bool,
    /// Oldest first.
    workflows: Vec<WorkflowRow>,
    count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct WorkflowRow {
    workflow_id: String,
    name: String,
    status: String,
    state: String,
    steps: usize,
    tasks_done: u64,
    tasks_failed: u64,
    tasks: u64,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<String>,
    /// The task that submitted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<String>,
}

impl WorkflowRow {
    fn of(workflow: &WorkflowSummary) -> Self {
        let tasks = &workflow.tasks;
        Self {
            workflow_id: workflow.id.to_string(),
            name: workflow.name.clone(),
            status: status::workflow_word(workflow.state).to_owned(),
            state: workflow.state.name().to_owned(),
            steps: workflow.steps,
            tasks_done: tasks.of(TaskState::Succeeded),
            tasks_failed: tasks.of(TaskState::Failed) + tasks.of(TaskState::Dead),
            tasks: tasks.total(),
            created_at: workflow.created_at.to_string(),
            finished_at: workflow.finished_at.map(|at| at.to_string()),
            parent: workflow.parent.map(|id| id.to_string()),
            schedule: workflow.schedule.map(|id| id.to_string()),
        }
    }
}

impl Handler for ListWorkflows {
    type Input = ListWorkflowsInput;
    type Output = ListWorkflowsOutput;

    async fn call(&self, input: ListWorkflowsInput, call: &Call<'_>) -> Result<ListWorkflowsOutput, ToolError> {
        let state = input.status.as_deref().filter(|word| *word != "all").map(state).transpose()?;
        let cursor = input.cursor.as_deref().map(|text| text.parse().map_err(|_| wrong_cursor(text))).transpose()?;
        let limit = input.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
        match call.link.ledger(LedgerRequest::ListWorkflows { state, namespace: None, cursor, limit }, PATIENCE).await?
        {
            LedgerReply::Workflows { items, next_cursor } => Ok(ListWorkflowsOutput {
                ok: true,
                count: items.len(),
                workflows: items.iter().map(WorkflowRow::of).collect(),
                next_cursor: next_cursor.map(|id| id.to_string()),
            }),
            _ => Err(link::unexpected()),
        }
    }
}

/// A state, in the seeds' word or in ours.
fn state(word: &str) -> Result<WorkflowState, ToolError> {
    let is_named = |state: &WorkflowState| status::workflow_word(*state) == word || state.name() == word;
    WorkflowState::ALL.into_iter().find(is_named).ok_or_else(|| {
        let shown: String = word.chars().take(40).collect();
        let expected = format!("one of {}", WorkflowState::ALL.map(status::workflow_word).join(", "));
        ToolError::wrong_argument("status", format!("{shown:?} is no status"), &expected, "leave it out for all")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_a_word_of_the_seeds_or_of_ours() {
        for known in WorkflowState::ALL {
            assert_eq!(state(status::workflow_word(known)), Ok(known));
            assert_eq!(state(known.name()), Ok(known));
        }
        assert_eq!(state("done").unwrap_err().field.as_deref(), Some("status"));
    }
}
