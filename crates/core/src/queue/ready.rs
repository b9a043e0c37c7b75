//! Ready tasks, one heap per namespace, requirement shape and limit keys: a backlog for GPUs never hides work for CPUs,
//! and what waits for a key hides nothing that does not.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::limit_keys::Limit;
use super::paused::Paused;
use super::standing::{HeadKey, Stand, Standing};
use super::task_entry::Task;
use crate::heap::PairingHeap;
use crate::heap::aging::{Aging, AgingKey};
use crate::ids::{PeerId, TaskId};
use crate::limiter::LimitKind;
use crate::limits;
use crate::matching::{Capabilities, Shape};
use crate::placement::Beacon;
use crate::task::{SlotPool, TaskSpec};

/// Tasks that differ in nothing that decides where and when they may run.
#[derive(Clone)]
pub(super) struct ShapeQueue {
    pub namespace: Arc<str>,
    pub shape: Shape,
    pub limits: Vec<Limit>,
    /// Whether an attempt has to be over when its lease ends, which only a node answers for.
    pub exclusive: bool,
    /// Whether one of its limits is used up.
    pub closed: bool,
    /// What its tasks take, the newest ones most; `None` before the first ended.
    pub run_us: Option<u64>,
    pub heap: PairingHeap<AgingKey, TaskId>,
    /// Where the set has it.
    pub stand: Stand,
    /// Alive members whose capabilities fit.
    pub fitting: BTreeMap<PeerId, Beacon>,
}

impl ShapeQueue {
    pub fn pool(&self) -> SlotPool {
        self.shape.kind.pool()
    }
}

/// What a task counts as before one like it ended.
const UNKNOWN_RUN_US: u64 = 1_000_000;

type QueueKey = (Arc<str>, Shape, Vec<Limit>, bool);

/// The queues behind one limit.
#[derive(Clone, Default)]
pub(super) struct Gate {
    places: BTreeSet<usize>,
    closed: bool,
}

#[derive(Clone, Default)]
pub(super) struct ReadySet {
    pub queues: Vec<ShapeQueue>,
    /// Places of the queues that hold tasks, those behind a used-up limit left out.
    pub busy: BTreeSet<usize>,
    /// Places of those that hold none.
    pub empty: BTreeSet<usize>,
    /// The same queues by what they have to grant.
    pub standing: Standing,
    pub gates: BTreeMap<Limit, Gate>,
    pub aging: Aging,
    pub paused: Paused,
    pub index: BTreeMap<QueueKey, usize>,
    /// Where the last task went: those of one batch share their specification.
    pub last: Option<(Arc<TaskSpec>, usize)>,
}

impl ReadySet {
    /// Adds a task, and returns its queue's place; `members` tells a new shape who fits it.
    pub fn insert<'a>(
        &mut self,
        task: &mut Task,
        members: impl Iterator<Item = (&'a PeerId, &'a Capabilities)>,
    ) -> usize {
        if let Some((place, _)) = task.soft.ready {
            return place;
        }
        let place = self.place_of(task, members);
        // Fixed at insert: aging needs no re-keying.
        let key = self.aging.key(task.priority, task.created);
        let handle = self.queues[place].heap.insert(key, task.id);
        self.mark(place);
        task.soft.ready = Some((place, handle));
        task.soft.queue = Some(place);
        place
    }

    /// A task of the queue at `place` ran so long.
    pub fn ran(&mut self, place: Option<usize>, run_us: u64) {
        if let Some(queue) = place.and_then(|place| self.queues.get_mut(place)) {
            queue.run_us = Some(queue.run_us.map_or(run_us, |mean| (7 * mean + run_us) / 8));
        }
    }

    /// What a task of the queue at `place` is expected to take.
    pub fn run_us(&self, place: Option<usize>) -> u64 {
        let queue = place.and_then(|place| self.queues.get(place));
        queue.and_then(|queue| queue.run_us).unwrap_or(UNKNOWN_RUN_US)
    }

    fn mark(&mut self, place: usize) {
        let queue = &mut self.queues[place];
        let (closed, held) = (queue.closed, self.paused.holds(&queue.namespace));
        let head = queue.heap.peek().map(|(key, _)| *key);
        put(&mut self.empty, place, head.is_none());
        let head = head.filter(|_| !closed);
        put(&mut self.busy, place, head.is_some());
        let ready = if head.is_some() && !held { queue.heap.len() } else { 0 };
        self.standing.moved(queue, place, Stand { head, ready });
    }

    fn place_of<'a>(&mut self, task: &Task, members: impl Iterator<Item = (&'a PeerId, &'a Capabilities)>) -> usize {
        let spec = &task.spec;
        if let Some((_, place)) = self.last.as_ref().filter(|(last, _)| Arc::ptr_eq(last, spec)) {
            return *place;
        }
        let shape = Shape::of(spec).expect("the expression was parsed when the task was submitted");
        let key = (Arc::from(spec.namespace.as_str()), shape, Limit::all_of(spec, task.id.ledger), spec.exclusive);
        let place = self.index.get(&key).copied().unwrap_or_else(|| self.add_queue(key, members));
        self.last = Some((spec.clone(), place));
        place
    }

    /// An empty queue is kept for the next task of its shape, until there are too many of them.
    fn add_queue<'a>(&mut self, key: QueueKey, members: impl Iterator<Item = (&'a PeerId, &'a Capabilities)>) -> usize {
        let (namespace, shape, limits, exclusive) = key.clone();
        let fitting = members
            .filter(|(_, capabilities)| shape.fits(capabilities))
            .map(|(peer, _)| (*peer, Beacon::of(peer)))
            .collect();
        let closed = limits.iter().any(|limit| self.gates.get(limit).is_some_and(|gate| gate.closed));
        let (heap, stand) = (PairingHeap::new(), Stand::default());
        let queue = ShapeQueue { namespace, shape, limits, exclusive, closed, run_us: None, heap, stand, fitting };
        self.standing.add(&queue);
        let full = self.queues.len() >= limits::READY_QUEUES_KEPT_MAX;
        let reused = full.then(|| self.empty.pop_first()).flatten();
        let place = reused.unwrap_or(self.queues.len());
        match self.queues.get_mut(place) {
            Some(old) => {
                let old = std::mem::replace(old, queue);
                self.standing.leave(&old);
                old.limits.iter().for_each(|limit| self.leave_gate(limit, place));
                self.index.remove(&(old.namespace, old.shape, old.limits, old.exclusive));
            }
            None => self.queues.push(queue),
        }
        for limit in &key.2 {
            self.gates.entry(limit.clone()).or_default().places.insert(place);
        }
        self.index.insert(key, place);
        place
    }

    fn leave_gate(&mut self, limit: &Limit, place: usize) {
        if let Some(gate) = self.gates.get_mut(limit) {
            gate.places.remove(&place);
            if gate.places.is_empty() {
                self.gates.remove(limit);
            }
        }
    }

    /// Opens or closes the queues behind `limit`. Returns whether that changed anything.
    pub fn set_open(&mut self, limit: &Limit, open: bool) -> bool {
        let Some(gate) = self.gates.get_mut(limit).filter(|gate| gate.closed == open) else { return false };
        gate.closed = !open;
        for place in gate.places.clone() {
            let closed = self.queues[place].limits.iter().any(|limit| self.gates[limit].closed);
            self.queues[place].closed = closed;
            self.mark(place);
        }
        true
    }

    /// The queues behind `limit` whose namespaces are not held back.
    pub fn behind(&self, limit: &Limit) -> impl Iterator<Item = &ShapeQueue> {
        let places = self.gates.get(limit).map(|gate| &gate.places);
        let queues = places.into_iter().flatten().map(|place| &self.queues[*place]);
        queues.filter(|queue| !self.paused.holds(&queue.namespace))
    }

    /// The other limits of the queues behind `limit`.
    pub fn beside(&self, limit: &Limit) -> BTreeSet<Limit> {
        let limits = self.behind(limit).flat_map(|queue| &queue.limits);
        limits.filter(|other| *other != limit).cloned().collect()
    }

    /// Rates that are used up.
    pub fn closed_rates(&self) -> Vec<Limit> {
        let rates = self.gates.iter().filter(|(limit, gate)| gate.closed && limit.kind == LimitKind::Rate);
        rates.map(|(limit, _)| limit.clone()).collect()
    }

    pub fn remove(&mut self, task: &mut Task) {
        if let Some((place, handle)) = task.soft.ready.take() {
            self.queues[place].heap.remove(handle);
            self.mark(place);
        }
    }

    /// Queues that hold tasks of which some may be granted, with their places.
    pub fn busy(&self) -> impl Iterator<Item = (usize, &ShapeQueue)> {
        let busy = self.busy.iter().map(|place| (*place, &self.queues[*place]));
        busy.filter(|(_, queue)| !self.paused.holds(&queue.namespace))
    }

    /// From now on these are held back.
    pub fn hold(&mut self, paused: &Paused) {
        self.paused = paused.clone();
        (0..self.queues.len()).for_each(|place| self.mark(place));
    }

    /// Namespaces that hold tasks of which some may be granted.
    pub fn namespaces(&self) -> impl Iterator<Item = &Arc<str>> {
        self.standing.namespaces().filter(|namespace| !self.paused.holds(namespace))
    }

    /// The heads of a namespace's queues from one on, the least first.
    pub fn heads_of(&self, namespace: &str, from: Bound<HeadKey>) -> impl Iterator<Item = HeadKey> {
        self.standing.heads_of(namespace, from)
    }

    /// A member's capabilities changed, or it died (`None`).
    pub fn member_changed(&mut self, peer: PeerId, capabilities: Option<&Capabilities>) {
        self.standing.member_changed(peer, capabilities);
        for queue in &mut self.queues {
            if capabilities.is_some_and(|capabilities| queue.shape.fits(capabilities)) {
                queue.fitting.insert(peer, Beacon::of(&peer));
            } else {
                queue.fitting.remove(&peer);
            }
        }
    }

    /// Ready tasks that `peer` could run now.
    pub fn eligible_for(&self, peer: &PeerId, pool: SlotPool) -> usize {
        self.standing.eligible_for(peer, pool)
    }

    /// Whether what is kept beside the queues fits them.
    #[cfg(test)]
    pub fn stands_right(&self) -> bool {
        self.standing.is_right(&self.queues)
    }
}

fn put(set: &mut BTreeSet<usize>, place: usize, belongs: bool) {
    if belongs {
        set.insert(place);
    } else {
        set.remove(&place);
    }
}
