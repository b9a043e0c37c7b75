//! A `node-device` process: started, spoken to by id, ended with its handle.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use magpie_core::device::{DeviceReply, DeviceRequest};
use magpie_core::limits::{
    DEVICE_EMBED_TIMEOUT_MS, DEVICE_LOAD_TIMEOUT_MS, DEVICE_REQUESTS_MAX, DEVICE_START_TIMEOUT_MS,
    DEVICE_STOP_TIMEOUT_MS, FRAME_BYTES_MAX,
};
use magpie_core::wire::{EncodeError, encode};
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::conversation::{Pending, ReplyReader, with_id};
pub use super::launch::{DeviceProcessConfig, StartDeviceError};
use super::launch::{missing_libtorch, spawn};
pub use super::running::DeviceExit;
use super::running::{Log, Running};
use super::shares::BatchUsed;

/// What the process said of itself when it was ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceReady {
    pub version: String,
    pub torch_version: String,
    pub device: String,
    pub threads: u32,
}

/// A request without the reply it asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The device answered that it could not.
    #[error("{message}")]
    Failed { code: String, message: String, retryable: bool },
    #[error("the device process is gone: {0}")]
    Exited(DeviceExit),
    #[error("the device process did not answer within {ms} ms")]
    TimedOut { ms: u64 },
    #[error("the device process answered something else")]
    Mismatch,
    #[error(transparent)]
    Unfit(#[from] EncodeError),
}

/// A model in a device process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedModel {
    pub dimensions: u32,
    pub tokens_max: u32,
    pub weight_bytes: u64,
    pub took_ms: u64,
}

/// A batch that came back; as many vectors as it had texts.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddedTexts {
    pub vectors: Vec<Vec<f32>>,
    pub tokens: u64,
    /// Time inside the process.
    pub took_ms: u64,
    pub used: BatchUsed,
}

/// A running device process. Dropped, the process is killed; [`Self::stop`] lets it end by itself.
#[derive(Debug)]
pub struct DeviceProcess {
    ready: DeviceReady,
    frames: mpsc::Sender<Vec<u8>>,
    pending: Arc<Pending>,
    next_id: AtomicU64,
    exit: watch::Receiver<Option<DeviceExit>>,
    conversation: JoinHandle<()>,
}

impl DeviceProcess {
    /// Starts the process and waits until it is ready.
    ///
    /// # Errors
    /// It is not built, finds no libtorch, ends, or says nothing in time.
    pub async fn start(config: &DeviceProcessConfig) -> Result<Self, StartDeviceError> {
        let binary = config.binary.clone();
        match timeout(Duration::from_millis(DEVICE_START_TIMEOUT_MS), Self::start_untimed(config)).await {
            Ok(started) => started,
            Err(_) => Err(StartDeviceError::TimedOut { binary }),
        }
    }

    async fn start_untimed(config: &DeviceProcessConfig) -> Result<Self, StartDeviceError> {
        let binary = || config.binary.clone();
        let (mut child, stream) = spawn(config).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => StartDeviceError::NotBuilt { binary: binary() },
            _ => StartDeviceError::Spawn { binary: binary(), source },
        })?;
        let log = Log::follow(child.stderr.take());
        let (input, output) = stream.into_split();
        let mut replies = ReplyReader::new(input);
        match replies.next_reply().await {
            Ok(DeviceReply::Ready { version, torch_version, device, threads }) => {
                let ready = DeviceReady { version, torch_version, device, threads };
                Ok(Self::converse(ready, Running { child, log, replies }, output))
            }
            Ok(_) => Err(StartDeviceError::NotReady { binary: binary() }),
            Err(error) => {
                let exit = Running { child, log, replies }.end(Some(error)).await;
                Err(missing_libtorch(&exit).unwrap_or_else(|| StartDeviceError::Ended { binary: binary(), exit }))
            }
        }
    }

    fn converse(ready: DeviceReady, running: Running, output: OwnedWriteHalf) -> Self {
        let (frames, to_write) = mpsc::channel(DEVICE_REQUESTS_MAX);
        let (exited, exit) = watch::channel(None);
        let pending = Arc::new(Pending::default());
        let settled = pending.clone();
        let conversation = tokio::spawn(async move {
            let exit = running.converse(output, to_write, &settled).await;
            exited.send_replace(Some(exit));
            settled.forget_all();
        });
        Self { ready, frames, pending, next_id: AtomicU64::new(1), exit, conversation }
    }

    pub fn ready(&self) -> &DeviceReady {
        &self.ready
    }

    /// Waits until the process has ended, and says how. Who waits does not keep it.
    pub fn exited(&self) -> impl Future<Output = DeviceExit> + Send + use<> {
        let mut exit = self.exit.clone();
        async move {
            let ended = exit.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone());
            ended.unwrap_or_else(|| DeviceExit { cause: "killed".to_owned(), log: String::new() })
        }
    }

    /// Ends the process at once: what is under way fails as if it had ended by itself.
    pub fn kill(&self) {
        // The task owns the child, which is killed when it is dropped.
        self.conversation.abort();
    }

    /// Sends `request` under an id of its own and waits for its reply. Several may be under way at a time.
    ///
    /// # Errors
    /// The process is gone, does not answer in time, or the request fits no frame. A failure that the device reports is
    /// a reply, not an error.
    pub async fn request(&self, request: DeviceRequest, wait: Duration) -> Result<DeviceReply, RequestError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let frame = encode(&with_id(request, id), FRAME_BYTES_MAX)?;
        let given_up = GiveUp { pending: &self.pending, id };
        let reply = self.pending.expect(id);
        let answered = timeout(wait, async {
            self.frames.send(frame).await.ok()?;
            tokio::select! {
                biased;
                reply = reply => reply.ok(),
                // One that was expected after all others were forgotten would wait in vain.
                _ = self.exited() => None,
            }
        });
        let answered = answered.await;
        drop(given_up);
        match answered {
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => Err(RequestError::Exited(self.exited().await)),
            Err(_) => Err(RequestError::TimedOut { ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX) }),
        }
    }

    /// Loads the model in `directory` under `model`.
    ///
    /// # Errors
    /// As [`Self::request`], and what the device says of the files.
    pub async fn load(&self, model: &str, directory: &Path) -> Result<LoadedModel, RequestError> {
        let directory = directory.to_string_lossy().into_owned();
        let request = DeviceRequest::Load { id: 0, model: model.to_owned(), directory };
        match self.request(request, Duration::from_millis(DEVICE_LOAD_TIMEOUT_MS)).await? {
            DeviceReply::Loaded { dimensions, tokens_max, weight_bytes, took_ms, .. } => {
                Ok(LoadedModel { dimensions, tokens_max, weight_bytes, took_ms })
            }
            other => Err(refusal(other)),
        }
    }

    /// Embeds `texts`, at most [`magpie_core::limits::DEVICE_BATCH_LEN_MAX`].
    ///
    /// # Errors
    /// As [`Self::request`], and what the device says of the model or the texts.
    pub async fn embed(&self, model: &str, texts: &[String]) -> Result<EmbeddedTexts, RequestError> {
        let request = DeviceRequest::Embed { id: 0, model: model.to_owned(), texts: texts.to_vec() };
        match self.request(request, Duration::from_millis(DEVICE_EMBED_TIMEOUT_MS)).await? {
            DeviceReply::Embedded { vectors, tokens, took_ms, used, text_tokens, .. }
                if vectors.len() == texts.len() =>
            {
                Ok(EmbeddedTexts { vectors, tokens, took_ms, used: BatchUsed { used, text_tokens } })
            }
            other => Err(refusal(other)),
        }
    }

    /// Closes the stream, so that the process ends by itself, and kills it if it does not.
    pub async fn stop(mut self) -> DeviceExit {
        let (closed, _) = mpsc::channel(1);
        self.frames = closed;
        match timeout(Duration::from_millis(DEVICE_STOP_TIMEOUT_MS), self.exited()).await {
            Ok(exit) => exit,
            Err(_) => DeviceExit { cause: "killed: it did not end by itself".to_owned(), log: String::new() },
        }
    }
}

impl Drop for DeviceProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Takes back that a reply is expected, also from a future that is dropped.
struct GiveUp<'a> {
    pending: &'a Pending,
    id: u64,
}

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        self.pending.forget(self.id);
    }
}

fn refusal(reply: DeviceReply) -> RequestError {
    match reply {
        DeviceReply::Failed { code, message, retryable, .. } => RequestError::Failed { code, message, retryable },
        _ => RequestError::Mismatch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::launch::BINARY;
    use magpie_core::task::Used;
    use std::fmt::Write;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    const SOON: Duration = Duration::from_secs(60);

    /// A shell script in the place of the device, in a directory of its own.
    struct Script(tempfile::TempDir);

    impl Script {
        fn new(body: &str) -> Self {
            let script = Self(tempfile::tempdir().unwrap());
            script.write(BINARY, format!("#!/bin/sh\ncd \"$(dirname \"$0\")\"\n{body}\n").as_bytes());
            fs::set_permissions(script.0.path().join(BINARY), Permissions::from_mode(0o755)).unwrap();
            script
        }

        /// Is ready, then takes each request and gives the reply beside it, then runs `body`.
        fn answering(turns: &[(DeviceRequest, DeviceReply)], body: &str) -> Self {
            let ready = DeviceReply::Ready {
                version: "0".to_owned(),
                torch_version: "none".to_owned(),
                device: "script".to_owned(),
                threads: 1,
            };
            let mut lines = "cat ready\n".to_owned();
            for (turn, (request, _)) in turns.iter().enumerate() {
                let length = encode(request, FRAME_BYTES_MAX).unwrap().len();
                writeln!(lines, "head -c {length} >request{turn}; cat reply{turn}").unwrap();
            }
            let script = Self::new(&(lines + body));
            script.write("ready", &encode(&ready, FRAME_BYTES_MAX).unwrap());
            for (turn, (_, reply)) in turns.iter().enumerate() {
                script.write(&format!("reply{turn}"), &encode(reply, FRAME_BYTES_MAX).unwrap());
            }
            script
        }

        fn write(&self, name: &str, bytes: &[u8]) {
            fs::write(self.0.path().join(name), bytes).unwrap();
        }

        fn read(&self, name: &str) -> Vec<u8> {
            fs::read(self.0.path().join(name)).unwrap()
        }

        fn config(&self) -> DeviceProcessConfig {
            DeviceProcessConfig::cpu(Some(&self.0.path().join(BINARY)), 2).unwrap()
        }

        /// Starts anew where another test's fork still holds the script open for writing.
        async fn try_start(&self) -> Result<DeviceProcess, StartDeviceError> {
            loop {
                match DeviceProcess::start(&self.config()).await {
                    Err(StartDeviceError::Spawn { source, .. })
                        if source.kind() == io::ErrorKind::ExecutableFileBusy => {}
                    started => return started,
                }
            }
        }

        async fn start(&self) -> DeviceProcess {
            self.try_start().await.unwrap()
        }

        async fn start_error(&self) -> String {
            self.try_start().await.unwrap_err().in_words()
        }
    }

    fn unload(id: u64) -> DeviceRequest {
        DeviceRequest::Unload { id, model: "m".to_owned() }
    }

    fn embed(id: u64) -> DeviceRequest {
        DeviceRequest::Embed { id, model: "m".to_owned(), texts: vec!["a".to_owned(), "b".to_owned()] }
    }

    fn embedded(id: u64, vectors: usize) -> DeviceReply {
        let used = Used { cpu_us: Some(5), gpu_us: None };
        let text_tokens = vec![1, 2];
        DeviceReply::Embedded { id, vectors: vec![vec![1.0]; vectors], tokens: 3, took_ms: 4, used, text_tokens }
    }

    #[tokio::test]
    async fn a_request_goes_out_under_an_id_of_its_own_and_comes_back() {
        let turns = [(unload(1), DeviceReply::Unloaded { id: 1 }), (embed(2), embedded(2, 2))];
        let script = Script::answering(&turns, "cat >/dev/null");
        let process = script.start().await;
        assert_eq!((process.ready().device.as_str(), process.ready().threads), ("script", 1));
        assert_eq!(process.request(unload(77), SOON).await, Ok(DeviceReply::Unloaded { id: 1 }));
        let texts = ["a".to_owned(), "b".to_owned()];
        let batch = process.embed("m", &texts).await.unwrap();
        assert_eq!((batch.vectors.len(), batch.tokens, batch.took_ms), (2, 3, 4));
        assert_eq!((batch.used.used.cpu_us, batch.used.text_tokens), (Some(5), vec![1, 2]));
        assert_eq!(process.stop().await.cause, "exit status: 0");
        assert_eq!(script.read("request1"), encode(&embed(2), FRAME_BYTES_MAX).unwrap());
    }

    #[tokio::test]
    async fn an_answer_that_does_not_fit_the_question_is_an_error() {
        let failed = DeviceReply::Failed { id: 2, code: "c".to_owned(), message: "why".to_owned(), retryable: true };
        let turns = [(embed(1), embedded(1, 3)), (embed(2), failed)];
        let script = Script::answering(&turns, "cat >/dev/null");
        let process = script.start().await;
        let texts = ["a".to_owned(), "b".to_owned()];
        assert_eq!(process.embed("m", &texts).await, Err(RequestError::Mismatch));
        let failed = process.embed("m", &texts).await.unwrap_err();
        assert_eq!(failed.to_string(), "why");
        assert!(matches!(failed, RequestError::Failed { retryable: true, .. }));
    }

    #[tokio::test]
    async fn a_process_that_dies_fails_what_was_under_way_and_what_comes_after() {
        let script = Script::answering(&[], "head -c 1 >/dev/null; echo terminate called >&2; kill -ABRT $$");
        let process = script.start().await;
        let died = process.request(unload(0), SOON).await.unwrap_err();
        let RequestError::Exited(exit) = &died else { panic!("{died}") };
        assert!(exit.cause.contains("signal: 6"), "{exit}");
        assert!(died.to_string().ends_with("last words: terminate called"), "{died}");
        assert_eq!(process.request(unload(0), SOON).await.unwrap_err(), died);
        assert_eq!(process.exited().await, *exit);
    }

    #[tokio::test]
    async fn a_process_that_speaks_nonsense_is_killed() {
        let script = Script::answering(&[], "echo HTTP/1.1 400 Bad Request; exec sleep 1000");
        let exit = script.start().await.exited().await;
        assert!(exit.cause.starts_with("the stream carries no frames: "), "{exit}");
        assert!(exit.cause.ends_with("; killed"), "{exit}");
    }

    #[tokio::test]
    async fn a_reply_that_does_not_come_is_given_up() {
        let script = Script::answering(&[], "cat >/dev/null");
        let process = script.start().await;
        let error = process.request(unload(0), Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(error, RequestError::TimedOut { ms: 20 });
    }

    #[tokio::test]
    async fn a_process_that_is_killed_fails_what_is_under_way_and_what_comes_after() {
        let script = Script::answering(&[], "cat >/dev/null");
        let process = script.start().await;
        let exited = process.exited();
        let ask = || process.request(unload(0), Duration::from_secs(60));
        let (under_way, ()) = tokio::join!(ask(), async { process.kill() });
        let killed = || RequestError::Exited(DeviceExit { cause: "killed".to_owned(), log: String::new() });
        assert_eq!((under_way.unwrap_err(), ask().await.unwrap_err()), (killed(), killed()));
        drop(process);
        assert_eq!(exited.await.cause, "killed");
    }

    #[tokio::test]
    async fn a_dropped_handle_kills_the_process() {
        let script = Script::answering(&[], "echo $$ >pid; exec sleep 1000");
        let process = script.start().await;
        while fs::read(script.0.path().join("pid")).unwrap_or_default().last() != Some(&b'\n') {
            tokio::task::yield_now().await;
        }
        let pid = String::from_utf8(script.read("pid")).unwrap();
        let alive =
            || fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z "));
        assert!(alive());
        drop(process);
        while alive() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn the_environment_is_set_before_the_process_starts() {
        let script = Script::answering(&[], "env >environment; cat >/dev/null");
        script.start().await.stop().await;
        let environment = String::from_utf8(script.read("environment")).unwrap();
        for line in ["OMP_WAIT_POLICY=PASSIVE", "OMP_NUM_THREADS=2", "MKL_NUM_THREADS=2", "CUDA_VISIBLE_DEVICES="] {
            assert!(environment.lines().any(|held| held == line), "{line} is not in {environment}");
        }
        assert!(!environment.contains("MAGPIE_"), "{environment}");
    }

    #[tokio::test]
    async fn why_there_is_no_inference_is_said_in_words() {
        let directory = tempfile::tempdir().unwrap();
        let missing = DeviceProcessConfig::cpu(Some(&directory.path().join(BINARY)), 1).unwrap_err().in_words();
        assert!(missing.starts_with("offers no inference because "), "{missing}");
        assert!(missing.ends_with("node-device is not there; `make build` builds it"), "{missing}");

        let loader =
            "node-device: error while loading shared libraries: libtorch_cpu.so: cannot open shared object file";
        let missing = Script::new(&format!("echo '{loader}' >&2; exit 127")).start_error().await;
        assert!(missing.contains("libtorch is missing: node-device: error while loading"), "{missing}");

        let unbuilt = Script::new("echo built without the feature >&2; exit 2").start_error().await;
        assert!(
            unbuilt.ends_with("ended before it was ready: exit status: 2, last words: built without the feature"),
            "{unbuilt}"
        );

        let script = Script::new("exit 0");
        fs::set_permissions(script.0.path().join(BINARY), Permissions::from_mode(0o644)).unwrap();
        let forbidden = script.start_error().await;
        assert!(forbidden.contains("cannot be started: "), "{forbidden}");
    }
}
