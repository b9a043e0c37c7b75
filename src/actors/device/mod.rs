//! A device: forms batches of texts for its process, and starts the process again when it ends.

mod embedder;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use magpie_core::limits;
use magpie_core::task::TaskError;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

pub use self::embedder::DeviceEmbedder;
use super::Addresses;
use super::address::Address;
use super::device_mailbox::{DeviceMsg, StartedDevice};
use super::peers::Peers;
use super::readings::now;
use crate::config::NodeConfig;
use crate::executor::EmbeddedTask;
use crate::inference::batch::{Batch, BatchFormer, Ticket};
use crate::inference::device_process::{DeviceProcess, DeviceProcessConfig, EmbeddedTexts, RequestError};
use crate::inference::models::ModelCatalog;
use crate::messages::device::{DeviceError, DeviceView};
use crate::messages::registry::RegistryMsg;
use crate::messages::worker::WorkerMsg;

/// Batches under way at a time: one is computed while the next is on its way.
const UNDER_WAY_MAX: usize = 2;
const BACK_OFF_FIRST: Duration = Duration::from_millis(250);
const BACK_OFF_MAX: Duration = Duration::from_secs(30);

type Reply = RpcReplyPort<Result<EmbeddedTask, DeviceError>>;

pub struct DeviceActor;

#[derive(Clone)]
pub struct DeviceArguments {
    name: String,
    process: DeviceProcessConfig,
    model_dirs: Vec<PathBuf>,
    load: Vec<String>,
    addresses: Addresses,
    peers: Peers,
}

pub struct DeviceState {
    former: BatchFormer,
    replies: BTreeMap<Ticket, Reply>,
    process: Option<StartedDevice>,
    /// Why there is no process.
    why: Option<String>,
    under_way: usize,
    starts: u64,
    failures: u32,
    totals: Totals,
    me: ActorRef<DeviceMsg>,
    arguments: DeviceArguments,
}

#[derive(Default)]
struct Totals {
    batches: u64,
    texts: u64,
    tokens: u64,
    busy_ms: u64,
}

/// The devices that a configuration asks for; what is not possible is said in `notices`.
pub fn plan(
    config: &NodeConfig,
    addresses: &Addresses,
    peers: &Peers,
    notices: &mut Vec<String>,
) -> Vec<(Address<DeviceMsg>, DeviceArguments)> {
    if !config.inference.enabled {
        notices.push("offers no inference because inference.enabled is false".to_owned());
        return Vec::new();
    }
    let process = match DeviceProcessConfig::cpu(config.inference.device.as_deref(), config.inference.threads) {
        Ok(process) => process,
        Err(error) => {
            tracing::warn!("this node {}", error.in_words());
            notices.push(error.in_words());
            return Vec::new();
        }
    };
    let name = "device-cpu".to_owned();
    let address = Address::new(&format!("{}/{name}", peers.me()));
    let (addresses, peers) = (addresses.clone(), peers.clone());
    let (model_dirs, load) = (config.model_dirs(), config.inference.load.clone());
    vec![(address, DeviceArguments { name, process, model_dirs, load, addresses, peers })]
}

impl Actor for DeviceActor {
    type Msg = DeviceMsg;
    type State = DeviceState;
    type Arguments = DeviceArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut state = DeviceState {
            former: BatchFormer::default(),
            replies: BTreeMap::new(),
            process: None,
            why: None,
            under_way: 0,
            starts: 0,
            failures: 0,
            totals: Totals::default(),
            me: myself,
            arguments,
        };
        // It may hold what an earlier life of this device had loaded.
        state.tell_registry();
        state.start();
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            DeviceMsg::Embed { model, texts, reply } => state.embed(&model, texts, reply),
            DeviceMsg::View { permit: _permit, reply } => {
                let _ = reply.send(state.view());
            }
            DeviceMsg::RegistryStarted => state.tell_registry(),
            DeviceMsg::Started(Ok(device)) => state.started(device),
            DeviceMsg::Started(Err(why)) => state.ended(why),
            DeviceMsg::Answered { batch, result } => state.answered(batch, result),
            DeviceMsg::Exited { start, why } if start == state.starts && state.process.is_some() => state.ended(why),
            DeviceMsg::Exited { .. } => {}
            DeviceMsg::Start => state.start(),
            DeviceMsg::Flush => {}
        }
        state.pump();
        Ok(())
    }
}

impl DeviceState {
    fn start(&mut self) {
        self.starts += 1;
        let (me, arguments, start) = (self.me.clone(), self.arguments.clone(), self.starts);
        self.arguments.peers.errand(async move {
            let started = launch(&arguments).await;
            // Only the actor has the process, which ends with it.
            let exited = started.as_ref().ok().map(|device| device.process.exited());
            let _ = me.cast(DeviceMsg::Started(started));
            if let Some(exited) = exited {
                let why = exited.await.to_string();
                let _ = me.cast(DeviceMsg::Exited { start, why });
            }
        });
    }

    fn started(&mut self, device: StartedDevice) {
        let ready = device.process.ready();
        tracing::info!(device = self.arguments.name, torch = ready.torch_version, models = ?device.models, "device ready");
        for problem in &device.problems {
            tracing::warn!(device = self.arguments.name, problem, "a model is not offered");
        }
        self.failures = 0;
        self.why = device.problems.first().cloned();
        self.process = Some(device);
        self.tell_registry();
        let _ = self.arguments.addresses.worker.cast(WorkerMsg::DeviceSlots(limits::DEVICE_SLOTS));
    }

    fn tell_registry(&self) {
        let models = self.process.as_ref().map(|device| device.models.clone()).unwrap_or_default();
        let message = RegistryMsg::Models { device: self.arguments.name.clone(), models };
        let _ = self.arguments.addresses.registry.cast(message);
    }

    /// Without its process a device offers nothing; what waits is kept for the next one.
    fn ended(&mut self, why: String) {
        tracing::error!(device = self.arguments.name, why, "no device process");
        self.process = None;
        self.why = Some(why);
        self.tell_registry();
        let _ = self.arguments.addresses.worker.cast(WorkerMsg::DeviceSlots(0));
        let back_off = (BACK_OFF_FIRST * 2u32.pow(self.failures.min(16))).min(BACK_OFF_MAX);
        self.failures += 1;
        self.me.send_after(back_off, || DeviceMsg::Start);
    }

    fn embed(&mut self, model: &str, texts: Vec<String>, reply: Reply) {
        let known = self.process.as_ref().is_some_and(|device| device.models.contains(model));
        if self.process.is_some() && !known {
            let error = TaskError::new("unknown_model", format!("this device has not loaded {model}"));
            let _ = reply.send(Err(DeviceError { error, retryable: true }));
            return;
        }
        match self.former.push(now().mono_ms, model, texts) {
            Ok(ticket) => {
                self.replies.insert(ticket, reply);
            }
            Err(error) => {
                let retryable = matches!(error, crate::inference::batch::PushError::QueueFull { .. });
                let error = TaskError::new("bad_texts", error.to_string());
                let _ = reply.send(Err(DeviceError { error, retryable }));
            }
        }
    }

    /// Sends what is due; what is not wakes the actor in time.
    fn pump(&mut self) {
        self.forget_abandoned();
        let Some(process) = self.process.as_ref().map(|device| device.process.clone()) else { return };
        while self.under_way < UNDER_WAY_MAX {
            let Some(batch) = self.former.form(now().mono_ms) else { break };
            self.under_way += 1;
            let (me, process) = (self.me.clone(), process.clone());
            self.arguments.peers.errand(async move {
                let result = process.embed(&batch.model, &batch.texts).await;
                let _ = me.cast(DeviceMsg::Answered { batch, result });
            });
        }
        if let Some(due_ms) = self.former.next_deadline_ms().filter(|_| self.under_way < UNDER_WAY_MAX) {
            let wait = due_ms.saturating_sub(now().mono_ms).max(1);
            self.me.send_after(Duration::from_millis(wait), || DeviceMsg::Flush);
        }
    }

    /// Texts of callers that have gone are not embedded.
    fn forget_abandoned(&mut self) {
        let gone: Vec<Ticket> =
            self.replies.iter().filter(|(_, reply)| reply.is_closed()).map(|(ticket, _)| *ticket).collect();
        for ticket in gone {
            self.former.cancel(ticket);
            self.replies.remove(&ticket);
        }
    }

    fn answered(&mut self, batch: Batch, result: Result<EmbeddedTexts, RequestError>) {
        self.under_way -= 1;
        match result {
            Ok(embedded) => self.embedded(&batch, embedded),
            // A failure of a batch of several tasks is not yet anyone's: each is tried apart.
            Err(RequestError::Failed { .. }) if !batch.is_of_one_task() => self.former.give_back(batch),
            Err(RequestError::Failed { code, message, retryable }) => {
                self.fail(&batch, &DeviceError { error: TaskError::new(&code, message), retryable });
            }
            Err(RequestError::Exited(_)) => self.former.give_back(batch),
            Err(error @ RequestError::TimedOut { .. }) => self.given_up(batch, &error),
            Err(error @ (RequestError::Mismatch | RequestError::Unfit(_))) => {
                let error = TaskError::new("device", error.to_string());
                self.fail(&batch, &DeviceError { error, retryable: true });
            }
        }
    }

    /// The process may be at the batch for ever, and does one after the other: it is ended, and the next one starts. A task
    /// that had the batch for itself would only do the same to that one.
    fn given_up(&mut self, batch: Batch, error: &RequestError) {
        if let Some(device) = &self.process {
            tracing::error!(device = self.arguments.name, texts = batch.texts.len(), %error, "the device process is ended");
            device.process.kill();
        }
        if !batch.is_of_one_task() {
            return self.former.give_back(batch);
        }
        let why = format!(
            "{} texts at a time: {error}; give it fewer or shorter ones, or a faster device",
            batch.texts.len()
        );
        self.fail(&batch, &DeviceError { error: TaskError::new("device_timeout", why), retryable: true });
    }

    fn embedded(&mut self, batch: &Batch, embedded: EmbeddedTexts) {
        self.totals.batches += 1;
        self.totals.texts += batch.texts.len() as u64;
        self.totals.tokens += embedded.tokens;
        self.totals.busy_ms += embedded.took_ms;
        match self.former.complete(batch, embedded.vectors, &embedded.used) {
            Ok(complete) => {
                for done in complete {
                    if let Some(reply) = self.replies.remove(&done.ticket) {
                        let _ = reply.send(Ok(EmbeddedTask { vectors: done.vectors, used: done.used }));
                    }
                }
            }
            Err(error) => {
                let error = TaskError::new("device", error.to_string());
                self.fail(batch, &DeviceError { error, retryable: true });
            }
        }
    }

    fn fail(&mut self, batch: &Batch, error: &DeviceError) {
        for ticket in self.former.fail(batch) {
            if let Some(reply) = self.replies.remove(&ticket) {
                let _ = reply.send(Err(error.clone()));
            }
        }
    }

    fn view(&self) -> DeviceView {
        let ready = self.process.as_ref().map(|device| device.process.ready());
        let state = if ready.is_some() {
            "ready"
        } else if self.why.is_none() {
            "starting"
        } else {
            "unavailable"
        };
        DeviceView {
            name: self.arguments.name.clone(),
            state: state.to_owned(),
            why: self.why.clone(),
            torch_version: ready.map(|ready| ready.torch_version.clone()),
            threads: ready.map(|ready| ready.threads),
            models: self.process.as_ref().map(|device| device.models.iter().cloned().collect()).unwrap_or_default(),
            queued: self.former.waiting_len(),
            batches: self.totals.batches,
            texts: self.totals.texts,
            tokens: self.totals.tokens,
            busy_ms: self.totals.busy_ms,
            restarts: self.starts - 1,
        }
    }
}

/// Starts the process and loads the configured models; a model that is not there is said, not fatal.
async fn launch(arguments: &DeviceArguments) -> Result<StartedDevice, String> {
    let process = DeviceProcess::start(&arguments.process).await.map_err(|error| error.in_words())?;
    let directories = arguments.model_dirs.clone();
    let catalog = tokio::task::spawn_blocking(move || ModelCatalog::scan(&directories)).await;
    let catalog = catalog.map_err(|error| error.to_string())?;
    let mut device = StartedDevice { process: Arc::new(process), models: BTreeSet::new(), problems: Vec::new() };
    for name in &arguments.load {
        let loaded = match catalog.find(name) {
            Ok(model) => {
                let loaded = device.process.load(&model.name, &model.directory).await;
                loaded.map(|_| model.name.clone()).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        match loaded {
            Ok(name) => {
                device.models.insert(name);
            }
            Err(problem) => device.problems.push(problem),
        }
    }
    Ok(device)
}
