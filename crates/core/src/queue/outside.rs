//! Workers that are no nodes: agents and programs that ask a home for one task, hold on to it themselves, and report.
//!
//! They are fenced as nodes are. Their leases are longer, since nobody renews for one that is silent; and a task goes to
//! them only when they ask, so they have no credit and the queue waits for none of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::effects::{Caller, Gate, ReplyTo};
use super::grant::grant_token;
use super::heads::Heads;
use super::ledger::Ledger;
use super::ownership::latest;
use super::protocol::{LedgerReply, Refusal};
use super::ready::ShapeQueue;
use super::record::{GrantRecord, Record};
use super::state::State;
use super::task_entry::{EpochStatus, Task};
use crate::ids::{Epoch, LeaseToken, LogIndex, PeerId, TaskId};
use crate::lease::{CompleteAnswer, Completion, Fence, RenewAnswer, Renewal};
use crate::limits;
use crate::matching::Capabilities;
use crate::payload::JsonText;
use crate::progress::AttemptNews;
use crate::task::{Outcome, TaskSpec};
use crate::time::Wall;

/// What a worker that is no node says. Its name is that of its caller and its own: nobody speaks for another's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutsideRequest {
    /// Says what it can run, and how many tasks it holds at once; a later one replaces this.
    Register {
        worker: String,
        offers: Box<Capabilities>,
        held_max: u32,
    },
    Unregister {
        worker: String,
    },
    /// Wants a task. One that holds all that it may gets the oldest of these again: its answer may have been lost.
    Take {
        worker: String,
        /// None: what it registered.
        offers: Option<Box<Capabilities>>,
        /// Only tasks of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
    },
    /// Holds on to these, and says what is new of them; to all that it has, if it names none.
    Keep {
        worker: String,
        holds: Vec<Hold>,
    },
    /// Reports how its attempt ended. Without its lease only the first attempt of a task can be ended, and only by
    /// whoever has it.
    End {
        worker: String,
        task: TaskId,
        lease: Option<(Epoch, LeaseToken)>,
        outcome: Box<Outcome>,
    },
}

impl OutsideRequest {
    /// The task that it is about.
    pub fn subject(&self) -> Option<TaskId> {
        match self {
            Self::End { task, .. } => Some(*task),
            Self::Keep { holds, .. } => holds.first().map(|hold| hold.task),
            Self::Register { .. } | Self::Unregister { .. } | Self::Take { .. } => None,
        }
    }
}

/// What a worker holds on to. Without its lease, as far as [`OutsideRequest::End`] goes without.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    pub task: TaskId,
    pub lease: Option<(Epoch, LeaseToken)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub news: Option<Box<AttemptNews>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutsideReply {
    /// Registered or not any more; so many tasks it holds.
    Registered {
        held: u32,
    },
    /// None: nothing that it can run waits.
    Taken(Option<Box<Taken>>),
    Kept(Vec<(Fence, RenewAnswer)>),
    Ended(CompleteAnswer),
}

/// A task leased to a worker that is no node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Taken {
    pub fence: Fence,
    pub token: LeaseToken,
    pub ttl_ms: u64,
    /// 1 for the first.
    pub attempt: u32,
    pub spec: Arc<TaskSpec>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<JsonText>,
}

/// One that said what it can run.
#[derive(Debug, Clone)]
struct Registered {
    offers: Box<Capabilities>,
    held_max: u32,
    seen_ms: u64,
}

/// Those that registered, in this life of the home.
#[derive(Debug, Clone, Default)]
pub(super) struct OutsideWorkers(BTreeMap<Arc<str>, Registered>);

impl OutsideWorkers {
    /// Makes room by forgetting who was not seen for the longest time.
    fn insert(&mut self, name: Arc<str>, registered: Registered) {
        if !self.0.contains_key(&name) && self.0.len() >= limits::OUTSIDE_WORKERS_MAX {
            let oldest = self.0.iter().min_by_key(|(_, known)| known.seen_ms).map(|(name, _)| name.clone());
            oldest.map(|oldest| self.0.remove(&oldest));
        }
        self.0.insert(name, registered);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl Task {
    /// The worker that has the newest attempt, if it is no node.
    pub fn outside(&self) -> Option<&Arc<str>> {
        self.notes.as_ref()?.outside.as_ref()
    }

    /// What is left of its attempt's time, the grace included. A node ends such an attempt itself; whoever else has it is
    /// told.
    fn time_left_ms(&self, now_ms: u64) -> u64 {
        let allowed_ms = self.spec.timeout.0 + limits::LEASE_GRACE_MS;
        self.soft.attempt_started_ms.map_or(allowed_ms, |since| (since.get() + allowed_ms).saturating_sub(now_ms))
    }

    /// Whether somebody who is no node has it, and has had all the time for it.
    pub(super) fn is_out_of_time(&self, now_ms: u64) -> bool {
        self.outside().is_some() && self.time_left_ms(now_ms) == 0
    }

    /// Lifetime of a lease of this task that nobody renews. Who is no node is promised it for no longer than the attempt may
    /// take: what was promised for longer could not end in time.
    pub(super) fn lease_ttl_ms(&self, now_ms: u64) -> u64 {
        match self.outside() {
            Some(_) => limits::OUTSIDE_LEASE_TTL_MS.min(self.time_left_ms(now_ms)),
            None => limits::LEASE_TTL_MS,
        }
    }
}

impl State {
    pub(super) fn take_outside(&mut self, index: LogIndex, at: Wall, fence: Fence, worker: &Arc<str>) {
        self.change(index, at, fence.task, |task| {
            if task.epoch == fence.epoch {
                task.notes.get_or_insert_default().outside = Some(worker.clone());
                task.start(at);
            }
        });
    }
}

impl Ledger {
    pub(super) fn outside_request(&mut self, caller: &Caller, request: OutsideRequest, reply: ReplyTo) {
        match request {
            OutsideRequest::Register { worker, offers, held_max } => {
                let name = outside_name(caller, &worker);
                let held = self.held_by(&name).count() as u32;
                let (held_max, seen_ms) = (held_max.clamp(1, limits::OUTSIDE_HELD_MAX), self.now.mono_ms);
                self.workers.outside.insert(name, Registered { offers, held_max, seen_ms });
                self.answer_outside(Gate::Open, reply, OutsideReply::Registered { held });
            }
            OutsideRequest::Unregister { worker } => {
                let name = outside_name(caller, &worker);
                self.workers.outside.0.remove(&name);
                let held = self.held_by(&name).count() as u32;
                self.answer_outside(Gate::Open, reply, OutsideReply::Registered { held });
            }
            OutsideRequest::Take { worker, offers, namespace } => {
                let name = outside_name(caller, &worker);
                self.take_for_outside(caller.peer, &name, (offers, namespace.as_deref()), reply);
            }
            OutsideRequest::Keep { worker, holds } => self.keep_outside(&outside_name(caller, &worker), holds, reply),
            OutsideRequest::End { worker, task, lease, outcome } => {
                self.end_outside(caller.peer, &outside_name(caller, &worker), (task, lease), *outcome, reply);
            }
        }
    }

    fn answer_outside(&mut self, gate: Gate, reply: ReplyTo, answer: OutsideReply) {
        self.reply(gate, reply, LedgerReply::Outside(Box::new(answer)));
    }

    fn held_by<'a>(&'a self, name: &'a Arc<str>) -> impl Iterator<Item = &'a Task> {
        let tasks = self.leases.iter().filter_map(|(_, id)| self.state.tasks.get(id));
        tasks.filter(move |task| task.outside() == Some(name))
    }

    fn take_for_outside(
        &mut self,
        peer: PeerId,
        name: &Arc<str>,
        (offers, namespace): (Option<Box<Capabilities>>, Option<&str>),
        reply: ReplyTo,
    ) {
        let now_ms = self.now.mono_ms;
        let registered = self.workers.outside.0.get_mut(name).map(|known| {
            known.seen_ms = now_ms;
            (known.offers.clone(), known.held_max)
        });
        let held_max = registered.as_ref().map_or(1, |(_, held_max)| *held_max) as usize;
        let Some(offers) = offers.or(registered.map(|(offers, _)| offers)) else {
            let (problem, fix) = ("this worker has not registered here", "name the kinds of task, or register first");
            return self.refuse(reply, Refusal::invalid("/kinds", problem, fix));
        };
        let held = self.held_by(name).filter(|task| !task.is_out_of_time(now_ms));
        let held: Vec<(Wall, TaskId)> = held.map(|task| (task.attempt_started, task.id)).collect();
        let id = match held.iter().min() {
            Some((_, oldest)) if held.len() >= held_max => {
                // It counts its time from this question on.
                self.extend_lease(self.state.tasks[oldest].fence());
                Some(*oldest)
            }
            _ => self.hand_out(peer, name, (&offers, namespace)),
        };
        let Some(task) = id.and_then(|id| self.state.tasks.get(&id)) else {
            return self.answer_outside(Gate::Open, reply, OutsideReply::Taken(None));
        };
        let taken = Taken {
            fence: task.fence(),
            token: task.token,
            ttl_ms: task.lease_ttl_ms(now_ms),
            attempt: task.attempts,
            spec: task.whole_spec(),
            checkpoint: task.checkpoint().cloned(),
        };
        let gate = self.early_gate(task.durability(), task.index);
        self.answer_outside(gate, reply, OutsideReply::Taken(Some(Box::new(taken))));
    }

    /// Grants the next task that fits `offers`: among namespaces by their shares, within one in queue order.
    fn hand_out(
        &mut self,
        peer: PeerId,
        name: &Arc<str>,
        (offers, namespace): (&Capabilities, Option<&str>),
    ) -> Option<TaskId> {
        if self.disk.refuses() {
            return None;
        }
        let of_it = |queue: &ShapeQueue| namespace.is_none_or(|namespace| *queue.namespace == *namespace);
        // Nobody ends an outside attempt for sure when its lease does.
        let fits = |queue: &ShapeQueue| !queue.closed && !queue.exclusive && of_it(queue) && queue.shape.fits(offers);
        let permitted: Vec<bool> = (0..self.ready.queues.len()).map(|place| self.has_permits(place)).collect();
        let may = |place: usize, queue: &ShapeQueue| permitted[place] && fits(queue);
        let mut heads = Heads::of(&self.ready, &mut self.fairness, may);
        while let Some(head) = heads.take() {
            let id = self.ready.queues[head.place].heap.peek().map(|(_, id)| *id);
            let Some(id) = id.filter(|id| self.state.tasks.contains_key(id)) else {
                heads.put_back(&head, false, &self.ready, &self.fairness, may);
                continue;
            };
            self.fairness.charge(heads.namespace(&head), &self.settings);
            self.leave_heap(id);
            self.grant_outside(peer, name, id);
            return Some(id);
        }
        None
    }

    pub(super) fn grant_outside(&mut self, worker: PeerId, name: &Arc<str>, task: TaskId) {
        self.grants += 1;
        let epoch = Epoch::new(self.state.generation, self.grants);
        let fence = Fence { task, epoch };
        let token = grant_token(self.identity.secret, fence);
        let grant = GrantRecord { task, epoch, token, worker, rate_mark: self.take_limits(task) };
        let durability = self.state.tasks[&task].durability();
        self.commit(durability, Record::Granted { at: self.at(), grants: vec![grant] });
        self.commit(durability, Record::TakenOutside { at: self.at(), fence, worker: name.clone() });
        // The grant gave it the time that a node has.
        self.extend_lease(fence);
        self.limits.end_round();
    }

    fn keep_outside(&mut self, name: &Arc<str>, holds: Vec<Hold>, reply: ReplyTo) {
        // Who hears that it is kept takes what it said for kept, too.
        let says = |hold: &Hold| hold.news.as_ref().is_some_and(|news| news.checkpoint.is_some());
        if let Some(refusal) = self.disk.instead().filter(|_| holds.iter().any(says)) {
            return self.refuse(reply, refusal);
        }
        let presented = |hold: Hold| {
            let (fence, token) = self.presented_by(name, hold.task, hold.lease);
            Renewal { news: hold.news, ..Renewal::new(fence, token, true) }
        };
        let holds: Vec<Renewal> = match holds.is_empty() {
            true => self.held_by(name).map(|task| Renewal::new(task.fence(), task.token, true)).collect(),
            false => holds.into_iter().take(limits::BATCH_LEN_MAX).map(presented).collect(),
        };
        let (gate, answers) = self.renew_all(&holds);
        let kept = holds.into_iter().map(|renewal| renewal.fence).zip(answers).collect();
        self.answer_outside(gate, reply, OutsideReply::Kept(kept));
    }

    /// What a worker presents: its lease, or in place of it that it has the first attempt of the task.
    fn presented_by(&self, name: &Arc<str>, id: TaskId, lease: Option<(Epoch, LeaseToken)>) -> (Fence, LeaseToken) {
        let task = self.state.tasks.get(&id);
        let nothing = (task.map_or_else(Epoch::default, |task| task.epoch), LeaseToken([0; 16]));
        let holds = task.filter(|task| task.outside() == Some(name) && task.attempts == 1);
        #[cfg(feature = "canary")]
        let holds = if crate::canary::has(crate::canary::Bug::AnyoneEnds) { task } else { holds };
        let (epoch, token) = lease.or(holds.map(|task| (task.epoch, task.token))).unwrap_or(nothing);
        (Fence { task: id, epoch }, token)
    }

    fn end_outside(
        &mut self,
        peer: PeerId,
        name: &Arc<str>,
        (id, lease): (TaskId, Option<(Epoch, LeaseToken)>),
        outcome: Outcome,
        reply: ReplyTo,
    ) {
        let Some(task) = self.state.tasks.get(&id) else { return self.refuse_missing(reply, id) };
        // An outcome that is there is compared with what is said, and no more: nothing of it can change. Of a task that
        // ended otherwise, whoever has the attempt may say that it is gone, and nobody else.
        let is_reported = matches!(task.epoch_status, EpochStatus::Reported { .. });
        let recorded = (task.fence(), task.token);
        let (fence, token) = if lease.is_none() && is_reported { recorded } else { self.presented_by(name, id, lease) };
        let completion = Completion { fence, token, outcome, checkpoint: None };
        let (gate, answers) = self.complete_all(peer, vec![completion]);
        let answer = answers.into_iter().next().unwrap_or(CompleteAnswer::Unknown);
        let index = self.state.tasks.get(&id).map(|task| self.late_gate(task.durability(), task.index));
        self.answer_outside(index.map_or(gate, |at| latest(gate, at)), reply, OutsideReply::Ended(answer));
    }
}

/// Nobody's worker has a name of another caller's.
fn outside_name(caller: &Caller, worker: &str) -> Arc<str> {
    let worker: String = worker.chars().take(limits::NAME_BYTES_MAX / 4).collect();
    Arc::from(format!("{}/{worker}", caller.owner))
}
