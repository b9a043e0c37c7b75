//! Calls that other nodes make here for clients of theirs: the same dispatcher, in the name that the other node tells,
//! and with no more rights than this node gives to other nodes.

mod table;

use std::sync::Arc;

use magpie_core::limits;
use magpie_core::payload::JsonText;
use magpie_core::queue::Refusal;
use serde_json::{Value, json};
use tokio::sync::watch;

pub use table::{Call, Calls, Telling};

use super::answer::ToolError;
use super::catalog::{Catalog, Scope};
use super::dispatch::Dispatcher;
use super::handler::{BoxFuture, Caller};
use super::link::{Door, NodeLink};
use super::namespace::check_name;
use super::principal::Principal;
use super::surface::SurfaceName;
use crate::messages::mount::MountProgress;
use crate::messages::tool::{ToolCall, ToolReply};

/// Of the names that a call brings.
const NAME_BYTES_MAX: usize = 256;

/// Whether a call has a form in which it may run.
///
/// # Errors
/// Which of its parts is too long, or that its namespace is none.
pub fn check(call: &ToolCall, namespace: Option<&str>) -> Result<(), Refusal> {
    if let Some(problem) = namespace.and_then(|namespace| check_name(namespace).err()) {
        return Err(Refusal::invalid("/namespace", problem, "send the name that the caller is kept to"));
    }
    let parts = [
        ("/principal", call.principal.len(), NAME_BYTES_MAX),
        ("/scope", call.scope.len(), NAME_BYTES_MAX),
        ("/name", call.name.len(), NAME_BYTES_MAX),
        ("/trace", call.trace.len(), NAME_BYTES_MAX),
        ("/arguments", call.arguments.as_str().len(), limits::PEER_CALL_ARGUMENTS_BYTES_MAX),
    ];
    match parts.into_iter().find(|(_, bytes, bytes_max)| bytes > bytes_max) {
        Some((part, bytes, bytes_max)) => {
            Err(Refusal::invalid(part, format!("it has {bytes} bytes, more than {bytes_max}"), "send less"))
        }
        None => Ok(()),
    }
}

/// Runs a call to its end, of a caller that may be kept to a namespace. `scope_max` is what this node lets calls of that node do; none: nothing.
pub async fn run(
    call: ToolCall,
    namespace: Option<String>,
    scope_max: Option<Scope>,
    door: Arc<dyn Door>,
    telling: Telling,
) {
    let Some(scope_max) = scope_max else { return telling.end(ended(&json!(off()), true)) };
    let ToolCall { principal, scope, name, arguments, deadline_ms, trace } = call;
    // A word that this version does not know gives the least.
    let told: Scope = scope.parse().unwrap_or(Scope::Read);
    let scope = told.min(scope_max);
    let principal = Principal::new(&principal, scope);
    let principal = Arc::new(match &namespace {
        Some(namespace) => principal.kept_elsewhere_to(namespace),
        None => principal,
    });
    let surface = SurfaceName::Full.surface(Catalog::shared(), false);
    let link = NodeLink::inside(door, principal.clone());
    let deadline_ms = deadline_ms.min(limits::PEER_CALL_MS_MAX);
    let dispatcher = Dispatcher::new(&surface, link, principal.clone()).for_another_node(deadline_ms);
    let caller = FarCaller {
        name: principal.name.to_string(),
        trace,
        cancelled: telling.cancelled.clone(),
        progress: telling.progress.clone(),
    };
    let arguments = match arguments.to_value() {
        Value::Object(arguments) => arguments,
        _ => serde_json::Map::new(),
    };
    let outcome = Box::pin(dispatcher.call(&name, arguments, &caller)).await;
    let value = if told > scope { with_the_nodes_own_bound(outcome.value, scope_max) } else { outcome.value };
    telling.end(ended(&value, outcome.is_error));
}

fn ended(value: &Value, is_error: bool) -> ToolReply {
    ToolReply::Ended { value: JsonText::of(value), is_error }
}

fn off() -> ToolError {
    let fix = "set peer_scope under [mcp] in that node's configuration, or be a client of that node";
    ToolError::new("peer_calls_off", "this node runs no tools for clients of other nodes", fix)
}

/// Another token would not help where it is this node that lets other nodes do no more.
fn with_the_nodes_own_bound(mut value: Value, scope_max: Scope) -> Value {
    if value["code"] == "low_scope" {
        let name = scope_max.name();
        value["fix"] = format!(
            "be a client of that node, or set peer_scope under [mcp] in its configuration: it lets clients of other \
             nodes do what takes the scope {name}, and no more"
        )
        .into();
    }
    value
}

/// A client of another node.
struct FarCaller {
    name: String,
    trace: String,
    cancelled: watch::Receiver<bool>,
    progress: watch::Sender<Option<MountProgress>>,
}

impl Caller for FarCaller {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn cancelled(&self) -> BoxFuture<'_, ()> {
        let mut cancelled = self.cancelled.clone();
        Box::pin(async move {
            if cancelled.wait_for(|cancelled| *cancelled).await.is_err() {
                // Who could cancel it is gone, and says nothing more.
                std::future::pending::<()>().await;
            }
        })
    }

    fn progress(&self, waited_ms: u64, wait_ms: u64, message: String) -> BoxFuture<'_, ()> {
        let progress = MountProgress { done: waited_ms as f64, total: Some(wait_ms as f64), message: Some(message) };
        self.progress.send_replace(Some(progress));
        Box::pin(std::future::ready(()))
    }

    fn trace(&self) -> Option<String> {
        Some(self.trace.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use magpie_core::ids::{OperationId, PeerId};

    use super::*;
    use crate::client::ClientError;
    use crate::messages::audit::CallLine;
    use crate::messages::{Answer, Body};

    /// A node that is stuck, or breaks.
    struct Broken {
        panics: bool,
    }

    impl Door for Broken {
        fn ask<'a>(
            &'a self,
            _principal: &'a Principal,
            _body: Body,
            _patience: Duration,
        ) -> BoxFuture<'a, Result<Answer, ClientError>> {
            Box::pin(async {
                assert!(!self.panics, "out of cheese");
                std::future::pending().await
            })
        }

        fn record(&self, _principal: &Principal, call: CallLine) {
            assert_eq!(call.trace.as_deref(), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        }
    }

    async fn ended_of(door: Broken, scope_max: Option<Scope>) -> Value {
        let call = ToolCall {
            principal: "token:ann".to_owned(),
            scope: "admin".to_owned(),
            name: "list_peers".to_owned(),
            arguments: JsonText::of(&json!({})),
            deadline_ms: 50,
            trace: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
        };
        let (begun, telling) = Calls::default().begin(PeerId([1; 32]), OperationId([1; 16])).unwrap();
        run(call, None, scope_max, Arc::new(door), telling).await;
        match begun.follow(Duration::ZERO).await {
            ToolReply::Ended { value, is_error: true } => value.to_value(),
            reply => panic!("{reply:?}"),
        }
    }

    #[tokio::test]
    async fn a_tool_that_is_stuck_or_panics_is_answered_and_where_none_may_run_none_does() {
        assert_eq!(ended_of(Broken { panics: false }, Some(Scope::Submit)).await["code"], "timeout");
        let panicked = ended_of(Broken { panics: true }, Some(Scope::Submit)).await;
        assert!(panicked["message"].as_str().unwrap().contains("out of cheese"), "{panicked}");
        assert_eq!(ended_of(Broken { panics: true }, None).await["code"], "peer_calls_off");
    }

    #[tokio::test]
    async fn who_is_kept_to_a_namespace_reaches_here_what_it_reaches_at_its_own_node() {
        let call = ToolCall {
            principal: "token:ann@books".to_owned(),
            scope: "admin".to_owned(),
            name: "get_recent_logs".to_owned(),
            arguments: JsonText::of(&json!({})),
            deadline_ms: 50,
            trace: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
        };
        let (begun, telling) = Calls::default().begin(PeerId([1; 32]), OperationId([1; 16])).unwrap();
        let door = Arc::new(Broken { panics: true });
        run(call, Some("books".to_owned()), Some(Scope::Admin), door, telling).await;
        let ToolReply::Ended { value, is_error: true } = begun.follow(Duration::ZERO).await else { panic!("it ran") };
        assert_eq!(value.to_value()["code"], "whole_node", "and the node was asked nothing");
        let ann = Principal::new("token:ann@books", Scope::Read).kept_elsewhere_to("books");
        assert_eq!((&*ann.name, ann.namespace.as_deref()), ("token:ann@books", Some("books")));
        let ben = Principal::new("token:ben", Scope::Read).kept_elsewhere_to("books");
        assert_eq!(&*ben.name, "token:ben@books", "whose name does not say so is another caller all the same");
    }

    #[test]
    fn what_is_too_long_is_named() {
        let call = |name: &str, arguments: &str| ToolCall {
            principal: "local:node-mcp".to_owned(),
            scope: "submit".to_owned(),
            name: name.to_owned(),
            arguments: JsonText::of(&json!({"text": arguments})),
            deadline_ms: 1_000,
            trace: "0".repeat(32),
        };
        assert_eq!(check(&call("list_peers", "x"), Some("books")), Ok(()));
        assert!(check(&call("list_peers", "x"), Some("../films")).unwrap_err().to_string().contains("/namespace"));
        let long = "x".repeat(limits::PEER_CALL_ARGUMENTS_BYTES_MAX);
        for (call, part) in [(call(&long, ""), "/name"), (call("list_peers", &long), "/arguments")] {
            assert!(check(&call, None).unwrap_err().to_string().contains(part), "{part}");
        }
    }

    #[test]
    fn a_scope_that_this_node_does_not_give_is_told_as_its_own_bound() {
        let low = json!({"code": "low_scope", "fix": "use a token of scope operate"});
        let told = with_the_nodes_own_bound(low, Scope::Submit);
        assert!(told["fix"].as_str().unwrap().contains("peer_scope"), "{told}");
        let other = json!({"code": "not_found", "fix": "take another id"});
        assert_eq!(with_the_nodes_own_bound(other.clone(), Scope::Submit), other);
    }
}
