//! A capability expression: parsed once, compared by its text, asked of every node.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::capabilities::Capabilities;
use super::expression::Expression;
use super::parse;
use crate::limits;

/// What a task's `requires` asks of a node, as `gpu.vram >= 16GiB && (model:minilm || label.zone == "eu")`.
///
/// `gpu.vram` is the memory of the largest GPU, 0 without one. Two expressions that differ only in the order of
/// operands, in spaces or in units are equal. Its text form is canonical and parses back.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Requirement {
    /// The canonical text: equal exactly where the expressions are.
    text: Arc<str>,
    expression: Arc<Expression>,
}

/// A text that is not a capability expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {problem}")]
pub struct ParseRequirementError {
    /// In characters, from 1.
    pub column: usize,
    pub problem: String,
}

impl TryFrom<String> for Requirement {
    type Error = ParseRequirementError;

    fn try_from(text: String) -> Result<Self, ParseRequirementError> {
        Self::parse(&text)
    }
}

impl From<Requirement> for String {
    fn from(requirement: Requirement) -> Self {
        requirement.text.as_ref().to_owned()
    }
}

impl Requirement {
    /// # Errors
    /// Where the text stops being an expression, and what was expected there.
    pub fn parse(text: &str) -> Result<Self, ParseRequirementError> {
        let within = |text: &str| {
            let problem = format!("the expression is longer than {} bytes", limits::REQUIREMENT_BYTES_MAX);
            let fits = text.len() <= limits::REQUIREMENT_BYTES_MAX;
            if fits { Ok(()) } else { Err(ParseRequirementError { column: 1, problem }) }
        };
        within(text)?;
        let expression = parse::expression(text)?;
        let canonical = expression.to_string();
        within(&canonical)?;
        Ok(Self { text: canonical.into(), expression: Arc::new(expression) })
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn holds(&self, capabilities: &Capabilities) -> bool {
        self.expression.holds(capabilities)
    }

    /// Each clause that the node does not meet, with what it has instead; empty where it meets all.
    pub fn unmet(&self, capabilities: &Capabilities) -> Vec<String> {
        self.expression.unmet(true, capabilities)
    }

    /// The Hamming distance between the node's clause bits and the nearest that satisfy the expression.
    ///
    /// 0 exactly where the node meets it. A clause that stands twice may count twice.
    pub fn distance(&self, capabilities: &Capabilities) -> u32 {
        self.expression.distance(true, capabilities)
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Debug for Requirement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl PartialEq for Requirement {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.text, &other.text) || self.text == other.text
    }
}

impl Eq for Requirement {}

impl PartialOrd for Requirement {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Requirement {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

impl Hash for Requirement {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

#[cfg(test)]
#[path = "requirement_tests.rs"]
mod tests;
