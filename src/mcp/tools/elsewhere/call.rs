//! One call at another node: begun once, followed by its id until it has ended, and given up where nobody can tell how.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use magpie_core::ids::{OperationId, PeerId};
use magpie_core::payload::JsonText;
use serde_json::{Map, Value, json};

use super::super::follow::{Followed, follow_for};
use super::mounting::{self, Nearest};
use super::{FarCall, Place};
use crate::client::ClientError;
use crate::mcp::answer::{Next, ToolError};
use crate::mcp::dispatch::Ran;
use crate::mcp::fit::FULL_ANSWER_BYTES_MAX;
use crate::mcp::handler::Call;
use crate::mcp::link;
use crate::messages::audit::Route;
use crate::messages::mount::MountProgress;
use crate::messages::tool::{ToolAsk, ToolCall, ToolReply};

/// How to get what did not fit.
pub const REST: &str = "ask the tool for less at a time, as its schema says";
/// The tool by which a call goes on there.
const CALL_TOOL: &str = "p2p_taskqueue_call_tool";
/// Beyond the call's own time, for its end to be heard of.
const LAST_WORD_MS: u64 = 1_500;
/// A node of which nothing is heard for so long is taken to be gone, and the call with it.
const SILENCE_MS_MAX: u64 = 3_000;
/// Between two tries to hear of it.
const PAUSE: Duration = Duration::from_millis(150);

/// Makes the call, and gives what the other node answers.
///
/// # Errors
/// `peer_unreachable` if it was not begun; `interrupted` if nobody knows how it ended; what the other node refuses.
pub async fn call(far: FarCall, call: &Call<'_>) -> Result<Ran, ToolError> {
    let peer = match far.place {
        Place::Peer(peer) => peer,
        Place::Mounting => match mounting::nearest(&far.name, call).await? {
            Nearest::Here => return mounting::call_here(far, call).await,
            Nearest::At(peer) => peer,
        },
    };
    at(peer, far, call).await
}

async fn at(peer: PeerId, far: FarCall, call: &Call<'_>) -> Result<Ran, ToolError> {
    let FarCall { name, arguments, timeout_ms, is_safe_again, trace, .. } = far;
    let id = OperationId(rand::random());
    let of = Box::new(ToolCall {
        principal: call.principal.name.to_string(),
        scope: call.principal.scope.name().to_owned(),
        name: name.clone(),
        arguments: JsonText::of(&Value::Object(arguments)),
        deadline_ms: timeout_ms,
        trace,
    });
    let (is_begun, began, heard_ms) = (AtomicBool::new(false), Instant::now(), AtomicU64::new(0));
    let ask = |wait_ms: u64, _patience: Duration| {
        let begins = !is_begun.swap(true, Ordering::Relaxed);
        let ask = match begins {
            true => begin(id, wait_ms, call.principal.namespace.as_deref(), of.clone()),
            false => ToolAsk::Wait { call: id, wait_ms },
        };
        let (began, heard_ms) = (&began, &heard_ms);
        async move {
            let asked = call.link.tool_at(peer, ask).await;
            let now_ms = began.elapsed().as_millis() as u64;
            let silent_ms = now_ms.saturating_sub(heard_ms.load(Ordering::Relaxed));
            let standing = stands(asked, begins, silent_ms, peer, is_safe_again)?;
            match standing {
                Standing::Silent => tokio::time::sleep(PAUSE).await,
                Standing::Running(_) | Standing::Ended { .. } => heard_ms.store(now_ms, Ordering::Relaxed),
            }
            Ok(standing)
        }
    };
    let followed = follow_for(call, timeout_ms + LAST_WORD_MS, ask).await;
    match followed {
        Ok(Standing::Ended { value, is_error }) => told(peer, &name, &value, is_error),
        Ok(Standing::Running(_) | Standing::Silent) => {
            cancel(peer, id, call).await;
            let message = format!("the call at {peer} did not end in {timeout_ms} ms; it was told to");
            let fix = "look whether it did what it was to do; call again with a larger timeout_s, or a smaller wait_ms";
            Err(ToolError::passing("timeout", message, fix, 1_000))
        }
        Err(error) => {
            if error.code == "cancelled" {
                cancel(peer, id, call).await;
            }
            Err(error)
        }
    }
}

/// What begins a call, in the words for callers that are kept to a namespace or in those for all others.
fn begin(call: OperationId, wait_ms: u64, namespace: Option<&str>, of: Box<ToolCall>) -> ToolAsk {
    match namespace {
        Some(namespace) => ToolAsk::CallKept { call, wait_ms, namespace: namespace.to_owned(), of },
        None => ToolAsk::Call { call, wait_ms, of },
    }
}

/// Who went needs no answer to this.
async fn cancel(peer: PeerId, id: OperationId, call: &Call<'_>) {
    let _ = call.link.tool_at(peer, ToolAsk::Cancel { call: id }).await;
}

/// How a call stands.
#[derive(Debug, Clone, PartialEq)]
enum Standing {
    Running(Option<MountProgress>),
    /// Nothing is heard of it just now.
    Silent,
    Ended {
        value: JsonText,
        is_error: bool,
    },
}

impl Followed for Standing {
    fn is_done(&self) -> bool {
        matches!(self, Self::Ended { .. })
    }

    fn in_words(&self) -> String {
        match self {
            Self::Running(Some(MountProgress { message: Some(message), .. })) => message.clone(),
            Self::Running(_) => "the other node works on it".to_owned(),
            Self::Silent => "nothing is heard of the other node just now".to_owned(),
            Self::Ended { .. } => "it has ended".to_owned(),
        }
    }
}

/// What an answer, or none, says of a call. `begins`: it answers what began it, else what asked after it.
fn stands(
    asked: Result<ToolReply, ToolError>,
    begins: bool,
    silent_ms: u64,
    peer: PeerId,
    is_safe_again: bool,
) -> Result<Standing, ToolError> {
    match asked {
        Ok(ToolReply::Running { progress }) => Ok(Standing::Running(progress)),
        Ok(ToolReply::Ended { value, is_error }) => Ok(Standing::Ended { value, is_error }),
        Ok(ToolReply::Away { why, sent: false }) if begins => Err(unreachable(&why)),
        Ok(ToolReply::Away { why, .. }) => unheard(&why, silent_ms, is_safe_again),
        Ok(ToolReply::Unknown) => {
            Err(interrupted(&format!("{peer} knows nothing of the call, or not any more"), is_safe_again))
        }
        Ok(ToolReply::Cancelled | ToolReply::Mounts(_)) => Err(link::unexpected()),
        Err(error) if error.code == "unsupported" => {
            let message = format!("{peer} runs no tools for other nodes: {}", error.message);
            let fix = "its version is older than that of this node: upgrade it, or be a client of that node";
            Err(ToolError::new("unsupported", message, fix))
        }
        Err(error) if !begins || may_have_been_said(&error) => match error.code {
            "node_unreachable" | "timeout" => unheard(&error.message, silent_ms, is_safe_again),
            _ => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// Whether this node may have passed on what it was asked before it went away; it cannot have, where none was reached.
fn may_have_been_said(error: &ToolError) -> bool {
    error.code == "timeout" || error.message == ClientError::Closed.to_string()
}

/// A moment of silence ends nothing.
fn unheard(why: &str, silent_ms: u64, is_safe_again: bool) -> Result<Standing, ToolError> {
    if silent_ms < SILENCE_MS_MAX { Ok(Standing::Silent) } else { Err(interrupted(why, is_safe_again)) }
}

fn unreachable(why: &str) -> ToolError {
    let fix = "nothing was called: call again when list_peers shows it alive, or call at another node";
    let next = Next::new("list_peers", json!({}), 0);
    ToolError::passing("peer_unreachable", format!("the call was not begun: {why}"), fix, 5_000).next(next)
}

fn interrupted(why: &str, is_safe_again: bool) -> ToolError {
    let message = format!("nobody knows how the call ended: {why}");
    if is_safe_again {
        let fix = "make the same call again when list_peers shows the node alive: nothing is done twice";
        return ToolError::passing("interrupted", message, fix, 5_000);
    }
    let fix = "look whether it did what it was to do; then call again, if need be with an idempotency_key";
    ToolError::new("interrupted", message, fix)
}

/// What the other node answered, as this caller can go on with it.
fn told(peer: PeerId, name: &str, value: &JsonText, is_error: bool) -> Result<Ran, ToolError> {
    if value.as_str().len() > FULL_ANSWER_BYTES_MAX {
        let message = format!("{peer} answered {} bytes, more than any tool may", value.as_str().len());
        return Err(ToolError::new("too_large", message, REST));
    }
    let Value::Object(mut fields) = value.to_value() else { return Err(link::unexpected()) };
    if let Some(next) = fields.get_mut("next").filter(|next| next.is_object()) {
        *next = at_the_same_node(peer, next);
    }
    let value = if is_error { with_peer(peer, fields) } else { around(peer, name, fields) };
    Ok(Ran { value, is_error, route: Route::Peer })
}

fn with_peer(peer: PeerId, mut fields: Map<String, Value>) -> Value {
    fields.insert("peer_id".to_owned(), peer.to_string().into());
    Value::Object(fields)
}

/// The tool's own answer stands in `result`; how to go on with it, and what is data in it, stands where all answers have it.
fn around(peer: PeerId, name: &str, mut fields: Map<String, Value>) -> Value {
    let mut around = json!({"ok": true, "peer_id": peer.to_string(), "tool": name});
    if let Some(handle) = fields.get("handle") {
        around["handle"] = handle.clone();
    }
    if let Some(next) = fields.remove("next") {
        around["next"] = next;
    }
    if let Some(Value::Array(untrusted)) = fields.remove("untrusted") {
        let named = untrusted.iter().filter_map(Value::as_str).map(|field| format!("result.{field}"));
        around["untrusted"] = named.collect();
    }
    around["result"] = Value::Object(fields);
    around
}

fn at_the_same_node(peer: PeerId, next: &Value) -> Value {
    let arguments = json!({"peer_id": peer.to_string(), "name": next["tool"], "arguments": next["arguments"]});
    let mut there = json!({"tool": CALL_TOOL, "arguments": arguments});
    if let Some(after_ms) = next.get("after_ms") {
        there["after_ms"] = after_ms.clone();
    }
    there
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::mcp::catalog::{Catalog, Scope};
    use crate::mcp::dispatch::Dispatcher;
    use crate::mcp::handler::{BoxFuture, Caller};
    use crate::mcp::link::{Door, NodeLink};
    use crate::mcp::principal::Principal;
    use crate::mcp::surface::SurfaceName;
    use crate::messages::audit::CallLine;
    use crate::messages::tool::ToolRequest;
    use crate::messages::{Answer, Body};

    const PEER: PeerId = PeerId([1; 32]);

    fn away(sent: bool) -> Result<ToolReply, ToolError> {
        Ok(ToolReply::Away { why: "it is not connected".to_owned(), sent })
    }

    fn code(standing: Result<Standing, ToolError>) -> (&'static str, bool) {
        let error = standing.unwrap_err();
        assert!(!error.fix.is_empty());
        (error.code, error.retryable)
    }

    #[test]
    fn what_was_not_begun_may_be_called_again_and_what_may_have_been_only_if_that_is_safe() {
        assert_eq!(code(stands(away(false), true, 0, PEER, false)), ("peer_unreachable", true));
        assert_eq!(stands(away(true), true, 0, PEER, false), Ok(Standing::Silent), "it is asked after");
        for (asked, begins) in [(away(true), true), (away(false), false), (Ok(ToolReply::Unknown), false)] {
            assert_eq!(code(stands(asked.clone(), begins, SILENCE_MS_MAX, PEER, false)), ("interrupted", false));
            assert_eq!(code(stands(asked, begins, SILENCE_MS_MAX, PEER, true)), ("interrupted", true));
        }
    }

    #[test]
    fn a_moment_of_silence_ends_nothing() {
        assert_eq!(stands(away(false), false, SILENCE_MS_MAX - 1, PEER, false), Ok(Standing::Silent));
    }

    #[test]
    fn a_node_between_that_was_never_reached_began_nothing() {
        let never: ToolError = ClientError::Unreachable {
            socket: "/nowhere".into(),
            source: std::io::Error::from(std::io::ErrorKind::NotFound),
        }
        .into();
        assert_eq!(code(stands(Err(never), true, 0, PEER, false)), ("node_unreachable", true));
        let closed = || Err(ClientError::Closed.into());
        assert_eq!(stands(closed(), true, 0, PEER, false), Ok(Standing::Silent));
        assert_eq!(code(stands(closed(), false, SILENCE_MS_MAX, PEER, false)), ("interrupted", false));
    }

    #[test]
    fn a_node_of_an_earlier_version_is_told_as_one() {
        let refused = ToolError::new("unsupported", "this message is not understood", "use another node");
        let error = stands(Err(refused), true, 0, PEER, false).unwrap_err();
        assert!(error.code == "unsupported" && error.fix.contains("upgrade it"), "{error}");
    }

    /// A way to a node at which every call goes on for ever.
    #[derive(Default)]
    struct Endless {
        asked: std::sync::Mutex<Vec<ToolAsk>>,
    }

    impl Door for Endless {
        fn ask<'a>(
            &'a self,
            _principal: &'a Principal,
            body: Body,
            _patience: Duration,
        ) -> BoxFuture<'a, Result<Answer, ClientError>> {
            let Body::Tool(ToolRequest::At { ask, .. }) = body else { panic!("{body:?}") };
            let (wait, reply) = match &ask {
                ToolAsk::Cancel { .. } => (0, ToolReply::Cancelled),
                ask => (ask.wait_ms(), ToolReply::Running { progress: None }),
            };
            self.asked.lock().unwrap().push(ask);
            Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(wait)).await;
                Ok(Answer::Tool(reply))
            })
        }

        fn record(&self, _principal: &Principal, _call: CallLine) {}
    }

    #[tokio::test]
    async fn a_call_that_does_not_end_in_time_is_begun_once_and_told_to_end() {
        let door = Arc::new(Endless::default());
        let principal = Arc::new(Principal::new("token:ann", Scope::Submit));
        let dispatcher = Dispatcher::new(
            &SurfaceName::Full.surface(Catalog::shared(), false),
            NodeLink::inside(door.clone(), principal.clone()),
            principal,
        );
        let arguments = json!({"peer_id": PEER.to_string(), "name": "list_peers", "timeout_s": 0.2});
        let Value::Object(arguments) = arguments else { panic!("an object") };
        let outcome = dispatcher.call(CALL_TOOL, arguments, &Patient).await;
        assert_eq!((&outcome.value["code"], outcome.is_error), (&json!("timeout"), true), "{}", outcome.value);
        let asked = door.asked.lock().unwrap();
        let ToolAsk::Call { of, .. } = &asked[0] else { panic!("{asked:?}") };
        assert_eq!((&*of.principal, &*of.scope, of.deadline_ms), ("token:ann", "submit", 200));
        assert_eq!(of.trace.len(), 32);
        let begun = asked.iter().filter(|ask| matches!(ask, ToolAsk::Call { .. })).count();
        assert_eq!((begun, matches!(asked.last(), Some(ToolAsk::Cancel { .. }))), (1, true), "{asked:?}");
    }

    struct Patient;

    impl Caller for Patient {
        fn name(&self) -> String {
            "patient".to_owned()
        }

        fn cancelled(&self) -> BoxFuture<'_, ()> {
            Box::pin(std::future::pending())
        }

        fn progress(&self, _waited_ms: u64, _wait_ms: u64, _message: String) -> BoxFuture<'_, ()> {
            Box::pin(std::future::ready(()))
        }
    }

    #[test]
    fn an_answer_is_told_with_its_node_and_goes_on_there() {
        let answer = json!({"ok": true, "handle": "01M7-a", "task_id": "01M7-a", "untrusted": ["task.output"],
            "next": {"tool": "p2p_taskqueue_wait_task", "arguments": {"task_id": "01M7-a"}, "after_ms": 0}});
        let ran = told(PEER, "p2p_taskqueue_submit", &JsonText::of(&answer), false).unwrap();
        assert_eq!(ran.value["result"], json!({"ok": true, "handle": "01M7-a", "task_id": "01M7-a"}));
        assert_eq!((&ran.value["handle"], &ran.value["untrusted"]), (&json!("01M7-a"), &json!(["result.task.output"])));
        let next = json!({"tool": "p2p_taskqueue_call_tool", "after_ms": 0, "arguments": {
            "peer_id": PEER.to_string(), "name": "p2p_taskqueue_wait_task", "arguments": {"task_id": "01M7-a"}}});
        assert_eq!(ran.value["next"], next);

        let error = json!({"ok": false, "code": "not_found", "message": "m", "fix": "f", "retryable": false});
        let ran = told(PEER, "p2p_taskqueue_get_task", &JsonText::of(&error), true).unwrap();
        assert!(ran.is_error && ran.value["code"] == "not_found" && ran.value["peer_id"] == PEER.to_string());
        let nonsense = told(PEER, "list_peers", &JsonText::of(&json!([1])), false);
        assert!(nonsense.is_err_and(|error| error.code == "version_mismatch"));
        let large = JsonText::of(&json!({"text": "x".repeat(FULL_ANSWER_BYTES_MAX)}));
        assert!(told(PEER, "list_peers", &large, false).is_err_and(|error| error.code == "too_large"));
    }
}
