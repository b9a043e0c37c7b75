//! A drain (2.11), and leases that lapse while they wait.

use super::*;

#[test]
fn i17_a_drain_returns_what_is_not_started_finishes_the_rest_and_offers_no_credit() {
    let mut bench = Bench::new(2);
    let grants: Vec<Grant> = (0..6).map(|_| bench.grant()).collect();
    bench.give(&grants);
    let running = bench.starts();
    assert_eq!(running.len(), 2);
    bench.offers(tag(1));
    bench.event(WorkerEvent::Drain { within_ms: None });
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
    bench.event(WorkerEvent::Drain { within_ms: None });
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

fn failed(code: &str) -> Outcome {
    let result = AttemptResult::Failed { error: TaskError::new(code, "as the drain asked"), retryable: true };
    Outcome { result, log_tail: String::new(), ran_ms: 1, used: Default::default() }
}

#[test]
fn what_still_runs_at_the_deadline_of_a_drain_is_ended_and_reported_with_its_checkpoint() {
    let mut bench = Bench::new(2);
    let quick = bench.started();
    let slow = bench.started();
    bench.event(WorkerEvent::Drain { within_ms: Some(20_000) });
    bench.finish(&quick, "done");
    bench.event(WorkerEvent::Progressed {
        fence: slow.fence,
        news: AttemptNews::read_line(r#"{"checkpoint": 7}"#).unwrap(),
    });
    bench.pass(19_950);
    assert_eq!((bench.stops(), bench.worker.stats().drain_left_ms), (vec![], Some(50)));
    bench.pass(50);
    assert_eq!(bench.stops(), [(slow.fence, StopCause::Drained)]);
    bench.pass(4_000);
    assert_eq!(bench.stops(), [], "it is told once, and has its grace");
    bench.completions();
    bench.answer(&quick, CompleteAnswer::Committed);
    bench.event(WorkerEvent::Finished { fence: slow.fence, outcome: failed("drained") });
    let reported = bench.completions().concat();
    assert_eq!((reported.len(), reported[0].fence, &reported[0].outcome), (1, slow.fence, &failed("drained")));
    assert_eq!(reported[0].checkpoint.as_ref().map(JsonText::as_str), Some("7"));
    assert!(bench.worker.is_idle());
}

#[test]
fn a_drain_without_time_ends_all_at_once_and_a_resume_takes_the_deadline_back() {
    let mut bench = Bench::new(2);
    let grants = [bench.started(), bench.started()];
    bench.event(WorkerEvent::Drain { within_ms: Some(10_000) });
    bench.event(WorkerEvent::Resume);
    bench.pass(20_000);
    assert_eq!((bench.stops(), bench.worker.stats().drain_left_ms), (vec![], None));
    bench.event(WorkerEvent::Drain { within_ms: Some(0) });
    assert_eq!(bench.stops(), grants.map(|grant| (grant.fence, StopCause::Drained)));
}

#[test]
fn what_only_prepares_at_the_deadline_of_a_drain_goes_back_and_is_no_attempt() {
    let mut bench = Bench::new(1);
    let process = TaskSpec { timeout: DurationMs(60_000), ..TaskSpec::new(TaskKind::Process) };
    let grant = bench.grant_of(tag(1), process);
    bench.give(std::slice::from_ref(&grant));
    bench.event(WorkerEvent::Drain { within_ms: Some(1_000) });
    bench.pass(500);
    assert!(bench.stops().is_empty() && bench.releases().is_empty(), "it may still begin and end");
    bench.pass(500);
    assert_eq!(bench.stops(), [(grant.fence, StopCause::Drained)]);
    bench.event(WorkerEvent::NotStarted { fence: grant.fence, why: "stopped here".to_owned() });
    assert_eq!(reasons(&bench.releases()), [(grant.fence, ReleaseReason::Drained)]);
    assert!(bench.worker.is_idle() && bench.completions().is_empty());
    assert!(bench.renewals().iter().all(|renewal| !renewal.started), "its home never heard of a start");
    let stats = bench.worker.stats();
    assert_eq!((stats.started, stats.failed, stats.released), (0, 0, 1));
}

#[test]
fn an_exclusive_attempt_whose_lease_ends_while_it_prepares_goes_back_unstarted() {
    let mut bench = Bench::new(1);
    let process = TaskSpec { exclusive: true, ..TaskSpec::new(TaskKind::Process) };
    let grant = bench.grant_of(tag(1), process);
    bench.give(std::slice::from_ref(&grant));
    bench.pass(WORKER_TTL_MS + limits::SPOOL_AFTER_MS);
    assert_eq!(bench.stops(), [(grant.fence, StopCause::LeaseEnded)]);
    bench.event(WorkerEvent::NotStarted { fence: grant.fence, why: "its lease ended".to_owned() });
    assert_eq!(reasons(&bench.releases()), [(grant.fence, ReleaseReason::StaleCredit)]);
    assert!(bench.worker.is_idle() && bench.completions().is_empty());
}
