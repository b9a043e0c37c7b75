//! What is wrong with a document, where, and what to write instead.

use std::fmt;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::limits;

/// One problem of a workflow or task document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}: {problem} ({fix})", if path.is_empty() { "/" } else { path })]
pub struct SpecError {
    /// JSON pointer (RFC 6901) of the value at fault, as `/steps/2/needs/0`; empty for the whole document.
    pub path: String,
    pub problem: String,
    /// What to write instead.
    pub fix: String,
}

/// A JSON pointer under construction: a step further costs the same however far it is.
#[derive(Debug, Clone, Default)]
pub(super) struct Pointer(Option<Rc<(Pointer, Part)>>);

#[derive(Debug)]
enum Part {
    Key(Box<str>),
    Index(usize),
    /// A pointer of its own, which goes on from here.
    Raw(String),
}

impl Pointer {
    /// Of a long key only the start is kept: the pointer then names what is around the value.
    pub fn key(&self, key: &str) -> Self {
        let end = key.char_indices().nth(limits::NAME_BYTES_MAX).map_or(key.len(), |(end, _)| end);
        self.part(Part::Key(key[..end].into()))
    }

    pub fn index(&self, index: usize) -> Self {
        self.part(Part::Index(index))
    }

    /// Goes on with another pointer's text.
    pub fn raw(&self, path: String) -> Self {
        self.part(Part::Raw(path))
    }

    fn part(&self, part: Part) -> Self {
        Self(Some(Rc::new((self.clone(), part))))
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_deref() {
            None => Ok(()),
            Some((parent, Part::Key(key))) => {
                write!(formatter, "{parent}/{}", key.replace('~', "~0").replace('/', "~1"))
            }
            Some((parent, Part::Index(index))) => write!(formatter, "{parent}/{index}"),
            Some((parent, Part::Raw(path))) => write!(formatter, "{parent}{path}"),
        }
    }
}

/// Collects every problem of one document, at most [`limits::SPEC_ERRORS_MAX`] in words and the others by number.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: Vec<SpecError>,
    omitted: usize,
}

impl Problems {
    pub fn report(&mut self, at: &Pointer, problem: impl Into<String>, fix: impl Into<String>) {
        self.report_with(at, || (problem.into(), fix.into()));
    }

    /// As [`Problems::report`], with words that are costly to find: those of an omitted problem are not looked for.
    pub fn report_with(&mut self, at: &Pointer, words: impl FnOnce() -> (String, String)) {
        if self.found.len() == limits::SPEC_ERRORS_MAX {
            self.omitted += 1;
        } else {
            let (problem, fix) = words();
            self.found.push(SpecError { path: at.to_string(), problem, fix });
        }
    }

    /// Whether the value at `at`, one inside it or one around it is already known to be wrong.
    pub fn touch(&self, at: &Pointer) -> bool {
        // Most documents have none, and a pointer costs its text.
        if self.found.is_empty() {
            return false;
        }
        let at = at.to_string();
        self.found.iter().any(|error| is_within(&error.path, &at) || is_within(&at, &error.path))
    }

    pub fn into_result<T>(mut self, value: Option<T>) -> Result<T, Vec<SpecError>> {
        if self.omitted > 0 {
            self.found.push(SpecError {
                path: String::new(),
                problem: format!("{} more problems", self.omitted),
                fix: "correct those above first".to_owned(),
            });
        }
        value.filter(|_| self.found.is_empty()).ok_or(self.found)
    }
}

fn is_within(inner: &str, outer: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The start of a text that a document contains, quoted, short enough for a message.
pub(super) fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// `a, b or c`; of many, the first ones.
pub(super) fn one_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const NAMES_MAX: usize = 24;
    let names: Vec<&str> = names.into_iter().take(NAMES_MAX + 1).collect();
    match names.split_last() {
        None => "nothing".to_owned(),
        Some((last, [])) => (*last).to_owned(),
        Some((_, first)) if names.len() > NAMES_MAX => format!("{}, ...", first.join(", ")),
        Some((last, first)) => format!("{} or {last}", first.join(", ")),
    }
}

/// The fix for a name that is none of `known`: the nearest one, or all.
pub(super) fn instead<'a>(written: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(written, known.clone()) {
        Some(name) => format!("write {name}"),
        None => format!("write {}", one_of(known)),
    }
}

/// The name within a third of `written`'s length in edits, if there is one among the first ones.
fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let known = known.into_iter().take(limits::WORKFLOW_STEPS_MAX).filter(|name| name.len() <= limits::NAME_BYTES_MAX);
    let written: Vec<char> = written.chars().take(limits::NAME_BYTES_MAX).flat_map(char::to_lowercase).collect();
    let far = written.len().div_ceil(3);
    let by_distance = known.map(|name| (edits(&written, name), name));
    by_distance.filter(|(distance, _)| *distance <= far).min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// Insertions, deletions, replacements and swaps of neighbours between two names (optimal string alignment).
fn edits(written: &[char], name: &str) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=written.len()).collect();
    let mut previous = None;
    for (row, letter) in name.chars().enumerate() {
        let mut current = vec![row + 1];
        for (column, other) in written.iter().enumerate() {
            let replaced = last[column] + usize::from(*other != letter);
            let mut least = replaced.min(last[column + 1] + 1).min(current[column] + 1);
            if column > 0 && previous == Some(*other) && written[column - 1] == letter {
                least = least.min(before[column - 1] + 1);
            }
            current.push(least);
        }
        before = std::mem::replace(&mut last, current);
        previous = Some(letter);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_near_name_is_suggested_and_a_far_one_is_not() {
        let known = ["name", "needs", "model", "input", "for_each"];
        assert_eq!(instead("need", known), "write needs");
        assert_eq!(instead("foreach", known), "write for_each");
        assert_eq!(instead("Nmae", known), "write name");
        assert_eq!(instead("volumes", known), "write name, needs, model, input or for_each");
    }

    #[test]
    fn pointers_escape_as_rfc_6901_says() {
        assert_eq!(Pointer::default().key("a/b~c").index(3).to_string(), "/a~1b~0c/3");
    }

    #[test]
    fn a_thousand_problems_are_fifty_and_a_number() {
        let mut problems = Problems::default();
        for index in 0..1_000 {
            problems.report(&Pointer::default().index(index), "wrong", "right");
        }
        assert!(problems.touch(&Pointer::default()) && problems.touch(&Pointer::default().index(7)));
        assert!(problems.touch(&Pointer::default().index(7).key("inside")));
        assert!(!problems.touch(&Pointer::default().key("x")));
        let errors = problems.into_result(Some(())).unwrap_err();
        assert_eq!(errors.len(), limits::SPEC_ERRORS_MAX + 1);
        assert_eq!(errors.last().unwrap().problem, "950 more problems");
    }

    proptest! {
        #[test]
        fn edits_are_symmetric_and_zero_only_for_the_same_name(a in "[a-c]{0,8}", b in "[a-c]{0,8}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(edits(&chars(&a), &b), edits(&chars(&b), &a));
            prop_assert_eq!(edits(&chars(&a), &b) == 0, a == b);
        }
    }
}
