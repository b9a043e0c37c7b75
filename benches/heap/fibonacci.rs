//! A Fibonacci heap in an arena (M. Fredman, R. Tarjan, "Fibonacci heaps and their uses", J. ACM 34, 1987).
//!
//! Nodes are slots of one vector and link by index. The roots stand in a vector, not in a ring: an insertion or a cut
//! writes no neighbour, and consolidation reads them in a row.

use std::cmp::Ordering;

use magpie_core::heap::AgingKey;

use super::ReadyHeap;

/// No node.
const NIL: u32 = u32::MAX;
/// The sequence number of a slot that holds no element.
const FREE: u64 = u64::MAX;
/// A root of degree d has at least F(d + 2) >= phi^d nodes below it, and 2^32 < phi^47.
const DEGREES: usize = 47;

/// Names one element of one heap for as long as it stands there; afterwards it names nothing, ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle {
    slot: u32,
    /// The insertion's number: the generation of the slot, since no two insertions share one.
    sequence: u64,
}

/// Why a key was not decreased.
#[derive(Debug)]
pub enum DecreaseKeyError {
    Stale,
    Greater,
}

#[derive(Clone)]
struct Node<K> {
    key: K,
    /// Breaks ties of keys, so that equal keys leave in the order of their insertion; [`FREE`] in a free slot.
    sequence: u64,
    parent: u32,
    child: u32,
    /// The sibling before this child; of a root, its place among the roots.
    before: u32,
    /// The sibling after this child; of a free slot, the next free slot.
    after: u32,
    degree: u8,
    /// Whether a child was cut since this node became a child itself.
    marked: bool,
}

/// A priority queue: the least key leaves first, equal keys in the order of their insertion.
///
/// `insert`, `peek`, `get` and `decrease_key` cost O(1), `pop` and `remove` O(log n), amortized. A slot is reused after its
/// element left, so the memory is that of the most elements ever held at a time. The key of an element that left stays in
/// its slot until then, or until the heap is empty: keys are meant to be small.
#[derive(Clone)]
pub struct FibonacciHeap<K, V> {
    nodes: Vec<Node<K>>,
    /// Beside `nodes`, so that comparing keys does not pull values through the cache.
    values: Vec<Option<V>>,
    roots: Vec<u32>,
    minimum: u32,
    free: u32,
    len: usize,
    next_sequence: u64,
}

impl<K, V> Default for FibonacciHeap<K, V> {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            values: Vec::new(),
            roots: Vec::new(),
            minimum: NIL,
            free: NIL,
            len: 0,
            next_sequence: 0,
        }
    }
}

impl<K: Ord + Clone, V> FibonacciHeap<K, V> {
    /// Adds an element. O(1).
    pub fn insert(&mut self, key: K, value: V) -> Handle {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let slot = self.occupy(key, sequence, value);
        self.push_root(slot);
        self.len += 1;
        if self.minimum == NIL || self.precedes(slot, self.minimum) {
            self.minimum = slot;
        }
        Handle { slot, sequence }
    }

    /// Takes the least element. O(log n) amortized.
    pub fn pop(&mut self) -> Option<(K, V)> {
        if self.minimum == NIL {
            return None;
        }
        let slot = self.minimum;
        self.leave_roots(slot);
        self.promote_children(slot);
        self.consolidate();
        self.vacate(slot)
    }

    /// Gives an element a lesser key (or the same); its place among equal keys is still that of its insertion. O(1) amortized.
    ///
    /// # Errors
    /// If the element has left, or its key is less than `key`; the heap is then as before.
    pub fn decrease_key(&mut self, handle: Handle, key: K) -> Result<(), DecreaseKeyError> {
        let slot = self.slot_of(handle).ok_or(DecreaseKeyError::Stale)?;
        if key > self.node(slot).key {
            return Err(DecreaseKeyError::Greater);
        }
        self.node_mut(slot).key = key;
        let parent = self.node(slot).parent;
        if parent != NIL && self.precedes(slot, parent) {
            self.cut(slot);
        }
        if self.precedes(slot, self.minimum) {
            self.minimum = slot;
        }
        Ok(())
    }

    /// Takes the element that `handle` names, if it has not left. O(log n) amortized.
    pub fn remove(&mut self, handle: Handle) -> Option<(K, V)> {
        let slot = self.slot_of(handle)?;
        if slot == self.minimum {
            return self.pop();
        }
        if self.node(slot).parent != NIL {
            self.cut(slot);
        }
        self.leave_roots(slot);
        self.promote_children(slot);
        self.vacate(slot)
    }

    fn node(&self, slot: u32) -> &Node<K> {
        &self.nodes[slot as usize]
    }

    fn node_mut(&mut self, slot: u32) -> &mut Node<K> {
        &mut self.nodes[slot as usize]
    }

    fn slot_of(&self, handle: Handle) -> Option<u32> {
        let node = self.nodes.get(handle.slot as usize)?;
        (node.sequence == handle.sequence).then_some(handle.slot)
    }

    fn precedes(&self, left: u32, right: u32) -> bool {
        let (left, right) = (self.node(left), self.node(right));
        match left.key.cmp(&right.key) {
            Ordering::Less => true,
            Ordering::Equal => left.sequence < right.sequence,
            Ordering::Greater => false,
        }
    }

    fn occupy(&mut self, key: K, sequence: u64, value: V) -> u32 {
        let node = Node { key, sequence, parent: NIL, child: NIL, before: NIL, after: NIL, degree: 0, marked: false };
        if self.free == NIL {
            self.nodes.push(node);
            self.values.push(Some(value));
            return (self.nodes.len() - 1) as u32;
        }
        let slot = self.free;
        self.free = self.node(slot).after;
        *self.node_mut(slot) = node;
        self.values[slot as usize] = Some(value);
        slot
    }

    fn vacate(&mut self, slot: u32) -> Option<(K, V)> {
        let free = self.free;
        let node = self.node_mut(slot);
        node.sequence = FREE;
        node.after = free;
        let key = node.key.clone();
        let value = self.values[slot as usize].take();
        self.free = slot;
        self.len -= 1;
        if self.len == 0 {
            // The free list is in the order of leaving, which is random to the cache.
            self.nodes.clear();
            self.values.clear();
            self.free = NIL;
        }
        value.map(|value| (key, value))
    }

    fn push_root(&mut self, slot: u32) {
        let place = self.roots.len() as u32;
        let node = self.node_mut(slot);
        node.parent = NIL;
        node.before = place;
        node.marked = false;
        self.roots.push(slot);
    }

    fn leave_roots(&mut self, slot: u32) {
        let place = self.node(slot).before;
        self.roots.swap_remove(place as usize);
        if let Some(&moved) = self.roots.get(place as usize) {
            self.node_mut(moved).before = place;
        }
    }

    fn promote_children(&mut self, slot: u32) {
        let mut child = self.node(slot).child;
        while child != NIL {
            let after = self.node(child).after;
            self.push_root(child);
            child = after;
        }
    }

    /// Makes a child a root, and with it every marked ancestor: a node that loses two children leaves its parent too,
    /// which is what keeps degrees logarithmic.
    fn cut(&mut self, slot: u32) {
        let mut slot = slot;
        loop {
            let parent = self.node(slot).parent;
            self.leave_siblings(slot);
            self.push_root(slot);
            let node = self.node_mut(parent);
            if node.parent == NIL {
                return;
            }
            if !node.marked {
                node.marked = true;
                return;
            }
            slot = parent;
        }
    }

    fn leave_siblings(&mut self, slot: u32) {
        let &Node { parent, before, after, .. } = self.node(slot);
        if before == NIL {
            self.node_mut(parent).child = after;
        } else {
            self.node_mut(before).after = after;
        }
        if after != NIL {
            self.node_mut(after).before = before;
        }
        self.node_mut(parent).degree -= 1;
    }

    /// Links roots of equal degree until all degrees differ, and finds the least root on the way.
    fn consolidate(&mut self) {
        let mut of_degree = [NIL; DEGREES];
        for place in 0..self.roots.len() {
            let mut root = self.roots[place];
            loop {
                let standing = &mut of_degree[usize::from(self.nodes[root as usize].degree)];
                if *standing == NIL {
                    *standing = root;
                    break;
                }
                let other = std::mem::replace(standing, NIL);
                root = self.link(root, other);
            }
        }
        self.roots.clear();
        self.minimum = NIL;
        for root in of_degree.into_iter().filter(|root| *root != NIL) {
            self.push_root(root);
            if self.minimum == NIL || self.precedes(root, self.minimum) {
                self.minimum = root;
            }
        }
    }

    /// Makes the greater of two roots a child of the lesser; returns the lesser.
    fn link(&mut self, left: u32, right: u32) -> u32 {
        let (parent, child) = if self.precedes(left, right) { (left, right) } else { (right, left) };
        let node = self.node_mut(parent);
        let eldest = std::mem::replace(&mut node.child, child);
        node.degree += 1;
        let node = self.node_mut(child);
        node.parent = parent;
        node.before = NIL;
        node.after = eldest;
        if eldest != NIL {
            self.node_mut(eldest).before = child;
        }
        parent
    }
}

impl ReadyHeap for FibonacciHeap<AgingKey, u32> {
    type Handle = Handle;

    fn push(&mut self, key: AgingKey, task: u32) -> Handle {
        self.insert(key, task)
    }

    fn pop(&mut self) -> Option<u32> {
        Self::pop(self).map(|(_, task)| task)
    }

    fn remove(&mut self, handle: Handle) {
        Self::remove(self, handle);
    }

    fn decrease(&mut self, handle: Handle, key: AgingKey) {
        // A key that would be greater stays: the mix draws lesser ones.
        let _ = self.decrease_key(handle, key);
    }
}
