use std::collections::{BTreeMap, VecDeque};

use magpie_core::ids::{Incarnation, LedgerId, LedgerTag, PeerId};
use magpie_core::lease::{Completion, Fence, Grant, Slots};
use magpie_core::limits;
use magpie_core::queue::{
    Caller, Effect, Event, Ledger, LedgerIdentity, LedgerReply, LedgerRequest, NewEntry, Replay, ReplyTo, Watermark,
    WorkerNotice,
};
use magpie_core::task::Outcome;
use magpie_core::time::Now;
use magpie_core::worker::{StopCause, Worker, WorkerEffect, WorkerEvent};

/// One way through the network.
const LATENCY_MS: u64 = 5;
const STEP_MS: u64 = 5;
const CALL_TIMEOUT_MS: u64 = 3_000;
const WALL_MS: u64 = 1_795_230_000_000;
pub const HOME: LedgerId = LedgerId([7; 16]);

/// What one direction of a worker's connection does with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    Open,
    Cut,
    /// It comes when the line is open again, however late.
    Slow,
}

/// What a worker waits for.
#[derive(Debug, Clone)]
enum Call {
    Credit,
    Renew { sent_ms: u64, fences: Vec<Fence> },
    Complete { id: u64, fences: Vec<Fence> },
    Release,
}

#[derive(Debug, Clone)]
enum Parcel {
    Ask { from: usize, life: u64, call: Call, request: LedgerRequest },
    Answer { to: usize, life: u64, call: Call, reply: LedgerReply },
    Notice { to: usize, notice: WorkerNotice },
    Marker { marker: u64 },
}

/// An attempt, as far as a core sees it.
struct Running {
    ends_ms: u64,
    outcome: Outcome,
}

/// A node with a worker.
pub struct Host {
    pub worker: Option<Worker>,
    pub up: Line,
    pub down: Line,
    /// SIGSTOP: its attempts go on, it sees nothing of them.
    pub frozen: bool,
    /// Every grant that came, and those that were started.
    pub heard: Vec<Grant>,
    pub started: Vec<Grant>,
    /// Attempts it was told to end, and why.
    pub stopped: Vec<(Fence, StopCause)>,
    pub completions: Vec<Completion>,
    pub spool: BTreeMap<Fence, Completion>,
    life: u64,
    slots: u32,
    running: BTreeMap<Fence, Running>,
    inbox: VecDeque<Parcel>,
    held_up: Vec<Parcel>,
    held_down: Vec<Parcel>,
}

pub struct Mesh {
    pub now_ms: u64,
    pub hosts: Vec<Host>,
    pub ledger: Option<Ledger>,
    pub log: Vec<NewEntry>,
    /// SIGSTOP of the home: what comes waits before it.
    pub home_frozen: bool,
    /// How long an attempt takes that starts now, and what comes of it.
    pub takes_ms: u64,
    pub ends_with: fn(&Grant) -> Outcome,
    pub replies: BTreeMap<u64, LedgerReply>,
    secret: u8,
    home_inbox: VecDeque<Parcel>,
    wire: BTreeMap<(u64, u64), Parcel>,
    posted: u64,
    /// Who gets which answer of the home.
    asked: BTreeMap<u64, (usize, u64, Call)>,
    /// Outcomes under way: whose, of which life, and until when their answer is waited for.
    completing: BTreeMap<u64, (usize, u64, u64)>,
    next_reply: u64,
}

pub fn peer(n: usize) -> PeerId {
    PeerId([n as u8; 32])
}

fn tag_of(n: usize) -> LedgerTag {
    LedgerId([100 + n as u8; 16]).tag()
}

impl Mesh {
    /// A home (node 0) and `workers` nodes with `slots` each, that see each other.
    pub fn new(workers: usize, slots: u32) -> Self {
        let mut mesh = Self {
            now_ms: 1_000,
            hosts: Vec::new(),
            ledger: None,
            log: Vec::new(),
            home_frozen: false,
            takes_ms: 100,
            ends_with: super::scene::success,
            replies: BTreeMap::new(),
            secret: 0,
            home_inbox: VecDeque::new(),
            wire: BTreeMap::new(),
            posted: 0,
            asked: BTreeMap::new(),
            completing: BTreeMap::new(),
            next_reply: 0,
        };
        mesh.start_home();
        (0..workers).for_each(|_| mesh.add_worker(slots));
        mesh
    }

    pub fn add_worker(&mut self, slots: u32) {
        self.hosts.push(Host::new(slots));
        self.start_worker(self.hosts.len());
    }

    pub fn now(&self) -> Now {
        Now { mono_ms: self.now_ms, wall_ms: WALL_MS + self.now_ms }
    }

    pub fn host(&mut self, n: usize) -> &mut Host {
        &mut self.hosts[n - 1]
    }

    /// The home starts on its log; workers find it.
    pub fn start_home(&mut self) {
        self.secret += 1;
        let identity = LedgerIdentity { ledger: HOME, home: peer(0), secret: [self.secret; 32] };
        let mut replay = Replay::new(identity);
        self.log.iter().for_each(|entry| replay.apply(entry.index, &entry.body, entry.event).unwrap());
        self.ledger = Some(replay.open(self.now()));
        self.perform_home();
        for n in 1..=self.hosts.len() {
            self.see(n);
        }
    }

    /// `kill -9` of the home's node: what was on the way to it is gone.
    pub fn kill_home(&mut self) {
        self.ledger = None;
        self.home_inbox.clear();
        for n in 1..=self.hosts.len() {
            self.worker_event(n, WorkerEvent::HomeLost { home: HOME.tag() });
        }
    }

    pub fn start_worker(&mut self, n: usize) {
        let now = self.now();
        let host = self.host(n);
        host.life += 1;
        let slots = Slots { cpu: host.slots, device: 0 };
        host.worker = Some(Worker::new(tag_of(n), Incarnation(host.life), slots, now));
        let completions: Vec<Completion> = host.spool.values().cloned().collect();
        self.worker_event(n, WorkerEvent::Recovered { completions });
        self.see(n);
    }

    /// `kill -9` of a worker and, with it, of all that it runs.
    pub fn kill_worker(&mut self, n: usize) {
        let host = self.host(n);
        (host.worker, host.running) = (None, BTreeMap::new());
        host.inbox.clear();
    }

    /// A connection: both sides know each other.
    fn see(&mut self, n: usize) {
        let capabilities = super::scene::all_kinds();
        if self.ledger.is_some() {
            self.home_event(Event::WorkerSeen { worker: peer(n), capabilities, alive: true });
            self.worker_event(n, WorkerEvent::HomeSeen { home: HOME.tag(), backlog: Slots::default() });
        }
    }

    /// The connection breaks, and both sides see it.
    pub fn lose_connection(&mut self, n: usize) {
        let host = self.host(n);
        (host.up, host.down) = (Line::Cut, Line::Cut);
        self.worker_event(n, WorkerEvent::HomeLost { home: HOME.tag() });
    }

    pub fn connect_again(&mut self, n: usize) {
        let host = self.host(n);
        (host.up, host.down) = (Line::Open, Line::Open);
        self.see(n);
    }

    /// What was slow comes now.
    pub fn open_lines(&mut self, n: usize) {
        let host = self.host(n);
        (host.up, host.down) = (Line::Open, Line::Open);
        let held = [std::mem::take(&mut host.held_up), std::mem::take(&mut host.held_down)].concat();
        held.into_iter().for_each(|parcel| self.post(parcel));
    }

    pub fn pass(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        while self.now_ms < until_ms {
            self.now_ms += STEP_MS;
            self.deliver();
            self.end_attempts();
            self.fail_calls();
            if self.now_ms.is_multiple_of(limits::SPOOL_AFTER_MS) {
                (1..=self.hosts.len()).for_each(|n| self.worker_event(n, WorkerEvent::Tick));
            }
            if self.now_ms.is_multiple_of(limits::TICK_MS) {
                self.home_event(Event::Tick);
            }
        }
    }

    /// The home goes on after a SIGSTOP: its clock first, then what waits before it. So it is at its worst.
    pub fn thaw_home(&mut self) {
        self.home_frozen = false;
        self.home_event(Event::Tick);
        while let Some(parcel) = self.home_inbox.pop_front() {
            self.home_takes(parcel);
        }
    }

    pub fn thaw_worker(&mut self, n: usize) {
        self.host(n).frozen = false;
        self.worker_event(n, WorkerEvent::Tick);
        while let Some(parcel) = self.host(n).inbox.pop_front() {
            self.worker_takes(n, parcel);
        }
    }

    /// Asks the home as a client does; its disk is synced at once, so the answer is there.
    pub fn ask(&mut self, request: LedgerRequest) -> LedgerReply {
        self.next_reply += 1;
        let reply = ReplyTo(self.next_reply);
        let caller = Caller { peer: peer(0), owner: "someone".into() };
        self.home_event(Event::Request { caller, request, reply });
        self.replies.remove(&reply.0).expect("the home runs and its disk is synced at once")
    }

    /// Says again to worker `n` what the home once said.
    pub fn repeat_grant(&mut self, n: usize, grant: Grant) {
        self.worker_event(n, WorkerEvent::Granted { home: HOME.tag(), grants: vec![grant] });
    }

    fn post(&mut self, parcel: Parcel) {
        let line = match &parcel {
            Parcel::Ask { from, .. } => Some((*from, true)),
            Parcel::Answer { to, .. } | Parcel::Notice { to, .. } => Some((*to, false)),
            Parcel::Marker { .. } => None,
        };
        if let Some((n, up)) = line {
            let host = self.host(n);
            match if up { host.up } else { host.down } {
                Line::Open => {}
                Line::Cut => return,
                Line::Slow if up => return host.held_up.push(parcel),
                Line::Slow => return host.held_down.push(parcel),
            }
        }
        self.posted += 1;
        self.wire.insert((self.now_ms + LATENCY_MS, self.posted), parcel);
    }

    fn deliver(&mut self) {
        while let Some(first) = self.wire.first_entry().filter(|first| first.key().0 <= self.now_ms) {
            match first.remove() {
                parcel @ (Parcel::Ask { .. } | Parcel::Marker { .. }) if self.home_frozen => {
                    self.home_inbox.push_back(parcel);
                }
                parcel @ (Parcel::Ask { .. } | Parcel::Marker { .. }) => self.home_takes(parcel),
                Parcel::Answer { to, life, call, reply } => {
                    self.worker_hears(to, Parcel::Answer { to, life, call, reply });
                }
                Parcel::Notice { to, notice } => self.worker_hears(to, Parcel::Notice { to, notice }),
            }
        }
    }

    fn home_takes(&mut self, parcel: Parcel) {
        match parcel {
            Parcel::Ask { from, life, call, request } => {
                self.next_reply += 1;
                self.asked.insert(self.next_reply, (from, life, call));
                let (reply, caller) = (ReplyTo(self.next_reply), Caller { peer: peer(from), owner: "a peer".into() });
                self.home_event(Event::Request { caller, request, reply });
            }
            Parcel::Marker { marker } => self.home_event(Event::MarkerOut { marker }),
            Parcel::Answer { .. } | Parcel::Notice { .. } => unreachable!("these go to workers"),
        }
    }

    fn home_event(&mut self, event: Event) {
        let now = self.now();
        if self.home_frozen {
            return;
        }
        let Some(ledger) = &mut self.ledger else { return };
        ledger.handle(now, event);
        self.perform_home();
    }

    fn perform_home(&mut self) {
        let now = self.now();
        loop {
            let Some(ledger) = &mut self.ledger else { return };
            let (entries, effects) = (ledger.take_entries(), ledger.take_effects());
            if entries.is_empty() && effects.is_empty() {
                return;
            }
            self.log.extend(entries);
            let index = magpie_core::ids::LogIndex(self.log.len() as u64);
            ledger.handle(now, Event::Durable(Watermark { written: index, synced: index }));
            effects.into_iter().for_each(|effect| self.home_effect(effect));
        }
    }

    fn home_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Reply { to, reply } => match self.asked.remove(&to.0) {
                Some((n, life, call)) => self.post(Parcel::Answer { to: n, life, call, reply }),
                None => drop(self.replies.insert(to.0, reply)),
            },
            Effect::Notify { worker, notice } => self.post(Parcel::Notice { to: usize::from(worker.0[0]), notice }),
            Effect::PlaceMarker { marker } => self.post(Parcel::Marker { marker }),
            _ => {}
        }
    }

    fn worker_hears(&mut self, n: usize, parcel: Parcel) {
        match self.host(n).frozen {
            true => self.host(n).inbox.push_back(parcel),
            false => self.worker_takes(n, parcel),
        }
    }

    fn worker_takes(&mut self, n: usize, parcel: Parcel) {
        let home = HOME.tag();
        let event = match parcel {
            Parcel::Notice { notice: WorkerNotice::Grants(grants), .. } => {
                self.host(n).heard.extend(grants.iter().cloned());
                WorkerEvent::Granted { home, grants }
            }
            Parcel::Notice { notice: WorkerNotice::Recall(fences), .. } => WorkerEvent::Recalled { fences },
            Parcel::Notice { notice: WorkerNotice::Stop(fences), .. } => WorkerEvent::Stopped { fences },
            Parcel::Answer { life, .. } if life != self.host(n).life => return,
            Parcel::Answer { call, reply, .. } => match (call, reply) {
                (Call::Credit, LedgerReply::Credited { backlog }) => WorkerEvent::HomeSeen { home, backlog },
                (Call::Renew { sent_ms, fences }, LedgerReply::Renewed(answers)) => {
                    WorkerEvent::RenewAnswered { home, sent_ms, answers: fences.into_iter().zip(answers).collect() }
                }
                (Call::Complete { id, fences }, LedgerReply::Completed(answers)) => {
                    self.completing.remove(&id);
                    WorkerEvent::CompleteAnswered { home, answers: fences.into_iter().zip(answers).collect() }
                }
                (Call::Release | Call::Credit | Call::Renew { .. } | Call::Complete { .. }, _) => return,
            },
            Parcel::Ask { .. } | Parcel::Marker { .. } => unreachable!("these go to the home"),
        };
        self.worker_event(n, event);
    }

    pub fn worker_event(&mut self, n: usize, event: WorkerEvent) {
        let now = self.now();
        let host = self.host(n);
        if host.frozen {
            return;
        }
        let Some(worker) = &mut host.worker else { return };
        worker.handle(now, event);
        let effects = worker.take_effects();
        effects.into_iter().for_each(|effect| self.worker_effect(n, effect));
    }

    fn worker_effect(&mut self, n: usize, effect: WorkerEffect) {
        let (now_ms, takes_ms, ends_with) = (self.now_ms, self.takes_ms, self.ends_with);
        let host = self.host(n);
        match effect {
            WorkerEffect::Start { grant, .. } => {
                let running = Running { ends_ms: now_ms + takes_ms, outcome: ends_with(&grant) };
                host.running.insert(grant.fence, running);
                host.started.push(grant);
            }
            WorkerEffect::Stop { fence, cause } => {
                host.stopped.push((fence, cause));
                if let Some(running) = host.running.get_mut(&fence) {
                    running.ends_ms = now_ms;
                }
            }
            WorkerEffect::Offer { offer, .. } => self.request(n, Call::Credit, LedgerRequest::Credit(offer)),
            WorkerEffect::Renew { sent_ms, renewals, .. } => {
                let fences = renewals.iter().map(|renewal| renewal.fence).collect();
                self.request(n, Call::Renew { sent_ms, fences }, LedgerRequest::Renew(renewals));
            }
            WorkerEffect::Complete { completions, .. } => {
                host.completions.extend(completions.iter().cloned());
                let fences = completions.iter().map(|completion| completion.fence).collect();
                self.posted += 1;
                let (id, life) = (self.posted, self.host(n).life);
                self.completing.insert(id, (n, life, now_ms + CALL_TIMEOUT_MS));
                self.request(n, Call::Complete { id, fences }, LedgerRequest::Complete(completions));
            }
            WorkerEffect::Release { releases, .. } => self.request(n, Call::Release, LedgerRequest::Release(releases)),
            WorkerEffect::Spool { completions } => {
                host.spool.extend(completions.into_iter().map(|completion| (completion.fence, completion)));
            }
            WorkerEffect::LeaseExtended { .. } => {}
            WorkerEffect::Unspool { fences } => fences.iter().for_each(|fence| drop(host.spool.remove(fence))),
        }
    }

    fn request(&mut self, n: usize, call: Call, request: LedgerRequest) {
        let life = self.host(n).life;
        self.post(Parcel::Ask { from: n, life, call, request });
    }

    /// A request that gets no answer fails, wherever its message was lost.
    fn fail_calls(&mut self) {
        let now_ms = self.now_ms;
        let due = self.completing.extract_if(.., |_, (.., due_ms)| *due_ms <= now_ms);
        let due: Vec<(usize, u64, u64)> = due.map(|(_, waited)| waited).collect();
        for (n, life, _) in due {
            if life == self.host(n).life {
                self.worker_event(n, WorkerEvent::CompleteFailed { home: HOME.tag() });
            }
        }
    }

    fn end_attempts(&mut self) {
        for n in 1..=self.hosts.len() {
            let now_ms = self.now_ms;
            let host = self.host(n);
            if host.frozen || host.worker.is_none() {
                continue;
            }
            let due = host.running.extract_if(.., |_, running| running.ends_ms <= now_ms);
            let due: Vec<(Fence, Running)> = due.collect();
            for (fence, Running { outcome, .. }) in due {
                self.worker_event(n, WorkerEvent::Finished { fence, outcome });
            }
        }
    }
}

impl Host {
    fn new(slots: u32) -> Self {
        Self {
            worker: None,
            up: Line::Open,
            down: Line::Open,
            frozen: false,
            heard: Vec::new(),
            started: Vec::new(),
            stopped: Vec::new(),
            completions: Vec::new(),
            spool: BTreeMap::new(),
            life: 0,
            slots,
            running: BTreeMap::new(),
            inbox: VecDeque::new(),
            held_up: Vec::new(),
            held_down: Vec::new(),
        }
    }

    pub fn runs(&self, fence: Fence) -> bool {
        self.running.contains_key(&fence)
    }
}
