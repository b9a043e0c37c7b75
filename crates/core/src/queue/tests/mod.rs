//! The core of a home by itself: every transition in a sentence.

mod approvals;
mod attempts;
mod child_policies;
mod children;
mod compaction;
mod compaction_model;
mod contexts;
mod dead_letters;
mod deadlines;
mod disk;
mod fairness;
mod following;
mod gates;
mod handover;
mod keys;
mod large_views;
mod leases;
mod lifecycle;
mod limit_keys;
mod namespaces;
mod order;
mod outcomes;
mod outside;
mod overload;
mod parents;
mod paused;
mod permits;
mod placing;
mod properties;
mod recovery;
mod rehearsal;
mod retention;
mod retries;
mod schedules;
mod standing;
mod submission;
mod suspension;
mod usage;
mod workflow_model;
mod workflow_policies;
mod workflow_retries;
mod workflows;

use std::sync::Arc;

use super::*;
use crate::ids::{
    Epoch, Incarnation, LeaseToken, LedgerId, LogIndex, OperationId, PeerId, Sending, TaskId, WorkflowId,
};
use crate::lease::{
    CompleteAnswer, Completion, CreditName, CreditOffer, Fence, Grant, Release, ReleaseReason, RenewAnswer, Renewal,
    Slots,
};
use crate::limits;
use crate::matching::Capabilities;
use crate::payload::{JsonText, Payload};
use crate::progress::AttemptNews;
use crate::retry::RetryPolicy;
use crate::task::{AttemptResult, Durability, Outcome, Priority, TaskError, TaskKind, TaskSpec, TaskState};
use crate::time::{DurationMs, Now, Wall};

const LEDGER: LedgerId = LedgerId([7; 16]);
const START_MS: u64 = 1_795_230_000_000;

/// A home on its bench: its log, its clocks and what left it.
struct Bench {
    ledger: Ledger,
    now: Now,
    /// The whole of it: what was cut off stays here.
    log: Vec<NewEntry>,
    /// The first entry that was not cut off.
    first: LogIndex,
    compaction: CompactionPolicy,
    settings: QueueSettings,
    left: Vec<Effect>,
    /// Whether every record is on the disk at once, and every marker comes out at once.
    syncs: bool,
    markers: bool,
    replies: u64,
    operations: u128,
    sendings: u64,
    /// Grants that a test's worker has seen, where it counts them here.
    received: u32,
}

/// All values stand inline.
struct Inline;

impl Values for Inline {
    fn text_of(&self, payload: &Payload) -> Result<String, String> {
        match payload {
            Payload::Inline(text) => Ok(text.as_str().to_owned()),
            Payload::Blob(blob) => Err(format!("{} is not here", blob.cid)),
        }
    }

    fn place(&self, value: JsonText) -> Result<Payload, TaskError> {
        Ok(Payload::Inline(value))
    }
}

fn identity(secret: u8) -> LedgerIdentity {
    LedgerIdentity { ledger: LEDGER, home: peer(0), secret: [secret; 32] }
}

fn peer(n: u8) -> PeerId {
    PeerId([n; 32])
}

fn noop() -> TaskSpec {
    TaskSpec::new(TaskKind::Noop)
}

fn at_most(max_attempts: u32) -> TaskSpec {
    let retry = RetryPolicy { max_attempts, initial: DurationMs(1_000), jitter: 0.0, ..RetryPolicy::default() };
    TaskSpec { retry, timeout: DurationMs(5_000), ..noop() }
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

fn failure(retryable: bool) -> Outcome {
    let error = TaskError::new("exit_status", "exit status 1");
    Outcome {
        result: AttemptResult::Failed { error, retryable },
        log_tail: String::new(),
        ran_ms: 1,
        used: Default::default(),
    }
}

fn completion(grant: &Grant, outcome: Outcome) -> Completion {
    Completion { fence: grant.fence, token: grant.token, outcome, checkpoint: None }
}

fn renewal(grant: &Grant, started: bool) -> Renewal {
    Renewal::new(grant.fence, grant.token, started)
}

fn all_kinds() -> Arc<Capabilities> {
    let models = ["minilm".to_owned()].into();
    Arc::new(Capabilities { kinds: TaskKind::ALL.into_iter().collect(), models, ..Capabilities::default() })
}

impl Bench {
    /// A new home. Its own worker is peer 0; nobody has a credit.
    fn new() -> Self {
        let now = Now { mono_ms: 1_000, wall_ms: START_MS };
        Self::open(Replay::new(identity(1)), now, Vec::new())
    }

    fn open(replay: Replay, now: Now, log: Vec<NewEntry>) -> Self {
        let mut bench = Self {
            ledger: replay.open(now),
            now,
            log,
            first: LogIndex(1),
            compaction: CompactionPolicy::default(),
            settings: QueueSettings::default(),
            left: Vec::new(),
            syncs: true,
            markers: true,
            replies: 0,
            operations: 0,
            sendings: 0,
            received: 0,
        };
        bench.settle();
        bench
    }

    /// The next life of the same home, some time later.
    fn restart(mut self, later_ms: u64) -> Self {
        self.settle();
        self.now.mono_ms = 50_000;
        self.now.wall_ms += later_ms;
        let (first, compaction, settings) = (self.first, self.compaction, self.settings.clone());
        let replay = self.replay_under(compaction, (self.first, self.index()), 2);
        let mut bench = Self::open(replay, self.now, self.log);
        bench.first = bench.first.max(first);
        bench.settings = settings;
        bench.compact(compaction);
        (bench.replies, bench.operations, bench.sendings) = (self.replies, self.operations, self.sendings);
        bench
    }

    fn replay(&self, secret: u8) -> Replay {
        self.replay_from(self.first, secret)
    }

    /// What is left when all before `first` is gone.
    fn replay_from(&self, first: LogIndex, secret: u8) -> Replay {
        self.replay_of(first, self.index(), secret)
    }

    /// What a crash leaves after `last`, when all before `first` is gone.
    fn replay_of(&self, first: LogIndex, last: LogIndex, secret: u8) -> Replay {
        self.replay_under(CompactionPolicy::default(), (first, last), secret)
    }

    fn replay_under(&self, policy: CompactionPolicy, (first, last): (LogIndex, LogIndex), secret: u8) -> Replay {
        let (cut, kept) = self.log[..last.0 as usize].split_at(first.0 as usize - 1);
        let replay = match cut.last() {
            Some(last) => Replay::resume(identity(secret), LogStart { first, after: last.event }),
            None => Replay::new(identity(secret)),
        };
        let mut replay = replay.with_settings(self.settings.clone()).with_compaction(policy);
        kept.iter().for_each(|entry| replay.apply(entry.index, &entry.body, entry.event).unwrap());
        replay
    }

    fn compact(&mut self, policy: CompactionPolicy) {
        self.compaction = policy;
        self.ledger.compaction.set_policy(policy);
    }

    fn event(&mut self, event: Event) {
        self.ledger.handle(self.now, event);
        self.settle();
        assert!(self.ledger.ready.stands_right(), "a round of grants would see other queues than there are");
    }

    fn settle(&mut self) {
        loop {
            let entries = self.ledger.take_entries();
            let effects = self.ledger.take_effects();
            if entries.is_empty() && effects.is_empty() {
                return;
            }
            let markers = effects.iter().filter_map(|effect| match effect {
                Effect::PlaceMarker { marker } if self.markers => Some(*marker),
                _ => None,
            });
            let markers: Vec<u64> = markers.collect();
            let cut = effects.iter().filter_map(|effect| match effect {
                Effect::Cut { before } => Some(*before),
                _ => None,
            });
            self.first = cut.fold(self.first, LogIndex::max);
            self.left.extend(effects);
            self.log.extend(entries);
            if self.syncs {
                self.sync();
            }
            for marker in markers {
                self.ledger.handle(self.now, Event::MarkerOut { marker });
            }
        }
    }

    fn index(&self) -> LogIndex {
        LogIndex(self.log.len() as u64)
    }

    fn sync(&mut self) {
        let all = Watermark { written: self.index(), synced: self.index() };
        self.ledger.handle(self.now, Event::Durable(all));
    }

    fn ask_as(&mut self, who: PeerId, request: LedgerRequest) -> Option<LedgerReply> {
        self.replies += 1;
        let (reply, caller) = (ReplyTo(self.replies), Caller { peer: who, owner: "someone".into() });
        self.event(Event::Request { caller, request, reply });
        self.answer_to(reply)
    }

    fn answer_to(&mut self, wanted: ReplyTo) -> Option<LedgerReply> {
        let place = self.left.iter().position(|effect| matches!(effect, Effect::Reply { to, .. } if *to == wanted))?;
        match self.left.remove(place) {
            Effect::Reply { reply, .. } => Some(reply),
            _ => None,
        }
    }

    fn ask(&mut self, request: LedgerRequest) -> LedgerReply {
        self.ask_as(peer(0), request).expect("the disk is synced at once")
    }

    fn operation(&mut self) -> OperationId {
        self.operations += 1;
        OperationId((self.operations | 1 << 120).to_be_bytes())
    }

    fn submit_all(&mut self, specs: Vec<TaskSpec>) -> Vec<TaskId> {
        let operation = self.operation();
        let items = specs.into_iter().map(SubmitItem::one).collect();
        accepted(self.ask(LedgerRequest::Submit { operation, items }))
    }

    fn submit(&mut self, spec: TaskSpec) -> TaskId {
        self.submit_all(vec![spec])[0]
    }

    /// A worker that may run everything is there, with `cpu` slots to offer.
    fn worker(&mut self, n: u8, cpu: u32) {
        self.event(Event::WorkerSeen { worker: peer(n), capabilities: all_kinds(), alive: true });
        self.credit(n, cpu, 0);
    }

    /// The home's own worker has so many slots, all of them busy.
    fn works_at_home(&mut self, slots: Slots) {
        self.event(Event::WorkerSeen { worker: peer(0), capabilities: all_kinds(), alive: true });
        self.sendings += 1;
        let name = CreditName { incarnation: Incarnation(1), sending: Sending(self.sendings) };
        let (received, free) = (Slots::default(), Slots::default());
        self.ask_as(peer(0), LedgerRequest::Credit(CreditOffer { name, received, free, slots: Some(slots) }));
    }

    /// `received` grants arrived at the worker so far; it has `cpu` slots free.
    fn credit(&mut self, n: u8, cpu: u32, received: u32) {
        self.credit_of(Incarnation(1), n, cpu, received);
    }

    fn credit_of(&mut self, incarnation: Incarnation, n: u8, cpu: u32, received: u32) {
        self.sendings += 1;
        let name = CreditName { incarnation, sending: Sending(self.sendings) };
        let offer = CreditOffer {
            name,
            received: Slots { cpu: received, device: 0 },
            free: Slots { cpu, device: 0 },
            slots: None,
        };
        self.ask_as(peer(n), LedgerRequest::Credit(offer));
    }

    /// Grants that left since the last look, with the worker they went to.
    fn grants(&mut self) -> Vec<(PeerId, Grant)> {
        let mut grants = Vec::new();
        for effect in std::mem::take(&mut self.left) {
            match effect {
                Effect::Notify { worker, notice: WorkerNotice::Grants(all) } => {
                    grants.extend(all.into_iter().map(|grant| (worker, grant)));
                }
                other => self.left.push(other),
            }
        }
        grants
    }

    fn grant(&mut self) -> Grant {
        let grants = self.grants();
        assert_eq!(grants.len(), 1, "{grants:?}");
        grants.into_iter().next().unwrap().1
    }

    /// One task, granted to worker 1.
    fn granted(&mut self, spec: TaskSpec) -> Grant {
        self.submit(spec);
        self.worker(1, 1);
        self.pass(200);
        self.grant()
    }

    /// Time passes, with ticks.
    fn pass(&mut self, ms: u64) {
        let until_ms = self.now.mono_ms + ms;
        while self.now.mono_ms < until_ms {
            let step_ms = limits::TICK_MS.min(until_ms - self.now.mono_ms);
            self.now.mono_ms += step_ms;
            self.now.wall_ms += step_ms;
            self.event(Event::Tick);
        }
    }

    fn complete(&mut self, grant: &Grant, outcome: Outcome) -> CompleteAnswer {
        match self.ask_as(peer(1), LedgerRequest::Complete(vec![completion(grant, outcome)])) {
            Some(LedgerReply::Completed(answers)) => answers[0],
            other => panic!("{other:?}"),
        }
    }

    fn renew(&mut self, grant: &Grant, started: bool) -> RenewAnswer {
        self.renew_with(renewal(grant, started))
    }

    fn renew_with(&mut self, renewal: Renewal) -> RenewAnswer {
        match self.ask_as(peer(1), LedgerRequest::Renew(vec![renewal])) {
            Some(LedgerReply::Renewed(answers)) => answers[0],
            other => panic!("{other:?}"),
        }
    }

    fn release(&mut self, grant: &Grant, reason: ReleaseReason) {
        self.ask_as(peer(1), LedgerRequest::Release(vec![Release { fence: grant.fence, token: grant.token, reason }]));
    }

    fn cancel(&mut self, id: TaskId) -> TaskState {
        let operation = self.operation();
        match self.ask(LedgerRequest::Cancel { operation, id, reason: "enough".to_owned() }) {
            LedgerReply::Cancelled { state } => state,
            other => panic!("{other:?}"),
        }
    }

    fn task(&mut self, id: TaskId) -> TaskView {
        match self.ask(LedgerRequest::GetTask { id }) {
            LedgerReply::Task(view) => *view,
            other => panic!("{other:?}"),
        }
    }

    fn state(&mut self, id: TaskId) -> TaskState {
        self.task(id).state
    }

    fn stats(&mut self) -> QueueStats {
        match self.ask(LedgerRequest::Stats) {
            LedgerReply::Stats(stats) => *stats,
            other => panic!("{other:?}"),
        }
    }

    /// Worker 1 takes and ends whatever it is granted, until nothing is left.
    fn work_off(&mut self, mut outcome: impl FnMut(&Grant) -> Outcome) -> Vec<Grant> {
        let (mut done, mut received) = (Vec::new(), 0);
        loop {
            self.credit(1, 100, received);
            self.pass(100);
            let grants = self.grants();
            if grants.is_empty() {
                return done;
            }
            received += grants.len() as u32;
            for (_, grant) in grants {
                self.complete(&grant, outcome(&grant));
                self.bind_all();
                done.push(grant);
            }
        }
    }

    /// Answers every request for a binding with what the step's templates say.
    fn bind_all(&mut self) {
        // An answer may lead to the next question: a list without items is over at once.
        while self.left.iter().any(|effect| matches!(effect, Effect::Bind { .. })) {
            for effect in std::mem::take(&mut self.left) {
                match effect {
                    Effect::Bind { id, spec, steps } => {
                        let bound = bind(id.part, &spec, &steps, &Inline);
                        self.event(Event::Bound { id, bound });
                    }
                    other => self.left.push(other),
                }
            }
        }
    }
}

fn accepted(reply: LedgerReply) -> Vec<TaskId> {
    let LedgerReply::Submitted { answers } = reply else { panic!("{reply:?}") };
    let id = |answer| match answer {
        SubmitAnswer::Accepted { id } => id,
        SubmitAnswer::Refused(refusal) => panic!("{refusal}"),
    };
    answers.into_iter().map(id).collect()
}
