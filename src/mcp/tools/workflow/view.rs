//! A workflow as answers show it.

use std::collections::BTreeMap;

use magpie_core::queue::{StepView, TaskCounts, WorkflowView};
use magpie_core::task::TaskState;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::super::detail::Detail;
use super::super::output::{self, OutputPart};
use super::super::status;
use super::super::task_queue::{ErrorShown, seconds};

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct StepRow {
    pub name: String,
    pub status: String,
    pub state: String,
    /// Of a step that is one task: p2p_taskqueue_get_task shows its output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// Its tasks by state.
    pub tasks: BTreeMap<&'static str, u64>,
    pub attempts: u32,
    /// Why it is skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The state of the task that undoes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compensation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorShown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_part: Option<OutputPart>,
    /// Succeeded tasks by the peer that ran them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub workers: BTreeMap<String, u64>,
    /// Processor and GPU time of its tasks, in seconds, where it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_s: Option<f64>,
}

impl StepRow {
    /// With `detail: full`, inline outputs too.
    pub fn of(step: &StepView, detail: Detail) -> Self {
        let full = detail.is_full();
        let output = step.output.as_ref().filter(|_| full);
        let shown = match output {
            Some(magpie_core::payload::Payload::Inline(text)) => output::shown(text.as_str(), 0, Detail::Concise),
            Some(blob) => output::Shown { value: serde_json::to_value(blob).ok(), part: None },
            None => output::Shown::default(),
        };
        let workers = step.workers.iter().filter(|_| full).map(|(peer, count)| (peer.to_string(), *count));
        Self {
            name: step.name.clone(),
            status: status::word(step.state).to_owned(),
            state: step.state.to_string(),
            task_id: step.task_id.map(|id| id.to_string()),
            worker: step.worker.map(|peer| peer.to_string()),
            tasks: by_state(&step.tasks),
            attempts: step.attempts,
            reason: step.reason.clone(),
            compensation: step.compensation.as_ref().map(|undo| undo.state.to_string()),
            error: step.error.as_ref().map(ErrorShown::from),
            output: shown.value,
            output_part: shown.part,
            workers: workers.collect(),
            cpu_s: step.used.cpu_us.filter(|_| full).map(seconds),
            gpu_s: step.used.gpu_us.filter(|_| full).map(seconds),
        }
    }
}

/// The states that any task is in.
fn by_state(counts: &TaskCounts) -> BTreeMap<&'static str, u64> {
    let present = TaskState::ALL.into_iter().filter(|state| counts.of(*state) > 0);
    present.map(|state| (state.name(), counts.of(state))).collect()
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Progress {
    pub total: u64,
    pub completed: u64,
    pub running: u64,
    pub failed: u64,
    pub pending: u64,
}

impl Progress {
    pub fn of(view: &WorkflowView) -> Self {
        let mut progress = Self::default();
        for state in TaskState::ALL {
            let count = view.summary.tasks.of(state);
            progress.total += count;
            match status::word(state) {
                "completed" => progress.completed += count,
                "running" => progress.running += count,
                "queued" => progress.pending += count,
                _ => progress.failed += count,
            }
        }
        progress
    }
}
