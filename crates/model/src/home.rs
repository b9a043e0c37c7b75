//! The home: a ledger, its disk, and who waits for which answer.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use magpie_core::ids::{LeaseToken, LedgerId, LogIndex, PeerId, TaskId};
use magpie_core::lease::Fence;
use magpie_core::matching::Capabilities;
use magpie_core::queue::{
    Caller, Effect, Event, Ledger, LedgerIdentity, LedgerReply, LedgerRequest, NewEntry, Record, Replay, ReplyTo,
    Watermark, WorkerNotice,
};
use magpie_core::task::TaskKind;
use magpie_core::wire;

use crate::checks::Checks;
use crate::letters::{Body, Letter};
use crate::mesh::{WORKERS, reading};

pub const LEDGER: LedgerId = LedgerId([7; 16]);

pub fn peer_of(worker: usize) -> PeerId {
    PeerId([1 + worker as u8; 32])
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Power {
    Up,
    /// It stands still.
    Paused,
    Down,
}

#[derive(Clone)]
pub struct Home {
    pub power: Power,
    pub ledger: Arc<Ledger>,
    disk: Arc<Vec<NewEntry>>,
    synced: usize,
    life: u8,
    waiting: BTreeMap<u64, Waiting>,
    /// Markers behind the renewals that are on their way inside the node.
    pub markers: Vec<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Waiting {
    worker: usize,
    life: u8,
    sent_ms: u64,
    fences: Vec<Fence>,
}

/// Where what a process does goes to.
#[derive(Debug, Clone, Default)]
pub struct Around {
    pub letters: Vec<Letter>,
    pub checks: Checks,
}

impl Home {
    /// A new home.
    pub fn new(now_ms: u64) -> Self {
        let ledger = Replay::new(identity(1)).open(reading(now_ms));
        Self {
            power: Power::Up,
            ledger: Arc::new(ledger),
            disk: Arc::new(Vec::new()),
            synced: 0,
            life: 1,
            waiting: BTreeMap::new(),
            markers: Vec::new(),
        }
    }

    pub fn event(&mut self, now_ms: u64, event: Event, around: &mut Around) {
        self.event_that_presents(now_ms, event, &[], around);
    }

    fn event_that_presents(
        &mut self,
        now_ms: u64,
        event: Event,
        presented: &[(Fence, LeaseToken)],
        around: &mut Around,
    ) {
        let ledger = Arc::make_mut(&mut self.ledger);
        ledger.handle(reading(now_ms), event);
        let (entries, effects) = (ledger.take_entries(), ledger.take_effects());
        for entry in &entries {
            around.checks.record(&record_of(entry), presented);
        }
        if !entries.is_empty() {
            Arc::make_mut(&mut self.disk).extend(entries);
        }
        effects.into_iter().for_each(|effect| self.perform(effect, around));
    }

    fn perform(&mut self, effect: Effect, around: &mut Around) {
        match effect {
            Effect::Reply { to, reply } => self.reply(to, reply, around),
            Effect::Notify { worker, notice } => {
                let Some(worker) = (0..WORKERS).find(|place| peer_of(*place) == worker) else { return };
                let body = match notice {
                    WorkerNotice::Grants(grants) => Body::Grants(grants),
                    WorkerNotice::Recall(fences) => Body::Recall(fences),
                    WorkerNotice::Stop(fences) => Body::Stop(fences),
                };
                around.letters.push(Letter { worker, life: 0, body, held_back: false });
            }
            Effect::PlaceMarker { marker } => self.markers.push(marker),
            Effect::Cut { .. }
            | Effect::PublishHead { .. }
            | Effect::Bind { .. }
            | Effect::AskPermits { .. }
            | Effect::LendPermits { .. }
            | Effect::HandedOver { .. }
            | Effect::StartAnew => {}
        }
    }

    fn reply(&mut self, to: ReplyTo, reply: LedgerReply, around: &mut Around) {
        let Some(Waiting { worker, life, sent_ms, fences }) = self.waiting.remove(&to.0) else { return };
        let body = match reply {
            LedgerReply::Renewed(answers) => {
                Body::RenewAnswers { sent_ms, answers: fences.into_iter().zip(answers).collect() }
            }
            LedgerReply::Completed(answers) => {
                let answers: Vec<_> = fences.into_iter().zip(answers).collect();
                answers.iter().for_each(|(fence, answer)| around.checks.answered(*fence, *answer));
                Body::CompleteAnswers { sent_ms, answers }
            }
            // What a worker does not act on with one home in reach.
            _ => return,
        };
        around.letters.push(Letter { worker, life, body, held_back: false });
    }

    /// A worker's request arrives.
    pub fn request(&mut self, now_ms: u64, letter: Letter, around: &mut Around) {
        let Letter { worker, life, body, .. } = letter;
        let (sent_ms, request) = match body {
            Body::Offer(offer) => (now_ms, LedgerRequest::Credit(offer)),
            Body::Renew { sent_ms, renewals } => (sent_ms, LedgerRequest::Renew(renewals)),
            Body::Complete { sent_ms, completions } => (sent_ms, LedgerRequest::Complete(completions)),
            Body::Release(releases) => (now_ms, LedgerRequest::Release(releases)),
            Body::Grants(_)
            | Body::Recall(_)
            | Body::Stop(_)
            | Body::RenewAnswers { .. }
            | Body::CompleteAnswers { .. } => return,
        };
        let presented = presented(&request);
        let fences = presented.iter().map(|(fence, _)| *fence).collect();
        let free = (0..).find(|id| !self.waiting.contains_key(id)).unwrap_or_default();
        self.waiting.insert(free, Waiting { worker, life, sent_ms, fences });
        let caller = Caller { peer: peer_of(worker), owner: "client".into() };
        let event = Event::Request { caller, request, reply: ReplyTo(free) };
        self.event_that_presents(now_ms, event, &presented, around);
    }

    pub fn has_unsynced(&self) -> bool {
        self.synced < self.disk.len()
    }

    pub fn sync(&mut self, now_ms: u64, around: &mut Around) {
        self.synced = self.disk.len();
        let index = LogIndex(self.synced as u64);
        self.event(now_ms, Event::Durable(Watermark { written: index, synced: index }), around);
    }

    pub fn crash(&mut self, loses: bool) {
        if loses {
            Arc::make_mut(&mut self.disk).truncate(self.synced);
        }
        self.power = Power::Down;
        self.waiting.clear();
        self.markers.clear();
    }

    /// Starts from the disk, and hears again of both workers.
    pub fn start(&mut self, now_ms: u64, around: &mut Around) {
        self.life += 1;
        self.power = Power::Up;
        let mut replay = Replay::new(identity(self.life));
        for entry in self.disk.iter() {
            replay.apply(entry.index, &entry.body, entry.event).expect("a home reads what it wrote");
        }
        let records: Vec<Record> = self.disk.iter().map(record_of).collect();
        around.checks.forget_unsynced(&records);
        self.synced = self.disk.len();
        self.ledger = Arc::new(replay.open(reading(now_ms)));
        self.meet_workers(now_ms, around);
    }

    pub fn meet_workers(&mut self, now_ms: u64, around: &mut Around) {
        let kinds = TaskKind::ALL.into_iter().collect();
        let capabilities = Arc::new(Capabilities { kinds, ..Capabilities::default() });
        for worker in (0..WORKERS).map(peer_of) {
            let event = Event::WorkerSeen { worker, capabilities: capabilities.clone(), alive: true };
            self.event(now_ms, event, around);
        }
    }

    /// The tasks that were submitted, in their order.
    pub fn task_ids(&self) -> Vec<TaskId> {
        let submitted = self.disk.iter().map(record_of).filter_map(|record| match record {
            Record::Submitted { at, operation, items, .. } => {
                let count = items.iter().map(|item| item.count).sum();
                Some((0..count).map(move |n| TaskId::derive(LEDGER.tag(), at.0, operation, n)))
            }
            _ => None,
        });
        submitted.flatten().collect()
    }

    pub fn fingerprint(&self, now_ms: u64, hasher: &mut impl Hasher) {
        let Self { power, ledger, disk, synced, life, waiting, markers } = self;
        (power, life, waiting, markers).hash(hasher);
        disk[*synced..].iter().for_each(|entry| entry.body.hash(hasher));
        match power {
            Power::Up | Power::Paused => ledger.fingerprint(now_ms, hasher),
            // What it held in memory is gone; what it starts from is on the disk.
            Power::Down => disk.iter().for_each(|entry| entry.event.hash(hasher)),
        }
    }
}

fn identity(life: u8) -> LedgerIdentity {
    LedgerIdentity { ledger: LEDGER, home: PeerId([0; 32]), secret: [life; 32] }
}

fn record_of(entry: &NewEntry) -> Record {
    wire::decode_record(&entry.body).expect("a home reads what it wrote")
}

/// The fences with their tokens that a request presents.
fn presented(request: &LedgerRequest) -> Vec<(Fence, LeaseToken)> {
    match request {
        LedgerRequest::Renew(renewals) => renewals.iter().map(|renewal| (renewal.fence, renewal.token)).collect(),
        LedgerRequest::Complete(completions) => {
            completions.iter().map(|completion| (completion.fence, completion.token)).collect()
        }
        LedgerRequest::Release(releases) => releases.iter().map(|release| (release.fence, release.token)).collect(),
        _ => Vec::new(),
    }
}
