//! What a call comes to: which tool, where, with which arguments, before anything runs.

use magpie_core::limits;
use serde_json::{Map, Value};

use super::{Dispatcher, bytes_max};
use crate::mcp::answer::ToolError;
use crate::mcp::arguments;
use crate::mcp::catalog::{Action, Tool};
use crate::mcp::fit::FULL_ANSWER_BYTES_MAX;
use crate::mcp::handler::Caller;
use crate::mcp::rehearsal;
use crate::mcp::tools::elsewhere::{self, CallToolInput, FarCall, Place};
use crate::mcp::tools::manager::DispatchInput;
use crate::mcp::tools::mounts::{self, MountedCall, MountedName};
use crate::messages::audit::Route;

/// A call that may run.
pub(super) enum Planned {
    Own {
        tool: &'static Tool,
        arguments: Map<String, Value>,
    },
    /// Whether its server has such a tool, and whether it may be called, the node tells.
    Mounted(MountedCall),
    /// Whether it may run there, the other node decides as well.
    Far(FarCall),
}

impl Planned {
    /// How to get what did not fit the answer.
    pub fn rest(&self) -> &'static str {
        match self {
            Self::Own { tool, .. } => tool.entry.rest,
            Self::Mounted(_) => mounts::REST,
            Self::Far(_) => elsewhere::REST,
        }
    }

    pub fn bytes_max(&self) -> usize {
        match self {
            Self::Own { arguments, .. } => bytes_max(arguments),
            Self::Mounted(_) | Self::Far(_) => FULL_ANSWER_BYTES_MAX,
        }
    }

    /// For the audit.
    pub fn name(&self) -> String {
        match self {
            Self::Own { tool, .. } => tool.entry.name.to_owned(),
            Self::Mounted(call) => call.name.to_string(),
            Self::Far(call) => call.name.clone(),
        }
    }

    pub fn route(&self) -> Route {
        match self {
            Self::Own { .. } => Route::Here,
            Self::Mounted(_) => Route::Mounted,
            Self::Far(_) => Route::Peer,
        }
    }

    pub fn trace(&self) -> Option<String> {
        match self {
            Self::Own { .. } | Self::Mounted(_) => None,
            Self::Far(call) => Some(call.trace.clone()),
        }
    }

    /// The same, followed by what its caller follows it by.
    pub fn traced(self, caller: &dyn Caller) -> Self {
        match self {
            Self::Far(call) => {
                Self::Far(FarCall { trace: caller.trace().unwrap_or_else(elsewhere::new_trace), ..call })
            }
            here => here,
        }
    }

    /// Whether its answer may name work that it started.
    pub fn starts_work(&self) -> bool {
        match self {
            Self::Own { tool, .. } => tool.entry.writes(),
            Self::Mounted(_) => false,
            Self::Far(call) => call.writes,
        }
    }
}

impl Dispatcher {
    pub(super) fn plan(&self, name: &str, arguments: Map<String, Value>) -> Result<Planned, ToolError> {
        if let Some(name) = self.mounted(name) {
            return Ok(self.mounted_call(name, arguments, false, None));
        }
        let tool = self.surface.find(name)?;
        match tool.entry.action {
            Action::Run(_) => self.own(tool, arguments),
            Action::Dispatch { reads_only } => self.dispatched(arguments::read(tool, arguments)?, reads_only),
            Action::Anywhere => self.anywhere(arguments::read(tool, arguments)?),
        }
    }

    /// A caller that is kept to a namespace may name it, and no other.
    fn own(&self, tool: &'static Tool, arguments: Map<String, Value>) -> Result<Planned, ToolError> {
        match (&self.principal.namespace, arguments.get("namespace")) {
            (Some(own), Some(Value::String(named))) if **own != **named => {
                let shown: String = named.chars().take(80).collect();
                let problem = format!("it is {shown:?}, and this caller is kept to {own:?}");
                Err(ToolError::wrong_argument("namespace", problem, &format!("{own:?}"), "leave it out"))
            }
            (_, _) => Ok(Planned::Own { tool, arguments }),
        }
    }

    fn dispatched(&self, request: DispatchInput, reads_only: bool) -> Result<Planned, ToolError> {
        if let Some(name) = self.mounted(&request.name) {
            if request.dry_run == Some(true) {
                return Err(rehearsal::has_none("a tool of a mounted server"));
            }
            let DispatchInput { arguments, wait_ms, .. } = request;
            return Ok(self.mounted_call(name, arguments, reads_only, wait_ms));
        }
        let target = self.surface.find(&request.name)?;
        if reads_only && target.entry.writes() {
            return Err(mounts::writes(target.entry.name));
        }
        match target.entry.action {
            Action::Run(_) => self.own(target, request.arguments_for(target)?),
            Action::Dispatch { .. } => Err(dispatches_itself(target)),
            Action::Anywhere => self.anywhere(arguments::read(target, request.arguments_for(target)?)?),
        }
    }

    fn anywhere(&self, request: CallToolInput) -> Result<Planned, ToolError> {
        let place = request.peer_id.as_deref().map(Place::of).transpose()?;
        match place {
            // Every node has the tools that are no server's.
            None => self.dispatched_here(request),
            Some(Place::Mounting) if MountedName::of(&request.name).is_none() => self.dispatched_here(request),
            Some(place) => self.far(place, request).map(Planned::Far),
        }
    }

    fn dispatched_here(&self, request: CallToolInput) -> Result<Planned, ToolError> {
        if self.surface.find(&request.name).is_ok_and(|tool| matches!(tool.entry.action, Action::Anywhere)) {
            return Err(calls_itself());
        }
        self.dispatched(request.here(), false)
    }

    fn far(&self, place: Place, request: CallToolInput) -> Result<FarCall, ToolError> {
        if self.is_for_another_node() {
            let fix = "call that node yourself: p2p_taskqueue_call_tool with its peer_id";
            return Err(ToolError::new("goes_no_further", "a call that comes from another node ends here", fix));
        }
        if let (Some(namespace), true) = (&self.principal.namespace, place == Place::Mounting) {
            return Err(knows_no_namespaces(namespace));
        }
        let timeout_ms = elsewhere::timeout_ms(request.timeout_s)?;
        let name = request.name.clone();
        let known = match self.mounted(&name) {
            Some(_) => None,
            None => match self.surface.find(&name) {
                Ok(tool) if matches!(tool.entry.action, Action::Anywhere) => return Err(calls_itself()),
                Ok(tool) if matches!(tool.entry.action, Action::Dispatch { .. }) => {
                    return Err(dispatches_itself(tool));
                }
                Ok(tool) => Some(tool),
                // The other node may be of a later version.
                Err(error) if error.code == "unknown_tool" && self.surface.reaches_mounts() => None,
                Err(error) => return Err(error),
            },
        };
        let has_key = request.idempotency_key.is_some() || request.arguments.contains_key("idempotency_key");
        let writes = known.is_none_or(|tool| tool.entry.writes());
        let arguments = match known {
            Some(tool) => request.here_within(timeout_ms).arguments_for(tool)?,
            None if request.dry_run == Some(true) => {
                return Err(rehearsal::has_none("a tool that only the other node knows"));
            }
            None => request.arguments,
        };
        let bytes = serde_json::to_string(&arguments).map_or(usize::MAX, |text| text.len());
        if bytes > limits::PEER_CALL_ARGUMENTS_BYTES_MAX {
            let bytes_max = limits::PEER_CALL_ARGUMENTS_BYTES_MAX;
            let message = format!("the arguments have {bytes} bytes, and a call at another node takes {bytes_max}");
            return Err(ToolError::new("too_large", message, "send less, or be a client of that node"));
        }
        let is_safe_again = known.is_some() && (!writes || has_key);
        Ok(FarCall { place, name, arguments, timeout_ms, writes, is_safe_again, trace: String::new() })
    }

    /// A call that another node makes is waited for no longer than it may last: then it goes on, and can be followed.
    fn mounted_call(
        &self,
        name: MountedName,
        arguments: Map<String, Value>,
        reads_only: bool,
        wait_ms: Option<u64>,
    ) -> Planned {
        let within = self.is_for_another_node().then(|| elsewhere::wait_within(self.bounds.call_ms_max));
        let wait_ms = match (wait_ms, within) {
            (Some(wait_ms), Some(within)) => Some(wait_ms.min(within)),
            (wait_ms, within) => wait_ms.or(within),
        };
        Planned::Mounted(MountedCall { name, arguments, reads_only, wait_ms })
    }

    fn mounted(&self, name: &str) -> Option<MountedName> {
        MountedName::of(name).filter(|_| self.surface.reaches_mounts())
    }
}

fn dispatches_itself(tool: &Tool) -> ToolError {
    let message = format!("{} dispatches itself; name the tool that it should call", tool.entry.name);
    ToolError::new("not_dispatched", message, "find one with tools_list_tools")
}

/// A mounted server would take the caller for one of the whole node, wherever it is mounted.
fn knows_no_namespaces(namespace: &str) -> ToolError {
    let message = format!("mounted servers are not called for a caller that is kept to the namespace {namespace}");
    let fix = "call a tool of a node; whoever runs the node makes tokens without a namespace";
    ToolError::new("whole_node", message, fix)
}

fn calls_itself() -> ToolError {
    let message = "p2p_taskqueue_call_tool would call itself; name the tool that it should call";
    ToolError::new("not_dispatched", message, "find one with tools_list_tools")
}
