//! What runs an attempt: one file per task kind.
//!
//! An executor knows no lease and no peer. It gets an [`Attempt`], runs it within its timeout, ends it when it is
//! told to, and answers an [`Outcome`]; ownership is decided before and after.

mod attempt_error;
mod blobs;
mod embed;
mod lease;
mod log_tap;
mod noop;
mod panic;
mod process;
pub mod shim;
mod sleep;
mod stop;

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use magpie_core::lease::Fence;
use magpie_core::payload::{JsonText, Payload};
use magpie_core::progress::AttemptNews;
use magpie_core::task::{AttemptResult, Outcome, TaskKind, TaskSpec, Used};
use tokio::sync::watch;

pub use self::attempt_error::AttemptError;
pub use self::blobs::{BlobAccess, BlobError};
pub use self::embed::{EmbeddedTask, Embedder};
pub use self::lease::{LeaseEnd, LeaseKeeper, lease_channel};
pub use self::log_tap::LogTap;
pub use self::process::ProcessConfig;
pub use self::stop::{StopReason, StopSignal, Stopper, stop_channel};

use self::stop::Bounds;

/// The boxed future of a trait that is used as an object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One execution of a task, as its lease grants it.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub fence: Fence,
    /// 1 for the first.
    pub number: u32,
    pub spec: Arc<TaskSpec>,
    /// What an earlier attempt left last.
    pub checkpoint: Option<JsonText>,
    /// Of an `exclusive` task.
    pub lease: Option<LeaseEnd>,
    /// Where it tells how far it is and from where the next one may go on.
    pub says: watch::Sender<AttemptNews>,
    /// Where its log goes as it comes.
    pub log: LogTap,
    /// Where one that has something to prepare tells that it is prepared, before it begins.
    pub begun: watch::Sender<bool>,
}

/// Nothing of an attempt ran: this machine refused what it needs to begin, or it was told to end before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NotStarted {
    pub why: String,
}

impl Attempt {
    /// One that is the first, not exclusive, and to which nobody listens.
    pub fn new(fence: Fence, spec: Arc<TaskSpec>) -> Self {
        let says = watch::Sender::new(AttemptNews::default());
        let (log, begun) = (LogTap::default(), watch::Sender::new(false));
        Self { fence, number: 1, spec, checkpoint: None, lease: None, says, log, begun }
    }
}

/// What an attempt leaves beside its result, however it ends.
#[derive(Debug, Default)]
struct Traces {
    /// The end of its log.
    log_tail: String,
    /// What was measured of it: nothing for kinds that share their threads with others.
    used: Used,
}

/// How a node runs tasks.
#[derive(Debug, Clone)]
pub struct ExecutorConfig {
    /// Holds one directory per running process; emptied at start. Only this node may use it.
    pub work_dir: PathBuf,
    /// The executable whose `main` begins with [`shim::main_if_shim`].
    pub shim: PathBuf,
    pub process: ProcessConfig,
}

impl ExecutorConfig {
    /// The running executable is its own shim.
    pub fn new(work_dir: PathBuf, process: ProcessConfig) -> Self {
        Self { work_dir, shim: PathBuf::from("/proc/self/exe"), process }
    }
}

/// Every executor of one node.
pub struct Executors {
    config: ExecutorConfig,
    blobs: Arc<dyn BlobAccess>,
    embedder: Option<Arc<dyn Embedder>>,
}

impl Executors {
    /// Makes the work directory and removes what an earlier life of the node left in it. Blocks on the disk.
    ///
    /// # Errors
    /// The operating system's, with the path, if the work directory cannot be made or emptied.
    pub fn new(
        config: ExecutorConfig,
        blobs: Arc<dyn BlobAccess>,
        embedder: Option<Arc<dyn Embedder>>,
    ) -> io::Result<Self> {
        let work_dir = process::prepare_work_dir(&config.work_dir)?;
        Ok(Self { config: ExecutorConfig { work_dir, ..config }, blobs, embedder })
    }

    /// The kinds that this node offers.
    pub fn kinds(&self) -> BTreeSet<TaskKind> {
        let process = (!self.config.process.allow.is_empty()).then_some(TaskKind::Process);
        let embed = self.embedder.is_some().then_some(TaskKind::Embed);
        [TaskKind::Noop, TaskKind::Sleep].into_iter().chain(process).chain(embed).collect()
    }

    /// Runs one attempt to its end. After a stop it returns as soon as nothing of the attempt runs any more; the
    /// outcome then only says so, and is to be dropped. It never panics.
    ///
    /// # Errors
    /// If the attempt could not begin here, which only kinds that need room on the disk do.
    pub async fn run(&self, attempt: Attempt, stop: StopSignal) -> Result<Outcome, NotStarted> {
        let begin = Instant::now();
        let mut traces = Traces::default();
        let ended = panic::caught(Box::pin(self.dispatch(&attempt, stop, &mut traces))).await;
        let result = match ended {
            Ok(output) => AttemptResult::Succeeded { output },
            Err(AttemptError { error, unstarted: true, .. }) => return Err(NotStarted { why: error.to_string() }),
            Err(AttemptError { error, retryable, unstarted: false }) => AttemptResult::Failed { error, retryable },
        };
        let Traces { log_tail, used } = traces;
        Ok(Outcome { result, log_tail, ran_ms: begin.elapsed().as_millis() as u64, used })
    }

    /// Runs an attempt that takes no time: a task of class `noop`. None: it is one for [`Executors::run`].
    pub fn run_at_once(&self, attempt: &Attempt) -> Option<Outcome> {
        let output = (attempt.spec.kind == TaskKind::Noop).then(|| noop::run(&attempt.spec))?;
        let result = AttemptResult::Succeeded { output };
        Some(Outcome { result, log_tail: String::new(), ran_ms: 0, used: Used::default() })
    }

    async fn dispatch(
        &self,
        attempt: &Attempt,
        stop: StopSignal,
        traces: &mut Traces,
    ) -> Result<Payload, AttemptError> {
        let spec = &*attempt.spec;
        let mut bounds = Bounds::new(stop, Duration::from_millis(spec.timeout.0));
        match spec.kind {
            TaskKind::Noop => Ok(noop::run(spec)),
            TaskKind::Sleep => within(&mut bounds, spec, sleep::run(spec)).await,
            TaskKind::Embed => {
                let Some(embedder) = &self.embedder else { return Err(not_offered(spec.kind)) };
                let cancel = bounds.stop.clone();
                within(&mut bounds, spec, embed::run(attempt, &**embedder, &*self.blobs, cancel, &mut traces.used))
                    .await
            }
            TaskKind::Process => process::run(&self.config, &*self.blobs, attempt, bounds, traces).await,
            kind => Err(not_offered(kind)),
        }
    }
}

/// Drops `work` when the attempt is to end: for kinds that leave nothing running behind.
async fn within<T>(
    bounds: &mut Bounds,
    spec: &TaskSpec,
    work: impl Future<Output = Result<T, AttemptError>>,
) -> Result<T, AttemptError> {
    tokio::select! {
        biased;
        halt = bounds.reached() => Err(AttemptError::halted(halt, spec)),
        ended = work => ended,
    }
}

/// A grant of a kind that this node does not offer: a home only grants what is offered, so it is a defence.
fn not_offered(kind: TaskKind) -> AttemptError {
    let fix = match kind {
        TaskKind::Embed | TaskKind::Inference | TaskKind::Generate => {
            "it needs a device process with the model: a node built with the feature `torch` and `models` in its \
             configuration"
        }
        TaskKind::Process => "name the commands it may run in process.allow in the node's configuration",
        TaskKind::Docker | TaskKind::Wasm | TaskKind::Http | TaskKind::Tool => {
            "this version has no executor for it; run it as kind `process` on a node whose process.allow names the \
             command"
        }
        TaskKind::Sleep | TaskKind::Noop => "every node offers it",
        TaskKind::Workflow => "its home runs it, and grants it to nobody",
        TaskKind::Approval => "a person decides it, and it is granted to nobody",
    };
    AttemptError::permanent("unsupported_kind", format!("this node does not run {kind} tasks: {fix}"))
}
