//! `exclusive` (2.3): killed at the worker's own end of the lease.

use super::*;

fn exclusive(bench: &mut Bench) -> Grant {
    let spec = TaskSpec { exclusive: true, timeout: DurationMs(600_000), ..TaskSpec::new(TaskKind::Process) };
    let grant = bench.grant_of(tag(1), spec);
    bench.give(std::slice::from_ref(&grant));
    grant
}

fn ends(bench: &mut Bench) -> Vec<u64> {
    bench.take(|effect| match effect {
        WorkerEffect::Start { ends_ms, .. } => *ends_ms,
        WorkerEffect::LeaseExtended { ends_ms, .. } => Some(*ends_ms),
        _ => None,
    })
}

#[test]
fn an_exclusive_attempt_is_ended_at_the_workers_end_of_its_lease() {
    let mut bench = Bench::new(2);
    let sent_ms = bench.now_ms;
    let other = bench.started();
    let grant = exclusive(&mut bench);
    assert_eq!(ends(&mut bench), [sent_ms + WORKER_TTL_MS]);
    bench.pass(WORKER_TTL_MS - limits::SPOOL_AFTER_MS);
    assert_eq!(bench.stops(), []);
    bench.pass(limits::SPOOL_AFTER_MS);
    assert_eq!(
        bench.stops(),
        [(grant.fence, StopCause::LeaseEnded)],
        "and not {:?}, which is not exclusive",
        other.fence
    );
    bench.pass(1_000);
    assert_eq!(bench.stops(), [], "once");
}

#[test]
fn each_acknowledged_renewal_moves_the_end_from_when_it_was_sent() {
    let mut bench = Bench::new(1);
    let grant = exclusive(&mut bench);
    ends(&mut bench);
    bench.pass(6_000);
    let sent_ms = bench.now_ms - 100;
    bench.answer_renewals(sent_ms, RenewAnswer::Renewed { ttl_ms: limits::LEASE_TTL_MS }, &grant);
    assert_eq!(ends(&mut bench), [sent_ms + WORKER_TTL_MS]);
    bench.pass(WORKER_TTL_MS - 200);
    assert_eq!(bench.stops(), []);
    bench.pass(150);
    assert_eq!(bench.stops(), [(grant.fence, StopCause::LeaseEnded)]);
}

#[test]
fn how_an_exclusive_attempt_ended_with_its_lease_is_its_outcome() {
    let mut bench = Bench::new(1);
    let grant = exclusive(&mut bench);
    bench.pass(WORKER_TTL_MS);
    let error = TaskError::new("lease_ended", "killed at the end of its lease");
    let outcome = Outcome {
        result: AttemptResult::Failed { error, retryable: true },
        log_tail: String::new(),
        ran_ms: WORKER_TTL_MS,
        used: Default::default(),
    };
    bench.event(WorkerEvent::Finished { fence: grant.fence, outcome: outcome.clone() });
    assert_eq!(bench.completions().concat()[0].outcome, outcome);
}

#[test]
fn one_that_has_finished_is_not_ended_any_more() {
    let mut bench = Bench::new(1);
    let grant = exclusive(&mut bench);
    bench.finish(&grant, "in time");
    bench.pass(2 * WORKER_TTL_MS);
    assert_eq!(bench.stops(), []);
}
