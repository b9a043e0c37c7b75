//! What a dashboard shows: totals of the mesh as this node knows it, and what its devices did.

use magpie_core::task::TaskState;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::machines;
use super::status::word;
use crate::mcp::answer::ToolError;
use crate::mcp::handler::{Call, Handler};
use crate::mcp::link::PATIENCE;
use crate::messages::device::DeviceView;

pub struct DashboardMetrics;

#[derive(Deserialize, JsonSchema)]
pub struct DashboardInput {
    /// Of metrics; all unless said.
    metrics: Option<Vec<String>>,
}

#[derive(Serialize, JsonSchema)]
pub struct DashboardOutput {
    ok: bool,
    /// Totals are kept, and no history of them: the seeds' time_range cannot be answered.
    window: &'static str,
    metrics: Metrics,
}

/// Those that were asked for.
#[derive(Serialize, JsonSchema)]
struct Metrics {
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks_submitted: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks_queued: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks_running: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks_completed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks_failed: Option<u64>,
    /// Of the tasks that completed or failed, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workflows_running: Option<u64>,
    /// Texts that the devices of this node embedded since it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    inference_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peers_alive: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uptime_ms: Option<u64>,
}

const NAMES: [&str; 10] = [
    "tasks_submitted",
    "tasks_queued",
    "tasks_running",
    "tasks_completed",
    "tasks_failed",
    "error_rate",
    "workflows_running",
    "inference_count",
    "peers_alive",
    "uptime_ms",
];

impl Handler for DashboardMetrics {
    type Input = DashboardInput;
    type Output = DashboardOutput;

    async fn call(&self, input: DashboardInput, call: &Call<'_>) -> Result<DashboardOutput, ToolError> {
        if let Some(unknown) = input.metrics.iter().flatten().find(|name| !NAMES.contains(&name.as_str())) {
            let shown: String = unknown.chars().take(40).collect();
            let expected = NAMES.join(", ");
            let fix = format!("leave metrics out for all, or take of {expected}");
            return Err(ToolError::wrong_argument("metrics", format!("{shown:?} is not measured"), &expected, fix));
        }
        let asked = |name: &str| input.metrics.as_ref().is_none_or(|names| names.iter().any(|asked| asked == name));
        let status = call.link.status(PATIENCE).await?;
        let counts = status.queue.counts;
        let of = |wanted: &str| -> u64 {
            TaskState::ALL.into_iter().filter(|state| word(*state) == wanted).map(|state| counts.of(state)).sum()
        };
        let (completed, failed) = (of("completed"), of("failed"));
        let ended = completed + failed;
        let error_rate = (ended > 0).then(|| failed as f64 / ended as f64);
        Ok(DashboardOutput {
            ok: true,
            window: "tasks: since this home's ledger was created; inference: since this node started",
            metrics: Metrics {
                tasks_submitted: asked("tasks_submitted").then_some(status.queue.submitted),
                tasks_queued: asked("tasks_queued").then(|| of("queued")),
                tasks_running: asked("tasks_running").then(|| of("running")),
                tasks_completed: asked("tasks_completed").then_some(completed),
                tasks_failed: asked("tasks_failed").then_some(failed),
                error_rate: error_rate.filter(|_| asked("error_rate")),
                workflows_running: asked("workflows_running").then_some(status.queue.workflows_running),
                inference_count: asked("inference_count")
                    .then(|| status.devices.iter().map(|device| device.texts).sum()),
                peers_alive: asked("peers_alive").then(|| machines::alive(&status).len() - 1),
                uptime_ms: asked("uptime_ms").then_some(status.uptime_ms),
            },
        })
    }
}

pub struct ModelUsage;

#[derive(Deserialize, JsonSchema)]
pub struct ModelUsageInput {
    /// Only devices that have it loaded.
    model: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct ModelUsageOutput {
    ok: bool,
    /// What is counted is counted by device, since this node started.
    window: &'static str,
    devices: Vec<UsageRow>,
}

#[derive(Serialize, JsonSchema)]
struct UsageRow {
    device: String,
    /// All that share the counters.
    models: Vec<String>,
    batches: u64,
    texts: u64,
    tokens: u64,
    /// Time inside the device's process.
    busy_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_per_s: Option<f64>,
}

impl UsageRow {
    fn of(device: DeviceView) -> Self {
        let DeviceView { name, models, batches, texts, tokens, busy_ms, .. } = device;
        let tokens_per_s = (busy_ms > 0).then(|| (tokens as f64 * 1_000.0 / busy_ms as f64).round());
        Self { device: name, models, batches, texts, tokens, busy_ms, tokens_per_s }
    }
}

impl Handler for ModelUsage {
    type Input = ModelUsageInput;
    type Output = ModelUsageOutput;

    async fn call(&self, input: ModelUsageInput, call: &Call<'_>) -> Result<ModelUsageOutput, ToolError> {
        let status = call.link.status(PATIENCE).await?;
        let has = |device: &DeviceView| input.model.as_ref().is_none_or(|model| device.models.contains(model));
        let devices = status.devices.into_iter().filter(has).map(UsageRow::of).collect();
        Ok(ModelUsageOutput { ok: true, window: "since this node started, on this node", devices })
    }
}
