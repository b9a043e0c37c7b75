//! The heads of the ready heaps, in the order in which one round of grants looks at them: among namespaces the least
//! virtual time, within a namespace the aging key.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use super::fairness::Fairness;
use super::ready::{ReadySet, ShapeQueue};
use crate::heap::aging::AgingKey;

/// Heads of queues, with the queues' places: the least key first.
type ByKey = BinaryHeap<Reverse<(AgingKey, usize)>>;

/// A namespace with the heads of its queues.
struct Contender {
    namespace: Arc<str>,
    heads: ByKey,
}

/// The head of the queue at `place`, taken out of the round until it is put back.
pub(super) struct Head {
    contender: usize,
    pub place: usize,
}

pub(super) struct Heads {
    contenders: Vec<Contender>,
    /// Of equal virtual times, the older head first.
    order: BinaryHeap<Reverse<(u64, AgingKey, usize)>>,
}

impl Heads {
    /// The heads of those queues from which something may be granted in this round.
    pub fn of(ready: &ReadySet, fairness: &mut Fairness, may_grant: impl Fn(usize, &ShapeQueue) -> bool) -> Self {
        fairness.begin_round();
        let mut by_namespace: BTreeMap<&Arc<str>, ByKey> = BTreeMap::new();
        for (place, queue) in ready.busy() {
            if let Some((key, _)) = queue.heap.peek()
                && may_grant(place, queue)
            {
                by_namespace.entry(&queue.namespace).or_default().push(Reverse((*key, place)));
            }
        }
        let contenders = by_namespace.into_iter().map(|(namespace, heads)| {
            fairness.contend(namespace);
            Contender { namespace: namespace.clone(), heads }
        });
        let mut heads = Self { contenders: contenders.collect(), order: BinaryHeap::new() };
        (0..heads.contenders.len()).for_each(|contender| heads.stand(contender, fairness));
        heads
    }

    pub fn take(&mut self) -> Option<Head> {
        let Reverse((_, _, contender)) = self.order.pop()?;
        let Reverse((_, place)) = self.contenders[contender].heads.pop()?;
        Some(Head { contender, place })
    }

    pub fn namespace(&self, head: &Head) -> &Arc<str> {
        &self.contenders[head.contender].namespace
    }

    /// Goes on after `head`: with the `key` that its queue's head has now, or without that queue.
    pub fn put_back(&mut self, head: &Head, key: Option<AgingKey>, fairness: &Fairness) {
        self.contenders[head.contender].heads.extend(key.map(|key| Reverse((key, head.place))));
        self.stand(head.contender, fairness);
    }

    fn stand(&mut self, contender: usize, fairness: &Fairness) {
        let Contender { namespace, heads } = &self.contenders[contender];
        if let Some(Reverse((key, _))) = heads.peek() {
            self.order.push(Reverse((fairness.next(namespace), *key, contender)));
        }
    }
}
