//! The pages under docs/mcp: what they tell to write is what is written, and the commands that they name exist.

use std::path::Path;

use clap::error::ErrorKind;
use clap::{Command, CommandFactory, ValueEnum};
use serde_json::{Value, json};

use super::entry::Entry;
use super::host::{Format, Host};
use super::{json_file, jsonc, toml_file};
use crate::cli::NodectlArgs;
use crate::cli::mcp_args::McpArgs;
use crate::cli::node_args::NodeArgs;

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/mcp").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn pages() -> Vec<(String, String)> {
    let names = Host::value_variants().iter().map(|host| host.to_possible_value().unwrap().get_name().to_owned());
    let names = names.map(|name| format!("{name}.md")).chain(["SKILL.md".to_owned()]);
    names.map(|name| (name.clone(), page(&name))).collect()
}

/// The blocks in code fences of a language.
fn fences<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let opening = format!("\n```{language}\n");
    text.split(&opening).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

fn installed(name: &str) -> Entry {
    Entry { name: name.to_owned(), command: "/usr/local/bin/node-mcp".to_owned(), args: Vec::new() }
}

#[test]
fn the_first_snippet_of_a_page_is_what_is_installed_and_the_second_is_over_http() {
    for host in Host::value_variants() {
        let name = host.to_possible_value().unwrap().get_name().to_owned();
        let text = page(&format!("{name}.md"));
        let command = format!("node-mcp install --client {name}");
        assert!(text.contains(&command), "{name}: {command}");
        let language = if host.format() == Format::Toml { "toml" } else { "json" };
        let snippets = fences(&text, language);
        assert_eq!(snippets.first().copied(), Some(host.snippet(&installed("magpie")).as_str()), "{name}");
        let url = json!("http://127.0.0.1:7480/mcp");
        let over_http = |text: &str| -> Value {
            match host.format() {
                Format::Json { key, .. } => jsonc::read(text).unwrap().0[key]["magpie"].clone(),
                Format::Toml => json!(toml::from_str::<toml::Table>(text).unwrap()["mcp_servers"]["magpie"]),
            }
        };
        match *host {
            Host::ClaudeDesktop => assert_eq!(snippets.len(), 1, "it starts programs only"),
            Host::GeminiCli => assert_eq!(over_http(snippets[1])["httpUrl"], url),
            _ => assert_eq!(over_http(snippets[1])["url"], url, "{name}"),
        }
    }
}

#[test]
fn every_snippet_is_read_and_takes_an_entry_of_another_name() {
    for host in Host::value_variants() {
        let text = page(&format!("{}.md", host.to_possible_value().unwrap().get_name()));
        let language = if host.format() == Format::Toml { "toml" } else { "json" };
        let with = |text: &str| match host.format() {
            Format::Json { key, typed } => json_file::with(text, key, &installed("other"), typed),
            Format::Toml => toml_file::with(text, &installed("other")),
        };
        for snippet in fences(&text, language) {
            let after = with(snippet).unwrap_or_else(|problem| panic!("{host:?}: {problem}: {snippet}"));
            assert_eq!(with(&after).as_ref(), Ok(&after));
        }
    }
}

/// The words of a line as a shell makes them.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in line.chars() {
        match (letter, quote) {
            (letter, Some(open)) if letter == open => quote = None,
            ('\'' | '"', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            ('#', None) if word.is_none() => break,
            (' ', None) => words.extend(word.take()),
            (letter, _) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

fn program(name: &str) -> Option<Command> {
    match name {
        "nodectl" => Some(NodectlArgs::command()),
        "node-mcp" => Some(McpArgs::command()),
        "node" => Some(NodeArgs::command()),
        _ => None,
    }
}

/// Whether the whole line would be understood.
fn is_understood(line: &str) -> Result<(), String> {
    let words = words(line.split(" | ").next().unwrap_or(line));
    let Some(command) = words.first().and_then(|name| program(name)) else { return Ok(()) };
    match command.try_get_matches_from(&words) {
        Err(error) if !matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            Err(format!("{line}: {error}"))
        }
        _ => Ok(()),
    }
}

/// Whether the commands and flags that a mention names exist; values may be left out.
fn exists(mention: &str) -> Result<(), String> {
    let words = words(mention);
    let Some(mut command) = words.first().and_then(|name| program(name)) else { return Ok(()) };
    command.build();
    for word in &words[1..] {
        if let Some(flag) = word.strip_prefix("--").or(word.strip_prefix('-')) {
            let named = |argument: &clap::Arg| {
                argument.get_long() == Some(flag) || argument.get_short().is_some_and(|short| flag == short.to_string())
            };
            if !flag.is_empty() && !command.get_arguments().any(named) {
                return Err(format!("{mention}: {} has no {word}", command.get_name()));
            }
            continue;
        }
        // What is written large stands for a value.
        let is_value = word.chars().all(|letter| letter.is_ascii_uppercase());
        let mut next = None;
        for name in word.split('|').filter(|_| command.has_subcommands() && !is_value) {
            let found = command.find_subcommand(name).cloned();
            next = Some(found.ok_or_else(|| format!("{mention}: {} has no {name}", command.get_name()))?);
        }
        command = next.unwrap_or(command);
    }
    Ok(())
}

#[test]
fn every_command_and_flag_that_the_pages_name_exists() {
    let mut seen = 0;
    for (name, text) in pages() {
        let prose: String = text.split("\n```").step_by(2).collect();
        for mention in prose.split('`').skip(1).step_by(2) {
            exists(mention).unwrap_or_else(|problem| panic!("{name}: {problem}"));
        }
        for line in fences(&text, "sh").iter().flat_map(|block| block.lines()) {
            is_understood(line).unwrap_or_else(|problem| panic!("{name}: {problem}"));
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} lines were found");
}

#[test]
fn a_command_that_does_not_exist_is_found() {
    assert!(is_understood("nodectl task submit --kind noop # made").is_ok());
    assert!(is_understood("claude mcp add anything").is_ok());
    for wrong in ["nodectl task sbmit", "nodectl task get", "node-mcp install --client emacs", "node --htp x"] {
        assert!(is_understood(wrong).is_err(), "{wrong}");
    }
    assert!(exists("nodectl task wait --timeout").is_ok() && exists("nodectl tool ls|schema|call").is_ok());
    for wrong in ["nodectl task wait --timeot", "nodectl tsk", "node-mcp --toolsets", "nodectl tool ls|scheme"] {
        assert!(exists(wrong).is_err(), "{wrong}");
    }
}
