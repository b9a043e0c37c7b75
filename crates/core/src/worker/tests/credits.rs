//! Which credit a grant may name (2.3).

use super::*;

fn on_sending(bench: &mut Bench, sending: u64) -> Grant {
    let mut grant = bench.grant();
    grant.credit.sending = Sending(sending);
    grant
}

#[test]
fn sendings_are_numbered_on_across_connections() {
    let mut bench = Bench::new(4);
    let before = bench.offer(tag(1)).name;
    bench.event(WorkerEvent::HomeLost { home: tag(1) });
    bench.event(WorkerEvent::HomeSeen { home: tag(1), backlog: Slots::default() });
    let after = bench.offer(tag(1)).name;
    assert_eq!((after.incarnation, after.sending), (before.incarnation, Sending(before.sending.0 + 1)));
}

#[test]
fn a_grant_on_a_sending_of_the_lost_connection_is_taken_while_that_one_is_young() {
    let mut bench = Bench::new(4);
    bench.event(WorkerEvent::HomeLost { home: tag(1) });
    bench.pass(1_000);
    bench.event(WorkerEvent::HomeSeen { home: tag(1), backlog: Slots::default() });
    let early = on_sending(&mut bench, 1);
    bench.give(std::slice::from_ref(&early));
    assert_eq!(bench.starts(), [early.fence]);
    // Its end is that of its own sending, not of the newest.
    bench.pass(WORKER_TTL_MS - 1_000);
    let late = on_sending(&mut bench, 1);
    bench.give(std::slice::from_ref(&late));
    assert_eq!(reasons(&bench.releases()), [(late.fence, ReleaseReason::StaleCredit)]);
}

#[test]
fn what_was_received_is_told_with_the_next_sending_of_any_connection() {
    let mut bench = Bench::new(4);
    bench.started();
    bench.started();
    bench.event(WorkerEvent::HomeLost { home: tag(1) });
    bench.offers(tag(1));
    bench.event(WorkerEvent::HomeSeen { home: tag(1), backlog: Slots::default() });
    let offer = bench.offer(tag(1));
    assert_eq!((offer.received.cpu, offer.free.cpu), (2, 2));
}

#[test]
fn a_grant_to_an_earlier_incarnation_is_released_and_uses_up_nothing() {
    let mut bench = Bench::new(4);
    let mut earlier = bench.grant();
    earlier.credit.incarnation = Incarnation(4);
    bench.give(std::slice::from_ref(&earlier));
    assert_eq!(reasons(&bench.releases()), [(earlier.fence, ReleaseReason::StaleCredit)]);
    bench.pass(limits::CREDIT_REFRESH_MS);
    let offer = bench.offer(tag(1));
    assert_eq!((offer.received, offer.free.cpu), (Slots::default(), 4));
}

#[test]
fn outcomes_that_wait_for_an_answer_take_places_of_the_prefetch_and_no_slot() {
    let mut bench = Bench::new(2);
    let grants: Vec<Grant> = (0..limits::PREFETCH_MAX + 50)
        .map(|_| {
            let grant = bench.started();
            bench.finish(&grant, "at once");
            grant
        })
        .collect();
    assert_eq!(bench.worker.stats().prefetch, limits::PREFETCH_MAX);
    bench.pass(limits::CREDIT_REFRESH_MS);
    assert_eq!(bench.offer(tag(1)).free.cpu, 2, "its slots are free, and enough is in flight");
    for grant in &grants {
        bench.answer(grant, CompleteAnswer::Committed);
    }
    bench.pass(limits::CREDIT_REFRESH_MS);
    assert_eq!(bench.offer(tag(1)).free.cpu, 2 + limits::PREFETCH_MAX);
}

#[test]
fn outcomes_for_a_home_that_is_away_take_no_place_of_others() {
    let mut bench = Bench::new(2);
    for _ in 0..limits::PREFETCH_MAX {
        let grant = bench.started();
        bench.finish(&grant, "at once");
    }
    bench.event(WorkerEvent::HomeLost { home: tag(1) });
    bench.event(WorkerEvent::HomeSeen { home: tag(2), backlog: Slots { cpu: 1_000, device: 0 } });
    assert_eq!(bench.offer(tag(2)).free.cpu, 2 + limits::PREFETCH_MAX);
}

#[test]
fn a_worker_that_holds_nothing_is_woken_seldom_and_one_that_does_soon() {
    let mut bench = Bench::new(4);
    let wait_ms = |bench: &Bench| bench.worker.next_tick(Now { mono_ms: bench.now_ms, wall_ms: 0 }) - bench.now_ms;
    assert_eq!(wait_ms(&bench), limits::WORKER_TICK_IDLE_MS);
    bench.started();
    assert_eq!(wait_ms(&bench), limits::SPOOL_AFTER_MS);
}

#[test]
fn a_home_that_has_nothing_as_before_is_offered_nothing_anew() {
    let mut bench = Bench::new(4);
    bench.offers(tag(1));
    // The offer has grown old; the tick sends it anew, not each heartbeat.
    bench.now_ms += limits::CREDIT_REFRESH_MS;
    bench.event(WorkerEvent::HomeSeen { home: tag(1), backlog: Slots::default() });
    assert_eq!(bench.offers(tag(1)).len(), 0);
    bench.event(WorkerEvent::HomeSeen { home: tag(1), backlog: Slots { cpu: 1, device: 0 } });
    assert_eq!(bench.offers(tag(1)).len(), 1);
}
