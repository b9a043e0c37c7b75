use std::time::{Duration, Instant};

use magpie::executor::{Attempt, LeaseKeeper, StopReason, lease_channel, stop_channel};
use magpie_core::task::Outcome;
use tokio::task::JoinHandle;

use super::fixture::{
    Fixture, PATIENCE, attempt, boot_ms, error_of, eventually, is_alive, kill_9, pid_in, shell, start_leased_stand_in,
    stop,
};

/// A command that is deaf to SIGTERM, with a daemon of its own; it says who they are.
const DEAF: &str = r#"trap '' TERM
    (setsid sh -c 'echo $$ >"$0"; exec sleep 1000' "$1" &)
    while ! [ -s "$1" ]; do sleep 0.01; done; echo $$ >"$2"; while :; do sleep 1; done"#;

fn start(fixture: &Fixture, lease_ms: u64) -> (magpie::executor::Stopper, LeaseKeeper, JoinHandle<Outcome>) {
    let (keeper, lease) = lease_channel(boot_ms() + lease_ms);
    let spec = shell(DEAF, &[&fixture.path("daemon"), &fixture.path("command")]);
    let attempt = Attempt { lease: Some(lease), ..attempt(spec) };
    let (stopper, stop) = stop_channel();
    let executors = fixture.executors.clone();
    (stopper, keeper, tokio::spawn(async move { executors.run(attempt, stop).await.unwrap() }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_and_all_it_started_die_when_the_lease_ends() {
    let fixture = Fixture::new();
    let begin = Instant::now();
    let (_stopper, _keeper, running) = start(&fixture, 4_000);
    let pids = [pid_in(&fixture.path("command")), pid_in(&fixture.path("daemon"))];
    let outcome = tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap();
    let (code, message, retryable) = error_of(outcome);
    assert_eq!((code.as_str(), retryable), ("lease_ended", true), "{message}");
    assert!(begin.elapsed() >= Duration::from_millis(3_900), "{:?}", begin.elapsed());
    assert!(pids.iter().all(|pid| !is_alive(*pid)), "without a grace");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_extended_lets_it_run_on() {
    let fixture = Fixture::new();
    let begin = Instant::now();
    let (stopper, keeper, running) = start(&fixture, 3_000);
    let ends_ms = boot_ms() + 6_000;
    keeper.extend(ends_ms);
    let command = pid_in(&fixture.path("command"));
    let last = tokio::task::spawn_blocking(move || {
        eventually("the end of the first lease", || (boot_ms() >= ends_ms - 2_000).then(|| is_alive(command)))
    });
    assert!(last.await.unwrap(), "the first end has passed");
    let outcome = tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap();
    assert_eq!(error_of(outcome).0, "lease_ended");
    assert!(begin.elapsed() >= Duration::from_millis(5_900));
    stopper.stop(StopReason::Shutdown);
}

#[test]
fn a_worker_that_stands_still_does_not_keep_its_exclusive_command_alive() {
    let directory = tempfile::tempdir().unwrap();
    let [daemon, command] = ["daemon", "command"].map(|name| directory.path().join(name));
    let mut worker = start_leased_stand_in(directory.path(), vec![shell(DEAF, &[&daemon, &command])], 4_000);
    let pids = [pid_in(&command), pid_in(&daemon)];
    stop(worker.id());
    eventually("the end of a lease", || pids.iter().all(|pid| !is_alive(*pid)).then_some(()));
    kill_9(worker.id());
    worker.wait().unwrap();
}
