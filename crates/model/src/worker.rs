//! A worker in its shell: attempts that run, outcomes on its disk, the call that has no answer yet.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use magpie_core::ids::{Incarnation, LedgerId};
use magpie_core::lease::{Completion, Fence, Slots, outcome_digest};
use magpie_core::payload::{JsonText, Payload};
use magpie_core::task::{AttemptResult, Outcome, TaskError};
use magpie_core::worker::{Worker, WorkerEffect, WorkerEvent};

use crate::action::Fate;
use crate::home::{Around, LEDGER};
use crate::letters::{Body, Letter};
use crate::mesh::reading;

/// A request without an answer has failed after this.
const CALL_TIMEOUT_MS: u64 = magpie_core::limits::PEER_REQUEST_TIMEOUT_MS;

#[derive(Clone)]
pub struct WorkerNode {
    pub place: usize,
    pub paused: bool,
    pub worker: Arc<Worker>,
    pub life: u8,
    pub running: BTreeSet<Fence>,
    spool: BTreeMap<Fence, Completion>,
    /// When the completion under way was sent.
    call_ms: Option<u64>,
}

impl WorkerNode {
    pub fn new(place: usize, now_ms: u64) -> Self {
        let worker = Arc::new(first_worker(place, 1, now_ms));
        let (running, spool) = (BTreeSet::new(), BTreeMap::new());
        Self { place, paused: false, worker, life: 1, running, spool, call_ms: None }
    }

    pub fn event(&mut self, now_ms: u64, event: WorkerEvent, around: &mut Around) {
        let worker = Arc::make_mut(&mut self.worker);
        worker.handle(reading(now_ms), event);
        for effect in worker.take_effects() {
            self.perform(now_ms, effect, around);
        }
    }

    fn perform(&mut self, now_ms: u64, effect: WorkerEffect, around: &mut Around) {
        let body = match effect {
            WorkerEffect::LeaseExtended { .. } => return,
            WorkerEffect::Start { grant, .. } => {
                let fence = grant.fence;
                let in_time = self.worker.leases().any(|(held, ends_ms)| held == fence && ends_ms > now_ms);
                around.checks.started(fence, in_time);
                self.running.insert(fence);
                return;
            }
            WorkerEffect::Stop { fence, .. } => {
                self.running.remove(&fence);
                let killed = failed("killed", true);
                return self.event(now_ms, WorkerEvent::Finished { fence, outcome: killed }, around);
            }
            WorkerEffect::Spool { completions } => {
                return self.spool.extend(completions.into_iter().map(|completion| (completion.fence, completion)));
            }
            WorkerEffect::Unspool { fences } => return self.spool.retain(|fence, _| !fences.contains(fence)),
            WorkerEffect::Offer { offer, .. } => {
                // Credits are never queued: the newest wins.
                let older = |letter: &Letter| letter.worker == self.place && matches!(letter.body, Body::Offer(_));
                around.letters.retain(|letter| letter.held_back || !older(letter));
                Body::Offer(offer)
            }
            WorkerEffect::Renew { renewals, .. } => Body::Renew { sent_ms: now_ms, renewals },
            WorkerEffect::Complete { completions, .. } => {
                self.call_ms = Some(now_ms);
                Body::Complete { sent_ms: now_ms, completions }
            }
            WorkerEffect::Release { releases, .. } => Body::Release(releases),
        };
        around.letters.push(Letter { worker: self.place, life: self.life, body, held_back: false });
    }

    /// Something from the home arrives. Answers to calls that have failed, or of another life, find nobody.
    pub fn hear(&mut self, now_ms: u64, letter: Letter, around: &mut Around) {
        let home = LEDGER.tag();
        let own = letter.life == self.life;
        let event = match letter.body {
            Body::Grants(grants) => WorkerEvent::Granted { home, grants },
            Body::Recall(fences) => WorkerEvent::Recalled { fences },
            Body::Stop(fences) => WorkerEvent::Stopped { fences },
            Body::RenewAnswers { sent_ms, answers } if own && now_ms < sent_ms + CALL_TIMEOUT_MS => {
                WorkerEvent::RenewAnswered { home, sent_ms, answers }
            }
            Body::CompleteAnswers { sent_ms, answers } if own && self.call_ms == Some(sent_ms) => {
                self.call_ms = None;
                WorkerEvent::CompleteAnswered { home, answers }
            }
            Body::RenewAnswers { .. }
            | Body::CompleteAnswers { .. }
            | Body::Offer(_)
            | Body::Renew { .. }
            | Body::Complete { .. }
            | Body::Release(_) => return,
        };
        self.event(now_ms, event, around);
    }

    pub fn end_attempt(&mut self, now_ms: u64, fence: Fence, fate: Fate, around: &mut Around) {
        self.running.remove(&fence);
        let outcome = match fate {
            Fate::Succeeds => succeeded(fence),
            Fate::Fails => failed("drawn", true),
        };
        self.event(now_ms, WorkerEvent::Finished { fence, outcome }, around);
    }

    pub fn tick(&mut self, now_ms: u64, around: &mut Around) {
        if self.call_ms.is_some_and(|sent_ms| sent_ms + CALL_TIMEOUT_MS <= now_ms) {
            self.fail_call(now_ms, around);
        }
        self.event(now_ms, WorkerEvent::Tick, around);
    }

    /// The connection was refused, or the call took too long.
    pub fn fail_call(&mut self, now_ms: u64, around: &mut Around) {
        if self.call_ms.take().is_some() {
            self.event(now_ms, WorkerEvent::CompleteFailed { home: LEDGER.tag() }, around);
        }
    }

    /// The home is there, perhaps after it was away.
    pub fn meet_home(&mut self, now_ms: u64, around: &mut Around) {
        let home = LEDGER.tag();
        self.event(now_ms, WorkerEvent::HomeLost { home }, around);
        self.event(now_ms, WorkerEvent::HomeSeen { home, backlog: Slots::default() }, around);
    }

    /// The process dies with its attempts; the next finds the outcomes that are on the disk.
    pub fn crash(&mut self, now_ms: u64, around: &mut Around) {
        self.life += 1;
        self.call_ms = None;
        self.running.clear();
        self.worker = Arc::new(first_worker(self.place, self.life, now_ms));
        if !self.spool.is_empty() {
            around.checks.witnessed.recovered_outcome = true;
            let completions = self.spool.values().cloned().collect();
            self.event(now_ms, WorkerEvent::Recovered { completions }, around);
        }
        self.meet_home(now_ms, around);
    }

    pub fn fingerprint(&self, now_ms: u64, hasher: &mut impl Hasher) {
        let Self { place: _, paused, worker, life, running, spool, call_ms } = self;
        (paused, life, running, call_ms).hash(hasher);
        spool.iter().for_each(|(fence, completion)| (fence, outcome_digest(&completion.outcome)).hash(hasher));
        worker.fingerprint(now_ms, hasher);
    }
}

fn first_worker(place: usize, life: u8, now_ms: u64) -> Worker {
    let own = LedgerId([100 + place as u8; 16]).tag();
    Worker::new(own, Incarnation(u64::from(life)), Slots { cpu: 1, device: 0 }, reading(now_ms))
}

/// The output tells which attempt it is of.
fn succeeded(fence: Fence) -> Outcome {
    let output = Payload::Inline(JsonText::of(&serde_json::Value::from(fence.epoch.0)));
    Outcome {
        result: AttemptResult::Succeeded { output },
        log_tail: String::new(),
        ran_ms: 1,
        used: Default::default(),
    }
}

fn failed(code: &str, retryable: bool) -> Outcome {
    let result = AttemptResult::Failed { error: TaskError::new(code, "as chosen"), retryable };
    Outcome { result, log_tail: String::new(), ran_ms: 1, used: Default::default() }
}
