//! A home is ticked when it asks for it: often while something moves, seldom while nothing does, and never too late.

use super::*;

/// Time passes as in a node: a tick comes when the home wants one. Returns how many came.
fn sleep(home: &mut Bench, ms: u64) -> u32 {
    let (until_ms, mut ticks) = (home.now.mono_ms + ms, 0);
    loop {
        let due_ms = home.ledger.next_deadline();
        let step_ms = due_ms.min(until_ms).saturating_sub(home.now.mono_ms);
        home.now.mono_ms += step_ms;
        home.now.wall_ms += step_ms;
        if due_ms > until_ms {
            return ticks;
        }
        home.event(Event::Tick);
        assert!(home.ledger.next_deadline() > home.now.mono_ms, "a tick is never wanted at once");
        ticks += 1;
    }
}

#[test]
fn an_idle_home_ticks_once_a_second_and_a_task_brings_the_next_tick_forward() {
    let mut home = Bench::new();
    sleep(&mut home, 1_000);
    assert_eq!(sleep(&mut home, 10_000), 10);
    home.submit(noop());
    assert!(home.ledger.next_deadline() <= home.now.mono_ms + limits::TICK_MS);
    let ticks = sleep(&mut home, 10_000);
    assert!((99..=101).contains(&ticks), "{ticks}");
}

#[test]
fn a_home_that_sleeps_wakes_for_what_is_due() {
    let mut home = Bench::new();
    let not_before = Some(Wall(home.now.wall_ms + 3_250));
    let deadline = Some(Wall(home.now.wall_ms + 5_430));
    let delayed = home.submit(TaskSpec { not_before, deadline, ..noop() });
    let ticks = sleep(&mut home, 3_250);
    assert_eq!(home.state(delayed), TaskState::Ready);
    assert!(ticks <= 6, "{ticks} ticks");
    sleep(&mut home, 2_180 + limits::TICK_MS);
    assert_eq!(home.state(delayed), TaskState::Failed);
    let waited = home.submit(TaskSpec { not_before: Some(Wall(home.now.wall_ms + 60_000)), ..noop() });
    assert_eq!(home.ask_as(peer(0), LedgerRequest::WaitTask { id: waited, timeout_ms: 1_730 }), None);
    sleep(&mut home, 1_730);
    assert!(home.answer_to(ReplyTo(home.replies)).is_some(), "who waits is answered in time");
}

#[test]
fn a_lease_that_ends_while_nothing_else_happens_is_seen() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    sleep(&mut home, limits::LEASE_TTL_MS + limits::TICK_MS);
    assert_eq!(home.state(grant.fence.task), TaskState::Ready);
}

#[test]
fn a_home_that_slept_as_long_as_it_may_stood_not_still() {
    let mut home = Bench::new();
    sleep(&mut home, 5_350);
    let grant = home.granted(noop());
    sleep(&mut home, limits::LEASE_TTL_MS);
    assert_eq!(home.state(grant.fence.task), TaskState::Ready, "no lease is longer for that");
}

#[test]
fn a_log_that_is_being_cut_is_worked_on_at_every_tick() {
    let mut home = Bench::new();
    home.compact(compaction::eager(0, 3));
    for _ in 0..20 {
        let id = home.submit(noop());
        home.cancel(id);
    }
    sleep(&mut home, 2_500);
    assert!(home.first > LogIndex(1), "nothing is cut yet");
}
