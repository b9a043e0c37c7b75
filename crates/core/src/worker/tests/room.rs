//! A disk without room: what needs some is not started here, and spends no attempt.

use super::*;

fn process() -> TaskSpec {
    TaskSpec { timeout: DurationMs(60_000), ..TaskSpec::new(TaskKind::Process) }
}

fn no_room(bench: &mut Bench, why: Option<&str>) {
    bench.event(WorkerEvent::RoomChanged { no_room: why.map(str::to_owned) });
}

#[test]
fn an_attempt_that_prepares_is_said_to_have_started_only_once_it_begins() {
    let mut bench = Bench::new(1);
    let grant = bench.grant_of(tag(1), process());
    bench.give(std::slice::from_ref(&grant));
    assert_eq!(bench.starts(), [grant.fence]);
    bench.pass(2 * limits::LEASE_RENEW_EVERY_MS);
    let renewals = bench.renewals();
    assert!(!renewals.is_empty() && renewals.iter().all(|renewal| !renewal.started), "{renewals:?}");
    bench.event(WorkerEvent::Begun { fence: grant.fence });
    bench.pass(100);
    assert!(bench.renewals().iter().any(|renewal| renewal.started), "soon");
}

#[test]
fn an_attempt_that_could_not_begin_goes_back_as_a_false_start() {
    let mut bench = Bench::new(1);
    let grant = bench.grant_of(tag(1), process());
    bench.give(std::slice::from_ref(&grant));
    let why = "the disk is full".to_owned();
    bench.event(WorkerEvent::NotStarted { fence: grant.fence, why: why.clone() });
    assert_eq!(reasons(&bench.releases()), [(grant.fence, ReleaseReason::Unable { why })]);
    assert!(bench.worker.is_idle() && bench.completions().is_empty());
    let stats = bench.worker.stats();
    assert_eq!((stats.running, stats.started, stats.failed), (0, 0, 0));
    bench.pass(limits::LEASE_TTL_MS);
    assert!(bench.renewals().is_empty());
}

#[test]
fn one_that_was_told_to_end_while_it_prepared_is_gone_and_not_given_back() {
    let mut bench = Bench::new(2);
    let grants = [bench.grant_of(tag(1), process()), bench.grant_of(tag(1), process())];
    bench.give(&grants);
    bench.event(WorkerEvent::Stopped { fences: vec![grants[0].fence] });
    let fenced = RenewAnswer::Fenced { current: Epoch(9) };
    let answers = vec![(grants[1].fence, fenced)];
    bench.event(WorkerEvent::RenewAnswered { home: tag(1), sent_ms: bench.now_ms, answers });
    for grant in &grants {
        bench.event(WorkerEvent::NotStarted { fence: grant.fence, why: "the disk is full".to_owned() });
    }
    assert!(bench.releases().is_empty() && bench.worker.is_idle());
    assert!(bench.renewals().iter().any(|renewal| renewal.stopped && renewal.fence == grants[0].fence));
}

#[test]
fn without_room_what_needs_some_goes_back_and_the_rest_runs_on() {
    let mut bench = Bench::new(1);
    let (running, waiting) = (bench.grant_of(tag(1), process()), bench.grant_of(tag(1), process()));
    let other = bench.grant();
    bench.give(&[running.clone(), waiting.clone(), other.clone()]);
    no_room(&mut bench, Some("the disk is full"));
    assert_eq!(reasons(&bench.releases()), [(waiting.fence, ReleaseReason::Drained)]);
    let late = bench.grant_of(tag(1), process());
    bench.give(std::slice::from_ref(&late));
    assert_eq!(reasons(&bench.releases()), [(late.fence, ReleaseReason::Drained)]);
    assert_eq!(bench.worker.stats().no_room.as_deref(), Some("the disk is full"));
    bench.finish(&running, "done");
    assert_eq!(bench.starts(), [running.fence, other.fence]);
    no_room(&mut bench, None);
    let next = bench.grant_of(tag(1), process());
    bench.finish(&other, "done");
    bench.give(std::slice::from_ref(&next));
    assert_eq!(bench.starts(), [next.fence]);
}
