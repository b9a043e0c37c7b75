//! The house rules that a machine can check, over the whole repository, in under a second.
//!
//! Each rule is a function from sources to complaints; its file plants violations and shows that it sees them.

#[path = "tidy/records.rs"]
mod records;
#[path = "tidy/shape.rs"]
mod shape;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/walls.rs"]
mod walls;

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use source::Source;

static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| Source::read_all(root()));

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Files of the repository that are texts, with their content.
fn repository_texts() -> impl Iterator<Item = (String, String)> {
    let read = |path: String| fs::read_to_string(root().join(&path)).ok().map(|text| (path, text));
    source::files(root()).into_iter().filter_map(read)
}

#[track_caller]
fn refuse(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn sources_are_found() {
    let paths: Vec<&str> = SOURCES.iter().map(|source| source.path.as_str()).collect();
    for expected in
        ["src/lib.rs", "src/bin/node.rs", "crates/core/src/ids.rs", "crates/net/src/lib.rs", "tests/tidy.rs"]
    {
        assert!(paths.contains(&expected), "{expected} is not among {paths:?}");
    }
}

#[test]
fn rooms_know_only_whom_they_may() {
    refuse(walls::imports(&SOURCES));
}

#[test]
fn actors_do_not_know_each_other() {
    refuse(walls::actor_imports(&SOURCES));
}

#[test]
fn manifests_keep_the_walls() {
    let manifests = repository_texts().filter(|(path, _)| path.ends_with("Cargo.toml"));
    refuse(manifests.flat_map(|(path, text)| walls::dependencies(&path, &text)).collect());
}

#[test]
fn files_and_functions_are_short() {
    refuse(shape::sizes(&SOURCES));
    refuse(shape::medians(&SOURCES));
}

#[test]
fn no_code_is_unfinished_or_unbounded() {
    refuse(shape::banned_code(&SOURCES));
}

#[test]
fn names_say_something() {
    refuse(shape::banned_names(&SOURCES));
}

#[test]
fn every_file_belongs_to_a_module() {
    refuse(shape::orphans(&SOURCES));
}

#[test]
fn every_invariant_is_stated_and_tested() {
    let declared = SOURCES.iter().find(|source| source.path == "crates/core/src/invariant.rs");
    let ids = records::invariant_ids(declared.expect("the core declares the invariants"));
    assert!(ids.len() >= 12, "found only {ids:?}");
    refuse(records::invariants(&ids, &read("INVARIANTS.md"), &SOURCES));
}

#[test]
fn locked_versions_have_no_known_hole() {
    let lock = read("Cargo.lock");
    refuse(records::absent(&lock, &["libp2p", "quinn-proto", "rmcp", "tokio", "yamux"]));
    refuse(records::locked(&lock));
}

#[test]
fn texts_fit_every_machine() {
    let own = |path: &str| path.starts_with("tests/tidy");
    let texts = repository_texts().filter(|(path, _)| !own(path) && path != "Cargo.lock");
    refuse(texts.flat_map(|(path, text)| records::texts(&path, &text)).collect());
}
