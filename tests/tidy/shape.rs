//! How long files and functions may be, and which words they may use.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Source, Token, declared_files, item_end};

const FILE_LINES_MAX: usize = 600;
const FILE_LINES_MEDIAN_MAX: usize = 200;
const FUNCTION_LINES_MAX: usize = 70;
const FUNCTION_LINES_MEDIAN_MAX: usize = 10;
const BIN_LINES_MAX: usize = 40;

/// Token sequences that no code outside tests may hold.
const BANNED_CODE: [&[&str]; 5] =
    [&["unwrap", "(", ")"], &["unbounded_channel"], &["dbg", "!"], &["todo", "!"], &["unimplemented", "!"]];

/// Words that name nothing.
const BANNED_NAMES: [&str; 6] = ["manager", "helper", "util", "utils", "common", "misc"];
/// Names of other people's crates and features.
const NAMES_ALLOWED: [&str; 6] =
    ["tokio_util", "futures_util", "hyper_util", "http_body_util", "key_utils", "KeyUtils"];

/// Files and functions beyond their length.
pub fn sizes(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        let lines_max = if is_bin(&source.path) { BIN_LINES_MAX } else { FILE_LINES_MAX };
        if source.lines > lines_max {
            found.push(format!("{}: {} lines, at most {lines_max}", source.path, source.lines));
        }
        for function in functions(&source.tokens) {
            if function.lines > FUNCTION_LINES_MAX {
                let Function { name, line, lines } = function;
                found.push(format!("{}:{line}: {name} has {lines} lines, at most {FUNCTION_LINES_MAX}", source.path));
            }
        }
    }
    found
}

/// Medians over all code beyond theirs: small pieces are the rule, not the exception.
pub fn medians(sources: &[Source]) -> Vec<String> {
    let files = median(sources.iter().map(|source| source.lines).filter(|lines| *lines > 0).collect());
    let all_functions = sources.iter().flat_map(|source| functions(&source.tokens));
    let functions = median(all_functions.map(|function| function.lines).collect());
    let mut found = Vec::new();
    if files > FILE_LINES_MEDIAN_MAX {
        found.push(format!("the median file has {files} lines, at most {FILE_LINES_MEDIAN_MAX}"));
    }
    if functions > FUNCTION_LINES_MEDIAN_MAX {
        found.push(format!("the median function has {functions} lines, at most {FUNCTION_LINES_MEDIAN_MAX}"));
    }
    found
}

/// Code that must not leave a desk: unfinished, unbounded, or a panic without a reason.
pub fn banned_code(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        for banned in BANNED_CODE {
            for window in source.tokens.windows(banned.len()) {
                if window.iter().map(|token| token.text).eq(banned.iter().copied()) {
                    found.push(format!("{}:{}: {}", source.path, window[0].line, banned.concat()));
                }
            }
        }
    }
    found
}

/// Files and identifiers that carry a word which names nothing.
pub fn banned_names(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        let allowed_here = |word: &str| word == "manager" && source.path.starts_with("src/mcp");
        let mut report = |name: &str, place: String| {
            let banned = words(name).into_iter().find(|word| BANNED_NAMES.contains(&word.as_str()));
            if let Some(word) = banned.filter(|word| !allowed_here(word)) {
                found.push(format!("{place}: {word:?} in {name:?} says nothing"));
            }
        };
        for name in source.path.split(['/', '.']) {
            report(name, source.path.clone());
        }
        let mut named = BTreeMap::new();
        for token in source.tokens.iter().filter(|token| token.is_word() && !NAMES_ALLOWED.contains(&token.text)) {
            named.entry(token.text).or_insert(token.line);
        }
        for (name, line) in named {
            report(name, format!("{}:{line}", source.path));
        }
    }
    found
}

/// Files that no `mod` reaches, which the compiler would silently leave out.
pub fn orphans(sources: &[Source]) -> Vec<String> {
    let reached: BTreeSet<String> =
        sources.iter().flat_map(|source| declared_files(&source.path, &source.text)).collect();
    let is_root = |path: &str| {
        let file = path.rsplit('/').next().unwrap_or(path);
        is_bin(path) || ["lib.rs", "main.rs", "build.rs"].contains(&file)
    };
    let in_crate = |path: &str| path.starts_with("src/") || path.contains("/src/");
    let paths = sources.iter().map(|source| source.path.as_str());
    let orphans = paths.filter(|path| in_crate(path) && !is_root(path) && !reached.contains(*path));
    orphans.map(|path| format!("{path}: no `mod` declares it")).collect()
}

fn is_bin(path: &str) -> bool {
    path.starts_with("src/bin/") || (path.starts_with("crates/") && path.ends_with("/src/main.rs"))
}

struct Function {
    name: String,
    line: usize,
    lines: usize,
}

fn functions(tokens: &[Token<'_>]) -> Vec<Function> {
    let starts_function = |window: &[Token<'_>]| window[0].text == "fn" && window[1].is_word();
    let starts = tokens.windows(2).enumerate().filter(|(_, window)| starts_function(window));
    let measure = |(start, window): (usize, &[Token<'_>])| {
        let end = item_end(tokens, start).filter(|end| tokens[*end].text == "}")?;
        let line = window[0].line;
        Some(Function { name: window[1].text.to_owned(), line, lines: tokens[end].line - line + 1 })
    };
    starts.filter_map(measure).collect()
}

fn median(mut values: Vec<usize>) -> usize {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

/// The words of an identifier in snake or camel case, in lower case.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_lower = false;
    for c in name.chars() {
        if c == '_' || c == '-' || (c.is_uppercase() && after_lower) {
            words.push(String::new());
        }
        if c.is_alphanumeric() {
            words.last_mut().expect("there is always one").extend(c.to_lowercase());
        }
        after_lower = c.is_lowercase();
    }
    words
}

#[cfg(test)]
fn function_of(lines: usize) -> String {
    format!("fn long() {{\n{}}}\n", "    step();\n".repeat(lines - 2))
}

#[test]
fn long_function_is_found() {
    let found = |text: &str| sizes(&[Source::new("src/a.rs", text)]);
    assert!(found(&function_of(70)).is_empty());
    assert_eq!(found(&function_of(71)), ["src/a.rs:1: long has 71 lines, at most 70"]);
    assert!(found(&format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function_of(80))).is_empty());
    assert!(
        found(&format!("trait A {{\n    fn f(&self) -> [u8; 2];\n}}\n{}", "const A: u8 = 1;\n".repeat(80))).is_empty()
    );
}

#[test]
fn long_file_is_found() {
    let found = |path: &str, lines: usize| sizes(&[Source::new(path, &"const A: u8 = 1;\n".repeat(lines))]).len();
    assert_eq!((found("src/a.rs", 600), found("src/a.rs", 601)), (0, 1));
    assert_eq!((found("src/bin/node.rs", 40), found("src/bin/node.rs", 41)), (0, 1));
    assert_eq!((found("crates/sim/src/main.rs", 41), found("tests/a.rs", 2_000)), (1, 0));
}

#[test]
fn long_median_is_found() {
    let small: Vec<Source> = (0..3).map(|_| Source::new("src/a.rs", &function_of(10))).collect();
    assert!(medians(&small).is_empty());
    let large: Vec<Source> = (0..3).map(|_| Source::new("src/a.rs", &function_of(201))).collect();
    assert_eq!(medians(&large).len(), 2);
}

#[test]
fn banned_code_is_found_outside_tests_only() {
    let found = |text: &str| banned_code(&[Source::new("src/a.rs", text)]);
    for text in
        ["a.unwrap();", "a\n.unwrap()", "mpsc::unbounded_channel::<u8>()", "dbg!(a)", "todo!()", "unimplemented!()"]
    {
        assert_eq!(found(text).len(), 1, "{text}");
        assert!(found(&format!("#[cfg(test)]\nmod tests {{ fn a() {{ {text}; }} }}")).is_empty(), "{text}");
        assert!(found(&format!("// {text}").replace('\n', "")).is_empty(), "{text}");
    }
    assert!(found("a.unwrap_or(b).unwrap_or_default()").is_empty());
    assert_eq!(found("\n\na.unwrap()"), ["src/a.rs:3: unwrap()"]);
}

#[test]
fn empty_names_are_found_word_by_word() {
    let found = |path: &str, text: &str| banned_names(&[Source::new(path, text)]).len();
    for text in ["struct PeerManager;", "fn task_helper() {}", "const UTIL: u8 = 1;", "mod common {}"] {
        assert_eq!(found("src/a.rs", text), 1, "{text}");
    }
    for path in ["src/utils.rs", "src/common/mod.rs", "tests/misc.rs"] {
        assert_eq!(found(path, ""), 1, "{path}");
    }
    assert_eq!(found("src/a.rs", "use tokio_util::io; let uncommon = \"helper\"; // a manager"), 0);
    assert_eq!((found("src/mcp/a.rs", "struct Manager;"), found("src/mcp/a.rs", "struct Helper;")), (0, 1));
}

#[test]
fn file_that_no_module_declares_is_found() {
    let sources = [
        Source::new("src/lib.rs", "mod a;\n#[cfg(test)]\nmod checks;"),
        Source::new("src/checks.rs", ""),
        Source::new("src/a/mod.rs", "pub mod b;"),
        Source::new("src/a/b.rs", ""),
        Source::new("src/a/c.rs", ""),
        Source::new("src/bin/node.rs", ""),
        Source::new("tests/d.rs", ""),
    ];
    assert_eq!(orphans(&sources), ["src/a/c.rs: no `mod` declares it"]);
}
