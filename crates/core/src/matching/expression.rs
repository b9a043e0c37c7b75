//! Clauses joined by `&&`, `||` and `!`, in one canonical form.

use std::fmt;

use super::capabilities::Capabilities;
use super::clause::Clause;

/// Operands stand in order, once each; no operand of a kind stands within its own kind, no `!` within a `!`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Expression {
    Clause(Clause),
    Not(Box<Expression>),
    All(Vec<Expression>),
    Any(Vec<Expression>),
}

impl Expression {
    pub fn not(self) -> Self {
        match self {
            Self::Not(inner) => *inner,
            other => Self::Not(Box::new(other)),
        }
    }

    pub fn all(operands: Vec<Self>) -> Self {
        let flat = operands.into_iter().flat_map(|operand| match operand {
            Self::All(inner) => inner,
            other => vec![other],
        });
        Self::joined(flat.collect(), Self::All)
    }

    pub fn any(operands: Vec<Self>) -> Self {
        let flat = operands.into_iter().flat_map(|operand| match operand {
            Self::Any(inner) => inner,
            other => vec![other],
        });
        Self::joined(flat.collect(), Self::Any)
    }

    fn joined(mut operands: Vec<Self>, join: fn(Vec<Self>) -> Self) -> Self {
        operands.sort();
        operands.dedup();
        if operands.len() == 1 { operands.remove(0) } else { join(operands) }
    }

    pub fn holds(&self, capabilities: &Capabilities) -> bool {
        match self {
            Self::Clause(clause) => clause.holds(capabilities),
            Self::Not(inner) => !inner.holds(capabilities),
            Self::All(operands) => operands.iter().all(|operand| operand.holds(capabilities)),
            Self::Any(operands) => operands.iter().any(|operand| operand.holds(capabilities)),
        }
    }

    /// The least number of clauses whose truth would have to change for the whole to be `wanted`.
    ///
    /// Exact where no clause stands twice; never 0 for a node that does not fit.
    pub fn distance(&self, wanted: bool, capabilities: &Capabilities) -> u32 {
        match (self, wanted) {
            (Self::Clause(clause), _) => u32::from(clause.holds(capabilities) != wanted),
            (Self::Not(inner), _) => inner.distance(!wanted, capabilities),
            (Self::All(operands), true) | (Self::Any(operands), false) => {
                operands.iter().map(|operand| operand.distance(wanted, capabilities)).sum()
            }
            (Self::All(operands), false) | (Self::Any(operands), true) => {
                operands.iter().map(|operand| operand.distance(wanted, capabilities)).min().unwrap_or(0)
            }
        }
    }

    /// What keeps the whole from being `wanted`: each clause that must change, alternatives in one sentence.
    pub fn unmet(&self, wanted: bool, capabilities: &Capabilities) -> Vec<String> {
        match (self, wanted) {
            (Self::Clause(clause), _) if clause.holds(capabilities) == wanted => Vec::new(),
            (Self::Clause(clause), _) => {
                let not = if wanted { "" } else { "!" };
                vec![format!("{not}{clause}: this node {}", clause.held(capabilities))]
            }
            (Self::Not(inner), _) => inner.unmet(!wanted, capabilities),
            (Self::All(operands), true) | (Self::Any(operands), false) => {
                operands.iter().flat_map(|operand| operand.unmet(wanted, capabilities)).collect()
            }
            (Self::All(operands), false) | (Self::Any(operands), true) => {
                let ways: Vec<_> = operands.iter().map(|operand| operand.unmet(wanted, capabilities)).collect();
                let met = ways.iter().any(Vec::is_empty);
                let sentences: Vec<_> = ways.iter().map(|unmet| unmet.join(" and ")).collect();
                if met { Vec::new() } else { vec![sentences.join(", or ")] }
            }
        }
    }

    fn write_operands(
        formatter: &mut fmt::Formatter<'_>,
        operands: &[Self],
        joiner: &str,
        needs_brackets: fn(&Self) -> bool,
    ) -> fmt::Result {
        for (place, operand) in operands.iter().enumerate() {
            formatter.write_str(if place == 0 { "" } else { joiner })?;
            if needs_brackets(operand) {
                write!(formatter, "({operand})")?;
            } else {
                write!(formatter, "{operand}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clause(clause) => write!(formatter, "{clause}"),
            Self::Not(inner) if matches!(**inner, Self::Clause(_)) => write!(formatter, "!{inner}"),
            Self::Not(inner) => write!(formatter, "!({inner})"),
            Self::All(operands) => {
                Self::write_operands(formatter, operands, " && ", |operand| matches!(operand, Self::Any(_)))
            }
            Self::Any(operands) => Self::write_operands(formatter, operands, " || ", |_| false),
        }
    }
}
