//! Reads a mapping key by key, so that one wrong value hides no other.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::error::{Pointer, Problems, instead, shown};

/// A kind of mapping: what it is called, its keys, and what to say of some that it does not have.
pub(super) struct Shape {
    pub name: &'static str,
    pub keys: &'static [&'static str],
    /// The problem and the fix for a key that has its place elsewhere or later.
    pub elsewhere: fn(&str) -> Option<(String, String)>,
}

/// A mapping of a document, whose unknown keys are reported when it is opened.
pub(super) struct Fields<'a> {
    entries: &'a Map<String, Value>,
    pub at: Pointer,
}

impl<'a> Fields<'a> {
    pub fn open(value: &'a Value, at: Pointer, shape: &Shape, problems: &mut Problems) -> Option<Self> {
        let Value::Object(entries) = value else {
            let problem = format!("{} is a mapping of keys to values, not {}", shape.name, found(value));
            problems.report(&at, problem, format!("write its keys, as {}: ...", shape.keys[0]));
            return None;
        };
        for key in entries.keys().filter(|key| !shape.keys.contains(&key.as_str())) {
            let unknown = || {
                let problem = format!("{} has no key {}", shape.name, shown(key));
                (problem, instead(key, shape.keys.iter().copied()))
            };
            problems.report_with(&at.key(key), || (shape.elsewhere)(key).unwrap_or_else(unknown));
        }
        Some(Self { entries, at })
    }

    /// The value of `key`; one that is there without a value counts as absent.
    pub fn value(&self, key: &str) -> Option<&'a Value> {
        self.entries.get(key).filter(|value| !value.is_null())
    }

    pub fn read<T: DeserializeOwned>(&self, key: &str, problems: &mut Problems) -> Option<T> {
        self.value(key).and_then(|value| typed(value, &self.at.key(key), problems))
    }

    /// The elements of a list, each read on its own; none if it is absent or wrong.
    pub fn list(&self, key: &str, problems: &mut Problems) -> impl Iterator<Item = (Pointer, &'a Value)> + use<'a> {
        let at = self.at.key(key);
        let items = match self.value(key) {
            None => [].as_slice(),
            Some(Value::Array(items)) => items,
            Some(other) => {
                problems.report(&at, format!("expected a list, found {}", found(other)), "write a list: [...]");
                &[]
            }
        };
        items.iter().enumerate().map(move |(index, item)| (at.index(index), item))
    }

    /// The entries of a mapping with keys of the user's choice; none if it is absent or wrong.
    pub fn mapping(
        &self,
        key: &str,
        problems: &mut Problems,
    ) -> impl Iterator<Item = (&'a String, Pointer, &'a Value)> + use<'a> {
        let at = self.at.key(key);
        let entries = match self.value(key) {
            None => None,
            Some(Value::Object(entries)) => Some(entries),
            Some(other) => {
                let problem = format!("expected a mapping of names to values, found {}", found(other));
                problems.report(&at, problem, "write NAME: VALUE, one a line");
                None
            }
        };
        entries.into_iter().flatten().map(move |(name, value)| (name, at.key(name), value))
    }
}

/// Reads one value and reports why it is not a `T`, and keys in it that `T` does not have.
pub(super) fn typed<T: DeserializeOwned>(value: &Value, at: &Pointer, problems: &mut Problems) -> Option<T> {
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(value, &mut track);
    let mut ignored = Vec::new();
    match serde_ignored::deserialize(deserializer, |path| ignored.push(ignored_pointer(at, &path))) {
        Ok(read) => {
            for (at, key) in ignored {
                problems.report(&at, format!("there is no key {} here", shown(&key)), "remove it");
            }
            Some(read)
        }
        Err(error) => {
            let at = track.path().iter().fold(at.clone(), |at, segment| match segment {
                serde_path_to_error::Segment::Seq { index } => at.index(*index),
                serde_path_to_error::Segment::Map { key } => at.key(key),
                serde_path_to_error::Segment::Enum { .. } | serde_path_to_error::Segment::Unknown => at,
            });
            let (problem, fix) = in_words(&error.to_string());
            problems.report(&at, problem, fix);
            None
        }
    }
}

fn ignored_pointer(at: &Pointer, path: &serde_ignored::Path<'_>) -> (Pointer, String) {
    use serde_ignored::Path;
    match path {
        Path::Root => (at.clone(), String::new()),
        Path::Seq { parent, index } => (ignored_pointer(at, parent).0.index(*index), index.to_string()),
        Path::Map { parent, key } => (ignored_pointer(at, parent).0.key(key), key.clone()),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            ignored_pointer(at, parent)
        }
    }
}

/// What a value is, in a user's words.
pub(super) fn found(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text {}", shown(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    }
}

/// Turns a message of serde into a problem and its fix.
fn in_words(message: &str) -> (String, String) {
    if let Some((value, _)) = message.strip_prefix("invalid value: ").and_then(|rest| rest.rsplit_once(", expected ")) {
        return (format!("{} is out of range", presented(value)), "write a smaller number, 0 or above".to_owned());
    }
    // A list stands where a mapping is expected, and has too few entries to be read as one.
    let too_short = message.strip_prefix("invalid length ").and_then(|rest| rest.split_once(", expected struct "));
    if let Some((_, name)) = too_short {
        let (expected, fix) = expectation(&format!("struct {name}"));
        return (format!("expected {expected}, found a list"), fix);
    }
    let wrong_type = message.strip_prefix("invalid type: ");
    if let Some((unexpected, expected)) = wrong_type.and_then(|rest| rest.rsplit_once(", expected ")) {
        let (expected, fix) = expectation(expected);
        return (format!("expected {expected}, found {}", presented(unexpected)), fix);
    }
    if let Some(field) = message.strip_prefix("missing field ").map(|name| name.trim_matches('`')) {
        return (format!("{field} is missing"), format!("add {field}"));
    }
    if let Some((written, known)) =
        message.strip_prefix("unknown variant `").and_then(|rest| rest.split_once("`, expected "))
    {
        let known = known.split('`').skip(1).step_by(2);
        return (format!("{} is not known here", shown(written)), instead(written, known));
    }
    let message: String = message.chars().take(200).collect();
    match (message.split_once(", as "), message.strip_suffix(')').and_then(|text| text.split_once(" ("))) {
        (Some((problem, example)), _) => (problem.to_owned(), format!("write {example}")),
        (None, Some((problem, remark))) => (problem.to_owned(), remark.to_owned()),
        (None, None) => (message, "correct it".to_owned()),
    }
}

/// A Rust type's name as a user says it, and how to write one.
fn expectation(expected: &str) -> (String, String) {
    // `struct FileRef with 4 elements`, where a list was found.
    let (words, fix) = match expected.split(" with ").next().unwrap_or(expected) {
        "a string" => ("a text", "put it in quotes"),
        "a boolean" => ("true or false", "write true or false"),
        "f64" => ("a number", "write a number without quotes"),
        "u16" | "u32" | "u64" | "i32" => ("a whole number", "write a whole number without quotes"),
        "a sequence" => ("a list", "write a list: [...]"),
        "a map" => ("a mapping of names to values", "write NAME: VALUE, one a line"),
        "struct RetryPolicy" => ("a mapping", "write {max_attempts: 3, initial: 1s}"),
        "struct FileRef" => ("an uploaded file", "give {path, cid, bytes}, or let nodectl run upload it"),
        other if other.starts_with("struct ") => ("a mapping of names to values", "write {NAME: VALUE, ...}"),
        other => return (other.to_owned(), format!("write {other}")),
    };
    (words.to_owned(), fix.to_owned())
}

/// serde's description of a value as a user says it.
fn presented(unexpected: &str) -> String {
    let value = |name: &str| unexpected.strip_prefix(name).map(|rest| rest.trim_matches('`').to_owned());
    if let Some(number) = value("integer ").or_else(|| value("floating point ")) {
        return format!("the number {number}");
    }
    if let Some(text) = unexpected.strip_prefix("string ") {
        return format!("the text {}", shown(text.trim_matches('"')));
    }
    match unexpected {
        "map" => "a mapping".to_owned(),
        "sequence" => "a list".to_owned(),
        other => value("boolean ").unwrap_or_else(|| other.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::retry::RetryPolicy;
    use crate::task::{Durability, FileRef, Priority};
    use crate::time::DurationMs;
    use serde_json::json;

    fn refusal<T: DeserializeOwned + std::fmt::Debug>(value: Value) -> String {
        let mut problems = Problems::default();
        let read = typed::<T>(&value, &Pointer::default().key("k"), &mut problems);
        let errors = problems.into_result(read).unwrap_err();
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn wrong_types_are_said_in_a_users_words() {
        assert_eq!(refusal::<String>(json!(5)), "/k: expected a text, found the number 5 (put it in quotes)");
        assert_eq!(refusal::<Vec<String>>(json!({})), "/k: expected a list, found a mapping (write a list: [...])");
        assert_eq!(
            refusal::<BTreeMap<String, String>>(json!({"a/b": true})),
            "/k/a~1b: expected a text, found true (put it in quotes)"
        );
        assert_eq!(
            refusal::<RetryPolicy>(json!({"max_attempts": "5"})),
            "/k/max_attempts: expected a whole number, found the text \"5\" (write a whole number without quotes)"
        );
        assert_eq!(refusal::<Durability>(json!("sinc")), "/k: \"sinc\" is not known here (write sync)");
        assert_eq!(
            refusal::<DurationMs>(json!("5 min")),
            "/k: \"5 min\" is not a duration (write 200ms, 5s, 10m, 1h or 7d)"
        );
        assert_eq!(refusal::<Priority>(json!(5_000)), "/k: priority 5000 is above 1000 (0 runs first, 1000 last)");
        assert_eq!(
            refusal::<Priority>(json!(-1)),
            "/k: the number -1 is out of range (write a smaller number, 0 or above)"
        );
        assert!(
            refusal::<FileRef>(json!("split.py")).contains("expected an uploaded file, found the text \"split.py\"")
        );
        assert!(refusal::<FileRef>(json!({"path": "x"})).contains("cid is missing (add cid)"));
        assert!(refusal::<FileRef>(json!([])).contains("expected an uploaded file, found a list (give {path"));
        assert!(refusal::<RetryPolicy>(json!(5)).contains("expected a mapping, found the number 5"));
    }

    #[test]
    fn an_unknown_key_inside_a_value_is_reported_at_its_place() {
        let file = json!([{"path": "x", "cid": crate::ids::ContentId::of(b"").to_string(), "bytes": 0, "mode": 7}]);
        assert_eq!(refusal::<Vec<FileRef>>(file), "/k/0/mode: there is no key \"mode\" here (remove it)");
    }
}
