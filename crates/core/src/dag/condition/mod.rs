//! `when`: a condition over inputs, items, and what earlier steps gave, decided when a step could start.
//!
//! ```text
//! any        = all { "||" all }
//! all        = one { "&&" one }
//! one        = "!" one | comparison
//! comparison = value [ ("==" | "!=" | "<=" | "<" | ">=" | ">") value ]
//! value      = "(" any ")" | NUMBER | TEXT | "true" | "false" | "null" | "${" reference "}"
//! ```

mod evaluate;
mod parse;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

pub use evaluate::ConditionError;
pub(super) use evaluate::holds;

use super::reference::{Reference, Root, TemplateError};
use crate::task::TaskState;

/// An expression that is true or false once its references have values. It is kept as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    source: String,
    expression: Expression,
}

#[derive(Debug, Clone, PartialEq)]
enum Expression {
    Literal(Value),
    Reference(Reference),
    Not(Box<Expression>),
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Compare(Box<Expression>, Relation, Box<Expression>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Equal,
    NotEqual,
    AtMost,
    Below,
    AtLeast,
    Above,
}

impl Relation {
    /// Longer symbols stand before those that they begin with.
    const ALL: [(&'static str, Self); 6] = [
        ("==", Self::Equal),
        ("!=", Self::NotEqual),
        ("<=", Self::AtMost),
        ("<", Self::Below),
        (">=", Self::AtLeast),
        (">", Self::Above),
    ];

    fn symbol(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, relation)| *relation == self).map_or("", |(symbol, _)| symbol)
    }

    fn is_order(self) -> bool {
        !matches!(self, Self::Equal | Self::NotEqual)
    }
}

/// What an expression is known to be before its references have values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Boolean,
    Number,
    Text,
    Null,
}

impl Kind {
    fn words(self) -> &'static str {
        match self {
            Self::Boolean => "true or false",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::Null => "null",
        }
    }
}

impl Expression {
    fn kind(&self) -> Option<Kind> {
        match self {
            Self::Literal(Value::Number(_)) => Some(Kind::Number),
            Self::Literal(Value::String(_)) => Some(Kind::Text),
            Self::Literal(Value::Null) => Some(Kind::Null),
            Self::Literal(Value::Bool(_)) | Self::Not(_) | Self::All(_) | Self::Any(_) | Self::Compare(..) => {
                Some(Kind::Boolean)
            }
            Self::Reference(reference) => match &reference.root {
                Root::State(_) => Some(Kind::Text),
                Root::ItemIndex => Some(Kind::Number),
                Root::Input(_) | Root::Output(_) | Root::Error(_) | Root::Item => None,
            },
            Self::Literal(Value::Array(_) | Value::Object(_)) => None,
        }
    }

    fn collect<'a>(&'a self, found: &mut Vec<&'a Reference>) {
        match self {
            Self::Literal(_) => {}
            Self::Reference(reference) => found.push(reference),
            Self::Not(inner) => inner.collect(found),
            Self::All(operands) | Self::Any(operands) => operands.iter().for_each(|operand| operand.collect(found)),
            Self::Compare(left, _, right) => {
                left.collect(found);
                right.collect(found);
            }
        }
    }
}

impl Condition {
    /// Every reference, in the order of the text.
    pub fn references(&self) -> Vec<&Reference> {
        let mut found = Vec::new();
        self.expression.collect(&mut found);
        found
    }

    /// Whether it is decided for each item of a `for_each` by itself.
    pub fn is_of_item(&self) -> bool {
        self.references().into_iter().any(Reference::is_of_item)
    }
}

impl FromStr for Condition {
    type Err = TemplateError;

    fn from_str(source: &str) -> Result<Self, TemplateError> {
        parse::expression(source).map(|expression| Self { source: source.to_owned(), expression })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.source)
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The states that `${steps.NAME.state}` can be compared with.
fn state_names() -> [&'static str; 10] {
    TaskState::ALL.map(TaskState::name)
}
