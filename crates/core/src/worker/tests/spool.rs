//! A spool on a disk that refuses.

use super::*;

fn refused(bench: &mut Bench, fences: Vec<Fence>, why: Option<&str>) {
    bench.event(WorkerEvent::SpoolAnswered { fences, refused: why.map(str::to_owned) });
}

#[test]
fn an_outcome_that_the_disk_does_not_take_is_kept_sent_and_tried_again() {
    let mut bench = Bench::new(2);
    let grant = bench.started();
    bench.finish(&grant, "done");
    assert_eq!(bench.completions().len(), 1);
    bench.pass(2 * limits::SPOOL_AFTER_MS);
    assert_eq!(bench.spooled().len(), 1);
    refused(&mut bench, vec![grant.fence], Some("the disk is full"));
    assert_eq!(bench.worker.stats().spool_refuses.as_deref(), Some("the disk is full"));
    bench.event(WorkerEvent::CompleteFailed { home: tag(1) });
    bench.pass(1_500);
    assert_eq!((bench.completions().len(), bench.spooled().len()), (1, 0), "its home is asked again, the disk later");
    bench.pass(1_000);
    assert_eq!(bench.spooled().iter().map(|completion| completion.fence).collect::<Vec<_>>(), [grant.fence]);
    refused(&mut bench, vec![grant.fence], None);
    assert_eq!(bench.worker.stats().spool_refuses, None);
    bench.pass(5_000);
    assert!(bench.spooled().is_empty(), "once is enough");
}

#[test]
fn one_that_is_answered_before_the_disk_takes_it_is_neither_tried_again_nor_removed() {
    let mut bench = Bench::new(2);
    let grant = bench.started();
    bench.finish(&grant, "done");
    bench.pass(2 * limits::SPOOL_AFTER_MS);
    refused(&mut bench, vec![grant.fence], Some("the disk is full"));
    bench.spooled();
    bench.answer(&grant, CompleteAnswer::Committed);
    bench.pass(5_000);
    assert!(bench.spooled().is_empty() && bench.worker.is_idle());
    assert!(!bench.asked.iter().any(|effect| matches!(effect, WorkerEffect::Unspool { .. })));
    assert_eq!(bench.worker.stats().spool_refuses, None, "nothing is kept any more");
}
