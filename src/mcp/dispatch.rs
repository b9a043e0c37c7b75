//! The one way in for every call: what may be called, how many at a time, how long, how much comes back, and the
//! audit line. Tools that are listed and tools that are dispatched by name pass here alike, and so does what is read.

mod reading;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use data_encoding::HEXLOWER;
use magpie_core::ids::ContentId;
use magpie_core::time::Wall;
use serde_json::{Map, Value, json};

use super::answer::ToolError;
use super::arguments;
use super::catalog::{Action, Catalog, Category, Scope, Tool};
use super::fit::{ANSWER_BYTES_MAX, FULL_ANSWER_BYTES_MAX, fit};
use super::handler::{Call, Caller};
use super::link::NodeLink;
use super::panic;
use super::principal::Principal;
use super::surface::Surface;
use super::text::clean_value;
use super::tools::manager::DispatchInput;
use super::tools::mounts::{self, MountedCall, MountedName};
use crate::messages::audit::CallLine;

/// The longest that a call takes, whatever happens.
const CALL_MS_MAX: u64 = 30_000;

/// What a call gives: an object, and whether it tells of a failure.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub value: Value,
    pub is_error: bool,
    /// The work that it started and that may go on, by its id.
    pub work: Option<String>,
}

/// Serves the calls of one principal on one surface.
pub struct Dispatcher {
    /// Within the principal's scope.
    pub surface: Surface,
    /// Speaks in the principal's name.
    pub link: NodeLink,
    pub principal: Arc<Principal>,
}

/// A call that may run.
enum Planned {
    Own {
        tool: &'static Tool,
        arguments: Map<String, Value>,
    },
    /// Whether its server has such a tool, and whether it may be called, the node tells.
    Mounted(MountedCall),
}

impl Planned {
    /// How to get what did not fit the answer.
    fn rest(&self) -> &'static str {
        match self {
            Self::Own { tool, .. } => tool.entry.rest,
            Self::Mounted(_) => mounts::REST,
        }
    }

    fn bytes_max(&self) -> usize {
        match self {
            Self::Own { arguments, .. } => bytes_max(arguments),
            Self::Mounted(_) => FULL_ANSWER_BYTES_MAX,
        }
    }

    /// For the audit.
    fn name(&self) -> String {
        match self {
            Self::Own { tool, .. } => tool.entry.name.to_owned(),
            Self::Mounted(call) => call.name.to_string(),
        }
    }

    /// Whether its answer may name work that it started.
    fn starts_work(&self) -> bool {
        matches!(self, Self::Own { tool, .. } if tool.entry.writes())
    }
}

impl Dispatcher {
    pub fn new(surface: &Surface, link: NodeLink, principal: Arc<Principal>) -> Self {
        Self { surface: surface.within(principal.scope), link, principal }
    }

    /// The same for every tool that the principal may call, whatever is listed.
    pub fn unbound(&self) -> Self {
        Self { surface: self.surface.unbound(), link: self.link.clone(), principal: self.principal.clone() }
    }

    /// What is said of a call that needs a scope which the principal lacks, for who tells it in a way of its own.
    pub fn lacks(&self, name: &str, arguments: &Map<String, Value>) -> Option<ToolError> {
        if self.principal.scope == Scope::Admin {
            return None;
        }
        let (began, digest) = (Instant::now(), digest(arguments));
        let error = self.plan(name, arguments.clone()).err().filter(|error| error.needs.is_some())?;
        self.audit("unnamed", "none", name, &digest, error.code, began);
        Some(error)
    }

    /// Runs one call, writes its audit line and has it kept by the node. It always answers, in words if it cannot do better.
    pub async fn call(&self, name: &str, arguments: Map<String, Value>, caller: &dyn Caller) -> Outcome {
        let began = Instant::now();
        let digest = digest(&arguments);
        let planned = self.plan(name, arguments);
        let (bytes_max, rest, starts_work) = match &planned {
            Ok(planned) => (planned.bytes_max(), planned.rest(), planned.starts_work()),
            Err(_) => (ANSWER_BYTES_MAX, "", false),
        };
        let tool = planned.as_ref().map_or_else(|_| "none".to_owned(), Planned::name);
        let result = match planned {
            Ok(planned) => self.run(planned, caller).await,
            Err(error) => Err(error),
        };
        let outcome = result.as_ref().map_or_else(|error| error.code, |_| "ok");
        self.audit(&caller.name(), &tool, name, &digest, outcome, began);
        let is_error = result.is_err();
        let work = result.as_ref().ok().filter(|_| starts_work).and_then(work_in);
        let value = result.unwrap_or_else(|error| json!(error));
        Outcome { value: self.finish(value, bytes_max, rest), is_error, work }
    }

    /// What would leave of `value` if `tool` had answered it.
    pub fn shown(&self, tool: &str, value: Value) -> Value {
        let rest = Catalog::shared().find(tool).map_or("", |tool| tool.entry.rest);
        self.finish(value, ANSWER_BYTES_MAX, rest)
    }

    fn audit(&self, client: &str, tool: &str, called: &str, digest: &str, outcome: &str, began: Instant) {
        let text = |text: &str| text.to_owned();
        let call = CallLine {
            at: wall_now(),
            principal: text(&self.principal.name),
            client: text(client),
            tool: text(tool),
            called: called.chars().take(64).collect(),
            arguments: text(digest),
            outcome: text(outcome),
            ms: began.elapsed().as_millis() as u64,
            lost: 0,
        };
        tracing::info!(
            target: "audit",
            principal = call.principal,
            client,
            tool = call.tool,
            called = %call.called.escape_debug(),
            arguments = digest,
            outcome,
            ms = call.ms,
        );
        self.link.record(call);
    }

    fn plan(&self, name: &str, arguments: Map<String, Value>) -> Result<Planned, ToolError> {
        if let Some(name) = self.mounted(name) {
            return Ok(Planned::Mounted(MountedCall { name, arguments, reads_only: false, wait_ms: None }));
        }
        let tool = self.surface.find(name)?;
        let Action::Dispatch { reads_only } = tool.entry.action else { return Ok(Planned::Own { tool, arguments }) };
        let request: DispatchInput = arguments::read(tool, arguments)?;
        if let Some(name) = self.mounted(&request.name) {
            let DispatchInput { arguments, wait_ms, .. } = request;
            return Ok(Planned::Mounted(MountedCall { name, arguments, reads_only, wait_ms }));
        }
        let target = self.surface.find(&request.name)?;
        if matches!(target.entry.action, Action::Dispatch { .. }) {
            let message = format!("{} dispatches itself; name the tool that it should call", target.entry.name);
            return Err(ToolError::new("not_dispatched", message, "find one with tools_list_tools"));
        }
        if reads_only && target.entry.writes() {
            return Err(mounts::writes(target.entry.name));
        }
        Ok(Planned::Own { arguments: request.arguments_for(target)?, tool: target })
    }

    fn mounted(&self, name: &str) -> Option<MountedName> {
        MountedName::of(name).filter(|_| self.surface.reaches_mounts())
    }

    async fn run(&self, planned: Planned, caller: &dyn Caller) -> Result<Value, ToolError> {
        let call = self.call_of(caller);
        let work = async {
            match planned {
                Planned::Own { tool, arguments } => match tool.entry.action {
                    Action::Run(handler) => handler.run(tool, arguments, &call).await,
                    Action::Dispatch { .. } => Err(ToolError::internal(&"a dispatch was not resolved")),
                },
                Planned::Mounted(mounted) => mounts::call(mounted, &call).await,
            }
        };
        self.bounded(work).await
    }

    fn call_of<'a>(&'a self, caller: &'a dyn Caller) -> Call<'a> {
        Call { link: &self.link, surface: &self.surface, principal: &self.principal, caller }
    }

    /// Does what was asked in its turn and within its time; a panic ends it alone.
    async fn bounded<T>(&self, work: impl Future<Output = Result<T, ToolError>>) -> Result<T, ToolError> {
        let _admitted = self.principal.admit()?;
        let running = async {
            let _running = self.principal.turn().await?;
            work.await
        };
        let deadline = Duration::from_millis(CALL_MS_MAX);
        match tokio::time::timeout(deadline, panic::caught(running)).await {
            Ok(Ok(result)) => result,
            Ok(Err(panicked)) => Err(ToolError::internal(&format_args!("it panicked: {panicked}"))),
            Err(_) => {
                let message = format!("the call took more than {CALL_MS_MAX} ms");
                Err(ToolError::passing("timeout", message, "call again; a task that was submitted goes on", 1_000))
            }
        }
    }

    /// What leaves: clean text, a next call that this client can make, and no more than fits.
    fn finish(&self, value: Value, bytes_max: usize, rest: &str) -> Value {
        let mut value = clean_value(value);
        if let Some(next) = value.get_mut("next") {
            self.make_callable(next);
        }
        fit(&mut value, bytes_max, rest);
        value
    }

    /// A tool that is not listed is called through the dispatch that is.
    fn make_callable(&self, next: &mut Value) {
        let Some(tool) = next["tool"].as_str().and_then(|name| Catalog::shared().find(name)) else { return };
        let is_listed = self.surface.listed().any(|listed| listed.entry.name == tool.entry.name);
        if is_listed || tool.entry.category == Category::Manager {
            return;
        }
        let dispatch = if tool.entry.writes() { "tools_dispatch" } else { "tools_dispatch_read" };
        let arguments = next["arguments"].take();
        next["arguments"] = json!({"name": tool.entry.name, "arguments": arguments});
        next["tool"] = dispatch.into();
    }
}

/// The handle of an answer that says how to go on with it.
fn work_in(answer: &Value) -> Option<String> {
    let goes_on = answer.get("next").is_some_and(Value::is_object);
    answer["handle"].as_str().filter(|_| goes_on).map(str::to_owned)
}

fn wall_now() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Wall(since.map_or(0, |since| since.as_millis() as u64))
}

/// Tells calls apart without telling what they say.
fn digest(arguments: &Map<String, Value>) -> String {
    digest_of(&serde_json::to_string(arguments).unwrap_or_default())
}

fn digest_of(text: &str) -> String {
    HEXLOWER.encode(&ContentId::of(text.as_bytes()).0[..8])
}

fn bytes_max(arguments: &Map<String, Value>) -> usize {
    let is_full = |detail: &Value| detail == "full" || *detail == true;
    if arguments.get("detail").is_some_and(is_full) { FULL_ANSWER_BYTES_MAX } else { ANSWER_BYTES_MAX }
}
