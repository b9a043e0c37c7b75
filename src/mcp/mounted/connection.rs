//! One mounted server: its process, the protocol with it, and what it offers; again and again.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use magpie_core::limits;
use magpie_core::payload::JsonText;
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CancelledNotificationParam, ClientCapabilities, ClientConfig,
    ClientRequest, Implementation, PaginatedRequestParams, ProgressNotificationParam, ProgressToken, ServerResult,
    Tool,
};
use rmcp::service::{NotificationContext, PeerRequestOptions};
use rmcp::{ClientHandler, Peer, RoleClient, ServiceExt};
use serde_json::{Map, Value};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::{Notify, watch};

use super::lines::BoundedLines;
use crate::config::MountConfig;
use crate::mcp::catalog::Scope;
use crate::mcp::text;
use crate::messages::mount::{MountProgress, MountedTool};

/// Of the node's environment a server gets these, and what its configuration says.
const ENVIRONMENT: [&str; 4] = ["PATH", "HOME", "LANG", "TMPDIR"];
/// A line of its standard error is kept so far.
const ERROR_LINE_BYTES_MAX: usize = 512;
/// One that ran so long starts anew without delay.
const STEADY: Duration = Duration::from_secs(60);
/// For the exit status of a server that closed its output.
const EXIT_PATIENCE: Duration = Duration::from_secs(1);

/// What befalls a server.
#[derive(Debug, Clone)]
pub enum Event {
    /// It is up, or offers something else than before.
    Up {
        offered: Arc<[MountedTool]>,
        left_out: usize,
    },
    Down {
        why: String,
    },
}

/// The way to a server that is up. A clone is the same way.
#[derive(Clone)]
pub struct Way {
    peer: Peer<RoleClient>,
    progress: Arc<ProgressOf>,
}

/// Who hears how far a call is, by the token that it was given.
#[derive(Default)]
struct ProgressOf(Mutex<BTreeMap<String, watch::Sender<Option<MountProgress>>>>);

impl ProgressOf {
    fn listeners(&self) -> MutexGuard<'_, BTreeMap<String, watch::Sender<Option<MountProgress>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets who hears of a call, when the call is over.
struct Listening<'a>(&'a ProgressOf, String);

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.listeners().remove(&self.1);
    }
}

impl Way {
    /// Calls a tool and gives the protocol's result; until then `progress` hears how far it is. Where `cancelled` comes
    /// first, the server is told, and there is none.
    ///
    /// # Errors
    /// What the server answered instead, or that it went away.
    pub async fn call(
        &self,
        tool: String,
        arguments: Map<String, Value>,
        progress: watch::Sender<Option<MountProgress>>,
        cancelled: impl Future<Output = ()>,
    ) -> Result<Option<JsonText>, String> {
        let params = CallToolRequestParams::new(tool).with_arguments(arguments);
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        let sent = self.peer.send_cancellable_request(request, PeerRequestOptions::no_options()).await;
        let handle = sent.map_err(|error| error.to_string())?;
        let (id, token) = (handle.id.clone(), key(&handle.progress_token));
        self.progress.listeners().insert(token.clone(), progress);
        let _listening = Listening(&self.progress, token);
        tokio::select! {
            answer = handle.await_response() => match answer.map_err(|error| error.to_string())? {
                ServerResult::CallToolResult(result) => passed_on(&result).map(Some),
                other => Err(format!("it answered something else: {}", text::shown(&serde_json::json!(other)))),
            },
            () = cancelled => {
                // One that has gone needs not be told.
                let reason = Some("the caller does not want it any more".to_owned());
                let params = CancelledNotificationParam::new(Some(id), reason);
                let _ = self.peer.notify_cancelled(params).await;
                Ok(None)
            }
        }
    }
}

fn passed_on(result: &rmcp::model::CallToolResult) -> Result<JsonText, String> {
    let result = serde_json::to_value(result).map_err(|error| error.to_string())?;
    let text = JsonText::of(&result);
    let bytes = text.as_str().len();
    if bytes > limits::MOUNT_RESULT_BYTES_MAX {
        return Err(format!("its answer has {bytes} bytes, more than {}", limits::MOUNT_RESULT_BYTES_MAX));
    }
    Ok(text)
}

fn key(token: &ProgressToken) -> String {
    serde_json::to_string(token).unwrap_or_default()
}

/// The client that a mounted server sees.
struct Client {
    progress: Arc<ProgressOf>,
    /// What it offers has changed.
    changed: Arc<Notify>,
}

impl ClientHandler for Client {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(ClientCapabilities::default(), Implementation::new("magpie", env!("CARGO_PKG_VERSION")))
    }

    async fn on_progress(&self, params: ProgressNotificationParam, _context: NotificationContext<RoleClient>) {
        if let Some(listener) = self.progress.listeners().get(&key(&params.progress_token)) {
            let message = params.message.map(|message| text::beginning(&message, ERROR_LINE_BYTES_MAX).to_owned());
            listener.send_replace(Some(MountProgress { done: params.progress, total: params.total, message }));
        }
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.changed.notify_one();
    }
}

/// Keeps the server `name` running until it is dropped: `way` is how to reach it while it is up, `report` hears what
/// befalls it.
pub async fn keep(name: &str, config: &MountConfig, way: watch::Sender<Option<Way>>, report: impl Fn(Event)) {
    let mut back_off_ms = limits::MOUNT_BACK_OFF_MS;
    loop {
        let began = Instant::now();
        let why = run(name, config, &way, &report).await;
        way.send_replace(None);
        tracing::warn!(server = name, why, "a mounted server is down");
        report(Event::Down { why });
        if began.elapsed() > STEADY {
            back_off_ms = limits::MOUNT_BACK_OFF_MS;
        }
        tokio::time::sleep(Duration::from_millis(back_off_ms)).await;
        back_off_ms = (back_off_ms * 2).min(limits::MOUNT_BACK_OFF_MS_MAX);
    }
}

/// One life of the server; why it ended.
async fn run(name: &str, config: &MountConfig, way: &watch::Sender<Option<Way>>, report: &impl Fn(Event)) -> String {
    let mut process = match Process::start(config) {
        Ok(process) => process,
        Err(error) => return format!("{:?} cannot be started: {error}", config.command[0]),
    };
    let mut said = String::new();
    let spoken = speak(name, config, &mut process, &mut said, way, report).await;
    let status = process.status().await;
    let last_words = if said.is_empty() { said } else { format!("; it said last: {said}") };
    match (spoken, status) {
        (_, Some(status)) => format!("it ended with {status}{last_words}"),
        (why, None) => format!("{why}{last_words}"),
    }
}

/// Speaks with it until it ends; why it did.
async fn speak(
    name: &str,
    config: &MountConfig,
    process: &mut Process,
    said: &mut String,
    way: &watch::Sender<Option<Way>>,
    report: &impl Fn(Event),
) -> String {
    let Some((input, output, errors)) = process.pipes() else { return "it has no pipes".to_owned() };
    let (progress, changed) = (Arc::<ProgressOf>::default(), Arc::<Notify>::default());
    let client = Client { progress: progress.clone(), changed: changed.clone() };
    let output = BoundedLines::new(output, limits::MOUNT_LINE_BYTES_MAX);
    let protocol = async {
        let starting = Duration::from_millis(limits::MOUNT_START_MS_MAX);
        let service = match tokio::time::timeout(starting, client.serve((output, input))).await {
            Ok(Ok(service)) => service,
            Ok(Err(error)) => return format!("it did not open the protocol: {error}"),
            Err(_) => return format!("it did not open the protocol within {} ms", limits::MOUNT_START_MS_MAX),
        };
        let peer = service.peer().clone();
        let mut ended = std::pin::pin!(service.waiting());
        loop {
            let listed = tokio::select! {
                listed = tokio::time::timeout(starting, offered(name, config, &peer)) => listed,
                ended = &mut ended => return format!("the protocol ended: {ended:?}"),
            };
            match listed {
                Ok(Ok((offered, left_out))) => {
                    way.send_replace(Some(Way { peer: peer.clone(), progress: progress.clone() }));
                    report(Event::Up { offered, left_out });
                }
                Ok(Err(why)) => return format!("it did not list its tools: {why}"),
                Err(_) => return format!("it did not list its tools within {} ms", limits::MOUNT_START_MS_MAX),
            }
            tokio::select! {
                () = changed.notified() => {}
                ended = &mut ended => return format!("the protocol ended: {ended:?}"),
            }
        }
    };
    tokio::select! {
        why = protocol => why,
        never = listen(name, errors, said) => never,
    }
}

/// Its standard error goes to the log; the last line is kept for whoever asks why it ended.
async fn listen<T>(name: &str, errors: ChildStderr, said: &mut String) -> T {
    let mut errors = BufReader::new(errors);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut errors).take(ERROR_LINE_BYTES_MAX as u64).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return std::future::pending().await,
            Ok(_) => {
                let words = text::clean(String::from_utf8_lossy(&line).trim().to_owned());
                if !words.is_empty() {
                    tracing::info!(server = name, said = words, "a mounted server speaks");
                    *said = words;
                }
            }
        }
    }
}

/// What it offers, as far as a node keeps it, and how many tools that leaves out.
async fn offered(
    name: &str,
    config: &MountConfig,
    peer: &Peer<RoleClient>,
) -> Result<(Arc<[MountedTool]>, usize), String> {
    let (mut tools, mut bytes, mut left_out, mut cursor) = (Vec::new(), 0, 0, None);
    loop {
        let page = peer.list_tools(Some(PaginatedRequestParams::default().with_cursor(cursor.take()))).await;
        let page = page.map_err(|error| error.to_string())?;
        for tool in page.tools {
            let tool = mounted(name, config.scope, tool);
            let own = tool.description.len()
                + tool.input_schema.as_str().len()
                + tool.output_schema.as_ref().map_or(0, |schema| schema.as_str().len());
            let fits = own <= limits::MOUNT_TOOL_BYTES_MAX && bytes + own <= limits::MOUNT_TOOLS_BYTES_MAX;
            if fits && tools.len() < limits::MOUNT_TOOLS_MAX {
                bytes += own;
                tools.push(tool);
            } else {
                left_out += 1;
            }
        }
        match page.next_cursor {
            Some(_) if left_out > limits::MOUNT_TOOLS_MAX => return Err("its list has no end".to_owned()),
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    if left_out > 0 {
        tracing::warn!(server = name, left_out, "a mounted server offers more than is kept");
    }
    Ok((tools.into(), left_out))
}

/// A tool as it is kept. Hints that were not given are what the protocol says they are then.
fn mounted(server: &str, writing: Scope, tool: Tool) -> MountedTool {
    let hints = tool.annotations.unwrap_or_default();
    let read_only = hints.read_only_hint.unwrap_or(false);
    let title = tool.title.or(hints.title).unwrap_or_else(|| tool.name.to_string());
    let scope = if read_only { Scope::Read } else { writing };
    MountedTool {
        server: server.to_owned(),
        tool: tool.name.to_string(),
        title: text::clean(title),
        description: text::clean(tool.description.unwrap_or_default().into_owned()),
        input_schema: JsonText::of(&Value::Object((*tool.input_schema).clone())),
        output_schema: tool.output_schema.map(|schema| JsonText::of(&Value::Object((*schema).clone()))),
        read_only,
        destructive: !read_only && hints.destructive_hint.unwrap_or(true),
        idempotent: read_only || hints.idempotent_hint.unwrap_or(false),
        open_world: hints.open_world_hint.unwrap_or(true),
        scope: scope.name().to_owned(),
    }
}

/// The process, in a group of its own: dropped, all of the group is killed.
struct Process(Child);

impl Process {
    fn start(config: &MountConfig) -> std::io::Result<Self> {
        let mut command = Command::new(&config.command[0]);
        command.args(&config.command[1..]).env_clear();
        command.envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.envs(&config.env).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().map(Self)
    }

    fn pipes(&mut self) -> Option<(tokio::process::ChildStdin, tokio::process::ChildStdout, ChildStderr)> {
        Some((self.0.stdin.take()?, self.0.stdout.take()?, self.0.stderr.take()?))
    }

    /// How it ended, if it has.
    async fn status(&mut self) -> Option<std::process::ExitStatus> {
        tokio::time::timeout(EXIT_PATIENCE, self.0.wait()).await.ok()?.ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Not waited for yet, so the number is still this process's.
        if let Some(group) = self.0.id().and_then(|id| rustix::process::Pid::from_raw(id as i32)) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}
