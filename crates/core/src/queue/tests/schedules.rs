//! Schedules: one run per time, whatever happens (2.6), and the clock they go by (2.3).

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::workflows::{chain, view as workflow_view};
use super::*;
use crate::dag::{Overlap, ScheduleSpec, WorkflowSpec};
use crate::ids::ScheduleId;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

pub fn terms(cron: &str, overlap: Overlap, catch_up: u32) -> ScheduleSpec {
    ScheduleSpec { cron: cron.to_owned(), timezone: "UTC".to_owned(), overlap, catch_up, jitter: DurationMs(0) }
}

pub fn scheduled(terms: ScheduleSpec) -> WorkflowSpec {
    WorkflowSpec { schedule: Some(terms), ..chain(1) }
}

fn submit(home: &mut Bench, terms: ScheduleSpec) -> (ScheduleId, Option<Wall>) {
    let operation = home.operation();
    match home.ask(LedgerRequest::SubmitWorkflow { operation, spec: Arc::new(scheduled(terms)) }) {
        LedgerReply::Schedule(ScheduleReply::Made { id, next_at }) => (id, next_at),
        other => panic!("{other:?}"),
    }
}

fn every_minute(home: &mut Bench, overlap: Overlap, catch_up: u32) -> ScheduleId {
    submit(home, terms("* * * * *", overlap, catch_up)).0
}

fn view(home: &mut Bench, id: ScheduleId) -> ScheduleView {
    match home.ask(LedgerRequest::Schedule(ScheduleRequest::Get { id })) {
        LedgerReply::Schedule(ScheduleReply::One(view)) => *view,
        other => panic!("{other:?}"),
    }
}

fn change(home: &mut Bench, id: ScheduleId, change: ScheduleChange) -> LedgerReply {
    let operation = home.operation();
    home.ask(LedgerRequest::Schedule(ScheduleRequest::Change { operation, id, change }))
}

/// When the runs were started for, in minutes from the start, with how each stands.
fn runs(home: &mut Bench, id: ScheduleId) -> Vec<(u64, WorkflowState)> {
    let runs = view(home, id).runs.into_iter();
    runs.map(|run| ((run.fire_at.0 - START_MS) / MINUTE_MS, run.state.unwrap())).collect()
}

fn sums(view: &ScheduleView) -> (u64, u64, u64) {
    (view.fired, view.missed, view.skipped)
}

const RUNNING: WorkflowState = WorkflowState::Running;
const CANCELLED: WorkflowState = WorkflowState::Cancelled;

#[test]
fn a_workflow_with_a_schedule_makes_a_schedule_and_runs_at_its_times() {
    let mut home = Bench::new();
    let (id, next_at) = submit(&mut home, terms("*/2 * * * *", Overlap::Allow, 0));
    assert_eq!(next_at, Some(Wall(START_MS + 2 * MINUTE_MS)));
    assert_eq!((home.stats().workflows_running, home.stats().schedules), (0, 1));
    home.pass(5 * MINUTE_MS);
    assert_eq!(runs(&mut home, id), [(2, RUNNING), (4, RUNNING)]);
    let seen = view(&mut home, id);
    assert_eq!(
        (seen.next_at, seen.last_at),
        (Some(Wall(START_MS + 6 * MINUTE_MS)), Some(Wall(START_MS + 4 * MINUTE_MS)))
    );
    let run = workflow_view(&mut home, seen.runs[0].id);
    assert_eq!((run.summary.schedule, run.summary.name.as_str()), (Some(id), "w"));
}

#[test]
fn a_schedule_sent_again_is_the_same_one() {
    let mut home = Bench::new();
    let spec = Arc::new(scheduled(terms("@daily", Overlap::Skip, 0)));
    let request = LedgerRequest::SubmitWorkflow { operation: OperationId([3; 16]), spec };
    let first = home.ask(request.clone());
    assert_eq!(home.ask(request.clone()), first);
    let mut home = home.restart(0);
    assert_eq!(home.ask(request), first);
    assert_eq!(home.stats().schedules, 1);
}

#[test]
fn a_time_that_comes_while_an_earlier_run_is_not_over_is_skipped_and_counted() {
    let mut home = Bench::new();
    let id = every_minute(&mut home, Overlap::Skip, 0);
    home.pass(3 * MINUTE_MS + 200);
    assert_eq!(runs(&mut home, id), [(1, RUNNING)]);
    let first = view(&mut home, id).runs[0].id;
    home.cancel(first);
    home.pass(MINUTE_MS);
    assert_eq!(runs(&mut home, id), [(1, CANCELLED), (4, RUNNING)]);
    assert_eq!(sums(&view(&mut home, id)), (2, 0, 2));
}

#[test]
fn at_most_one_run_waits_for_the_earlier_one() {
    let mut home = Bench::new();
    let id = every_minute(&mut home, Overlap::Queue, 0);
    home.pass(3 * MINUTE_MS + 200);
    let seen = view(&mut home, id);
    assert_eq!((seen.waiting_at, seen.runs.len()), (Some(Wall(START_MS + 2 * MINUTE_MS)), 1));
    home.cancel(seen.runs[0].id);
    let mut home = home.restart(0);
    home.pass(200);
    assert_eq!(runs(&mut home, id), [(1, CANCELLED), (2, RUNNING)]);
    let seen = view(&mut home, id);
    assert_eq!((seen.waiting_at, sums(&seen)), (None, (2, 0, 1)));
}

#[test]
fn the_next_run_replaces_the_earlier_one() {
    let mut home = Bench::new();
    let id = every_minute(&mut home, Overlap::Replace, 0);
    home.pass(3 * MINUTE_MS + 200);
    assert_eq!(runs(&mut home, id), [(1, CANCELLED), (2, CANCELLED), (3, RUNNING)]);
    let replaced = view(&mut home, id).runs[0].id;
    assert_eq!(workflow_view(&mut home, replaced).error.unwrap().code, "replaced");
    assert!(home.ledger.state.conservation_holds());
}

#[test]
fn after_downtime_only_the_next_time_runs_and_the_others_are_missed() {
    let mut home = Bench::new();
    let (id, _) = submit(&mut home, terms("0 * * * *", Overlap::Allow, 0));
    let mut home = home.restart(5 * HOUR_MS + 10 * MINUTE_MS);
    home.pass(200);
    assert_eq!(sums(&view(&mut home, id)), (0, 5, 0));
    home.pass(50 * MINUTE_MS);
    assert_eq!(runs(&mut home, id), [(360, RUNNING)]);
}

#[test]
fn a_short_restart_misses_no_time() {
    let mut home = Bench::new();
    let id = every_minute(&mut home, Overlap::Allow, 0);
    home.pass(MINUTE_MS - 1_000);
    let mut home = home.restart(5_000);
    home.pass(200);
    assert_eq!(runs(&mut home, id), [(1, RUNNING)]);
}

#[test]
fn the_newest_missed_times_are_caught_up_the_newest_last() {
    let mut home = Bench::new();
    let (id, _) = submit(&mut home, terms("0 * * * *", Overlap::Allow, 2));
    let mut home = home.restart(5 * HOUR_MS + 10 * MINUTE_MS);
    home.pass(200);
    assert_eq!(runs(&mut home, id), [(240, RUNNING), (300, RUNNING)]);
    assert_eq!(sums(&view(&mut home, id)), (2, 3, 0));
}

#[test]
fn a_year_of_missed_minutes_is_counted_exactly_a_thousand_a_tick() {
    let mut home = Bench::new();
    let id = every_minute(&mut home, Overlap::Allow, 3);
    let away = 25_000;
    let mut home = home.restart(away * MINUTE_MS + 30_000);
    home.pass(5_000);
    let seen = view(&mut home, id);
    // The newest is half a minute old and on time; three more are caught up.
    assert_eq!(sums(&seen), (4, away - 4, 0));
    assert_eq!(runs(&mut home, id).first(), Some(&(away - 3, RUNNING)));
}

#[test]
fn a_clock_that_goes_back_fires_no_time_twice() {
    let mut home = Bench::new();
    let id = every_minute(&mut home, Overlap::Allow, 0);
    home.pass(3 * MINUTE_MS + 200);
    home.now.wall_ms -= 2 * MINUTE_MS;
    home.pass(4 * MINUTE_MS);
    let fired: Vec<u64> = runs(&mut home, id).into_iter().map(|(minute, _)| minute).collect();
    assert_eq!(fired, [1, 2, 3, 4, 5]);
    // Nor does a pause bring one back.
    home.now.wall_ms -= 3 * MINUTE_MS;
    change(&mut home, id, ScheduleChange::Pause);
    change(&mut home, id, ScheduleChange::Resume);
    assert_eq!(view(&mut home, id).next_at, Some(Wall(START_MS + 6 * MINUTE_MS)));
}

#[test]
fn a_clock_that_leaps_ahead_and_is_set_right_again_within_a_minute_fires_nothing() {
    let mut home = Bench::new();
    let (id, _) = submit(&mut home, terms("0 * * * *", Overlap::Allow, 0));
    home.pass(1_000);
    home.now.wall_ms += 24 * HOUR_MS;
    home.pass(30_000);
    home.now.wall_ms -= 24 * HOUR_MS;
    home.pass(2 * MINUTE_MS);
    assert_eq!(sums(&view(&mut home, id)), (0, 0, 0));
    home.pass(HOUR_MS);
    assert_eq!(runs(&mut home, id), [(60, RUNNING)]);
}

#[test]
fn what_is_paused_does_not_run_and_counts_nothing_as_missed() {
    let mut home = Bench::new();
    let id = every_minute(&mut home, Overlap::Allow, 5);
    change(&mut home, id, ScheduleChange::Pause);
    let mut home = home.restart(HOUR_MS);
    home.pass(2 * MINUTE_MS);
    let seen = view(&mut home, id);
    assert_eq!((seen.paused, seen.next_at, sums(&seen)), (true, None, (0, 0, 0)));
    change(&mut home, id, ScheduleChange::Resume);
    home.pass(MINUTE_MS + 200);
    assert_eq!(runs(&mut home, id), [(63, RUNNING)]);
}

#[test]
fn a_removed_schedule_is_gone_and_its_runs_go_on() {
    let mut home = Bench::new();
    let id = every_minute(&mut home, Overlap::Allow, 0);
    home.pass(MINUTE_MS + 200);
    let run = view(&mut home, id).runs[0].id;
    let (operation, remove) = (home.operation(), ScheduleChange::Remove);
    let request = LedgerRequest::Schedule(ScheduleRequest::Change { operation, id, change: remove });
    assert_eq!(home.ask(request.clone()), LedgerReply::Schedule(ScheduleReply::Removed { id }));
    assert_eq!(home.ask(request), LedgerReply::Schedule(ScheduleReply::Removed { id }));
    let gone = LedgerReply::Refused(Refusal::NotFound { id });
    assert_eq!(change(&mut home, id, ScheduleChange::Pause), gone);
    home.pass(2 * MINUTE_MS);
    assert_eq!(workflow_view(&mut home, run).summary.state, RUNNING);
    assert_eq!(home.stats().workflows_running, 1);
}

#[test]
fn a_run_out_of_turn_starts_once_however_often_it_is_asked_for() {
    let mut home = Bench::new();
    let id = every_minute(&mut home, Overlap::Skip, 0);
    let request = LedgerRequest::Schedule(ScheduleRequest::RunNow { operation: OperationId([9; 16]), id });
    let first = home.ask(request.clone());
    assert_eq!(home.ask(request.clone()), first);
    let mut home = home.restart(0);
    assert_eq!(home.ask(request), first);
    assert_eq!(view(&mut home, id).runs.len(), 1);
    // It is an earlier run as any other.
    home.pass(MINUTE_MS + 200);
    assert_eq!(sums(&view(&mut home, id)), (0, 0, 1));
}

#[test]
fn jitter_delays_a_run_by_a_draw_that_every_life_of_the_home_repeats() {
    let jittered = |home: &mut Bench| {
        let jitter = ScheduleSpec { jitter: DurationMs(30 * MINUTE_MS), ..terms("0 * * * *", Overlap::Allow, 0) };
        submit(home, jitter).0
    };
    let started = |mut home: Bench, id| {
        while view(&mut home, id).runs.is_empty() {
            home.pass(10_000);
        }
        home.now.wall_ms
    };
    let mut home = Bench::new();
    let id = jittered(&mut home);
    let first = started(home, id);
    assert!((START_MS + HOUR_MS..=START_MS + HOUR_MS + 30 * MINUTE_MS + 10_000).contains(&first), "{first}");
    let mut home = Bench::new();
    let id = jittered(&mut home);
    assert_eq!(started(home.restart(20 * MINUTE_MS), id), first);
}

#[test]
fn schedules_are_listed_by_pages_with_the_runs_that_are_not_over() {
    let mut home = Bench::new();
    let ids: Vec<ScheduleId> = (0..3).map(|_| every_minute(&mut home, Overlap::Replace, 0)).collect();
    home.pass(2 * MINUTE_MS + 200);
    let mut page =
        |cursor| match home.ask(LedgerRequest::Schedule(ScheduleRequest::List { namespace: None, cursor, limit: 2 })) {
            LedgerReply::Schedule(ScheduleReply::List { items, next_cursor }) => (items, next_cursor),
            other => panic!("{other:?}"),
        };
    let (first, cursor) = page(None);
    let (second, end) = page(cursor);
    let all: Vec<ScheduleId> = first.iter().chain(&second).map(|view| view.id).collect();
    assert_eq!((all, end), (ids, None));
    assert!(first.iter().all(|view| view.runs.len() == 1));
}

#[test]
fn what_cannot_be_a_schedule_is_refused_at_its_field_and_too_many_are_too_many() {
    let mut home = Bench::new();
    let mut ask = |spec: WorkflowSpec| {
        let operation = home.operation();
        match home.ask(LedgerRequest::SubmitWorkflow { operation, spec: Arc::new(spec) }) {
            LedgerReply::Refused(refusal) => refusal.to_string(),
            LedgerReply::Schedule(_) => String::new(),
            other => panic!("{other:?}"),
        }
    };
    let memory = WorkflowSpec { durability: Durability::Memory, ..scheduled(terms("@daily", Overlap::Skip, 0)) };
    assert!(ask(memory).starts_with("/durability"));
    assert!(ask(scheduled(terms("99 * * * *", Overlap::Skip, 0))).starts_with("/schedule/cron"));
    assert!(ask(scheduled(terms("@daily", Overlap::Skip, 101))).starts_with("/schedule/catch_up"));
    for _ in 0..limits::SCHEDULES_MAX {
        assert_eq!(ask(scheduled(terms("@daily", Overlap::Skip, 0))), "");
    }
    assert!(ask(scheduled(terms("@daily", Overlap::Skip, 0))).starts_with("overloaded"));
}

#[test]
fn only_the_newest_runs_are_kept_in_view() {
    let mut home = Bench::new();
    let id = every_minute(&mut home, Overlap::Replace, 100);
    let mut home = home.restart(300 * MINUTE_MS);
    home.pass(200);
    home.pass(MINUTE_MS);
    assert_eq!(view(&mut home, id).runs.len(), limits::SCHEDULE_RUNS_KEPT_MAX);
    assert_eq!(home.stats().workflows_running, 1);
}

#[test]
fn deadlines_wait_while_the_wall_clock_cannot_be_believed() {
    let mut home = Bench::new();
    let deadline = Some(Wall(START_MS + HOUR_MS));
    let id = home.submit(TaskSpec { deadline, ..noop() });
    home.pass(1_000);
    home.now.wall_ms += 2 * HOUR_MS;
    home.pass(59_000);
    assert_eq!(home.state(id), TaskState::Ready);
    assert_eq!(home.stats().clock_alarm.unwrap().jumped_ms, 2 * HOUR_MS as i64);
    home.pass(2_000);
    assert_eq!((home.state(id), home.stats().clock_alarm), (TaskState::Failed, None));
}

#[test]
fn a_wall_clock_behind_the_log_raises_the_alarm_at_the_start_and_peers_keep_it_up() {
    let mut home = Bench::new();
    home.submit(noop());
    home.now.wall_ms -= HOUR_MS;
    let mut home = home.restart(0);
    assert!(home.stats().clock_alarm.unwrap().jumped_ms < -(HOUR_MS as i64) + 1_000);
    home.event(Event::PeerClocks(crate::clock_alarm::PeerClocks { reachable: 2, differing: 2 }));
    home.pass(5 * MINUTE_MS);
    assert_eq!(home.stats().clock_alarm.unwrap().peers_differing, 2);
    home.event(Event::PeerClocks(crate::clock_alarm::PeerClocks { reachable: 2, differing: 1 }));
    home.pass(200);
    assert_eq!(home.stats().clock_alarm, None);
}

/// One thing that happens to a home with a schedule.
#[derive(Debug, Clone)]
enum Happening {
    Pass {
        ms: u64,
    },
    /// The home ends; of its records only those on the disk stay.
    Crash {
        away_ms: u64,
        keeps: usize,
    },
    Jump {
        ms: i64,
    },
    EndRuns,
    PauseAndResume,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (100u64..150_000).prop_map(|ms| Happening::Pass { ms }),
        3 => (0u64..600_000, 0usize..6).prop_map(|(away_ms, keeps)| Happening::Crash { away_ms, keeps }),
        1 => (-200_000i64..200_000).prop_map(|ms| Happening::Jump { ms }),
        2 => Just(Happening::EndRuns),
        1 => Just(Happening::PauseAndResume),
    ]
}

/// The fire times of the log with what each led to; the next life reads nothing else.
fn fires(home: &Bench, id: ScheduleId) -> Vec<(Wall, FireOutcome)> {
    let records = home.log.iter().map(|entry| crate::wire::decode_record::<Record>(&entry.body).unwrap());
    let fires = records.filter_map(|record| match record {
        Record::Schedule(ScheduleRecord::Fired { schedule, fire, outcome, .. }) if schedule == id => {
            Some((fire, outcome))
        }
        _ => None,
    });
    fires.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn each_time_is_decided_once_and_has_at_most_one_run_whatever_crashes(
        happenings in proptest::collection::vec(happening(), 1..25), overlap in 0usize..4, catch_up in 0u32..4,
    ) {
        let overlap = [Overlap::Skip, Overlap::Queue, Overlap::Replace, Overlap::Allow][overlap];
        let mut home = Bench::new();
        let id = every_minute(&mut home, overlap, catch_up);
        for happening in happenings {
            match happening {
                Happening::Pass { ms } => home.pass(ms),
                Happening::Crash { away_ms, keeps } => {
                    // A crash loses the newest records, never that of the schedule itself.
                    let lost = home.log.len().saturating_sub(keeps.max(2)).min(keeps);
                    home.log.truncate(home.log.len() - lost);
                    home = home.restart(away_ms);
                }
                Happening::Jump { ms } => home.now.wall_ms = home.now.wall_ms.saturating_add_signed(ms),
                Happening::EndRuns => {
                    for run in view(&mut home, id).runs {
                        home.cancel(run.id);
                    }
                }
                Happening::PauseAndResume => {
                    change(&mut home, id, ScheduleChange::Pause);
                    change(&mut home, id, ScheduleChange::Resume);
                }
            }
            prop_assert!(home.ledger.state.conservation_holds());
            let running = home.ledger.state.running(id).len();
            prop_assert!(overlap == Overlap::Allow || running <= 1, "{running} runs at once");
        }
        let (mut decided, mut started): (BTreeMap<Wall, u32>, BTreeMap<Wall, u32>) = Default::default();
        for (fire, outcome) in fires(&home, id) {
            prop_assert_eq!(fire.0 % MINUTE_MS, 0);
            *decided.entry(fire).or_default() += u32::from(outcome != FireOutcome::Dequeued);
            *started.entry(fire).or_default() += match outcome {
                FireOutcome::Started | FireOutcome::Replaced | FireOutcome::Dequeued => 1,
                FireOutcome::Queued | FireOutcome::Skipped(_) => 0,
            };
        }
        prop_assert!(decided.values().all(|times| *times == 1), "{decided:?}");
        prop_assert!(started.values().all(|times| *times <= 1), "{started:?}");
        let before = view(&mut home, id);
        let mut home = home.restart(0);
        prop_assert_eq!(view(&mut home, id), before);
    }
}

#[test]
fn a_draining_home_starts_no_run_and_its_next_life_decides_about_the_time() {
    let mut home = Bench::new();
    let id = every_minute(&mut home, Overlap::Allow, 0);
    home.event(Event::Draining { why: "it was told to end".to_owned() });
    home.pass(MINUTE_MS + 1_000);
    assert_eq!(runs(&mut home, id), []);
    let operation = home.operation();
    let refused = home.ask(LedgerRequest::Schedule(ScheduleRequest::RunNow { operation, id }));
    assert!(matches!(refused, LedgerReply::Refused(Refusal::Draining { .. })), "{refused:?}");
    let mut home = home.restart(5_000);
    home.pass(1_000);
    assert_eq!(runs(&mut home, id), [(1, RUNNING)]);
    assert_eq!(sums(&view(&mut home, id)), (1, 0, 0));
}
