use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use magpie::executor::{ProcessConfig, StopReason, stop_channel};
use magpie_core::limits;
use magpie_core::payload::{JsonText, Payload};
use magpie_core::task::{AttemptResult, TaskKind, TaskSpec};
use magpie_core::time::DurationMs;
use serde_json::{Value, json};

use super::fixture::{Fixture, PATIENCE, attempt, error_of, eventually, len_of, process, shell};

fn any() -> ProcessConfig {
    ProcessConfig { allow: vec!["*".to_owned()], ..ProcessConfig::default() }
}

#[tokio::test]
async fn a_command_reads_its_input_and_what_it_needs_from_standard_input() {
    let fixture = Fixture::new();
    let mut task = process(&["cat"]);
    assert_eq!(fixture.output(task.clone()).await, json!({"input": null, "needs": {}}));
    task.input = Payload::Inline(JsonText::parse(r#"{"n": 1}"#).unwrap());
    let split = Payload::Inline(JsonText::parse(r#"["a", "b"]"#).unwrap());
    task.needs = BTreeMap::from([("split".to_owned(), split.clone()), ("a \"b\"".to_owned(), split)]);
    let needs = json!({"split": ["a", "b"], "a \"b\"": ["a", "b"]});
    assert_eq!(fixture.output(task).await, json!({"input": {"n": 1}, "needs": needs}));
    assert!(fixture.is_swept());
}

#[tokio::test]
async fn large_values_stand_beside_it_as_files() {
    let fixture = Fixture::new();
    let large = serde_json::to_string(&json!({"text": "x".repeat(100_000)})).unwrap();
    let blob = fixture.blobs.put(large.as_bytes());
    let mut task = shell("cat; cmp input.json needs/embed.json >&2; wc -c <needs/embed.json >&2", &[]);
    task.input = Payload::Blob(blob);
    task.needs = BTreeMap::from([("embed".to_owned(), Payload::Blob(blob))]);
    let outcome = fixture.run(task).await;
    assert_eq!(outcome.log_tail.trim(), large.len().to_string());
    let AttemptResult::Succeeded { output: Payload::Inline(text) } = outcome.result else { panic!("{outcome:?}") };
    let expected = json!({"input": {"file": "input.json"}, "needs": {"embed": {"file": "needs/embed.json"}}});
    assert_eq!(text.to_value(), expected);
}

#[tokio::test]
async fn it_starts_among_its_files_and_nothing_else() {
    let fixture = Fixture::new();
    let mut task = process(&["./bin/list"]);
    task.files =
        vec![fixture.file("bin/list", b"#!/bin/sh\nfind . | sort\n", true), fixture.file("data.txt", b"x", false)];
    assert_eq!(fixture.output(task).await, ".\n./bin\n./bin/list\n./data.txt\n");
    assert!(fixture.is_swept());
}

#[tokio::test]
async fn files_that_leave_the_directory_or_clash_are_refused() {
    let fixture = Fixture::new();
    for paths in [&["../x"][..], &["/tmp/x"], &["a", "a"], &["a", "a/b"], &["a/b", "a"]] {
        let mut task = process(&["true"]);
        task.files = paths.iter().map(|path| fixture.file(path, b"x", false)).collect();
        let (code, message, retryable) = fixture.error(task).await;
        assert_eq!((code.as_str(), retryable), ("bad_file", false), "{paths:?}: {message}");
    }
    let mut task = process(&["true"]);
    task.needs = BTreeMap::from([("../../x".to_owned(), Payload::Blob(fixture.blobs.put(b"1")))]);
    assert_eq!(fixture.error(task).await.0, "bad_file");
    assert!(fixture.is_swept());
}

#[tokio::test]
async fn it_knows_its_fence_and_little_of_the_node() {
    let fixture = Fixture::new();
    let output = fixture.output(shell("env; pwd; umask", &[])).await;
    let output = output.as_str().unwrap();
    let names: Vec<&str> = output.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    let expected =
        ["HOME", "LANG", "MAGPIE_ATTEMPT", "MAGPIE_EPOCH", "MAGPIE_PROGRESS", "MAGPIE_TASK_ID", "PATH", "PWD"];
    assert!(names.iter().all(|name| expected.contains(name)), "{names:?}");
    assert!(output.contains(&format!("MAGPIE_EPOCH={}\n", (1u64 << 32) + 2)) && output.contains("MAGPIE_ATTEMPT=2\n"));
    let home = output.lines().find_map(|line| line.strip_prefix("HOME=")).unwrap();
    assert!(output.contains(&format!("\n{home}\n")) && home.starts_with(fixture.path("work").to_str().unwrap()));
    assert!(output.ends_with("0077\n"), "{output}");
}

#[tokio::test]
async fn an_exit_status_fails_the_attempt_with_its_last_words() {
    let fixture = Fixture::new();
    let mut task = shell("echo reading >&2; echo 'no such row' >&2; exit 3", &[]);
    let outcome = fixture.run(task.clone()).await;
    assert_eq!(outcome.log_tail, "reading\nno such row\n");
    assert_eq!(error_of(outcome), ("exit_status".into(), "exit status 3: no such row".into(), true));
    task.retry.permanent_exit = vec![3];
    assert!(!fixture.error(task).await.2);
    let (code, message, retryable) = fixture.error(shell("kill -SEGV $$", &[])).await;
    assert_eq!((code.as_str(), retryable), ("signal", true));
    assert!(message.starts_with("killed by signal 11 (SIGSEGV)"), "{message}");
}

#[tokio::test]
async fn only_what_the_node_allows_is_run() {
    let fixture = Fixture::with(ProcessConfig { allow: vec!["cat".to_owned()], ..ProcessConfig::default() });
    assert!(fixture.executors.kinds().contains(&TaskKind::Process));
    assert!(fixture.output(process(&["cat"])).await.is_object());
    let (code, message, retryable) = fixture.error(process(&["sh", "-c", "true"])).await;
    assert_eq!((code.as_str(), retryable), ("command_not_allowed", false));
    assert!(message.contains("add it to process.allow"), "{message}");
    let open = Fixture::new();
    let mut not_executable = process(&["./data"]);
    not_executable.files = vec![open.file("data", b"x", false)];
    for (task, code) in [
        (process(&["no-such-command"]), "command_not_found"),
        (process(&["/no/such/command"]), "command_not_found"),
        (process(&["./missing"]), "command_not_found"),
        (not_executable, "cannot_start"),
        (process(&["true", &"x".repeat(200_000)]), "cannot_start"),
        (process(&[]), "bad_input"),
    ] {
        let (found, message, retryable) = open.error(task).await;
        assert_eq!((found.as_str(), retryable), (code, false), "{message}");
    }
}

#[tokio::test]
async fn an_output_above_64_kib_is_a_blob() {
    let fixture = Fixture::new();
    let outcome = fixture.run(shell("head -c 200000 /dev/zero | tr '\\0' x", &[])).await;
    let AttemptResult::Succeeded { output: Payload::Blob(blob) } = outcome.result else { panic!("{outcome:?}") };
    assert_eq!(fixture.blobs.get(blob), format!("\"{}\"", "x".repeat(200_000)));
}

#[tokio::test]
async fn a_command_that_prints_100_mb_is_cut_off() {
    let fixture = Fixture::new();
    let (code, message, retryable) = fixture.error(process(&["head", "-c", "100000000", "/dev/zero"])).await;
    assert_eq!((code.as_str(), retryable), ("output_too_large", false));
    assert!(message.contains("process.output_bytes_max"), "{message}");
    let small = Fixture::with(ProcessConfig { output_bytes_max: 10, ..any() });
    assert_eq!(small.output(process(&["printf", "1234567890"])).await, json!(1_234_567_890));
    assert_eq!(small.error(shell("printf 1234567890x; sleep 1000", &[])).await.0, "output_too_large");
    assert_eq!(small.error(process(&["printf", "a\\001\\001"])).await.0, "output_too_large", "15 bytes of JSON");
    assert_eq!(small.error(process(&["yes"])).await.0, "output_too_large");
}

#[tokio::test]
async fn a_log_of_any_length_keeps_its_end() {
    let fixture = Fixture::new();
    let outcome = fixture.run(shell("head -c 50000000 /dev/zero | tr '\\0' x >&2; echo end >&2", &[])).await;
    assert_eq!(outcome.log_tail.len(), limits::LOG_TAIL_BYTES_MAX);
    assert!(outcome.log_tail.ends_with("xxxend\n"));
}

#[tokio::test]
async fn a_large_input_and_a_large_output_do_not_wait_for_each_other() {
    let fixture = Fixture::new();
    let needs = (0..100).map(|step| {
        let text = JsonText::of(&json!("x".repeat(60_000)));
        (format!("step{step}"), Payload::Inline(text))
    });
    let mut task = shell("head -c 5000000 /dev/zero | tr '\\0' y; exec cat", &[]);
    task.needs = needs.collect();
    let Value::String(output) = fixture.output(task).await else { panic!("it is text") };
    assert!(output.len() > 11_000_000 && output.ends_with("x\"}}"), "{}", output.len());
}

#[tokio::test]
async fn a_timeout_ends_a_command_softly_first() {
    let fixture = Fixture::new();
    let file = fixture.path("said");
    let script = "trap 'echo stopped >$1; exit 0' TERM; echo ready >&2; while :; do sleep 0.01; done";
    let task = TaskSpec { timeout: DurationMs(300), ..shell(script, &[&file]) };
    let outcome = fixture.run(task).await;
    assert!(outcome.log_tail.starts_with("ready\n") && outcome.ran_ms >= 300, "{outcome:?}");
    let (code, message, retryable) = error_of(outcome);
    assert_eq!((code.as_str(), retryable), ("timeout", true));
    assert!(message.contains("300ms"), "{message}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "stopped\n");
    assert!(fixture.is_swept());
}

#[tokio::test]
async fn a_command_deaf_to_sigterm_is_killed_after_its_grace_and_at_once_when_fenced() {
    let fixture = Fixture::new();
    let grace = Duration::from_millis(limits::PROCESS_STOP_GRACE_MS);
    for (reason, at_least, under) in [
        (StopReason::Cancelled, grace, PATIENCE),
        (StopReason::Fenced, Duration::ZERO, grace),
        (StopReason::Shutdown, Duration::ZERO, grace),
    ] {
        let file = fixture.path(reason.name());
        let (stopper, running) =
            fixture.start(shell("trap '' TERM; echo ready >$1; while :; do sleep 1; done", &[&file]));
        tokio::task::spawn_blocking(move || eventually("a deaf command", || (len_of(&file) > 0).then_some(())))
            .await
            .unwrap();
        let begin = Instant::now();
        stopper.stop(reason);
        let outcome = tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap();
        assert!(begin.elapsed() >= at_least && begin.elapsed() < under, "{reason:?}: {:?}", begin.elapsed());
        assert_eq!(error_of(outcome).0, reason.name());
    }
    assert!(fixture.is_swept());
}

#[tokio::test]
async fn a_memory_hog_ends_with_the_limit_in_words() {
    let fixture = Fixture::with(ProcessConfig { memory_bytes_max: 300_000_000, ..any() });
    let (code, message, retryable) = fixture.error(shell("head -c 2000000000 /dev/zero | tail -n 1", &[])).await;
    assert_eq!((code.as_str(), retryable), ("exit_status", true));
    assert!(
        message.contains("exhausted") && message.contains("memory_bytes_max of the node is 300000000"),
        "{message}"
    );
}

#[tokio::test]
async fn a_cpu_hog_ends_with_the_limit_in_words() {
    let fixture = Fixture::with(ProcessConfig { cpu_ms_max: 500, ..any() });
    let (code, message, _) = fixture.error(shell("while :; do :; done", &[])).await;
    assert_eq!(code, "signal");
    assert!(message.contains("SIGXCPU") && message.contains("process.cpu_ms_max of the node is 500"), "{message}");
}

#[tokio::test]
async fn thirty_commands_run_beside_each_other() {
    let fixture = Fixture::new();
    let running: Vec<_> = (0..30).map(|number| fixture.start(process(&["echo", &number.to_string()]))).collect();
    for (number, (_stopper, task)) in running.into_iter().enumerate() {
        let outcome = tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
        let expected = AttemptResult::Succeeded { output: Payload::Inline(JsonText::of(&json!(number))) };
        // The newline that `echo` adds is white space around the JSON value.
        assert_eq!(outcome.result, expected, "{outcome:?}");
    }
    assert!(fixture.is_swept());
}

/// A small disk below `at`, if this process may mount one; it goes with the test's namespace or by hand.
struct SmallDisk(std::path::PathBuf);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_disk_lets_not_begin_is_no_attempt() {
    let fixture = Fixture::new();
    let disk = SmallDisk(fixture.path("work"));
    let mount = ["-t", "tmpfs", "-o", "size=1m,nr_inodes=16", "tmpfs"];
    let mounted = std::process::Command::new("mount").args(mount).arg(&disk.0).output();
    if !mounted.is_ok_and(|mounted| mounted.status.success()) {
        println!("SKIPPED: this process may not mount a file system of its own; run it as root");
        return;
    }
    let file = fixture.file("large", &[1; 2 << 20], false);
    let mut full = shell("echo 7", &[]);
    full.files.push(file);
    for _ in 0..20 {
        let attempt = attempt(full.clone());
        let begun = attempt.begun.subscribe();
        let (_stopper, stop) = stop_channel();
        let refused = fixture.executors.run(attempt, stop).await.unwrap_err();
        assert!(refused.why.contains("No space left on device"), "{refused}");
        assert!(!*begun.borrow(), "nothing of it ran");
    }
    assert_eq!(fixture.output(shell("echo 7", &[])).await, 7, "what it needs is given back each time");
}

#[tokio::test]
async fn what_is_stopped_while_it_prepares_is_no_attempt() {
    let fixture = Fixture::new();
    for reason in [StopReason::Drained, StopReason::LeaseEnded] {
        let attempt = attempt(shell("echo 7", &[]));
        let begun = attempt.begun.subscribe();
        let (stopper, stop) = stop_channel();
        stopper.stop(reason);
        let refused = fixture.executors.run(attempt, stop).await.unwrap_err();
        assert!(refused.why.contains(reason.in_words()), "{refused}");
        assert!(!*begun.borrow() && fixture.is_swept(), "nothing of it ran");
    }
}
