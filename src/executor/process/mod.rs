//! `process`: a command in a directory of its own, under the shim.

mod capture;
mod child;
mod command;
mod progress;
mod strays;
mod verdict;
mod work_dir;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::future::pending;
use std::pin::pin;

use magpie_core::limits;
use magpie_core::payload::Payload;
use magpie_core::task::Used;
use serde::{Deserialize, Serialize};

use self::capture::{Log, Output};
use self::child::{Child, Ended, Ending, Launch};
use self::progress::Progress;
use self::verdict::{judge, not_started, too_large};
use self::work_dir::WorkDir;
use super::lease::LeaseEnd;
use super::shim::{Arguments, Order};
use super::stop::{Bounds, Halt};
use super::{Attempt, AttemptError, BlobAccess, ExecutorConfig, Traces, blobs};

pub(super) use self::work_dir::prepare_work_dir;

/// Which commands a node runs for others, and within what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessConfig {
    /// Commands by name (`python3`) or absolute path; `*` allows all, also the files that a task brings. Empty: the
    /// node offers no `process`.
    pub allow: Vec<String>,
    /// Address space of each process, in bytes; 0 is no limit.
    pub memory_bytes_max: u64,
    /// Standard output of a command, in bytes; one that prints more is killed.
    pub output_bytes_max: u64,
    /// CPU time of each process, in milliseconds, rounded up to seconds; 0 is no limit.
    pub cpu_ms_max: u64,
    /// Variables of the node's environment that a command sees.
    pub environment: Vec<String>,
}

impl Default for ProcessConfig {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            memory_bytes_max: limits::PROCESS_MEMORY_BYTES_MAX,
            output_bytes_max: limits::PROCESS_OUTPUT_BYTES_MAX,
            cpu_ms_max: 0,
            environment: vec!["PATH".to_owned(), "LANG".to_owned()],
        }
    }
}

/// Runs the command to its end; `traces` get the end of its standard error, and what it took.
pub(super) async fn run(
    config: &ExecutorConfig,
    blobs: &dyn BlobAccess,
    attempt: &Attempt,
    mut bounds: Bounds,
    traces: &mut Traces,
) -> Result<Payload, AttemptError> {
    let directory = WorkDir::create(&config.work_dir, attempt.fence)
        .await
        .map_err(|error| work_dir::not_prepared("make the work directory", &error))?;
    let ended = run_in(&directory, config, blobs, attempt, &mut bounds, traces).await;
    if let Err(error) = directory.remove().await {
        tracing::warn!(task = %attempt.fence.task, %error, "a work directory is left behind until the next start");
    }
    let output = ended?;
    let bytes_max = config.process.output_bytes_max;
    let text = tokio::task::spawn_blocking(move || output.into_json(bytes_max)).await;
    let text = text.map_err(|panic| AttemptError::retryable("panic", panic.to_string()))?;
    let text = text.ok_or_else(|| too_large(bytes_max))?;
    tokio::select! {
        biased;
        kept = blobs::output(text, blobs) => kept,
        halt = bounds.reached() => Err(AttemptError::halted(halt, &attempt.spec)),
    }
}

async fn run_in(
    directory: &WorkDir,
    config: &ExecutorConfig,
    blobs: &dyn BlobAccess,
    attempt: &Attempt,
    bounds: &mut Bounds,
    traces: &mut Traces,
) -> Result<Output, AttemptError> {
    let (spec, process) = (&attempt.spec, &config.process);
    let environment = environment(process, attempt, directory);
    let path = environment.get(&OsString::from("PATH")).map(OsString::as_os_str);
    let program = command::resolve(&spec.run, &process.allow, path, &directory.files())?;
    tokio::select! {
        biased;
        halt = bounds.reached() => return Err(AttemptError::halted_before_it_began(halt, spec)),
        filled = directory.fill(attempt, blobs) => filled?,
    }
    let arguments = Arguments {
        stdin: directory.stdin().into(),
        memory_bytes_max: process.memory_bytes_max,
        cpu_s_max: process.cpu_ms_max.div_ceil(1_000),
        lease_ends_ms: attempt.lease.as_ref().map_or(0, LeaseEnd::ends_ms),
        program: program.into(),
        arguments: spec.run.iter().skip(1).map(OsString::from).collect(),
    };
    let mut progress = Progress::open(&directory.progress(), attempt.says.clone())
        .map_err(|error| work_dir::not_prepared("make the pipe for progress", &error))?;
    let launch = Launch { shim: &config.shim, directory: &directory.files(), environment: &environment, arguments };
    attempt.begun.send_replace(true);
    let child = child::start(launch).map_err(|error| not_started(&error, &spec.run, process))?;
    let (mut output, mut log) = (Output::default(), Log::new(attempt.log.clone()));
    let ended = {
        let following = follow(child, process, (bounds, attempt.lease.clone()), &mut output, &mut log);
        tokio::select! {
            ended = following => ended,
            never = progress.listen() => match never {},
        }
    };
    traces.used = ended.used;
    progress.close().iter().for_each(|complaint| log.note(complaint));
    traces.log_tail = log.text();
    let ending = ended.ending.map_err(|halt| AttemptError::halted(halt, spec))?;
    match output.exceeds(process.output_bytes_max) {
        true => Err(too_large(process.output_bytes_max)),
        false => judge(&ending, spec, process, &traces.log_tail).map(|()| output),
    }
}

fn environment(process: &ProcessConfig, attempt: &Attempt, directory: &WorkDir) -> BTreeMap<OsString, OsString> {
    let own = [
        ("HOME", directory.files().into_os_string()),
        ("MAGPIE_TASK_ID", attempt.fence.task.to_string().into()),
        ("MAGPIE_EPOCH", attempt.fence.epoch.to_string().into()),
        ("MAGPIE_ATTEMPT", attempt.number.to_string().into()),
        ("MAGPIE_PROGRESS", directory.progress().into_os_string()),
    ];
    command::passed_through(&process.environment).chain(own.map(|(name, value)| (name.into(), value))).collect()
}

/// How a command ended by itself, or why it was ended, and what it took.
struct Followed {
    ending: Result<Ending, Halt>,
    used: Used,
}

/// Reads what the command prints until it and all that it started are gone, or has them killed when the attempt is to
/// end or the output is too large. The shim hears of each new end of the lease.
async fn follow(
    child: Child,
    process: &ProcessConfig,
    (bounds, mut lease): (&mut Bounds, Option<LeaseEnd>),
    output: &mut Output,
    log: &mut Log,
) -> Followed {
    let Child { stdout, stderr, orders, mut end } = child;
    let read_output = async {
        // A pipe that fails has ended: the rest is said by how the command ended.
        let _ = output.read(stdout, process.output_bytes_max).await;
        if output.exceeds(process.output_bytes_max) {
            orders.give(Order::Kill);
        }
    };
    let read_log = async { drop(log.read(stderr).await) };
    let reading = async {
        tokio::join!(read_output, read_log);
    };
    let mut work = pin!(end.reached_after(reading));
    let halt = loop {
        tokio::select! {
            biased;
            Ended { ending, used } = &mut work => return Followed { ending: Ok(ending), used },
            halt = bounds.reached() => break halt,
            ms = moved(&mut lease) => orders.give(Order::LeaseEnds { ms }),
        }
    };
    orders.give(Order::Terminate);
    let ended = tokio::select! {
        ended = &mut work => ended,
        () = bounds.grace_over(halt) => {
            orders.give(Order::Kill);
            work.await
        }
    };
    Followed { ending: Err(halt), used: ended.used }
}

async fn moved(lease: &mut Option<LeaseEnd>) -> u64 {
    match lease {
        Some(lease) => lease.moved().await,
        None => pending().await,
    }
}
