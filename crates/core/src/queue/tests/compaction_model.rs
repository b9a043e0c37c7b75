//! Whatever a home did, and wherever its log was cut: what is left of it is the whole, field by field.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::compaction::eager;
use super::properties::{Known, Step, step, take};
use super::schedules::{scheduled, terms};
use super::workflow_model::{Drawn, any_workflow, spec};
use super::workflows::{chain, start, step as workflow_step, workflow};
use super::*;
use crate::dag::{OnFail, Overlap, StepSpec, WorkflowSpec};
use crate::ids::{Generation, LedgerTag};
use crate::limiter::{LimitKind, PermitAsk};
use crate::queue::operations::DoneOperation;
use crate::queue::state::State;
use crate::queue::task_entry::Task;

/// One thing that somebody does; numbers pick among what there is.
#[derive(Debug, Clone)]
enum Act {
    Do(Step),
    Limited { rate: bool, count: u32 },
    Keyed { key: u8, minutes: u64, memory: bool },
    Workflow { steps: Vec<Drawn>, class: u8 },
    Nested { children: usize },
    ChildTask { pick: usize },
    ChildWorkflow { pick: usize },
    RetryTask { pick: usize },
    RetryWorkflow { pick: usize },
    CancelWorkflow { pick: usize },
    Schedule { overlap: usize },
    ChangeSchedule { pick: usize, change: usize },
    Pause { whole: bool, pauses: bool },
    Clear,
    Purge { pick: usize },
    Prune { pick: usize },
    Lend { hold: u64, want: u64 },
    Wait { minutes: u64 },
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    let any_pick = any::<usize>();
    prop_oneof![
        20 => step().prop_map(Act::Do),
        2 => (any::<bool>(), 1u32..4).prop_map(|(rate, count)| Act::Limited { rate, count }),
        2 => (0u8..3, 10u64..30, any::<bool>())
            .prop_map(|(key, minutes, memory)| Act::Keyed { key, minutes, memory }),
        4 => (any_workflow(&OnFail::ALL), 0u8..4).prop_map(|(steps, class)| Act::Workflow { steps, class }),
        1 => (1usize..3).prop_map(|children| Act::Nested { children }),
        2 => any_pick.prop_map(|pick| Act::ChildTask { pick }),
        1 => any_pick.prop_map(|pick| Act::ChildWorkflow { pick }),
        2 => any_pick.prop_map(|pick| Act::RetryTask { pick }),
        3 => any_pick.prop_map(|pick| Act::RetryWorkflow { pick }),
        1 => any_pick.prop_map(|pick| Act::CancelWorkflow { pick }),
        1 => (0usize..4).prop_map(|overlap| Act::Schedule { overlap }),
        1 => (any_pick, 0usize..3).prop_map(|(pick, change)| Act::ChangeSchedule { pick, change }),
        1 => any::<(bool, bool)>().prop_map(|(whole, pauses)| Act::Pause { whole, pauses }),
        1 => Just(Act::Clear),
        1 => any_pick.prop_map(|pick| Act::Purge { pick }),
        2 => any_pick.prop_map(|pick| Act::Prune { pick }),
        1 => (0u64..3, 0u64..3).prop_map(|(hold, want)| Act::Lend { hold, want }),
        2 => (1u64..12).prop_map(|minutes| Act::Wait { minutes }),
        2 => Just(Act::Restart),
    ]
}

/// What of a home the acts pick from.
struct World {
    home: Bench,
    known: Known,
    seq: u64,
}

fn settings() -> QueueSettings {
    QueueSettings {
        concurrency: [("one".to_owned(), 1)].into(),
        rates: [("calls".to_owned(), "60/min".parse().unwrap())].into(),
        ..QueueSettings::default()
    }
}

fn picked<T: Copy>(among: impl Iterator<Item = T>, pick: usize) -> Option<T> {
    let among: Vec<T> = among.collect();
    among.get(pick % among.len().max(1)).copied()
}

fn nested(children: usize) -> WorkflowSpec {
    let child = |name: &str, spec| StepSpec {
        kind: TaskKind::Workflow,
        workflow: Some(Arc::new(spec)),
        ..workflow_step(name, &[])
    };
    let steps = (0..children).map(|n| child(&format!("s{n}"), chain(2)));
    workflow(steps.chain([workflow_step("last", &["s0"])]).collect())
}

impl World {
    fn new(policy: CompactionPolicy) -> Self {
        let now = Now { mono_ms: 1_000, wall_ms: START_MS };
        let mut home = Bench::open(Replay::new(identity(1)).with_settings(settings()), now, Vec::new());
        home.settings = settings();
        home.compact(policy);
        (1..4).for_each(|worker| home.worker(worker, 2));
        Self { home, known: Known::default(), seq: 0 }
    }

    fn state(&self) -> &State {
        &self.home.ledger.state
    }

    fn a_task(&self, pick: usize, wanted: impl Fn(&Task) -> bool) -> Option<TaskId> {
        picked(self.state().order.iter().copied().filter(|id| wanted(&self.state().tasks[id])), pick)
    }

    fn a_run(&self, pick: usize) -> Option<WorkflowId> {
        picked(self.state().workflows.keys().copied(), pick)
    }

    fn ask(&mut self, request: impl FnOnce(OperationId) -> LedgerRequest) {
        let operation = self.home.operation();
        self.home.ask(request(operation));
    }

    fn submit(&mut self, spec: TaskSpec, count: u32) {
        let items = vec![SubmitItem { spec: Arc::new(spec), count }];
        self.ask(|operation| LedgerRequest::Submit { operation, items });
    }

    fn perform(&mut self, act: Act) {
        match act {
            Act::Do(step) => take(&mut self.home, &mut self.known, step),
            Act::Limited { rate, count } => {
                let key = Some(if rate { "calls" } else { "one" }.parse().unwrap());
                let (rate_key, concurrency_key) = if rate { (key, None) } else { (None, key) };
                self.submit(TaskSpec { rate_key, concurrency_key, ..at_most(2) }, count);
            }
            Act::Keyed { key, minutes, memory } => {
                let durability = if memory { Durability::Memory } else { Durability::Async };
                let idempotency_key = Some(format!("{durability:?} {key}"));
                let idempotency_ttl = Some(DurationMs(minutes * 60_000));
                self.submit(TaskSpec { idempotency_key, idempotency_ttl, durability, ..noop() }, 1);
            }
            Act::Wait { minutes } => {
                self.home.now.mono_ms += minutes * 60_000;
                self.home.now.wall_ms += minutes * 60_000;
                self.home.pass(300);
            }
            Act::Restart => {
                let old = std::mem::replace(&mut self.home, Bench::new());
                self.home = old.restart(100);
                let tasks = &self.home.ledger.state.tasks;
                self.known.tasks.retain(|id| tasks.contains_key(id));
                (1..4).for_each(|worker| self.home.worker(worker, 0));
            }
            Act::Pause { .. } | Act::Clear | Act::Purge { .. } | Act::Prune { .. } | Act::Lend { .. } => {
                self.keep_house(act);
            }
            Act::Workflow { .. }
            | Act::Nested { .. }
            | Act::ChildTask { .. }
            | Act::ChildWorkflow { .. }
            | Act::RetryTask { .. }
            | Act::RetryWorkflow { .. }
            | Act::CancelWorkflow { .. }
            | Act::Schedule { .. }
            | Act::ChangeSchedule { .. } => self.run_workflows(act),
        }
        self.home.bind_all();
        let grants = self.home.grants();
        self.known.grants.extend(grants.into_iter().map(|(_, grant)| grant));
    }

    fn run_workflows(&mut self, act: Act) {
        match act {
            Act::Workflow { steps, class } => {
                let durability = if class == 0 { Durability::Memory } else { Durability::Sync };
                start(&mut self.home, WorkflowSpec { durability, ..spec(&steps) });
            }
            Act::Nested { children } => drop(start(&mut self.home, nested(children))),
            Act::ChildTask { pick } => {
                let parent = self.a_task(pick, |task| !task.state.is_terminal());
                self.submit(TaskSpec { parent, durability: Durability::Memory, ..at_most(2) }, 1);
                self.submit(TaskSpec { parent, ..at_most(2) }, 2);
            }
            Act::ChildWorkflow { pick } => {
                let spec = WorkflowSpec { parent: self.a_task(pick, |task| !task.state.is_terminal()), ..chain(2) };
                self.ask(|operation| LedgerRequest::SubmitWorkflow { operation, spec: Arc::new(spec) });
            }
            Act::RetryTask { pick } => {
                let ids = self.a_task(pick, |task| task.state.is_terminal()).into_iter().collect();
                self.ask(|operation| LedgerRequest::RetryTasks { operation, ids });
            }
            Act::RetryWorkflow { pick } => {
                if let Some(id) = self.a_run(pick) {
                    self.ask(|operation| LedgerRequest::RetryWorkflow { operation, id });
                }
            }
            Act::CancelWorkflow { pick } => {
                if let Some(id) = self.a_run(pick) {
                    self.home.cancel(id);
                }
            }
            Act::Schedule { overlap } => {
                let overlap = [Overlap::Skip, Overlap::Queue, Overlap::Replace, Overlap::Allow][overlap];
                let spec = Arc::new(scheduled(terms("*/2 * * * *", overlap, 2)));
                self.ask(|operation| LedgerRequest::SubmitWorkflow { operation, spec });
            }
            Act::ChangeSchedule { pick, change } => {
                let change = [ScheduleChange::Pause, ScheduleChange::Resume, ScheduleChange::Remove][change];
                if let Some(id) = picked(self.state().schedules.keys().copied(), pick) {
                    let request = |operation| ScheduleRequest::Change { operation, id, change };
                    self.ask(|operation| LedgerRequest::Schedule(request(operation)));
                }
            }
            other => panic!("{other:?} is performed elsewhere"),
        }
    }

    fn keep_house(&mut self, act: Act) {
        let version = self.state().paused.version;
        match act {
            Act::Pause { whole, pauses } => {
                let namespace = (!whole).then(|| "default".to_owned());
                self.ask(|operation| match pauses {
                    true => LedgerRequest::PauseQueue { operation, namespace, version, reason: "held".to_owned() },
                    false => LedgerRequest::ResumeQueue { operation, namespace, version },
                });
            }
            Act::Clear => {
                let up_to = self.home.index();
                self.ask(|operation| LedgerRequest::ClearQueue { operation, namespace: None, up_to });
            }
            Act::Purge { pick } => {
                let ids = self.a_task(pick, |task| task.state == TaskState::Dead).into_iter().collect();
                self.ask(|operation| LedgerRequest::PurgeDead { operation, ids });
            }
            Act::Prune { pick } => self.prune(pick),
            Act::Lend { hold, want } => self.lend(hold, want),
            other => panic!("{other:?} is performed elsewhere"),
        }
    }

    /// One ended task that stands by itself, and one ended workflow with all that was made for it.
    fn prune(&mut self, pick: usize) {
        let alone = self.a_task(pick, |task| task.state.is_terminal() && task.kin.step.is_none());
        let over = |id: &WorkflowId| {
            let run = &self.state().workflows[id];
            run.state.is_terminal() && run.parent.is_none()
        };
        let run = picked(self.state().workflows.keys().copied().filter(over), pick);
        let of_run = run.into_iter().flat_map(|id| self.state().workflows[&id].all_tasks());
        let tasks: Vec<TaskId> = alone.into_iter().chain(of_run).collect();
        self.known.tasks.retain(|known| !tasks.contains(known));
        self.home.ledger.commit_pruned(None, tasks, run.into_iter().collect());
        self.home.settle();
    }

    fn lend(&mut self, hold: u64, want: u64) {
        self.seq += 1;
        let ask = PermitAsk {
            kind: if self.seq.is_multiple_of(2) { LimitKind::Rate } else { LimitKind::Concurrency },
            name: if self.seq.is_multiple_of(2) { "calls" } else { "one" }.to_owned(),
            borrower: LedgerTag([(self.seq % 3) as u8; 5]),
            generation: Generation(1),
            token: LeaseToken([9; 16]),
            seq: self.seq,
            limiter: Some(self.home.ledger.generation()),
            hold,
            want,
        };
        self.home.ask_as(peer(9), LedgerRequest::AskPermits(ask));
    }
}

/// All that a replay knows, each thing in words. Taken apart in full, so that a new field is compared as well.
fn all_of(replay: &Replay) -> BTreeMap<String, String> {
    let State {
        tag: _,
        changes: _,
        templates: _,
        generation,
        standing,
        tasks,
        order,
        workflows,
        keys,
        schedules,
        children,
        counts,
        submitted,
        lost,
        memory_submitted,
        memory_terminal,
        fenced_total,
        released_total,
        expired_total,
        retried_total,
        commits_by_worker,
        workflows_running,
        paused,
        contexts,
        usage,
        pruned,
        pruned_memory,
        pruned_newest,
        partial,
        cut,
        rate_marks,
        loans,
        last_at,
        last_index,
    } = &replay.state;
    let mut all = BTreeMap::new();
    let mut say = |what: String, words: String| drop(all.insert(what, words));
    for task in tasks.values() {
        // Which tasks share a specification is not known from an image.
        let whole = Task { spec: task.whole_spec(), input: None, ..task.clone() };
        say(format!("task {}", task.id), format!("{whole:?}"));
    }
    workflows.iter().for_each(|(id, run)| say(format!("workflow {id}"), format!("{run:?}")));
    schedules.iter().for_each(|(id, schedule)| say(format!("schedule {id}"), format!("{schedule:?}")));
    keys.after(None).for_each(|(place, entry)| say(format!("key {place:?}"), format!("{entry:?}")));
    say("order".to_owned(), format!("{order:?}"));
    say("children".to_owned(), format!("{children:?}"));
    say("counts".to_owned(), format!("{counts:?} {submitted} {lost} {workflows_running}"));
    say("memory".to_owned(), format!("{memory_submitted} {memory_terminal} {pruned_memory:?}"));
    say(
        "totals".to_owned(),
        format!("{fenced_total} {released_total} {expired_total} {retried_total} {commits_by_worker:?}"),
    );
    say("pruned".to_owned(), format!("{pruned:?} {pruned_newest:?}"));
    say("paused".to_owned(), format!("{paused:?}"));
    say("contexts".to_owned(), format!("{:?}", contexts.images()));
    say("usage".to_owned(), format!("{:?}", usage.images()));
    say("limits".to_owned(), format!("{rate_marks:?} {loans:?}"));
    say(
        "log".to_owned(),
        format!("{generation:?} {standing:?} {cut:?} {last_at:?} {last_index:?} {}", partial.is_some()),
    );
    all
}

fn remembered(replay: &Replay) -> Vec<DoneOperation> {
    replay.operations.before(Wall(u64::MAX)).collect()
}

/// The first thing that two replays differ in.
pub fn difference(cut: &Replay, whole: &Replay) -> Option<String> {
    let (cut_knows, whole_knows) = (all_of(cut), all_of(whole));
    let differs = |(what, words): (&String, &String)| {
        let other = whole_knows.get(what);
        (other != Some(words)).then(|| format!("{what}: {words} and of the whole {other:?}"))
    };
    let forgotten =
        || whole_knows.keys().find(|what| !cut_knows.contains_key(*what)).map(|what| format!("{what} is gone"));
    // What was done to `memory` tasks is in no log, and may be in a checkpoint.
    let kept: Vec<OperationId> = remembered(cut).into_iter().map(|done| done.operation).collect();
    let lost = |done: &DoneOperation| !kept.contains(&done.operation);
    let unknown = || remembered(whole).into_iter().find(lost).map(|done| format!("{done:?}"));
    cut_knows.iter().find_map(differs).or_else(forgotten).or_else(unknown)
}

fn record(entry: &NewEntry) -> Record {
    crate::wire::decode_record(&entry.body).unwrap()
}

/// Each checkpoint's place, and what may go once it is on the disk.
fn checkpoints(home: &Bench) -> Vec<(LogIndex, LogIndex)> {
    let checkpoint = |entry: &NewEntry| match record(entry) {
        Record::Checkpoint { before, .. } => Some((entry.index, before)),
        _ => None,
    };
    home.log.iter().filter_map(checkpoint).collect()
}

/// Both go on for a while, asked the same; all that they write is the same.
fn go_on_alike(cut: Replay, whole: Replay, home: &Bench) -> Result<(), TestCaseError> {
    let go_on = |replay: Replay| {
        let mut bench = Bench::open(replay, home.now, home.log.clone());
        bench.operations = home.operations;
        (1..4).for_each(|worker| bench.worker(worker, 3));
        bench.pass(500);
        for (_, grant) in bench.grants() {
            bench.complete(&grant, if grant.fence.epoch.0 % 3 == 0 { failure(false) } else { success("done") });
            bench.bind_all();
        }
        bench.pass(2_000);
        (bench.now.mono_ms, bench.now.wall_ms) = (bench.now.mono_ms + 60_000, bench.now.wall_ms + 60_000);
        bench.pass(500);
        bench.log.split_off(home.log.len())
    };
    let (cut, whole) = (go_on(cut), go_on(whole));
    for (cut, whole) in cut.iter().zip(&whole) {
        prop_assert_eq!(record(cut), record(whole));
    }
    prop_assert_eq!(cut.len(), whole.len());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happened_a_log_cut_anywhere_allowed_replays_as_the_whole(
        acts in proptest::collection::vec(act(), 1..60),
        keep_ms in 0u64..4_000,
        piece_len_max in 1usize..6,
        places in proptest::collection::vec(any::<(proptest::sample::Index, proptest::sample::Index)>(), 4),
    ) {
        let mut world = World::new(eager(keep_ms, piece_len_max));
        for act in acts {
            world.perform(act);
        }
        world.home.pass(2_000);
        let home = world.home;
        let whole = home.replay_from(LogIndex(1), 3);
        let cut = home.replay_from(home.first, 3);
        prop_assert_eq!(difference(&cut, &whole), None);
        go_on_alike(cut, whole, &home)?;
        // A crash after any record, and a cut that came to any place that was allowed by then.
        let checkpoints = checkpoints(&home);
        for (last, first) in places {
            let last = LogIndex(1 + last.index(home.log.len()) as u64);
            let newest = checkpoints.iter().rfind(|(index, _)| *index <= last);
            let Some((_, before)) = newest else { continue };
            let first = LogIndex(1 + first.index(before.0 as usize) as u64);
            let cut = home.replay_of(first, last, 3);
            prop_assert_eq!(cut.check(), Ok(()));
            prop_assert_eq!(difference(&cut, &home.replay_of(LogIndex(1), last, 3)), None, "{}..={}", first, last);
        }
    }
}
