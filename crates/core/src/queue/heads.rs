//! The heads of the ready heaps, in the order in which one round of grants looks at them: among namespaces the least
//! virtual time, within a namespace the aging key.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Bound;
use std::sync::Arc;

use super::fairness::Fairness;
use super::ready::{ReadySet, ShapeQueue};
use super::standing::HeadKey;
use crate::heap::aging::AgingKey;

/// A namespace of which something may be granted.
struct Contender {
    namespace: Arc<str>,
    /// Its heads before this were looked at. Keys only grow while a round goes on, so none comes in before.
    from: Bound<HeadKey>,
}

/// The head of the queue at `place`, taken out of the round until it is put back.
pub(super) struct Head {
    contender: usize,
    key: AgingKey,
    pub place: usize,
}

pub(super) struct Heads {
    contenders: Vec<Contender>,
    /// Of equal virtual times, the older head first.
    order: BinaryHeap<Reverse<(u64, AgingKey, usize, usize)>>,
}

impl Heads {
    /// The heads of those queues from which something may be granted in this round.
    pub fn of(ready: &ReadySet, fairness: &mut Fairness, may_grant: impl Fn(usize, &ShapeQueue) -> bool) -> Self {
        fairness.begin_round();
        let mut heads = Self { contenders: Vec::new(), order: BinaryHeap::new() };
        for namespace in ready.namespaces() {
            let Some(head) = first_of(ready, namespace, Bound::Unbounded, &may_grant) else { continue };
            fairness.contend(namespace);
            heads.contenders.push(Contender { namespace: namespace.clone(), from: Bound::Included(head) });
            heads.stand(heads.contenders.len() - 1, head, fairness);
        }
        heads
    }

    pub fn take(&mut self) -> Option<Head> {
        let Reverse((_, key, contender, place)) = self.order.pop()?;
        Some(Head { contender, key, place })
    }

    pub fn namespace(&self, head: &Head) -> &Arc<str> {
        &self.contenders[head.contender].namespace
    }

    /// Goes on after `head`: with its queue, if that `goes_on`, or without it.
    pub fn put_back(
        &mut self,
        head: &Head,
        goes_on: bool,
        ready: &ReadySet,
        fairness: &Fairness,
        may_grant: impl Fn(usize, &ShapeQueue) -> bool,
    ) {
        let contender = &mut self.contenders[head.contender];
        let at = (head.key, head.place);
        contender.from = if goes_on { Bound::Included(at) } else { Bound::Excluded(at) };
        if let Some(next) = first_of(ready, &contender.namespace, contender.from, may_grant) {
            self.stand(head.contender, next, fairness);
        }
    }

    fn stand(&mut self, contender: usize, (key, place): HeadKey, fairness: &Fairness) {
        let namespace = &self.contenders[contender].namespace;
        self.order.push(Reverse((fairness.next(namespace), key, contender, place)));
    }
}

fn first_of(
    ready: &ReadySet,
    namespace: &str,
    from: Bound<HeadKey>,
    may_grant: impl Fn(usize, &ShapeQueue) -> bool,
) -> Option<HeadKey> {
    ready.heads_of(namespace, from).find(|(_, place)| may_grant(*place, &ready.queues[*place]))
}
