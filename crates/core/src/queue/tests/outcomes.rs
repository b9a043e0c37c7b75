//! Whose word counts: fences, digests, first outcomes (2.3).

use super::*;

fn complete_many(home: &mut Bench, completions: Vec<Completion>) -> Vec<CompleteAnswer> {
    match home.ask_as(peer(1), LedgerRequest::Complete(completions)) {
        Some(LedgerReply::Completed(answers)) => answers,
        other => panic!("{other:?}"),
    }
}

#[test]
fn any_other_epoch_or_token_is_fenced_and_changes_nothing() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    let before = home.index();
    let mut forged = vec![grant.clone(), grant.clone(), grant.clone()];
    forged[0].token = LeaseToken([9; 16]);
    forged[1].fence.epoch = Epoch(grant.fence.epoch.0 + 1);
    forged[2].fence.epoch = Epoch(grant.fence.epoch.0 - 1);
    for stale in &forged {
        let current = grant.fence.epoch;
        assert_eq!(home.renew(stale, true), RenewAnswer::Fenced { current });
        assert_eq!(home.complete(stale, success("forged")), CompleteAnswer::Fenced { current });
        home.release(stale, ReleaseReason::NoSlot);
    }
    assert_eq!((home.index(), home.state(grant.fence.task)), (before, TaskState::Leased));
    assert_eq!(home.stats().fenced_total, 6);
}

#[test]
fn an_unknown_task_is_answered_so() {
    let mut home = Bench::new();
    let mut grant = home.granted(noop());
    grant.fence.task.ulid += 1;
    assert_eq!(home.renew(&grant, true), RenewAnswer::Unknown);
    assert_eq!(home.complete(&grant, success("of nothing")), CompleteAnswer::Unknown);
}

#[test]
fn a_released_epoch_is_fenced() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    home.release(&grant, ReleaseReason::NoSlot);
    let current = grant.fence.epoch;
    assert_eq!(home.complete(&grant, success("after all")), CompleteAnswer::Fenced { current });
}

#[test]
fn the_same_outcome_again_gets_the_same_answer_and_another_a_conflict() {
    for (outcome, answer) in [
        (success("one"), CompleteAnswer::Committed),
        (failure(true), CompleteAnswer::Recorded { state: TaskState::Delayed }),
        (failure(false), CompleteAnswer::Committed),
    ] {
        let mut home = Bench::new();
        let grant = home.granted(noop());
        assert_eq!(home.complete(&grant, outcome.clone()), answer);
        assert_eq!(home.complete(&grant, outcome.clone()), answer);
        assert_eq!(home.complete(&grant, success("two")), CompleteAnswer::Conflict);
        let mut home = home.restart(0);
        assert_eq!(home.complete(&grant, outcome), answer, "the digest is in the log");
        assert_eq!(home.complete(&grant, success("two")), CompleteAnswer::Conflict);
    }
}

#[test]
fn two_outcomes_of_one_fence_in_one_message_are_judged_one_after_the_other() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    let pair = ["one", "two", "one"].map(|text| completion(&grant, success(text)));
    let answers = complete_many(&mut home, pair.to_vec());
    assert_eq!(answers, [CompleteAnswer::Committed, CompleteAnswer::Conflict, CompleteAnswer::Committed]);
}

#[test]
fn an_expired_epoch_commits_while_no_later_one_was_granted() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    home.pass(limits::LEASE_TTL_MS + 100);
    assert_eq!(home.state(grant.fence.task), TaskState::Ready);
    assert_eq!(home.complete(&grant, success("late")), CompleteAnswer::Committed);
    home.worker(2, 1);
    home.pass(1_000);
    assert!(home.grants().is_empty(), "it stands in no heap any more");
}

#[test]
fn a_late_failure_of_an_expired_epoch_is_one_attempt_and_no_false_start() {
    let mut home = Bench::new();
    let grant = home.granted(at_most(2));
    home.pass(limits::LEASE_TTL_MS + 100);
    assert_eq!(home.complete(&grant, failure(true)), CompleteAnswer::Recorded { state: TaskState::Delayed });
    assert_eq!(home.task(grant.fence.task).attempts, 1);
    assert_eq!(home.ledger.state.tasks[&grant.fence.task].false_starts, 0);
}

#[test]
fn codes_that_the_policy_lists_are_retried_whatever_the_executor_says() {
    let mut spec = at_most(3);
    spec.retry.retry_on = vec!["output_too_large".to_owned()];
    let mut home = Bench::new();
    let grant = home.granted(spec);
    let error = TaskError::new("output_too_large", "above the limit");
    let outcome = Outcome {
        result: AttemptResult::Failed { error, retryable: false },
        log_tail: String::new(),
        ran_ms: 1,
        used: Default::default(),
    };
    assert_eq!(home.complete(&grant, outcome), CompleteAnswer::Recorded { state: TaskState::Delayed });
}

#[test]
fn a_batch_of_outcomes_is_one_record() {
    let mut home = Bench::new();
    home.submit_all(vec![noop(); 50]);
    home.worker(0, 50);
    home.pass(100);
    let grants = home.grants();
    let before = home.index().0;
    let all = grants.iter().map(|(_, grant)| completion(grant, success("x"))).collect();
    let answers = complete_many(&mut home, all);
    assert!(answers.iter().all(|answer| *answer == CompleteAnswer::Committed) && answers.len() == 50);
    assert_eq!(home.index().0, before + 1);
}
