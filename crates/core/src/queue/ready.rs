//! Ready tasks, one heap per namespace and requirement shape: a backlog for GPUs never hides work for CPUs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::paused::Paused;
use super::task_entry::Task;
use crate::heap::FibonacciHeap;
use crate::heap::aging::{Aging, AgingKey};
use crate::ids::{PeerId, TaskId};
use crate::limits;
use crate::matching::{Capabilities, Shape};
use crate::placement::Beacon;
use crate::task::{SlotPool, TaskSpec};

/// Tasks that differ in nothing that decides where they may run.
pub(super) struct ShapeQueue {
    namespace: String,
    pub shape: Shape,
    pub heap: FibonacciHeap<AgingKey, TaskId>,
    /// Alive members whose capabilities fit.
    pub fitting: BTreeMap<PeerId, Beacon>,
}

impl ShapeQueue {
    pub fn pool(&self) -> SlotPool {
        self.shape.kind.pool()
    }
}

#[derive(Default)]
pub(super) struct ReadySet {
    pub queues: Vec<ShapeQueue>,
    /// Places of the queues that hold tasks.
    busy: BTreeSet<usize>,
    aging: Aging,
    paused: Paused,
    index: BTreeMap<(String, Shape), usize>,
    /// Where the last task went: those of one batch share their specification.
    last: Option<(Arc<TaskSpec>, usize)>,
}

impl ReadySet {
    /// Adds a task; `members` tells a new shape who fits it.
    pub fn insert<'a>(&mut self, task: &mut Task, members: impl Iterator<Item = (&'a PeerId, &'a Capabilities)>) {
        if task.soft.ready.is_some() {
            return;
        }
        let place = self.place_of(&task.spec, members);
        // Fixed at insert: aging needs no re-keying.
        let key = self.aging.key(task.priority, task.created);
        let handle = self.queues[place].heap.insert(key, task.id);
        self.busy.insert(place);
        task.soft.ready = Some((place, handle));
    }

    fn place_of<'a>(
        &mut self,
        spec: &Arc<TaskSpec>,
        members: impl Iterator<Item = (&'a PeerId, &'a Capabilities)>,
    ) -> usize {
        if let Some((_, place)) = self.last.as_ref().filter(|(last, _)| Arc::ptr_eq(last, spec)) {
            return *place;
        }
        let shape = Shape::of(spec).expect("the expression was parsed when the task was submitted");
        let key = (spec.namespace.clone(), shape);
        let place = self.index.get(&key).copied().unwrap_or_else(|| self.add_queue(key, members));
        self.last = Some((spec.clone(), place));
        place
    }

    /// An empty queue is kept for the next task of its shape, until there are too many of them.
    fn add_queue<'a>(
        &mut self,
        key: (String, Shape),
        members: impl Iterator<Item = (&'a PeerId, &'a Capabilities)>,
    ) -> usize {
        let (namespace, shape) = key.clone();
        let fitting = members
            .filter(|(_, capabilities)| shape.fits(capabilities))
            .map(|(peer, _)| (*peer, Beacon::of(peer)))
            .collect();
        let queue = ShapeQueue { namespace, shape, heap: FibonacciHeap::new(), fitting };
        let full = self.queues.len() >= limits::READY_QUEUES_KEPT_MAX;
        let reused = full.then(|| self.queues.iter().position(|queue| queue.heap.is_empty())).flatten();
        let place = reused.unwrap_or(self.queues.len());
        match self.queues.get_mut(place) {
            Some(old) => {
                let old = std::mem::replace(old, queue);
                self.index.remove(&(old.namespace, old.shape));
            }
            None => self.queues.push(queue),
        }
        self.index.insert(key, place);
        place
    }

    pub fn remove(&mut self, task: &mut Task) {
        if let Some((place, handle)) = task.soft.ready.take() {
            let heap = &mut self.queues[place].heap;
            heap.remove(handle);
            if heap.is_empty() {
                self.busy.remove(&place);
            }
        }
    }

    /// Queues that hold tasks and are not held back, with their places.
    pub fn busy(&self) -> impl Iterator<Item = (usize, &ShapeQueue)> {
        let busy = self.busy.iter().map(|place| (*place, &self.queues[*place]));
        busy.filter(|(_, queue)| !self.paused.holds(&queue.namespace))
    }

    /// From now on these are held back.
    pub fn hold(&mut self, paused: &Paused) {
        self.paused = paused.clone();
    }

    /// A member's capabilities changed, or it died (`None`).
    pub fn member_changed(&mut self, peer: PeerId, capabilities: Option<&Capabilities>) {
        for queue in &mut self.queues {
            if capabilities.is_some_and(|capabilities| queue.shape.fits(capabilities)) {
                queue.fitting.insert(peer, Beacon::of(&peer));
            } else {
                queue.fitting.remove(&peer);
            }
        }
    }

    /// Ready tasks that `peer` could run.
    pub fn eligible_for(&self, peer: &PeerId, pool: SlotPool) -> usize {
        let fits = |queue: &&ShapeQueue| queue.pool() == pool && queue.fitting.contains_key(peer);
        self.busy().map(|(_, queue)| queue).filter(fits).map(|queue| queue.heap.len()).sum()
    }
}
