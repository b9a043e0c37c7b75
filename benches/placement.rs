//! Placement: tasks that a home grants a second on one core, with 10,000 ready tasks in few queues or in many, and 100
//! peers that each offer a few slots at a time. Written in class `sync`, without a disk.
//!
//! `cargo bench --profile dist --bench placement`; `ROUNDS=50` by default. Prints one JSON object for each number of namespaces.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use magpie_core::ids::{Incarnation, LedgerId, LogIndex, OperationId, PeerId, Sending};
use magpie_core::lease::{Completion, CreditName, CreditOffer, Grant, Slots};
use magpie_core::matching::Capabilities;
use magpie_core::payload::Payload;
use magpie_core::queue::{
    Caller, Effect, Event, Ledger, LedgerIdentity, LedgerRequest, Replay, ReplyTo, SubmitItem, Watermark, WorkerNotice,
};
use magpie_core::task::{AttemptResult, Outcome, TaskKind, TaskSpec};
use magpie_core::time::Now;

const QUEUED: usize = 10_000;
const PEERS: usize = 100;
const SLOTS: u32 = 4;
/// Each has a queue of its own for each shape.
const NAMESPACES: [usize; 2] = [4, 1_000];
const SHAPES: usize = 4;

struct Bench {
    namespaces: usize,
    ledger: Ledger,
    now: Now,
    written: u64,
    operations: u128,
    sendings: u64,
    received: BTreeMap<PeerId, u32>,
}

fn main() {
    let rounds: usize = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(50);
    NAMESPACES.into_iter().for_each(|namespaces| measure(namespaces, rounds));
}

fn measure(namespaces: usize, rounds: usize) {
    let mut bench = Bench::open(namespaces);
    bench.submit(QUEUED);
    let (mut granted, mut spent) = (0, Duration::ZERO);
    for _ in 0..rounds {
        // Preference has had its time: every grant is a choice among all peers with a credit.
        bench.now.mono_ms += 100;
        bench.now.wall_ms += 100;
        let (grants, round) = bench.place();
        granted += grants.len();
        spent += round;
        let ended = grants.len();
        bench.complete(grants);
        bench.submit(ended);
    }
    let rate = granted as f64 / spent.as_secs_f64();
    println!(
        r#"{{"bench":"placement","queued":{QUEUED},"namespaces":{namespaces},"peers":{PEERS},"rounds":{rounds},"decisions":{granted},"decisions_per_s":{rate:.0}}}"#
    );
}

fn peer(n: usize) -> PeerId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&(n as u64 + 1).to_be_bytes());
    PeerId(id)
}

impl Bench {
    fn open(namespaces: usize) -> Self {
        let now = Now { mono_ms: 1_000, wall_ms: 1_795_230_000_000 };
        let identity = LedgerIdentity { ledger: LedgerId([7; 16]), home: peer(0), secret: [1; 32] };
        let ledger = Replay::new(identity).open(now);
        let (written, operations, sendings, received) = (0, 0, 0, BTreeMap::new());
        let mut bench = Self { namespaces, ledger, now, written, operations, sendings, received };
        for n in 0..PEERS {
            let labels = BTreeMap::from([("half".to_owned(), (n % 2).to_string())]);
            let kinds = TaskKind::ALL.into_iter().collect();
            let capabilities = Arc::new(Capabilities { kinds, labels, ..Capabilities::default() });
            bench.event(Event::WorkerSeen { worker: peer(n), capabilities, alive: true });
        }
        bench
    }

    /// Handles an event on a disk that is done at once; what left for workers.
    fn event(&mut self, event: Event) -> Vec<Grant> {
        self.ledger.handle(self.now, event);
        let mut grants = Vec::new();
        loop {
            let entries = self.ledger.take_entries();
            self.written = entries.last().map_or(self.written, |entry| entry.index.0);
            let effects = self.ledger.take_effects();
            if entries.is_empty() && effects.is_empty() {
                return grants;
            }
            for effect in effects {
                if let Effect::Notify { notice: WorkerNotice::Grants(more), .. } = effect {
                    grants.extend(more);
                }
            }
            let all = LogIndex(self.written);
            self.ledger.handle(self.now, Event::Durable(Watermark { written: all, synced: all }));
        }
    }

    fn request(&mut self, from: PeerId, request: LedgerRequest) -> Vec<Grant> {
        let caller = Caller { peer: from, owner: "bench".into() };
        self.event(Event::Request { caller, request, reply: ReplyTo(0) })
    }

    fn submit(&mut self, count: usize) {
        self.operations += 1;
        let queues = self.namespaces * SHAPES;
        let items = (0..queues).map(|n| {
            let requires = match n % SHAPES {
                0 => None,
                1 => Some("label.half == \"0\"".to_owned()),
                2 => Some("label.half == \"1\"".to_owned()),
                _ => Some("label:half".to_owned()),
            };
            let namespace = format!("namespace-{}", n / SHAPES);
            let spec = TaskSpec { namespace, requires, ..TaskSpec::new(TaskKind::Noop) };
            let share = count / queues + usize::from(n < count % queues);
            SubmitItem { spec: Arc::new(spec), count: share as u32 }
        });
        let items = items.filter(|item| item.count > 0).collect();
        let operation = OperationId(self.operations.to_be_bytes());
        self.request(peer(0), LedgerRequest::Submit { operation, items });
    }

    /// Every peer offers its slots once; what was granted, and how long the home took to decide it.
    fn place(&mut self) -> (Vec<Grant>, Duration) {
        let (mut grants, started) = (Vec::new(), Instant::now());
        for n in 0..PEERS {
            self.sendings += 1;
            let name = CreditName { incarnation: Incarnation(1), sending: Sending(self.sendings) };
            let received = self.received.entry(peer(n)).or_default();
            let offer = CreditOffer {
                name,
                received: Slots { cpu: *received, device: 0 },
                free: Slots { cpu: SLOTS, device: 0 },
                slots: Some(Slots { cpu: SLOTS, device: 0 }),
            };
            *received += SLOTS;
            grants.extend(self.request(peer(n), LedgerRequest::Credit(offer)));
        }
        (grants, started.elapsed())
    }

    fn complete(&mut self, grants: Vec<Grant>) {
        let outcome = Outcome {
            result: AttemptResult::Succeeded { output: Payload::null() },
            log_tail: String::new(),
            ran_ms: 0,
            used: Default::default(),
        };
        let completion = |grant: Grant| Completion {
            fence: grant.fence,
            token: grant.token,
            outcome: outcome.clone(),
            checkpoint: None,
        };
        self.request(peer(0), LedgerRequest::Complete(grants.into_iter().map(completion).collect()));
    }
}
