//! A tool's failure as a command tells it.

use serde_json::Value;

use crate::cli::exit::{CommandError, Exit};

/// What is told of `{code, message, fix, next?}`: the code in words for scripts, then what to do.
pub fn told(failure: &Value) -> CommandError {
    let text = |name: &str| failure[name].as_str().unwrap_or_default();
    let mut what = format!("{}: {}", text("code"), text("message"));
    if !text("fix").is_empty() {
        what += &format!("\n  = {}", text("fix"));
    }
    if let Some(tool) = failure["next"]["tool"].as_str() {
        what += &format!("\n  = {}", command(tool, &failure["next"]["arguments"]));
    }
    CommandError::new(exit(text("code")), what)
}

/// A call as one types it.
pub fn command(tool: &str, arguments: &Value) -> String {
    format!("nodectl tool call {tool} '{}'", arguments.to_string().replace('\'', r"'\''"))
}

fn exit(code: &str) -> Exit {
    match code {
        "internal" => Exit::Failed,
        "invalid" | "not_dispatched" | "too_large" | "wrong_argument" => Exit::Usage,
        "no_such_model" | "not_found" | "pruned" | "unknown_tool" => Exit::NotFound,
        "home_suspended" | "home_unreachable" | "node_unreachable" | "unavailable" | "version_mismatch" => {
            Exit::Unreachable
        }
        "timeout" => Exit::TimedOut,
        // By scope, state, quota or overload, or since this node lacks what it takes.
        _ => Exit::Refused,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_failure_says_what_to_do_and_to_call() {
        let next = json!({"tool": "list_peers", "arguments": {"name": "o'clock"}});
        let failure = json!({"code": "not_found", "message": "there is none", "fix": "take another", "next": next});
        let error = told(&failure);
        assert_eq!(error.exit, Exit::NotFound);
        let lines =
            ["not_found: there is none", "take another", r#"nodectl tool call list_peers '{"name":"o'\''clock"}'"#];
        assert_eq!(error.to_string(), lines.join("\n  = "));
    }

    #[test]
    fn codes_end_as_other_commands_do() {
        let exits = ["internal", "invalid", "not_found", "node_unreachable", "timeout", "low_scope"].map(exit);
        use Exit::*;
        assert_eq!(exits, [Failed, Usage, NotFound, Unreachable, TimedOut, Refused]);
    }
}
