//! The states of one task (2.2).

use super::*;

#[test]
fn a_task_is_ready_granted_started_and_committed() {
    let mut home = Bench::new();
    let id = home.submit(noop());
    assert_eq!(home.state(id), TaskState::Ready);
    home.worker(1, 1);
    home.pass(100);
    let grant = home.grant();
    assert_eq!((home.state(id), grant.attempt), (TaskState::Leased, 1));
    assert_eq!(home.renew(&grant, true), RenewAnswer::Renewed { ttl_ms: limits::LEASE_TTL_MS });
    assert_eq!((home.state(id), home.task(id).attempts), (TaskState::Running, 1));
    assert_eq!(home.complete(&grant, success("done")), CompleteAnswer::Committed);
    let view = home.task(id);
    assert_eq!((view.state, view.attempts, view.worker), (TaskState::Succeeded, 1, Some(peer(1))));
    assert_eq!(view.output, Some(Payload::Inline(JsonText::parse("\"done\"").unwrap())));
}

#[test]
fn a_complete_implies_that_the_attempt_started() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    home.complete(&grant, success("done"));
    assert_eq!(home.task(grant.fence.task).attempts, 1);
}

#[test]
fn a_task_waits_for_its_time_on_the_homes_wall_clock() {
    let mut home = Bench::new();
    let id = home.submit(TaskSpec { not_before: Some(Wall(START_MS + 2_000)), ..noop() });
    home.pass(1_900);
    assert_eq!(home.state(id), TaskState::Delayed);
    home.pass(100);
    assert_eq!(home.state(id), TaskState::Ready);
}

#[test]
fn a_task_waits_for_the_wall_clock_also_after_that_is_set_right() {
    let mut home = Bench::new();
    home.worker(1, 1);
    home.now.wall_ms -= 3_600_000;
    let id = home.submit(TaskSpec { not_before: Some(Wall(START_MS + 2_000)), ..noop() });
    home.pass(1_000);
    assert_eq!(home.state(id), TaskState::Delayed);
    home.now.wall_ms += 3_600_000 + 2_000;
    home.pass(limits::TICK_MS);
    assert_ne!(home.state(id), TaskState::Delayed);
}

#[test]
fn i13_a_full_house_of_waiters_refuses_the_next_in_words() {
    let mut home = Bench::new();
    let id = home.submit(noop());
    for _ in 0..limits::WAITERS_MAX {
        home.ask_as(peer(0), LedgerRequest::WaitTask { id, timeout_ms: 1_000 });
    }
    let refused = home.ask_as(peer(0), LedgerRequest::WaitTask { id, timeout_ms: 1_000 });
    assert!(matches!(refused, Some(LedgerReply::Refused(Refusal::Overloaded { .. }))), "{refused:?}");
    home.left.clear();
    home.pass(1_100);
    assert_eq!(home.left.len(), limits::WAITERS_MAX);
}

#[test]
fn i7_a_retryable_failure_waits_for_its_back_off_and_a_later_one_is_dead() {
    let mut home = Bench::new();
    let grant = home.granted(at_most(2));
    let id = grant.fence.task;
    assert_eq!(home.complete(&grant, failure(true)), CompleteAnswer::Recorded { state: TaskState::Delayed });
    assert_eq!(home.state(id), TaskState::Delayed);
    home.pass(900);
    assert_eq!(home.state(id), TaskState::Delayed);
    home.pass(100);
    assert_eq!(home.state(id), TaskState::Ready);
    home.credit(1, 1, 1);
    home.pass(100);
    let second = home.grant();
    assert_eq!((second.attempt, second.fence.epoch > grant.fence.epoch), (2, true));
    assert_eq!(home.complete(&second, failure(true)), CompleteAnswer::Committed);
    let view = home.task(id);
    assert_eq!((view.state, view.attempts, view.earlier_errors.len()), (TaskState::Dead, 2, 1));
}

#[test]
fn a_permanent_failure_fails_the_task_at_once() {
    let mut home = Bench::new();
    let grant = home.granted(at_most(5));
    assert_eq!(home.complete(&grant, failure(false)), CompleteAnswer::Committed);
    assert_eq!(home.task(grant.fence.task).error.unwrap().code, "exit_status");
    assert_eq!(home.state(grant.fence.task), TaskState::Failed);
}

#[test]
fn a_deadline_ends_a_task_in_any_state() {
    let mut home = Bench::new();
    let until = |spec: TaskSpec| TaskSpec { deadline: Some(Wall(START_MS + 1_000)), ..spec };
    let retry = RetryPolicy { initial: DurationMs(30_000), ..RetryPolicy::default() };
    let failed = home.granted(until(TaskSpec { retry, ..noop() }));
    home.complete(&failed, failure(true));
    let delayed = failed.fence.task;
    let leased = home.submit(until(noop()));
    home.credit(1, 1, 1);
    home.pass(200);
    assert_eq!(home.grant().fence.task, leased);
    let ready = home.submit(until(noop()));
    home.pass(1_000);
    for id in [leased, ready, delayed] {
        assert_eq!(home.state(id), TaskState::Failed);
        assert_eq!(home.task(id).error.unwrap().code, "deadline");
    }
    let stop = WorkerNotice::Stop(vec![Fence { task: leased, epoch: home.task(leased).epoch }]);
    assert!(home.left.contains(&Effect::Notify { worker: peer(1), notice: stop }));
}

#[test]
fn a_cancelled_task_is_over_at_once_and_its_worker_is_told() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    assert_eq!(home.cancel(grant.fence.task), TaskState::Cancelled);
    let stop = Effect::Notify { worker: peer(1), notice: WorkerNotice::Stop(vec![grant.fence]) };
    assert!(home.left.contains(&stop));
    assert_eq!(home.complete(&grant, success("late")), CompleteAnswer::Terminal { state: TaskState::Cancelled });
    assert_eq!(home.renew(&grant, true), RenewAnswer::Terminal { state: TaskState::Cancelled });
    assert_eq!(home.task(grant.fence.task).output, None);
}

#[test]
fn of_cancel_and_complete_the_first_wins_and_the_reply_says_which() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    home.complete(&grant, success("first"));
    assert_eq!(home.cancel(grant.fence.task), TaskState::Succeeded);
    assert_eq!(home.state(grant.fence.task), TaskState::Succeeded);
}

#[test]
fn i7_the_sixteenth_false_start_makes_a_task_dead_with_the_reasons() {
    let mut home = Bench::new();
    let id = home.submit(noop());
    home.worker(1, 1);
    for n in 1..=limits::FALSE_STARTS_MAX {
        while home.state(id) == TaskState::Ready {
            home.credit(1, 1, n - 1);
            home.pass(1_000);
        }
        let grant = home.grant();
        home.release(&grant, ReleaseReason::Unable { why: "no such file".to_owned() });
    }
    let view = home.task(id);
    assert_eq!((view.state, view.attempts), (TaskState::Dead, 0));
    assert!(view.error.unwrap().message.contains("no such file"));
}

#[test]
fn recalled_and_drained_leases_are_no_false_starts() {
    let mut home = Bench::new();
    let id = home.submit(noop());
    home.worker(1, 1);
    for n in 0..2 * limits::FALSE_STARTS_MAX {
        while home.state(id) == TaskState::Ready {
            home.credit(1, 1, n);
            home.pass(1_000);
        }
        let grant = home.grant();
        let reason = if n % 2 == 0 { ReleaseReason::Recalled } else { ReleaseReason::Drained };
        home.release(&grant, reason);
    }
    assert_eq!(home.state(id), TaskState::Ready);
}

#[test]
fn an_expiry_after_the_start_counts_and_the_last_one_waits_for_the_attempts_own_time() {
    let mut home = Bench::new();
    let grant = home.granted(at_most(1));
    let id = grant.fence.task;
    home.renew(&grant, true);
    home.pass(limits::LEASE_TTL_MS + 100);
    assert_eq!(home.state(id), TaskState::Delayed);
    // Start + timeout + grace is 15 s after the start, which was 10.1 s ago.
    home.pass(4_700);
    assert_eq!(home.state(id), TaskState::Delayed);
    home.pass(300);
    let view = home.task(id);
    assert_eq!((view.state, view.error.unwrap().code.as_str()), (TaskState::Dead, "lease_expired"));
}

/// Its worker was killed and has started again: before the lease ended, or after.
#[test]
fn the_last_attempt_of_a_worker_that_started_anew_is_waited_for_only_a_moment() {
    for comes_early in [true, false] {
        let mut home = Bench::new();
        let grant = home.granted(TaskSpec { timeout: DurationMs(3_600_000), ..at_most(1) });
        let id = grant.fence.task;
        home.renew(&grant, true);
        home.pass(1_000);
        if comes_early {
            home.credit_of(Incarnation(2), 1, 1, 0);
        }
        home.pass(limits::LEASE_TTL_MS + 100);
        assert_eq!(home.state(id), TaskState::Delayed);
        if !comes_early {
            home.pass(120_000);
            home.credit_of(Incarnation(2), 1, 1, 0);
        }
        home.pass(limits::REBORN_REPORT_MS - 2_000);
        assert_eq!(home.state(id), TaskState::Delayed, "its disk may have kept an outcome");
        home.credit_of(Incarnation(2), 1, 1, 0);
        home.pass(2_100);
        let view = home.task(id);
        assert_eq!((view.state, view.error.unwrap().code.as_str()), (TaskState::Dead, "lease_expired"));
    }
}

#[test]
fn the_last_attempt_of_a_worker_that_never_comes_back_has_all_its_time() {
    let mut home = Bench::new();
    let grant = home.granted(TaskSpec { timeout: DurationMs(3_600_000), ..at_most(1) });
    home.renew(&grant, true);
    home.pass(limits::LEASE_TTL_MS + 100);
    home.credit(1, 0, 1);
    home.pass(3_000_000);
    assert_eq!(home.state(grant.fence.task), TaskState::Delayed);
    assert_eq!(home.complete(&grant, success("late")), CompleteAnswer::Committed);
}

#[test]
fn a_buried_tasks_worker_may_still_commit_before_the_burial() {
    let mut home = Bench::new();
    let grant = home.granted(at_most(1));
    home.renew(&grant, true);
    home.pass(limits::LEASE_TTL_MS + 100);
    assert_eq!(home.complete(&grant, success("late")), CompleteAnswer::Committed);
    home.pass(60_000);
    assert_eq!(home.state(grant.fence.task), TaskState::Succeeded);
}

#[test]
fn every_end_stays_whatever_comes_after_it() {
    for outcome in [success("done"), failure(false)] {
        let mut home = Bench::new();
        let grant = home.granted(TaskSpec { deadline: Some(Wall(START_MS + 5_000)), ..noop() });
        home.complete(&grant, outcome);
        let ended = home.task(grant.fence.task);
        home.cancel(grant.fence.task);
        home.renew(&grant, true);
        home.release(&grant, ReleaseReason::NoSlot);
        home.complete(&grant, success("other"));
        home.pass(20_000);
        assert_eq!(home.task(grant.fence.task), ended);
    }
}
