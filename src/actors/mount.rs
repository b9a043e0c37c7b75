//! One mounted MCP server, as the node knows it: what it offers, and the calls that were begun. A process is spoken to in the
//! thread of the actors, so that a call on its way wakes no other: all of them are read at one pace (`mounted/lines.rs`), and one
//! that writes without an end holds up neither the node nor its tasks. HTTP has no such pace, and is spoken where tasks run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use magpie_core::ids::PeerId;
use magpie_core::limits;
use magpie_core::queue::Refusal;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::{Map, Value};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::address::Address;
use crate::config::{McpConfig, MountConfig};
use crate::mcp::mounted::calls::{Call, Calls, Telling};
use crate::mcp::mounted::connection::{self, Event, Mount, Way};
use crate::mcp::mounted::lines::Pace;
use crate::messages::mount::{MountMsg, MountReply, MountRequest, MountView, MountedTool};

pub struct MountActor;

#[derive(Clone)]
pub struct MountArguments {
    pub name: Arc<str>,
    pub config: Arc<MountConfig>,
    /// Where tasks run.
    pub executing: Handle,
    /// Of all servers of the node.
    pub pace: Pace,
}

/// Those that a configuration names.
pub fn plan(config: &McpConfig, me: PeerId, executing: &Handle) -> Vec<(Address<MountMsg>, MountArguments)> {
    let pace = Pace::default();
    let planned = config.servers.iter().map(|(name, server)| {
        let address = Address::new(&format!("{me}/mount-{name}"));
        let (name, config) = (Arc::from(name.as_str()), Arc::new(server.clone()));
        (address, MountArguments { name, config, executing: executing.clone(), pace: pace.clone() })
    });
    planned.collect()
}

pub struct MountState {
    name: Arc<str>,
    config: Arc<MountConfig>,
    serving: Handle,
    keeping: JoinHandle<()>,
    way: watch::Receiver<Option<Way>>,
    offered: Arc<[MountedTool]>,
    left_out: usize,
    last_error: Option<String>,
    restarts: u64,
    calls: Calls,
    /// Calls under way, and those who wait for their ends.
    errands: JoinSet<()>,
}

impl Actor for MountActor {
    type Msg = MountMsg;
    type State = MountState;
    type Arguments = MountArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let MountArguments { name, config, executing, pace } = arguments;
        let serving = if config.url.is_some() { executing.clone() } else { Handle::current() };
        let (sender, way) = watch::channel(None);
        // Events are as rare as restarts; an actor that ended hears none.
        let report = move |event| {
            let message = match event {
                Event::Up { offered, left_out } => MountMsg::Up { offered, left_out },
                Event::Down { why } => MountMsg::Down { why },
            };
            let _ = myself.cast(message);
        };
        let mount = Mount { name: name.clone(), config: config.clone(), executing, pace, way: sender, report };
        let keeping = serving.spawn(connection::keep(mount));
        let calls_max = config.calls;
        Ok(MountState {
            name,
            config,
            serving,
            keeping,
            way,
            offered: Arc::new([]),
            left_out: 0,
            last_error: None,
            restarts: 0,
            calls: Calls::new(calls_max),
            errands: JoinSet::new(),
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        while state.errands.try_join_next().is_some() {}
        match message {
            MountMsg::Up { offered, left_out } => (state.offered, state.left_out) = (offered, left_out),
            MountMsg::Down { why } => {
                state.last_error = Some(why);
                state.restarts += 1;
            }
            MountMsg::Request { owner, request, permit, reply } => match state.answer(owner, request) {
                Answered::Now(answer) => _ = reply.send(answer),
                Answered::AtTheEndOf { call, wait_ms, errand } => {
                    let wait = Duration::from_millis(wait_ms.min(limits::WAIT_MAX_MS));
                    let answer = async move {
                        // Who does not wait any more needs no answer.
                        let _ = reply.send(Ok(call.follow(wait).await));
                        drop(permit);
                    };
                    let carried = async move {
                        if let Some(errand) = errand {
                            errand.run().await;
                        }
                    };
                    let both = async move {
                        tokio::join!(carried, answer);
                    };
                    state.errands.spawn_on(both, &state.serving);
                }
            },
        }
        Ok(())
    }
}

enum Answered {
    Now(Result<MountReply, Refusal>),
    /// When the call has ended, or so many milliseconds have passed. One that begins is carried out beside that.
    AtTheEndOf {
        call: Call,
        wait_ms: u64,
        errand: Option<Box<Errand>>,
    },
}

impl MountState {
    fn answer(&mut self, owner: Arc<str>, request: MountRequest) -> Answered {
        let answer = match request {
            MountRequest::List => MountReply::Servers(vec![self.view()]),
            MountRequest::Tools { .. } => MountReply::Tools(self.offered.clone()),
            MountRequest::Tool { tool, .. } => {
                match self.offered.iter().find(|offered| offered.tool == tool) {
                    // What one offers that has not come up yet nobody knows.
                    None if self.way.borrow().is_none() => return Answered::Now(Err(self.down())),
                    found => MountReply::Tool(found.cloned().map(Box::new)),
                }
            }
            MountRequest::Call { tool, arguments, wait_ms, .. } => {
                return match self.begin(owner, tool, arguments.to_value()) {
                    Ok(errand) => {
                        Answered::AtTheEndOf { call: errand.call.clone(), wait_ms, errand: Some(Box::new(errand)) }
                    }
                    Err(refusal) => Answered::Now(Err(refusal)),
                };
            }
            MountRequest::Wait { call, wait_ms, .. } => {
                return match self.calls.of(call, &owner) {
                    Some(call) => Answered::AtTheEndOf { call, wait_ms, errand: None },
                    None => Answered::Now(Err(self.unknown_call(call))),
                };
            }
            MountRequest::Cancel { call, .. } => match self.calls.of(call, &owner) {
                Some(call) => {
                    call.cancel.notify_one();
                    MountReply::Cancelled
                }
                None => return Answered::Now(Err(self.unknown_call(call))),
            },
        };
        Answered::Now(Ok(answer))
    }

    fn view(&self) -> MountView {
        MountView {
            server: self.name.to_string(),
            description: self.config.description.clone().unwrap_or_else(|| "tools of a mounted MCP server".to_owned()),
            up: self.way.borrow().is_some(),
            last_error: self.last_error.clone(),
            tools: self.offered.len(),
            left_out: self.left_out,
            restarts: self.restarts,
            calls: self.calls.running(),
        }
    }

    fn down(&self) -> Refusal {
        let why = self.last_error.as_deref().unwrap_or("it has not started yet");
        Refusal::Unavailable { what: format!("the mounted server {} is down: {why}", self.name) }
    }

    fn unknown_call(&self, call: u64) -> Refusal {
        let problem = format!("the server {} has no call {call} of this caller, or has forgotten its end", self.name);
        Refusal::invalid("/call", problem, "call the tool again")
    }

    fn begin(&mut self, owner: Arc<str>, tool: String, arguments: Value) -> Result<Errand, Refusal> {
        let Some(way) = self.way.borrow().clone() else {
            return Err(self.down());
        };
        let arguments = match arguments {
            Value::Object(arguments) => arguments,
            _ => return Err(Refusal::invalid("/arguments", "they are no object", "write an object")),
        };
        let Some((call, telling)) = self.calls.begin(owner) else {
            let what = format!("{} calls of the mounted server {} are under way", self.config.calls, self.name);
            return Err(Refusal::Overloaded { retry_after_ms: 500, what });
        };
        Ok(Errand { way, tool, arguments, call, telling })
    }
}

/// A call on its way to the server.
struct Errand {
    way: Way,
    tool: String,
    arguments: Map<String, Value>,
    call: Call,
    telling: Telling,
}

impl Errand {
    /// Takes the call to the server, and tells its end.
    async fn run(self) {
        let Self { way, tool, arguments, call, telling } = self;
        let progress = telling.progress.clone();
        let (began, longest) = (Instant::now(), Duration::from_millis(limits::MOUNT_CALL_MS_MAX));
        let cancelled = async {
            let _ = tokio::time::timeout(longest, call.cancel.notified()).await;
        };
        let reply = match way.call(tool, arguments, progress, cancelled).await {
            Ok(Some(result)) => MountReply::Ended { result },
            Ok(None) if began.elapsed() >= longest => {
                MountReply::Failed { why: format!("it took more than {} s", longest.as_secs()) }
            }
            Ok(None) => MountReply::Cancelled,
            Err(why) => MountReply::Failed { why },
        };
        telling.end(reply);
    }
}

impl Drop for MountState {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}
