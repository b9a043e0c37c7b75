//! The one way in for every call: what may be called, how many at a time, how long, how much comes back, and the
//! audit line. Tools that are listed and tools that are dispatched by name pass here alike, and so does what is read.

mod held;
mod plan;
mod reading;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use data_encoding::HEXLOWER;
use magpie_core::ids::ContentId;
use magpie_core::time::Wall;
use serde_json::{Map, Value, json};

use super::answer::ToolError;
use super::catalog::{Action, Catalog, Category, Scope, Tool};
use super::fit::{ANSWER_BYTES_MAX, FULL_ANSWER_BYTES_MAX, fit};
use super::handler::{AnyHandler, Call, Caller};
use super::link::NodeLink;
use super::panic;
use super::principal::Principal;
use super::rehearsal;
use super::surface::Surface;
use super::text::clean_value;
use super::tools::{elsewhere, mounts};
use crate::messages::audit::{CallLine, Route};
pub use held::is_safe_again;
use plan::Planned;

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
    bounds: Bounds,
    /// Its calls were approved, or need not be.
    is_approved: bool,
}

/// What one call takes.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    call_ms_max: u64,
    /// Of an answer, for who passes it on: the node that made the call for a client of its own.
    passing_bytes: usize,
}

impl Bounds {
    const OF_A_CLIENT: Self = Self { call_ms_max: CALL_MS_MAX, passing_bytes: 0 };
}

/// What a call gave, and where.
pub struct Ran {
    pub value: Value,
    /// Whether another node says that it is an error.
    pub is_error: bool,
    pub route: Route,
}

impl Ran {
    fn here(value: Value) -> Self {
        Self { value, is_error: false, route: Route::Here }
    }

    pub fn mounted(value: Value) -> Self {
        Self { value, is_error: false, route: Route::Mounted }
    }

    /// `ok`, or the code of the failure, for the audit.
    fn outcome(&self) -> String {
        if self.is_error { self.value["code"].as_str().unwrap_or("failed").to_owned() } else { "ok".to_owned() }
    }
}

/// What the audit says of a call beside whose it was.
struct Line<'a> {
    client: &'a str,
    tool: &'a str,
    called: &'a str,
    digest: &'a str,
    outcome: &'a str,
    began: Instant,
    route: Option<Route>,
    trace: Option<String>,
}

impl Dispatcher {
    pub fn new(surface: &Surface, link: NodeLink, principal: Arc<Principal>) -> Self {
        let surface = surface.within(principal.scope).kept_to(principal.namespace.clone());
        Self { surface, link, principal, bounds: Bounds::OF_A_CLIENT, is_approved: false }
    }

    /// The same for every tool that the principal may call, whatever is listed.
    pub fn unbound(&self) -> Self {
        let (link, principal) = (self.link.clone(), self.principal.clone());
        let (bounds, is_approved) = (self.bounds, self.is_approved);
        Self { surface: self.surface.unbound(), link, principal, bounds, is_approved }
    }

    /// The same for a call that a person approved, or that only takes back what waits.
    #[must_use]
    pub fn approved(self) -> Self {
        Self { is_approved: true, ..self }
    }

    /// The same for calls that another node makes, which end in that time and go no further.
    pub fn for_another_node(self, call_ms_max: u64) -> Self {
        Self { bounds: Bounds { call_ms_max, passing_bytes: elsewhere::PASSING_BYTES }, ..self }
    }

    fn is_for_another_node(&self) -> bool {
        self.bounds.passing_bytes > 0
    }

    /// What is said of a call that needs a scope which the principal lacks, for who tells it in a way of its own.
    pub fn lacks(&self, name: &str, arguments: &Map<String, Value>) -> Option<ToolError> {
        let is_within =
            |tool: &Tool| matches!(tool.entry.action, Action::Run(_)) && tool.entry.scope <= self.principal.scope;
        if self.principal.scope == Scope::Admin || Catalog::shared().find(name).is_some_and(is_within) {
            return None;
        }
        let began = Instant::now();
        let error = self.plan(name, arguments.clone()).err().filter(|error| error.needs.is_some())?;
        let digest = digest(arguments);
        let (client, tool, called, digest, outcome) = ("unnamed", "none", name, &*digest, error.code);
        self.audit(Line { client, tool, called, digest, outcome, began, route: None, trace: None });
        Some(error)
    }

    /// Runs one call, writes its audit line and has it kept by the node. It always answers, in words if it cannot do better.
    pub async fn call(&self, name: &str, arguments: Map<String, Value>, caller: &dyn Caller) -> Outcome {
        let began = Instant::now();
        let digest = digest(&arguments);
        let planned = self.plan(name, arguments).map(|planned| planned.traced(caller));
        let (bytes_max, rest, starts_work) = match &planned {
            Ok(planned) => (planned.bytes_max(), planned.rest(), planned.starts_work()),
            Err(_) => (ANSWER_BYTES_MAX, "", false),
        };
        let tool = planned.as_ref().map_or_else(|_| "none".to_owned(), Planned::name);
        let (mut route, trace) = match &planned {
            Ok(planned) => (Some(planned.route()), planned.trace().or_else(|| caller.trace())),
            Err(_) => (None, caller.trace()),
        };
        let result = match planned {
            Ok(planned) => self.run(planned, caller).await,
            Err(error) => Err(error),
        };
        if let Ok(ran) = &result {
            route = Some(ran.route);
        }
        let outcome = result.as_ref().map_or_else(|error| error.code.to_owned(), Ran::outcome);
        let (client, tool, called, digest, outcome) = (&*caller.name(), &*tool, name, &*digest, &*outcome);
        self.audit(Line { client, tool, called, digest, outcome, began, route, trace });
        let is_error = result.as_ref().map_or(true, |ran| ran.is_error);
        let value = result.map_or_else(|error| json!(error), |ran| ran.value);
        let work = Some(&value).filter(|_| starts_work && !is_error).and_then(work_in);
        Outcome { value: self.finish(value, bytes_max - self.bounds.passing_bytes, rest), is_error, work }
    }

    /// What would leave of `value` if `tool` had answered it.
    pub fn shown(&self, tool: &str, value: Value) -> Value {
        let rest = Catalog::shared().find(tool).map_or("", |tool| tool.entry.rest);
        self.finish(value, ANSWER_BYTES_MAX, rest)
    }

    fn audit(&self, line: Line<'_>) {
        let Line { client, tool, called, digest, outcome, began, route, trace } = line;
        let text = |text: &str| text.to_owned();
        let took = began.elapsed();
        let line = CallLine {
            at: wall_now(),
            principal: text(&self.principal.name),
            client: text(client),
            tool: text(tool),
            called: text(called),
            arguments: text(digest),
            outcome: text(outcome),
            ms: took.as_millis() as u64,
            us: Some(took.as_micros() as u64),
            route,
            trace,
            lost: 0,
        };
        self.link.record(line.cut());
    }

    async fn run(&self, planned: Planned, caller: &dyn Caller) -> Result<Ran, ToolError> {
        let call = self.call_of(caller);
        let work = async {
            if let Some(held) = Box::pin(self.held(&planned, &call)).await? {
                return Ok(Ran::here(held));
            }
            match planned {
                Planned::Own { tool, arguments } => match tool.entry.action {
                    Action::Run(handler) => self.run_own(tool, handler, arguments, &call).await.map(Ran::here),
                    Action::Dispatch { .. } | Action::Anywhere => {
                        Err(ToolError::internal(&"a dispatch was not resolved"))
                    }
                },
                Planned::Mounted(mounted) if self.is_for_another_node() => {
                    Box::pin(mounts::call(mounted, &call)).await.map(Ran::mounted)
                }
                Planned::Mounted(mounted) => Box::pin(elsewhere::call_mounted(mounted, &call)).await.map(Ran::mounted),
                // Boxed, so that the calls of this node's own tools are not as large as these.
                Planned::Far(far) => Box::pin(elsewhere::call(far, &call)).await,
            }
        };
        self.bounded(work).await
    }

    async fn run_own(
        &self,
        tool: &'static Tool,
        handler: &dyn AnyHandler,
        arguments: Map<String, Value>,
        call: &Call<'_>,
    ) -> Result<Value, ToolError> {
        if !rehearsal::is_asked_for(tool, &arguments)? {
            return handler.run(tool, arguments, call).await;
        }
        let (link, rehearsal) = self.link.rehearsing();
        let call = Call { link: &link, ..*call };
        let mut told = rehearsal::told(handler.run(tool, arguments, &call).await, &rehearsal)?;
        if self.holds(tool) {
            told["would"]["held"] = "the call itself would wait until a person approves it".into();
        }
        Ok(told)
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
        let call_ms_max = self.bounds.call_ms_max;
        let deadline = Duration::from_millis(call_ms_max);
        match tokio::time::timeout(deadline, panic::caught(running)).await {
            Ok(Ok(result)) => result,
            Ok(Err(panicked)) => Err(ToolError::internal(&format_args!("it panicked: {panicked}"))),
            Err(_) => {
                let message = format!("the call took more than {call_ms_max} ms");
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
