//! `${steps.a.output.x[0]}`, `${steps.a.state}`, `${steps.a.error.code}`, `${input.k}`, `${item}`, `${item_index}`: the
//! places a template takes values from.

use std::fmt;

use super::error::{one_of, shown};
use crate::limits;

/// A place in the scope of a step.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    pub root: Root,
    pub path: Vec<Segment>,
}

/// Where a reference starts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Root {
    /// A parameter of the workflow.
    Input(String),
    /// The output of a step; of a `for_each` step the list of its items' outputs.
    Output(String),
    /// How a step stands or ended, as `failed`.
    State(String),
    /// The code and the message of a step's error, both `null` where it has none.
    Error(String),
    /// The item of the enclosing `for_each`.
    Item,
    /// Its place in the list, from 0.
    ItemIndex,
}

/// One step into a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    Key(String),
    Index(usize),
}

/// A `${...}` that is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {problem} ({fix})")]
pub struct TemplateError {
    /// In characters from the start of the text, from 1.
    pub column: usize,
    pub problem: String,
    pub fix: String,
}

impl Reference {
    /// Reads what stands between `${` and `}`; `column` is that of its first character.
    pub(super) fn parse(inside: &str, column: usize) -> Result<Self, TemplateError> {
        let mut cursor = Cursor { rest: inside, column };
        let root = cursor.root()?;
        let mut path = Vec::new();
        while !cursor.rest.is_empty() {
            path.push(cursor.segment()?);
            if path.len() > limits::DEPTH_MAX {
                return Err(cursor.wrong(
                    format!("the path has more than {} parts", limits::DEPTH_MAX),
                    "take a value nearer to the root",
                ));
            }
        }
        match root {
            Root::ItemIndex if !path.is_empty() => {
                Err(cursor.wrong("item_index is a number and has no parts", "write ${item_index}"))
            }
            Root::State(step) if !path.is_empty() => {
                Err(cursor.wrong("a state is a text and has no parts", format!("write ${{steps.{step}.state}}")))
            }
            Root::Error(step) if !is_part_of_an_error(&path) => {
                let fix = format!("write ${{steps.{step}.error.code}} or ${{steps.{step}.error.message}}");
                Err(cursor.wrong("an error has a code and a message", fix))
            }
            root => Ok(Self { root, path }),
        }
    }

    /// Whether its value differs from item to item.
    pub fn is_of_item(&self) -> bool {
        matches!(self.root, Root::Item | Root::ItemIndex)
    }

    /// The step that it reads.
    pub fn step(&self) -> Option<&str> {
        match &self.root {
            Root::Output(step) | Root::State(step) | Root::Error(step) => Some(step),
            Root::Input(_) | Root::Item | Root::ItemIndex => None,
        }
    }
}

impl fmt::Display for Root {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(name) => write!(formatter, "input.{name}"),
            Self::Output(step) => write!(formatter, "steps.{step}.output"),
            Self::State(step) => write!(formatter, "steps.{step}.state"),
            Self::Error(step) => write!(formatter, "steps.{step}.error"),
            Self::Item => formatter.write_str("item"),
            Self::ItemIndex => formatter.write_str("item_index"),
        }
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(formatter, ".{key}"),
            Self::Index(index) => write!(formatter, "[{index}]"),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "${{{}", self.root)?;
        self.path.iter().try_for_each(|segment| segment.fmt(formatter))?;
        formatter.write_str("}")
    }
}

fn is_part_of_an_error(path: &[Segment]) -> bool {
    match path {
        [] => true,
        [Segment::Key(key)] => matches!(key.as_str(), "code" | "message"),
        _ => false,
    }
}

/// Whether a reference can name `key` after a dot.
pub(super) fn is_key(key: &str) -> bool {
    !key.is_empty() && key.chars().all(is_key_character)
}

fn is_key_character(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_' || letter == '-'
}

/// What of a reference is not read yet, and where that stands.
struct Cursor<'a> {
    rest: &'a str,
    column: usize,
}

impl<'a> Cursor<'a> {
    fn wrong(&self, problem: impl Into<String>, fix: impl Into<String>) -> TemplateError {
        TemplateError { column: self.column, problem: problem.into(), fix: fix.into() }
    }

    fn advance(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.column += taken.chars().count();
        self.rest = rest;
        taken
    }

    fn root(&mut self) -> Result<Root, TemplateError> {
        const ROOTS: [&str; 4] = ["steps.NAME.output", "input.NAME", "item", "item_index"];
        let start = Cursor { rest: self.rest, column: self.column };
        let fix = || format!("start with {}, or write $${{ for the two characters ${{", one_of(ROOTS));
        if self.rest.is_empty() {
            return Err(self.wrong("the reference is empty", fix()));
        }
        match self.word() {
            "steps" => self.of_a_step(),
            "input" => self.key("input", "write ${input.NAME}").map(|name| Root::Input(name.to_owned())),
            "item" => Ok(Root::Item),
            "item_index" => Ok(Root::ItemIndex),
            _ => Err(start.wrong(format!("{} is not a place to take a value from", shown(start.rest)), fix())),
        }
    }

    fn of_a_step(&mut self) -> Result<Root, TemplateError> {
        let step = self.key("steps", "write ${steps.NAME.output}")?;
        let fix = format!("write ${{steps.{step}.output}}");
        let before = self.column;
        match self.key(step, &fix)? {
            "output" => Ok(Root::Output(step.to_owned())),
            "state" => Ok(Root::State(step.to_owned())),
            "error" => Ok(Root::Error(step.to_owned())),
            other => Err(TemplateError {
                column: before + 1,
                problem: format!("a step has an output, a state and an error, not {}", shown(other)),
                fix,
            }),
        }
    }

    /// A dot and a key, after `owner`.
    fn key(&mut self, owner: &str, fix: &str) -> Result<&'a str, TemplateError> {
        if !self.rest.starts_with('.') {
            return Err(self.wrong(format!("after {owner} a dot and a name are missing"), fix));
        }
        self.advance(1);
        match self.word() {
            "" => Err(self.wrong("a name is missing after the dot", fix)),
            key => Ok(key),
        }
    }

    fn word(&mut self) -> &'a str {
        self.advance(self.rest.find(|letter| !is_key_character(letter)).unwrap_or(self.rest.len()))
    }

    fn segment(&mut self) -> Result<Segment, TemplateError> {
        if self.rest.starts_with('[') {
            return self.index();
        }
        if self.rest.starts_with('.') {
            return self.key("", "write .NAME or [0]").map(|key| Segment::Key(key.to_owned()));
        }
        let found = shown(&self.rest.chars().take(1).collect::<String>());
        Err(self.wrong(format!("{found} does not belong in a reference"), "go on with .NAME or [0], or close with }"))
    }

    fn index(&mut self) -> Result<Segment, TemplateError> {
        self.advance(1);
        let wrong = self.wrong("between [ and ] stands a number from 0", "write [0] for the first");
        let (digits, _) = self.rest.split_once(']').ok_or_else(|| wrong.clone())?;
        let index = digits.parse().map_err(|_| wrong.clone())?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong);
        }
        self.advance(digits.len() + 1);
        Ok(Segment::Index(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(inside: &str) -> Result<Reference, TemplateError> {
        Reference::parse(inside, 3)
    }

    #[test]
    fn every_place_of_the_scope_has_its_spelling() {
        for text in [
            "steps.a.state",
            "steps.a.error",
            "steps.a.error.code",
            "steps.a-1.output",
            "steps.a.output.x.y[0][12].ä",
            "input.k",
            "input.k.x[0]",
            "item",
            "item.x",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), format!("${{{text}}}"));
        }
        assert_eq!(parse("item_index").unwrap().root, Root::ItemIndex);
        assert_eq!(parse("steps.a.output.x").unwrap().step(), Some("a"));
    }

    #[test]
    fn a_malformed_reference_is_refused_with_its_column() {
        for (text, column, problem) in [
            ("", 3, "the reference is empty"),
            ("HOME", 3, "\"HOME\" is not a place to take a value from"),
            ("steps", 8, "after steps a dot and a name are missing"),
            ("steps.a", 10, "after a a dot and a name are missing"),
            ("steps.a.status", 11, "a step has an output, a state and an error, not \"status\""),
            ("steps.a.state.x", 18, "a state is a text and has no parts"),
            ("steps.a.error.kind", 21, "an error has a code and a message"),
            ("steps..output", 9, "a name is missing after the dot"),
            ("input", 8, "after input a dot and a name are missing"),
            ("item.a b", 9, "\" \" does not belong in a reference"),
            ("item[x]", 8, "between [ and ] stands a number from 0"),
            ("item[+1]", 8, "between [ and ] stands a number from 0"),
            ("item[1", 8, "between [ and ] stands a number from 0"),
            ("item_index.x", 15, "item_index is a number and has no parts"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!((error.column, error.problem.as_str()), (column, problem), "{text}");
        }
        assert!(parse(&format!("item{}", "[0]".repeat(limits::DEPTH_MAX + 1))).is_err());
    }

    proptest! {
        #[test]
        fn random_text_is_a_reference_or_an_error_at_a_column_inside_it(text in ".{0,40}") {
            match parse(&text) {
                Ok(reference) => prop_assert_eq!(parse(reference.to_string().trim_start_matches("${").trim_end_matches('}')), Ok(reference)),
                Err(error) => prop_assert!((3..=3 + text.chars().count()).contains(&error.column)),
            }
        }
    }
}
