//! Text to expression, by recursive descent; brackets bound the depth.
//!
//! ```text
//! any    = all { "||" all }
//! all    = one { "&&" one }
//! one    = "!" one | "(" any ")" | clause
//! clause = ("gpu.count" | "cpus") relation NUMBER | ("gpu.vram" | "memory") relation SIZE
//!        | ("arch" | "os" | "label." NAME) ("==" | "!=") TEXT | "version" relation SEMVER
//!        | "label:" NAME | "model:" NAME | "kind:" KIND
//! ```

use semver::Version;

use super::clause::{Attribute, Clause, Quantity, Quoted, Relation, is_bare};
use super::expression::Expression;
use super::requirement::ParseRequirementError;
use super::size::Size;
use crate::limits;
use crate::task::TaskKind;

const KNOWN: &str = "gpu.count, gpu.vram, cpus, memory, arch, os, version, label.KEY, label:KEY, model:NAME, kind:KIND";

type Parsed<T> = Result<T, ParseRequirementError>;

pub(super) fn expression(text: &str) -> Parsed<Expression> {
    let mut parser = Parser { text, place: 0 };
    let whole = parser.any(0)?;
    if !parser.rest().is_empty() {
        return Err(parser.expected(r#""&&", "||" or the end"#));
    }
    Ok(whole)
}

struct Parser<'a> {
    text: &'a str,
    /// A byte offset, always between two characters.
    place: usize,
}

impl<'a> Parser<'a> {
    fn any(&mut self, depth: usize) -> Parsed<Expression> {
        let mut operands = vec![self.all(depth)?];
        while self.take("||") {
            operands.push(self.all(depth)?);
        }
        Ok(Expression::any(operands))
    }

    fn all(&mut self, depth: usize) -> Parsed<Expression> {
        let mut operands = vec![self.one(depth)?];
        while self.take("&&") {
            operands.push(self.one(depth)?);
        }
        Ok(Expression::all(operands))
    }

    fn one(&mut self, depth: usize) -> Parsed<Expression> {
        let mut negated = false;
        while self.take("!") {
            negated = !negated;
        }
        let at = self.place;
        let inner = if self.take("(") {
            if depth == limits::DEPTH_MAX {
                return Err(self.problem(at, format!("brackets nest deeper than {}", limits::DEPTH_MAX)));
            }
            let inner = self.any(depth + 1)?;
            if !self.take(")") {
                return Err(self.expected(r#""&&", "||" or ")""#));
            }
            inner
        } else {
            Expression::Clause(self.clause()?)
        };
        Ok(if negated { inner.not() } else { inner })
    }

    fn clause(&mut self) -> Parsed<Clause> {
        self.skip_space();
        let at = self.place;
        let word = self.word();
        if let Some((_, quantity)) = Quantity::ALL.iter().find(|(name, _)| *name == word) {
            return self.quantity(*quantity);
        }
        if let Some(key) = word.strip_prefix("label.") {
            let key = self.name(key)?;
            return self.attribute(Attribute::Label(key));
        }
        match (word, word.split_once(':')) {
            ("arch", _) => self.attribute(Attribute::Arch),
            ("os", _) => self.attribute(Attribute::Os),
            ("version", _) => self.version(),
            (_, Some(("label", key))) => Ok(Clause::Label(self.name(key)?)),
            (_, Some(("model", name))) => Ok(Clause::Model(self.name(name)?)),
            (_, Some(("kind", name))) => self.kind(at, name),
            ("", _) => Err(self.expected(r#"a clause, as gpu.vram >= 16GiB, label.zone == "eu" or model:NAME"#)),
            _ => Err(self.problem(at, format!("{} is not known ({KNOWN})", excerpt(word)))),
        }
    }

    fn quantity(&mut self, quantity: Quantity) -> Parsed<Clause> {
        let relation = self.relation()?;
        self.skip_space();
        let at = self.place;
        let word = self.word();
        let (amount, expected) = if quantity.is_size() {
            (Size::parse(word).map(|size| size.0), "a whole size with its unit, as 16GiB")
        } else {
            (word.parse().ok(), "a whole number")
        };
        let amount = amount.ok_or_else(|| self.expected_at(at, expected))?;
        Ok(Clause::Quantity(quantity, relation, amount))
    }

    fn attribute(&mut self, attribute: Attribute) -> Parsed<Clause> {
        self.skip_space();
        let at = self.place;
        let equal = match self.relation()? {
            Relation::Equal => true,
            Relation::NotEqual => false,
            _ => return Err(self.expected_at(at, r#""==" or "!=""#)),
        };
        self.skip_space();
        let value = match self.quoted()? {
            Some(value) => value,
            None => match self.word() {
                "" => return Err(self.expected("a value, as \"eu\"")),
                word => self.bounded(word.to_owned())?,
            },
        };
        Ok(Clause::Attribute { attribute, equal, value })
    }

    fn version(&mut self) -> Parsed<Clause> {
        let relation = self.relation()?;
        self.skip_space();
        let at = self.place;
        match Version::parse(self.word()) {
            Ok(version) if version.build.is_empty() => Ok(Clause::Version(relation, version)),
            _ => Err(self.expected_at(at, "a version without build metadata, as 0.1.0")),
        }
    }

    fn kind(&self, at: usize, name: &str) -> Parsed<Clause> {
        let kind = TaskKind::ALL.into_iter().find(|kind| kind.name() == name);
        kind.map(Clause::Kind).ok_or_else(|| {
            self.problem(
                at,
                format!("{} is not a kind ({})", excerpt(name), TaskKind::ALL.map(TaskKind::name).join(", ")),
            )
        })
    }

    /// A key or a model: the rest of a word already taken, or quoted right behind it.
    fn name(&mut self, rest_of_word: &str) -> Parsed<String> {
        let name = match self.quoted()? {
            Some(quoted) if rest_of_word.is_empty() => quoted,
            Some(_) => return Err(self.expected("a name, quoted as a whole or not at all, before this")),
            None => rest_of_word.to_owned(),
        };
        if name.is_empty() {
            return Err(self.expected("a name"));
        }
        self.bounded(name)
    }

    fn relation(&mut self) -> Parsed<Relation> {
        self.skip_space();
        let found = Relation::ALL.into_iter().find(|(symbol, _)| self.take(symbol));
        found.map(|(_, relation)| relation).ok_or_else(|| self.expected("==, !=, >=, <=, > or <"))
    }

    fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let word = &rest[..rest.find(|letter| !is_bare(letter)).unwrap_or(rest.len())];
        self.place += word.len();
        word
    }

    /// A text in quotation marks, if one begins here; `\` takes the next character as it is.
    fn quoted(&mut self) -> Parsed<Option<String>> {
        let at = self.place;
        let Some(inside) = self.rest().strip_prefix('"') else { return Ok(None) };
        let mut value = String::new();
        let mut letters = inside.char_indices();
        while let Some((offset, letter)) = letters.next() {
            let taken = match letter {
                '"' => {
                    self.place += 1 + offset + 1;
                    return self.bounded(value).map(Some);
                }
                '\\' => letters.next().map(|(_, escaped)| escaped),
                plain => Some(plain),
            };
            match taken {
                Some(letter) if !letter.is_control() => value.push(letter),
                Some(_) => return Err(self.problem(at, "a control character stands in this text".to_owned())),
                None => break,
            }
        }
        Err(self.problem(at, "this quotation mark has no partner".to_owned()))
    }

    fn bounded(&self, name: String) -> Parsed<String> {
        if name.len() > limits::NAME_BYTES_MAX {
            let bytes_max = limits::NAME_BYTES_MAX;
            return Err(self.problem(self.place, format!("the name before this is longer than {bytes_max} bytes")));
        }
        Ok(name)
    }

    fn take(&mut self, symbol: &str) -> bool {
        self.skip_space();
        let found = self.rest().starts_with(symbol);
        self.place += if found { symbol.len() } else { 0 };
        found
    }

    fn skip_space(&mut self) {
        self.place = self.text.len() - self.rest().trim_start().len();
    }

    fn rest(&self) -> &'a str {
        &self.text[self.place..]
    }

    fn expected(&mut self, what: &str) -> ParseRequirementError {
        self.skip_space();
        self.expected_at(self.place, what)
    }

    fn expected_at(&self, at: usize, what: &str) -> ParseRequirementError {
        let found = match &self.text[at..] {
            "" => "the end".to_owned(),
            rest => excerpt(rest.split_whitespace().next().unwrap_or(rest)),
        };
        self.problem(at, format!("expected {what}, found {found}"))
    }

    fn problem(&self, at: usize, problem: String) -> ParseRequirementError {
        ParseRequirementError { column: self.text[..at].chars().count() + 1, problem }
    }
}

fn excerpt(text: &str) -> String {
    let short: String = text.chars().take(40).collect();
    Quoted(&short).to_string()
}
