//! Values with `${...}` in their texts, parsed once and filled in when a step becomes ready.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use super::error::Pointer;
use super::reference::{Reference, TemplateError};
use crate::payload::JsonText;

/// A text with references: `$${` stands for the two characters `${`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextTemplate {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// Never empty and never beside another.
    Verbatim(String),
    Reference(Reference),
}

impl TextTemplate {
    pub(super) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The reference that is the whole text: it is replaced by the value itself, not by the value's text.
    pub fn sole_reference(&self) -> Option<&Reference> {
        match self.pieces.as_slice() {
            [Piece::Reference(reference)] => Some(reference),
            _ => None,
        }
    }

    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Reference(reference) => Some(reference),
            Piece::Verbatim(_) => None,
        })
    }

    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    fn verbatim(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [] => Some(""),
            [Piece::Verbatim(text)] => Some(text),
            _ => None,
        }
    }

    fn push(&mut self, text: &str) {
        match self.pieces.last_mut() {
            _ if text.is_empty() => {}
            Some(Piece::Verbatim(before)) => before.push_str(text),
            Some(Piece::Reference(_)) | None => self.pieces.push(Piece::Verbatim(text.to_owned())),
        }
    }
}

impl FromStr for TextTemplate {
    type Err = TemplateError;

    fn from_str(source: &str) -> Result<Self, TemplateError> {
        let mut template = Self::default();
        let (mut rest, mut column) = (source, 1);
        while let Some(start) = rest.find("${") {
            let (before, reference) = rest.split_at(start);
            column += before.chars().count();
            if let Some(before) = before.strip_suffix('$') {
                template.push(before);
                template.push("${");
                rest = &reference[2..];
                column += 2;
                continue;
            }
            template.push(before);
            let (inside, after) = reference[2..].split_once('}').ok_or_else(|| TemplateError {
                column,
                problem: "${ is never closed".to_owned(),
                fix: "close it with }, or write $${ for the two characters ${".to_owned(),
            })?;
            template.pieces.push(Piece::Reference(Reference::parse(inside, column + 2)?));
            rest = after;
            column += inside.chars().count() + 3;
        }
        template.push(rest);
        Ok(template)
    }
}

impl fmt::Display for TextTemplate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pieces.iter().try_for_each(|piece| match piece {
            Piece::Verbatim(text) => formatter.write_str(&text.replace("${", "$${")),
            Piece::Reference(reference) => reference.fmt(formatter),
        })
    }
}

impl Serialize for TextTemplate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TextTemplate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A JSON value whose texts may hold references. Keys are taken as they stand.
///
/// In JSON documents it stands as it was written, in MessagePack as that JSON's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Template {
    /// A value without references, `$${` already replaced.
    Verbatim(JsonText),
    Text(TextTemplate),
    List(Vec<Template>),
    Mapping(BTreeMap<String, Template>),
}

impl Default for Template {
    fn default() -> Self {
        Self::Verbatim(JsonText::null())
    }
}

impl Template {
    /// # Errors
    /// The first malformed reference.
    pub fn parse(value: &Value) -> Result<Self, TemplateError> {
        let mut first = None;
        let template = Self::read(value, &Pointer::default(), &mut |_, error| {
            first.get_or_insert(error);
        });
        first.map_or(Ok(template), Err)
    }

    /// Reads `value`, which stands at `at`; a text with a malformed reference is reported and left empty.
    pub(super) fn read(value: &Value, at: &Pointer, report: &mut dyn FnMut(&Pointer, TemplateError)) -> Self {
        match value {
            value if !has_marks(value) => Self::Verbatim(JsonText::of(value)),
            Value::String(text) => match text.parse() {
                Ok(text) => Self::of_text(text),
                Err(error) => {
                    report(at, error);
                    Self::default()
                }
            },
            Value::Array(items) => {
                let items = items.iter().enumerate();
                Self::List(items.map(|(index, item)| Self::read(item, &at.index(index), report)).collect())
            }
            Value::Object(entries) => {
                let read = |(key, entry): (&String, &Value)| (key.clone(), Self::read(entry, &at.key(key), report));
                Self::Mapping(entries.iter().map(read).collect())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => Self::Verbatim(JsonText::of(value)),
        }
    }

    fn of_text(text: TextTemplate) -> Self {
        match text.verbatim() {
            Some(verbatim) => Self::Verbatim(JsonText::of(&Value::from(verbatim))),
            None => Self::Text(text),
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Self::Verbatim(text) if text.as_str() == "null")
    }

    /// The value as a document holds it: `${` in a text that is no reference is written `$${`.
    pub fn to_source(&self) -> Value {
        match self {
            Self::Verbatim(text) => escaped(text.to_value()),
            Self::Text(text) => Value::String(text.to_string()),
            Self::List(items) => items.iter().map(Self::to_source).collect(),
            Self::Mapping(entries) => entries.iter().map(|(key, entry)| (key.clone(), entry.to_source())).collect(),
        }
    }

    /// Shows every text that holds references, with its place below `at`.
    pub(super) fn each_text(&self, at: &Pointer, visit: &mut dyn FnMut(&Pointer, &TextTemplate)) {
        match self {
            Self::Verbatim(_) => {}
            Self::Text(text) => visit(at, text),
            Self::List(items) => {
                items.iter().enumerate().for_each(|(index, item)| item.each_text(&at.index(index), visit));
            }
            Self::Mapping(entries) => entries.iter().for_each(|(key, entry)| entry.each_text(&at.key(key), visit)),
        }
    }

    /// Every reference, in the order of the value.
    pub fn references(&self) -> Vec<&Reference> {
        match self {
            Self::Verbatim(_) => Vec::new(),
            Self::Text(text) => text.references().collect(),
            Self::List(items) => items.iter().flat_map(Self::references).collect(),
            Self::Mapping(entries) => entries.values().flat_map(Self::references).collect(),
        }
    }
}

/// Whether a text of `value` holds a reference or an escape.
fn has_marks(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("${"),
        Value::Array(items) => items.iter().any(has_marks),
        Value::Object(entries) => entries.values().any(has_marks),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn escaped(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace("${", "$${")),
        Value::Array(items) => items.into_iter().map(escaped).collect(),
        Value::Object(entries) => entries.into_iter().map(|(key, entry)| (key, escaped(entry))).collect(),
        other => other,
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let source = self.to_source();
        if serializer.is_human_readable() { source.serialize(serializer) } else { serializer.collect_str(&source) }
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let source = if deserializer.is_human_readable() {
            Value::deserialize(deserializer)?
        } else {
            serde_json::from_str(&String::deserialize(deserializer)?).map_err(de::Error::custom)?
        };
        Self::parse(&source).map_err(de::Error::custom)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// JSON whose texts hold references, escapes, dollars and braces.
    pub fn any_source() -> impl Strategy<Value = Value> {
        let text = prop::collection::vec(
            prop::sample::select(vec!["$", "{", "}", "$${", "a", "\"", "é", "${item}", "${input.k.x[0]}", "\\"]),
            0..6,
        );
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            text.prop_map(|parts| Value::from(parts.concat())),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z$]{0,3}", inner, 0..4).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    fn text(source: &str) -> TextTemplate {
        source.parse().unwrap()
    }

    #[test]
    fn two_dollars_before_a_brace_are_an_escape() {
        for (source, verbatim) in
            [("$${HOME}", "${HOME}"), ("a $$${x", "a $${x"), ("$ {", "$ {"), ("5$", "5$"), ("", "")]
        {
            assert_eq!(text(source).verbatim(), Some(verbatim), "{source}");
            assert_eq!(text(source).to_string(), source);
        }
        assert_eq!(text("$${a}${item}").references().count(), 1);
    }

    #[test]
    fn only_a_whole_text_is_a_sole_reference() {
        assert!(text("${item.x}").sole_reference().is_some());
        for source in ["${item} ", "${item}${item}", "item", ""] {
            assert!(text(source).sole_reference().is_none(), "{source}");
        }
    }

    #[test]
    fn columns_count_characters_of_the_text() {
        let error = "äö ${item} and ${env.X}".parse::<TextTemplate>().unwrap_err();
        assert_eq!(error.column, 18);
        let error = "ä $${x} ${item} ${x}".parse::<TextTemplate>().unwrap_err();
        assert_eq!(error.column, 19);
        let error = "ä ${item".parse::<TextTemplate>().unwrap_err();
        assert_eq!((error.column, error.problem.as_str()), (3, "${ is never closed"));
    }

    #[test]
    fn a_value_without_references_is_kept_as_one_text() {
        let template = Template::parse(&json!({"a": [1, "$x", {"b": null}]})).unwrap();
        assert_eq!(template, Template::Verbatim(JsonText::parse(r#"{"a":[1,"$x",{"b":null}]}"#).unwrap()));
        let escape = Template::parse(&json!("$${x}")).unwrap();
        assert_eq!(escape, Template::Verbatim(JsonText::parse(r#""${x}""#).unwrap()));
        assert!(template.references().is_empty() && escape.references().is_empty());
    }

    #[test]
    fn a_deep_packed_template_is_refused_and_never_overflows() {
        let packed = rmp_serde::to_vec(&"[".repeat(100_000)).unwrap();
        assert!(rmp_serde::from_slice::<Template>(&packed).is_err());
    }

    proptest! {
        #[test]
        fn a_template_survives_json_and_messagepack(source in any_source()) {
            let Ok(template) = Template::parse(&source) else { return Ok(()) };
            prop_assert_eq!(Template::parse(&template.to_source()), Ok(template.clone()));
            let json = serde_json::to_string(&template).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Template>(&json).unwrap(), &template);
            let packed = rmp_serde::to_vec_named(&template).unwrap();
            prop_assert_eq!(&rmp_serde::from_slice::<Template>(&packed).unwrap(), &template);
        }

        #[test]
        fn random_text_parses_or_is_refused_and_prints_back(source in "[${}a-z.\\[\\]0-9]{0,24}") {
            if let Ok(template) = source.parse::<TextTemplate>() {
                prop_assert_eq!(template.to_string().parse::<TextTemplate>().unwrap(), template);
            }
        }
    }
}
