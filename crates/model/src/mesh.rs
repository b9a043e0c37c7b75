//! One state of the mesh, and each step from it.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use magpie_core::ids::{OperationId, TaskId};
use magpie_core::invariant::InvariantId;
use magpie_core::lease::Fence;
use magpie_core::limits;
use magpie_core::queue::{Caller, Event, LedgerRequest, ReplyTo, SubmitItem};
use magpie_core::retry::RetryPolicy;
use magpie_core::task::{TaskKind, TaskSpec};
use magpie_core::time::{DurationMs, Now};

use crate::action::{Action, Fate};
use crate::home::{Around, Home, Power, peer_of};
use crate::letters::{Body, Letter};
use crate::worker::WorkerNode;

pub const WORKERS: usize = 2;
const TASKS: u32 = 2;
const START_MS: u64 = 1_000_000;
/// A quarter of a lease: its ends, at the worker and at the home, are four leaps away.
const LEAP_MS: u64 = limits::LEASE_TTL_MS / 4;
/// Ticks within a leap, so close together that none is late enough for a home to forgive a stall.
const TICK_MS: u64 = 500;
/// Both tasks must have ended so long after the last fault.
const CALM_MS_MAX: u64 = 180_000;
const TIMEOUT_MS: u64 = 30_000;
const ATTEMPTS_MAX: u32 = 3;

const _: () = assert!(TICK_MS < limits::TICK_MS + limits::STALL_MS && LEAP_MS.is_multiple_of(TICK_MS));

/// One time on both clocks of every node.
pub fn reading(now_ms: u64) -> Now {
    Now { mono_ms: now_ms, wall_ms: 1_795_230_000_000 + now_ms }
}

/// What may still go wrong, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Messages that are lost.
    pub lost: u8,
    /// Messages that arrive at any later time, or never.
    pub late: u8,
    /// Processes that die.
    pub crashes: u8,
    /// Processes that stand still for a while.
    pub pauses: u8,
    /// Attempts that fail by themselves.
    pub failures: u8,
    /// Leaps before the calm.
    pub leaps: u8,
}

#[derive(Clone)]
pub struct Mesh {
    pub now_ms: u64,
    pub home: Home,
    pub workers: [WorkerNode; WORKERS],
    pub around: Around,
    pub budget: Budget,
    tasks: Vec<TaskId>,
    calm: bool,
    digest: u64,
}

impl Mesh {
    /// Two tasks are on the home's disk, and both workers' first credits on their way.
    pub fn new(budget: Budget) -> Self {
        let mut around = Around::default();
        let before_ms = START_MS - limits::PREFERENCE_WAIT_MS;
        let mut home = Home::new(before_ms);
        home.meet_workers(before_ms, &mut around);
        let operation = OperationId([9; 16]);
        let item = SubmitItem { spec: spec().into(), count: TASKS };
        let request = LedgerRequest::Submit { operation, items: vec![item] };
        let caller = Caller { peer: peer_of(WORKERS), owner: "client".into() };
        home.event(before_ms, Event::Request { caller, request, reply: ReplyTo(u64::MAX) }, &mut around);
        home.sync(before_ms, &mut around);
        home.event(START_MS, Event::Tick, &mut around);
        let mut workers = [0, 1].map(|place| WorkerNode::new(place, START_MS));
        workers.iter_mut().for_each(|worker| worker.meet_home(START_MS, &mut around));
        let tasks = home.task_ids();
        let mut mesh = Self { now_ms: START_MS, home, workers, around, budget, tasks, calm: false, digest: 0 };
        mesh.settle();
        mesh
    }

    pub fn everything_ended(&self) -> bool {
        self.tasks.iter().all(|task| self.around.checks.has_ended(*task))
    }

    pub fn actions(&self, actions: &mut Vec<Action>) {
        if self.around.checks.breach.is_some() || self.calm {
            return;
        }
        if self.everything_ended() && self.around.letters.is_empty() && self.runs_nothing() && !self.home.has_unsynced()
        {
            return;
        }
        if self.urgent_actions(actions) {
            return;
        }
        for (place, letter) in self.around.letters.iter().enumerate() {
            if self.receives(letter) && !self.around.letters[..place].contains(letter) {
                actions.push(Action::Arrive(place));
            }
        }
        self.attempt_actions(actions);
        self.process_actions(actions);
        actions.push(if self.budget.leaps > 0 { Action::Leap } else { Action::Calm });
    }

    /// What happens before anything else does, or not at all: a sync, and the arrival of what no fault holds back.
    fn urgent_actions(&self, actions: &mut Vec<Action>) -> bool {
        let is_up = self.home.power == Power::Up;
        if is_up && self.home.has_unsynced() {
            actions.push(Action::Sync);
            if self.budget.crashes > 0 {
                actions.extend([true, false].map(|loses| Action::CrashHome { loses }));
            }
            return true;
        }
        if let Some(place) = self.around.letters.iter().position(|letter| !letter.held_back && self.receives(letter)) {
            actions.push(Action::Arrive(place));
            // A lost credit is like one that was never sent, and comes again.
            if !matches!(self.around.letters[place].body, Body::Offer(_)) {
                actions.extend((self.budget.lost > 0).then_some(Action::Lose(place)));
                actions.extend((self.budget.late > 0).then_some(Action::HoldBack(place)));
            }
            return true;
        }
        if is_up && !self.home.markers.is_empty() {
            actions.push(Action::MarkerOut);
            return true;
        }
        false
    }

    fn runs_nothing(&self) -> bool {
        self.workers.iter().all(|worker| worker.running.is_empty())
    }

    fn receives(&self, letter: &Letter) -> bool {
        if letter.body.is_request() { self.home.power == Power::Up } else { !self.workers[letter.worker].paused }
    }

    fn attempt_actions(&self, actions: &mut Vec<Action>) {
        for worker in self.workers.iter().filter(|worker| !worker.paused) {
            for fence in &worker.running {
                actions.push(Action::End { worker: worker.place, fence: *fence, fate: Fate::Succeeds });
                if self.budget.failures > 0 {
                    actions.push(Action::End { worker: worker.place, fence: *fence, fate: Fate::Fails });
                }
            }
        }
    }

    fn process_actions(&self, actions: &mut Vec<Action>) {
        let Budget { crashes, pauses, .. } = self.budget;
        match self.home.power {
            Power::Up => {
                actions.extend((crashes > 0).then_some(Action::CrashHome { loses: true }));
                actions.extend((pauses > 0).then_some(Action::PauseHome));
            }
            Power::Paused => actions.extend([true, false].map(|ticks_first| Action::ResumeHome { ticks_first })),
            Power::Down => actions.push(Action::StartHome),
        }
        for WorkerNode { place: worker, paused, .. } in &self.workers {
            if *paused {
                let resume = |ticks_first| Action::ResumeWorker { worker: *worker, ticks_first };
                actions.extend([true, false].map(resume));
            } else {
                actions.extend((crashes > 0).then_some(Action::CrashWorker(*worker)));
                actions.extend((pauses > 0).then_some(Action::PauseWorker(*worker)));
            }
        }
    }

    pub fn take(&mut self, action: Action) {
        let now_ms = self.now_ms;
        match action {
            Action::Arrive(place) => self.arrive(place),
            Action::Lose(place) => {
                self.around.letters.remove(place);
                self.budget.lost -= 1;
            }
            Action::HoldBack(place) => {
                self.around.letters[place].held_back = true;
                self.budget.late -= 1;
            }
            Action::Sync => self.home.sync(now_ms, &mut self.around),
            Action::MarkerOut => self.marker_out(),
            Action::End { worker, fence, fate } => {
                self.budget.failures -= u8::from(fate == Fate::Fails);
                self.workers[worker].end_attempt(now_ms, fence, fate, &mut self.around);
            }
            Action::CrashHome { loses } => {
                self.budget.crashes -= 1;
                self.home.crash(loses);
            }
            Action::StartHome => self.start_home(),
            Action::CrashWorker(worker) => {
                self.budget.crashes -= 1;
                // Answers to the process that died find nobody.
                self.around.letters.retain(|letter| letter.worker != worker || !letter.body.is_answer());
                self.workers[worker].crash(now_ms, &mut self.around);
            }
            Action::PauseHome => {
                self.budget.pauses -= 1;
                self.home.power = Power::Paused;
            }
            Action::PauseWorker(worker) => {
                self.budget.pauses -= 1;
                self.workers[worker].paused = true;
            }
            Action::ResumeHome { ticks_first } => {
                self.home.power = Power::Up;
                if ticks_first {
                    self.home.event(now_ms, Event::Tick, &mut self.around);
                }
            }
            Action::ResumeWorker { worker, ticks_first } => {
                self.workers[worker].paused = false;
                if ticks_first {
                    self.workers[worker].tick(now_ms, &mut self.around);
                }
            }
            Action::Leap => {
                self.budget.leaps -= 1;
                self.pass(LEAP_MS);
            }
            Action::Calm => self.calm_down(),
        }
        self.go_on();
        self.settle();
    }

    /// Where there is no choice, what is urgent is no step of its own.
    fn go_on(&mut self) {
        let mut actions = Vec::new();
        while self.around.checks.breach.is_none() && !self.calm && self.urgent_actions(&mut actions) {
            match actions.as_slice() {
                [Action::Sync] => self.home.sync(self.now_ms, &mut self.around),
                [Action::Arrive(place)] => self.arrive(*place),
                [Action::MarkerOut] => self.marker_out(),
                _ => return,
            }
            self.check_leases();
            actions.clear();
        }
    }

    fn arrive(&mut self, place: usize) {
        let letter = self.around.letters.remove(place);
        if letter.body.is_request() {
            self.home.request(self.now_ms, letter, &mut self.around);
        } else {
            self.workers[letter.worker].hear(self.now_ms, letter, &mut self.around);
        }
    }

    fn marker_out(&mut self) {
        let marker = self.home.markers.remove(0);
        self.home.event(self.now_ms, Event::MarkerOut { marker }, &mut self.around);
    }

    fn start_home(&mut self) {
        self.home.start(self.now_ms, &mut self.around);
        for worker in self.workers.iter_mut() {
            worker.meet_home(self.now_ms, &mut self.around);
        }
    }

    /// Time passes, with ticks; nothing arrives meanwhile.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / TICK_MS {
            self.now_ms += TICK_MS;
            match self.home.power {
                Power::Up => self.home.event(self.now_ms, Event::Tick, &mut self.around),
                Power::Paused => {}
                Power::Down => self.around.letters.retain(|letter| !letter.body.is_request()),
            }
            for worker in self.workers.iter_mut().filter(|worker| !worker.paused) {
                if self.home.power == Power::Down {
                    worker.fail_call(self.now_ms, &mut self.around);
                }
                worker.tick(self.now_ms, &mut self.around);
            }
            self.check_leases();
        }
    }

    fn calm_down(&mut self) {
        self.calm = true;
        self.budget = Budget { lost: 0, late: 0, crashes: 0, pauses: 0, failures: 0, leaps: 0 };
        self.around.letters.retain(|letter| !letter.held_back);
        match self.home.power {
            Power::Up => {}
            Power::Paused => self.home.power = Power::Up,
            Power::Down => self.start_home(),
        }
        self.workers.iter_mut().for_each(|worker| worker.paused = false);
        let until_ms = self.now_ms + CALM_MS_MAX;
        while self.now_ms < until_ms && !self.everything_ended() && self.around.checks.breach.is_none() {
            self.let_everything_arrive();
            self.pass(TICK_MS);
        }
    }

    fn let_everything_arrive(&mut self) {
        loop {
            if self.home.has_unsynced() {
                self.home.sync(self.now_ms, &mut self.around);
            } else if !self.around.letters.is_empty() {
                self.arrive(0);
            } else if !self.home.markers.is_empty() {
                self.marker_out();
            } else if let Some((worker, fence)) = self.an_attempt() {
                self.workers[worker].end_attempt(self.now_ms, fence, Fate::Succeeds, &mut self.around);
            } else {
                return;
            }
            self.check_leases();
        }
    }

    fn an_attempt(&self) -> Option<(usize, Fence)> {
        self.workers.iter().find_map(|worker| Some((worker.place, *worker.running.first()?)))
    }

    /// I2 and I5 between the two ends of each lease.
    fn check_leases(&mut self) {
        let held = || self.workers.iter().flat_map(|worker| worker.worker.leases().map(|lease| (worker.place, lease)));
        for task in self.tasks.iter().copied() {
            let live: Vec<_> = held().filter(|(_, (fence, ends))| fence.task == task && *ends > self.now_ms).collect();
            self.around
                .checks
                .require(InvariantId::I5, live.len() <= 1, || format!("{task} is leased twice: {live:?}"));
            let mut fences: Vec<Fence> = held().map(|(_, (fence, _))| fence).filter(|it| it.task == task).collect();
            let count = fences.len();
            fences.sort_unstable();
            fences.dedup();
            self.around
                .checks
                .require(InvariantId::I2, fences.len() == count, || format!("two workers hold one of {fences:?}"));
        }
        if self.home.power == Power::Down {
            return;
        }
        let live: Vec<(Fence, u64)> = self.home.ledger.leases().collect();
        for (worker, (fence, ends_ms)) in held().filter(|(_, (_, ends_ms))| *ends_ms > self.now_ms) {
            let at_home = live.iter().find(|(recorded, _)| *recorded == fence);
            let covered = at_home.is_some_and(|(_, expires_ms)| *expires_ms >= ends_ms);
            let ended = self.around.checks.has_ended(fence.task);
            self.around.checks.require(InvariantId::I5, covered || ended, || {
                format!("worker {worker} holds {fence:?} until {ends_ms} ms; the home has {at_home:?}")
            });
        }
    }

    /// Checks the state that a step led to, and takes its digest.
    fn settle(&mut self) {
        self.check_leases();
        let mut hasher = DefaultHasher::new();
        (self.now_ms, self.budget, self.calm).hash(&mut hasher);
        self.home.fingerprint(self.now_ms, &mut hasher);
        self.workers.iter().for_each(|worker| worker.fingerprint(self.now_ms, &mut hasher));
        let mut letters: Vec<u64> = self.around.letters.iter().map(digest_of).collect();
        letters.sort_unstable();
        letters.hash(&mut hasher);
        self.around.checks.fingerprint(&mut hasher);
        self.digest = hasher.finish();
    }
}

fn digest_of(letter: &Letter) -> u64 {
    let mut hasher = DefaultHasher::new();
    letter.fingerprint(&mut hasher);
    hasher.finish()
}

fn spec() -> TaskSpec {
    let retry =
        RetryPolicy { max_attempts: ATTEMPTS_MAX, initial: DurationMs(1_000), jitter: 0.0, ..RetryPolicy::default() };
    TaskSpec { retry, timeout: DurationMs(TIMEOUT_MS), ..TaskSpec::new(TaskKind::Noop) }
}

impl PartialEq for Mesh {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Hash for Mesh {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.digest.hash(hasher);
    }
}

impl fmt::Debug for Mesh {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leases: Vec<_> = self.workers.iter().map(|worker| worker.worker.leases().collect::<Vec<_>>()).collect();
        formatter
            .debug_struct("Mesh")
            .field("passed_ms", &(self.now_ms - START_MS))
            .field("power", &self.home.power)
            .field("at_home", &self.home.ledger.leases().collect::<Vec<_>>())
            .field("at_workers", &leases)
            .field("letters", &self.around.letters)
            .field("breach", &self.around.checks.breach)
            .finish_non_exhaustive()
    }
}
