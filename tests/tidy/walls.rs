//! Who may know whom.

use std::collections::BTreeSet;

use super::source::{Source, Token};

/// A name that only some rooms may speak.
struct Only {
    names: &'static [&'static str],
    rooms: &'static [&'static str],
}

const ONLY: [Only; 6] = [
    Only { names: &["libp2p", "libp2p_identity", "libp2p_stream"], rooms: &["crates/net/"] },
    Only { names: &["rmcp"], rooms: &["src/mcp"] },
    Only { names: &["tch", "torch_sys"], rooms: &["crates/device/src/torch"] },
    Only { names: &["clap", "clap_complete"], rooms: &["src/cli", "src/bin/"] },
    Only { names: &["rusqlite"], rooms: &["src/store"] },
    Only { names: &["stateright"], rooms: &["crates/model/"] },
];

/// Names that one room may not speak: a crate or module by its path, a function by its last two segments.
struct Never {
    room: &'static str,
    names: &'static [&'static str],
}

const NEVER: [Never; 7] = [
    Never {
        room: "crates/core/",
        names: &[
            "tokio",
            "libp2p",
            "ractor",
            "tch",
            "rand",
            "chrono",
            "std::env",
            "std::fs",
            "std::net",
            "std::process",
            "std::thread",
            "Instant::now",
            "SystemTime::now",
        ],
    },
    Never { room: "crates/model/", names: &["tokio", "rand", "std::net", "SystemTime::now"] },
    Never { room: "crates/sim/", names: &["tokio", "rand", "std::net", "SystemTime::now"] },
    Never { room: "src/store", names: &["ractor", "crate::actors"] },
    Never { room: "src/executor", names: &["ractor", "crate::actors"] },
    Never { room: "src/inference", names: &["ractor", "crate::actors"] },
    Never { room: "src/mcp", names: &["crate::actors", "crate::store"] },
];

/// Crates that the message vocabulary may name.
const MESSAGES_KNOW: [&str; 5] = ["std", "serde", "serde_json", "thiserror", "magpie_core"];
/// Handles that travel in a message: where the answer goes, what admitted it, what it hands over.
const MESSAGES_CARRY: [&str; 3] =
    ["ractor::RpcReplyPort", "tokio::sync::OwnedSemaphorePermit", "tokio::net::UnixStream"];

/// Names of other crates and rooms, where they do not belong.
pub fn imports(sources: &[Source]) -> Vec<String> {
    let in_messages = sources.iter().filter_map(|source| source.path.strip_prefix("src/messages/"));
    let vocabulary: BTreeSet<&str> = in_messages.map(|path| path.split(['/', '.']).next().unwrap_or(path)).collect();
    let of_one = |source: &Source| [foreign_names(source), message_imports(source, &vocabulary)].concat();
    sources.iter().flat_map(of_one).collect()
}

/// Who starts whom, and so may import it; the supervisor starts all the others.
const STARTS: [(&str, &str); 1] = [("control", "session")];

/// Files under src/actors that import an actor which is neither theirs nor started by them.
pub fn actor_imports(sources: &[Source]) -> Vec<String> {
    let acts = |source: &&Source| source.tokens.windows(2).any(|pair| pair[0].text == "Actor" && pair[1].text == "for");
    let actors: BTreeSet<&str> = sources.iter().filter(acts).filter_map(|source| concern_of(&source.path)).collect();
    let mut found = Vec::new();
    for source in sources {
        let Some(own) = concern_of(&source.path).filter(|own| *own != "supervisor") else { continue };
        for path in paths(&source.tokens) {
            let segments = absolute(&source.path, &path.segments);
            let ["crate", "actors", other, ..] = segments.as_slice() else { continue };
            if *other != own && actors.contains(other) && !STARTS.contains(&(own, other)) {
                found.push(format!("{}:{}: {own} imports the actor {other}", source.path, path.line));
            }
        }
    }
    found
}

/// Dependencies in a crate's manifest that another crate alone may have.
pub fn dependencies(path: &str, manifest: &str) -> Vec<String> {
    let core = ["tokio", "libp2p", "ractor", "tch", "rand", "chrono", "futures"];
    let mut section = "";
    let mut found = Vec::new();
    for (index, line) in manifest.lines().enumerate() {
        if line.starts_with('[') {
            section = line;
            continue;
        }
        let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
        let listed = section.ends_with("dependencies]") && section != "[workspace.dependencies]" && !name.is_empty();
        let refused = (name.starts_with("libp2p") && path != "crates/net/Cargo.toml")
            || (name == "tch" && path != "crates/device/Cargo.toml")
            || (core.contains(&name) && path == "crates/core/Cargo.toml");
        if listed && refused {
            found.push(format!("{path}:{}: {name} is no dependency of this crate", index + 1));
        }
    }
    found
}

fn foreign_names(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for path in paths(&source.tokens) {
        for Only { names, rooms } in &ONLY {
            if names.iter().any(|name| path.names(name)) && !rooms.iter().any(|room| source.path.starts_with(room)) {
                found.push(format!("{}:{}: {} is only for {}", source.path, path.line, path.text(), rooms.join(", ")));
            }
        }
        for Never { room, names } in &NEVER {
            if source.path.starts_with(room) && names.iter().any(|name| path.names(name)) {
                found.push(format!("{}:{}: {} is not for {room}", source.path, path.line, path.text()));
            }
        }
    }
    found
}

fn message_imports(source: &Source, vocabulary: &BTreeSet<&str>) -> Vec<String> {
    if !source.path.starts_with("src/messages") {
        return Vec::new();
    }
    let waits = ["tokio", "ractor", "std::fs", "std::net", "std::thread"];
    let mut found = Vec::new();
    for path in paths(&source.tokens).iter().filter(|path| !MESSAGES_CARRY.iter().any(|handle| path.names(handle))) {
        let known = match path.segments.as_slice() {
            ["crate", room, ..] => *room == "messages",
            ["self" | "super", ..] | [] => true,
            [root, ..] => !path.imported || MESSAGES_KNOW.contains(root) || vocabulary.contains(root),
        };
        if !known || waits.iter().any(|name| path.names(name)) {
            found.push(format!("{}:{}: messages are data, {} is not for them", source.path, path.line, path.text()));
        }
    }
    found
}

/// The concern that a file under src/actors belongs to.
fn concern_of(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("src/actors/")?;
    let name = rest.split('/').next()?.trim_end_matches(".rs");
    (name != "mod").then_some(name)
}

/// A path with its leading `self` and `super` resolved against the file it stands in.
fn absolute<'a>(file: &'a str, segments: &[&'a str]) -> Vec<&'a str> {
    if !matches!(segments.first(), Some(&"self" | &"super")) {
        return segments.to_vec();
    }
    let module = file.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    let mut resolved: Vec<&str> = ["crate"].into_iter().chain(module.split('/')).collect();
    for segment in segments {
        match *segment {
            "self" => {}
            "super" => _ = resolved.pop(),
            name => resolved.push(name),
        }
    }
    resolved
}

/// A path as the code names it, with `use` groups written out.
struct NamedPath<'a> {
    line: usize,
    segments: Vec<&'a str>,
    imported: bool,
}

impl NamedPath<'_> {
    /// Whether this is `name` or something in it; a name that begins with a type is sought anywhere.
    fn names(&self, name: &str) -> bool {
        let wanted: Vec<&str> = name.split("::").collect();
        if name.starts_with(char::is_uppercase) {
            return self.segments.windows(wanted.len()).any(|window| window == wanted);
        }
        self.segments.starts_with(&wanted)
    }

    fn text(&self) -> String {
        self.segments.join("::")
    }
}

fn paths<'a>(tokens: &[Token<'a>]) -> Vec<NamedPath<'a>> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        if tokens[at].text == "use" {
            at = use_tree(tokens, at + 1, &mut Vec::new(), &mut found);
        } else if tokens[at].is_word() {
            let start = at;
            while at + 2 < tokens.len() && tokens[at + 1].text == "::" && tokens[at + 2].is_word() {
                at += 2;
            }
            let segments: Vec<&str> = tokens[start..=at].iter().step_by(2).map(|token| token.text).collect();
            if segments.len() > 1 && !continues_a_path(tokens, start) {
                found.push(NamedPath { line: tokens[start].line, segments, imported: false });
            }
            at += 1;
        } else {
            at += 1;
        }
    }
    found
}

/// Whether the word at `start` follows `>::`, so that its crate is named elsewhere.
fn continues_a_path(tokens: &[Token<'_>], start: usize) -> bool {
    start >= 2 && tokens[start - 1].text == "::" && tokens[start - 2].text == ">"
}

/// Reads one branch of a `use` tree; answers the index behind it.
fn use_tree<'a>(
    tokens: &[Token<'a>],
    mut at: usize,
    prefix: &mut Vec<&'a str>,
    found: &mut Vec<NamedPath<'a>>,
) -> usize {
    let kept = prefix.len();
    while let Some(token) = tokens.get(at) {
        match token.text {
            "::" => {}
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token.text != "}") {
                    at = use_tree(tokens, at, prefix, found);
                    at += usize::from(tokens.get(at).is_some_and(|token| token.text != "}"));
                }
                prefix.truncate(kept);
                return at + 1;
            }
            "as" => at += 1,
            "*" => prefix.push("*"),
            _ if token.is_word() => prefix.push(token.text),
            _ => break,
        }
        at += 1;
    }
    let line = tokens.get(at).or(tokens.last()).map_or(0, |token| token.line);
    found.push(NamedPath { line, segments: prefix.clone(), imported: true });
    prefix.truncate(kept);
    at
}

#[cfg(test)]
fn refused(path: &str, text: &str) -> Vec<String> {
    imports(&[Source::new(path, text)])
}

#[test]
fn use_groups_are_written_out() {
    use super::source::tokens;

    let code = "use a::{b, c::{d as e, *}, self};\nuse ::f::g;\nh::i(j::k::<L>::m());";
    let texts: Vec<String> = paths(&tokens(code)).iter().map(NamedPath::text).collect();
    assert_eq!(texts, ["a::b", "a::c::d", "a::c::*", "a::self", "f::g", "h::i", "j::k"]);
}

#[test]
fn foreign_crate_is_seen_in_every_form() {
    for text in
        ["use libp2p::PeerId;", "use {std::fmt, libp2p::PeerId};", "fn f(p: libp2p::PeerId) {}", "::libp2p::f();"]
    {
        assert_eq!(refused("src/actors/swarm.rs", text).len(), 1, "{text}");
        assert!(refused("crates/net/src/swarm.rs", text).is_empty(), "{text}");
    }
    assert!(refused("src/a.rs", "// use libp2p::PeerId;\nconst A: &str = \"libp2p::\"; let libp2p = 1;").is_empty());
}

#[test]
fn each_wall_stands() {
    let cases = [
        ("src/cli/run.rs", "use rmcp::model::Tool;"),
        ("src/inference/mod.rs", "let t = tch::Tensor::new();"),
        ("src/mcp/mod.rs", "#[derive(clap::Parser)] struct A;"),
        ("src/actors/ledger.rs", "use rusqlite::Connection;"),
        ("crates/core/src/ids.rs", "use tokio::sync::mpsc;"),
        ("crates/core/src/ids.rs", "use std::{fmt, fs::File};"),
        ("crates/core/src/ids.rs", "let now = std::time::Instant::now();"),
        ("crates/core/src/ids.rs", "let now = SystemTime::now();"),
        ("src/store/mod.rs", "use ractor::Actor;"),
        ("src/executor/process.rs", "use crate::actors::worker::Worker;"),
        ("src/messages/ledger.rs", "use crate::store::Store;"),
        ("src/messages/ledger.rs", "use ractor::{ActorRef, RpcReplyPort};"),
        ("src/messages/ledger.rs", "use tokio::sync::{OwnedSemaphorePermit, mpsc};"),
        ("src/messages/ledger.rs", "use rand::Rng;"),
        ("src/messages/ledger.rs", "fn f() -> tokio::task::JoinHandle<()> {}"),
    ];
    for (path, text) in cases {
        let found = refused(path, &format!("\n{text}"));
        assert_eq!(found.len(), 1, "{path}: {text}: {found:?}");
        assert!(found[0].starts_with(&format!("{path}:2:")), "{found:?}");
    }
}

#[test]
fn messages_may_name_data() {
    let text = "use magpie_core::ids::TaskId;\nuse ractor::RpcReplyPort;\nuse serde::Serialize;\nuse super::Envelope;
                use self::ledger::Submit;\nuse ledger::Get;\nuse tokio::sync::OwnedSemaphorePermit;
                use crate::messages::peer::Credit;\nfn f() -> State { State::Ready }";
    assert!(refused("src/messages/ledger.rs", text).is_empty());
}

#[test]
fn actors_do_not_import_each_other() {
    let actor = |path: &str, text: &str| {
        let others = ["src/actors/clock/mod.rs", "src/actors/ledger.rs"];
        let mut sources = others.map(|path| Source::new(path, "impl Actor for Other {}")).to_vec();
        sources.push(Source::new("src/actors/address.rs", "pub struct Address;"));
        sources.push(Source::new(path, text));
        actor_imports(&sources).len()
    };
    assert_eq!(actor("src/actors/worker.rs", "use crate::actors::clock::Clock;"), 1);
    assert_eq!(actor("src/actors/worker/mod.rs", "use super::{Node, ledger::Ledger};"), 1);
    assert_eq!(actor("src/actors/worker/slots.rs", "fn f() { super::super::clock::tick(); }"), 1);
    assert_eq!(actor("src/actors/readings.rs", "use super::clock::Clock;"), 1);
    assert_eq!(actor("src/actors/supervisor.rs", "use super::clock::Clock;"), 0);
    assert_eq!(actor("src/actors/worker/mod.rs", "use crate::actors::address::Address;"), 0);
    assert_eq!(actor("src/actors/worker/slots.rs", "use super::clock::Slots; use crate::actors::Node;"), 0);
}

#[test]
fn manifest_cannot_widen_a_wall() {
    let manifest = "[workspace.dependencies]\nlibp2p = \"1\"\n[dependencies]\nserde = \"1\"\nlibp2p.workspace = true\n";
    assert_eq!(dependencies("Cargo.toml", manifest), ["Cargo.toml:5: libp2p is no dependency of this crate"]);
    assert!(dependencies("crates/net/Cargo.toml", manifest).is_empty());
    assert_eq!(dependencies("crates/core/Cargo.toml", "[dependencies]\ntokio = { version = \"1\" }").len(), 1);
    assert_eq!(dependencies("crates/sim/Cargo.toml", "[dev-dependencies]\ntch = \"1\"").len(), 1);
}
