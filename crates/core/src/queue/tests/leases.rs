//! Credits, grants, renewals, expiry and recall (2.3).

use super::*;

fn holder(home: &mut Bench, id: TaskId) -> Option<PeerId> {
    home.task(id).worker
}

#[test]
fn a_credit_is_answered_once_per_slot() {
    let mut home = Bench::new();
    home.worker(0, 3);
    let ids = home.submit_all(vec![noop(); 5]);
    home.pass(200);
    assert_eq!(home.grants().len(), 3);
    // The same credit again, though the worker has not seen the grants: they are on their way.
    home.credit(0, 3, 0);
    assert_eq!(home.grants().len(), 0);
    home.credit(0, 3, 3);
    assert_eq!(home.grants().len(), 2);
    assert!(ids.into_iter().all(|id| home.state(id) == TaskState::Leased));
}

#[test]
fn an_older_sending_of_a_credit_does_not_replace_a_newer_one() {
    let mut home = Bench::new();
    home.worker(0, 0);
    let offer = |sending, free| CreditOffer {
        name: CreditName { incarnation: Incarnation(1), sending: Sending(sending) },
        received: Slots::default(),
        free: Slots { cpu: free, device: 0 },
        slots: None,
    };
    home.ask(LedgerRequest::Credit(offer(20, 0)));
    home.ask(LedgerRequest::Credit(offer(19, 5)));
    home.submit(noop());
    home.pass(200);
    assert!(home.grants().is_empty());
}

#[test]
fn an_old_credit_is_not_answered() {
    let mut home = Bench::new();
    home.worker(1, 5);
    home.pass(limits::CREDIT_AGE_MAX_MS + 100);
    home.submit(noop());
    home.pass(1_000);
    assert!(home.grants().is_empty());
    home.credit(1, 5, 0);
    assert_eq!(home.grants().len(), 1);
}

#[test]
fn lost_grants_come_back_to_the_credit_after_one_lease() {
    let mut home = Bench::new();
    home.worker(0, 4);
    home.submit_all(vec![noop(); 8]);
    home.pass(200);
    assert_eq!(home.grants().len(), 4, "and none of them arrives");
    for _ in 0..12 {
        home.credit(0, 4, 0);
        home.pass(1_000);
    }
    assert_eq!(home.grants().len(), 4);
}

#[test]
fn a_thief_gets_half_of_what_is_there() {
    let mut home = Bench::new();
    let busy = Slots { cpu: 1, device: 0 };
    home.works_at_home(busy);
    home.submit_all(vec![noop(); 9]);
    home.pass(100);
    home.worker(1, 100);
    assert_eq!(home.grants().len(), 5);
    home.pass(limits::IDLE_BESIDE_MS_MAX - 200);
    home.works_at_home(busy);
    assert_eq!(home.grants().len(), 0, "one credit is one share, however often it is looked at");
    home.credit(1, 100, 5);
    assert_eq!(home.grants().len(), 2);
    home.pass(limits::IDLE_BESIDE_MS_MAX + 100);
    assert_eq!(home.grants().len(), 2, "no idle node stands beside them for longer");
}

#[test]
fn who_works_alone_for_a_home_takes_all() {
    let mut home = Bench::new();
    home.submit_all(vec![noop(); 9]);
    home.pass(100);
    home.worker(1, 100);
    assert_eq!(home.grants().len(), 9);
}

#[test]
fn a_task_waits_a_moment_for_its_preferred_peer_and_no_longer() {
    let mut home = Bench::new();
    home.worker(1, 8);
    for n in 2..8 {
        home.event(Event::WorkerSeen { worker: peer(n), capabilities: all_kinds(), alive: true });
    }
    let ids = home.submit_all(vec![noop(); 8]);
    let at_once = home.grants().len();
    assert!(at_once < 8, "six more peers are preferred by most");
    assert!(home.ledger.next_deadline() <= home.now.mono_ms + limits::PREFERENCE_WAIT_MS);
    for _ in 0..4 {
        home.now.mono_ms += limits::PREFERENCE_WAIT_MS;
        home.event(Event::Tick);
    }
    assert!(ids.into_iter().all(|id| holder(&mut home, id) == Some(peer(1))));
}

#[test]
fn a_lease_that_nobody_renews_expires_behind_a_marker() {
    let mut home = Bench::new();
    home.markers = false;
    let grant = home.granted(noop());
    home.pass(limits::LEASE_TTL_MS);
    assert_eq!(home.state(grant.fence.task), TaskState::Leased);
    let marker = home.left.iter().find_map(|effect| match effect {
        Effect::PlaceMarker { marker } => Some(*marker),
        _ => None,
    });
    home.event(Event::MarkerOut { marker: marker.expect("a marker was placed at the deadline") });
    assert_eq!(home.state(grant.fence.task), TaskState::Ready);
}

#[test]
fn a_renewal_before_the_marker_keeps_the_lease() {
    let mut home = Bench::new();
    home.markers = false;
    let grant = home.granted(noop());
    home.pass(limits::LEASE_TTL_MS);
    home.renew(&grant, true);
    for marker in 0..5 {
        home.event(Event::MarkerOut { marker });
    }
    assert_eq!(home.state(grant.fence.task), TaskState::Running);
}

#[test]
fn a_lost_marker_is_placed_again() {
    let mut home = Bench::new();
    home.markers = false;
    let grant = home.granted(noop());
    home.pass(limits::LEASE_TTL_MS);
    home.markers = true;
    home.pass(6_000);
    assert_eq!(home.state(grant.fence.task), TaskState::Ready);
}

#[test]
fn renewals_keep_a_lease_for_as_long_as_they_come() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    for _ in 0..20 {
        home.pass(limits::LEASE_RENEW_EVERY_MS);
        assert!(matches!(home.renew(&grant, true), RenewAnswer::Renewed { .. }));
    }
    assert_eq!(home.state(grant.fence.task), TaskState::Running);
    assert_eq!(home.stats().expired_total, 0);
}

#[test]
fn a_renewal_revives_an_expired_epoch_and_its_expiry_does_not_count() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    let id = grant.fence.task;
    for _ in 0..2 * limits::FALSE_STARTS_MAX {
        home.pass(limits::LEASE_TTL_MS + 100);
        assert_eq!(home.state(id), TaskState::Ready);
        assert!(matches!(home.renew(&grant, false), RenewAnswer::Renewed { .. }));
        assert_eq!(home.state(id), TaskState::Leased);
    }
    assert!(home.grants().is_empty());
    assert_eq!(home.complete(&grant, success("at last")), CompleteAnswer::Committed);
}

#[test]
fn i3_a_later_grant_fences_the_earlier_epoch() {
    let mut home = Bench::new();
    let first = home.granted(noop());
    home.pass(limits::LEASE_TTL_MS + 100);
    home.worker(2, 1);
    home.pass(200);
    let second = home.grant();
    let fenced = RenewAnswer::Fenced { current: second.fence.epoch };
    assert_eq!(home.renew(&first, true), fenced);
    assert_eq!(home.complete(&first, success("old")), CompleteAnswer::Fenced { current: second.fence.epoch });
    assert_eq!(home.stats().fenced_total, 2);
    assert_eq!(home.complete(&second, success("new")), CompleteAnswer::Committed);
}

#[test]
fn a_home_that_stood_still_gives_that_time_to_every_lease() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    home.now.mono_ms += 60_000;
    home.event(Event::Tick);
    home.pass(limits::LEASE_TTL_MS - 1_000);
    assert_eq!(home.state(grant.fence.task), TaskState::Leased);
    home.pass(1_500);
    assert_eq!(home.state(grant.fence.task), TaskState::Ready);
}

#[test]
fn i5_a_peer_that_is_held_dead_and_forgotten_keeps_its_lease() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    home.renew(&grant, true);
    home.event(Event::WorkerSeen { worker: peer(1), capabilities: all_kinds(), alive: false });
    home.event(Event::WorkerForgotten { worker: peer(1) });
    home.worker(2, 1);
    for _ in 0..6 {
        home.pass(limits::LEASE_TTL_MS / 2);
        assert_eq!(home.state(grant.fence.task), TaskState::Running, "a verdict ends no lease");
        assert!(matches!(home.renew(&grant, true), RenewAnswer::Renewed { .. }));
    }
    assert_eq!(home.complete(&grant, success("alive")), CompleteAnswer::Committed);
}

#[test]
fn after_a_restart_a_recorded_lease_lives_one_full_ttl() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    home.pass(9_000);
    let mut home = home.restart(3_600_000);
    home.pass(limits::LEASE_TTL_MS - 100);
    assert_eq!(home.state(grant.fence.task), TaskState::Leased);
    assert!(matches!(home.renew(&grant, true), RenewAnswer::Renewed { .. }));
}

#[test]
fn an_unstarted_lease_is_recalled_for_an_idle_worker_and_asked_for_again() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    home.worker(2, 1);
    home.pass(700);
    let recalls = |home: &Bench| {
        let recall = Effect::Notify { worker: peer(1), notice: WorkerNotice::Recall(vec![grant.fence]) };
        home.left.iter().filter(|effect| **effect == recall).count()
    };
    assert_eq!(recalls(&home), 0, "not within a second");
    home.pass(300);
    assert_eq!(recalls(&home), 1);
    home.pass(1_000);
    assert_eq!(recalls(&home), 2);
    assert_eq!(home.state(grant.fence.task), TaskState::Leased, "until it is released");
    home.release(&grant, ReleaseReason::Recalled);
    home.pass(100);
    let (worker, second) = home.grants().remove(0);
    assert_eq!((worker, second.fence.epoch > grant.fence.epoch), (peer(2), true));
}

#[test]
fn a_started_lease_is_neither_recalled_nor_released() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    home.renew(&grant, true);
    home.worker(2, 1);
    home.pass(3_000);
    assert!(!home.left.iter().any(|effect| matches!(effect, Effect::Notify { notice: WorkerNotice::Recall(_), .. })));
    home.release(&grant, ReleaseReason::NoSlot);
    assert_eq!(home.state(grant.fence.task), TaskState::Running);
}

#[test]
fn a_worker_that_released_a_task_is_skipped_for_it_twice_as_long_each_time() {
    let mut home = Bench::new();
    let mut grant = home.granted(noop());
    for skipped_ms in [1_000, 2_000, 4_000] {
        home.release(&grant, ReleaseReason::NoSlot);
        let released_ms = home.now.mono_ms;
        let next = loop {
            let received = home.stats().released_total as u32;
            home.credit(1, 1, received);
            home.pass(100);
            if let Some((_, next)) = home.grants().pop() {
                break next;
            }
        };
        assert!((skipped_ms..skipped_ms + 300).contains(&(home.now.mono_ms - released_ms)), "{skipped_ms}");
        grant = next;
    }
}

#[test]
fn a_task_that_was_given_back_does_not_block_those_behind_it() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    home.release(&grant, ReleaseReason::Unable { why: "no such file".to_owned() });
    let behind = home.submit(noop());
    home.credit(1, 1, 1);
    home.pass(200);
    assert_eq!(home.grant().fence.task, behind);
    assert_eq!(home.state(grant.fence.task), TaskState::Ready);
}

#[test]
fn grants_go_out_in_messages_that_fit_a_frame() {
    let mut home = Bench::new();
    let text = JsonText::of(&serde_json::Value::from("x".repeat(60_000)));
    let spec = TaskSpec { input: Payload::Inline(text), ..noop() };
    home.submit_all(vec![spec; 200]);
    home.worker(0, 200);
    home.pass(100);
    let sizes = home.left.iter().filter_map(|effect| match effect {
        Effect::Notify { notice, .. } => Some(crate::wire::encode(notice, limits::FRAME_BYTES_MAX).unwrap().len()),
        _ => None,
    });
    assert!(sizes.count() >= 6);
    assert_eq!(home.grants().len(), 200);
}

#[test]
fn a_credit_of_a_later_incarnation_replaces_all_that_came_before() {
    let mut home = Bench::new();
    home.worker(0, 4);
    home.submit_all(vec![noop(); 10]);
    home.pass(200);
    assert_eq!(home.grants().len(), 4);
    let offer = |incarnation, sending, free| CreditOffer {
        name: CreditName { incarnation: Incarnation(incarnation), sending: Sending(sending) },
        received: Slots::default(),
        free: Slots { cpu: free, device: 0 },
        slots: None,
    };
    home.ask(LedgerRequest::Credit(offer(2, 1, 3)));
    assert_eq!(home.grants().len(), 3);
    home.ask(LedgerRequest::Credit(offer(1, 1_000, 9)));
    assert!(home.grants().is_empty(), "a late sending of the earlier life");
}

#[test]
fn a_grant_names_the_newest_sending() {
    let mut home = Bench::new();
    home.worker(1, 0);
    home.credit(1, 1, 0);
    let newest = home.sendings;
    home.submit(noop());
    home.pass(200);
    assert_eq!(home.grant().credit, CreditName { incarnation: Incarnation(1), sending: Sending(newest) });
}

#[test]
fn a_lease_given_back_as_stale_is_granted_again() {
    let mut home = Bench::new();
    let stale = home.granted(noop());
    home.release(&stale, ReleaseReason::StaleCredit);
    assert_eq!(home.state(stale.fence.task), TaskState::Ready);
    home.credit(1, 1, 1);
    home.pass(limits::RELEASE_SKIP_FIRST_MS + 200);
    let again = home.grant();
    assert_eq!(again.fence.task, stale.fence.task);
    assert!(again.fence.epoch > stale.fence.epoch && again.attempt == 1, "it never started");
}

#[test]
fn a_last_attempt_that_fell_silent_has_its_own_time_though_the_wall_clock_leapt() {
    for leap_ms in [3_600_000, -3_600_000] {
        let mut home = Bench::new();
        let grant = home.granted(at_most(1));
        home.renew(&grant, true);
        home.now.wall_ms = home.now.wall_ms.saturating_add_signed(leap_ms);
        home.pass(limits::LEASE_TTL_MS + 200);
        assert_eq!(home.state(grant.fence.task), TaskState::Delayed);
        // A timeout of 5 s and the grace of 10 s, from its start on.
        home.pass(4_000);
        assert_eq!(home.state(grant.fence.task), TaskState::Delayed, "{leap_ms}");
        home.pass(1_000);
        assert_eq!(home.state(grant.fence.task), TaskState::Dead, "{leap_ms}");
    }
}
