//! Progress, checkpoints and the real end of attempts.

use sha2::{Digest, Sha256};

use super::*;
use crate::lease::outcome_digest;
use crate::task::Used;

fn says(grant: &Grant, line: &str) -> Renewal {
    let news = AttemptNews::read_line(line).unwrap();
    Renewal { news: Some(Box::new(news)), ..renewal(grant, true) }
}

fn gone(grant: &Grant) -> Renewal {
    Renewal { stopped: true, ..renewal(grant, true) }
}

fn checkpoint(home: &mut Bench, id: TaskId) -> Option<String> {
    home.task(id).checkpoint.map(|text| text.as_str().to_owned())
}

/// The next attempt of what `grant` was of.
fn next(home: &mut Bench, received: u32) -> Grant {
    home.credit(1, 1, received);
    home.pass(1_200);
    home.grant()
}

#[test]
fn a_checkpoint_goes_to_the_next_attempt_after_a_failure_an_expiry_and_a_restart() {
    let mut home = Bench::new();
    let first = home.granted(at_most(5));
    assert_eq!(first.checkpoint, None);
    home.renew_with(says(&first, r#"{"checkpoint": {"page": 1}}"#));
    home.complete(&first, failure(true));
    let second = next(&mut home, 1);
    assert_eq!(second.checkpoint.as_ref().map(JsonText::as_str), Some(r#"{"page":1}"#));
    home.renew_with(says(&second, r#"{"checkpoint": {"page": 2}}"#));
    home.pass(limits::LEASE_TTL_MS + 200);
    let third = next(&mut home, 2);
    assert_eq!(third.checkpoint.as_ref().map(JsonText::as_str), Some(r#"{"page":2}"#));
    home.renew_with(says(&third, r#"{"checkpoint": {"page": 3}}"#));
    let mut home = home.restart(0);
    home.pass(limits::LEASE_TTL_MS + 200);
    home.event(Event::WorkerSeen { worker: peer(1), capabilities: all_kinds(), alive: true });
    let fourth = next(&mut home, 0);
    assert_eq!(fourth.checkpoint.as_ref().map(JsonText::as_str), Some(r#"{"page":3}"#));
}

#[test]
fn a_checkpoint_of_another_epoch_changes_nothing() {
    let mut home = Bench::new();
    let first = home.granted(at_most(5));
    home.renew_with(says(&first, r#"{"checkpoint": 1}"#));
    home.pass(limits::LEASE_TTL_MS + 200);
    let second = next(&mut home, 1);
    let records = home.log.len();
    assert!(matches!(home.renew_with(says(&first, r#"{"checkpoint": "stale"}"#)), RenewAnswer::Fenced { .. }));
    let mut forged = says(&second, r#"{"checkpoint": "forged"}"#);
    forged.token = LeaseToken([9; 16]);
    assert!(matches!(home.renew_with(forged), RenewAnswer::Fenced { .. }));
    assert_eq!((checkpoint(&mut home, first.fence.task).as_deref(), home.log.len()), (Some("1"), records));
}

#[test]
fn a_checkpoint_is_durable_in_its_class_before_the_worker_hears_of_it() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    home.renew(&grant, true);
    home.syncs = false;
    assert_eq!(home.ask_as(peer(1), LedgerRequest::Renew(vec![says(&grant, r#"{"checkpoint": 1}"#)])), None);
    home.sync();
    home.settle();
    assert!(home.answer_to(ReplyTo(home.replies)).is_some());
    home.syncs = true;
    let memory = TaskSpec { durability: Durability::Memory, ..noop() };
    home.submit(memory);
    home.credit(1, 1, 1);
    home.pass(200);
    let grant = home.grant();
    let records = home.log.len();
    home.renew_with(says(&grant, r#"{"checkpoint": 1}"#));
    assert_eq!(home.log.len(), records, "nothing of it is written");
}

#[test]
fn the_same_checkpoint_is_written_once_and_one_beyond_its_bound_not_at_all() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    home.renew_with(says(&grant, r#"{"checkpoint": 1}"#));
    let records = home.log.len();
    home.renew_with(says(&grant, r#"{"checkpoint": 1}"#));
    let large = JsonText::of(&serde_json::Value::from("x".repeat(limits::CHECKPOINT_BYTES_MAX)));
    let news = AttemptNews { checkpoint: Some(large), progress: None };
    assert!(matches!(
        home.renew_with(Renewal { news: Some(Box::new(news)), ..renewal(&grant, true) }),
        RenewAnswer::Renewed { .. }
    ));
    assert_eq!((home.log.len(), checkpoint(&mut home, grant.fence.task).as_deref()), (records, Some("1")));
}

#[test]
fn an_outcome_brings_the_checkpoint_that_its_home_did_not_hear_of() {
    let mut home = Bench::new();
    let grant = home.granted(at_most(3));
    let left = Completion { checkpoint: Some(JsonText::parse("4").unwrap()), ..completion(&grant, failure(true)) };
    home.ask_as(peer(1), LedgerRequest::Complete(vec![left]));
    assert_eq!(next(&mut home, 1).checkpoint.as_ref().map(JsonText::as_str), Some("4"));
}

#[test]
fn progress_is_shown_while_its_attempt_runs_and_a_success_leaves_nothing() {
    let mut home = Bench::new();
    let grant = home.granted(at_most(3));
    let id = grant.fence.task;
    let records = home.log.len();
    home.renew(&grant, true);
    home.renew_with(says(&grant, r#"{"progress": 0.4, "message": "page 4"}"#));
    let progress = home.task(id).progress.expect("it said so");
    assert_eq!((progress.fraction, progress.message.as_str()), (Some(0.4), "page 4"));
    assert_eq!(home.log.len(), records + 1, "the start is written, progress is not");
    home.renew_with(says(&grant, r#"{"checkpoint": 1}"#));
    home.complete(&grant, success("done"));
    let view = home.task(id);
    assert_eq!((view.progress, view.checkpoint), (None, None));
}

#[test]
fn a_cancelled_task_shows_when_its_attempt_was_gone() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    let id = grant.fence.task;
    home.renew(&grant, true);
    assert_eq!(home.cancel(id), TaskState::Cancelled);
    let stop = Effect::Notify { worker: peer(1), notice: WorkerNotice::Stop(vec![grant.fence]) };
    assert!(home.left.contains(&stop), "at once");
    assert_eq!(home.task(id).attempt_stopped_at, None);
    let finished_at = home.task(id).finished_at.unwrap();
    home.pass(3_000);
    assert_eq!(home.renew_with(gone(&grant)), RenewAnswer::Terminal { state: TaskState::Cancelled });
    let stopped_at = home.task(id).attempt_stopped_at.expect("the worker said so");
    // Records of one moment are dated a millisecond apart.
    assert!(stopped_at.0 >= finished_at.0 + 2_900);
    let records = home.log.len();
    home.pass(1_000);
    home.renew_with(gone(&grant));
    assert_eq!(
        (home.task(id).attempt_stopped_at, home.log.len()),
        (Some(stopped_at), records),
        "the first word counts"
    );
    let view = home.task(id);
    assert_eq!(home.restart(0).task(id), view);
}

fn used(cpu_us: u64) -> Used {
    Used { cpu_us: Some(cpu_us), gpu_us: None }
}

#[test]
fn what_all_attempts_took_is_added_up_and_outlives_a_restart() {
    let mut home = Bench::new();
    let first = home.granted(at_most(3));
    let id = first.fence.task;
    home.complete(&first, Outcome { used: used(5), ..failure(true) });
    let second = next(&mut home, 1);
    let outcome = Outcome { used: Used { gpu_us: Some(2), ..used(7) }, ..success("done") };
    home.complete(&second, outcome.clone());
    let whole = Used { cpu_us: Some(12), gpu_us: Some(2) };
    assert_eq!(home.task(id).used, whole);
    assert_eq!(home.complete(&second, outcome), CompleteAnswer::Committed, "sent again");
    assert_eq!(home.task(id).used, whole);
    assert_eq!(home.restart(0).task(id).used, whole);
}

#[test]
fn what_a_cancelled_attempt_took_counts_once() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    home.renew(&grant, true);
    home.cancel(grant.fence.task);
    for _ in 0..2 {
        home.renew_with(Renewal { used: used(9), ..gone(&grant) });
        assert_eq!(home.task(grant.fence.task).used, used(9));
    }
    assert_eq!(home.restart(0).task(grant.fence.task).used, used(9));
    let mut home = Bench::new();
    let grant = home.granted(noop());
    home.cancel(grant.fence.task);
    home.complete(&grant, Outcome { used: used(4), ..success("too late") });
    assert_eq!(home.task(grant.fence.task).used, used(4));
}

#[test]
fn an_outcome_that_was_measured_is_the_same_to_a_home_that_does_not_know_of_it() {
    let measured = Outcome { used: used(4), ..success("done") };
    assert_eq!(outcome_digest(&measured), outcome_digest(&success("done")));
    let bytes = rmp_serde::to_vec_named(&success("done")).unwrap();
    assert_eq!(outcome_digest(&measured).0, <[u8; 32]>::from(Sha256::digest(bytes)), "as the version before made it");
}

#[test]
fn a_lost_stop_notice_is_said_again_with_the_next_renewal() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    home.renew(&grant, true);
    home.cancel(grant.fence.task);
    home.left.clear();
    assert_eq!(home.renew(&grant, true), RenewAnswer::Terminal { state: TaskState::Cancelled });
}

#[test]
fn an_outcome_that_comes_after_the_cancel_says_that_the_attempt_is_gone() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    home.renew(&grant, true);
    home.cancel(grant.fence.task);
    let answer = home.complete(&grant, success("too late"));
    assert_eq!(answer, CompleteAnswer::Terminal { state: TaskState::Cancelled });
    let view = home.task(grant.fence.task);
    assert_eq!((view.state, view.output, view.attempt_stopped_at.is_some()), (TaskState::Cancelled, None, true));
}

#[test]
fn an_attempt_whose_lease_expired_is_told_of_the_cancel_too() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    home.renew(&grant, true);
    home.pass(limits::LEASE_TTL_MS + 200);
    assert_eq!(home.state(grant.fence.task), TaskState::Ready);
    home.cancel(grant.fence.task);
    let stop = Effect::Notify { worker: peer(1), notice: WorkerNotice::Stop(vec![grant.fence]) };
    assert!(home.left.contains(&stop));
}

#[test]
fn a_worker_that_says_gone_of_a_live_lease_does_not_renew_it() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    home.renew(&grant, true);
    home.pass(5_000);
    home.renew_with(gone(&grant));
    home.pass(limits::LEASE_TTL_MS - 5_000 + 200);
    assert_eq!(home.state(grant.fence.task), TaskState::Ready);
    assert_eq!(home.task(grant.fence.task).attempt_stopped_at, None);
}

#[test]
fn an_exclusive_task_of_a_kind_that_cannot_be_ended_is_refused() {
    let mut home = Bench::new();
    // A workflow is run by its home, and refused here for having no steps.
    for kind in TaskKind::ALL.into_iter().filter(|kind| *kind != TaskKind::Workflow) {
        let operation = home.operation();
        let items = vec![SubmitItem::one(TaskSpec { exclusive: true, ..TaskSpec::new(kind) })];
        let LedgerReply::Submitted { answers } = home.ask(LedgerRequest::Submit { operation, items }) else {
            panic!("it answers each")
        };
        let refused = matches!(&answers[0], SubmitAnswer::Refused(Refusal::Invalid { errors }) if errors[0].path.ends_with("/exclusive"));
        assert_eq!(refused, !kind.can_be_exclusive(), "{kind}");
    }
}

#[test]
fn a_draining_home_refuses_new_work_with_the_reason_and_goes_on_with_the_old() {
    let mut home = Bench::new();
    let operation = home.operation();
    let items = vec![SubmitItem::one(noop())];
    let before = accepted(home.ask(LedgerRequest::Submit { operation, items: items.clone() }));
    home.event(Event::Draining { why: "it was told to end".to_owned() });
    let again = accepted(home.ask(LedgerRequest::Submit { operation, items: items.clone() }));
    assert_eq!(before, again, "what was accepted is answered as it was");
    let operation = home.operation();
    let LedgerReply::Refused(refusal) = home.ask(LedgerRequest::Submit { operation, items }) else { panic!("refused") };
    assert!(refusal.to_string().contains("it was told to end") && !refusal.is_retryable(), "{refusal}");
    let operation = home.operation();
    let spec = Arc::new(workflows::chain(2));
    let refused = home.ask(LedgerRequest::SubmitWorkflow { operation, spec });
    assert!(matches!(refused, LedgerReply::Refused(Refusal::Draining { .. })));
    home.worker(1, 1);
    home.pass(200);
    let grant = home.grant();
    assert_eq!(home.complete(&grant, success("done")), CompleteAnswer::Committed);
}

#[test]
fn a_draining_home_runs_nothing_again_and_answers_retries_that_came_before() {
    let mut home = Bench::new();
    let (before, after) = (home.submit(noop()), home.submit(noop()));
    home.cancel(before);
    home.cancel(after);
    let workflow = workflows::start(&mut home, workflows::chain(1));
    home.cancel(workflow);
    let operation = home.operation();
    let retry = LedgerRequest::RetryTasks { operation, ids: vec![before] };
    let first = home.ask(retry.clone());
    home.event(Event::Draining { why: "it was told to end".to_owned() });
    assert_eq!(home.ask(retry), first);
    let records = home.index();
    let operation = home.operation();
    let retries = [
        LedgerRequest::RetryTasks { operation, ids: vec![after] },
        LedgerRequest::RetryWorkflow { operation, id: workflow },
    ];
    for retry in retries {
        let refused = home.ask(retry);
        assert!(matches!(refused, LedgerReply::Refused(Refusal::Draining { .. })), "{refused:?}");
    }
    assert_eq!(home.index(), records);
}
