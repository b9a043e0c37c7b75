//! The shell around a worker: attempts that are drawn instead of run, requests that may get no answer, a spool.

use std::collections::{BTreeMap, BTreeSet};

use magpie_core::ids::{Incarnation, LedgerTag};
use magpie_core::lease::{Fence, Grant};
use magpie_core::limits;
use magpie_core::payload::{JsonText, Payload};
use magpie_core::queue::{LedgerReply, LedgerRequest, WorkerNotice};
use magpie_core::task::{AttemptResult, Durability, Outcome, TaskError, TaskSpec};
use magpie_core::worker::{Worker, WorkerEffect, WorkerEvent};

use crate::checkers::leases::{self, LiveLease};
use crate::network::Message;
use crate::node::{WorkerCall, WorkerHost};
use crate::world::{Happening, World};

const WORKER_TTL_MS: u64 = limits::LEASE_TTL_MS - limits::LEASE_WORKER_MARGIN_MS;
const CALL_TIMEOUT_MS: u64 = 3_000;
const STOP_MS_MAX: u64 = 200;
const SPOOL_SYNC_MS_MAX: u64 = 50;

impl World {
    pub fn worker_lives(&self, node: usize, life: u64) -> bool {
        self.nodes[node].worker.as_ref().is_some_and(|host| host.life == life)
    }

    pub fn start_worker(&mut self, node: usize) {
        let now = self.clock(node);
        let own = &mut self.nodes[node];
        own.worker_starts += 1;
        own.lives += 1;
        let life = own.lives;
        let worker = Worker::new(own.tag(), Incarnation(own.worker_starts), own.slots, now);
        let recovered = own.spool.load();
        own.worker = Some(WorkerHost {
            worker,
            life,
            calls: BTreeMap::new(),
            next_call: 0,
            sendings: BTreeMap::new(),
            granted: BTreeMap::new(),
            running: BTreeSet::new(),
            draining: false,
        });
        let home = own.tag();
        self.worker_event(node, life, WorkerEvent::Recovered { completions: recovered });
        self.worker_event(node, life, WorkerEvent::HomeSeen { home, backlog: Default::default() });
        self.after(limits::SPOOL_AFTER_MS, Happening::WorkerTick { node, life });
    }

    pub fn tell_worker(&mut self, node: usize, event: WorkerEvent) {
        if let Some(life) = self.nodes[node].worker.as_ref().map(|host| host.life) {
            self.worker_event(node, life, event);
        }
    }

    pub fn worker_event(&mut self, node: usize, life: u64, event: WorkerEvent) {
        let now = self.clock(node);
        let Some(host) = self.nodes[node].worker.as_mut().filter(|host| host.life == life) else { return };
        host.worker.handle(now, event);
        for effect in host.worker.take_effects() {
            self.worker_effect(node, effect);
        }
    }

    pub fn worker_noticed(&mut self, node: usize, home: LedgerTag, notice: WorkerNotice) {
        match notice {
            WorkerNotice::Grants(grants) => self.granted(node, home, grants),
            WorkerNotice::Recall(fences) => self.tell_worker(node, WorkerEvent::Recalled { fences }),
            WorkerNotice::Stop(fences) => self.tell_worker(node, WorkerEvent::Stopped { fences }),
        }
    }

    /// What the worker does not give back at once, it holds until the end that its credit set.
    fn granted(&mut self, node: usize, home: LedgerTag, grants: Vec<Grant>) {
        let now = self.clock(node);
        let own = &mut self.nodes[node];
        let Some(host) = own.worker.as_mut() else { return };
        let mut is_new = |grant: &&Grant| {
            let Fence { task, epoch } = grant.fence;
            let newest = host.granted.entry(task).or_default();
            epoch > std::mem::replace(newest, epoch.max(*newest))
        };
        let new: Vec<Grant> = grants.iter().filter(&mut is_new).cloned().collect();
        host.worker.handle(now, WorkerEvent::Granted { home, grants });
        let effects = host.worker.take_effects();
        let returned: BTreeSet<Fence> = effects
            .iter()
            .flat_map(|effect| match effect {
                WorkerEffect::Release { releases, .. } => releases.iter().map(|release| release.fence).collect(),
                _ => Vec::new(),
            })
            .collect();
        let sendings = &host.sendings;
        let ends: Vec<(&Grant, u64)> = new
            .iter()
            .filter(|grant| !returned.contains(&grant.fence) && grant.fence.task.ledger == home)
            // A late one of an earlier life is ignored where its outcome was found on the disk.
            .filter(|grant| grant.credit.incarnation == Incarnation(own.worker_starts))
            .map(|grant| {
                let sent_ms = sendings.get(&(home, grant.credit.sending)).copied().unwrap_or_default();
                (grant, own.clock.true_ms(sent_ms + WORKER_TTL_MS))
            })
            .collect();
        for (grant, ends_ms) in ends {
            let lease =
                LiveLease { worker: node, ends_ms, forgotten: self.is_lost_on_its_way(grant.fence, &grant.spec) };
            let verdict = self.leases.hold(self.now_ms, grant.fence, lease);
            self.judge(verdict);
        }
        for effect in effects {
            self.worker_effect(node, effect);
        }
    }

    /// Of class `async` a power loss may take the record of a grant that has left.
    pub fn is_lost_on_its_way(&self, fence: Fence, spec: &TaskSpec) -> bool {
        let book = self.nodes.iter().position(|other| other.tag() == fence.task.ledger).map(|place| &self.books[place]);
        let facts = book.and_then(|book| book.tasks.get(&fence.task));
        let recorded = facts.is_some_and(|facts| facts.of_epoch(fence.epoch).is_some());
        spec.durability == Durability::Async && !recorded
    }

    fn worker_effect(&mut self, node: usize, effect: WorkerEffect) {
        let now = self.clock(node);
        match effect {
            WorkerEffect::Start { grant, .. } => self.start_attempt(node, &grant),
            WorkerEffect::Stop { fence, .. } => {
                let Some(life) = self.nodes[node].worker.as_ref().map(|host| host.life) else { return };
                let wait_ms = self.rng.between(0, STOP_MS_MAX);
                let outcome = failed("stopped", false);
                self.after(wait_ms, Happening::AttemptEnds { node, life, fence, outcome });
            }
            WorkerEffect::Offer { home, offer } => {
                if let Some(host) = self.nodes[node].worker.as_mut() {
                    host.sendings.insert((home, offer.name.sending), now.mono_ms);
                }
                self.worker_calls(node, home, WorkerCall::Credit { home }, LedgerRequest::Credit(offer));
            }
            WorkerEffect::LeaseExtended { .. } => {}
            WorkerEffect::Renew { home, sent_ms, renewals } => {
                let fences = renewals.iter().map(|renewal| renewal.fence).collect();
                let call = WorkerCall::Renew { home, sent_ms, fences };
                self.worker_calls(node, home, call, LedgerRequest::Renew(renewals));
            }
            WorkerEffect::Complete { home, completions } => {
                let fences = completions.iter().map(|completion| completion.fence).collect();
                self.worker_calls(
                    node,
                    home,
                    WorkerCall::Complete { home, fences },
                    LedgerRequest::Complete(completions),
                );
            }
            WorkerEffect::Release { home, releases } => {
                releases.iter().for_each(|release| self.leases.end(release.fence));
                self.worker_calls(node, home, WorkerCall::Release, LedgerRequest::Release(releases));
            }
            WorkerEffect::Spool { completions } => {
                let Some(life) = self.nodes[node].worker.as_ref().map(|host| host.life) else { return };
                completions.into_iter().for_each(|completion| self.nodes[node].spool.put(completion));
                let wait_ms = self.rng.between(0, SPOOL_SYNC_MS_MAX);
                self.after(wait_ms, Happening::SpoolSynced { node, life });
            }
            WorkerEffect::Unspool { fences } => fences.iter().for_each(|fence| self.nodes[node].spool.remove(fence)),
        }
    }

    fn worker_calls(&mut self, node: usize, home: LedgerTag, kind: WorkerCall, request: LedgerRequest) {
        let to = self.nodes.iter().position(|other| other.tag() == home);
        let (Some(to), Some(host)) = (to, self.nodes[node].worker.as_mut()) else { return };
        host.next_call += 1;
        // Calls of different lives do not meet: an answer to an earlier life finds none.
        let (call, life) = (host.life << 32 | host.next_call, host.life);
        host.calls.insert(call, kind);
        self.after(CALL_TIMEOUT_MS, Happening::WorkerCallFails { node, life, call });
        self.send(node, to, Message::Request { call, request });
    }

    pub fn worker_hears(&mut self, node: usize, call: u64, reply: LedgerReply) {
        let Some(host) = self.nodes[node].worker.as_mut() else { return };
        let Some(kind) = host.calls.remove(&call) else { return };
        match (kind, reply) {
            (WorkerCall::Credit { home }, LedgerReply::Credited { backlog }) => {
                self.tell_worker(node, WorkerEvent::HomeSeen { home, backlog });
            }
            (WorkerCall::Renew { home, sent_ms, fences }, LedgerReply::Renewed(answers)) => {
                let answers: Vec<_> = fences.into_iter().zip(answers).collect();
                for (fence, answer) in &answers {
                    if matches!(answer, magpie_core::lease::RenewAnswer::Renewed { .. }) {
                        let ends_ms = self.nodes[node].clock.true_ms(sent_ms + WORKER_TTL_MS);
                        let verdict = self.leases.extend(self.now_ms, *fence, ends_ms);
                        self.judge(verdict);
                    }
                }
                self.tell_worker(node, WorkerEvent::RenewAnswered { home, sent_ms, answers });
            }
            (WorkerCall::Complete { home, fences }, LedgerReply::Completed(answers)) => {
                let answers = fences.into_iter().zip(answers).collect();
                self.tell_worker(node, WorkerEvent::CompleteAnswered { home, answers });
            }
            (WorkerCall::Complete { home, .. }, _) => self.tell_worker(node, WorkerEvent::CompleteFailed { home }),
            _ => {}
        }
    }

    pub fn worker_call_fails(&mut self, node: usize, life: u64, call: u64) {
        let Some(host) = self.nodes[node].worker.as_mut().filter(|host| host.life == life) else { return };
        if let Some(WorkerCall::Complete { home, .. }) = host.calls.remove(&call) {
            self.worker_event(node, life, WorkerEvent::CompleteFailed { home });
        }
    }

    fn start_attempt(&mut self, node: usize, grant: &Grant) {
        let fence = grant.fence;
        let draining = self.nodes[node].worker.as_ref().is_some_and(|host| host.draining);
        self.judge(leases::invariant_a_draining_worker_starts_nothing(draining, fence));
        self.counters.executions += 1;
        self.trace
            .note(self.now_ms, "start", &[node as u64, fence.epoch.0], || format!("node {node} starts {fence:?}"));
        let verdict = self.leases.invariant_each_fence_starts_once(self.now_ms, fence);
        self.judge(verdict);
        let Some(host) = self.nodes[node].worker.as_mut() else { return };
        host.running.insert(fence);
        let life = host.life;
        // In the calm they are short, so that how long it takes to heal is not how long the work takes.
        let drawn_ms = match self.rng.below(20).max(if self.calm { 4 } else { 0 }) {
            0 => self.rng.between(5_000, 25_000),
            1..=3 => self.rng.between(200, 3_000),
            4..=9 => self.rng.between(0, 200),
            _ => self.rng.between(0, 5),
        };
        let timeout_ms = grant.spec.timeout.0;
        let outcome = if drawn_ms > timeout_ms { failed("timeout", true) } else { self.draw_outcome(grant) };
        self.after(drawn_ms.min(timeout_ms), Happening::AttemptEnds { node, life, fence, outcome });
    }

    fn draw_outcome(&mut self, grant: &Grant) -> Outcome {
        match self.rng.below(if self.calm { 40 } else { 12 }) {
            0 => failed("drawn", true),
            1 if self.rng.chance(300) => failed("drawn", false),
            _ => succeeded(grant.fence, &grant.spec),
        }
    }

    pub fn attempt_ends(&mut self, node: usize, life: u64, fence: Fence, outcome: Outcome) {
        let Some(host) = self.nodes[node].worker.as_mut().filter(|host| host.life == life) else { return };
        if host.running.remove(&fence) {
            self.leases.end(fence);
            self.worker_event(node, life, WorkerEvent::Finished { fence, outcome });
        }
    }
}

/// A list passes through, for the steps that go over it; else the output tells which attempt it is of.
pub fn succeeded(fence: Fence, spec: &TaskSpec) -> Outcome {
    let output = match &spec.input {
        Payload::Inline(text) if text.as_str().starts_with('[') => text.clone(),
        _ => JsonText::of(&serde_json::Value::from(format!("{} {}", fence.task, fence.epoch))),
    };
    let result = AttemptResult::Succeeded { output: Payload::Inline(output) };
    Outcome { result, log_tail: String::new(), ran_ms: 1, used: Default::default() }
}

pub fn failed(code: &str, retryable: bool) -> Outcome {
    let result = AttemptResult::Failed { error: TaskError::new(code, "as drawn"), retryable };
    Outcome { result, log_tail: String::new(), ran_ms: 1, used: Default::default() }
}
