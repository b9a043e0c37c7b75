//! The worker's half of ownership (2.3), one sentence at a time.

mod credits;
mod draining;
mod exclusive;
mod progress;
mod room;
mod spool;
mod stopping;

use std::sync::Arc;

use super::*;
use crate::ids::{Epoch, Incarnation, LeaseToken, LedgerId, LedgerTag, OperationId, Sending, TaskId};
use crate::lease::{
    CompleteAnswer, Completion, CreditName, CreditOffer, Fence, Grant, Release, ReleaseReason, RenewAnswer, Renewal,
    Slots,
};
use crate::limits;
use crate::payload::{JsonText, Payload};
use crate::progress::AttemptNews;
use crate::task::{AttemptResult, Durability, Outcome, TaskError, TaskKind, TaskSpec};
use crate::time::{DurationMs, Now};

const WORKER_TTL_MS: u64 = limits::LEASE_TTL_MS - limits::LEASE_WORKER_MARGIN_MS;

fn tag(n: u8) -> LedgerTag {
    LedgerId([n; 16]).tag()
}

const INCARNATION: Incarnation = Incarnation(5);

/// A worker on its bench: its clock, and what it asked for.
struct Bench {
    worker: Worker,
    now_ms: u64,
    asked: Vec<WorkerEffect>,
    tasks: u32,
}

fn success(text: &str) -> Outcome {
    let output = Payload::Inline(JsonText::of(&serde_json::Value::from(text)));
    Outcome {
        result: AttemptResult::Succeeded { output },
        log_tail: String::new(),
        ran_ms: 1,
        used: Default::default(),
    }
}

impl Bench {
    /// Of node 1, with its own home in reach.
    fn new(cpu: u32) -> Self {
        let slots = Slots { cpu, device: 2 };
        let now = Now { mono_ms: 1_000_000, wall_ms: 0 };
        let worker = Worker::new(tag(1), INCARNATION, slots, now);
        let mut bench = Self { worker, now_ms: now.mono_ms, asked: Vec::new(), tasks: 0 };
        bench.event(WorkerEvent::HomeSeen { home: tag(1), backlog: Slots::default() });
        bench
    }

    fn event(&mut self, event: WorkerEvent) {
        self.worker.handle(Now { mono_ms: self.now_ms, wall_ms: self.now_ms }, event);
        self.asked.extend(self.worker.take_effects());
    }

    /// Time passes, with ticks.
    fn pass(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        while self.now_ms < until_ms {
            self.now_ms = (self.now_ms + limits::SPOOL_AFTER_MS).min(until_ms);
            self.event(WorkerEvent::Tick);
        }
    }

    fn take<T>(&mut self, pick: impl Fn(&WorkerEffect) -> Option<T>) -> Vec<T> {
        let mut taken = Vec::new();
        self.asked.retain(|effect| pick(effect).map(|found| taken.push(found)).is_none());
        taken
    }

    fn offers(&mut self, home: LedgerTag) -> Vec<CreditOffer> {
        self.take(|effect| match effect {
            WorkerEffect::Offer { home: to, offer } if *to == home => Some(*offer),
            _ => None,
        })
    }

    fn offer(&mut self, home: LedgerTag) -> CreditOffer {
        *self.offers(home).last().expect("an offer was sent")
    }

    fn starts(&mut self) -> Vec<Fence> {
        self.take(|effect| match effect {
            WorkerEffect::Start { grant, .. } => Some(grant.fence),
            _ => None,
        })
    }

    fn releases(&mut self) -> Vec<Release> {
        let all = self.take(|effect| match effect {
            WorkerEffect::Release { releases, .. } => Some(releases.clone()),
            _ => None,
        });
        all.into_iter().flatten().collect()
    }

    fn renewals(&mut self) -> Vec<Renewal> {
        let all = self.take(|effect| match effect {
            WorkerEffect::Renew { renewals, .. } => Some(renewals.clone()),
            _ => None,
        });
        all.into_iter().flatten().collect()
    }

    fn stops(&mut self) -> Vec<(Fence, StopCause)> {
        self.take(|effect| match effect {
            WorkerEffect::Stop { fence, cause } => Some((*fence, *cause)),
            _ => None,
        })
    }

    fn completions(&mut self) -> Vec<Vec<Completion>> {
        self.take(|effect| match effect {
            WorkerEffect::Complete { completions, .. } => Some(completions.clone()),
            _ => None,
        })
    }

    fn spooled(&mut self) -> Vec<Completion> {
        let all = self.take(|effect| match effect {
            WorkerEffect::Spool { completions } => Some(completions.clone()),
            _ => None,
        });
        all.into_iter().flatten().collect()
    }

    /// A grant of `home` that answers the newest credit.
    fn grant_of(&mut self, home: LedgerTag, spec: TaskSpec) -> Grant {
        self.tasks += 1;
        let task = TaskId::derive(home, 1, OperationId([1; 16]), self.tasks);
        Grant {
            fence: Fence { task, epoch: Epoch(1) },
            token: LeaseToken([3; 16]),
            credit: CreditName { incarnation: INCARNATION, sending: Sending(1) },
            ttl_ms: limits::LEASE_TTL_MS,
            attempt: 1,
            spec: Arc::new(spec),
            checkpoint: None,
        }
    }

    fn grant(&mut self) -> Grant {
        self.grant_of(tag(1), TaskSpec { timeout: DurationMs(60_000), ..TaskSpec::new(TaskKind::Noop) })
    }

    fn give(&mut self, grants: &[Grant]) {
        self.event(WorkerEvent::Granted { home: tag(1), grants: grants.to_vec() });
    }

    /// One that runs.
    fn started(&mut self) -> Grant {
        let grant = self.grant();
        self.give(std::slice::from_ref(&grant));
        assert_eq!(self.starts(), [grant.fence]);
        grant
    }

    fn finish(&mut self, grant: &Grant, text: &str) {
        self.event(WorkerEvent::Finished { fence: grant.fence, outcome: success(text) });
    }

    fn answer_renewals(&mut self, sent_ms: u64, answer: RenewAnswer, grant: &Grant) {
        self.event(WorkerEvent::RenewAnswered { home: tag(1), sent_ms, answers: vec![(grant.fence, answer)] });
    }

    fn answer(&mut self, grant: &Grant, answer: CompleteAnswer) {
        self.event(WorkerEvent::CompleteAnswered { home: tag(1), answers: vec![(grant.fence, answer)] });
    }
}

fn reasons(releases: &[Release]) -> Vec<(Fence, ReleaseReason)> {
    releases.iter().map(|release| (release.fence, release.reason.clone())).collect()
}

#[test]
fn free_slots_are_offered_and_the_offer_stands_by_being_sent_again() {
    let mut bench = Bench::new(4);
    let first = bench.offer(tag(1));
    assert_eq!((first.free, first.name.sending), (Slots { cpu: 4, device: 2 }, Sending(1)));
    bench.pass(limits::CREDIT_REFRESH_MS - 100);
    assert!(bench.offers(tag(1)).is_empty(), "nothing changed");
    bench.pass(100);
    let second = bench.offer(tag(1));
    assert_eq!((second.free, second.name.sending), (first.free, Sending(2)));
}

#[test]
fn credits_go_where_the_work_is_and_never_beyond_what_is_free() {
    let mut bench = Bench::new(4);
    bench.event(WorkerEvent::HomeSeen { home: tag(2), backlog: Slots::default() });
    let evenly = [tag(1), tag(2)].map(|home| bench.offer(home).free.cpu);
    assert_eq!(evenly, [2, 2]);
    bench.event(WorkerEvent::HomeSeen { home: tag(2), backlog: Slots { cpu: 50, device: 0 } });
    let theirs = [tag(1), tag(2)].map(|home| bench.offer(home).free.cpu);
    assert_eq!(theirs, [0, 4]);
    bench.event(WorkerEvent::HomeSeen { home: tag(1), backlog: Slots { cpu: 1, device: 0 } });
    let own_first = [tag(1), tag(2)].map(|home| bench.offer(home).free.cpu);
    assert_eq!(own_first, [4, 0]);
}

#[test]
fn a_home_that_is_lost_is_offered_nothing_until_it_is_seen_again() {
    let mut bench = Bench::new(4);
    bench.offers(tag(1));
    bench.event(WorkerEvent::HomeLost { home: tag(1) });
    bench.pass(10_000);
    assert!(bench.offers(tag(1)).is_empty());
    bench.event(WorkerEvent::HomeSeen { home: tag(1), backlog: Slots::default() });
    assert_eq!(bench.offer(tag(1)).free.cpu, 4);
}

#[test]
fn a_grant_starts_as_soon_as_a_slot_is_free() {
    let mut bench = Bench::new(1);
    let grants = [bench.grant(), bench.grant()];
    bench.give(&grants);
    assert_eq!(bench.starts(), [grants[0].fence]);
    let stats = bench.worker.stats();
    assert_eq!((stats.running, stats.queued, stats.reporting, stats.free.cpu), (1, 1, 0, 0));
    bench.finish(&grants[0], "done");
    assert_eq!(bench.starts(), [grants[1].fence]);
    let stats = bench.worker.stats();
    assert_eq!((stats.running, stats.queued, stats.reporting, stats.succeeded), (1, 0, 1, 1));
}

#[test]
fn a_fence_is_started_once_whatever_comes_again() {
    let mut bench = Bench::new(4);
    let grant = bench.started();
    bench.give(&[grant.clone(), grant.clone()]);
    bench.finish(&grant, "done");
    bench.answer(&grant, CompleteAnswer::Committed);
    bench.give(std::slice::from_ref(&grant));
    let mut older = grant.clone();
    older.fence.epoch = Epoch(0);
    bench.give(&[older]);
    assert!(bench.starts().is_empty() && bench.releases().is_empty());
    let mut later = grant.clone();
    later.fence.epoch = Epoch(2);
    bench.give(std::slice::from_ref(&later));
    assert_eq!(bench.starts(), [later.fence]);
}

#[test]
fn a_grant_on_a_credit_that_was_not_sent_is_given_back() {
    let mut bench = Bench::new(4);
    let mut unknown = [bench.grant(), bench.grant()];
    unknown[0].credit.sending = Sending(2);
    unknown[1].credit.incarnation = Incarnation(4);
    bench.give(&unknown);
    let stale = unknown.map(|grant| (grant.fence, ReleaseReason::StaleCredit));
    assert_eq!(reasons(&bench.releases()), stale);
    assert!(bench.starts().is_empty());
}

#[test]
fn a_grant_that_comes_after_the_credits_end_is_not_started() {
    let mut bench = Bench::new(4);
    let in_time = bench.grant();
    let late = bench.grant();
    bench.pass(WORKER_TTL_MS - 1);
    bench.give(std::slice::from_ref(&in_time));
    assert_eq!(bench.starts(), [in_time.fence]);
    bench.now_ms += 1;
    bench.give(std::slice::from_ref(&late));
    assert_eq!(reasons(&bench.releases()), [(late.fence, ReleaseReason::StaleCredit)]);
}

#[test]
fn a_grant_of_another_homes_task_is_ignored() {
    let mut bench = Bench::new(4);
    let foreign = bench.grant_of(tag(2), TaskSpec::new(TaskKind::Noop));
    bench.give(&[foreign]);
    assert!(bench.starts().is_empty() && bench.releases().is_empty());
}

#[test]
fn short_tasks_are_fetched_ahead_and_long_ones_are_not() {
    let mut bench = Bench::new(2);
    for _ in 0..50 {
        let grant = bench.started();
        bench.now_ms += 2;
        bench.finish(&grant, "short");
    }
    let ahead = bench.worker.stats().prefetch;
    assert!((50..=150).contains(&ahead), "2 slots of 2 ms tasks for 100 ms: {ahead}");
    for _ in 0..50 {
        let grant = bench.started();
        bench.now_ms += 2_000;
        bench.event(WorkerEvent::Tick);
        bench.finish(&grant, "long");
        bench.worker.handle(Now { mono_ms: bench.now_ms, wall_ms: 0 }, WorkerEvent::Tick);
        bench.refresh();
    }
    assert_eq!(bench.worker.stats().prefetch, 0);
}

impl Bench {
    /// Makes the credit that [`Bench::grant`] names young again.
    fn refresh(&mut self) {
        let slots = Slots { cpu: 2, device: 2 };
        if self.now_ms % 8_000 < 2_000 {
            self.asked.clear();
            let now = Now { mono_ms: self.now_ms, wall_ms: 0 };
            let run_ms = self.worker.run_ms;
            self.worker = Worker::new(tag(1), INCARNATION, slots, now);
            self.worker.run_ms = run_ms;
            self.event(WorkerEvent::HomeSeen { home: tag(1), backlog: Slots::default() });
        }
    }
}

#[test]
fn a_worker_holds_a_bounded_number_of_leases_whatever_homes_grant() {
    let mut bench = Bench::new(2);
    let grants: Vec<Grant> = (0..limits::LEASES_QUEUED_MAX + 10).map(|_| bench.grant()).collect();
    bench.give(&grants);
    let releases = bench.releases();
    // Two of them run already when the next message comes; within one they count as queued.
    assert_eq!(releases.len(), 8);
    assert!(releases.iter().all(|release| release.reason == ReleaseReason::NoSlot));
}

#[test]
fn leases_are_renewed_every_third_of_their_length_and_a_start_is_said_soon() {
    let mut bench = Bench::new(1);
    let grants = [bench.grant(), bench.grant()];
    bench.give(&grants);
    bench.pass(50);
    assert_eq!(bench.renewals(), [Renewal::new(grants[0].fence, grants[0].token, true)]);
    bench.pass(limits::LEASE_RENEW_EVERY_MS - 50);
    assert_eq!(bench.renewals(), [Renewal::new(grants[1].fence, grants[1].token, false)]);
    bench.pass(limits::LEASE_RENEW_EVERY_MS);
    assert_eq!(bench.renewals().len(), 2);
}

#[test]
fn nothing_is_renewed_beyond_start_timeout_and_grace() {
    let mut bench = Bench::new(1);
    let spec = TaskSpec { timeout: DurationMs(5_000), ..TaskSpec::new(TaskKind::Noop) };
    let grant = bench.grant_of(tag(1), spec);
    bench.give(&[grant]);
    bench.pass(5_000 + limits::LEASE_GRACE_MS);
    assert!(!bench.renewals().is_empty());
    bench.pass(60_000);
    assert!(bench.renewals().is_empty());
}

#[test]
fn a_lease_is_renewed_while_its_outcome_goes_up() {
    let mut bench = Bench::new(1);
    let grant = bench.started();
    bench.finish(&grant, "large");
    bench.renewals();
    bench.pass(limits::LEASE_RENEW_EVERY_MS);
    assert_eq!(bench.renewals(), [Renewal::new(grant.fence, grant.token, true)]);
    bench.answer(&grant, CompleteAnswer::Committed);
    bench.pass(10_000);
    assert!(bench.renewals().is_empty());
}

#[test]
fn what_runs_goes_on_though_its_lease_has_ended() {
    let mut bench = Bench::new(1);
    let grant = bench.started();
    bench.pass(3 * limits::LEASE_TTL_MS);
    assert!(bench.take(|effect| matches!(effect, WorkerEffect::Stop { .. }).then_some(())).is_empty());
    bench.finish(&grant, "late");
    assert_eq!(bench.completions().len(), 1);
}

#[test]
fn an_attempt_is_stopped_when_its_renewal_says_that_it_lost_its_task() {
    for (answer, cause) in [
        (RenewAnswer::Fenced { current: Epoch(9) }, StopCause::Fenced),
        (RenewAnswer::Terminal { state: crate::task::TaskState::Cancelled }, StopCause::TaskEnded),
        (RenewAnswer::Unknown, StopCause::TaskEnded),
    ] {
        let mut bench = Bench::new(1);
        let grant = bench.started();
        let sent_ms = bench.now_ms;
        bench.answer_renewals(sent_ms, answer, &grant);
        let stop = WorkerEffect::Stop { fence: grant.fence, cause };
        assert!(bench.asked.contains(&stop), "{answer:?}");
        bench.finish(&grant, "dropped");
        assert!(bench.completions().is_empty() && bench.worker.is_idle());
        assert_eq!(bench.worker.stats().fenced, u64::from(cause == StopCause::Fenced));
    }
}

#[test]
fn recalled_leases_go_back_unless_they_run() {
    let mut bench = Bench::new(1);
    let grants = [bench.grant(), bench.grant(), bench.grant()];
    bench.give(&grants);
    let fences = vec![grants[0].fence, grants[2].fence];
    bench.event(WorkerEvent::Recalled { fences });
    assert_eq!(reasons(&bench.releases()), [(grants[2].fence, ReleaseReason::Recalled)]);
    bench.finish(&grants[0], "done");
    assert_eq!(bench.starts(), [grants[0].fence, grants[1].fence]);
}

#[test]
fn a_stopped_queued_lease_is_dropped_without_a_word() {
    let mut bench = Bench::new(1);
    let grants = [bench.grant(), bench.grant()];
    bench.give(&grants);
    bench.event(WorkerEvent::Stopped { fences: grants.iter().map(|grant| grant.fence).collect() });
    assert!(bench.asked.contains(&WorkerEffect::Stop { fence: grants[0].fence, cause: StopCause::TaskEnded }));
    assert!(bench.releases().is_empty());
    bench.finish(&grants[0], "dropped");
    assert!(bench.worker.is_idle());
    assert_eq!(bench.starts(), [grants[0].fence]);
}

#[test]
fn outcomes_go_out_in_batches_one_at_a_time() {
    let mut bench = Bench::new(4);
    let grants = [bench.started(), bench.started(), bench.started()];
    bench.finish(&grants[0], "a");
    assert_eq!(bench.completions().len(), 1);
    bench.finish(&grants[1], "b");
    bench.finish(&grants[2], "c");
    assert!(bench.completions().is_empty(), "the first is under way");
    bench.answer(&grants[0], CompleteAnswer::Committed);
    let next = bench.completions();
    assert_eq!((next.len(), next[0].len()), (1, 2));
}

#[test]
fn a_batch_of_large_outcomes_fits_a_frame() {
    let mut bench = Bench::new(300);
    let grants: Vec<Grant> = (0..300).map(|_| bench.started()).collect();
    bench.event(WorkerEvent::HomeLost { home: tag(1) });
    let text = "x".repeat(60_000);
    grants.iter().for_each(|grant| bench.finish(grant, &text));
    bench.event(WorkerEvent::HomeSeen { home: tag(1), backlog: Slots::default() });
    let mut sent = 0;
    while sent < 300 {
        let batches = bench.completions();
        assert_eq!(batches.len(), 1);
        crate::wire::encode(&batches[0], limits::FRAME_BYTES_MAX).unwrap();
        sent += batches[0].len();
        let answers = batches[0].iter().map(|done| (done.fence, CompleteAnswer::Committed)).collect();
        bench.event(WorkerEvent::CompleteAnswered { home: tag(1), answers });
    }
}

#[test]
fn an_outcome_without_an_answer_is_offered_again() {
    let mut bench = Bench::new(1);
    let grant = bench.started();
    bench.finish(&grant, "done");
    let first = bench.completions();
    bench.event(WorkerEvent::CompleteFailed { home: tag(1) });
    bench.pass(900);
    assert!(bench.completions().is_empty());
    bench.pass(100);
    assert_eq!(bench.completions(), first);
    bench.event(WorkerEvent::HomeLost { home: tag(1) });
    bench.event(WorkerEvent::CompleteFailed { home: tag(1) });
    bench.pass(60_000);
    assert!(bench.completions().is_empty());
    bench.event(WorkerEvent::HomeSeen { home: tag(1), backlog: Slots::default() });
    assert_eq!(bench.completions(), first);
}

#[test]
fn every_answer_is_final() {
    for answer in [
        CompleteAnswer::Committed,
        CompleteAnswer::Recorded { state: crate::task::TaskState::Delayed },
        CompleteAnswer::Conflict,
        CompleteAnswer::Terminal { state: crate::task::TaskState::Cancelled },
        CompleteAnswer::Fenced { current: Epoch(9) },
        CompleteAnswer::Unknown,
    ] {
        let mut bench = Bench::new(1);
        let grant = bench.started();
        bench.finish(&grant, "done");
        bench.pass(50);
        assert_eq!(bench.spooled().len(), 1);
        bench.completions();
        bench.answer(&grant, answer);
        assert!(bench.asked.contains(&WorkerEffect::Unspool { fences: vec![grant.fence] }), "{answer:?}");
        bench.pass(20_000);
        assert!(bench.completions().is_empty() && bench.worker.stats().reporting == 0);
    }
}

#[test]
fn an_outcome_goes_to_the_disk_after_fifty_milliseconds_and_once() {
    let mut bench = Bench::new(2);
    let grants = [bench.started(), bench.started()];
    bench.finish(&grants[0], "quick");
    bench.answer(&grants[0], CompleteAnswer::Committed);
    bench.finish(&grants[1], "slow");
    bench.pass(50);
    assert_eq!(bench.spooled().iter().map(|done| done.fence).collect::<Vec<_>>(), [grants[1].fence]);
    bench.pass(10_000);
    assert!(bench.spooled().is_empty());
}

#[test]
fn an_outcome_of_class_memory_never_goes_to_the_disk() {
    let mut bench = Bench::new(1);
    let spec = TaskSpec { durability: Durability::Memory, ..TaskSpec::new(TaskKind::Noop) };
    let grant = bench.grant_of(tag(1), spec);
    bench.give(std::slice::from_ref(&grant));
    bench.finish(&grant, "done");
    bench.pass(10_000);
    assert!(bench.spooled().is_empty());
}

#[test]
fn the_first_outcome_of_an_attempt_is_its_only_one() {
    let mut bench = Bench::new(1);
    let grant = bench.started();
    bench.finish(&grant, "first");
    bench.finish(&grant, "second");
    bench.event(WorkerEvent::CompleteFailed { home: tag(1) });
    bench.pass(1_000);
    assert!(bench.completions().iter().flatten().all(|done| done.outcome == success("first")));
    assert_eq!(bench.worker.stats().reporting, 1);
}

#[test]
fn spooled_outcomes_of_an_earlier_life_are_offered_first_and_not_spooled_again() {
    let mut bench = Bench::new(1);
    let grant = bench.grant();
    let completion =
        Completion { fence: grant.fence, token: grant.token, outcome: success("from before"), checkpoint: None };
    bench.event(WorkerEvent::Recovered { completions: vec![completion.clone()] });
    assert_eq!(bench.completions(), [vec![completion]]);
    bench.pass(10_000);
    assert!(bench.spooled().is_empty());
    bench.give(std::slice::from_ref(&grant));
    assert!(bench.starts().is_empty(), "that fence has run");
    bench.answer(&grant, CompleteAnswer::Committed);
    assert!(bench.asked.contains(&WorkerEffect::Unspool { fences: vec![grant.fence] }));
}

#[test]
fn a_full_spool_takes_no_new_lease() {
    let mut bench = Bench::new(2);
    bench.event(WorkerEvent::HomeLost { home: tag(1) });
    bench.event(WorkerEvent::HomeSeen { home: tag(2), backlog: Slots { cpu: 100, device: 0 } });
    assert_eq!(bench.offer(tag(2)).free.cpu, 2);
    let text = "x".repeat(limits::PAYLOAD_INLINE_BYTES_MAX - 2);
    let mut held = 0;
    while held < limits::SPOOL_BYTES_MAX {
        let grant = bench.started();
        bench.finish(&grant, &text);
        held += text.len() as u64;
    }
    assert_eq!(bench.offer(tag(2)).free, Slots::default());
}

#[test]
fn a_failure_is_reported_as_any_outcome() {
    let mut bench = Bench::new(1);
    let grant = bench.started();
    let result = AttemptResult::Failed { error: TaskError::new("exit_status", "exit status 1"), retryable: true };
    let outcome = Outcome { result, log_tail: "boom".to_owned(), ran_ms: 3, used: Default::default() };
    bench.event(WorkerEvent::Finished { fence: grant.fence, outcome: outcome.clone() });
    assert_eq!(bench.completions()[0][0].outcome, outcome);
    assert_eq!(bench.worker.stats().failed, 1);
}
