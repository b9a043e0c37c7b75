//! Failures that users of other systems know by name, as tests of this one.

use magpie_core::limits;
use magpie_core::task::TaskState;
use magpie_core::worker::StopCause;

use crate::mesh::{Line, Mesh};
use crate::scene::task;

/// nats-server 4786, 6937: an acknowledgement after `AckWait`, when another consumer has the message, is accepted.
#[test]
fn nats_late_ack_of_an_expired_lease_is_fenced_once_another_worker_has_the_task() {
    let mut mesh = Mesh::new(1, 1);
    mesh.takes_ms = 15_000;
    let id = mesh.submit(task(5));
    mesh.pass(500);
    mesh.add_worker(1);
    (mesh.host(1).up, mesh.host(1).down) = (Line::Slow, Line::Slow);
    mesh.pass(16_000);
    let starts = mesh.starts(id);
    assert_eq!(starts.len(), 2);
    mesh.open_lines(1);
    mesh.pass(1_000);
    assert!(mesh.stats().fenced_total > 0);
    assert_eq!(mesh.state(id), TaskState::Running, "the late outcome changed nothing");
    mesh.pass(30_000);
    assert_eq!((mesh.state(id), mesh.winner(id)), (TaskState::Succeeded, starts[1].fence.epoch.0));
}

/// The other half: nobody else has it, so the late outcome is as good as a punctual one.
#[test]
fn nats_late_ack_is_accepted_while_nobody_else_has_the_task() {
    let mut mesh = Mesh::new(1, 1);
    mesh.takes_ms = 15_000;
    let id = mesh.submit(task(5));
    mesh.pass(500);
    mesh.lose_connection(1);
    mesh.pass(14_000);
    assert_eq!(mesh.state(id), TaskState::Ready, "the lease expired");
    // The worker is away for its home, so its credits are old and nothing is granted.
    mesh.pass(2_000);
    mesh.connect_again(1);
    mesh.pass(500);
    let view = mesh.task(id);
    assert_eq!((view.state, view.attempts, mesh.starts(id).len()), (TaskState::Succeeded, 1, 1));
}

/// kombu 337, celery 5935: what runs longer than the visibility timeout is delivered again, and runs twice or more.
#[test]
fn celery_visibility_timeout_does_not_run_a_long_task_again() {
    let mut mesh = Mesh::new(3, 4);
    mesh.takes_ms = 240 * limits::LEASE_TTL_MS;
    let id = mesh.submit(task(3));
    mesh.pass(240 * limits::LEASE_TTL_MS + 1_000);
    assert_eq!((mesh.state(id), mesh.starts(id).len()), (TaskState::Succeeded, 1));
    assert_eq!(mesh.stats().expired_total, 0);
}

/// bullmq 3183, 3056: a worker too busy to renew its lock loses the job to another, and both finish it.
#[test]
fn bullmq_double_run_by_a_stalled_worker_commits_once_and_stops_the_stale_one() {
    let mut mesh = Mesh::new(2, 1);
    mesh.takes_ms = 20_000;
    let id = mesh.submit(task(5));
    mesh.pass(500);
    let first = mesh.starts(id).remove(0);
    let holder = if mesh.host(1).runs(first.fence) { 1 } else { 2 };
    mesh.host(holder).frozen = true;
    mesh.pass(limits::LEASE_TTL_MS + 1_500);
    let starts = mesh.starts(id);
    assert_eq!(starts.len(), 2, "the other worker has it now");
    mesh.thaw_worker(holder);
    mesh.pass(500);
    assert_eq!(mesh.host(holder).stopped, [(first.fence, StopCause::Fenced)], "it hears of it with its next renewal");
    mesh.pass(30_000);
    assert_eq!((mesh.state(id), mesh.winner(id)), (TaskState::Succeeded, starts[1].fence.epoch.0));
    assert!(mesh.host(holder).completions.is_empty(), "the stale attempt reports nothing");
}

/// ray docs 27279, ray 46354: an object is lost when its owner dies, a job is `running` for ever when the head does.
#[test]
fn ray_owner_death_loses_no_task_and_no_outcome() {
    let mut mesh = Mesh::new(2, 2);
    mesh.takes_ms = 20_000;
    let ids: Vec<_> = (0..4).map(|_| mesh.submit(task(3))).collect();
    mesh.pass(1_000);
    mesh.kill_home();
    mesh.pass(60_000);
    mesh.start_home();
    mesh.pass(30_000);
    for id in ids {
        let view = mesh.task(id);
        assert_eq!((view.state, view.attempts, mesh.starts(id).len()), (TaskState::Succeeded, 1, 1));
    }
}
