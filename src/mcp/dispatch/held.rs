//! Calls that wait for a person: they are kept at the home in place of being made.

use magpie_core::payload::JsonText;
use magpie_core::queue::{ApprovalRequest, HeldCall, LedgerReply, LedgerRequest};
use serde_json::{Map, Value, json};

use super::plan::Planned;
use super::{Dispatcher, digest_of};
use crate::mcp::answer::{Next, ToolError};
use crate::mcp::approve::{CallFacts, own_name};
use crate::mcp::catalog::{Action, Catalog, Tool};
use crate::mcp::handler::Call;
use crate::mcp::link::{self, PATIENCE};
use crate::mcp::rehearsal;
use crate::mcp::tools::elsewhere::{FarCall, Place};
use crate::mcp::tools::mounts::MountedName;
use crate::mcp::tools::operation;
use crate::mcp::tools::task_queue::{accepted, wait_next};

const CALL_TOOL: &str = "p2p_taskqueue_call_tool";

impl Dispatcher {
    /// Whether a call of this tool waits for a person.
    pub(super) fn holds(&self, tool: &Tool) -> bool {
        let policy = self.principal.approve.as_ref().filter(|_| !self.is_approved);
        policy.is_some_and(|policy| policy.holds(&facts_of(tool)))
    }

    /// Keeps a call that waits for a person, and says so; none: it may be made. A wrong call is refused as it would be, so
    /// that nobody is asked about one.
    pub(super) async fn held(&self, planned: &Planned, call: &Call<'_>) -> Result<Option<Value>, ToolError> {
        let policy = match &self.principal.approve {
            Some(policy) if !self.is_approved => policy,
            Some(_) | None => return Ok(None),
        };
        let (name, arguments) = match planned {
            Planned::Own { tool, arguments } => {
                if !policy.holds(&facts_of(tool)) || asks_for_a_dry_run(tool, arguments)? {
                    return Ok(None);
                }
                self.rehearsed(tool, arguments.clone(), call).await?;
                (tool.entry.name.to_owned(), arguments.clone())
            }
            Planned::Mounted(mounted) => {
                let (name, tool) = (mounted.name.to_string(), mounted.name.find(call).await?);
                let facts =
                    CallFacts { name: &name, writes: !tool.read_only, destructive: tool.destructive, known: true };
                if !policy.holds(&facts) {
                    return Ok(None);
                }
                call.surface.check_mounted(&tool)?;
                (name, mounted.arguments.clone())
            }
            Planned::Far(far) => {
                let tool = Catalog::shared().find(&far.name).filter(|_| MountedName::of(&far.name).is_none());
                let unknown = CallFacts { name: &far.name, writes: true, destructive: true, known: false };
                let is_named = policy.holds(&tool.map_or(unknown, facts_of));
                let is_dry = tool.is_some_and(rehearses) && far.arguments.get(rehearsal::DRY_RUN) == Some(&true.into());
                if !is_named || is_dry {
                    return Ok(None);
                }
                (CALL_TOOL.to_owned(), there(far))
            }
        };
        self.keep(name, arguments, call).await.map(Some)
    }

    async fn rehearsed(
        &self,
        tool: &'static Tool,
        arguments: Map<String, Value>,
        call: &Call<'_>,
    ) -> Result<(), ToolError> {
        let Action::Run(handler) = tool.entry.action else { return Ok(()) };
        let (link, rehearsal) = self.link.rehearsing();
        let call = Call { link: &link, ..*call };
        match rehearsal::told(handler.run(tool, arguments, &call).await, &rehearsal) {
            // What cannot be tried is for the person to judge.
            Err(error) if error.code != "no_dry_run" => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn keep(&self, tool: String, arguments: Map<String, Value>, call: &Call<'_>) -> Result<Value, ToolError> {
        let key = key_of(&arguments);
        let text = Value::Object(arguments.clone()).to_string();
        let operation = operation::id("held_call", key, &format!("{tool} {} {text}", self.principal.name));
        let key = key.map(|key| format!("held-call:{}", digest_of(&format!("{tool} {} {key}", self.principal.name))));
        let held = HeldCall { tool: tool.clone(), arguments: JsonText::of(&Value::Object(arguments)) };
        let request = ApprovalRequest::Hold { operation, call: held, key, namespace: None };
        let id = match call.link.ledger(LedgerRequest::Approval(request), PATIENCE).await? {
            LedgerReply::Submitted { answers } => accepted(answers)?,
            _ => return Err(link::unexpected()),
        };
        let message = format!(
            "{tool} was not called: calls of it by this caller wait until a person approves them. Whoever may operate \
             the node decides, with `nodectl approval approve {id}` or `deny {id}`; once it is approved the node makes \
             the call, and its answer is the output of the task {id}"
        );
        let next = Next { after_ms: Some(5_000), ..wait_next(id) };
        Ok(json!({"ok": true, "held": true, "status": "input_required", "handle": id.to_string(),
            "task_id": id.to_string(), "message": message, "next": next}))
    }
}

fn facts_of(tool: &Tool) -> CallFacts<'_> {
    let entry = tool.entry;
    CallFacts { name: entry.name, writes: entry.writes(), destructive: entry.hints.destructive, known: true }
}

fn rehearses(tool: &Tool) -> bool {
    rehearsal::has_dry_run(tool.entry)
}

fn asks_for_a_dry_run(tool: &Tool, arguments: &Map<String, Value>) -> Result<bool, ToolError> {
    rehearsal::is_asked_for(tool, arguments)
}

/// The same call by the tool that makes it.
fn there(far: &FarCall) -> Map<String, Value> {
    let place = match far.place {
        Place::Peer(peer) => peer.to_string(),
        Place::Mounting => "auto".to_owned(),
    };
    let timeout_s = far.timeout_ms as f64 / 1_000.0;
    let call = [
        ("name", Value::from(own_name(&far.name))),
        ("peer_id", place.into()),
        ("arguments", Value::Object(far.arguments.clone())),
        ("timeout_s", timeout_s.into()),
    ];
    call.into_iter().map(|(field, value)| (field.to_owned(), value)).collect()
}

/// The key under which the same call is the same: its own, or that of the call which it makes.
fn key_of(arguments: &Map<String, Value>) -> Option<&str> {
    let key = |arguments: &Map<String, Value>| arguments.get("idempotency_key").is_some_and(Value::is_string);
    let inner = arguments.get("arguments").and_then(Value::as_object).filter(|inner| key(inner));
    let with_key = if key(arguments) { Some(arguments) } else { inner };
    with_key?.get("idempotency_key")?.as_str()
}

/// Whether the same call again does nothing twice, even if the first was made.
pub fn is_safe_again(tool: &str, arguments: &Map<String, Value>) -> bool {
    let runs =
        |tool: &str| Catalog::shared().find(tool).is_some_and(|tool| matches!(tool.entry.action, Action::Run(_)));
    let called =
        if tool == CALL_TOOL { arguments.get("name").and_then(Value::as_str).unwrap_or_default() } else { tool };
    // What servers that are mounted, or nodes of a later version, make of a key is theirs.
    runs(called) && key_of(arguments).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_made_again_only_where_a_key_keeps_it_from_being_done_twice() {
        let arguments = |value: Value| match value {
            Value::Object(arguments) => arguments,
            other => panic!("{other}"),
        };
        let keyed = json!({"idempotency_key": "k"});
        let far = |name: &str, inner: &Value| json!({"name": name, "peer_id": "p", "arguments": inner});
        for (tool, given, safe) in [
            ("queue_clear", keyed.clone(), true),
            ("queue_clear", json!({"confirm": true}), false),
            ("shop.order", keyed.clone(), false),
            (CALL_TOOL, far("queue_clear", &keyed), true),
            (CALL_TOOL, far("queue_clear", &json!({})), false),
            (CALL_TOOL, far("shop.order", &keyed), false),
            (CALL_TOOL, far("of_later", &keyed), false),
        ] {
            assert_eq!(is_safe_again(tool, &arguments(given.clone())), safe, "{tool} {given}");
        }
    }
}
