//! A request that is not let in: a status, and a document that says why and what to do.

use http::header::{ALLOW, HeaderValue, WWW_AUTHENTICATE};
use serde_json::json;

use super::who::Who;
use super::{Answered, json_response};
use crate::mcp::answer::ToolError;

/// Where a client reads how it would be let in.
pub const METADATA_PATH: &str = "/.well-known/oauth-protected-resource";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub status: u16,
    pub code: &'static str,
    pub message: String,
    pub fix: String,
    /// `WWW-Authenticate`.
    challenge: Option<String>,
    /// What a client of JSON-RPC is told, for what is no request.
    rpc_code: Option<i32>,
}

impl Refused {
    pub fn new(status: u16, code: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), fix: fix.into(), challenge: None, rpc_code: None }
    }

    /// A body that is no JSON.
    pub fn unreadable(problem: impl std::fmt::Display) -> Self {
        let message = format!("the body is not one JSON-RPC message: {problem}");
        let fix = "send one JSON-RPC request or notification a POST, as UTF-8";
        Self { rpc_code: Some(-32_700), ..Self::new(400, "parse_error", message, fix) }
    }

    /// A session that there is not, or that is another's.
    pub fn unknown_session() -> Self {
        Self::new(404, "unknown_session", "there is no such session", "open one with initialize")
    }

    /// A client of the transport before streamable HTTP.
    pub fn old_transport(status: u16) -> Self {
        let message =
            "the HTTP+SSE transport of 2024-11-05 is not served, and a stream needs the Mcp-Session-Id of a session";
        Self::new(
            status,
            "old_transport",
            message,
            "use streamable HTTP: POST each message to /mcp, and accept application/json and text/event-stream",
        )
    }

    /// No token, or one that is not known; `why` is told to who sent one.
    pub fn unknown_token(host: &str, why: Option<&str>) -> Self {
        let (message, error) = match why {
            Some(why) => (why.to_owned(), format!("error=\"invalid_token\", error_description=\"{}\", ", quoted(why))),
            None => ("this server asks for a bearer token".to_owned(), String::new()),
        };
        let fix = "send Authorization: Bearer TOKEN: one of the issuer that the resource metadata name, or one that who runs \
                   the node makes with `nodectl token bearer add`";
        let challenge = format!("Bearer {error}{}", metadata(host));
        Self { challenge: Some(challenge), ..Self::new(401, "unauthorized", message, fix) }
    }

    /// Whether a token is good cannot be known.
    pub fn no_keys(problem: &str) -> Self {
        let message = format!("the keys that tokens are checked with are not there: {problem}");
        Self::new(503, "no_keys", message, "call again in some seconds; who runs the node looks at http.jwt.jwks")
    }

    /// A call that the principal may not make.
    pub fn low_scope(lacks: &ToolError, who: &Who, host: &str) -> Self {
        let needs = lacks.needs.map_or("admin", |scope| scope.name());
        let refused = Self::new(403, "low_scope", lacks.message.clone(), lacks.fix.clone());
        let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{needs}\", {}", metadata(host));
        Self { challenge: who.asks_for_tokens().then_some(challenge), ..refused }
    }

    pub fn into_response(self) -> Answered {
        let Self { status, code, message, fix, challenge, rpc_code } = self;
        let document = match rpc_code {
            Some(code) => {
                json!({"jsonrpc": "2.0", "id": null, "error": {"code": code, "message": format!("{message}; {fix}")}})
            }
            None => json!({"error": code, "message": message, "fix": fix}),
        };
        let mut response = json_response(status, &document);
        // A host that was let in is made of characters that a header may have.
        if let Some(value) = challenge.and_then(|challenge| HeaderValue::try_from(challenge).ok()) {
            response.headers_mut().insert(WWW_AUTHENTICATE, value);
        }
        if status == 405 {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST, DELETE"));
        }
        response
    }
}

/// What may stand between quotes in a header.
fn quoted(text: &str) -> String {
    text.replace(|letter: char| letter == '"' || letter == '\\' || !(' '..='~').contains(&letter), "'")
}

fn metadata(host: &str) -> String {
    format!("resource_metadata=\"http://{host}{METADATA_PATH}\"")
}
