//! Whether a condition holds, once its references have values.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::Value;

use super::{Condition, Expression, Relation};
use crate::dag::reference::Reference;
use crate::dag::resolve::{ResolveError, described};

/// Why a condition is neither true nor false.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    #[error("{0}")]
    Resolve(#[from] ResolveError),
    #[error("{what} is {found}, and true or false is wanted")]
    NotBoolean { what: String, found: String },
    #[error("{left} {relation} {right}: only two numbers or two texts have an order")]
    NoOrder { left: String, relation: &'static str, right: String },
}

/// Decides a condition; `lookup` gives the JSON text of a reference. What short-circuits is not looked up.
pub(in crate::dag) fn holds<'s>(
    condition: &Condition,
    lookup: &dyn Fn(&Reference) -> Result<Cow<'s, str>, ResolveError>,
) -> Result<bool, ConditionError> {
    Evaluation { lookup }.boolean(&condition.expression)
}

struct Evaluation<'l, 's> {
    lookup: &'l dyn Fn(&Reference) -> Result<Cow<'s, str>, ResolveError>,
}

impl Evaluation<'_, '_> {
    fn boolean(&self, expression: &Expression) -> Result<bool, ConditionError> {
        match expression {
            Expression::Not(inner) => Ok(!self.boolean(inner)?),
            Expression::All(operands) => {
                for operand in operands {
                    if !self.boolean(operand)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Expression::Any(operands) => {
                for operand in operands {
                    if self.boolean(operand)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Expression::Compare(left, relation, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                compare(&left, *relation, &right)
            }
            Expression::Literal(_) | Expression::Reference(_) => match self.value(expression)? {
                Value::Bool(holds) => Ok(holds),
                other => Err(ConditionError::NotBoolean { what: name(expression), found: found(&other) }),
            },
        }
    }

    fn value(&self, expression: &Expression) -> Result<Value, ConditionError> {
        match expression {
            Expression::Literal(value) => Ok(value.clone()),
            Expression::Reference(reference) => {
                let text = (self.lookup)(reference)?;
                serde_json::from_str(&text)
                    .map_err(|error| ConditionError::Resolve(ResolveError::unreadable(reference, &error)))
            }
            Expression::Not(_) | Expression::All(_) | Expression::Any(_) | Expression::Compare(..) => {
                self.boolean(expression).map(Value::Bool)
            }
        }
    }
}

fn compare(left: &Value, relation: Relation, right: &Value) -> Result<bool, ConditionError> {
    let no_order = || ConditionError::NoOrder { left: found(left), relation: relation.symbol(), right: found(right) };
    let order = || order(left, right).ok_or_else(no_order);
    Ok(match relation {
        Relation::Equal => is_equal(left, right),
        Relation::NotEqual => !is_equal(left, right),
        Relation::AtMost => order()? != Ordering::Greater,
        Relation::Below => order()? == Ordering::Less,
        Relation::AtLeast => order()? != Ordering::Less,
        Relation::Above => order()? == Ordering::Greater,
    })
}

/// 1 and 1.0 are one number; everything else is equal to what is written alike.
fn is_equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(_), Value::Number(_)) => order(left, right) == Some(Ordering::Equal),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| is_equal(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            let same = |(key, value): (&String, &Value)| right.get(key).is_some_and(|other| is_equal(value, other));
            left.len() == right.len() && left.iter().all(same)
        }
        (left, right) => left == right,
    }
}

fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Number(left), Value::Number(right)) => {
            // Whole numbers beyond 2^53 would meet each other as floating-point numbers.
            let whole = |number: &serde_json::Number| {
                number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
            };
            match (whole(left), whole(right)) {
                (Some(left), Some(right)) => Some(left.cmp(&right)),
                _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
            }
        }
        _ => None,
    }
}

fn found(value: &Value) -> String {
    described(&value.to_string())
}

fn name(expression: &Expression) -> String {
    match expression {
        Expression::Reference(reference) => reference.to_string(),
        Expression::Literal(_)
        | Expression::Not(_)
        | Expression::All(_)
        | Expression::Any(_)
        | Expression::Compare(..) => "it".to_owned(),
    }
}
