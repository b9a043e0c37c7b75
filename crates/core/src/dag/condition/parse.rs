//! Text to expression, by recursive descent; brackets bound the depth, and what cannot be true or false is refused.

use serde_json::Value;

use super::{Expression, Kind, Relation, state_names};
use crate::dag::error::{instead, shown};
use crate::dag::reference::{Reference, Root, TemplateError};
use crate::limits;

type Parsed<T> = Result<T, TemplateError>;

const EXAMPLE: &str = "write it as ${steps.NAME.state} == \"failed\" && ${input.NAME} > 3";

pub(super) fn expression(text: &str) -> Parsed<Expression> {
    let mut parser = Parser { text, place: 0 };
    if text.len() > limits::CONDITION_BYTES_MAX {
        let problem = format!("a condition of {} bytes", text.len());
        return Err(parser.problem(0, problem, format!("write at most {}", limits::CONDITION_BYTES_MAX)));
    }
    let whole = parser.any(0)?;
    if !parser.rest().is_empty() {
        return Err(parser.unexpected("an operator (&&, ||, ==, !=, <, <=, >, >=) or the end"));
    }
    parser.must_be_boolean(0, &whole)?;
    Ok(whole)
}

struct Parser<'a> {
    text: &'a str,
    /// A byte offset, always between two characters.
    place: usize,
}

impl<'a> Parser<'a> {
    fn problem(&self, at: usize, problem: impl Into<String>, fix: impl Into<String>) -> TemplateError {
        let column = self.text[..at].chars().count() + 1;
        TemplateError { column, problem: problem.into(), fix: fix.into() }
    }

    fn unexpected(&self, expected: &str) -> TemplateError {
        let found = match self.text[self.place..].trim_end() {
            "" => "the end".to_owned(),
            rest => shown(rest),
        };
        self.problem(self.place, format!("expected {expected}, found {found}"), EXAMPLE)
    }

    /// What is left, without the space before it.
    fn rest(&mut self) -> &'a str {
        let rest = &self.text[self.place..];
        let trimmed = rest.trim_start();
        self.place += rest.len() - trimmed.len();
        trimmed
    }

    fn take(&mut self, symbol: &str) -> bool {
        let taken = self.rest().starts_with(symbol);
        self.place += if taken { symbol.len() } else { 0 };
        taken
    }

    fn any(&mut self, depth: usize) -> Parsed<Expression> {
        self.joined("||", Expression::Any, |parser| parser.joined("&&", Expression::All, |parser| parser.one(depth)))
    }

    /// One operand, or several with `symbol` between them.
    fn joined(
        &mut self,
        symbol: &str,
        join: fn(Vec<Expression>) -> Expression,
        mut operand: impl FnMut(&mut Self) -> Parsed<Expression>,
    ) -> Parsed<Expression> {
        self.rest();
        let mut at = self.place;
        let first = operand(self)?;
        let mut operands = vec![first];
        loop {
            let more = self.take(symbol);
            if more || operands.len() > 1 {
                self.must_be_boolean(at, &operands[operands.len() - 1])?;
            }
            if !more {
                break;
            }
            self.rest();
            at = self.place;
            operands.push(operand(self)?);
        }
        Ok(if operands.len() == 1 { operands.remove(0) } else { join(operands) })
    }

    fn must_be_boolean(&self, at: usize, operand: &Expression) -> Parsed<()> {
        match operand.kind() {
            None | Some(Kind::Boolean) => Ok(()),
            Some(kind) => {
                let problem = format!("{} stands where true or false is wanted", kind.words());
                Err(self.problem(at, problem, "compare it, as ${input.NAME} == \"text\""))
            }
        }
    }

    fn one(&mut self, depth: usize) -> Parsed<Expression> {
        let mut negated = None;
        while !self.rest().starts_with("!=") && self.take("!") {
            negated = Some(!negated.unwrap_or(false));
        }
        self.rest();
        let at = self.place;
        let inner = if negated.is_some() { self.value(depth)? } else { self.comparison(depth)? };
        match negated {
            None => Ok(inner),
            Some(negated) => {
                self.must_be_boolean(at, &inner)?;
                let once = Expression::Not(Box::new(inner));
                Ok(if negated { once } else { Expression::Not(Box::new(once)) })
            }
        }
    }

    fn comparison(&mut self, depth: usize) -> Parsed<Expression> {
        self.rest();
        let at = self.place;
        let left = self.value(depth)?;
        let Some(relation) = self.relation() else { return Ok(left) };
        self.rest();
        let right_at = self.place;
        let right = self.value(depth)?;
        self.check_states((&left, at), (&right, right_at))?;
        if relation.is_order() {
            self.must_have_an_order(at, &left)?;
            self.must_have_an_order(right_at, &right)?;
        }
        if self.relation().is_some() {
            return Err(self.problem(at, "three values are compared at once", "join two comparisons with &&"));
        }
        Ok(Expression::Compare(Box::new(left), relation, Box::new(right)))
    }

    fn relation(&mut self) -> Option<Relation> {
        Relation::ALL.into_iter().find(|(symbol, _)| self.take(symbol)).map(|(_, relation)| relation)
    }

    fn must_have_an_order(&self, at: usize, operand: &Expression) -> Parsed<()> {
        match operand.kind() {
            None | Some(Kind::Number | Kind::Text) => Ok(()),
            Some(kind) => {
                let problem = format!("{} is neither less nor more than anything", kind.words());
                Err(self.problem(at, problem, "compare two numbers or two texts, or use == or !="))
            }
        }
    }

    /// A state that no step is ever in would make a condition that is always false.
    fn check_states(&self, left: (&Expression, usize), right: (&Expression, usize)) -> Parsed<()> {
        for ((this, _), (other, at)) in [(left, right), (right, left)] {
            if let Expression::Reference(Reference { root: Root::State(_), .. }) = this
                && let Expression::Literal(Value::String(name)) = other
                && !state_names().contains(&name.as_str())
            {
                let problem = format!("{} is not the state of a step", shown(name));
                return Err(self.problem(at, problem, instead(name, state_names())));
            }
        }
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Parsed<Expression> {
        let rest = self.rest();
        let at = self.place;
        match rest.bytes().next() {
            Some(b'(') => self.bracketed(depth),
            Some(b'"') => self.double_quoted(),
            Some(b'\'') => self.single_quoted(),
            Some(b'$') if rest.starts_with("${") => self.reference(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                let letters = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
                let word = &rest[..letters.unwrap_or(rest.len())];
                let value = match word {
                    "true" => Value::Bool(true),
                    "false" => Value::Bool(false),
                    "null" => Value::Null,
                    "" => return Err(self.unexpected("a value")),
                    word => {
                        let problem = format!("{} is not a value", shown(word));
                        let fix =
                            format!("write \"{word}\" for a text, or ${{steps.NAME.output}} for what a step gave");
                        return Err(self.problem(at, problem, fix));
                    }
                };
                self.place += word.len();
                Ok(Expression::Literal(value))
            }
        }
    }

    fn bracketed(&mut self, depth: usize) -> Parsed<Expression> {
        if depth == limits::DEPTH_MAX {
            let problem = format!("brackets nest deeper than {}", limits::DEPTH_MAX);
            return Err(self.problem(self.place, problem, "make it flatter"));
        }
        self.place += 1;
        let inner = self.any(depth + 1)?;
        if self.take(")") { Ok(inner) } else { Err(self.unexpected("an operator or \")\"")) }
    }

    fn reference(&mut self) -> Parsed<Expression> {
        let at = self.place;
        let inside = &self.text[at + 2..];
        let Some((inside, _)) = inside.split_once('}') else {
            return Err(self.problem(at, "${ is never closed", "close it with }"));
        };
        let column = self.text[..at].chars().count() + 3;
        self.place = at + 2 + inside.len() + 1;
        Reference::parse(inside, column).map(Expression::Reference)
    }

    fn number(&mut self) -> Parsed<Expression> {
        let rest = &self.text[self.place..];
        let is_of_number = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '+' | '-');
        let digits = &rest[..rest.find(|letter| !is_of_number(letter)).unwrap_or(rest.len())];
        let number: Result<serde_json::Number, _> = serde_json::from_str(digits);
        let number = number.map_err(|_| {
            self.problem(self.place, format!("{} is not a number", shown(digits)), "write it as 3, -1 or 0.5")
        })?;
        self.place += digits.len();
        Ok(Expression::Literal(Value::Number(number)))
    }

    /// A text as JSON writes it.
    fn double_quoted(&mut self) -> Parsed<Expression> {
        let at = self.place;
        let mut texts = serde_json::Deserializer::from_str(&self.text[at..]).into_iter::<String>();
        match texts.next() {
            Some(Ok(text)) => {
                self.place = at + texts.byte_offset();
                Ok(Expression::Literal(Value::String(text)))
            }
            Some(Err(_)) | None => {
                Err(self.problem(at, "the text is never closed, or has a wrong \\", "close it with \""))
            }
        }
    }

    /// A text as it stands; `''` is one quotation mark.
    fn single_quoted(&mut self) -> Parsed<Expression> {
        let at = self.place;
        let mut text = String::new();
        let mut rest = &self.text[at + 1..];
        loop {
            let Some((before, after)) = rest.split_once('\'') else {
                return Err(self.problem(at, "the text is never closed", "close it with '"));
            };
            text.push_str(before);
            rest = after;
            let Some(after) = rest.strip_prefix('\'') else { break };
            text.push('\'');
            rest = after;
        }
        self.place = self.text.len() - rest.len();
        Ok(Expression::Literal(Value::String(text)))
    }
}
