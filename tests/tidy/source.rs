//! Rust files as the rules read them: comments and literals blanked out, code and tests told apart.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// One Rust file.
#[derive(Clone)]
pub struct Source {
    /// Relative to the repository, with `/`.
    pub path: String,
    pub text: String,
    /// Tokens of the code outside tests; comments and literals are none, and lines keep their numbers.
    pub tokens: Vec<Token<'static>>,
    /// Text of the tests, comments included.
    pub tests: String,
    /// Lines outside tests.
    pub lines: usize,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let mut code = mask(text);
        if is_test_file(path) {
            return Self::all_tests(path, text);
        }
        let mut tests = String::new();
        let mut lines = text.lines().count();
        for (start, end) in test_items(&code) {
            tests.push_str(&text[start..end]);
            lines -= text[start..end].lines().count();
            code.replace_range(start..end, &blank(&text[start..end]));
        }
        // Every source lives as long as the test.
        let tokens = tokens(code.leak());
        Self { path: path.to_owned(), text: text.to_owned(), tokens, tests, lines }
    }

    fn all_tests(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), tokens: Vec::new(), tests: text.to_owned(), lines: 0 }
    }

    /// Every Rust file of the repository; a file that only a test module declares counts as a test.
    pub fn read_all(root: &Path) -> Vec<Self> {
        let paths = files(root).into_iter().filter(|path| path.ends_with(".rs"));
        let read = |path: String| {
            let text = fs::read_to_string(root.join(&path)).expect("a listed file can be read");
            Self::new(&path, &text)
        };
        let mut sources: Vec<Self> = paths.map(read).collect();
        let declared_by_tests = |source: &Self| declared_files(&source.path, &source.tests);
        let test_files: BTreeSet<String> = sources.iter().flat_map(declared_by_tests).collect();
        for source in sources.iter_mut().filter(|source| test_files.contains(&source.path)) {
            *source = Self::all_tests(&source.path, &source.text);
        }
        sources
    }
}

/// Files where the modules that `text`, of the file `path`, declares may stand.
pub fn declared_files(path: &str, text: &str) -> Vec<String> {
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = file.trim_end_matches(".rs");
    let owns_folder = ["mod", "lib", "main"].contains(&stem) || folder.ends_with("/bin") || folder == "tests";
    let below = if owns_folder { folder.to_owned() } else { format!("{folder}/{stem}") };
    let masked = mask(text);
    let tokens = tokens(&masked);
    let named = tokens.windows(3).filter(|window| window[0].text == "mod" && window[2].text == ";");
    let files = named.flat_map(|window| {
        let name = window[1].text;
        [format!("{below}/{name}.rs"), format!("{below}/{name}/mod.rs")]
    });
    let attributes = text.lines().filter_map(|line| line.trim().strip_prefix("#[path = \"")?.strip_suffix("\"]"));
    files.chain(attributes.map(|file| format!("{folder}/{file}"))).collect()
}

/// Text files of the repository, relative, sorted; build output and hidden folders are not among them.
pub fn files(root: &Path) -> Vec<String> {
    const HIDDEN_KEPT: [&str; 2] = [".ci", ".cargo"];
    const SKIPPED: [&str; 4] = ["target", "shared", "__pycache__", "node_modules"];
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder)).expect("a listed folder can be read").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if SKIPPED.contains(&name.as_str()) || (name.starts_with('.') && !HIDDEN_KEPT.contains(&name.as_str())) {
                continue;
            }
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(kind) if kind.is_file() => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

fn is_test_file(path: &str) -> bool {
    let in_folder = ["tests/", "benches/"].iter().any(|dir| path.starts_with(dir) || path.contains(&format!("/{dir}")));
    in_folder || path.ends_with("/tests.rs")
}

/// A word, `::`, or one character of punctuation.
#[derive(Debug, Clone, Copy)]
pub struct Token<'a> {
    pub text: &'a str,
    pub at: usize,
    pub line: usize,
}

impl Token<'_> {
    pub fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphanumeric() || c == '_')
    }
}

pub fn tokens(code: &str) -> Vec<Token<'_>> {
    let bytes = code.as_bytes();
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    while at < bytes.len() {
        let end = match bytes[at] {
            byte if is_word(byte) => at + bytes[at..].iter().take_while(|byte| is_word(**byte)).count(),
            b':' if bytes.get(at + 1) == Some(&b':') => at + 2,
            _ => at + 1,
        };
        line += usize::from(bytes[at] == b'\n');
        if !bytes[at].is_ascii_whitespace() {
            found.push(Token { text: &code[at..end], at, line });
        }
        at = end;
    }
    found
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// The last token of the item that begins at `start`: its closing brace, or its semicolon.
pub fn item_end(tokens: &[Token<'_>], start: usize) -> Option<usize> {
    let (mut depth, mut in_body) = (0_usize, false);
    for (index, token) in tokens.iter().enumerate().skip(start) {
        match token.text {
            "(" | "[" => depth += 1,
            "{" => (depth, in_body) = (depth + 1, in_body || depth == 0),
            ")" | "]" => depth = depth.saturating_sub(1),
            "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 && in_body {
                    return Some(index);
                }
            }
            ";" if depth == 0 => return Some(index),
            _ => {}
        }
    }
    None
}

/// Byte ranges of the items under `#[cfg(test)]`.
fn test_items(code: &str) -> Vec<(usize, usize)> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let tokens = tokens(code);
    let (mut found, mut index) = (Vec::new(), 0);
    while index < tokens.len() {
        let rest = &tokens[index..];
        if rest.len() < MARK.len() || MARK.iter().zip(rest).any(|(mark, token)| *mark != token.text) {
            index += 1;
            continue;
        }
        let last = item_end(&tokens, index + MARK.len()).unwrap_or(tokens.len() - 1);
        found.push((tokens[index].at, tokens[last].at + 1));
        index = last + 1;
    }
    found
}

/// The text with every comment, string and character literal blanked out.
pub fn mask(text: &str) -> String {
    let (mut masked, mut at) = (String::with_capacity(text.len()), 0);
    while at < text.len() {
        let end = opaque_end(text.as_bytes(), at);
        if end > at {
            masked.push_str(&blank(&text[at..end]));
            at = end;
        } else {
            let next = text[at..].chars().next().expect("at is within the text");
            masked.push(next);
            at += next.len_utf8();
        }
    }
    masked
}

/// Spaces for everything but line ends, byte for byte.
fn blank(text: &str) -> String {
    text.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect()
}

/// The end of the comment or literal that begins at `at`; `at` itself where none does.
fn opaque_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let length = match rest {
        [b'/', b'/', ..] => rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => block_comment_length(rest),
        [b'"', ..] => quoted_length(rest, b'"'),
        [b'\'', b'\\', ..] => quoted_length(rest, b'\''),
        [b'\'', ..] => character_length(rest),
        [b'r', b'"' | b'#', ..] if begins_literal(bytes, at) => raw_string_length(rest),
        _ => 0,
    };
    at + length
}

fn block_comment_length(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted_length(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    rest.len().min(at + 1)
}

/// A character literal ends after one character; anything else behind a quote is a lifetime.
fn character_length(rest: &[u8]) -> usize {
    let first = rest.get(1).copied().unwrap_or(0);
    let width = match first {
        0..0x80 => 1,
        0x80..0xE0 => 2,
        0xE0..0xF0 => 3,
        0xF0.. => 4,
    };
    if rest.get(1 + width) == Some(&b'\'') { width + 2 } else { 0 }
}

/// Whether the `r` at `at` begins a raw string: alone, or behind the `b` or `c` of a prefix.
fn begins_literal(bytes: &[u8], at: usize) -> bool {
    let prefix = usize::from(at > 0 && matches!(bytes[at - 1], b'b' | b'c'));
    at == prefix || !is_word(bytes[at - prefix - 1])
}

fn raw_string_length(rest: &[u8]) -> usize {
    let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let close = [b"\"".as_slice(), &rest[1..1 + hashes]].concat();
    let body = 2 + hashes;
    let end = rest[body..].windows(close.len()).position(|window| window == close);
    end.map_or(rest.len(), |end| body + end + close.len())
}

#[test]
fn comments_and_literals_are_blank_and_code_stays() {
    let masked = |text: &str| mask(text).split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(masked("a // b\nc"), "a c");
    assert_eq!(masked("a /* b /* c */ d */ e"), "a e");
    assert_eq!(masked(r#"a("b \" c") d"#), "a( ) d");
    assert_eq!(masked(r##"a(r#"b " c"#) d(br"\") e"##), "a( ) d(b ) e");
    assert_eq!(masked(r"x('\'') 'a: &'a str, '{', 'é', r#type"), "x( ) 'a: &'a str, , , r#type");
    assert_eq!(mask("\"é\n\"").len(), "\"é\n\"".len());
}

#[test]
fn tests_are_told_from_code() {
    let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() { \"}\"; }\n}\nfn c() {}\n#[cfg(test)]\nuse d::{e};\n";
    let source = Source::new("src/x.rs", text);
    let words: Vec<&str> = source.tokens.iter().filter(|token| token.is_word()).map(|token| token.text).collect();
    assert_eq!(words, ["fn", "a", "fn", "c"]);
    assert!(source.tests.contains("fn b()") && !source.tests.contains("fn c()"));
    assert_eq!(source.lines, 2);
    assert_eq!(Source::new("tests/x.rs", text).lines, 0);
}

#[test]
fn module_stands_beside_or_below_its_owner() {
    assert_eq!(declared_files("src/lib.rs", "mod a;"), ["src/a.rs", "src/a/mod.rs"]);
    assert_eq!(declared_files("src/a.rs", "pub mod b; // mod c;"), ["src/a/b.rs", "src/a/b/mod.rs"]);
    assert_eq!(declared_files("src/a/mod.rs", "mod b;"), ["src/a/b.rs", "src/a/b/mod.rs"]);
    assert!(declared_files("src/a.rs", "#[path = \"a_tests.rs\"]\nmod tests;").contains(&"src/a_tests.rs".to_owned()));
}
