//! What a wrong call meant, where that needs no guess.
//!
//! A caller may make the call that it is given as it stands. So it is the one that was given: each argument stays, under
//! the name that it was misspelt for, and with the value that it was written for.

use serde_json::{Map, Value};

use crate::mcp::catalog::{Tool, schema};

/// Beyond, a number with a fraction of zero is no exact integer any more.
const EXACT_INTEGER_MAX: f64 = 9_007_199_254_740_992.0;
/// A word of so few letters is a unit or the like (`ttl_s`, `ttl_ms`): another one is another thing, and no slip.
const SHORT_WORD_LETTERS_MAX: usize = 2;
/// A longer name is no slip of one of ours.
const NAME_BYTES_MAX: usize = 64;
/// One slip is let pass, and one more for so many letters.
const LETTERS_PER_SLIP: usize = 4;

/// The arguments put right, if all that was given has its place and its form then, and nothing is missing.
pub fn mended(tool: &Tool, given: &Map<String, Value>) -> Option<Map<String, Value>> {
    let mut mended = Map::new();
    for (name, value) in given {
        let own = own_name(tool, name)?;
        let value = if value.is_null() { Value::Null } else { fitted(tool.argument(own)?, value)? };
        if mended.insert(own.to_owned(), value).is_some() {
            return None;
        }
    }
    tool.required().all(|name| mended.get(name).is_some_and(|value| !value.is_null())).then_some(mended)
}

/// The only argument that is called so, or nearly so.
pub fn own_name<'a>(tool: &'a Tool, name: &str) -> Option<&'a str> {
    if let Some(known) = tool.arguments().find(|known| *known == name) {
        return Some(known);
    }
    let mut near = tool.arguments().filter(|known| is_slip(name, known));
    let only = near.next()?;
    near.next().is_none().then_some(only)
}

/// Whether `given` is `known` with a slip of the hand: other separators, or a letter too much, too few or wrong. The words
/// begin alike, so that `unpaused` is not `paused`.
fn is_slip(given: &str, known: &str) -> bool {
    if given.len() > NAME_BYTES_MAX {
        return false;
    }
    if letters(given) == letters(known) {
        return true;
    }
    let (given, known) = (given.to_lowercase(), known.to_lowercase());
    let (given_words, known_words): (Vec<&str>, Vec<&str>) = (given.split('_').collect(), known.split('_').collect());
    let is_alike = |(given, known): (&&str, &&str)| {
        let shorter = given.chars().count().min(known.chars().count());
        given == known || (shorter > SHORT_WORD_LETTERS_MAX && given.chars().next() == known.chars().next())
    };
    given_words.len() == known_words.len()
        && given_words.iter().zip(&known_words).all(is_alike)
        && strsim::damerau_levenshtein(&given, &known) <= (known.chars().count() / LETTERS_PER_SLIP).max(1)
}

fn letters(name: &str) -> String {
    name.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The value as its schema has it: as it is, read from its text (`"5"` is 5, `"yes"` is not true), or 5.0 as 5.
fn fitted(schema: &Value, value: &Value) -> Option<Value> {
    if schema::fits(schema, value) {
        return Some(value.clone());
    }
    let meant = match value {
        Value::String(text) => serde_json::from_str(text).ok()?,
        Value::Number(number) => {
            let number = number.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < EXACT_INTEGER_MAX)?;
            Value::from(number as i64)
        }
        _ => return None,
    };
    schema::fits(schema, &meant).then_some(meant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::catalog::Catalog;
    use serde_json::json;

    fn meant(tool: &str, given: &Value) -> Option<Value> {
        mended(Catalog::shared().find(tool)?, given.as_object()?).map(Value::Object)
    }

    #[test]
    fn a_slip_is_put_right_and_keeps_its_value() {
        for (tool, given, right) in [
            (
                "queue_clear",
                json!({"confirm": true, "dry_run": true, "namespaces": "books"}),
                json!({"confirm": true, "dry_run": true, "namespace": "books"}),
            ),
            ("queue_clear", json!({"confrim": true}), json!({"confirm": true})),
            ("p2p_taskqueue_cancel", json!({"taskId": "x"}), json!({"task_id": "x"})),
            (
                "p2p_taskqueue_priority",
                json!({"task_id": "x", "priority": "7"}),
                json!({"task_id": "x", "priority": 7}),
            ),
            ("queue_clear", json!({"confirm": "true"}), json!({"confirm": true})),
            ("p2p_taskqueue_shutdown", json!({"within_ms": 500.0}), json!({"within_ms": 500})),
            (
                "tools_dispatch",
                json!({"nme": "x", "arguments": "{\"a\": 1}"}),
                json!({"name": "x", "arguments": {"a": 1}}),
            ),
        ] {
            assert_eq!(meant(tool, &given), Some(right), "{tool} {given}");
        }
    }

    #[test]
    fn what_would_be_a_guess_is_not_put_right() {
        for (tool, given) in [
            ("queue_clear", json!({"confirm": "yes"})),
            ("queue_clear", json!({"confirm": 1})),
            ("queue_clear", json!({"confirm": true, "state": "failed"})),
            ("queue_clear", json!({"confirm": true, "namespace": "a", "namespaces": "b"})),
            ("queue_clear", json!({"namespace": "a"})),
            ("queue_clear", json!({"confirm": null})),
            ("queue_pause", json!({"dry_run": true, "namespace": 5})),
            ("approval_decide", json!({"approval_id": "x", "decision": "deny"})),
            ("approval_decide", json!({"approval_id": "x", "disapprove": true})),
            ("cache_put", json!({"key": "k", "value": 1, "ttl_ms": 60_000})),
            ("p2p_taskqueue_priority", json!({"task_id": "x", "priority": "11"})),
            ("p2p_taskqueue_submit", json!({})),
        ] {
            assert_eq!(meant(tool, &given), None, "{tool} {given}");
        }
    }
}
