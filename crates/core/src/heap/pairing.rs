//! A pairing heap in an arena (M. Fredman, R. Sedgewick, D. Sleator, R. Tarjan, "The pairing heap: a new form of
//! self-adjusting heap", Algorithmica 1, 1986).
//!
//! Nodes are slots of one vector and link by index. `cargo bench --bench heap` runs it beside a Fibonacci, a binary and an
//! indexed heap on a home's mix of operations.

use std::cmp::Ordering;
use std::fmt;

/// No node.
const NIL: u32 = u32::MAX;
/// The sequence number of a slot that holds no element.
const FREE: u64 = u64::MAX;

/// Names one element of one heap for as long as it stands there; afterwards it names nothing, ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle {
    slot: u32,
    /// The insertion's number: the generation of the slot, since no two insertions share one.
    sequence: u64,
}

/// Why a key was not decreased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecreaseKeyError {
    #[error("element {} has left the heap", .0.sequence)]
    Stale(Handle),
    #[error("the new key of element {} is greater than its key", .0.sequence)]
    Greater(Handle),
}

#[derive(Clone)]
struct Node<K> {
    key: K,
    /// Breaks ties of keys, so that equal keys leave in the order of their insertion; [`FREE`] in a free slot.
    sequence: u64,
    child: u32,
    /// The sibling before this child; of a first child, its parent; of the root, [`NIL`].
    before: u32,
    /// The sibling after this child; of a free slot, the next free slot.
    after: u32,
}

/// A priority queue: the least key leaves first, equal keys in the order of their insertion.
///
/// `insert`, `peek` and `get` cost O(1), `pop`, `remove` and `decrease_key` O(log n), amortized. A slot is reused after its
/// element left, so the memory is that of the most elements ever held at a time. The key of an element that left stays in
/// its slot until then, or until the heap is empty: keys are meant to be small.
#[derive(Clone)]
pub struct PairingHeap<K, V> {
    nodes: Vec<Node<K>>,
    /// Beside `nodes`, so that comparing keys does not pull values through the cache.
    values: Vec<Option<V>>,
    root: u32,
    free: u32,
    len: usize,
    next_sequence: u64,
}

impl<K, V> Default for PairingHeap<K, V> {
    fn default() -> Self {
        Self { nodes: Vec::new(), values: Vec::new(), root: NIL, free: NIL, len: 0, next_sequence: 0 }
    }
}

impl<K, V> fmt::Debug for PairingHeap<K, V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PairingHeap").field("len", &self.len).finish_non_exhaustive()
    }
}

impl<K: Ord + Clone, V> PairingHeap<K, V> {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an element. O(1).
    pub fn insert(&mut self, key: K, value: V) -> Handle {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let slot = self.occupy(key, sequence, value);
        self.root = self.join(self.root, slot);
        self.len += 1;
        Handle { slot, sequence }
    }

    /// The element that [`Self::pop`] would return. O(1).
    pub fn peek(&self) -> Option<(&K, &V)> {
        self.element(self.root)
    }

    /// The element that `handle` names, if it has not left. O(1).
    pub fn get(&self, handle: Handle) -> Option<(&K, &V)> {
        self.element(self.slot_of(handle)?)
    }

    /// Takes the least element. O(log n) amortized.
    pub fn pop(&mut self) -> Option<(K, V)> {
        let slot = self.root;
        if slot == NIL {
            return None;
        }
        self.root = self.join_children(slot);
        self.vacate(slot)
    }

    /// Gives an element a lesser key (or the same); its place among equal keys is still that of its insertion. O(log n)
    /// amortized, two comparisons by itself.
    ///
    /// # Errors
    /// If the element has left, or its key is less than `key`; the heap is then as before.
    pub fn decrease_key(&mut self, handle: Handle, key: K) -> Result<(), DecreaseKeyError> {
        let slot = self.slot_of(handle).ok_or(DecreaseKeyError::Stale(handle))?;
        if key > self.node(slot).key {
            return Err(DecreaseKeyError::Greater(handle));
        }
        self.node_mut(slot).key = key;
        if slot != self.root {
            self.cut(slot);
            self.root = self.join(self.root, slot);
        }
        Ok(())
    }

    /// Takes the element that `handle` names, if it has not left. O(log n) amortized.
    pub fn remove(&mut self, handle: Handle) -> Option<(K, V)> {
        let slot = self.slot_of(handle)?;
        if slot == self.root {
            return self.pop();
        }
        self.cut(slot);
        let below = self.join_children(slot);
        self.root = self.join(self.root, below);
        self.vacate(slot)
    }

    fn node(&self, slot: u32) -> &Node<K> {
        &self.nodes[slot as usize]
    }

    fn node_mut(&mut self, slot: u32) -> &mut Node<K> {
        &mut self.nodes[slot as usize]
    }

    fn element(&self, slot: u32) -> Option<(&K, &V)> {
        let value = self.values.get(slot as usize)?.as_ref()?;
        Some((&self.node(slot).key, value))
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
        let node = Node { key, sequence, child: NIL, before: NIL, after: NIL };
        if self.free == NIL {
            assert!(self.nodes.len() < NIL as usize, "a heap holds less than 2^32 - 1 elements: limits are far below");
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

    /// Makes the greater of two roots the first child of the lesser, and returns the lesser. With [`NIL`] the other.
    fn join(&mut self, left: u32, right: u32) -> u32 {
        if left == NIL || right == NIL {
            return if left == NIL { right } else { left };
        }
        let (parent, child) = if self.precedes(left, right) { (left, right) } else { (right, left) };
        let eldest = std::mem::replace(&mut self.node_mut(parent).child, child);
        let node = self.node_mut(child);
        node.before = parent;
        node.after = eldest;
        if eldest != NIL {
            self.node_mut(eldest).before = child;
        }
        parent
    }

    /// Takes a child, with all below it, out of its siblings.
    fn cut(&mut self, slot: u32) {
        let node = self.node_mut(slot);
        let (before, after) = (std::mem::replace(&mut node.before, NIL), std::mem::replace(&mut node.after, NIL));
        if self.node(before).child == slot {
            self.node_mut(before).child = after;
        } else {
            self.node_mut(before).after = after;
        }
        if after != NIL {
            self.node_mut(after).before = before;
        }
    }

    /// Makes one tree of the children of `slot`, which then has none: pairs from the first to the last, then the pairs
    /// from the last to the first. The pairs wait on a stack that runs through `after`.
    fn join_children(&mut self, slot: u32) -> u32 {
        let (mut next, mut stack) = (std::mem::replace(&mut self.node_mut(slot).child, NIL), NIL);
        while next != NIL {
            let one = next;
            let other = self.node(one).after;
            next = if other == NIL { NIL } else { self.node(other).after };
            let pair = self.join(one, other);
            self.node_mut(pair).after = stack;
            stack = pair;
        }
        let mut root = NIL;
        while stack != NIL {
            let pair = stack;
            stack = self.node(pair).after;
            root = self.join(root, pair);
        }
        if root != NIL {
            let node = self.node_mut(root);
            (node.before, node.after) = (NIL, NIL);
        }
        root
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u8),
        Pop,
        /// Of the n-th handle ever given (modulo their number), stale ones included, to the key.
        DecreaseKey(usize, u8),
        Remove(usize),
        Get(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => any::<u8>().prop_map(Step::Insert),
            3 => Just(Step::Pop),
            3 => (any::<usize>(), any::<u8>()).prop_map(|(n, key)| Step::DecreaseKey(n, key)),
            1 => any::<usize>().prop_map(Step::Remove),
            1 => any::<usize>().prop_map(Step::Get),
        ]
    }

    /// A sorted list of (key, insertion), where the n-th insertion has the value n.
    #[derive(Default)]
    struct Model {
        sorted: Vec<(u8, usize)>,
        handles: Vec<Handle>,
    }

    impl Model {
        fn insert(&mut self, key: u8, insertion: usize) {
            let place = self.sorted.partition_point(|held| *held < (key, insertion));
            self.sorted.insert(place, (key, insertion));
        }

        fn place(&self, insertion: usize) -> Option<usize> {
            self.sorted.iter().position(|(_, held)| *held == insertion)
        }

        fn take(&mut self, insertion: usize) -> Option<(u8, usize)> {
            self.place(insertion).map(|place| self.sorted.remove(place))
        }

        fn apply(&mut self, heap: &mut PairingHeap<u8, usize>, step: &Step) -> Result<(), TestCaseError> {
            let given = self.handles.len();
            match *step {
                Step::Insert(key) => {
                    self.insert(key, given);
                    self.handles.push(heap.insert(key, given));
                }
                Step::Pop => {
                    let least = (!self.sorted.is_empty()).then(|| self.sorted.remove(0));
                    prop_assert_eq!(heap.pop(), least);
                }
                Step::Remove(_) | Step::Get(_) | Step::DecreaseKey(..) if given == 0 => {}
                Step::Remove(n) => prop_assert_eq!(heap.remove(self.handles[n % given]), self.take(n % given)),
                Step::Get(n) => {
                    let held = self.place(n % given).map(|place| &self.sorted[place]);
                    prop_assert_eq!(heap.get(self.handles[n % given]), held.map(|(key, value)| (key, value)));
                }
                Step::DecreaseKey(n, key) => {
                    let handle = self.handles[n % given];
                    let expected = match self.place(n % given).map(|place| self.sorted[place].0) {
                        None => Err(DecreaseKeyError::Stale(handle)),
                        Some(held) if held < key => Err(DecreaseKeyError::Greater(handle)),
                        Some(_) => {
                            self.take(n % given);
                            self.insert(key, n % given);
                            Ok(())
                        }
                    };
                    prop_assert_eq!(heap.decrease_key(handle, key), expected);
                }
            }
            Ok(())
        }
    }

    /// Checks how the elements are linked, and that none is less than the one above it.
    fn assert_well_formed<K: Ord + Clone, V>(heap: &PairingHeap<K, V>) {
        let (mut size, mut above) = (0, vec_of(heap.root));
        if heap.root != NIL {
            assert_eq!((heap.node(heap.root).before, heap.node(heap.root).after), (NIL, NIL));
        }
        while let Some(slot) = above.pop() {
            size += 1;
            let (mut before, mut child) = (slot, heap.node(slot).child);
            while child != NIL {
                assert_eq!(heap.node(child).before, before);
                assert!(heap.precedes(slot, child), "heap order");
                above.push(child);
                (before, child) = (child, heap.node(child).after);
            }
        }
        assert_eq!(size, heap.len());
        assert_eq!(heap.values.iter().flatten().count(), heap.len());
    }

    fn vec_of(root: u32) -> Vec<u32> {
        if root == NIL { Vec::new() } else { vec![root] }
    }

    proptest! {
        #[test]
        fn any_mix_of_operations_equals_a_sorted_list(steps in vec(step(), 0..400)) {
            let mut heap = PairingHeap::new();
            let mut model = Model::default();
            for step in &steps {
                model.apply(&mut heap, step)?;
                assert_well_formed(&heap);
                prop_assert_eq!(heap.peek(), model.sorted.first().map(|(key, value)| (key, value)));
                prop_assert_eq!((heap.len(), heap.is_empty()), (model.sorted.len(), model.sorted.is_empty()));
            }
            let drained: Vec<_> = std::iter::from_fn(|| heap.pop()).collect();
            prop_assert_eq!(drained, model.sorted);
        }
    }

    #[test]
    fn equal_keys_leave_in_order_of_insertion_and_a_decreased_key_takes_its_old_place() {
        let mut heap = PairingHeap::new();
        let handles: Vec<_> = (0..100).map(|n| heap.insert(if n % 3 == 0 { 9 } else { 5 }, n)).collect();
        for n in (0..100).step_by(3) {
            heap.decrease_key(handles[n], 5).unwrap();
        }
        let left: Vec<_> = std::iter::from_fn(|| heap.pop()).map(|(_, n)| n).collect();
        assert_eq!(left, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_stale_handle_is_refused_though_its_slot_is_in_use_again() {
        let mut heap = PairingHeap::new();
        let stale = heap.insert(1, "first");
        heap.insert(3, "stays");
        heap.pop();
        let live = heap.insert(2, "second");
        assert_eq!(stale.slot, live.slot);
        assert_eq!(heap.get(stale), None);
        assert_eq!(heap.decrease_key(stale, 0), Err(DecreaseKeyError::Stale(stale)));
        assert_eq!(heap.remove(stale), None);
        assert_eq!(heap.remove(live), Some((2, "second")));
    }

    #[test]
    fn a_heap_that_was_emptied_refuses_its_old_handles() {
        let mut heap = PairingHeap::new();
        let stale = [heap.insert(1, "first"), heap.insert(2, "second")];
        while heap.pop().is_some() {}
        assert_eq!(stale.map(|handle| heap.get(handle)), [None; 2]);
        heap.insert(3, "third");
        assert_eq!(stale.map(|handle| heap.remove(handle)), [None; 2]);
    }

    #[test]
    fn slots_are_reused_so_memory_is_that_of_the_most_elements_at_a_time() {
        let mut heap = PairingHeap::new();
        for round in 0..1_000 {
            heap.insert(round, ());
            if round >= 10 {
                heap.pop();
            }
        }
        assert_eq!(heap.nodes.len(), 11);
    }

    #[test]
    fn an_empty_heap_gives_nothing() {
        let mut heap = PairingHeap::<u8, ()>::new();
        assert_eq!(heap.pop(), None);
        assert_eq!((heap.peek(), heap.len()), (None, 0));
    }

    /// A key that counts its comparisons.
    #[derive(Clone)]
    struct Counted<'a>(u64, &'a Cell<u64>);

    impl Ord for Counted<'_> {
        fn cmp(&self, other: &Self) -> Ordering {
            self.1.set(self.1.get() + 1);
            self.0.cmp(&other.0)
        }
    }

    impl PartialOrd for Counted<'_> {
        fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }

    impl PartialEq for Counted<'_> {
        fn eq(&self, other: &Self) -> bool {
            self.0 == other.0
        }
    }

    impl Eq for Counted<'_> {}

    /// A fixed sequence that looks random (the multiplier is Knuth's).
    fn scattered(n: u64) -> u64 {
        (n + 1).wrapping_mul(6_364_136_223_846_793_005) >> 20
    }

    #[test]
    fn comparisons_grow_as_promised() {
        for exponent in [10, 14] {
            let n = 1u64 << exponent;
            let compared = Cell::new(0);
            let mut heap = PairingHeap::new();
            let handles: Vec<_> = (0..n).map(|i| heap.insert(Counted(scattered(i), &compared), i)).collect();
            assert!(compared.replace(0) <= n, "an insertion compares once");
            heap.pop();
            assert!(compared.replace(0) <= 2 * n, "the first pop pays for the insertions, once");

            for (i, handle) in handles.iter().enumerate().filter(|(i, _)| i % 2 == 0) {
                let lesser = Counted(scattered(i as u64) / 2, &compared);
                let _ = heap.decrease_key(*handle, lesser);
            }
            assert!(compared.replace(0) <= n, "a decrease compares with its old key and with the root");

            while heap.pop().is_some() {}
            let per_pop = compared.replace(0) as f64 / n as f64;
            assert!(per_pop <= 2.0 * exponent as f64, "{per_pop} comparisons per pop of {n}");
        }
    }

    #[test]
    fn a_run_of_decreases_costs_a_constant_each_however_deep_the_tree() {
        let n = 1u64 << 14;
        let compared = Cell::new(0);
        let mut heap = PairingHeap::new();
        let handles: Vec<_> = (0..n).map(|i| heap.insert(Counted(n + scattered(i) % n, &compared), i)).collect();
        heap.pop();
        for round in 0..16 {
            compared.set(0);
            for (i, handle) in handles.iter().enumerate() {
                let _ = heap.decrease_key(*handle, Counted(n - round * 64 - i as u64 % 64, &compared));
            }
            assert!(compared.get() <= 3 * n);
            heap.pop();
        }
        assert_well_formed(&heap);
    }
}
