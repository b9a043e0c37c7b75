//! What an attempt says of itself goes along with its renewals.

use super::*;

fn says(bench: &mut Bench, grant: &Grant, line: &str) {
    let news = AttemptNews::read_line(line).unwrap();
    bench.event(WorkerEvent::Progressed { fence: grant.fence, news });
}

/// The checkpoint and the fraction of each renewal that went out, with its time.
fn told(bench: &mut Bench) -> Vec<(u64, Option<String>, Option<f64>)> {
    let all = bench.take(|effect| match effect {
        WorkerEffect::Renew { sent_ms, renewals, .. } => Some((*sent_ms, renewals.clone())),
        _ => None,
    });
    let news = all.into_iter().flat_map(|(sent_ms, renewals)| renewals.into_iter().map(move |one| (sent_ms, one.news)));
    news.map(|(sent_ms, news)| {
        let news = news.map(|news| *news).unwrap_or_default();
        let fraction = news.progress.and_then(|progress| progress.fraction);
        (sent_ms, news.checkpoint.map(|text| text.as_str().to_owned()), fraction)
    })
    .collect()
}

/// One that runs, and whose start is known.
fn known(bench: &mut Bench) -> Grant {
    let grant = bench.started();
    bench.pass(50);
    told(bench);
    grant
}

#[test]
fn news_go_out_soon_at_most_once_a_second_and_the_newest_wins() {
    let mut bench = Bench::new(1);
    let grant = known(&mut bench);
    let begin_ms = bench.now_ms;
    for n in 0..30 {
        says(&mut bench, &grant, &format!(r#"{{"progress": {}, "checkpoint": {n}}}"#, f64::from(n) / 30.0));
        bench.pass(100);
    }
    let told = told(&mut bench);
    assert_eq!(told.iter().map(|(sent_ms, ..)| sent_ms - begin_ms).collect::<Vec<_>>(), [50, 1_050, 2_050]);
    assert_eq!(told[2].1.as_deref(), Some("20"), "the newest of what was said until then");
}

#[test]
fn news_are_told_until_a_renewal_that_carried_them_is_acknowledged() {
    let mut bench = Bench::new(1);
    let grant = known(&mut bench);
    says(&mut bench, &grant, r#"{"checkpoint": 1}"#);
    bench.pass(50);
    assert_eq!(told(&mut bench)[0].1.as_deref(), Some("1"));
    bench.pass(limits::LEASE_RENEW_EVERY_MS);
    let again = told(&mut bench);
    assert_eq!((again.len(), again[0].1.as_deref()), (1, Some("1")), "the answer was lost");
    bench.answer_renewals(again[0].0, RenewAnswer::Renewed { ttl_ms: limits::LEASE_TTL_MS }, &grant);
    bench.pass(limits::LEASE_RENEW_EVERY_MS);
    assert_eq!(told(&mut bench)[0].1, None);
}

#[test]
fn an_acknowledgement_of_older_news_does_not_drop_newer_ones() {
    let mut bench = Bench::new(1);
    let grant = known(&mut bench);
    says(&mut bench, &grant, r#"{"checkpoint": 1}"#);
    bench.pass(50);
    let first_ms = told(&mut bench)[0].0;
    says(&mut bench, &grant, r#"{"checkpoint": 2}"#);
    bench.answer_renewals(first_ms, RenewAnswer::Renewed { ttl_ms: limits::LEASE_TTL_MS }, &grant);
    bench.pass(1_000);
    assert_eq!(told(&mut bench)[0].1.as_deref(), Some("2"));
}

#[test]
fn an_outcome_carries_the_checkpoint_of_a_failure_and_none_of_a_success() {
    for (outcome, carried) in [(failure(), Some("3")), (success("done"), None)] {
        let mut bench = Bench::new(1);
        let grant = known(&mut bench);
        says(&mut bench, &grant, r#"{"checkpoint": 3}"#);
        bench.event(WorkerEvent::Finished { fence: grant.fence, outcome });
        let reported = bench.completions().concat();
        assert_eq!(reported[0].checkpoint.as_ref().map(JsonText::as_str), carried);
    }
}

fn failure() -> Outcome {
    let result = AttemptResult::Failed { error: TaskError::new("exit_status", "exit status 1"), retryable: true };
    Outcome { result, log_tail: String::new(), ran_ms: 1, used: Default::default() }
}

#[test]
fn renewals_with_large_checkpoints_fit_their_frames() {
    let mut bench = Bench::new(200);
    let grants: Vec<Grant> = (0..200).map(|_| bench.started()).collect();
    let line = format!(r#"{{"checkpoint": "{}"}}"#, "x".repeat(60_000));
    grants.iter().for_each(|grant| says(&mut bench, grant, &line));
    bench.pass(50);
    let messages = bench.take(|effect| match effect {
        WorkerEffect::Renew { renewals, .. } => Some(renewals.clone()),
        _ => None,
    });
    assert_eq!(messages.iter().map(Vec::len).sum::<usize>(), 200);
    assert!(messages.iter().all(|message| crate::wire::encode(message, limits::FRAME_BYTES_MAX).is_ok()));
}
