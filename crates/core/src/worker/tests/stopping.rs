//! A task that ended otherwise: its attempt is stopped, and its home hears when it is gone.

use super::*;

fn reports(bench: &mut Bench) -> Vec<Fence> {
    bench.renewals().into_iter().filter(|renewal| renewal.stopped).map(|renewal| renewal.fence).collect()
}

#[test]
fn an_attempt_that_was_stopped_is_reported_gone_until_its_home_answers() {
    let mut bench = Bench::new(1);
    let grant = bench.started();
    bench.event(WorkerEvent::Stopped { fences: vec![grant.fence] });
    assert_eq!(bench.stops(), [(grant.fence, StopCause::TaskEnded)]);
    bench.pass(4_000);
    assert_eq!(reports(&mut bench), [], "its process is still there");
    assert!(!bench.worker.is_idle());
    bench.finish(&grant, "dropped");
    assert_eq!(reports(&mut bench), [grant.fence]);
    assert!(bench.worker.is_idle() && bench.completions().is_empty());
    assert_eq!((bench.worker.stats().running, bench.worker.stats().reporting), (0, 0));
    bench.pass(limits::LEASE_RENEW_EVERY_MS);
    assert_eq!(reports(&mut bench), [grant.fence], "again: the answer was lost");
    let cancelled = RenewAnswer::Terminal { state: crate::task::TaskState::Cancelled };
    bench.answer_renewals(bench.now_ms, cancelled, &grant);
    bench.pass(60_000);
    assert_eq!(reports(&mut bench), []);
}

#[test]
fn what_an_attempt_that_was_stopped_took_is_told_with_its_end() {
    let mut bench = Bench::new(1);
    let grant = bench.started();
    bench.event(WorkerEvent::Stopped { fences: vec![grant.fence] });
    let used = crate::task::Used { cpu_us: Some(7), gpu_us: None };
    let outcome = Outcome { used, ..success("dropped") };
    bench.event(WorkerEvent::Finished { fence: grant.fence, outcome });
    let told: Vec<_> = bench.renewals().into_iter().map(|renewal| (renewal.stopped, renewal.used)).collect();
    assert_eq!(told, [(true, used)]);
}

#[test]
fn a_home_that_does_not_answer_is_told_for_a_minute() {
    let mut bench = Bench::new(1);
    let grant = bench.started();
    bench.event(WorkerEvent::Stopped { fences: vec![grant.fence] });
    bench.finish(&grant, "dropped");
    bench.pass(2 * limits::STOP_REPORT_MS_MAX);
    assert!(reports(&mut bench).len() > 10);
    bench.pass(limits::STOP_REPORT_MS_MAX);
    assert_eq!(reports(&mut bench), []);
    assert_eq!(bench.worker.stats().running, 0);
}

#[test]
fn a_fence_after_a_cancel_ends_at_once_what_has_its_grace() {
    let mut bench = Bench::new(1);
    let grant = bench.started();
    bench.event(WorkerEvent::Stopped { fences: vec![grant.fence] });
    bench.stops();
    bench.answer_renewals(bench.now_ms, RenewAnswer::Fenced { current: Epoch(9) }, &grant);
    assert_eq!(bench.stops(), [(grant.fence, StopCause::Fenced)]);
    bench.finish(&grant, "dropped");
    assert_eq!(reports(&mut bench), [], "that home has nothing to hear of it");
    assert!(bench.worker.is_idle());
}

#[test]
fn a_slot_is_free_when_the_stopped_attempt_is_gone_and_not_before() {
    let mut bench = Bench::new(1);
    let grants = [bench.grant(), bench.grant()];
    bench.give(&grants);
    bench.event(WorkerEvent::Stopped { fences: vec![grants[0].fence] });
    assert_eq!(bench.starts(), [grants[0].fence]);
    bench.finish(&grants[0], "dropped");
    assert_eq!(bench.starts(), [grants[1].fence]);
}
