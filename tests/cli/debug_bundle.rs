//! One file for somebody who helps.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::fixture::{Node, nodectl};

fn read(file: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

#[test]
fn a_bundle_says_what_the_node_does_and_holds_nothing_secret() {
    let node = Node::start_with_key("");
    let file = node.dir.path().join("bundle.json").display().to_string();
    node.json(&["task", "submit", "--kind", "noop"]);
    let told = node.json(&["debug-bundle", &file]);
    assert_eq!((&told["file"], &told["unanswered"]), (&json!(file), &json!([])), "{told:#}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let bundle = read(&file);
    assert_eq!(bundle["node"]["status"]["node"]["status"]["peer_id"], node.json(&["status"])["peer_id"]);
    for (name, answer) in bundle["node"].as_object().unwrap() {
        assert!(answer.get("error").is_none(), "{name}: {answer:#}");
    }
    let lines = bundle["node"]["logs"].to_string();
    assert!(lines.contains("node ready"), "{lines}");
    assert!(!bundle["doctor"]["checks"].as_array().unwrap().is_empty());
    let text = fs::read_to_string(&file).unwrap();
    let secrets = secrets(node.dir.path());
    assert!(!secrets.is_empty(), "no key was found");
    for secret in secrets {
        assert!(!text.contains(&secret), "a key is in the bundle");
    }
    // Nothing is written over.
    let told = node.ctl(&["debug-bundle", &file]).with(2).stderr;
    assert!(told.contains("exists"), "{told}");
    assert_eq!(read(&file), bundle);
}

/// What stands in the files of keys below `dir`, word by word.
fn secrets(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(secrets(&path));
        } else if path.extension().is_some_and(|extension| extension == "key") {
            let text = fs::read_to_string(&path).unwrap();
            found.extend(text.split_whitespace().filter(|word| word.len() >= 32).map(str::to_owned));
        }
    }
    found
}

#[test]
fn without_a_node_the_bundle_says_so_and_what_the_doctor_finds() {
    let dir = tempfile::tempdir().unwrap();
    let (socket, file) = (dir.path().join("control.sock"), dir.path().join("bundle.json").display().to_string());
    let told = nodectl(&["--control", socket.to_str().unwrap(), "debug-bundle", &file, "-o", "json"]).with(0).json();
    assert_eq!(told["unanswered"].as_array().unwrap().len(), 14);
    let bundle = read(&file);
    assert!(bundle["node"]["status"]["error"].as_str().unwrap().contains("no node listens on"), "{bundle:#}");
    let checks = bundle["doctor"]["checks"].as_array().unwrap();
    assert!(checks.iter().any(|check| check["name"] == "node" && check["verdict"] == "fault"), "{checks:#?}");
}
