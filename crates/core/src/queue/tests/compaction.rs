//! Logs that are cut: what is left of one shows what the whole shows.

use super::compaction_model::difference;
use super::*;
use crate::queue::task_entry::Task;

/// Cuts as soon as it can, in small pieces, whether it pays or not.
pub fn eager(keep_ms: u64, piece_len_max: usize) -> CompactionPolicy {
    CompactionPolicy { keep_ms, bytes_min: 0, times_the_images: 0, piece_len_max }
}

fn cut_home(keep_ms: u64) -> Bench {
    let mut home = Bench::new();
    home.compact(eager(keep_ms, 3));
    home
}

/// The same home as it starts when all before `first` is gone.
fn from(home: &Bench, first: LogIndex) -> Bench {
    Bench::open(home.replay_from(first, 2), home.now, home.log.clone())
}

fn records(home: &Bench) -> Vec<Record> {
    home.log.iter().map(|entry| crate::wire::decode_record(&entry.body).unwrap()).collect()
}

fn submit_workflow(home: &mut Bench, len: usize) -> WorkflowId {
    let operation = home.operation();
    match home.ask(LedgerRequest::SubmitWorkflow { operation, spec: Arc::new(workflows::chain(len)) }) {
        LedgerReply::WorkflowSubmitted { id } => id,
        other => panic!("{other:?}"),
    }
}

/// What is left of a log knows all that the whole does.
fn assert_whole(home: &Bench) {
    let replay = |first| home.replay_from(first, 2);
    assert_eq!(difference(&replay(home.first), &replay(LogIndex(1))), None);
}

#[test]
fn what_is_left_of_a_cut_log_knows_what_the_whole_knows() {
    let mut home = cut_home(0);
    let keyed = TaskSpec { idempotency_key: Some("once".to_owned()), ..noop() };
    let first = home.submit(keyed.clone());
    let workflow = submit_workflow(&mut home, 3);
    home.bind_all();
    home.worker(1, 4);
    home.pass(1_000);
    let grants = home.grants();
    home.complete(&grants[0].1, success("one"));
    home.bind_all();
    home.pass(3_000);
    assert!(home.first > LogIndex(5), "cut before {}", home.first);
    assert_whole(&home);
    let mut cut = home.restart(0);
    assert_eq!(cut.submit(keyed), first, "the key was carried forward");
    assert!(matches!(cut.ask(LedgerRequest::GetWorkflow { id: workflow }), LedgerReply::Workflow(_)));
}

#[test]
fn a_cut_log_is_cut_again_and_does_not_grow_with_its_history() {
    let mut home = cut_home(0);
    home.worker(1, 0);
    let mut kept = Vec::new();
    for _ in 0..6 {
        for _ in 0..20 {
            let id = home.submit(noop());
            home.cancel(id);
        }
        let ended: Vec<TaskId> = home.ledger.state.order.iter().copied().collect();
        home.ledger.commit_pruned(None, ended, Vec::new());
        home.pass(3_000);
        kept.push(home.index().0 - home.first.0);
    }
    assert!(kept.iter().all(|kept| *kept < 12), "{kept:?}");
    let stats = from(&home, home.first).stats();
    assert_eq!((stats.submitted, stats.counts.cancelled), (120, 120));
}

#[test]
fn nothing_is_cut_before_its_checkpoint_is_on_the_disk() {
    let mut home = cut_home(0);
    home.submit(noop());
    home.pass(300);
    let (before, checkpoints) =
        (home.first, |home: &Bench| records(home).iter().filter(|record| record.kind() == "checkpoint").count());
    let earlier = checkpoints(&home);
    home.submit(noop());
    home.syncs = false;
    home.pass(5_000);
    assert_eq!((home.first, checkpoints(&home)), (before, earlier + 1));
    home.sync();
    home.pass(100);
    assert!(home.first > before);
}

#[test]
fn a_cut_that_a_crash_came_before_is_asked_for_again() {
    let mut home = cut_home(0);
    home.submit(noop());
    home.pass(3_000);
    let cut = home.first;
    assert!(cut > LogIndex(1));
    home.first = LogIndex(1);
    assert_eq!(home.restart(0).first, cut);
}

#[test]
fn a_log_without_the_checkpoint_of_its_cut_is_refused() {
    let mut home = cut_home(0);
    home.submit(noop());
    home.pass(3_000);
    let place = records(&home).iter().rposition(|record| record.kind() == "checkpoint").unwrap();
    home.log.truncate(place);
    let replay = home.replay_from(home.first, 2);
    let refused = replay.check().unwrap_err();
    assert_eq!(refused, ReplayError::Incomplete { first: home.first });
    assert!(refused.to_string().ends_with("no checkpoint in it makes up for those before"), "{refused}");
}

#[test]
fn an_earlier_checkpoint_does_not_make_up_for_a_later_cut() {
    let mut home = cut_home(0);
    home.submit(noop());
    home.pass(3_000);
    let checkpoint = records(&home).iter().rposition(|record| record.kind() == "checkpoint").unwrap();
    home.log.truncate(checkpoint + 1);
    assert!(home.replay_from(home.first.next(), 2).check().is_err());
}

#[test]
fn young_records_stay_and_answer_their_operations() {
    let mut home = cut_home(60_000);
    for _ in 0..10 {
        home.submit(noop());
        home.pass(5_000);
    }
    assert_eq!(home.first, LogIndex(1));
    let operation = home.operation();
    let items = vec![SubmitItem::one(noop())];
    let first = accepted(home.ask(LedgerRequest::Submit { operation, items: items.clone() }));
    home.pass(30_000);
    assert!(home.first > LogIndex(1));
    let mut home = home.restart(0);
    assert_eq!(accepted(home.ask(LedgerRequest::Submit { operation, items })), first);
}

#[test]
fn operations_before_the_cut_are_remembered_for_their_time() {
    let mut home = cut_home(0);
    let operation = home.operation();
    let items = vec![SubmitItem::one(noop())];
    let first = accepted(home.ask(LedgerRequest::Submit { operation, items: items.clone() }));
    home.pass(3_000);
    let mut home = home.restart(0);
    assert!(home.first > LogIndex(2));
    assert_eq!(accepted(home.ask(LedgerRequest::Submit { operation, items })), first);
}

#[test]
fn a_log_that_is_mostly_alive_or_small_is_left_alone() {
    for policy in [
        CompactionPolicy { bytes_min: 1_000_000, ..eager(0, 10) },
        CompactionPolicy { times_the_images: 2, ..eager(0, 10) },
    ] {
        let mut home = Bench::new();
        home.compact(policy);
        home.submit_all(vec![noop(); 50]);
        home.pass(5_000);
        assert_eq!(home.first, LogIndex(1), "{policy:?}");
    }
    let mut home = Bench::new();
    home.compact(CompactionPolicy { times_the_images: 2, ..eager(0, 10) });
    let grant = home.granted(noop());
    for _ in 0..50 {
        home.renew(&grant, false);
        let (operation, id) = (home.operation(), grant.fence.task);
        home.ask(LedgerRequest::SetPriority { operation, id, priority: Priority::default() });
    }
    home.pass(5_000);
    assert!(home.first > LogIndex(1));
}

#[test]
fn a_home_that_is_never_quiet_comes_to_the_end_of_a_pass() {
    let mut home = Bench::new();
    home.compact(eager(0, 1));
    let runs: Vec<WorkflowId> = (0..12).map(|_| submit_workflow(&mut home, 2)).collect();
    home.bind_all();
    for round in 0..400 {
        for step in home.ledger.state.order.clone() {
            let operation = home.operation();
            let priority = Priority::try_from(round % 1_000).unwrap();
            home.ask(LedgerRequest::SetPriority { operation, id: step, priority });
        }
        home.pass(limits::TICK_MS);
        if home.first > LogIndex(1) {
            assert_whole(&home);
            return;
        }
    }
    panic!("{} workflows kept the log from being cut", runs.len());
}

#[test]
fn a_workflow_beyond_one_record_holds_the_log_back_and_nothing_else() {
    let mut home = cut_home(0);
    let id = submit_workflow(&mut home, 2);
    let run = home.ledger.state.workflows.get_mut(&id).unwrap();
    run.error = Some(TaskError::new("large", "x".repeat(limits::LOG_BODY_BYTES_MAX)));
    home.pass(10_000);
    assert_eq!(home.first, LogIndex(1));
    assert_eq!(home.submit_all(vec![noop()]).len(), 1);
}

#[test]
fn pieces_are_bounded_and_follow_each_other() {
    let mut home = Bench::new();
    home.compact(eager(0, 7));
    home.submit_all(vec![noop(); 100]);
    // The first pass cuts off what came before them.
    home.pass(2 * limits::TICK_MS);
    home.syncs = false;
    home.pass(5_000);
    let carried = |record: Record| match record {
        Record::Carried { carried, .. } => Some(carried.tasks.len()),
        _ => None,
    };
    let pieces = |home: &Bench| records(home).into_iter().filter_map(carried).collect::<Vec<usize>>();
    assert_eq!(pieces(&home), [7], "a piece follows when the one before it is written");
    home.syncs = true;
    home.sync();
    home.pass(5_000);
    let pieces = pieces(&home);
    assert!(pieces.len() >= 15 && pieces.iter().all(|len| *len <= 7), "{pieces:?}");
}

#[test]
fn an_image_of_an_earlier_build_lacks_fields_and_is_read() {
    let task = Task::new(
        TaskId { ulid: 5, ledger: LEDGER.tag() },
        Arc::new(noop()),
        "someone".into(),
        ClockRoot::default(),
        Wall(7),
    );
    let mut image = serde_json::to_value(&task).unwrap();
    for field in ["priority", "accepted", "index", "state"] {
        image.as_object_mut().unwrap().remove(field).unwrap();
    }
    assert_eq!(serde_json::from_value::<Task>(image).unwrap(), task);
}

#[test]
fn a_log_that_is_nothing_but_images_is_not_cut_over_and_over() {
    let mut home = Bench::new();
    home.compact(CompactionPolicy { times_the_images: 2, ..eager(0, 10) });
    // What stands in steps that never began is not weighed: the first pass tells.
    for _ in 0..20 {
        let mut spec = workflows::chain(3);
        spec.steps.iter_mut().for_each(|step| step.input = workflows::template("x".repeat(3_000).into()));
        let id = workflows::start(&mut home, spec);
        home.cancel(id);
    }
    home.pass(5_000);
    let first = home.first;
    assert!(first > LogIndex(1));
    home.pass(60_000);
    assert_eq!(home.first, first);
    assert_whole(&home);
}

#[test]
fn a_workflow_that_was_retried_is_carried_with_all_that_was_made_for_it() {
    let mut home = cut_home(0);
    workflows::worker(&mut home);
    let steps = vec![workflows::step("a", &[]), workflows::step("b", &["a"]), workflows::step("c", &["b"])];
    let id = workflows::start(&mut home, workflows::workflow(steps));
    for _ in 0..3 {
        workflow_policies::work_off(&mut home, &["b"]);
        let operation = home.operation();
        home.ask(LedgerRequest::RetryWorkflow { operation, id });
        home.bind_all();
        home.pass(3_000);
        assert_whole(&home);
    }
    workflow_policies::work_off(&mut home, &[]);
    home.pass(3_000);
    assert!(home.first > LogIndex(10));
    assert_whole(&home);
    assert_eq!(
        home.restart(0).stats().counts,
        TaskCounts { succeeded: 3, failed: 3, skipped: 3, ..TaskCounts::default() }
    );
}

#[test]
fn a_restart_leaves_places_to_cut_at_as_close_as_the_policy_has_them() {
    let policy = eager(8_000, 100);
    let mut home = Bench::new();
    home.compact(CompactionPolicy { bytes_min: u64::MAX, ..policy });
    for _ in 0..60 {
        let id = home.submit(noop());
        home.cancel(id);
        home.pass(1_000);
    }
    let mut again = home.restart(0);
    again.compact(policy);
    let before = again.index();
    again.pass(2_500);
    let kept = records(&again)[again.first.0 as usize - 1..before.0 as usize].len();
    // Two records a second, kept for eight seconds, and places an eighth of that apart.
    assert!((12..24).contains(&kept), "{kept} records of {} are kept", before.0);
    assert_whole(&again);
}

#[test]
fn a_home_that_is_never_idle_cuts_its_log_within_its_time() {
    let mut home = Bench::new();
    home.compact(eager(2_000, 50));
    home.worker(1, 1_000);
    let mut cuts = Vec::new();
    for tenth in 0..150_u64 {
        for _ in 0..8 {
            let id = home.submit(noop());
            home.cancel(id);
        }
        submit_workflow(&mut home, 3);
        home.bind_all();
        let grants = home.grants();
        for (_, grant) in grants {
            home.complete(&grant, success("done"));
        }
        home.pass(100);
        if cuts.last().is_none_or(|(_, first)| *first < home.first) {
            cuts.push((tenth, home.first));
        }
    }
    let gaps: Vec<u64> = cuts.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(gaps.len() >= 4 && gaps.iter().all(|gap| *gap <= 40), "tenths of a second between cuts: {gaps:?}");
    assert_whole(&home);
}
