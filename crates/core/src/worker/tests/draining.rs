//! A drain (2.11), and leases that lapse while they wait.

use super::*;

#[test]
fn a_drain_returns_what_is_not_started_finishes_the_rest_and_offers_no_credit() {
    let mut bench = Bench::new(2);
    let grants: Vec<Grant> = (0..6).map(|_| bench.grant()).collect();
    bench.give(&grants);
    let running = bench.starts();
    assert_eq!(running.len(), 2);
    bench.offers(tag(1));
    bench.event(WorkerEvent::Drain);
    let returned: Vec<_> = grants[2..].iter().map(|grant| (grant.fence, ReleaseReason::Drained)).collect();
    assert_eq!(reasons(&bench.releases()), returned);
    assert!(bench.offers(tag(1)).iter().all(|offer| offer.free.is_zero()));
    assert!(!bench.worker.is_idle(), "two of them run");
    for grant in &grants[..2] {
        bench.finish(grant, "done");
        bench.answer(grant, CompleteAnswer::Committed);
    }
    bench.pass(3 * limits::CREDIT_REFRESH_MS);
    assert!(bench.worker.is_idle() && bench.starts().is_empty());
    assert!(bench.offers(tag(1)).iter().all(|offer| offer.free.is_zero()));
    let stats = bench.worker.stats();
    assert_eq!((stats.succeeded, stats.released, stats.free), (2, 4, Slots::default()));
}

#[test]
fn a_grant_that_crosses_a_drain_goes_back_and_a_resume_offers_again() {
    let mut bench = Bench::new(2);
    bench.event(WorkerEvent::Drain);
    bench.offers(tag(1));
    let late = bench.grant();
    bench.give(std::slice::from_ref(&late));
    assert_eq!(reasons(&bench.releases()), [(late.fence, ReleaseReason::Drained)]);
    bench.event(WorkerEvent::Resume);
    assert_eq!(bench.offer(tag(1)).free.cpu, 2);
}

#[test]
fn a_lease_that_lapses_in_the_queue_goes_back_and_is_never_started() {
    let mut bench = Bench::new(1);
    let grants = [bench.grant(), bench.grant()];
    bench.give(&grants);
    assert_eq!(bench.starts(), [grants[0].fence]);
    bench.pass(WORKER_TTL_MS - limits::SPOOL_AFTER_MS);
    assert!(bench.releases().is_empty(), "its home may still answer a renewal");
    bench.pass(2 * limits::SPOOL_AFTER_MS);
    assert_eq!(reasons(&bench.releases()), [(grants[1].fence, ReleaseReason::StaleCredit)]);
    bench.finish(&grants[0], "done");
    bench.give(&grants[1..]);
    bench.pass(1_000);
    assert!(bench.starts().is_empty() && bench.worker.is_idle());
}

#[test]
fn a_slot_that_comes_free_after_the_end_of_a_lease_does_not_start_it() {
    let mut bench = Bench::new(1);
    let grants = [bench.grant(), bench.grant()];
    bench.give(&grants);
    assert_eq!(bench.starts(), [grants[0].fence]);
    // The end passes, and no tick comes before the slot is free.
    bench.now_ms += WORKER_TTL_MS;
    bench.finish(&grants[0], "done");
    assert!(bench.starts().is_empty());
    assert_eq!(reasons(&bench.releases()), [(grants[1].fence, ReleaseReason::StaleCredit)]);
}
