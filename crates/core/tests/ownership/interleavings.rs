//! The interleavings that the design names (2.3), a test each.

use magpie_core::lease::Grant;
use magpie_core::limits;
use magpie_core::task::TaskState;
use magpie_core::time::DurationMs;
use magpie_core::worker::{StopCause, WorkerEvent};

use crate::mesh::{Line, Mesh};
use crate::scene::task;

/// One worker that runs one long attempt.
fn running(takes_ms: u64) -> (Mesh, Grant) {
    let mut mesh = Mesh::new(1, 1);
    mesh.takes_ms = takes_ms;
    let id = mesh.submit(task(3));
    mesh.pass(500);
    assert_eq!(mesh.state(id), TaskState::Running);
    let grant = mesh.starts(id).remove(0);
    (mesh, grant)
}

#[test]
fn a_task_four_times_longer_than_its_lease_runs_once() {
    let (mut mesh, grant) = running(4 * limits::LEASE_TTL_MS);
    mesh.pass(4 * limits::LEASE_TTL_MS + 1_000);
    let view = mesh.task(grant.fence.task);
    assert_eq!((view.state, view.attempts), (TaskState::Succeeded, 1));
    assert_eq!((mesh.starts(grant.fence.task).len(), mesh.stats().expired_total), (1, 0));
}

#[test]
fn renewals_that_a_stalled_home_reads_late_keep_their_leases() {
    let (mut mesh, grant) = running(60_000);
    mesh.add_worker(1);
    mesh.home_frozen = true;
    mesh.pass(3 * limits::LEASE_TTL_MS);
    mesh.thaw_home();
    mesh.pass(2_000);
    let stats = mesh.stats();
    assert_eq!((stats.expired_total, stats.fenced_total), (0, 0), "the renewals were there, only not read");
    mesh.pass(60_000);
    assert_eq!((mesh.state(grant.fence.task), mesh.starts(grant.fence.task).len()), (TaskState::Succeeded, 1));
}

#[test]
fn a_renewal_that_the_network_delays_beyond_the_lease_loses_it_once_and_costs_no_second_commit() {
    let (mut mesh, first) = running(30_000);
    let id = first.fence.task;
    mesh.add_worker(1);
    (mesh.host(1).up, mesh.host(1).down) = (Line::Slow, Line::Slow);
    mesh.pass(limits::LEASE_TTL_MS + 1_000);
    let second = mesh.starts(id).remove(1);
    assert!(second.fence.epoch > first.fence.epoch, "another worker has it now");
    mesh.open_lines(1);
    mesh.pass(1_000);
    assert_eq!(mesh.host(1).stopped, [(first.fence, StopCause::Fenced)], "at once: another epoch runs elsewhere");
    mesh.pass(40_000);
    assert_eq!((mesh.state(id), mesh.winner(id)), (TaskState::Succeeded, second.fence.epoch.0));
    assert!(mesh.stats().fenced_total > 0);
}

#[test]
fn i6_a_home_that_is_back_after_half_an_hour_takes_the_outcome_that_waited_for_it() {
    let (mut mesh, grant) = running(60_000);
    mesh.kill_home();
    mesh.pass(30 * 60_000);
    assert_eq!(mesh.host(1).stopped, [], "a silent home ends nothing");
    assert_eq!(mesh.host(1).spool.len(), 1, "the outcome is on the worker's disk");
    mesh.start_home();
    mesh.pass(1_000);
    let view = mesh.task(grant.fence.task);
    assert_eq!((view.state, view.attempts, view.epoch), (TaskState::Succeeded, 1, grant.fence.epoch));
    assert_eq!((mesh.starts(grant.fence.task).len(), mesh.stats().fenced_total), (1, 0));
    assert!(mesh.host(1).spool.is_empty());
}

#[test]
fn a_home_that_is_back_after_half_an_hour_finds_the_attempt_still_running() {
    let (mut mesh, grant) = running(35 * 60_000);
    mesh.add_worker(1);
    mesh.kill_home();
    mesh.pass(30 * 60_000);
    mesh.start_home();
    mesh.pass(2 * limits::LEASE_TTL_MS);
    assert_eq!(mesh.state(grant.fence.task), TaskState::Running);
    mesh.pass(5 * 60_000);
    assert_eq!(mesh.winner(grant.fence.task), grant.fence.epoch.0);
    assert_eq!((mesh.starts(grant.fence.task).len(), mesh.stats().expired_total), (1, 0));
}

#[test]
fn a_worker_that_is_back_says_what_it_holds_before_it_asks_for_more() {
    let (mut mesh, grant) = running(30_000);
    mesh.lose_connection(1);
    mesh.pass(limits::LEASE_TTL_MS + 1_000);
    assert_eq!(mesh.state(grant.fence.task), TaskState::Ready, "the lease expired, and nobody else is there");
    mesh.connect_again(1);
    mesh.pass(50);
    let view = mesh.task(grant.fence.task);
    assert_eq!((view.state, view.epoch), (TaskState::Running, grant.fence.epoch), "revived, not granted again");
    mesh.pass(30_000);
    assert_eq!((mesh.winner(grant.fence.task), mesh.starts(grant.fence.task).len()), (grant.fence.epoch.0, 1));
}

#[test]
fn i5_a_grant_that_is_dated_by_an_older_credit_ends_with_that_one_and_not_with_the_newest() {
    let mut mesh = Mesh::new(1, 2);
    mesh.pass(100);
    // The grant is on its way while newer credits are sent.
    mesh.host(1).down = Line::Slow;
    let id = mesh.submit(task(3));
    mesh.pass(limits::LEASE_TTL_MS - 300);
    mesh.open_lines(1);
    mesh.pass(50);
    assert!(mesh.starts(id).is_empty(), "its credit's end has passed, though a young credit stands");
    mesh.pass(2 * limits::LEASE_TTL_MS);
    let starts = mesh.starts(id);
    assert_eq!((starts.len(), mesh.winner(id)), (1, starts[0].fence.epoch.0));
    assert_eq!(mesh.task(id).attempts, 1, "a lease that never started is no attempt");
}

#[test]
fn a_duplicate_of_a_grant_that_was_released_is_not_started() {
    let mut mesh = Mesh::new(1, 1);
    mesh.pass(100);
    mesh.host(1).down = Line::Slow;
    let id = mesh.submit(task(3));
    mesh.pass(100);
    assert_eq!(mesh.state(id), TaskState::Leased);
    mesh.worker_event(1, WorkerEvent::Drain { within_ms: None });
    mesh.open_lines(1);
    mesh.pass(100);
    assert_eq!((mesh.state(id), mesh.stats().released_total), (TaskState::Ready, 1));
    mesh.worker_event(1, WorkerEvent::Resume);
    let released = mesh.host(1).heard[0].clone();
    mesh.repeat_grant(1, released.clone());
    mesh.pass(100);
    assert!(mesh.starts(id).is_empty(), "that fence was refused once");
    mesh.pass(5_000);
    mesh.repeat_grant(1, released.clone());
    mesh.pass(1_000);
    let starts = mesh.starts(id);
    assert_eq!((starts.len(), mesh.state(id)), (1, TaskState::Succeeded));
    assert!(starts[0].fence.epoch > released.fence.epoch);
}

#[test]
fn a_poison_task_that_kills_its_node_before_it_says_started_ends_dead() {
    let mut mesh = Mesh::new(1, 1);
    mesh.takes_ms = 60_000;
    let poison = mesh.submit(task(3));
    let mut kills = 0;
    while kills < 100 && !mesh.state(poison).is_terminal() {
        mesh.pass(5);
        if mesh.hosts[0].started.len() > kills {
            // The node dies with the first instruction of the attempt: nothing of it has left.
            kills += 1;
            mesh.kill_worker(1);
            mesh.pass(limits::LEASE_TTL_MS + 500);
            mesh.start_worker(1);
        }
    }
    let view = mesh.task(poison);
    assert_eq!(view.state, TaskState::Dead);
    assert_eq!((view.attempts, kills), (0, limits::FALSE_STARTS_MAX as usize));
    assert!(
        view.error.is_some_and(|error| error.code == "false_starts" && error.message.contains("the lease expired"))
    );
}

#[test]
fn a_poison_task_that_kills_its_node_after_it_said_started_ends_dead_when_its_attempts_are_spent() {
    let mut mesh = Mesh::new(1, 1);
    mesh.takes_ms = 600_000;
    let poison = mesh.submit(magpie_core::task::TaskSpec { timeout: DurationMs(5_000), ..task(2) });
    for attempt in 1..=2 {
        mesh.pass(12_000);
        assert_eq!((mesh.task(poison).attempts, mesh.state(poison)), (attempt, TaskState::Running));
        mesh.kill_worker(1);
        mesh.pass(limits::LEASE_TTL_MS + 500);
        mesh.start_worker(1);
    }
    mesh.pass(5_000 + limits::LEASE_GRACE_MS + 1_000);
    let view = mesh.task(poison);
    assert_eq!((view.state, view.attempts, mesh.starts(poison).len()), (TaskState::Dead, 2, 2));
}

#[test]
fn a_stale_completion_is_refused_counted_and_dropped() {
    let (mut mesh, first) = running(20_000);
    let id = first.fence.task;
    mesh.add_worker(1);
    mesh.host(1).frozen = true;
    mesh.pass(limits::LEASE_TTL_MS + 1_000);
    let second = mesh.starts(id).remove(1);
    mesh.pass(10_000);
    // The first worker goes on where it stood: its attempt has ended, it knows of nothing.
    mesh.thaw_worker(1);
    mesh.pass(500);
    assert!(mesh.host(1).completions.iter().any(|completion| completion.fence == first.fence));
    assert!(mesh.stats().fenced_total >= 1);
    mesh.pass(20_000);
    assert_eq!((mesh.state(id), mesh.winner(id)), (TaskState::Succeeded, second.fence.epoch.0));
    let stats = mesh.hosts[0].worker.as_ref().map(|worker| worker.stats()).expect("it runs");
    assert_eq!((stats.reporting, stats.running), (0, 0), "the stale outcome is kept nowhere");
    assert!(stats.fenced >= 1 && mesh.host(1).spool.is_empty());
}

#[test]
fn a_lease_that_lapses_in_a_workers_queue_goes_back_and_is_granted_again() {
    let mut mesh = Mesh::new(1, 1);
    mesh.takes_ms = 1;
    for _ in 0..40 {
        mesh.submit(task(3));
    }
    mesh.pass(3_000);
    assert_eq!(mesh.stats().counts.succeeded, 40, "so the worker fetches ahead now");
    mesh.takes_ms = 25_000;
    let ids: Vec<_> = (0..3).map(|_| mesh.submit(task(3))).collect();
    mesh.pass(200);
    let leased = ids.iter().filter(|id| mesh.state(**id) == TaskState::Leased).count();
    assert!(leased >= 1, "fetched ahead");
    mesh.host(1).down = Line::Cut;
    mesh.pass(limits::LEASE_TTL_MS + 500);
    mesh.open_lines(1);
    mesh.pass(200_000);
    for id in ids {
        assert_eq!((mesh.state(id), mesh.starts(id).len()), (TaskState::Succeeded, 1));
    }
}

#[test]
fn a_cancel_whose_notice_is_lost_ends_the_attempt_with_the_next_renewal() {
    let (mut mesh, grant) = running(60_000);
    mesh.host(1).down = Line::Cut;
    assert_eq!(mesh.cancel(grant.fence.task), TaskState::Cancelled);
    mesh.pass(100);
    mesh.host(1).down = Line::Open;
    assert!(mesh.host(1).runs(grant.fence), "it heard of nothing");
    mesh.pass(limits::LEASE_RENEW_EVERY_MS);
    assert_eq!(mesh.host(1).stopped, [(grant.fence, StopCause::TaskEnded)]);
    mesh.pass(100);
    let view = mesh.task(grant.fence.task);
    assert!(view.attempt_stopped_at > view.finished_at, "{view:?}");
}
