//! Answers that fit a model's context: what is too large is cut where it is largest, and the answer says so.

use magpie_core::wire::Counted;
use serde::Serialize;
use serde_json::{Value, json};

use super::pointer;
use super::text;

/// An answer, unless `detail: full` was asked for; and the most that any answer has.
pub const ANSWER_BYTES_MAX: usize = 8 * 1024;
pub const FULL_ANSWER_BYTES_MAX: usize = 64 * 1024;
/// What the note about the cuts may take.
const NOTE_BYTES_MAX: usize = 1_024;
const CUTS_SHOWN_MAX: usize = 6;
const POINTER_BYTES_MAX: usize = 80;

/// One place where something was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cut {
    pub at: String,
    /// Bytes of a text, else entries.
    pub kept: usize,
    pub of: usize,
}

/// Cuts `value`, an object, to at most `bytes_max` bytes of JSON, the note included. `rest` says how to get what is
/// left out.
pub fn fit(value: &mut Value, bytes_max: usize, rest: &str) {
    if bytes(value) <= bytes_max {
        return;
    }
    let mut cuts: Vec<Cut> = Vec::new();
    while bytes(value) > bytes_max.saturating_sub(NOTE_BYTES_MAX) {
        let Some(cut) = cut_largest(value, String::new()) else { break };
        match cuts.iter_mut().find(|known| known.at == cut.at) {
            Some(known) => known.kept = cut.kept,
            None => cuts.push(cut),
        }
    }
    let more = cuts.len().saturating_sub(CUTS_SHOWN_MAX);
    cuts.truncate(CUTS_SHOWN_MAX);
    for cut in &mut cuts {
        cut.at = text::beginning(&cut.at, POINTER_BYTES_MAX).to_owned();
    }
    value["truncated"] = json!({"cuts": cuts, "more_cuts": more, "rest": rest});
}

/// The bytes of its JSON, which is not kept.
fn bytes(value: &Value) -> usize {
    let mut counted = Counted(0);
    serde_json::to_writer(&mut counted, value).map_or(usize::MAX, |()| counted.0)
}

/// Halves the text, list or mapping that most of the bytes are in.
fn cut_largest(value: &mut Value, at: String) -> Option<Cut> {
    let own = bytes(value);
    let children: Vec<(String, &mut Value)> = match value {
        Value::Array(items) => items.iter_mut().enumerate().map(|(place, item)| (place.to_string(), item)).collect(),
        Value::Object(fields) => fields.iter_mut().map(|(key, field)| (key.clone(), field)).collect(),
        _ => Vec::new(),
    };
    let largest = children.into_iter().max_by_key(|(_, child)| bytes(child));
    if let Some((key, child)) = largest
        && (at.is_empty() || bytes(child) * 2 > own)
    {
        return cut_largest(child, pointer::below(&at, &key));
    }
    halve(value, at)
}

fn halve(value: &mut Value, at: String) -> Option<Cut> {
    match value {
        Value::String(text) if text.len() > 1 => {
            let of = text.len();
            let kept = text::beginning(text, of / 2).len();
            text.truncate(kept);
            Some(Cut { at, kept, of })
        }
        Value::Array(items) if !items.is_empty() => {
            let of = items.len();
            items.truncate(of / 2);
            Some(Cut { at, kept: items.len(), of })
        }
        Value::Object(fields) if !fields.is_empty() => {
            let (of, kept) = (fields.len(), fields.len() / 2);
            let mut place = 0;
            fields.retain(|_, _| {
                place += 1;
                place <= kept
            });
            Some(Cut { at, kept, of })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_fits_is_left_alone() {
        let mut value = json!({"a": "x".repeat(100)});
        let before = value.clone();
        fit(&mut value, ANSWER_BYTES_MAX, "");
        assert_eq!(value, before);
    }

    #[test]
    fn the_largest_part_gives_way_and_the_answer_says_so() {
        let mut value = json!({"id": "t", "log": "x".repeat(50_000), "list": vec!["yy"; 10]});
        fit(&mut value, ANSWER_BYTES_MAX, "ask for detail: full");
        assert!(bytes(&value) <= ANSWER_BYTES_MAX);
        assert_eq!((value["id"].as_str(), value["list"].as_array().map(Vec::len)), (Some("t"), Some(10)));
        assert_eq!(value["truncated"]["cuts"][0]["at"], "/log");
        assert_eq!(value["truncated"]["cuts"][0]["of"], 50_000);
        assert_eq!(value["truncated"]["rest"], "ask for detail: full");
    }

    fn document() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![Just(Value::Null), "\\PC{0,1000}".prop_map(Value::from), any::<i64>().prop_map(Value::from)];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::hash_map("\\PC{0,60}", inner, 0..8).prop_map(|fields| json!(fields)),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn every_document_is_made_to_fit(parts in prop::collection::vec(document(), 0..6)) {
            let mut value = json!({"parts": parts});
            fit(&mut value, ANSWER_BYTES_MAX, "rest");
            prop_assert!(bytes(&value) <= ANSWER_BYTES_MAX, "{} bytes", bytes(&value));
        }
    }
}
