//! Calls of tools that need nothing of the protocol but the dispatcher: nobody asked for their progress, and nothing was asked
//! back. They are most, and the SDK's task and channels for each cost more than the call. What is not exactly such a call is
//! left to the SDK as it came.

use rmcp::model::{ProtocolVersion, RequestId, ServerJsonRpcMessage, ServerResult};
use tokio::sync::watch;

use super::outline::{Call, Outline};
use crate::mcp::answer::ToolError;
use crate::mcp::dispatch::Dispatcher;
use crate::mcp::handler::{BoxFuture, Caller};
use crate::mcp::panic;

/// One such call.
#[derive(Debug)]
pub struct Direct {
    pub id: RequestId,
    call: Call,
    client: String,
    declares_tasks: bool,
    is_modern: bool,
}

impl Direct {
    /// One that stands for itself.
    pub fn alone(outline: Outline) -> Option<Self> {
        let meta = &of_nothing_more(&outline)?.meta;
        let is_modern = meta.protocol_version() == Some(ProtocolVersion::V_2026_07_28);
        let capabilities = meta.client_capabilities().filter(|_| is_modern)?;
        let client = meta.client_info().map_or_else(|| super::UNNAMED.to_owned(), |client| client.name);
        let (id, call) = outline.into_call()?;
        let (client, declares_tasks) = (super::shown_client(&client), capabilities.supports_tasks());
        Some(Self { id, call, client, declares_tasks, is_modern })
    }

    /// One in a session that this client opened.
    pub fn in_session(outline: Outline, client: &str) -> Option<Self> {
        of_nothing_more(&outline).filter(|call| call.meta.protocol_version().is_none())?;
        let (id, call) = outline.into_call()?;
        Some(Self { id, call, client: super::shown_client(client), declares_tasks: false, is_modern: false })
    }

    /// Makes the call and gives the message that answers it. It is cancelled when `cancelled` has no sender any more.
    pub async fn answer(self, dispatcher: &Dispatcher, cancelled: watch::Receiver<()>) -> Vec<u8> {
        let Self { id, call, client, declares_tasks, is_modern } = self;
        let Call { name, arguments, meta, .. } = call;
        let caller = DirectCaller { client, cancelled, trace: super::trace_in(&meta) };
        let answering = super::answered(dispatcher, &name, arguments, &caller, declares_tasks);
        let answered = panic::caught(answering)
            .await
            .unwrap_or_else(|panicked| super::failed(&ToolError::internal(&format_args!("it panicked: {panicked}"))));
        message(id, answered.into(), is_modern)
    }
}

fn of_nothing_more(outline: &Outline) -> Option<&Call> {
    outline.call().filter(|call| !call.goes_on() && call.meta.get_progress_token().is_none())
}

fn message(id: RequestId, mut result: ServerResult, is_modern: bool) -> Vec<u8> {
    if !is_modern {
        result.strip_result_type_for_legacy_peer();
    }
    let message = ServerJsonRpcMessage::response(result, id);
    serde_json::to_vec(&message).expect("what is answered has texts for keys")
}

struct DirectCaller {
    client: String,
    /// Nothing comes on it: it ends.
    cancelled: watch::Receiver<()>,
    trace: Option<String>,
}

impl Caller for DirectCaller {
    fn name(&self) -> String {
        self.client.clone()
    }

    fn cancelled(&self) -> BoxFuture<'_, ()> {
        let mut cancelled = self.cancelled.clone();
        Box::pin(async move { while cancelled.changed().await.is_ok() {} })
    }

    /// Nobody asked.
    fn progress(&self, _: u64, _: u64, _: String) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn trace(&self) -> Option<String> {
        self.trace.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn request(more: &Value) -> Outline {
        let mut params = json!({"name": "a", "arguments": {"b": 1}, "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "wi\u{7}re", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }});
        for (key, value) in more.as_object().unwrap() {
            match value.as_object() {
                Some(fields) if key == "_meta" && !fields.is_empty() => {
                    params["_meta"].as_object_mut().unwrap().extend(fields.clone());
                }
                _ => params[key] = value.clone(),
            }
        }
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
        Outline::of(body.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_call_that_needs_nothing_more_is_direct() {
        let direct = Direct::alone(request(&json!({}))).unwrap();
        assert_eq!((&*direct.client, direct.declares_tasks, direct.is_modern), ("wire", false, true));
        let tasks = json!({"io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}}});
        assert!(Direct::alone(request(&json!({"_meta": tasks}))).unwrap().declares_tasks);
        let direct = Direct::in_session(request(&json!({"_meta": {}})), "old").unwrap();
        assert_eq!((&*direct.client, direct.declares_tasks, direct.is_modern), ("old", false, false));
    }

    #[test]
    fn every_other_is_left_to_the_protocol() {
        for more in [
            json!({"_meta": {"progressToken": 7}}),
            json!({"_meta": {"io.modelcontextprotocol/protocolVersion": "2025-11-25"}}),
            json!({"_meta": {"io.modelcontextprotocol/clientCapabilities": 7}}),
            json!({"requestState": "s"}),
            json!({"inputResponses": {}}),
            json!({"arguments": 7}),
        ] {
            assert!(Direct::alone(request(&more)).is_none(), "{more}");
        }
        for more in [json!({}), json!({"_meta": {"progressToken": 7}}), json!({"_meta": {}, "requestState": "s"})] {
            assert!(Direct::in_session(request(&more), "old").is_none(), "{more}");
        }
    }
}
