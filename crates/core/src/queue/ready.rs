//! Ready tasks, one heap per namespace and requirement shape: a backlog for GPUs never hides work for CPUs.

use std::collections::BTreeMap;

use super::task_entry::Task;
use crate::heap::FibonacciHeap;
use crate::heap::aging::{Aging, AgingKey};
use crate::ids::{PeerId, TaskId};
use crate::matching::{Capabilities, Shape};
use crate::placement::Beacon;
use crate::task::SlotPool;

/// Tasks that differ in nothing that decides where they may run.
pub(super) struct ShapeQueue {
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
    aging: Aging,
    index: BTreeMap<(String, Shape), usize>,
}

impl ReadySet {
    /// Adds a task; `members` tells a new shape who fits it.
    pub fn insert<'a>(
        &mut self,
        task: &mut Task,
        now_ms: u64,
        members: impl Iterator<Item = (&'a PeerId, &'a Capabilities)>,
    ) {
        if task.soft.ready.is_some() {
            return;
        }
        let shape = Shape::of(&task.spec).expect("the expression was parsed when the task was submitted");
        let place = match self.index.get(&(task.spec.namespace.clone(), shape.clone())) {
            Some(place) => *place,
            None => self.add_queue(task.spec.namespace.clone(), shape, members),
        };
        // Fixed at insert: aging needs no re-keying.
        let key = self.aging.key(task.priority, task.created);
        let handle = self.queues[place].heap.insert(key, task.id);
        task.soft.ready = Some((place, handle));
        task.soft.ready_since_ms = now_ms;
    }

    fn add_queue<'a>(
        &mut self,
        namespace: String,
        shape: Shape,
        members: impl Iterator<Item = (&'a PeerId, &'a Capabilities)>,
    ) -> usize {
        let fitting = members
            .filter(|(_, capabilities)| shape.fits(capabilities))
            .map(|(peer, _)| (*peer, Beacon::of(peer)))
            .collect();
        self.queues.push(ShapeQueue { shape: shape.clone(), heap: FibonacciHeap::new(), fitting });
        self.index.insert((namespace, shape), self.queues.len() - 1);
        self.queues.len() - 1
    }

    pub fn remove(&mut self, task: &mut Task) {
        if let Some((place, handle)) = task.soft.ready.take() {
            self.queues[place].heap.remove(handle);
        }
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
        self.queues.iter().filter(fits).map(|queue| queue.heap.len()).sum()
    }
}
