//! What is no message of the protocol, and requests whose parameters are not what the protocol asks for.

use rmcp::ErrorData;
use rmcp::model::ErrorCode;
use serde_json::{Value, json};

const BOTH: &str = "send one JSON-RPC 2.0 request or notification at a time, as {\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \
                    \"tools/list\"}";

/// The protocol's requests, and their parameters.
const PARAMS: [(&str, &str); 16] = [
    ("initialize", "{protocolVersion, capabilities, clientInfo: {name, version}}"),
    ("server/discover", "no params, or an object"),
    ("ping", "no params, or an object"),
    ("tools/list", "no params, or {cursor?: a text}"),
    ("tools/call", "{name: the name of a tool as tools/list shows it, arguments?: an object}"),
    ("resources/list", "no params, or {cursor?: a text}"),
    ("resources/templates/list", "no params, or {cursor?: a text}"),
    ("resources/read", "{uri: a text}"),
    ("resources/subscribe", "{uri: a text}"),
    ("resources/unsubscribe", "{uri: a text}"),
    ("prompts/list", "no params, or {cursor?: a text}"),
    ("prompts/get", "{name: the name of a prompt, arguments?: an object of texts}"),
    ("completion/complete", "{ref: {type, name or uri}, argument: {name, value}}"),
    ("tasks/get", "{taskId: a text}"),
    ("tasks/update", "{taskId: a text, inputResponses: an object}"),
    ("tasks/cancel", "{taskId: a text}"),
];

/// What a request is refused with that is none of the protocol's as it stands.
pub fn refusal(method: &str) -> ErrorData {
    match PARAMS.iter().find(|(known, _)| *known == method) {
        Some((_, params)) => {
            ErrorData::invalid_params(format!("the params of {method} are not what it takes; send {params}"), None)
        }
        None => {
            let method: String = method.chars().take(80).collect();
            let known: Vec<&str> = PARAMS.iter().map(|(known, _)| *known).collect();
            let message = format!("there is no method {method:?}; the methods are {}", known.join(", "));
            ErrorData::new(ErrorCode::METHOD_NOT_FOUND, message, None)
        }
    }
}

/// The answer to a document that could not be read as a message; none to a notification, which is not answered.
pub fn answer(document: &Value) -> Option<Value> {
    let id = document.get("id").filter(|id| id.is_string() || id.is_i64());
    let refused = match (document.get("method"), document.get("id"), id) {
        (Some(Value::String(_)), None, _) => return None,
        (Some(Value::String(method)), _, Some(id)) => {
            let is_ours = document["jsonrpc"] == "2.0";
            let params = document.get("params").is_none_or(Value::is_object);
            let error = if params && !is_ours { no_message("it is not \"jsonrpc\": \"2.0\"") } else { refusal(method) };
            (id.clone(), error)
        }
        (Some(Value::String(_)), Some(_), None) => (Value::Null, no_message("its id is neither a text nor an integer")),
        (_, _, _) if document.is_array() => (Value::Null, no_message("it is a list: batches are not served")),
        (_, _, _) => (Value::Null, no_message("it has no method, and is no response either")),
    };
    Some(error_document(&refused.0, &refused.1))
}

/// The answer to what is no JSON.
pub fn unreadable(problem: impl std::fmt::Display) -> Value {
    let message = format!("this is not one JSON-RPC message: {problem}; {BOTH}, as UTF-8");
    error_document(&Value::Null, &ErrorData::parse_error(message, None))
}

fn no_message(problem: &str) -> ErrorData {
    ErrorData::invalid_request(format!("this is not one JSON-RPC message: {problem}; {BOTH}"), None)
}

/// JSON-RPC has an id in every error; where none is known, it is null.
fn error_document(id: &Value, error: &ErrorData) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": error})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(document: Value) -> (Value, i64) {
        let answer = answer(&document).unwrap();
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains("; send ") || message.contains("; the methods are "), "{message}");
        (answer["id"].clone(), answer["error"]["code"].as_i64().unwrap())
    }

    #[test]
    fn what_has_an_id_is_answered_under_it_and_notifications_are_not() {
        let call = |params: Value| json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
        assert_eq!(told(call(json!(5))), (json!(1), -32_602));
        assert_eq!(told(call(json!({"name": 5}))), (json!(1), -32_602));
        assert_eq!(told(json!({"id": 1, "method": "tools/call", "params": 5})), (json!(1), -32_602));
        assert_eq!(told(json!({"id": "a", "method": "tools/list"})), (json!("a"), -32_600));
        assert_eq!(told(json!({"jsonrpc": "2.0", "id": 1, "method": "no/such", "params": 5})), (json!(1), -32_601));
        assert_eq!(told(json!({"jsonrpc": "2.0", "id": 1.5, "method": "ping"})), (Value::Null, -32_600));
        assert_eq!(told(json!([call(json!({}))])), (Value::Null, -32_600));
        assert_eq!(told(json!({})), (Value::Null, -32_600));
        assert_eq!(told(json!(7)), (Value::Null, -32_600));
        assert_eq!(answer(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": 5})), None);
    }
}
