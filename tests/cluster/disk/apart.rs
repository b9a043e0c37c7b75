//! Processes of a test's own, each with an end that comes whatever happens.
//!
//! Who serves a file system must use no file of it: killed while it waits for itself, it could not end, and whoever syncs
//! the machine would wait with it. So each test is three processes at least: one that waits, one in a mount namespace of its
//! own that serves, and those that use what is mounted.

use std::ffi::OsStr;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Set in the process that has a mount namespace of its own.
const INSIDE: &str = "MAGPIE_TEST_APART";
/// Where the disk is, for a process that uses it.
const VOLUME: &str = "MAGPIE_TEST_VOLUME";
/// What it does there.
const TASK: &str = "MAGPIE_TEST_TASK";

/// The longest test, many times over.
const APART_MAX: Duration = Duration::from_secs(900);
const USE_MAX: Duration = Duration::from_secs(120);

/// Runs `body` in a process with namespaces of its own: its mounts and its children end with it, whatever happens. `test`
/// is this test's name from this bench's module on.
pub fn apart(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let Some(unshare) = unshare() else {
        println!("SKIPPED {test}: this user may not make a mount namespace; run it as root");
        return;
    };
    let mut command = Command::new(unshare[0]);
    command.args(&unshare[1..]).arg(std::env::current_exe().unwrap()).env(INSIDE, "1");
    println!("{}", run_test(command, test, APART_MAX));
}

/// Runs `test`, which asks [`given`] for the disk and the task, in a process that uses the disk at `volume`.
pub fn use_disk(test: &str, volume: &Path, task: impl AsRef<OsStr>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(VOLUME, volume).env(TASK, task);
    run_test(command, test, USE_MAX);
}

/// As [`use_disk`], but kills the process as soon as `enough` says so.
pub fn use_disk_until(test: &str, volume: &Path, task: impl AsRef<OsStr>, enough: impl Fn() -> bool) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .env(VOLUME, volume)
        .env(TASK, task)
        .args(["--exact", &named(test)])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    while !enough() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The disk that this process is to use, and what for. `None` in a run of all tests.
pub fn given() -> Option<(PathBuf, String)> {
    Some((std::env::var_os(VOLUME)?.into(), std::env::var(TASK).unwrap()))
}

/// Runs one test with `command`, which ends in this binary, and returns what it printed.
fn run_test(mut command: Command, test: &str, patience: Duration) -> String {
    let mut printed = tempfile::tempfile().unwrap();
    command.args(["--exact", &named(test), "--nocapture"]).stdin(Stdio::null());
    command.stdout(printed.try_clone().unwrap()).stderr(printed.try_clone().unwrap());
    let success = ends_within(command.spawn().unwrap(), patience);
    let mut text = String::new();
    printed.rewind().unwrap();
    printed.read_to_string(&mut text).unwrap();
    assert_ne!(success, None, "after {patience:?} {test} was killed:\n{text}");
    assert_eq!(success, Some(true), "{text}");
    assert!(text.contains("1 passed"), "no test has the name {test}: {text}");
    text
}

/// The whole name of a test of this bench.
fn named(test: &str) -> String {
    format!("disk::{test}")
}

/// Whether `child` succeeds; `None` if it had to be killed.
fn ends_within(mut child: Child, patience: Duration) -> Option<bool> {
    let end = Instant::now() + patience;
    while Instant::now() < end {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status.success());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // Not waited for: if it waits for the disk, it ends when this process lets go of that.
    child.kill().unwrap();
    None
}

/// The command that makes the namespaces, if it works here.
fn unshare() -> Option<Vec<&'static str>> {
    let apart = ["--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let ways = [&[][..], &["--map-root-user"]].map(|user| [&["unshare"], user, &apart].concat());
    let works = |way: &Vec<&str>| {
        let tried = Command::new(way[0]).args(&way[1..]).arg("true").output();
        tried.is_ok_and(|tried| tried.status.success())
    };
    ways.into_iter().find(works)
}

#[test]
fn a_process_that_does_not_end_is_killed() {
    let child = Command::new("sleep").arg("1000").spawn().unwrap();
    assert_eq!(ends_within(child, Duration::from_millis(50)), None);
    assert_eq!(ends_within(Command::new("false").spawn().unwrap(), USE_MAX), Some(false));
}
