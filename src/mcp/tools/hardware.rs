//! What the machines of the mesh have, and what of it works.

use magpie_core::matching::Capabilities;
use magpie_core::task::TaskState;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::detail::page;
use super::follow;
use super::machines::{self, Hardware, Machine};
use super::task_queue::{self, Submitted};
use crate::mcp::answer::{Next, ToolError};
use crate::mcp::handler::{Call, Handler};
use crate::mcp::link::PATIENCE;
use crate::messages::device::DeviceView;

pub struct DetectHardware;

#[derive(Deserialize, JsonSchema)]
pub struct DetectHardwareInput {
    /// Show the other nodes' too.
    #[serde(default)]
    #[schemars(with = "Option<bool>")]
    include_peers: bool,
    /// At most 100.
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct DetectHardwareOutput {
    ok: bool,
    /// This node's is the first.
    machines: Vec<MachineRow>,
    total: usize,
    /// What computes on this node.
    devices: Vec<DeviceRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct MachineRow {
    peer_id: String,
    arch: String,
    os: String,
    cpus: u32,
    memory_bytes: u64,
    gpus: Vec<GpuRow>,
    /// What models can run on there.
    hardware: Vec<Hardware>,
}

#[derive(Serialize, JsonSchema)]
struct GpuRow {
    name: String,
    vram_bytes: u64,
}

#[derive(Serialize, JsonSchema)]
struct DeviceRow {
    name: String,
    /// ready, starting or unavailable.
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    torch_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    threads: Option<u32>,
    models: Vec<String>,
}

impl MachineRow {
    fn of(machine: &Machine<'_>) -> Self {
        let Capabilities { arch, os, cpus, memory_bytes, gpus, .. } = machine.capabilities;
        let gpu = |gpu: &magpie_core::matching::Gpu| GpuRow { name: gpu.name.clone(), vram_bytes: gpu.vram_bytes };
        Self {
            peer_id: machine.peer_id.to_string(),
            arch: arch.clone(),
            os: os.clone(),
            cpus: *cpus,
            memory_bytes: *memory_bytes,
            gpus: gpus.iter().map(gpu).collect(),
            hardware: [Hardware::Cpu, Hardware::Cuda].into_iter().filter(|which| machine.has(*which)).collect(),
        }
    }
}

impl DeviceRow {
    fn of(device: DeviceView) -> Self {
        let DeviceView { name, state, why, torch_version, threads, models, .. } = device;
        Self { name, state, why, torch_version, threads, models }
    }
}

impl Handler for DetectHardware {
    type Input = DetectHardwareInput;
    type Output = DetectHardwareOutput;

    async fn call(&self, input: DetectHardwareInput, call: &Call<'_>) -> Result<DetectHardwareOutput, ToolError> {
        let status = call.link.status(PATIENCE).await?;
        let machines = machines::alive(&status);
        let shown: Vec<MachineRow> =
            machines.iter().filter(|machine| machine.own || input.include_peers).map(MachineRow::of).collect();
        let total = shown.len();
        let (machines, next_cursor) = page(shown, input.cursor.as_deref(), input.limit)?;
        let devices = status.devices.into_iter().map(DeviceRow::of).collect();
        Ok(DetectHardwareOutput { ok: true, machines, total, devices, next_cursor })
    }
}

pub struct TestHardware;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TestMode {
    /// Run a model there.
    #[default]
    Inference,
    /// Show the memory.
    Memory,
}

#[derive(Deserialize, JsonSchema)]
pub struct TestHardwareInput {
    /// cpu or cuda.
    hardware_type: String,
    #[serde(default)]
    #[schemars(with = "Option<TestMode>")]
    test_mode: TestMode,
    /// One that is loaded there; else any.
    model: Option<String>,
    /// Wait for the result, at most 25000.
    wait_ms: Option<u64>,
    idempotency_key: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct TestHardwareOutput {
    ok: bool,
    hardware: Hardware,
    /// Whether a node of the mesh has it.
    available: bool,
    /// Whether the test's task succeeded on a machine that has it; not there: it was not run, or is not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    works: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// The most that one machine has: memory, or that of a GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    /// The test's task.
    #[serde(skip_serializing_if = "Option::is_none")]
    task_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ran_on: Option<String>,
    /// From the attempt's start to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    took_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Next>,
}

impl TestHardwareOutput {
    fn not_run(hardware: Hardware, available: bool) -> Self {
        Self {
            ok: true,
            hardware,
            available,
            works: None,
            why: None,
            memory_bytes: None,
            model: None,
            task_id: None,
            ran_on: None,
            took_ms: None,
            next: None,
        }
    }
}

impl Handler for TestHardware {
    type Input = TestHardwareInput;
    type Output = TestHardwareOutput;

    async fn call(&self, input: TestHardwareInput, call: &Call<'_>) -> Result<TestHardwareOutput, ToolError> {
        let hardware = Hardware::named("hardware_type", &input.hardware_type)?;
        let status = call.link.status(PATIENCE).await?;
        let mut machines = machines::alive(&status);
        machines.retain(|machine| machine.has(hardware));
        if machines.is_empty() {
            let why = "no node that is alive has a GPU; detect_hardware with include_peers shows what there is";
            return Ok(TestHardwareOutput {
                why: Some(why.to_owned()),
                ..TestHardwareOutput::not_run(hardware, false)
            });
        }
        if input.test_mode == TestMode::Memory {
            let memory_bytes = machines.iter().map(|machine| memory_bytes(machine, hardware)).max();
            return Ok(TestHardwareOutput { memory_bytes, ..TestHardwareOutput::not_run(hardware, true) });
        }
        let models = machines.iter().flat_map(|machine| &machine.capabilities.models);
        let wanted = |model: &&String| input.model.as_ref().is_none_or(|wanted| wanted == *model);
        let Some(model) = models.filter(|model| wanted(model)).min().cloned() else {
            let why = match &input.model {
                Some(model) => format!("{:?} is loaded on none of them", model.chars().take(80).collect::<String>()),
                None => "no model is loaded on any of them".to_owned(),
            };
            let why = format!("{why}: search_models shows what is loaded where");
            return Ok(TestHardwareOutput { why: Some(why), ..TestHardwareOutput::not_run(hardware, true) });
        };
        run(call, hardware, model, &input).await
    }
}

fn memory_bytes(machine: &Machine<'_>, hardware: Hardware) -> u64 {
    let Capabilities { memory_bytes, gpus, .. } = machine.capabilities;
    match hardware {
        Hardware::Cpu => *memory_bytes,
        Hardware::Cuda => gpus.iter().map(|gpu| gpu.vram_bytes).max().unwrap_or(0),
    }
}

/// Embeds a sentence there.
async fn run(
    call: &Call<'_>,
    hardware: Hardware,
    model: String,
    input: &TestHardwareInput,
) -> Result<TestHardwareOutput, ToolError> {
    let mut document = json!({"kind": "embed", "model": model, "input": "Does this hardware work?", "timeout": "60s"});
    if let Some(requirement) = hardware.requirement() {
        document["requires"] = requirement.into();
    }
    let wait_ms = follow::wait_ms(input.wait_ms, None).unwrap_or(follow::WAIT_MS);
    let key = input.idempotency_key.as_deref();
    let Submitted { id, view } = task_queue::submit("test_hardware_capability", key, document, call, wait_ms).await?;
    let done = view.as_ref().filter(|view| view.state.is_terminal());
    let took = |began: magpie_core::time::Wall, ended: magpie_core::time::Wall| ended.0.saturating_sub(began.0);
    Ok(TestHardwareOutput {
        works: done.map(|view| view.state == TaskState::Succeeded),
        why: done.and_then(|view| view.error.as_ref()).map(|error| error.message.clone()),
        model: Some(model),
        task_id: Some(id.to_string()),
        ran_on: done.and_then(|view| view.worker).map(|worker| worker.to_string()),
        took_ms: done.and_then(|view| view.started_at.zip(view.finished_at)).map(|(began, ended)| took(began, ended)),
        next: done.is_none().then(|| task_queue::wait_next(id)),
        ..TestHardwareOutput::not_run(hardware, true)
    })
}

pub struct OptimalConfiguration;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    #[default]
    Latency,
    Throughput,
    Memory,
}

#[derive(Deserialize, JsonSchema)]
pub struct OptimalConfigurationInput {
    model: String,
    /// cpu, cuda; all there is unless said.
    available_hardware: Option<Vec<String>>,
    #[serde(default)]
    #[schemars(with = "Option<Target>")]
    optimization_target: Target,
}

#[derive(Serialize, JsonSchema)]
pub struct OptimalConfigurationOutput {
    ok: bool,
    model: String,
    /// The machine to prefer, of those that have the model loaded.
    peer_id: String,
    hardware: Hardware,
    /// What to write as `requires` of its tasks.
    requires: String,
    cpu_slots_free: u32,
    device_slots_free: u32,
    /// Others that have it loaded.
    alternatives: Vec<String>,
    why: &'static str,
}

impl Handler for OptimalConfiguration {
    type Input = OptimalConfigurationInput;
    type Output = OptimalConfigurationOutput;

    async fn call(
        &self,
        input: OptimalConfigurationInput,
        call: &Call<'_>,
    ) -> Result<OptimalConfigurationOutput, ToolError> {
        let named = |name: &String| Hardware::named("available_hardware", name);
        let allowed: Vec<Hardware> = match &input.available_hardware {
            Some(names) => names.iter().map(named).collect::<Result<_, _>>()?,
            None => vec![Hardware::Cpu, Hardware::Cuda],
        };
        let status = call.link.status(PATIENCE).await?;
        let machines = machines::alive(&status);
        let runs_on = |machine: &Machine<'_>| best(machine, &allowed, input.optimization_target);
        let fitting = machines.iter().filter(|machine| machine.has_model(&input.model));
        let mut fitting: Vec<(Hardware, &Machine<'_>)> =
            fitting.filter_map(|machine| Some((runs_on(machine)?, machine))).collect();
        let memory = input.optimization_target == Target::Memory;
        fitting.sort_by_key(|(hardware, machine)| {
            let rank = if memory { *hardware as u8 } else { u8::MAX - *hardware as u8 };
            (rank, u32::MAX - machine.free.device, u32::MAX - machine.free.cpu, machine.peer_id)
        });
        let Some((hardware, machine)) = fitting.first() else {
            let shown: String = input.model.chars().take(80).collect();
            let message = format!("no node that is alive has {shown:?} loaded on hardware that may be used");
            let error = ToolError::new("no_such_model", message, "take a model that search_models shows");
            return Err(error.next(Next::new("search_models", json!({}), 0)));
        };
        let model = format!("model:{}", input.model);
        Ok(OptimalConfigurationOutput {
            ok: true,
            peer_id: machine.peer_id.to_string(),
            hardware: *hardware,
            requires: hardware.requirement().map_or_else(|| model.clone(), |also| format!("{model} && {also}")),
            cpu_slots_free: machine.free.cpu,
            device_slots_free: machine.free.device,
            alternatives: fitting.iter().skip(1).map(|(_, machine)| machine.peer_id.to_string()).collect(),
            why: match (memory, hardware) {
                (true, Hardware::Cpu) => "it leaves the memory of GPUs to others",
                (false, Hardware::Cuda) => "it has a GPU",
                (true, Hardware::Cuda) | (false, Hardware::Cpu) => "no other kind of hardware has the model loaded",
            },
            model: input.model,
        })
    }
}

/// What of a machine serves the target best.
fn best(machine: &Machine<'_>, allowed: &[Hardware], target: Target) -> Option<Hardware> {
    let usable = allowed.iter().copied().filter(|hardware| machine.has(*hardware));
    match target {
        Target::Latency | Target::Throughput => usable.max(),
        Target::Memory => usable.min(),
    }
}
