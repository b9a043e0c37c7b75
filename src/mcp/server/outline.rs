//! What is read of a message before it is the protocol's: enough to know what it needs.

use std::borrow::Cow;

use rmcp::model::{RequestId, RequestMetaObject};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// A message of JSON-RPC, as far as it is looked at.
#[derive(Debug, Default)]
pub struct Outline {
    method: String,
    /// None of a notification.
    id: Option<RequestId>,
    call: Option<Call>,
    cancels: Option<RequestId>,
}

#[derive(Debug, Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    jsonrpc: Option<Cow<'a, str>>,
    id: Option<RequestId>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

/// A call of a tool.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    pub name: String,
    #[serde(default)]
    pub arguments: Map<String, Value>,
    #[serde(rename = "_meta", default)]
    pub meta: RequestMetaObject,
    input_responses: Option<IgnoredAny>,
    request_state: Option<IgnoredAny>,
}

impl Call {
    /// Whether it goes on with one that was asked something.
    pub fn goes_on(&self) -> bool {
        self.input_responses.is_some() || self.request_state.is_some()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cancelled {
    request_id: RequestId,
}

impl Outline {
    /// # Errors
    /// If it is no JSON. What is JSON and no message, the protocol refuses in its own words.
    pub fn of(body: &[u8]) -> Result<Self, serde_json::Error> {
        let message: Message<'_> = match serde_json::from_slice(body) {
            Ok(message) => message,
            Err(error) if error.is_data() => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let Some(method) = message.method.filter(|_| message.jsonrpc.as_deref() == Some("2.0")) else {
            return Ok(Self::default());
        };
        let params = message.params.map_or("{}", RawValue::get);
        let outline = Self { id: message.id, ..Self::default() };
        Ok(match &*method {
            "tools/call" => Self { call: serde_json::from_str(params).ok(), method: method.into(), ..outline },
            "notifications/cancelled" => {
                let cancelled = serde_json::from_str(params).ok().map(|Cancelled { request_id }| request_id);
                Self { cancels: cancelled, method: method.into(), ..outline }
            }
            _ => Self { method: method.into(), ..outline },
        })
    }

    pub fn is_request(&self) -> bool {
        self.id.is_some() && !self.method.is_empty()
    }

    /// Whether it begins a session.
    pub fn opens_session(&self) -> bool {
        self.method == "initialize"
    }

    /// Whether the client says that the session may begin.
    pub fn is_ready(&self) -> bool {
        self.method == "notifications/initialized"
    }

    /// Whether nobody waits for an answer.
    pub fn is_notification(&self) -> bool {
        self.id.is_none() && self.method.starts_with("notifications/")
    }

    /// The request that it takes back.
    pub fn cancels(&self) -> Option<&RequestId> {
        self.cancels.as_ref()
    }

    /// Whether its answer is what is there, and needs nothing of its session but whose it is.
    pub fn only_looks(&self) -> bool {
        let methods = [
            "ping",
            "tools/list",
            "resources/list",
            "resources/templates/list",
            "resources/read",
            "prompts/list",
            "prompts/get",
            "completion/complete",
        ];
        self.id.is_some() && methods.contains(&&*self.method)
    }

    /// The tool that it calls, and how.
    pub fn call(&self) -> Option<&Call> {
        self.call.as_ref()
    }

    /// The request that it is, if it calls a tool.
    pub fn into_call(self) -> Option<(RequestId, Call)> {
        Some((self.id?, self.call?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_shows_its_tool_and_arguments() {
        let call = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"b":1}}}"#;
        let outline = Outline::of(call).unwrap();
        let call = outline.call().unwrap();
        assert_eq!((&*call.name, call.arguments["b"].as_u64(), call.goes_on()), ("a", Some(1), false));
        assert!(!outline.opens_session() && !outline.is_notification() && !outline.only_looks());
        assert_eq!(outline.into_call().unwrap().0, RequestId::Number(1));
        let goes_on = br#"{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":"a","requestState":"s"}}"#;
        assert!(Outline::of(goes_on).unwrap().call().unwrap().goes_on());
        let opens = Outline::of(br#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#).unwrap();
        assert!(opens.opens_session());
    }

    #[test]
    fn a_notification_shows_what_it_cancels() {
        let cancels = br#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"7"}}"#;
        let outline = Outline::of(cancels).unwrap();
        assert!(outline.is_notification());
        assert_eq!(outline.cancels(), Some(&RequestId::String("7".into())));
        let list = Outline::of(br#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).unwrap();
        assert!(list.only_looks() && !list.is_notification() && list.cancels().is_none());
    }

    #[test]
    fn what_is_no_json_is_refused_and_all_other_is_left_to_the_protocol() {
        for body in [&b""[..], b"{", b"\xff", b"nope"] {
            assert!(Outline::of(body).is_err());
        }
        for body in [&b"[]"[..], b"7", br#"{"method":7}"#, br#"{"method":"tools/call","params":{"name":7}}"#] {
            assert!(Outline::of(body).unwrap().call().is_none());
        }
    }
}
