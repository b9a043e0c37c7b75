//! How much of a thing an answer shows, and pages of lists.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::mcp::answer::ToolError;

/// Rows of a page, unless asked otherwise; and the most.
pub const LIMIT: usize = 20;
pub const LIMIT_MAX: usize = 100;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum Detail {
    #[default]
    Concise,
    Full,
}

impl Detail {
    pub fn is_full(self) -> bool {
        self == Self::Full
    }
}

/// The seeds say `true` for `full`.
impl<'de> Deserialize<'de> for Detail {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Flag(bool),
            Word(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Flag(full) => Ok(if full { Self::Full } else { Self::Concise }),
            Written::Word(word) if word == "concise" => Ok(Self::Concise),
            Written::Word(word) if word == "full" => Ok(Self::Full),
            Written::Word(word) => Err(serde::de::Error::unknown_variant(&word, &["concise", "full"])),
        }
    }
}

/// The rows `cursor..` of a list, at most `limit`, and the cursor of the rows after them.
///
/// # Errors
/// If the cursor is not one that a page gave.
pub fn page<T>(
    rows: Vec<T>,
    cursor: Option<&str>,
    limit: Option<usize>,
) -> Result<(Vec<T>, Option<String>), ToolError> {
    let start = match cursor {
        None => 0,
        Some(text) => text.parse::<usize>().map_err(|_| wrong_cursor(text))?,
    };
    let limit = limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    let end = start.saturating_add(limit);
    let next = (end < rows.len()).then(|| end.to_string());
    Ok((rows.into_iter().skip(start).take(limit).collect(), next))
}

pub fn wrong_cursor(cursor: &str) -> ToolError {
    let shown: String = cursor.chars().take(40).collect();
    let fix = "pass next_cursor of the page before, or leave cursor out for the first page";
    ToolError::wrong_argument("cursor", format!("{shown:?} is no page's next_cursor"), "string", fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_to_the_end() {
        let rows: Vec<u32> = (0..45).collect();
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let (rows, next) = page(rows.clone(), cursor.as_deref(), Some(20)).unwrap();
            seen.extend(rows);
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, rows);
        assert_eq!(page(rows.clone(), Some("99"), None).unwrap(), (Vec::new(), None));
        assert_eq!(page(rows, Some("x"), None).unwrap_err().field.as_deref(), Some("cursor"));
    }

    #[test]
    fn detail_is_a_word_or_a_flag() {
        for (text, detail) in [("true", Detail::Full), ("false", Detail::Concise), ("\"full\"", Detail::Full)] {
            assert_eq!(serde_json::from_str::<Detail>(text).unwrap(), detail);
        }
        assert!(serde_json::from_str::<Detail>("\"more\"").is_err());
    }
}
