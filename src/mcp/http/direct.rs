//! Whether the headers of a request say no more than a direct call of a tool needs, and its answer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use rmcp::model::ProtocolVersion;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::Answered;
use super::sessions::{Begun, PROTOCOL_VERSION, SESSION_ID};
use crate::mcp::dispatch::Dispatcher;
use crate::mcp::handler::BoxFuture;
use crate::mcp::server::direct::Direct;
use crate::mcp::server::outline::Outline;

const METHOD: &str = "mcp-method";
const NAME: &str = "mcp-name";
const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

/// The direct call that a request is, in the session that it is in.
pub fn call_of(headers: &HeaderMap, outline: Outline, begun: Option<&Begun>) -> Option<Direct> {
    let call = outline.call().filter(|_| accepts_both(headers) && one(headers, CONTENT_TYPE.as_str()) == Some(JSON))?;
    match begun {
        Some(begun) if begun.is_spoken_in(headers) => Direct::in_session(outline, &begun.client.client_info.name),
        None if names_call(headers, &call.name) => Direct::alone(outline),
        Some(_) | None => None,
    }
}

/// Makes the call, and drops `held` with its end. If nobody waits for the answer any more the call goes on, to its end or
/// until `cancelled` has no sender, so that its audit line is written.
pub async fn answer(
    direct: Direct,
    dispatcher: Arc<Dispatcher>,
    cancelled: watch::Receiver<()>,
    held: impl Send + 'static,
) -> Answered {
    // Its bounds are the dispatcher's: thirty seconds at most, and so many of a caller.
    let calling = ToItsEnd::new(async move {
        let message = direct.answer(&dispatcher, cancelled).await;
        drop(held);
        message
    });
    super::json_text(200, calling.await)
}

/// What goes on in a task of its own where nobody waits for it any more. Most are waited for, and a task for each would cost
/// what it takes to start one and to wake who waits.
struct ToItsEnd<T: Send + 'static>(Option<BoxFuture<'static, T>>);

impl<T: Send + 'static> ToItsEnd<T> {
    fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Some(Box::pin(work)))
    }
}

impl<T: Send + 'static> Future for ToItsEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut work = self.0.take().expect("it is not looked at after its end");
        // A panic takes the work with it.
        let looked = work.as_mut().poll(context);
        if looked.is_pending() {
            self.0 = Some(work);
        }
        looked
    }
}

impl<T: Send + 'static> Drop for ToItsEnd<T> {
    fn drop(&mut self) {
        // With the runtime everything ends.
        if let (Some(rest), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(rest);
        }
    }
}

/// Whether the headers name the call, as those of one that stands for itself must.
fn names_call(headers: &HeaderMap, tool: &str) -> bool {
    one(headers, PROTOCOL_VERSION) == Some(ProtocolVersion::V_2026_07_28.as_str())
        && one(headers, METHOD) == Some("tools/call")
        && one(headers, NAME) == Some(tool)
        && !headers.contains_key(SESSION_ID)
}

/// The value of a header that is there once.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn accepts_both(headers: &HeaderMap) -> bool {
    let Some(accept) = one(headers, ACCEPT.as_str()) else { return false };
    let accepts = |kind: &str| accept.split(',').any(|entry| entry.trim() == kind);
    accepts(JSON) && accepts(EVENTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","_meta":{
        "io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;

    fn is_direct(pairs: &[(&'static str, &str)]) -> bool {
        let usual = [
            ("accept", "application/json, text/event-stream"),
            ("content-type", JSON),
            (PROTOCOL_VERSION, "2026-07-28"),
            (METHOD, "tools/call"),
            (NAME, "a"),
        ];
        let mut headers = HeaderMap::new();
        for (name, value) in usual.iter().chain(pairs) {
            headers.insert(http::HeaderName::from_static(name), value.parse().unwrap());
        }
        call_of(&headers, Outline::of(CALL).unwrap(), None).is_some()
    }

    #[test]
    fn a_call_is_direct_if_its_headers_say_what_it_is_and_no_more() {
        assert!(is_direct(&[]) && is_direct(&[("accept", "text/event-stream,application/json")]));
        for pair in [
            ("accept", JSON),
            ("accept", "application/json;q=0, text/event-stream"),
            ("content-type", "text/plain"),
            (PROTOCOL_VERSION, "2025-11-25"),
            (METHOD, "tools/list"),
            (NAME, "b"),
            (SESSION_ID, "x"),
        ] {
            assert!(!is_direct(&[pair]), "{pair:?}");
        }
        assert!(call_of(&HeaderMap::new(), Outline::of(CALL).unwrap(), None).is_none());
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_goes_on_to_its_end() {
        assert_eq!(ToItsEnd::new(std::future::ready(7)).await, 7);
        for looks in [0, 1] {
            let (go, going) = tokio::sync::oneshot::channel::<()>();
            let (done, ended) = tokio::sync::oneshot::channel();
            let mut work = ToItsEnd::new(async move {
                let _ = going.await;
                let _ = done.send(looks);
            });
            for _ in 0..looks {
                let looked = std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut work).poll(context))).await;
                assert!(looked.is_pending());
            }
            drop(work);
            go.send(()).unwrap();
            assert_eq!(ended.await, Ok(looks));
        }
    }
}
