//! One mounted server: its process, the protocol with it, and what it offers; again and again.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use magpie_core::limits;
use magpie_core::payload::JsonText;
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CancelledNotificationParam, ClientCapabilities, ClientConfig,
    ClientRequest, Implementation, PaginatedRequestParams, PingRequest, ProgressNotificationParam, ProgressToken,
    ServerResult, Tool,
};
use rmcp::service::{NotificationContext, PeerRequestOptions, ServiceError};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{IntoTransport, StreamableHttpClientTransport};
use rmcp::{ClientHandler, Peer, RoleClient, ServiceExt};
use serde_json::{Map, Value};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::lines::Pace;
use super::pipes::Pipes;
use super::process::{self, Process};
use crate::config::MountConfig;
use crate::mcp::catalog::Scope;
use crate::mcp::text;
use crate::messages::mount::{MountProgress, MountedTool};

/// Of what a server says of a call's progress.
const MESSAGE_BYTES_MAX: usize = 512;
/// How often a server that is no process of this node is asked whether it is there, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_PATIENCE: Duration = Duration::from_secs(10);
/// One that ran so long starts anew without delay.
const STEADY: Duration = Duration::from_secs(60);
/// For what a process that ended has said.
const LAST_WORDS_PATIENCE: Duration = Duration::from_millis(100);

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
    /// Told where a call failed on its way.
    look_again: Arc<Notify>,
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
        let handle = sent.map_err(|error| self.failed(&error))?;
        let (id, token) = (handle.id.clone(), key(&handle.progress_token));
        self.progress.listeners().insert(token.clone(), progress);
        let _listening = Listening(&self.progress, token);
        tokio::select! {
            answer = handle.await_response() => match answer.map_err(|error| self.failed(&error))? {
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

impl Way {
    fn failed(&self, error: &ServiceError) -> String {
        if !matches!(error, ServiceError::McpError(_)) {
            self.look_again.notify_one();
        }
        error.to_string()
    }
}

fn passed_on(result: &rmcp::model::CallToolResult) -> Result<JsonText, String> {
    let mut text = Bounded(Vec::new());
    serde_json::to_writer(&mut text, result).map_err(|error| error.to_string())?;
    let text = std::str::from_utf8(&text.0).map_err(|error| error.to_string())?;
    JsonText::parse(text).map_err(|error| error.to_string())
}

/// As much of an answer as is passed on.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > limits::MOUNT_RESULT_BYTES_MAX {
            return Err(io::Error::other(format!("its answer has more than {} bytes", limits::MOUNT_RESULT_BYTES_MAX)));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn key(token: &ProgressToken) -> String {
    serde_json::to_string(token).unwrap_or_default()
}

/// The client that a mounted server sees.
struct Client {
    progress: Arc<ProgressOf>,
    /// What it offers may have changed.
    look_again: Arc<Notify>,
}

impl ClientHandler for Client {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(ClientCapabilities::default(), Implementation::new("magpie", env!("CARGO_PKG_VERSION")))
    }

    async fn on_progress(&self, params: ProgressNotificationParam, _context: NotificationContext<RoleClient>) {
        if let Some(listener) = self.progress.listeners().get(&key(&params.progress_token)) {
            let message = params.message.map(|message| text::beginning(&message, MESSAGE_BYTES_MAX).to_owned());
            listener.send_replace(Some(MountProgress { done: params.progress, total: params.total, message }));
        }
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.look_again.notify_one();
    }
}

/// A server that is kept running.
pub struct Mount<F> {
    pub name: Arc<str>,
    pub config: Arc<MountConfig>,
    /// Where tasks run, and what a server says beside the protocol is logged.
    pub executing: Handle,
    /// Of all servers of the node.
    pub pace: Pace,
    /// How to reach it while it is up.
    pub way: watch::Sender<Option<Way>>,
    /// Hears what befalls it.
    pub report: F,
}

/// Keeps a server running until this is dropped.
pub async fn keep(mount: Mount<impl Fn(Event)>) {
    let mut back_off_ms = limits::MOUNT_BACK_OFF_MS;
    loop {
        let began = Instant::now();
        let why = mount.run().await;
        mount.way.send_replace(None);
        tracing::warn!(server = &*mount.name, why, "a mounted server is down");
        (mount.report)(Event::Down { why });
        if began.elapsed() > STEADY {
            back_off_ms = limits::MOUNT_BACK_OFF_MS;
        }
        tokio::time::sleep(Duration::from_millis(back_off_ms)).await;
        back_off_ms = (back_off_ms * 2).min(limits::MOUNT_BACK_OFF_MS_MAX);
    }
}

impl<F: Fn(Event)> Mount<F> {
    /// One life of the server; why it ended.
    async fn run(&self) -> String {
        match &self.config.url {
            Some(url) => self.over_http(url).await,
            None => self.over_pipes().await,
        }
    }

    async fn over_pipes(&self) -> String {
        let config = self.config.clone();
        let starting = tokio::task::spawn_blocking(move || Process::start(&config.command, &config.env));
        let mut process = match starting.await.map_err(io::Error::other).flatten() {
            Ok(process) => process,
            Err(error) => return format!("{:?} cannot be started: {error}", self.config.command[0]),
        };
        let Some((input, output, errors)) = process.pipes() else { return "it has no pipes".to_owned() };
        let (said, last_words) = watch::channel(String::new());
        let mut listening = JoinSet::new();
        listening.spawn_on(process::listen(self.name.to_string(), errors, said), &self.executing);
        let why = self.speak(Pipes::new(output, input, self.pace.clone())).await;
        let status = process.status().await;
        // Its children may have its standard error still.
        let _ = tokio::time::timeout(LAST_WORDS_PATIENCE, listening.join_next()).await;
        let last_words = match &*last_words.borrow() {
            words if words.is_empty() => String::new(),
            words => format!("; it said last: {words}"),
        };
        match status {
            Some(status) => format!("it ended with {status}{last_words}"),
            None => format!("{why}{last_words}"),
        }
    }

    async fn over_http(&self, url: &str) -> String {
        let mut http = StreamableHttpClientTransportConfig::with_uri(url).max_concurrent_requests(self.config.calls);
        if let Some(file) = &self.config.token_file {
            match tokio::fs::read_to_string(file).await {
                Ok(token) => http = http.auth_header(token.trim()),
                Err(error) => return format!("its token cannot be read from {}: {error}", file.display()),
            }
        }
        // Another part of the program may have chosen a provider before; any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        self.speak(StreamableHttpClientTransport::from_config(http)).await
    }

    /// Speaks with it until it ends; why it did.
    async fn speak<T, E, A>(&self, transport: T) -> String
    where
        T: IntoTransport<RoleClient, E, A>,
        E: std::error::Error + Send + Sync + 'static,
    {
        let (progress, look_again) = (Arc::<ProgressOf>::default(), Arc::<Notify>::default());
        let client = Client { progress: progress.clone(), look_again: look_again.clone() };
        let starting = Duration::from_millis(limits::MOUNT_START_MS_MAX);
        let service = match tokio::time::timeout(starting, client.serve(transport)).await {
            Ok(Ok(service)) => service,
            Ok(Err(error)) => return format!("it did not open the protocol: {error}"),
            Err(_) => return format!("it did not open the protocol within {} ms", limits::MOUNT_START_MS_MAX),
        };
        let peer = service.peer().clone();
        let mut ended = std::pin::pin!(service.waiting());
        loop {
            let again = tokio::time::sleep(Duration::from_millis(limits::MOUNT_LOOK_EVERY_MS));
            let listing = tokio::time::timeout(starting, offered(&self.name, self.config.scope, &peer));
            let listed = tokio::select! {
                listed = listing => listed,
                ended = &mut ended => return format!("the protocol ended: {ended:?}"),
            };
            match listed {
                Ok(Ok((offered, left_out))) => {
                    let way = Way { peer: peer.clone(), progress: progress.clone(), look_again: look_again.clone() };
                    self.way.send_replace(Some(way));
                    (self.report)(Event::Up { offered, left_out });
                }
                Ok(Err(why)) => return format!("it did not list its tools: {why}"),
                Err(_) => return format!("it did not list its tools within {} ms", limits::MOUNT_START_MS_MAX),
            }
            let changed = async {
                look_again.notified().await;
                again.await;
            };
            tokio::select! {
                () = changed => {}
                ended = &mut ended => return format!("the protocol ended: {ended:?}"),
                why = self.silent(&peer) => return why,
            }
        }
    }

    /// Ends when a server that is no process of this node does not answer any more, and says so.
    async fn silent(&self, peer: &Peer<RoleClient>) -> String {
        if self.config.url.is_none() {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(PING_EVERY).await;
            let ping = ClientRequest::PingRequest(PingRequest::default());
            match tokio::time::timeout(PING_PATIENCE, peer.send_request(ping)).await {
                // One that knows no ping has answered.
                Ok(Ok(_) | Err(ServiceError::McpError(_))) => {}
                Ok(Err(error)) => return format!("it does not answer: {error}"),
                Err(_) => return format!("it did not answer within {} s", PING_PATIENCE.as_secs()),
            }
        }
    }
}

/// What it offers, as far as a node keeps it, and how many tools that leaves out.
async fn offered(
    name: &Arc<str>,
    writing: Scope,
    peer: &Peer<RoleClient>,
) -> Result<(Arc<[MountedTool]>, usize), String> {
    let (mut tools, mut bytes, mut left_out, mut cursor) = (Vec::new(), 0, 0, None);
    loop {
        let page = peer.list_tools(Some(PaginatedRequestParams::default().with_cursor(cursor.take()))).await;
        let page = page.map_err(|error| error.to_string())?;
        // A page may have megabytes.
        let (name, listed) = (name.clone(), page.tools);
        let reading = move || listed.into_iter().map(|tool| mounted(&name, writing, tool)).collect::<Vec<_>>();
        for tool in tokio::task::spawn_blocking(reading).await.map_err(|error| error.to_string())? {
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
        tracing::warn!(server = &**name, left_out, "a mounted server offers more than is kept");
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
