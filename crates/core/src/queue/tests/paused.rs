//! Pause, resume and clear: what they hold back and take away, and what a replay of them changes (2.5, 2.10).

use super::*;

fn version(home: &mut Bench) -> u64 {
    home.stats().queue_version
}

fn pause(home: &mut Bench, namespace: Option<&str>) -> LedgerReply {
    let (operation, version) = (home.operation(), version(home));
    let (namespace, reason) = (namespace.map(str::to_owned), "upgrade".to_owned());
    home.ask(LedgerRequest::PauseQueue { operation, namespace, version, reason })
}

fn resume(home: &mut Bench, namespace: Option<&str>) -> LedgerReply {
    let (operation, version) = (home.operation(), version(home));
    home.ask(LedgerRequest::ResumeQueue { operation, namespace: namespace.map(str::to_owned), version })
}

fn clear(home: &mut Bench, namespace: Option<&str>, up_to: LogIndex) -> (u64, u64) {
    let operation = home.operation();
    match home.ask(LedgerRequest::ClearQueue { operation, namespace: namespace.map(str::to_owned), up_to }) {
        LedgerReply::Cleared { tasks, workflows, left: 0 } => (tasks, workflows),
        other => panic!("{other:?}"),
    }
}

fn of(namespace: &str) -> TaskSpec {
    TaskSpec { namespace: namespace.to_owned(), ..noop() }
}

fn granted_tasks(home: &mut Bench) -> Vec<TaskId> {
    let received = home.received;
    home.credit(1, 10, received);
    home.pass(200);
    let grants = home.grants();
    home.received += grants.len() as u32;
    grants.into_iter().map(|(_, grant)| grant.fence.task).collect()
}

fn why(home: &mut Bench, id: TaskId) -> String {
    match home.ask(LedgerRequest::WhyPending { id }) {
        LedgerReply::Pending(view) => view.reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_paused_queue_accepts_and_grants_nothing_and_running_work_goes_on() {
    let mut home = Bench::new();
    let running = home.granted(noop());
    home.received = 1;
    assert!(matches!(pause(&mut home, None), LedgerReply::Queue { version: 1, .. }));
    let id = home.submit(noop());
    assert_eq!(granted_tasks(&mut home), []);
    assert!(matches!(home.renew(&running, true), RenewAnswer::Renewed { .. }));
    assert_eq!(home.complete(&running, success("done")), CompleteAnswer::Committed);
    assert!(why(&mut home, id).starts_with("the queue is paused since 2026-"), "{}", why(&mut home, id));
    assert!(why(&mut home, id).contains("(upgrade)"));
    let stats = home.stats();
    assert_eq!((stats.paused.len(), stats.counts.ready, stats.ready_by_shape.len()), (1, 1, 0));
    assert!(matches!(resume(&mut home, None), LedgerReply::Queue { version: 2, .. }));
    assert_eq!(granted_tasks(&mut home), [id]);
}

#[test]
fn a_pause_outlives_a_restart() {
    let mut home = Bench::new();
    let ids = home.submit_all(vec![of("a"), of("b")]);
    pause(&mut home, Some("a"));
    let mut home = home.restart(1_000);
    home.worker(1, 10);
    assert_eq!(granted_tasks(&mut home), [ids[1]]);
    assert_eq!(home.stats().paused[0].namespace.as_deref(), Some("a"));
    resume(&mut home, Some("a"));
    assert_eq!(granted_tasks(&mut home), [ids[0]]);
    assert!(home.restart(1_000).stats().paused.is_empty());
}

#[test]
fn a_paused_namespace_hides_no_other_and_stays_paused_when_the_whole_goes_on() {
    let mut home = Bench::new();
    let ids = home.submit_all(vec![of("a"), of("b")]);
    home.worker(1, 0);
    pause(&mut home, Some("a"));
    pause(&mut home, None);
    assert_eq!(granted_tasks(&mut home), []);
    resume(&mut home, None);
    assert_eq!(granted_tasks(&mut home), [ids[1]]);
    assert!(why(&mut home, ids[0]).starts_with("the namespace a is paused"));
}

#[test]
fn who_saw_an_older_version_of_the_queue_is_refused_with_the_new_one() {
    let mut home = Bench::new();
    let seen = version(&mut home);
    pause(&mut home, None);
    let stale = LedgerReply::Refused(Refusal::QueueChanged { version: seen + 1 });
    let operation = home.operation();
    let request = LedgerRequest::ResumeQueue { operation, namespace: None, version: seen };
    assert_eq!(home.ask(request), stale);
    let request =
        LedgerRequest::PauseQueue { operation, namespace: Some("a".into()), version: seen, reason: String::new() };
    assert_eq!(home.ask(request), stale);
    assert_eq!(home.stats().paused.len(), 1);
}

#[test]
fn a_pause_sent_again_after_the_resume_does_not_pause_again() {
    let mut home = Bench::new();
    let operation = home.operation();
    let request = LedgerRequest::PauseQueue { operation, namespace: None, version: 0, reason: String::new() };
    home.ask(request.clone());
    resume(&mut home, None);
    let mut home = home.restart(1_000);
    assert_eq!(home.ask(request), LedgerReply::Queue { version: 2, paused: Vec::new() });
    assert!(home.stats().paused.is_empty());
}

#[test]
fn pausing_what_is_paused_writes_nothing() {
    let mut home = Bench::new();
    pause(&mut home, None);
    let before = home.index();
    assert!(matches!(pause(&mut home, None), LedgerReply::Queue { version: 1, .. }));
    assert!(matches!(resume(&mut home, Some("a")), LedgerReply::Queue { version: 1, .. }));
    assert_eq!(home.index(), before);
}

#[test]
fn a_wrong_pause_is_refused_with_the_field() {
    let mut home = Bench::new();
    for (namespace, reason, path) in
        [(String::new(), String::new(), "/namespace"), ("a".to_owned(), "x".repeat(5_000), "/reason")]
    {
        let operation = home.operation();
        let request = LedgerRequest::PauseQueue { operation, namespace: Some(namespace), version: 0, reason };
        let LedgerReply::Refused(Refusal::Invalid { errors }) = home.ask(request) else { panic!("it is wrong") };
        assert_eq!(errors[0].path, path);
    }
}

#[test]
fn a_clear_cancels_what_has_not_started_up_to_its_place_in_the_log() {
    let mut home = Bench::new();
    let running = home.granted(noop()).fence.task;
    let later = Wall(home.now.wall_ms + 60_000);
    let taken = home.submit_all(vec![noop(), TaskSpec { not_before: Some(later), ..noop() }]);
    let up_to = home.stats().log_index;
    let after = home.submit(noop());
    assert_eq!(clear(&mut home, None, up_to), (2, 0));
    for id in taken {
        assert_eq!(home.state(id), TaskState::Cancelled);
        assert_eq!(home.task(id).error.unwrap().message, "the queue was cleared");
    }
    assert_eq!((home.state(running), home.state(after)), (TaskState::Leased, TaskState::Ready));
}

#[test]
fn a_task_that_came_early_and_was_touched_late_is_cleared_all_the_same() {
    let mut home = Bench::new();
    let id = home.submit(noop());
    let up_to = home.stats().log_index;
    let (operation, priority) = (home.operation(), Priority::try_from(3).unwrap());
    home.ask(LedgerRequest::SetPriority { operation, id, priority });
    assert_eq!(clear(&mut home, None, up_to), (1, 0));
}

#[test]
fn a_clear_sent_again_takes_nothing_that_came_since() {
    let mut home = Bench::new();
    home.submit(noop());
    let operation = home.operation();
    let request = LedgerRequest::ClearQueue { operation, namespace: None, up_to: LogIndex(u64::MAX) };
    let first = home.ask(request.clone());
    assert_eq!(first, LedgerReply::Cleared { tasks: 1, workflows: 0, left: 0 });
    let new = home.submit(noop());
    assert_eq!(home.ask(request.clone()), first);
    let mut home = home.restart(1_000);
    assert_eq!(home.ask(request), first);
    assert_eq!(home.state(new), TaskState::Ready);
}

#[test]
fn i15_a_clear_sent_again_after_a_restart_counts_what_was_in_memory_too() {
    let mut home = Bench::new();
    let in_memory = || TaskSpec { durability: Durability::Memory, ..noop() };
    home.submit_all(vec![noop(), TaskSpec { durability: Durability::Async, ..noop() }]);
    home.submit_all(vec![in_memory(), in_memory(), in_memory()]);
    let operation = home.operation();
    let request = LedgerRequest::ClearQueue { operation, namespace: None, up_to: LogIndex(u64::MAX) };
    let first = home.ask(request.clone());
    assert_eq!(first, LedgerReply::Cleared { tasks: 5, workflows: 0, left: 0 });
    assert_eq!(home.ask(request.clone()), first);
    let mut home = home.restart(1_000);
    assert_eq!(home.ask(request), first);
}

#[test]
fn a_clear_of_a_namespace_and_of_every_class_counts_what_it_took() {
    let mut home = Bench::new();
    let durability = Durability::Memory;
    home.submit_all(vec![of("a"), of("b"), TaskSpec { durability: Durability::Async, ..of("a") }]);
    home.submit_all(vec![TaskSpec { durability, ..of("a") }]);
    let before = home.index();
    assert_eq!(clear(&mut home, Some("a"), before), (3, 0));
    assert_eq!(home.index().0, before.0 + 1, "one record");
    let stats = home.stats();
    assert_eq!((stats.counts.cancelled, stats.counts.ready, stats.queue_version), (3, 1, 1));
}

#[test]
fn a_workflow_that_has_not_begun_is_cleared_whole_and_one_that_has_goes_on() {
    let mut home = Bench::new();
    let workflow = |home: &mut Bench| {
        let operation = home.operation();
        let request = LedgerRequest::SubmitWorkflow { operation, spec: Arc::new(workflows::chain(2)) };
        let LedgerReply::WorkflowSubmitted { id } = home.ask(request) else { panic!("it is good") };
        home.bind_all();
        id
    };
    let begun = workflow(&mut home);
    home.worker(1, 1);
    home.pass(200);
    let grant = home.grant();
    let waiting = workflow(&mut home);
    let up_to = home.index();
    assert_eq!(clear(&mut home, None, up_to), (0, 1));
    let state = |home: &mut Bench, id| match home.ask(LedgerRequest::GetWorkflow { id }) {
        LedgerReply::Workflow(view) => view.summary.state,
        other => panic!("{other:?}"),
    };
    assert_eq!(state(&mut home, waiting), WorkflowState::Cancelled);
    assert_eq!(state(&mut home, begun), WorkflowState::Running);
    home.complete(&grant, success("first"));
    home.bind_all();
    assert_eq!(clear(&mut home, None, LogIndex(u64::MAX)), (0, 0), "between two steps it has begun, too");
}

#[test]
fn a_lease_of_a_paused_queue_is_not_called_back() {
    let mut home = Bench::new();
    home.granted(noop());
    pause(&mut home, None);
    home.worker(2, 1);
    home.pass(limits::RECALL_AFTER_MS + 500);
    let recalls = |effect: &Effect| matches!(effect, Effect::Notify { notice: WorkerNotice::Recall(_), .. });
    assert!(!home.left.iter().any(recalls));
}
