//! Bad input: exit code, file and line, the fix; nothing changed.

use std::fs;

use crate::fixture::{Node, nodectl};

#[test]
fn a_wrong_file_is_refused_with_its_line_and_the_fix_before_the_node_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    for (name, text, told) in [
        ("key.yaml", "name: w\nsteps:\n  - name: a\n    kind: noop\n    colour: red\n", "key.yaml:5: "),
        ("kind.yaml", "kind: nop\n", "kind.yaml:1: "),
        (
            "cycle.yaml",
            "name: w\nsteps:\n  - {name: a, kind: noop, needs: [b]}\n  - {name: b, kind: noop, needs: [a]}\n",
            "cycle.yaml:4: ",
        ),
        (
            "reference.yaml",
            "name: w\nsteps:\n  - name: a\n    kind: sleep\n    input: {for: \"${steps.b.output}\"}\n",
            "reference.yaml:5: ",
        ),
        ("missing.yaml", "kind: process\nrun: [python3, a.py]\nfiles: [a.py]\n", "missing.yaml:3: there is no file"),
        ("broken.json", "{\n  \"kind\": \"noop\",\n", "broken.json:"),
        ("empty.yaml", "", "empty.yaml"),
    ] {
        fs::write(dir.path().join(name), text).unwrap();
        let ended = nodectl(&["run", &path(name)]).with(2);
        assert!(ended.stderr.starts_with(&format!("nodectl: {}", path(told))), "{name}: {}", ended.stderr);
        assert!(
            ended.stderr.contains("\n   = ") || ended.stderr.contains("\n    = ") || ended.stderr.contains("\n  = ")
        );
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn foreign_and_damaged_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("task");
    let path = file.to_str().unwrap();
    let damaged: Vec<u8> = (0..4_096u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let deep = "[".repeat(100_000);
    let cases: [(&[u8], &str); 5] = [
        (&damaged, "is not UTF-8"),
        (b"\x7fELF\x02\x01\x01\0", ""),
        (b"kind: noop\n---\nkind: noop\n", ""),
        (b"kind: &a [*a]\n", ""),
        (deep.as_bytes(), ""),
    ];
    for (bytes, told) in cases {
        fs::write(&file, bytes).unwrap();
        let ended = nodectl(&["task", "submit", path]).with(2);
        assert!(ended.stderr.starts_with(&format!("nodectl: {path}")) && ended.stderr.contains(told), "{ended:#?}");
        assert!(ended.stderr.len() < 1_000, "an error is read by people: {}", ended.stderr);
    }
    let missing = nodectl(&["run", dir.path().join("none.yaml").to_str().unwrap()]).with(2);
    assert!(missing.stderr.contains("there is no such file"), "{}", missing.stderr);
}

#[test]
fn a_workflow_is_no_task_and_a_task_no_workflow() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("task.yaml");
    fs::write(&path, "kind: noop\n").unwrap();
    let told = nodectl(&["task", "submit", "examples/hello.yaml"]).with(2).stderr;
    assert_eq!(told, "nodectl: examples/hello.yaml is a workflow: submit it with `nodectl run`\n");
    let told = nodectl(&["workflow", "submit", path.to_str().unwrap()]).with(2).stderr;
    assert!(told.contains("is a task: submit it with"), "{told}");
}

#[test]
fn parameters_that_the_file_does_not_have_are_refused() {
    let told = nodectl(&["run", "examples/hello.yaml", "--input", "whom=me"]).with(2).stderr;
    assert_eq!(told, "nodectl: --input: there is no input \"whom\"; the file has who\n");
}

#[test]
fn what_the_home_refuses_is_told_with_the_line_too() {
    let node = Node::start();
    let workflow = "name: w\nsteps:\n  - name: a\n    kind: noop\n    requires: gpu.vram >=\n";
    let file = node.file("w.yaml", workflow);
    for arguments in [&["run", &file][..], &["workflow", "submit", &file]] {
        let ended = node.ctl(arguments).with(2);
        assert!(ended.stderr.starts_with(&format!("nodectl: {file}:5: ")), "{}", ended.stderr);
        assert!(ended.stderr.contains("\n  = write it as gpu.vram >= 16GiB"), "{}", ended.stderr);
    }
    let wrong = node.ctl(&["task", "submit", "--kind", "noop", "--requires", "a &&"]).with(2);
    assert!(wrong.stderr.contains("/requires"), "{}", wrong.stderr);
    let process = node.ctl(&["task", "submit", "--kind", "process"]).with(2);
    assert_eq!(process.stderr, "nodectl: run: a task of kind process needs run (add run: [COMMAND, ARGUMENT, ...])\n");
    assert_eq!(node.json(&["status"])["queue"]["submitted"], 0, "nothing was changed");
}

#[test]
fn what_is_not_there_is_exit_code_3() {
    let node = Node::start();
    let id = node.json(&["task", "submit", "--kind", "noop", "--wait"])["id"].as_str().unwrap().to_owned();
    // Another task of the same home.
    let other = format!("00000000000000000000000000{}", &id[26..]);
    for arguments in [
        &["task", "get", &other][..],
        &["task", "wait", &other, "--timeout", "5s"],
        &["task", "cancel", &other],
        &["task", "why-pending", &other],
        &["workflow", "get", &id],
        &["workflow", "graph", &other],
        &["task", "get", "7"],
        &["actor", "kill", "nobody"],
        &["blob", "stat", "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"],
    ] {
        let ended = node.ctl(arguments).with(3);
        assert_eq!(ended.stdout, "");
        assert!(ended.stderr.starts_with("nodectl: "), "{}", ended.stderr);
    }
    let told = node.ctl(&["task", "get", "../etc/passwd"]).with(2).stderr;
    assert!(told.contains("neither is nor begins a task id"), "{told}");
}

#[test]
fn an_id_is_as_short_as_it_can_be() {
    let node = Node::start();
    let many = node.ctl(&["task", "submit", "--kind", "noop", "--count", "3", "--durability", "memory", "-o", "json"]);
    let ids: Vec<String> =
        many.with(0).json_lines().iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect();
    // Made in the same millisecond: they have the first ten letters in common.
    let ambiguous = node.ctl(&["task", "get", &ids[0][..10]]).with(2);
    assert!(ambiguous.stderr.contains("begins several tasks; type more of one of them:"), "{}", ambiguous.stderr);
    assert!(ids.iter().all(|id| ambiguous.stderr.contains(id)), "{}", ambiguous.stderr);
    for id in &ids {
        assert_eq!(node.json(&["task", "get", &id[..26]])["id"], id.as_str());
        assert_eq!(node.json(&["task", "get", &id[..30].to_lowercase()])["id"], id.as_str());
    }
}

#[test]
fn a_request_that_the_actor_does_not_know_is_refused_in_words() {
    let node = Node::start();
    let told = node.ctl(&["actor", "call", "ledger", "\"statistics\""]).with(2).stderr;
    assert!(told.contains("unknown variant `statistics`, expected one of"), "{told}");
    let told = node.ctl(&["actor", "call", "ledger", "{"]).with(2).stderr;
    assert!(told.starts_with("nodectl: the request is not JSON: "), "{told}");
    // A person is no peer.
    let told = node.ctl(&["actor", "call", "ledger", r#"{"renew": []}"#]).with(6).stderr;
    assert_eq!(told, "nodectl: this needs the role peer, the caller has operator\n");
}
