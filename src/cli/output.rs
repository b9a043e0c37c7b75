//! What goes to standard output: a table for people, JSON or YAML for programs.

use std::io::{self, Write};

use clap::ValueEnum;
use saphyr::{LoadableYamlNode, Yaml, YamlEmitter};
use serde::Serialize;

use super::exit::CommandError;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    /// As `table`, with more columns.
    Wide,
    /// One document; of streams one object a line.
    Json,
    Yaml,
}

impl Format {
    pub fn is_wide(self) -> bool {
        self == Self::Wide
    }

    /// Prints one document, or the text that says the same to a person.
    ///
    /// # Errors
    /// If standard output cannot be written to.
    pub fn document(self, document: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), CommandError> {
        print(&match self {
            Self::Table | Self::Wide => text(),
            Self::Json => format!("{}\n", json_pretty(document)),
            Self::Yaml => yaml(document),
        })
    }

    /// One object of a stream, or the line that says the same to a person.
    pub fn in_line(self, object: &impl Serialize, text: impl FnOnce() -> String) -> String {
        match self {
            Self::Table | Self::Wide => format!("{}\n", text()),
            Self::Json => format!("{}\n", json_line(object)),
            Self::Yaml => format!("---\n{}", yaml(object)),
        }
    }

    /// Prints one object of a stream, or the line that says the same to a person.
    ///
    /// # Errors
    /// If standard output cannot be written to.
    pub fn line(self, object: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), CommandError> {
        print(&self.in_line(object, text))
    }

    /// Prints an object of a stream that tells of a failure: a person reads it on standard error, apart from the rest.
    ///
    /// # Errors
    /// If standard output cannot be written to.
    pub fn failed_line(self, object: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), CommandError> {
        if matches!(self, Self::Table | Self::Wide) {
            eprintln!("nodectl: {}", text());
            return Ok(());
        }
        self.line(object, text)
    }
}

/// Writes to standard output, at once.
///
/// # Errors
/// If it cannot be written to.
pub fn print(text: &str) -> Result<(), CommandError> {
    print_bytes(text.as_bytes())
}

/// As [`print()`].
///
/// # Errors
/// As [`print()`].
pub fn print_bytes(bytes: &[u8]) -> Result<(), CommandError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| CommandError::output(&error))
}

pub fn json_pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("what is printed has only string keys")
}

pub fn json_line(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("what is printed has only string keys")
}

/// JSON is YAML already, and is kept where it cannot be written more readably.
fn yaml(value: &impl Serialize) -> String {
    let json = json_line(value);
    let readable = Yaml::load_from_str(&json).ok().and_then(|documents| {
        let mut text = String::new();
        YamlEmitter::new(&mut text).dump(documents.first()?).ok()?;
        Some(text)
    });
    let text = readable.unwrap_or(json);
    format!("{}\n", text.strip_prefix("---\n").unwrap_or(&text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn yaml_keeps_the_order_of_the_fields() {
        #[derive(Serialize)]
        struct Document {
            state: &'static str,
            id: u32,
            items: Vec<Value>,
        }
        let document = Document { state: "ready", id: 7, items: vec![json!("yes"), json!(null), json!({"a": 1.5})] };
        assert_eq!(yaml(&document), "state: ready\nid: 7\nitems:\n  - \"yes\"\n  - ~\n  - a: 1.5\n");
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[ -~äß€\u{2028}\n\t]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z~:#\" ]{1,6}", inner, 1..4)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn yaml_says_what_json_says(value in any_value()) {
            let documents = Yaml::load_from_str(&yaml(&value)).unwrap();
            let again = Yaml::load_from_str(&value.to_string()).unwrap();
            prop_assert_eq!(documents, again);
        }
    }

    #[test]
    fn texts_that_look_like_something_else_stay_texts() {
        for text in
            ["yes", "null", "~", "1e3", "0x1f", "", " ", "- a", "a: b", "#", "2020-01-01", "1_000", "'", "\"", "é\n"]
        {
            let value = json!({"text": [text]});
            let (written, given) = (yaml(&value), value.to_string());
            assert_eq!(Yaml::load_from_str(&written), Yaml::load_from_str(&given), "{written}");
        }
    }
}
