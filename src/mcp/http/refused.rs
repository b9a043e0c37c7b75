//! A request that is not let in: a status, and a document that says why and what to do.

use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http_body_util::{BodyExt, Limited};
use rmcp::model::ClientJsonRpcMessage;
use serde_json::{Value, json};

use super::who::Who;
use super::{Answered, json_response};
use crate::mcp::answer::ToolError;
use crate::mcp::server::malformed;

/// Of a refusal of the transport; its texts are shorter.
const PLAIN_TEXT_BYTES_MAX: usize = 16 * 1_024;

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

    /// What the protocol's transport refuses with a plain text.
    pub fn by_transport(status: u16, text: &str) -> Self {
        let said = text.split_once(": ").map_or(text, |(_, said)| said).trim();
        let message = if said.is_empty() { "the transport refuses this request" } else { said };
        let both = "open a session with initialize and send the Mcp-Session-Id that it answers, or speak 2026-07-28: \
                    Mcp-Protocol-Version and params._meta name it";
        let (code, fix) = match status {
            404 => ("unknown_session", "open one with initialize"),
            405 => {
                ("method_not_allowed", "POST each message; GET and DELETE are for a session, with its Mcp-Session-Id")
            }
            406 => ("not_acceptable", "send Accept: application/json, text/event-stream; a GET: text/event-stream"),
            413 => ("too_large", "send less at a time: upload files as blobs, or in several calls"),
            415 => {
                ("unsupported_media_type", "send Content-Type: application/json, and one JSON-RPC message as the body")
            }
            400 if text.contains("Protocol-Version") => (
                "unsupported_version",
                "send Mcp-Protocol-Version: 2026-07-28 or 2025-11-25, or none before initialize",
            ),
            400 if text.contains("Session") => ("no_session", both),
            400..500 => ("bad_request", both),
            _ => ("failed", "send it again; if it fails again, who runs the node finds why in its log"),
        };
        Self::new(status, code, message, fix)
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

/// The protocol's answer as it is; where that is a refusal without a document, one with it.
pub async fn in_words(response: Answered, body: &[u8]) -> Answered {
    let kind = response.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let is_document = [&b"application/json"[..], b"text/event-stream"].iter().any(|known| kind.starts_with(known));
    let status = response.status().as_u16();
    if status < 400 || is_document {
        return response;
    }
    // Of JSON that is no message, the transport knows no more than that.
    if status == 415
        && let Some(document) = malformed_answer(body)
    {
        return json_response(400, &document);
    }
    let text = match Limited::new(response.into_body(), PLAIN_TEXT_BYTES_MAX).collect().await {
        Ok(collected) => String::from_utf8_lossy(&collected.to_bytes()).into_owned(),
        Err(_) => String::new(),
    };
    Refused::by_transport(status, &text).into_response()
}

/// None for a body that is a message: what is wrong is how it was sent.
fn malformed_answer(body: &[u8]) -> Option<Value> {
    if serde_json::from_slice::<ClientJsonRpcMessage>(body).is_ok() {
        return None;
    }
    malformed::answer(&serde_json::from_slice(body).ok()?)
}

/// What may stand between quotes in a header.
fn quoted(text: &str) -> String {
    text.replace(|letter: char| letter == '"' || letter == '\\' || !(' '..='~').contains(&letter), "'")
}

fn metadata(host: &str) -> String {
    format!("resource_metadata=\"http://{host}{METADATA_PATH}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_of_the_transport_gets_a_fix_of_its_own() {
        let told = |status, text| {
            let Refused { code, message, fix, .. } = Refused::by_transport(status, text);
            assert!(!message.is_empty() && !fix.is_empty());
            code
        };
        assert_eq!(told(400, "Bad Request: Session ID is required"), "no_session");
        assert_eq!(told(400, "Bad Request: Unsupported MCP-Protocol-Version: 1999-01-01"), "unsupported_version");
        assert_eq!(told(400, "Bad Request: "), "bad_request");
        assert_eq!(told(406, "Not Acceptable: Client must accept text/event-stream"), "not_acceptable");
        assert_eq!(told(415, "Unsupported Media Type"), "unsupported_media_type");
        assert_eq!(told(405, "Method Not Allowed"), "method_not_allowed");
        assert_eq!(told(500, ""), "failed");
    }
}
