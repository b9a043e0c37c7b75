use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use magpie::executor::{
    Attempt, AttemptError, BlobAccess, BlobError, BoxFuture, EmbeddedTask, Embedder, ExecutorConfig, Executors,
    ProcessConfig, StopSignal, Stopper, lease_channel, stop_channel,
};
use magpie_core::ids::{ContentId, Epoch, Generation, LedgerTag, OperationId, TaskId};
use magpie_core::lease::Fence;
use magpie_core::payload::{BlobRef, JsonText, Payload};
use magpie_core::task::{AttemptResult, FileRef, Outcome, TaskKind, TaskSpec, Used};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tempfile::TempDir;

/// Where [`stand_in`] finds its orders.
pub const STAND_IN: &str = "MAGPIE_STAND_IN";
/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Blobs as files named by their content id.
pub struct DirBlobs(pub PathBuf);

impl DirBlobs {
    pub fn put(&self, bytes: &[u8]) -> BlobRef {
        let blob = BlobRef { cid: ContentId::of(bytes), bytes: bytes.len() as u64 };
        fs::write(self.0.join(blob.cid.to_string()), bytes).unwrap();
        blob
    }

    pub fn get(&self, blob: BlobRef) -> String {
        fs::read_to_string(self.0.join(blob.cid.to_string())).unwrap()
    }
}

impl BlobAccess for DirBlobs {
    fn fetch(&self, blob: BlobRef, from: LedgerTag) -> BoxFuture<'_, Result<PathBuf, BlobError>> {
        Box::pin(async move {
            let path = self.0.join(blob.cid.to_string());
            let why = "it was never put there".to_owned();
            if path.exists() { Ok(path) } else { Err(BlobError::Unavailable { cid: blob.cid, from, why }) }
        })
    }

    fn store(&self, bytes: Vec<u8>) -> BoxFuture<'_, Result<BlobRef, BlobError>> {
        Box::pin(async move { Ok(self.put(&bytes)) })
    }
}

/// Embeds a text as its length and a part of its first byte; panics on request.
pub struct LengthEmbedder;

impl Embedder for LengthEmbedder {
    fn embed(
        &self,
        model: &str,
        texts: Vec<String>,
        mut cancel: StopSignal,
    ) -> BoxFuture<'_, Result<EmbeddedTask, AttemptError>> {
        let model = model.to_owned();
        Box::pin(async move {
            match model.as_str() {
                "length" => {}
                "panics" => panic!("no such layer"),
                "hangs" => drop(cancel.stopped().await),
                _ => return Err(AttemptError::permanent("unknown_model", format!("no model {model:?} here"))),
            }
            let embed = |text: String| vec![text.len() as f32, f32::from(*text.as_bytes().first().unwrap_or(&0)) / 7.0];
            let used = Used { cpu_us: Some(7), gpu_us: None };
            Ok(EmbeddedTask { vectors: texts.into_iter().map(embed).collect(), used })
        })
    }
}

pub struct Fixture {
    pub directory: TempDir,
    pub blobs: Arc<DirBlobs>,
    pub executors: Arc<Executors>,
}

impl Fixture {
    pub fn new() -> Self {
        Self::with(ProcessConfig { allow: vec!["*".to_owned()], ..ProcessConfig::default() })
    }

    pub fn with(process: ProcessConfig) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (blobs, executors) = open(directory.path(), process);
        Self { directory, blobs, executors: Arc::new(executors) }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub async fn run(&self, spec: TaskSpec) -> Outcome {
        let (_stopper, stop) = stop_channel();
        tokio::time::timeout(PATIENCE, self.executors.run(attempt(spec), stop)).await.unwrap().unwrap()
    }

    pub async fn output(&self, spec: TaskSpec) -> Value {
        let outcome = self.run(spec).await;
        match outcome.result {
            AttemptResult::Succeeded { output: Payload::Inline(text) } => text.to_value(),
            AttemptResult::Succeeded { output: Payload::Blob(blob) } => {
                serde_json::from_str(&self.blobs.get(blob)).unwrap()
            }
            AttemptResult::Failed { .. } => panic!("{outcome:?}"),
        }
    }

    /// Code, message and whether it is retryable.
    pub async fn error(&self, spec: TaskSpec) -> (String, String, bool) {
        error_of(self.run(spec).await)
    }

    /// An attempt that runs until it is stopped.
    pub fn start(&self, spec: TaskSpec) -> (Stopper, tokio::task::JoinHandle<Outcome>) {
        let (stopper, stop) = stop_channel();
        let executors = self.executors.clone();
        (stopper, tokio::spawn(async move { executors.run(attempt(spec), stop).await.unwrap() }))
    }

    pub fn file(&self, path: &str, bytes: &[u8], executable: bool) -> FileRef {
        let BlobRef { cid, bytes } = self.blobs.put(bytes);
        FileRef { path: path.to_owned(), cid, bytes, executable }
    }

    /// Nothing of an attempt is left behind.
    pub fn is_swept(&self) -> bool {
        fs::read_dir(self.path("work")).unwrap().next().is_none()
    }
}

fn open(directory: &Path, process: ProcessConfig) -> (Arc<DirBlobs>, Executors) {
    let blobs = Arc::new(DirBlobs(directory.join("blobs")));
    fs::create_dir_all(&blobs.0).unwrap();
    let shim = PathBuf::from(env!("CARGO_BIN_EXE_node"));
    let config = ExecutorConfig { work_dir: directory.join("work"), shim, process };
    let executors = Executors::new(config, blobs.clone(), Some(Arc::new(LengthEmbedder))).unwrap();
    (blobs, executors)
}

pub fn error_of(outcome: Outcome) -> (String, String, bool) {
    match outcome.result {
        AttemptResult::Failed { error, retryable } => (error.code, error.message, retryable),
        AttemptResult::Succeeded { .. } => panic!("{outcome:?}"),
    }
}

pub fn attempt(spec: TaskSpec) -> Attempt {
    let ledger = LedgerTag([7; 5]);
    let task = TaskId::derive(ledger, 1_700_000_000_000, OperationId([3; 16]), next_number());
    let fence = Fence { task, epoch: Epoch::new(Generation(1), 2) };
    Attempt { number: 2, ..Attempt::new(fence, Arc::new(spec)) }
}

fn next_number() -> u32 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

pub fn spec(kind: TaskKind, input: Value) -> TaskSpec {
    TaskSpec { input: Payload::Inline(JsonText::of(&input)), ..TaskSpec::new(kind) }
}

pub fn process(run: &[&str]) -> TaskSpec {
    TaskSpec { run: run.iter().map(|word| (*word).to_owned()).collect(), ..TaskSpec::new(TaskKind::Process) }
}

/// A shell script; `$1`, `$2`, ... are `arguments`.
pub fn shell(script: &str, arguments: &[&Path]) -> TaskSpec {
    let arguments = arguments.iter().map(|argument| argument.to_str().unwrap());
    let run: Vec<&str> = ["sh", "-c", script, "sh"].into_iter().chain(arguments).collect();
    process(&run)
}

/// Polls until `condition` gives a value.
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what} did not come about within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The clock that counts suspend.
pub fn boot_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as u64 * 1_000 + now.tv_nsec as u64 / 1_000_000
}

/// A process id that a script wrote, once the line is whole.
pub fn pid_in(file: &Path) -> u32 {
    eventually("a process id in a file", || fs::read_to_string(file).ok()?.strip_suffix('\n')?.parse().ok())
}

/// Whether the process runs: a zombie does not.
pub fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

pub fn parent_of(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, after_name) = stat.rsplit_once(") ").unwrap();
    after_name.split(' ').nth(1).unwrap().parse().unwrap()
}

pub fn kill_9(pid: u32) {
    signal(pid, Signal::KILL);
}

/// Holds a process still, so that it cannot react to what is done next.
pub fn stop(pid: u32) {
    signal(pid, Signal::STOP);
    let is_stopped = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") T ");
    eventually("a stopped process", || is_stopped().then_some(()));
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

/// What a stand-in worker is to do, and where it says what came of it.
#[derive(Serialize, Deserialize)]
struct StandIn {
    directory: PathBuf,
    specs: Vec<TaskSpec>,
    /// From the start of each on, which is never extended.
    lease_ms: Option<u64>,
}

/// What came of it.
#[derive(Serialize, Deserialize)]
pub struct StandInReport {
    pub outcomes: Vec<Outcome>,
    /// Open descriptors after each attempt, by what they are.
    pub descriptors: Vec<BTreeMap<String, usize>>,
}

const ORDERS: &str = "orders.json";
const REPORT: &str = "report.json";

/// Starts a worker in a process of its own that runs `specs` one after the other. `descriptor` is opened in it, and
/// passed on by it to its children, if it does nothing about that.
pub fn start_stand_in(directory: &Path, specs: Vec<TaskSpec>, descriptor: Option<u32>) -> Child {
    spawn_stand_in(StandIn { directory: directory.to_owned(), specs, lease_ms: None }, descriptor)
}

/// One whose attempts are exclusive.
pub fn start_leased_stand_in(directory: &Path, specs: Vec<TaskSpec>, lease_ms: u64) -> Child {
    spawn_stand_in(StandIn { directory: directory.to_owned(), specs, lease_ms: Some(lease_ms) }, None)
}

fn spawn_stand_in(orders: StandIn, descriptor: Option<u32>) -> Child {
    let directory = orders.directory.clone();
    fs::write(directory.join(ORDERS), serde_json::to_vec(&orders).unwrap()).unwrap();
    let open = descriptor.map(|number| format!("exec {number}</dev/null; ")).unwrap_or_default();
    Command::new("sh")
        .args(["-c", &format!("{open}exec \"$0\" --ignored --exact executor::worker_stand_in --nocapture")])
        .arg(std::env::current_exe().unwrap())
        .env(STAND_IN, directory.join(ORDERS))
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

pub fn stand_in_report(directory: &Path) -> StandInReport {
    serde_json::from_slice(&fs::read(directory.join(REPORT)).unwrap()).unwrap()
}

/// The worker itself.
pub fn stand_in(orders: &Path) {
    let StandIn { directory, specs, lease_ms } = serde_json::from_slice(&fs::read(orders).unwrap()).unwrap();
    let (_, executors) = open(&directory, ProcessConfig { allow: vec!["*".to_owned()], ..ProcessConfig::default() });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut report = StandInReport { outcomes: Vec::new(), descriptors: Vec::new() };
    for spec in specs {
        let (_stopper, stop) = stop_channel();
        let lease = lease_ms.map(|lease_ms| lease_channel(boot_ms() + lease_ms));
        let (_keeper, lease) = lease.unzip();
        let attempt = Attempt { lease, ..attempt(spec) };
        report.outcomes.push(runtime.block_on(executors.run(attempt, stop)).unwrap());
        report.descriptors.push(descriptors());
    }
    fs::write(directory.join(REPORT), serde_json::to_vec(&report).unwrap()).unwrap();
}

fn descriptors() -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fd").unwrap() {
        let link = fs::read_link(entry.unwrap().path()).unwrap_or_default();
        let kind = link.to_string_lossy().split(':').next().unwrap_or_default().to_owned();
        *counted.entry(kind).or_default() += 1;
    }
    counted
}

/// Bytes of a file, or 0.
pub fn len_of(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.size())
}
