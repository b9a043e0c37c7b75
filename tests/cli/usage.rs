//! What is said before any node is asked.

use crate::fixture::{Ended, nodectl};

fn refused(arguments: &[&str]) -> String {
    let ended = nodectl(arguments).with(2);
    assert_eq!(ended.stdout, "", "nothing but the answer goes to standard output");
    ended.stderr
}

#[test]
fn only_commands_that_work_are_listed() {
    let help = nodectl(&["-h"]).with(0).stdout;
    let listed = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let expected = "dev run status doctor debug-bundle events task workflow schedule queue dlq approval worker tool peer key token home device actor clock audit blob completions help";
    assert_eq!(names.join(" "), expected);
}

#[test]
fn an_unknown_command_is_a_usage_error() {
    let told = refused(&["taks"]);
    assert!(told.starts_with("error: unrecognized subcommand 'taks'\n\n  tip: "), "{told}");
    for missing in ["top", "home", "model", "config", "token"] {
        refused(&[missing]);
    }
}

#[test]
fn a_missing_argument_is_named_with_the_usage() {
    let told = refused(&["task", "submit"]);
    assert!(told.contains("<FILE|--kind <KIND>>"), "{told}");
    assert!(refused(&["run"]).contains("<FILE>"));
    assert!(refused(&["dev", "0"]).contains("0 is not in 1..=64"));
}

#[test]
fn wrong_values_are_told_with_the_right_ones() {
    for (arguments, told) in [
        (&["task", "submit", "--kind", "nop"][..], "\"nop\" is not a kind (inference, embed, generate, process,"),
        (&["task", "ls", "--state", "done"], "\"done\" is not a state (blocked, delayed, ready,"),
        (&["task", "wait", "01J", "--timeout", "5y"], "\"5y\" is not a duration, as 200ms, 5s, 10m, 1h or 7d"),
        (&["task", "priority", "01J", "1001"], "priority 1001 is above 1000"),
        (&["workflow", "ls", "--state", "dead"], "\"dead\" is not a state (running, succeeded, failed, cancelled)"),
        (&["run", "x.yaml", "--input", "k"], "\"k\" is not K=V"),
        (&["status", "-o", "xml"], "[possible values: table, wide, json, yaml]"),
        (&["blob", "get", "x"], "\"x\" is not a content id"),
        (
            &["tool", "call", "list_peers", "--scope", "all"],
            "\"all\" is not a scope; the scopes are read, submit, operate",
        ),
        (&["audit", "--limit", "0"], "0 is not in 1..=10000"),
        (&["tool", "call", "list_peers", "[]"], "the arguments are no JSON object: found a list; `nodectl tool schema"),
        (&["tool", "call", "list_peers", "@/no/such/file"], "cannot read /no/such/file: "),
        (&["actor", "call", "postman", "{}"], "ledger, worker, registry, clock, device, blob, node, peer, supervisor"),
    ] {
        let words = refused(arguments);
        assert!(words.contains(told), "{arguments:?}: {words}");
    }
}

#[test]
fn a_node_elsewhere_takes_a_ticket_and_says_for_whom() {
    let dir = tempfile::tempdir().unwrap();
    let (key, ticket) = (dir.path().join("key"), dir.path().join("ticket"));
    let (key, ticket) = (key.to_str().unwrap(), ticket.to_str().unwrap());
    let elsewhere = ["--node", "/ip4/127.0.0.1/tcp/1", "--key", key, "status"];
    let told = refused(&elsewhere);
    assert!(told.contains("--node needs a --ticket; have one issued") && told.contains("--peer 12D3Koo"), "{told}");
    assert_eq!(refused(&elsewhere), told, "it keeps its key");
    std::fs::write(ticket, "nonsense").unwrap();
    let told = refused(&[&elsewhere[..], &["--ticket", ticket]].concat());
    assert!(told.contains("it is not a ticket") && told.contains("--peer 12D3Koo"), "{told}");
    assert!(refused(&["--node", "here", "--key", key, "status"]).contains("is not a multiaddr"));
    assert!(refused(&["--ticket", ticket, "status"]).contains("--ticket needs a --node"));
    assert!(refused(&[&["--control", "socket"], &elsewhere[..]].concat()).contains("--control names another node"));
    assert!(refused(&["--node", "/ip4/127.0.0.1/tcp/1", "doctor"]).contains("doctor looks at this machine"));
}

#[test]
fn no_node_is_exit_code_4_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let socket = socket.to_str().unwrap();
    let file = dir.path().join("task.yaml");
    std::fs::write(&file, "kind: noop\n").unwrap();
    let file = file.to_str().unwrap();
    for arguments in [
        &["status"][..],
        &["task", "submit", file],
        &["task", "submit", "--kind", "noop", "--count", "3", "--wait"],
        &["task", "submit", "--kind", "noop", "--timeout", "100ms"],
        &["task", "wait", "01JD0Z8V3N5Q7R9T1W3Y5A7C9E-k3v9x2aq", "--timeout", "100ms"],
        &["task", "ls"],
        &["workflow", "ls"],
        &["peer", "ls"],
        &["actor", "tree"],
        &["audit"],
    ] {
        let Ended { stderr, stdout, .. } = nodectl(&[&["--control", socket], arguments].concat()).with(4);
        assert_eq!(stdout, "");
        let told = format!("nodectl: no node listens on {socket}: No such file or directory (os error 2); start one");
        assert!(stderr.starts_with(&told), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_plan_and_completions_need_no_node() {
    let plan = nodectl(&["run", "examples/hello.yaml", "--dry-run", "-o", "json"]).with(0).json();
    assert_eq!(plan["critical_path"], serde_json::json!(["ready", "pause", "greet"]));
    assert_eq!(plan["steps"][2]["needs"], serde_json::json!(["pause"]));
    assert_eq!(plan["steps"][2]["tasks"], 1);
    assert_eq!(plan["files"].as_array().unwrap().len(), 2);
    for shell in ["bash", "zsh", "fish"] {
        assert!(nodectl(&["completions", shell]).with(0).stdout.contains("nodectl"));
    }
}

#[test]
fn a_plan_reads_like_a_table() {
    let plan = nodectl(&["run", "examples/hello.yaml", "--dry-run"]).with(0);
    assert_eq!(
        plan.stdout,
        "STEP   KIND     TASKS  NEEDS  MODEL  REQUIRES\n\
         ready  noop     1      -      -      -\n\
         pause  sleep    1      ready  -      -\n\
         greet  process  1      pause  -      -\n\
         \n\
         critical path: ready -> pause -> greet\n\
         2 files to upload, 1.1 KiB\n\
         nothing was submitted\n"
    );
}

#[test]
fn a_reader_that_has_read_enough_is_no_error() {
    let script = format!("{} completions bash | head -1", crate::fixture::NODECTL);
    let ended: Ended = std::process::Command::new("bash").args(["-c", &script]).output().unwrap().into();
    assert_eq!(ended.with(0).stderr, "");
}

#[test]
fn an_invalid_namespace_is_refused_before_a_node_is_asked() {
    for command in [
        &["queue", "pause"][..],
        &["queue", "resume"],
        &["queue", "clear"],
        &["task", "ls"],
        &["approval", "ls"],
        &["dlq", "ls"],
        &["dlq", "retry", "--all"],
    ] {
        for name in ["A b", ""] {
            let refused = nodectl(&[command, &["--namespace", name]].concat()).with(2);
            assert!(refused.stderr.contains("is no namespace"), "{command:?}: {refused:?}");
        }
    }
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for file in [fifo.to_str().unwrap(), "/dev/zero"] {
        let key = dir.path().join("operator.key");
        let remote = ["--node", "/ip4/127.0.0.1/tcp/9", "--key", key.to_str().unwrap(), "--ticket", file, "status"];
        for arguments in [&["run", file][..], &["task", "submit", file], &remote] {
            let refused = nodectl(arguments).with(2);
            assert!(refused.stderr.contains("no regular file"), "{arguments:?}: {refused:?}");
        }
        for option in ["--check-config", "--config"] {
            let output = std::process::Command::new(crate::fixture::NODE).args([option, file]).output().unwrap();
            let refused = Ended::from(output).with(2);
            assert!(refused.stderr.contains("no regular file"), "{option}: {refused:?}");
        }
    }
}

#[test]
fn a_configuration_that_does_not_start_is_refused_by_its_check_in_the_same_words() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("node.toml");
    let absent = dir.path().join("absent/x").display().to_string();
    for (lines, words) in [
        ("listen = [\"127.0.0.1:7400\"]".to_owned(), "node.toml:2: listen: "),
        ("bootstrap = [\"/ip4/127.0.0.1/tcp/99999\"]".to_owned(), "node.toml:2: bootstrap: "),
        (format!("cluster_key = {absent:?}"), "node.toml:2: cluster_key: there is no file"),
        ("cluster_key = \"/etc/passwd\"".to_owned(), "holds no cluster key"),
        (format!("ticket_file = {absent:?}"), "node.toml:2: ticket_file: "),
        (format!("control = {absent:?}"), "node.toml:2: control: there is no directory"),
        (format!("http = {{listen = \"127.0.0.1:0\", tokens = {absent:?}}}"), "http.tokens: there is no file"),
        ("http = {origins = [\"app\"]}".to_owned(), "http.origins: \"app\" is none"),
        ("namespaces = {\"A b\" = 1}".to_owned(), "is no name of a namespace"),
    ] {
        std::fs::write(&config, format!("mdns = false\n{lines}\n[inference]\nenabled = false\n")).unwrap();
        let file = config.to_str().unwrap();
        let data = dir.path().join("data");
        let node = |arguments: &[&str]| {
            Ended::from(std::process::Command::new(crate::fixture::NODE).args(arguments).output().unwrap()).with(2)
        };
        let checked = node(&["--check-config", file]);
        assert!(checked.stderr.contains(words), "{lines}: {checked:?}");
        assert_eq!(checked.stderr, node(&["--config", file, "--data-dir", data.to_str().unwrap()]).stderr);
        assert!(!data.exists(), "nothing was begun");
    }
}
