//! YAML or JSON text as a value, with the line that each part of it stands on.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use magpie_core::limits;
use saphyr::{Scalar, ScalarStyle, Tag};
use saphyr_parser::{Event, Parser, ScanError, Span, StrInput};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// The line of a value and of all inside it, from 1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines {
    line: usize,
    /// By key, or by index in decimal.
    inside: BTreeMap<String, Lines>,
}

impl Lines {
    fn of(line: usize) -> Self {
        Self { line, inside: BTreeMap::new() }
    }

    /// The line of the value that a JSON pointer names, or of the nearest one around it.
    pub fn line_of(&self, pointer: &str) -> usize {
        let mut place = self;
        for part in pointer.split('/').skip(1) {
            let key = part.replace("~1", "/").replace("~0", "~");
            let Some(inside) = place.inside.get(&key) else { break };
            place = inside;
        }
        place.line
    }
}

/// A text that is not one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceError {
    pub line: usize,
    pub problem: String,
    pub fix: String,
}

impl SourceError {
    fn new(line: usize, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { line, problem: problem.into(), fix: fix.into() }
    }

    fn duplicate(line: usize, key: &str, first: usize) -> Self {
        let key: String = key.chars().take(60).collect();
        Self::new(line, format!("the key {key:?} is there twice, first on line {first}"), "remove one of the two")
    }
}

/// Counts what a document holds, so that neither depth nor aliases make it larger than its file may be.
#[derive(Default)]
struct Budget {
    nodes: usize,
    bytes: usize,
}

impl Budget {
    fn take(&mut self, nodes: usize, bytes: usize, line: usize) -> Result<(), SourceError> {
        self.nodes += nodes;
        self.bytes += bytes;
        if self.nodes > limits::SPEC_NODES_MAX || self.bytes > limits::SPEC_BYTES_MAX {
            let problem = format!(
                "the document holds more than {} values or {} bytes, aliases expanded",
                limits::SPEC_NODES_MAX,
                limits::SPEC_BYTES_MAX
            );
            return Err(SourceError::new(line, problem, "let a step read the data from a file"));
        }
        Ok(())
    }
}

fn check_depth(depth: usize, line: usize) -> Result<(), SourceError> {
    if depth <= limits::DEPTH_MAX {
        return Ok(());
    }
    let problem = format!("lists and mappings stand more than {} deep in each other", limits::DEPTH_MAX);
    Err(SourceError::new(line, problem, "make it flatter"))
}

/// Reads one YAML document.
pub(super) fn read_yaml(text: &str) -> Result<(Value, Lines), SourceError> {
    let mut loader =
        Loader { text, parser: Parser::new_from_str(text), anchors: BTreeMap::new(), budget: Budget::default() };
    let mut document = None;
    loop {
        let (event, span) = loader.next()?;
        let line = span.start.line();
        match event {
            Event::StreamEnd => break,
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
            _ if document.is_some() => {
                return Err(SourceError::new(line, "a second document starts here", "write one document a file"));
            }
            event => document = Some(loader.node(event, span, 0)?),
        }
    }
    let (value, _, lines) =
        document.ok_or_else(|| SourceError::new(1, "the file is empty", "write a workflow or a task"))?;
    Ok((value, lines))
}

/// What a node holds in all.
#[derive(Clone, Copy)]
struct Size {
    nodes: usize,
    bytes: usize,
}

/// Builds values from the events of the parser.
struct Loader<'a> {
    text: &'a str,
    parser: Parser<'a, StrInput<'a>>,
    anchors: BTreeMap<usize, (Value, Size)>,
    budget: Budget,
}

impl<'a> Loader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), SourceError> {
        match self.parser.next_event() {
            Some(event) => event.map_err(|error| scan_error(self.text, &error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<(Value, Size, Lines), SourceError> {
        let line = span.start.line();
        let (anchor, value, size, lines) = match event {
            Event::Alias(anchor) => return self.alias(anchor, line),
            Event::Scalar(text, style, anchor, tag) => {
                let size = Size { nodes: 1, bytes: text.len() };
                self.budget.take(size.nodes, size.bytes, line)?;
                (anchor, scalar(text, style, tag.as_ref(), line)?, size, Lines::of(line))
            }
            Event::SequenceStart(anchor, tag) => {
                check_depth(depth + 1, line)?;
                check_tag(tag.as_ref(), line)?;
                let (value, size, lines) = self.sequence(line, depth + 1)?;
                (anchor, value, size, lines)
            }
            Event::MappingStart(anchor, tag) => {
                check_depth(depth + 1, line)?;
                check_tag(tag.as_ref(), line)?;
                let (value, size, lines) = self.mapping(line, depth + 1)?;
                (anchor, value, size, lines)
            }
            other => return Err(SourceError::new(line, format!("a value is missing ({other:?})"), "write a value")),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, (value.clone(), size));
        }
        Ok((value, size, lines))
    }

    /// Its lines are all that of the alias: there the reader meets the value.
    fn alias(&mut self, anchor: usize, line: usize) -> Result<(Value, Size, Lines), SourceError> {
        let Some((value, size)) = self.anchors.get(&anchor) else {
            return Err(SourceError::new(line, "an alias stands inside its own anchor", "write the value out"));
        };
        self.budget.take(size.nodes, size.bytes, line)?;
        Ok((value.clone(), *size, Lines::of(line)))
    }

    fn sequence(&mut self, line: usize, depth: usize) -> Result<(Value, Size, Lines), SourceError> {
        let (mut items, mut lines, mut total) = (Vec::new(), Lines::of(line), Size { nodes: 1, bytes: 0 });
        self.budget.take(1, 0, line)?;
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok((Value::Array(items), total, lines));
            }
            let (item, size, inside) = self.node(event, span, depth)?;
            total = Size { nodes: total.nodes + size.nodes, bytes: total.bytes + size.bytes };
            lines.inside.insert(items.len().to_string(), inside);
            items.push(item);
        }
    }

    fn mapping(&mut self, line: usize, depth: usize) -> Result<(Value, Size, Lines), SourceError> {
        let (mut entries, mut lines, mut total) = (Map::new(), Lines::of(line), Size { nodes: 1, bytes: 0 });
        self.budget.take(1, 0, line)?;
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok((Value::Object(entries), total, lines));
            }
            let line = span.start.line();
            let key = self.key(event, line)?;
            if let Some(first) = lines.inside.get(&key) {
                return Err(SourceError::duplicate(line, &key, first.line));
            }
            let (event, span) = self.next()?;
            let (value, size, inside) = self.node(event, span, depth)?;
            total = Size { nodes: total.nodes + size.nodes, bytes: total.bytes + size.bytes + key.len() };
            // The key's line: a value may start far below its key, and a person looks for the key.
            lines.inside.insert(key.clone(), Lines { line, ..inside });
            entries.insert(key, value);
        }
    }

    fn key(&mut self, event: Event<'a>, line: usize) -> Result<String, SourceError> {
        match event {
            Event::Scalar(text, ScalarStyle::Plain, _, _) if text == "<<" => {
                Err(SourceError::new(line, "YAML 1.2 has no merge keys (<<)", "write the keys out"))
            }
            Event::Scalar(text, _, 0, None) => {
                self.budget.take(0, text.len(), line)?;
                Ok(text.into_owned())
            }
            _ => Err(SourceError::new(line, "a key is more than plain text", "write NAME: VALUE")),
        }
    }
}

fn check_tag(tag: Option<&Cow<'_, Tag>>, line: usize) -> Result<(), SourceError> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema() => {
            Err(SourceError::new(line, format!("the tag {tag} has no meaning here"), "remove it"))
        }
        _ => Ok(()),
    }
}

fn scalar(
    text: Cow<'_, str>,
    style: ScalarStyle,
    tag: Option<&Cow<'_, Tag>>,
    line: usize,
) -> Result<Value, SourceError> {
    check_tag(tag, line)?;
    let shown: String = text.chars().take(60).collect();
    let wrong = |problem: String| SourceError::new(line, problem, "put it in quotes, or correct it");
    let digits = text.strip_prefix('-').unwrap_or(&text).bytes().all(|byte| byte.is_ascii_digit());
    if let (ScalarStyle::Plain, None, Ok(number)) = (style, tag, text.parse::<u64>()) {
        return Ok(Value::from(number));
    }
    match Scalar::parse_from_cow_and_metadata(text, style, tag) {
        Some(Scalar::Null) => Ok(Value::Null),
        Some(Scalar::Boolean(value)) => Ok(Value::from(value)),
        Some(Scalar::Integer(number)) => Ok(Value::from(number)),
        Some(Scalar::FloatingPoint(number)) if number.is_finite() && !digits => Ok(Value::from(number.0)),
        Some(Scalar::FloatingPoint(_)) => Err(wrong(format!("{shown} does not fit in a number of JSON"))),
        Some(Scalar::String(text)) => Ok(Value::from(text.into_owned())),
        None => Err(wrong(format!("{shown:?} is not what its tag says"))),
    }
}

/// The parser's refusal, with the fix for what people run into.
fn scan_error(text: &str, error: &ScanError) -> SourceError {
    let line = error.marker().line().max(1);
    let near = text.lines().enumerate().skip(line - 1).take(2);
    let tabbed =
        near.clone().find(|(_, source)| source.trim_start_matches(' ').starts_with('\t') && !source.trim().is_empty());
    if let Some((index, _)) = tabbed {
        return SourceError::new(index + 1, "a tab stands in the indentation", "indent with spaces");
    }
    let in_brackets = error.info().contains("flow") && near.clone().any(|(_, source)| source.contains("${"));
    let fix = match error.info() {
        _ if in_brackets => "write \"${...}\" in quotes inside of [ ] and { }",
        info if info.contains("mapping values are not allowed") => {
            "correct the indentation, or put a text with a colon in quotes"
        }
        info if info.contains("unknown anchor") => "define &NAME before *NAME, or put the text in quotes",
        info if info.contains("quoted scalar") => "close the quotes",
        info if info.contains("flow") => "close the brackets, with commas between the values",
        info if info.contains("unexpected character") => "put the text in quotes",
        _ => "correct it",
    };
    SourceError::new(line, format!("this is not YAML: {}", error.info()), fix)
}

/// Reads one JSON document.
pub(super) fn read_json(text: &str) -> Result<(Value, Lines), SourceError> {
    let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(end, _)| end + 1)).collect();
    let mut reader = JsonReader { text, starts, budget: Budget::default() };
    let raw = serde_json::from_str(text).map_err(|error| reader.refuse(&error, 1))?;
    reader.node(raw, 0)
}

/// Takes a document apart level by level: a part knows its line from where its text stands in the whole.
struct JsonReader<'a> {
    text: &'a str,
    /// Offsets of the lines' first bytes.
    starts: Vec<usize>,
    budget: Budget,
}

impl<'a> JsonReader<'a> {
    fn refuse(&self, error: &serde_json::Error, first_line: usize) -> SourceError {
        let message = error.to_string();
        let problem = message.split(" at line ").next().unwrap_or_default();
        SourceError::new(first_line + error.line().max(1) - 1, format!("this is not JSON: {problem}"), "correct it")
    }

    fn line(&self, raw: &'a RawValue) -> usize {
        let offset = (raw.get().as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        self.starts.partition_point(|start| *start <= offset)
    }

    fn node(&mut self, raw: &'a RawValue, depth: usize) -> Result<(Value, Lines), SourceError> {
        let line = self.line(raw);
        let mut lines = Lines::of(line);
        let is_container = raw.get().starts_with(['[', '{']);
        check_depth(depth + usize::from(is_container), line)?;
        self.budget.take(1, if is_container { 0 } else { raw.get().len() }, line)?;
        if raw.get().starts_with('[') {
            let parts: Vec<&RawValue> = self.parse(raw, line)?;
            let mut items = Vec::with_capacity(parts.len());
            for part in parts {
                let (item, inside) = self.node(part, depth + 1)?;
                lines.inside.insert(items.len().to_string(), inside);
                items.push(item);
            }
            Ok((Value::Array(items), lines))
        } else if raw.get().starts_with('{') {
            let Entries(parts) = self.parse(raw, line)?;
            let mut entries = Map::new();
            for (key, part) in parts {
                let (value, inside) = self.node(part, depth + 1)?;
                if let Some(first) = lines.inside.get(&key) {
                    return Err(SourceError::duplicate(inside.line, &key, first.line));
                }
                lines.inside.insert(key.clone(), inside);
                entries.insert(key, value);
            }
            Ok((Value::Object(entries), lines))
        } else {
            Ok((self.parse(raw, line)?, lines))
        }
    }

    fn parse<T: Deserialize<'a>>(&self, raw: &'a RawValue, line: usize) -> Result<T, SourceError> {
        serde_json::from_str(raw.get()).map_err(|error| self.refuse(&error, line))
    }
}

/// The entries of a mapping, those with a key that is there twice included.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Entries<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a mapping")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn refusal(text: &str) -> String {
        let error = read_yaml(text).unwrap_err();
        format!("{}: {} ({})", error.line, error.problem, error.fix)
    }

    #[test]
    fn every_value_knows_its_line() {
        let yaml = "name: w\nsteps:\n  - name: a\n    run:\n      - x\n      - |\n        y\n  - {name: b,\n     kind: noop}\n";
        let (value, lines) = read_yaml(yaml).unwrap();
        assert_eq!(value["steps"][0]["run"], json!(["x", "y\n"]));
        for (pointer, line) in [
            ("", 1),
            ("/name", 1),
            ("/steps", 2),
            ("/steps/0", 3),
            ("/steps/0/run", 4),
            ("/steps/0/run/1", 7),
            ("/steps/1/kind", 9),
            ("/steps/1/absent/deeper", 8),
            ("/steps/7", 2),
        ] {
            assert_eq!(lines.line_of(pointer), line, "{pointer}");
        }
    }

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        let yaml = "a: 1\nb: 18446744073709551615\nc: 1.5\nd: yes\ne: ~\nf: '1'\ng: !!str 1\nh: ${steps.a.output}\ni: true\nj: -3\nk:\n";
        let expected = json!({
            "a": 1, "b": u64::MAX, "c": 1.5, "d": "yes", "e": null, "f": "1", "g": "1", "h": "${steps.a.output}",
            "i": true, "j": -3, "k": null,
        });
        assert_eq!(read_yaml(yaml).unwrap().0, expected);
        assert!(refusal("a: .nan").contains(".nan does not fit in a number of JSON"));
        assert!(refusal("a: 99999999999999999999999").contains("does not fit in a number of JSON"));
    }

    #[test]
    fn yaml_that_is_not_plain_data_is_refused_in_words() {
        for (text, expected) in [
            ("", "1: the file is empty (write a workflow or a task)"),
            ("a: 1\n---\nb: 1\n", "3: a second document starts here (write one document a file)"),
            ("a: 1\nb: 2\na: 3\n", "3: the key \"a\" is there twice, first on line 1 (remove one of the two)"),
            ("a:\n  b: 1\n\tc: 2\n", "3: a tab stands in the indentation (indent with spaces)"),
            ("a:\n\tb: 1\n", "2: a tab stands in the indentation (indent with spaces)"),
            ("a: !include x\n", "1: the tag !include has no meaning here (remove it)"),
            ("? [1]\n: 2\n", "1: a key is more than plain text (write NAME: VALUE)"),
            ("x: &a {b: 1}\n<<: *a\n", "2: YAML 1.2 has no merge keys (<<) (write the keys out)"),
            ("x: &a [*a]\n", "1: an alias stands inside its own anchor (write the value out)"),
            (
                "run: [echo, ${item}]\n",
                "1: this is not YAML: while parsing a flow sequence, expected ',' or ']' (write \"${...}\" in quotes inside of [ ] and { })",
            ),
            (
                "a: b: c\n",
                "1: this is not YAML: mapping values are not allowed in this context (correct the indentation, or put a text with a colon in quotes)",
            ),
        ] {
            assert_eq!(refusal(text), expected, "{text:?}");
        }
    }

    #[test]
    fn aliases_are_values_and_bombs_are_refused() {
        let yaml = "a: &r {max_attempts: 5}\nb: *r\nc:\n  - *r\n";
        let (value, lines) = read_yaml(yaml).unwrap();
        assert_eq!((&value["b"], &value["c"][0]), (&value["a"], &value["a"]));
        assert_eq!(lines.line_of("/c/0/max_attempts"), 4);
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let below = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        assert!(refusal(&bomb).contains("holds more than 200000 values or 4194304 bytes, aliases expanded"));
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 100].join(", "));
        assert!(refusal(&long).contains("aliases expanded"));
    }

    #[test]
    fn endless_brackets_are_refused_before_the_stack_ends() {
        for text in ["[".repeat(1_000_000), "- ".repeat(1_000_000), "a: {".repeat(100_000), "? ".repeat(100_000)] {
            assert!(read_yaml(&text).is_err());
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(read_json(&deep).unwrap_err().problem.contains("more than 64 deep"));
    }

    #[test]
    fn json_has_lines_and_its_own_escapes() {
        let text = "{\n\t\"name\": \"\\ud83d\\ude00\",\n\t\"steps\": [\n\t\t{\"a/b\": 1.50},\n\t\t{}\n\t]\n}\n";
        let (value, lines) = read_json(text).unwrap();
        assert_eq!(value, json!({"name": "😀", "steps": [{"a/b": 1.5}, {}]}));
        for (pointer, line) in [("", 1), ("/name", 2), ("/steps/0", 4), ("/steps/0/a~1b", 4), ("/steps/1/x", 5)] {
            assert_eq!(lines.line_of(pointer), line, "{pointer}");
        }
        for (text, line, problem) in [
            ("{\n\"a\": 1,\n\"a\": 2}", 3, "the key \"a\" is there twice, first on line 2"),
            ("{\n\"a\": }", 2, "this is not JSON: expected value"),
            ("[1,\n[\"\\ud800\"]]", 2, "this is not JSON: unexpected end of hex escape"),
        ] {
            let error = read_json(text).unwrap_err();
            assert_eq!((error.line, error.problem.as_str()), (line, problem));
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(".{0,6}", inner, 0..5).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn json_text_is_read_as_serde_json_reads_it(value in any_json()) {
            let text = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(read_json(&text).unwrap().0, value);
        }

        #[test]
        fn random_text_is_read_or_refused_at_a_line_of_it(text in "[-a-c:\\[\\]{}&*!|>'\"#,?% \\t\\n${}]{0,60}") {
            let last = text.lines().count() + 1;
            for error in [read_yaml(&text).err(), read_json(&text).err()].into_iter().flatten() {
                prop_assert!((1..=last).contains(&error.line), "{error:?}");
            }
        }

        #[test]
        fn a_damaged_workflow_is_read_or_refused_at_a_line_of_it(
            damage in prop::collection::vec((any::<prop::sample::Index>(), "[-a-c:\\[\\]{}&*!|>'\"#,?% \\t\\n${}\\x00é]{0,3}"), 1..4)
        ) {
            let mut text = WORKFLOW.to_owned();
            for (place, with) in damage {
                let at = place.index(text.len());
                if text.is_char_boundary(at) && text.is_char_boundary(at + 1) {
                    text.replace_range(at..=at, &with);
                }
            }
            let last = text.lines().count() + 1;
            if let Err(error) = read_yaml(&text) {
                prop_assert!((1..=last).contains(&error.line), "{error:?} in {text}");
            }
        }
    }

    const WORKFLOW: &str = "\
name: w
schedule: {cron: \"@daily\", timezone: Europe/Berlin}
steps:
  - name: split
    kind: process
    run: [sh, -c, 'printf x']
    labels: &common {team: a}
  - name: embed
    needs: [split]
    for_each: ${steps.split.output}
    kind: embed
    model: minilm
    labels: *common
    input: |
      first
      second
outputs: {all: \"${steps.embed.outputs}\"}
";
}
