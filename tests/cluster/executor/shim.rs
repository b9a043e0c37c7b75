use std::path::Path;
use std::process::Command;

use magpie::executor::StopReason;
use magpie_core::task::{AttemptResult, TaskSpec};
use serde_json::json;

use super::fixture::{
    Fixture, PATIENCE, error_of, eventually, is_alive, kill_9, parent_of, pid_in, process, shell, stand_in_report,
    start_stand_in, stop,
};

/// A command that leaves a process behind in a session of its own, without a parent, and says which: `$1` gets the
/// daemon's process id, `$2` its own.
fn with_daemon(directory: &Path, afterwards: &str) -> TaskSpec {
    let daemon = r#"(setsid sh -c 'echo $$ >"$0"; exec sleep 1000' "$1" &)"#;
    let wait = r#"while ! [ -s "$1" ]; do sleep 0.01; done"#;
    let script = format!(r#"{daemon}; {wait}; echo $$ >"$2"; {afterwards}"#);
    shell(&script, &[&directory.join("daemon"), &directory.join("command")])
}

fn gone(pid: u32) {
    eventually("the end of a process", || (!is_alive(pid)).then_some(()));
}

#[tokio::test]
async fn a_daemon_does_not_outlive_its_command() {
    let fixture = Fixture::new();
    assert_eq!(fixture.output(with_daemon(fixture.directory.path(), "echo 1")).await, json!(1));
    assert!(!is_alive(pid_in(&fixture.path("daemon"))), "the attempt has ended, so it is gone already");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_does_not_outlive_a_stop() {
    for reason in [StopReason::Cancelled, StopReason::Fenced] {
        let fixture = Fixture::new();
        let (stopper, running) = fixture.start(with_daemon(fixture.directory.path(), "exec sleep 1000"));
        let (command, daemon) = (pid_in(&fixture.path("command")), pid_in(&fixture.path("daemon")));
        assert!(is_alive(command) && is_alive(daemon));
        stopper.stop(reason);
        let outcome = tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap();
        assert_eq!(error_of(outcome).0, reason.name());
        assert!(!is_alive(command) && !is_alive(daemon), "the attempt has ended, so they are gone already");
        assert!(fixture.is_swept());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outlives_an_attempt_that_is_dropped() {
    let fixture = Fixture::new();
    let (_stopper, running) = fixture.start(with_daemon(fixture.directory.path(), "exec sleep 1000"));
    let (command, daemon) = (pid_in(&fixture.path("command")), pid_in(&fixture.path("daemon")));
    running.abort();
    gone(command);
    gone(daemon);
    eventually("an empty work directory", || fixture.is_swept().then_some(()));
}

#[test]
fn nothing_outlives_a_worker_killed_with_9() {
    let directory = tempfile::tempdir().unwrap();
    let mut worker = start_stand_in(directory.path(), vec![with_daemon(directory.path(), "exec sleep 1000")], None);
    let (command, daemon) = (pid_in(&directory.path().join("command")), pid_in(&directory.path().join("daemon")));
    let shim = parent_of(command);
    assert_eq!((parent_of(daemon), parent_of(shim)), (shim, worker.id()), "the shim adopts orphans");
    kill_9(worker.id());
    worker.wait().unwrap();
    for pid in [command, daemon, shim] {
        gone(pid);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outlives_a_shim_killed_with_9() {
    let fixture = Fixture::new();
    let (_stopper, running) = fixture.start(with_daemon(fixture.directory.path(), "exec sleep 1000"));
    let (command, daemon) = (pid_in(&fixture.path("command")), pid_in(&fixture.path("daemon")));
    kill_9(parent_of(command));
    let outcome = tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap();
    let (code, _, retryable) = error_of(outcome);
    assert_eq!((code.as_str(), retryable), ("shim_lost", true));
    assert!(!is_alive(command) && !is_alive(daemon), "the attempt has ended, so they are gone already");
}

#[test]
fn what_was_killed_together_with_its_shim_is_ended_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let mut worker = start_stand_in(directory.path(), vec![with_daemon(directory.path(), "exec sleep 1000")], None);
    let (command, daemon) = (pid_in(&directory.path().join("command")), pid_in(&directory.path().join("daemon")));
    let shim = parent_of(command);
    for pid in [shim, worker.id()] {
        stop(pid);
    }
    for pid in [shim, worker.id()] {
        kill_9(pid);
    }
    worker.wait().unwrap();
    assert!(is_alive(command) && is_alive(daemon));
    let again = start_stand_in(directory.path(), Vec::new(), None).wait().unwrap();
    assert!(again.success() && !is_alive(command) && !is_alive(daemon));
}

#[tokio::test]
async fn a_tree_of_processes_is_killed_to_its_leaves() {
    let fixture = Fixture::new();
    let leaves = fixture.path("leaves");
    let script = r#"grow() { [ $1 = 0 ] && { sh -c 'echo $PPID' >>"$leaves"; exec sleep 1000; }
        (setsid sh -c "$self" sh "$leaves" $(($1 - 1)) &) ; (grow $(($1 - 1)) &) ; sleep 1000; }
        leaves=$1; grow $2"#;
    let script = format!("self='{}'\n{script}", script.replace('\'', r"'\''"));
    let script =
        script.replacen("self=", "export self=", 1) + r#" & while [ "$(wc -l <"$1")" -lt 8 ]; do sleep 0.01; done"#;
    std::fs::write(&leaves, "").unwrap();
    let mut task = shell(&script, &[&leaves]);
    task.run.push("3".to_owned());
    let outcome = fixture.run(task).await;
    assert!(matches!(outcome.result, AttemptResult::Succeeded { .. }), "{outcome:?}");
    let leaves = std::fs::read_to_string(&leaves).unwrap();
    assert!(leaves.lines().count() >= 8);
    assert!(leaves.lines().all(|leaf| !is_alive(leaf.parse().unwrap())));
}

#[test]
fn a_command_gets_three_descriptors_and_the_worker_keeps_none() {
    let directory = tempfile::tempdir().unwrap();
    let list = shell("ls -l /proc/self/fd", &[]);
    let fails = process(&["/no/such/command"]);
    let specs = [list.clone(), list.clone(), fails, list.clone(), list].to_vec();
    let status = start_stand_in(directory.path(), specs, Some(9)).wait().unwrap();
    assert!(status.success());
    let report = stand_in_report(directory.path());
    let AttemptResult::Succeeded { output } = &report.outcomes[0].result else { panic!("{:?}", report.outcomes) };
    let output = serde_json::to_value(output).unwrap();
    let listed: Vec<&str> = output.as_str().unwrap().lines().filter(|line| line.contains(" -> ")).collect();
    // 3 is the listing itself.
    assert_eq!(listed.len(), 4, "{listed:#?}");
    assert!(listed[0].ends_with("/stdin.json") && listed[3].contains("/proc/"), "{listed:#?}");
    assert_eq!(report.descriptors[1], report.descriptors[4], "{:#?}", report.descriptors);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shim_stands_apart_and_holds_its_command_down() {
    let fixture = Fixture::new();
    let command_file = fixture.path("command");
    let (stopper, running) = fixture.start(shell(r#"echo $$ >"$1"; exec sleep 1000"#, &[&command_file]));
    let command = pid_in(&command_file);
    let shim = parent_of(command);
    let read = |pid: u32, file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    assert_eq!(read(shim, "comm"), "magpie-shim\n");
    let fields: Vec<String> =
        read(command, "stat").rsplit_once(") ").unwrap().1.split(' ').map(str::to_owned).collect();
    assert_eq!((fields[2].as_str(), fields[3].as_str()), (&*command.to_string(), &*shim.to_string()));
    assert!(read(command, "limits").lines().any(|line| line.starts_with("Max core file size        0  ")));
    assert!(read(command, "status").contains("NoNewPrivs:\t1"));
    // SIGHUP, SIGINT, SIGQUIT and SIGTERM wait before the shim, and reach the command.
    eventually("a mask", || read(shim, "status").contains("SigBlk:\t0000000000004007\n").then_some(()));
    assert!(read(command, "status").contains("SigBlk:\t0000000000000000\n"));
    stopper.stop(StopReason::Fenced);
    tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap();
}

/// Turns round until this process has used `$1` hundredths of a second.
const BURN: &str =
    r#"burn() { n=$1; while read -r s </proc/$$/stat; set -- $s; [ $((${14} + ${15})) -lt $n ]; do :; done; }"#;

#[tokio::test]
async fn the_time_of_a_command_its_children_and_its_orphans_is_measured() {
    let fixture = Fixture::new();
    let child = format!("sh -c '{BURN}; burn 20'");
    let orphan = format!("(setsid sh -c '{BURN}; burn 20; echo 1 >\"$0\"; exec sleep 1000' \"$1\" &)");
    let script = format!("{child}; {orphan}; while ! [ -s \"$1\" ]; do sleep 0.01; done; echo 1");
    let outcome = fixture.run(shell(&script, &[&fixture.path("burned")])).await;
    let used = outcome.used;
    assert!(used.cpu_us.is_some_and(|us| us >= 380_000) && used.gpu_us.is_none(), "{outcome:?}");
    let idle = fixture.run(shell("sleep 0.3", &[])).await;
    assert!(idle.used.cpu_us.is_some_and(|us| us < 300_000), "{idle:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_was_stopped_has_used_its_time_all_the_same() {
    let fixture = Fixture::new();
    let burned = fixture.path("burned");
    let script = format!("{BURN}; burn 20; echo $$ >\"$1\"; exec sleep 1000");
    let (stopper, running) = fixture.start(shell(&script, &[&burned]));
    pid_in(&burned);
    stopper.stop(StopReason::Cancelled);
    let outcome = tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap();
    assert!(outcome.used.cpu_us.is_some_and(|us| us >= 190_000), "{outcome:?}");
}

#[test]
fn the_hidden_argument_is_not_for_people() {
    let output = Command::new(env!("CARGO_BIN_EXE_node")).arg("__shim").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not for the command line"));
}
