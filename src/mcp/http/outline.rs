//! What is read of a message before it is the protocol's: enough to know what it needs.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::refused::Refused;

/// A message of JSON-RPC, as far as it is looked at.
#[derive(Debug)]
pub struct Outline {
    opens_session: bool,
    call: Option<Call>,
}

#[derive(Debug, Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Call {
    name: String,
    #[serde(default)]
    arguments: Map<String, Value>,
}

impl Outline {
    /// # Errors
    /// 400 if it is no JSON. What is JSON and no message, the protocol refuses in its own words.
    pub fn of(body: &[u8]) -> Result<Self, Refused> {
        let none = Self { opens_session: false, call: None };
        let message: Message<'_> = match serde_json::from_slice(body) {
            Ok(message) => message,
            Err(error) if error.is_data() => return Ok(none),
            Err(error) => return Err(Refused::unreadable(error)),
        };
        Ok(match (message.method.as_deref(), message.params) {
            (Some("initialize"), _) => Self { opens_session: true, ..none },
            (Some("tools/call"), Some(params)) => Self { call: serde_json::from_str(params.get()).ok(), ..none },
            (_, _) => none,
        })
    }

    /// Whether it begins a session.
    pub fn opens_session(&self) -> bool {
        self.opens_session
    }

    /// The tool that it calls, and how.
    pub fn call(&self) -> Option<(&str, &Map<String, Value>)> {
        self.call.as_ref().map(|call| (call.name.as_str(), &call.arguments))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_shows_its_tool_and_arguments() {
        let call = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"b":1}}}"#;
        let outline = Outline::of(call).unwrap();
        let (name, arguments) = outline.call().unwrap();
        assert_eq!((name, arguments["b"].as_u64(), outline.opens_session()), ("a", Some(1), false));
        assert!(Outline::of(br#"{"method":"initialize","params":{}}"#).unwrap().opens_session());
    }

    #[test]
    fn what_is_no_json_is_refused_and_all_other_is_left_to_the_protocol() {
        for body in [&b""[..], b"{", b"\xff", b"nope"] {
            assert_eq!(Outline::of(body).unwrap_err().status, 400);
        }
        for body in [&b"[]"[..], b"7", br#"{"method":7}"#, br#"{"method":"tools/call","params":{"name":7}}"#] {
            assert!(Outline::of(body).unwrap().call().is_none());
        }
    }
}
