//! What the repository's other files promise: invariants, locked versions, texts fit for everyone's machine.

use std::collections::{BTreeMap, BTreeSet};

use super::source::Source;

/// The oldest versions without a known hole, of which some are in no advisory database.
const FLOORS: [(&str, [u32; 3], &str); 8] = [
    ("h2", [0, 4, 16], "RUSTSEC-2026-0258"),
    ("libp2p", [0, 57, 1], "carries the yamux and gossipsub fixes"),
    ("libp2p-gossipsub", [0, 49, 4], "GHSA-gc42-3jg7-rxr2"),
    ("quinn-proto", [0, 11, 15], "RUSTSEC-2026-0185"),
    ("rmcp", [1, 4, 0], "RUSTSEC-2026-0189"),
    ("rustls-webpki", [0, 103, 13], "RUSTSEC-2026-0104"),
    ("tokio", [1, 44, 2], "RUSTSEC-2025-0023"),
    ("yamux", [0, 13, 10], "GHSA-vxx9-2994-q338"),
];
/// Packages that must not come in by any way.
const REFUSED: [(&str, &str); 1] = [("bincode", "unmaintained: RUSTSEC-2025-0141")];
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Texts that hold only on one machine, or name where packages come from: that is each machine's own setting.
const MACHINE_TEXTS: [&str; 14] = [
    "/work/main",
    "/work/shared",
    "/work/wt",
    "/root/",
    "/tmp/bash",
    "pythonhosted.org",
    "pypi.org/simple",
    "index.crates.io",
    "static.crates.io",
    "registry.npmjs.org",
    "download.pytorch.org",
    "proxy.golang.org",
    "index-url",
    "trusted-host",
];
const UNFINISHED: [&str; 3] = ["TODO", "FIXME", "XXX"];

/// Invariants that INVARIANTS.md does not state or no test covers, and tests that it cites but nobody wrote.
///
/// A test covers an invariant by naming its id, by a name that begins with it (`i11_merge_is_...`), or by standing in
/// the invariant's row.
pub fn invariants(ids: &[String], statements: &str, sources: &[Source]) -> Vec<String> {
    let tests = TestWords::of(sources);
    let mut found = Vec::new();
    for id in ids {
        let Some(row) = statements.lines().find(|line| line.starts_with(&format!("| {id} |"))) else {
            found.push(format!("INVARIANTS.md: {id} is not stated"));
            continue;
        };
        let cited: Vec<&str> = row.split('`').skip(1).step_by(2).filter(|word| is_test_name(word)).collect();
        let unknown = cited.iter().filter(|name| !tests.functions.contains(*name));
        found.extend(unknown.map(|name| format!("INVARIANTS.md: {id} cites the test {name}, which is not there")));
        if cited.is_empty() && !tests.cover(id) {
            found.push(format!("{id} is named in no test"));
        }
    }
    let stated = statements.lines().filter_map(|line| line.strip_prefix("| I")?.split(' ').next());
    let unknown = stated.filter(|number| number.parse::<u8>().is_ok() && !ids.contains(&format!("I{number}")));
    found.extend(unknown.map(|number| format!("INVARIANTS.md: I{number} is not in the code")));
    found
}

/// What the tests say.
struct TestWords<'a> {
    all: BTreeSet<&'a str>,
    functions: BTreeSet<&'a str>,
}

impl<'a> TestWords<'a> {
    fn of(sources: &'a [Source]) -> Self {
        let mut words = Self { all: BTreeSet::new(), functions: BTreeSet::new() };
        for source in sources.iter().filter(|source| !source.path.starts_with("tests/tidy")) {
            // The simulator is a test bed as a whole.
            let simulator = source.path.starts_with("crates/sim/");
            let text = if simulator { &source.text } else { &source.tests };
            let mut previous = "";
            for word in text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()) {
                words.all.insert(word);
                if previous == "fn" {
                    words.functions.insert(word);
                }
                previous = word;
            }
        }
        words
    }

    fn cover(&self, id: &str) -> bool {
        let prefix = format!("{}_", id.to_lowercase());
        self.all.contains(id) || self.functions.iter().any(|name| name.starts_with(&prefix))
    }
}

/// Tests are sentences; what else stands in backticks has spaces, dots or fewer words.
fn is_test_name(text: &str) -> bool {
    text.matches('_').count() >= 2 && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// The variants of `InvariantId`, from the source that declares it.
pub fn invariant_ids(source: &Source) -> Vec<String> {
    let body = source.tokens.iter().skip_while(|token| token.text != "InvariantId").skip(2);
    let variants = body.take_while(|token| token.text != "}").filter(|token| token.is_word());
    variants.map(|token| token.text.to_owned()).collect()
}

/// Packages below their floor, refused ones, and ones from elsewhere than the public registry.
pub fn locked(lock: &str) -> Vec<String> {
    let mut found = Vec::new();
    for package in lock.split("[[package]]").skip(1) {
        let fields: BTreeMap<&str, &str> = package.lines().filter_map(|line| line.split_once(" = ")).collect();
        let field = |name: &str| fields.get(name).map(|value| value.trim_matches('"')).unwrap_or_default();
        let (name, version, source) = (field("name"), field("version"), field("source"));
        for (_, floor, why) in FLOORS.iter().filter(|(known, ..)| *known == name) {
            if numbers(version) < *floor {
                found.push(format!("Cargo.lock: {name} {version} is below {floor:?}: {why}"));
            }
        }
        for (_, why) in REFUSED.iter().filter(|(refused, _)| *refused == name) {
            found.push(format!("Cargo.lock: {name} {version}: {why}"));
        }
        if !source.is_empty() && source != REGISTRY {
            found.push(format!("Cargo.lock: {name} comes from {source}"));
        }
    }
    found
}

/// Names among `wanted` that the lock file does not hold: if the file cannot be read, nothing above can fail.
pub fn absent(lock: &str, wanted: &[&str]) -> Vec<String> {
    let missing = wanted.iter().filter(|name| !lock.contains(&format!("\nname = \"{name}\"\n")));
    missing.map(|name| format!("Cargo.lock: {name} is not in it")).collect()
}

/// Texts that hold on one machine only, and marks of unfinished work.
pub fn texts(path: &str, text: &str) -> Vec<String> {
    let code = !path.ends_with(".md") && !path.starts_with("LICENSE");
    let machine_texts: Vec<_> = MACHINE_TEXTS.iter().filter(|needle| text.contains(**needle)).collect();
    let unfinished_words: Vec<_> = UNFINISHED.iter().filter(|word| code && text.contains(**word)).collect();
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let machine = machine_texts.iter().filter(|needle| begins_in(line, needle));
        found.extend(machine.map(|needle| format!("{path}:{}: {needle:?} is one machine's affair", index + 1)));
        let unfinished = unfinished_words.iter().filter(|word| has_word(line, word));
        found.extend(unfinished.map(|word| format!("{path}:{}: {word}: an issue, or nothing", index + 1)));
    }
    found
}

/// Whether `needle` stands in the line; a folder does not where it is the tail of a longer path.
fn begins_in(line: &str, needle: &str) -> bool {
    let continues = |c: char| needle.starts_with('/') && (c.is_alphanumeric() || "_.-}".contains(c));
    line.match_indices(needle).any(|(at, _)| !line[..at].ends_with(continues))
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

fn numbers(version: &str) -> [u32; 3] {
    let release = version.split(['-', '+']).next().unwrap_or_default();
    let mut parts = release.split('.').map(|part| part.parse().unwrap_or(0));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

#[test]
fn unstated_and_untested_invariants_are_found() {
    let code =
        Source::new("crates/core/src/invariant.rs", "pub enum InvariantId {\n    /// One.\n    I1,\n    I10,\n}");
    let ids = invariant_ids(&code);
    assert_eq!(ids, ["I1", "I10"]);
    let tested = |text: &str| Source::new("src/a.rs", &format!("#[cfg(test)]\nmod tests {{ {text} }}"));
    let both = "| I1 | x |\n| I10 | y |";
    let sources = [tested("/* I1 */"), Source::new("crates/sim/src/a.rs", "check(I10)")];
    assert!(invariants(&ids, both, &sources).is_empty());
    assert_eq!(invariants(&ids, "| I1 | x |", &sources), ["INVARIANTS.md: I10 is not stated"]);
    assert_eq!(invariants(&ids, both, &sources[1..]), ["I1 is named in no test"]);
    assert_eq!(invariants(&ids, both, &[tested("fn i1_holds() {} fn i10_holds() {}")]), [""; 0]);
    assert_eq!(invariants(&ids, "| I1 | |\n| I10 | |\n| I2 | |", &sources), ["INVARIANTS.md: I2 is not in the code"]);
    let cites = "| I1 | `retry.max_attempts` | `a_task_ends_once` |\n| I10 | y |";
    assert!(invariants(&ids, cites, &[tested("fn a_task_ends_once() {}"), sources[1].clone()]).is_empty());
    let missing = "INVARIANTS.md: I1 cites the test a_task_ends_once, which is not there";
    assert_eq!(invariants(&ids, cites, &sources), [missing]);
}

#[test]
fn version_below_its_floor_is_found() {
    let lock = |name: &str, version: &str| format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n");
    assert!(locked(&lock("yamux", "0.13.10")).is_empty() && locked(&lock("tokio", "2.0.0-rc.1")).is_empty());
    assert_eq!(
        locked(&lock("yamux", "0.13.9")),
        ["Cargo.lock: yamux 0.13.9 is below [0, 13, 10]: GHSA-vxx9-2994-q338"]
    );
    assert_eq!(locked(&lock("bincode", "9.0.0")).len(), 1);
    let both = lock("yamux", "0.14.0") + &lock("yamux", "0.12.1");
    assert_eq!(locked(&both).len(), 1);
    assert_eq!(locked(&(lock("a", "1.0.0") + "source = \"git+https://example.invalid/a\"\n")).len(), 1);
    assert_eq!(absent(&both, &["yamux", "tokio"]), ["Cargo.lock: tokio is not in it"]);
}

#[test]
fn text_of_one_machine_is_found() {
    for line in ["cd /work/main/x", "HOME=\"/root/a\"", "pip install --index-url x", "https://static.crates.io/a"] {
        assert_eq!(texts("scripts/a.sh", &format!("\n{line}")).len(), 1, "{line}");
    }
    assert!(texts("a.md", "see docs/work/main, ${HOME}/root/a and https://crates.io/crates/tokio").is_empty());
}

#[test]
fn unfinished_work_is_found_in_code() {
    let line = "# TODO: later";
    assert_eq!(texts("scripts/a.py", line), ["scripts/a.py:1: TODO: an issue, or nothing"]);
    assert!(texts("CONTRIBUTING.md", line).is_empty() && texts("a.sh", "mktemp XXXXXX; TODOS").is_empty());
}
