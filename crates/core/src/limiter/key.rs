//! The name of a limit, as a task writes it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::LedgerTag;
use crate::limits;

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitKind {
    /// Live leases at a time.
    Concurrency,
    /// Starts.
    Rate,
}

impl LimitKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Concurrency => "concurrency",
            Self::Rate => "rate",
        }
    }
}

/// `NAME`, a limit of the task's own home, or `NAME@LEDGERTAG`, one that is held at that home for the whole mesh.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LimitKey {
    pub name: String,
    pub home: Option<LedgerTag>,
}

impl LimitKey {
    /// At its own home, `NAME@LEDGERTAG` is `NAME`: both are the limit that is set there.
    #[must_use]
    pub fn seen_from(&self, own: LedgerTag) -> Self {
        Self { name: self.name.clone(), home: self.home.filter(|home| *home != own) }
    }
}

/// A text that names no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no limit: write NAME, or NAME@LEDGERTAG with the tag of the home that holds it")]
pub struct ParseLimitKeyError(String);

impl FromStr for LimitKey {
    type Err = ParseLimitKeyError;

    fn from_str(text: &str) -> Result<Self, ParseLimitKeyError> {
        let wrong = || ParseLimitKeyError(text.chars().take(40).collect());
        let (name, home) = match text.split_once('@') {
            Some((name, tag)) => (name, Some(tag.parse::<LedgerTag>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let fits = !name.is_empty() && name.len() <= limits::NAME_BYTES_MAX && !name.chars().any(char::is_control);
        if fits { Ok(Self { name: name.to_owned(), home }) } else { Err(wrong()) }
    }
}

impl TryFrom<String> for LimitKey {
    type Error = ParseLimitKeyError;

    fn try_from(text: String) -> Result<Self, ParseLimitKeyError> {
        text.parse()
    }
}

impl From<LimitKey> for String {
    fn from(key: LimitKey) -> Self {
        key.to_string()
    }
}

impl fmt::Display for LimitKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.home {
            Some(home) => write!(formatter, "{}@{home}", self.name),
            None => formatter.write_str(&self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_as_it_is_written() {
        for text in ["gpu-api", "a b", "openai@AAAAAAAA"] {
            let parsed = text.parse::<LimitKey>().map(|key| key.to_string().to_lowercase());
            assert_eq!(parsed, Ok(text.to_lowercase()));
        }
        let long = "x".repeat(limits::NAME_BYTES_MAX + 1);
        for text in ["", "@k3v9x2aq", "a@", "a@b", "a@k3v9x2aq@k3v9x2aq", "a\nb", &long] {
            assert!(text.parse::<LimitKey>().is_err(), "{text:?}");
        }
    }
}
