//! A pairing heap in an arena (M. Fredman, R. Sedgewick, D. Sleator, R. Tarjan, "The pairing heap", Algorithmica 1, 1986),
//! with the two passes of the paper.

use magpie_core::heap::AgingKey;

use super::ReadyHeap;

const NIL: u32 = u32::MAX;

struct Node {
    key: AgingKey,
    task: u32,
    child: u32,
    next: u32,
    /// The sibling before, or the parent of a first child.
    before: u32,
    gone: bool,
}

pub struct PairingHeap {
    nodes: Vec<Node>,
    root: u32,
    /// Kept, so that a pop allocates nothing.
    pairs: Vec<u32>,
}

impl Default for PairingHeap {
    fn default() -> Self {
        Self { nodes: Vec::new(), root: NIL, pairs: Vec::new() }
    }
}

impl PairingHeap {
    fn node(&mut self, slot: u32) -> &mut Node {
        &mut self.nodes[slot as usize]
    }

    /// Joins two roots; the later slot gives way, since slots are in the order of insertion.
    fn join(&mut self, left: u32, right: u32) -> u32 {
        if left == NIL || right == NIL {
            return if left == NIL { right } else { left };
        }
        let wins = (self.nodes[left as usize].key, left) <= (self.nodes[right as usize].key, right);
        let (parent, child) = if wins { (left, right) } else { (right, left) };
        let first = self.nodes[parent as usize].child;
        if first != NIL {
            self.node(first).before = child;
        }
        let node = self.node(child);
        (node.next, node.before) = (first, parent);
        self.node(parent).child = child;
        parent
    }

    /// Takes a node that is not the root, with what is below it, out of its siblings.
    fn cut(&mut self, slot: u32) {
        let (before, next) = (self.nodes[slot as usize].before, self.nodes[slot as usize].next);
        if self.nodes[before as usize].child == slot {
            self.node(before).child = next;
        } else {
            self.node(before).next = next;
        }
        if next != NIL {
            self.node(next).before = before;
        }
        let node = self.node(slot);
        (node.next, node.before) = (NIL, NIL);
    }

    fn join_children(&mut self, slot: u32) -> u32 {
        let mut pairs = std::mem::take(&mut self.pairs);
        let mut next = std::mem::replace(&mut self.node(slot).child, NIL);
        while next != NIL {
            let one = next;
            let other = self.nodes[one as usize].next;
            next = if other == NIL { NIL } else { self.nodes[other as usize].next };
            for single in [one, other].into_iter().filter(|single| *single != NIL) {
                let node = self.node(single);
                (node.next, node.before) = (NIL, NIL);
            }
            pairs.push(self.join(one, other));
        }
        let mut root = NIL;
        while let Some(pair) = pairs.pop() {
            root = self.join(root, pair);
        }
        self.pairs = pairs;
        root
    }
}

impl ReadyHeap for PairingHeap {
    type Handle = u32;

    fn push(&mut self, key: AgingKey, task: u32) -> u32 {
        let slot = self.nodes.len() as u32;
        self.nodes.push(Node { key, task, child: NIL, next: NIL, before: NIL, gone: false });
        self.root = self.join(self.root, slot);
        slot
    }

    fn pop(&mut self) -> Option<u32> {
        if self.root == NIL {
            return None;
        }
        let slot = self.root;
        self.root = self.join_children(slot);
        let node = self.node(slot);
        node.gone = true;
        Some(node.task)
    }

    fn remove(&mut self, slot: u32) {
        if self.node(slot).gone {
            return;
        }
        if slot == self.root {
            self.pop();
            return;
        }
        self.cut(slot);
        let below = self.join_children(slot);
        self.node(slot).gone = true;
        self.root = self.join(self.root, below);
    }

    fn decrease(&mut self, slot: u32, key: AgingKey) {
        if self.nodes[slot as usize].gone || key > self.nodes[slot as usize].key {
            return;
        }
        self.node(slot).key = key;
        if slot != self.root {
            self.cut(slot);
            self.root = self.join(self.root, slot);
        }
    }
}
