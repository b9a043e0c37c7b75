//! JSON as people write it: with comments and trailing commas. Reading tells where members stand, so that one can be
//! put among them and nothing else be written anew.

use std::ops::Range;

use serde_json::{Map, Value};

const DEPTH_MAX: usize = 128;

/// Where an object stands in a text.
#[derive(Debug, Clone)]
pub struct Object {
    /// Of `{` and `}`.
    open: usize,
    close: usize,
    members: Vec<Member>,
    /// Whether a comma stands behind the last member.
    trailing_comma: bool,
}

#[derive(Debug, Clone)]
pub struct Member {
    pub key: String,
    start: usize,
    pub value: Range<usize>,
    /// If its value is one.
    pub object: Option<Object>,
}

impl Object {
    pub fn member(&self, key: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.key == key)
    }

    /// How its members are indented: as the first is, else two more than its own line.
    pub fn indent(&self, text: &str) -> String {
        let first = self.members.first().map(|member| before_on_line(text, member.start));
        match first.filter(|before| before.chars().all(char::is_whitespace)) {
            Some(indent) => indent.to_owned(),
            None => format!("{}  ", self.own_indent(text)),
        }
    }

    fn own_indent(&self, text: &str) -> String {
        let line = before_on_line(text, self.open);
        line.chars().take_while(|letter| letter.is_whitespace()).collect()
    }

    /// `text` with one more member at its end, on a line of its own.
    pub fn with_member(&self, text: &str, member: &str) -> String {
        let comma_at = self.members.last().filter(|_| !self.trailing_comma).map(|last| last.value.end);
        // Behind the comments that stand there.
        let at = text[..self.close].trim_end().len().max(self.open + 1);
        let (head, tail) = match comma_at {
            Some(comma) => (format!("{},{}", &text[..comma], &text[comma..at]), &text[at..]),
            None => (text[..at].to_owned(), &text[at..]),
        };
        let closing = if tail.trim_start_matches([' ', '\t', '\r']).starts_with('\n') {
            String::new()
        } else {
            format!("\n{}", self.own_indent(text))
        };
        format!("{head}\n{}{member}{closing}{}", self.indent(text), tail.trim_start_matches([' ', '\t']))
    }
}

fn before_on_line(text: &str, at: usize) -> &str {
    let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
    &text[line..at]
}

/// What a text says, and where, if it is an object.
///
/// # Errors
/// What is wrong, with its line.
pub fn read(text: &str) -> Result<(Value, Option<Object>), String> {
    let mut reader = Reader { text, at: 0 };
    if text.starts_with('\u{feff}') {
        reader.at = '\u{feff}'.len_utf8();
    }
    reader.blank()?;
    let read = reader.value(0)?;
    reader.blank()?;
    if reader.at < text.len() { Err(reader.wrong("something follows its end")) } else { Ok(read) }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn wrong(&self, problem: &str) -> String {
        let line = self.text[..self.at.min(self.text.len())].matches('\n').count() + 1;
        format!("line {line}: {problem}")
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    /// Passes over white space and comments.
    fn blank(&mut self) -> Result<(), String> {
        loop {
            let rest = self.rest();
            self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
            let rest = self.rest();
            let passed = if rest.starts_with("//") {
                rest.find('\n').unwrap_or(rest.len())
            } else if let Some(comment) = rest.strip_prefix("/*") {
                comment.find("*/").ok_or_else(|| self.wrong("a comment has no end"))? + 4
            } else {
                return Ok(());
            };
            self.at += passed;
        }
    }

    fn take(&mut self, letter: char) -> bool {
        let is_there = self.rest().starts_with(letter);
        self.at += if is_there { letter.len_utf8() } else { 0 };
        is_there
    }

    fn value(&mut self, depth: usize) -> Result<(Value, Option<Object>), String> {
        if depth > DEPTH_MAX {
            return Err(self.wrong("it is too deep"));
        }
        match self.rest().chars().next() {
            Some('{') => {
                let (fields, object) = self.object(depth)?;
                Ok((Value::Object(fields), Some(object)))
            }
            Some('[') => Ok((Value::Array(self.list(depth)?), None)),
            Some('"') => Ok((Value::String(self.string()?), None)),
            _ => Ok((self.word()?, None)),
        }
    }

    fn object(&mut self, depth: usize) -> Result<(Map<String, Value>, Object), String> {
        let open = self.at;
        self.at += 1;
        let (mut fields, mut members, mut trailing_comma) = (Map::new(), Vec::new(), false);
        loop {
            self.blank()?;
            let close = self.at;
            if self.take('}') {
                return Ok((fields, Object { open, close, members, trailing_comma }));
            }
            if !members.is_empty() && !trailing_comma {
                return Err(self.wrong("a comma or } is missing"));
            }
            let (start, key) = (self.at, self.string()?);
            self.blank()?;
            if !self.take(':') {
                return Err(self.wrong("a : is missing"));
            }
            self.blank()?;
            let begin = self.at;
            let (value, object) = self.value(depth + 1)?;
            members.push(Member { key: key.clone(), start, value: begin..self.at, object });
            if fields.insert(key.clone(), value).is_some() {
                return Err(self.wrong(&format!("{key:?} is there twice")));
            }
            self.blank()?;
            trailing_comma = self.take(',');
        }
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Value>, String> {
        self.at += 1;
        let (mut items, mut comma) = (Vec::new(), true);
        loop {
            self.blank()?;
            if self.take(']') {
                return Ok(items);
            }
            if !comma {
                return Err(self.wrong("a comma or ] is missing"));
            }
            items.push(self.value(depth + 1)?.0);
            self.blank()?;
            comma = self.take(',');
        }
    }

    fn string(&mut self) -> Result<String, String> {
        if !self.rest().starts_with('"') {
            return Err(self.wrong("a name or value in quotes is missing"));
        }
        let mut escaped = false;
        let end = self.rest()[1..].find(|letter: char| {
            let ends = letter == '"' && !escaped;
            escaped = letter == '\\' && !escaped;
            ends
        });
        let len = end.ok_or_else(|| self.wrong("a text has no end"))? + 2;
        let read = serde_json::from_str(&self.rest()[..len]);
        let text = read.map_err(|error| self.wrong(&format!("a text is wrong: {error}")))?;
        self.at += len;
        Ok(text)
    }

    /// A number, true, false or null.
    fn word(&mut self) -> Result<Value, String> {
        let rest = self.rest();
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || "+-.".contains(letter);
        let len = rest.find(|letter| !is_part(letter)).unwrap_or(rest.len());
        let read = serde_json::from_str(&rest[..len]);
        let value = read.map_err(|_| self.wrong("a value is missing or is none of JSON's"))?;
        self.at += len;
        Ok(value)
    }
}
