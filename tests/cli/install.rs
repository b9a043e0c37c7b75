//! `node-mcp install`: hosts' files, as a person has them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::fixture::Ended;

const NODE_MCP: &str = env!("CARGO_BIN_EXE_node-mcp");

fn install(home: &Path, arguments: &[&str]) -> Ended {
    let mut command = Command::new(NODE_MCP);
    command.arg("install").args(arguments).current_dir(home).stdin(Stdio::null());
    command.env("HOME", home).env_remove("XDG_CONFIG_HOME").env_remove("CODEX_HOME").output().unwrap().into()
}

fn json_of(file: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

#[test]
fn every_host_gets_its_file_once() {
    let home = tempfile::tempdir().unwrap();
    for host in ["claude-code", "claude-desktop", "vscode", "cursor", "codex", "gemini-cli", "zed"] {
        let printed = install(home.path(), &["--client", host, "--print"]).with(0).stdout;
        let made = install(home.path(), &["--client", host]).with(0).stdout;
        let file = home.path().join(made.split(" is made; ").next().unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), printed, "{host}");
        assert!(printed.contains(NODE_MCP), "a host finds it wherever it is: {printed}");
        let again = install(home.path(), &["--client", host]).with(0).stdout;
        assert!(again.ends_with(" has it already\n"), "{again}");
        assert_eq!(
            fs::read_dir(file.parent().unwrap())
                .unwrap()
                .filter(|file| { file.as_ref().unwrap().file_name().to_string_lossy().contains("magpie") })
                .count(),
            0,
            "nothing is kept of a file that was not changed"
        );
    }
    assert!(home.path().join(".mcp.json").exists() && home.path().join(".codex/config.toml").exists());
}

#[test]
fn flags_go_along_and_a_change_keeps_what_was_before() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("mcp.json");
    let before = r#"{"mcpServers": {"docs": {"command": "npx"}, "magpie": {"command": "old", "env": {"A": "b"}}}}"#;
    fs::write(&file, before).unwrap();
    let flags = [
        "--client",
        "cursor",
        "--file",
        "mcp.json",
        "--control",
        "run/control.sock",
        "--toolset",
        "core",
        "--scope",
        "read",
    ];
    let told = install(home.path(), &flags).with(0).stdout;
    assert!(told.contains("before it was as ") && told.contains("mcp.json.before-magpie"), "{told}");
    let servers = json_of(&file)["mcpServers"].clone();
    assert_eq!(servers["docs"], json!({"command": "npx"}));
    let socket = home.path().canonicalize().unwrap().join("run/control.sock");
    let socket = socket.to_str().unwrap();
    let args = json!(["--control", socket, "--toolset", "core", "--scope", "read"]);
    assert_eq!(servers["magpie"], json!({"command": NODE_MCP, "args": args, "env": {"A": "b"}}));
    assert_eq!(fs::read_to_string(home.path().join("mcp.json.before-magpie")).unwrap(), before);
}

#[test]
fn a_file_that_cannot_be_read_is_left_alone_with_what_to_write_there() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("mcp.json");
    fs::write(&file, "{\n  \"mcpServers\": {,}\n}").unwrap();
    let told = install(home.path(), &["--client", "cursor", "--file", "mcp.json"]).with(2);
    assert!(told.stderr.starts_with("node-mcp: mcp.json: line 2: "), "{told:?}");
    assert!(told.stderr.contains("by hand:\n{") && told.stdout.is_empty(), "{told:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "{\n  \"mcpServers\": {,}\n}");
    let unknown = install(home.path(), &["--client", "emacs"]).with(2);
    assert!(unknown.stderr.contains("possible values: claude-code, claude-desktop, vscode"), "{unknown:?}");
    let toolset = install(home.path(), &["--client", "cursor", "--toolset", "work"]).with(2);
    assert!(toolset.stderr.contains("the toolsets are"), "a host would not show it: {toolset:?}");
    assert!(install(home.path(), &["--client", "cursor", "--name", "a b"]).with(2).stderr.contains("is no name"));
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
}

#[test]
fn a_named_file_in_no_directory_makes_none() {
    let home = tempfile::tempdir().unwrap();
    let refused = install(home.path(), &["--client", "cursor", "--file", "absent/mcp.json"]).with(2);
    assert!(refused.stderr.contains("there is no directory absent"), "{refused:?}");
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}
