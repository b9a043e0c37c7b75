//! Which queues have something to grant, and how much, kept so that a round of grants need not walk over all of them:
//! their heads by namespace, and the ready tasks of each shape.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::ready::ShapeQueue;
use crate::heap::aging::AgingKey;
use crate::ids::PeerId;
use crate::matching::{Capabilities, Shape};
use crate::task::SlotPool;

/// The head of a queue, and the queue's place.
pub(super) type HeadKey = (AgingKey, usize);

/// All queues of one shape.
#[derive(Clone, Default, PartialEq)]
struct OfShape {
    queues: usize,
    /// Tasks that may be granted: not behind a used-up limit, and not held back.
    ready: usize,
    /// Alive members whose capabilities fit.
    fitting: BTreeSet<PeerId>,
}

/// Where a queue stands here.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Stand {
    pub head: Option<AgingKey>,
    pub ready: usize,
}

#[derive(Clone, Default)]
pub(super) struct Standing {
    /// Of each namespace with tasks that no limit holds back, the least first.
    heads: BTreeMap<Arc<str>, BTreeSet<HeadKey>>,
    shapes: BTreeMap<Shape, OfShape>,
}

impl Standing {
    pub fn add(&mut self, queue: &ShapeQueue) {
        let of_shape = self.shapes.entry(queue.shape.clone()).or_default();
        of_shape.queues += 1;
        of_shape.fitting = queue.fitting.keys().copied().collect();
    }

    /// An empty queue goes.
    pub fn leave(&mut self, queue: &ShapeQueue) {
        if let Some(of_shape) = self.shapes.get_mut(&queue.shape) {
            of_shape.queues -= 1;
            if of_shape.queues == 0 {
                self.shapes.remove(&queue.shape);
            }
        }
    }

    /// The queue at `place` stands otherwise than before.
    pub fn moved(&mut self, queue: &mut ShapeQueue, place: usize, stand: Stand) {
        let before = std::mem::replace(&mut queue.stand, stand);
        self.put(queue, place, before);
    }

    fn put(&mut self, queue: &ShapeQueue, place: usize, before: Stand) {
        let stand = queue.stand;
        if before.ready != stand.ready
            && let Some(of_shape) = self.shapes.get_mut(&queue.shape)
        {
            of_shape.ready = of_shape.ready + stand.ready - before.ready;
        }
        if before.head == stand.head {
            return;
        }
        if !self.heads.contains_key(&queue.namespace) {
            self.heads.insert(queue.namespace.clone(), BTreeSet::new());
        }
        let Some(heads) = self.heads.get_mut(&queue.namespace) else { return };
        before.head.map(|key| heads.remove(&(key, place)));
        heads.extend(stand.head.map(|key| (key, place)));
        if heads.is_empty() {
            self.heads.remove(&queue.namespace);
        }
    }

    pub fn member_changed(&mut self, peer: PeerId, capabilities: Option<&Capabilities>) {
        for (shape, of_shape) in &mut self.shapes {
            if capabilities.is_some_and(|capabilities| shape.fits(capabilities)) {
                of_shape.fitting.insert(peer);
            } else {
                of_shape.fitting.remove(&peer);
            }
        }
    }

    /// Ready tasks that `peer` could run now.
    pub fn eligible_for(&self, peer: &PeerId, pool: SlotPool) -> usize {
        let fits =
            |(shape, of_shape): &(&Shape, &OfShape)| shape.kind.pool() == pool && of_shape.fitting.contains(peer);
        self.shapes.iter().filter(fits).map(|(_, of_shape)| of_shape.ready).sum()
    }

    pub fn namespaces(&self) -> impl Iterator<Item = &Arc<str>> {
        self.heads.keys()
    }

    /// The heads of a namespace's queues, the least first.
    pub fn heads_of(&self, namespace: &str, from: Bound<HeadKey>) -> impl Iterator<Item = HeadKey> {
        self.heads.get(namespace).into_iter().flat_map(move |heads| heads.range((from, Bound::Unbounded))).copied()
    }

    /// Whether it says what a walk over all queues says.
    #[cfg(test)]
    pub fn is_right(&self, queues: &[ShapeQueue]) -> bool {
        let mut walked = Self::default();
        for (place, queue) in queues.iter().enumerate() {
            walked.add(queue);
            walked.put(queue, place, Stand::default());
        }
        let is_marked = |queue: &ShapeQueue| {
            let Stand { head, ready } = queue.stand;
            let first = queue.heap.peek().map(|(key, _)| *key).filter(|_| !queue.closed);
            head == first && (ready == 0 || head.is_some() && ready == queue.heap.len())
        };
        walked.heads == self.heads && walked.shapes == self.shapes && queues.iter().all(is_marked)
    }
}
