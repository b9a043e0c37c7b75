//! The Merkle tree: a binary radix trie over sha256(ledger id), with no node that has one child (D. Morrison, "PATRICIA",
//! J. ACM 15, 1968). Its shape follows from the set of ledgers alone, so equal maps have equal roots whatever their history.
//!
//! leaf = sha256(0x00 || signing bytes of the head); inner = sha256(0x01 || depth || left || right), where depth is the
//! number of the first bit in which the keys below differ. The empty trie has the root 0.

use sha2::{Digest, Sha256};

use super::head::Head;
use super::prefix::Prefix;
use crate::ids::LedgerId;

pub type Hash = [u8; 32];

const EMPTY_ROOT: Hash = [0; 32];
const LEAF_DOMAIN: u8 = 0;
const INNER_DOMAIN: u8 = 1;
const NIL: u32 = u32::MAX;

pub fn key_of(ledger: LedgerId) -> Hash {
    Sha256::digest(ledger.0).into()
}

/// The hash of a head's leaf. The signature is no part of it: one head can have many that verify, and clocks that differ
/// in nothing else must have one root.
pub fn leaf_hash(head: &Head) -> Hash {
    let mut hash = Sha256::new();
    hash.update([LEAF_DOMAIN]);
    hash.update(head.signing_bytes());
    hash.finalize().into()
}

pub fn inner_hash(depth: u8, left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [0; 66];
    bytes[0] = INNER_DOMAIN;
    bytes[1] = depth;
    bytes[2..34].copy_from_slice(left);
    bytes[34..].copy_from_slice(right);
    Sha256::digest(bytes).into()
}

/// 0 or 1: the side on which `key` stands below a node of `depth`.
pub fn side(key: &Hash, depth: u8) -> usize {
    usize::from(key[usize::from(depth / 8)] >> (7 - depth % 8) & 1)
}

pub fn first_difference(left: &Hash, right: &Hash) -> Option<u8> {
    let byte = left.iter().zip(right).position(|(left, right)| left != right)?;
    Some(byte as u8 * 8 + (left[byte] ^ right[byte]).leading_zeros() as u8)
}

#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Leaf(LedgerId),
    Inner { depth: u8, children: [u32; 2] },
}

#[derive(Debug, Clone)]
pub struct Node {
    /// Of a leaf its own; of an inner node that of some leaf below it, of which only the bits above its depth are read.
    key: Hash,
    pub hash: Hash,
    parent: u32,
    pub kind: Kind,
}

#[derive(Debug, Clone)]
pub struct Trie {
    nodes: Vec<Node>,
    root: u32,
}

impl Default for Trie {
    fn default() -> Self {
        Self { nodes: Vec::new(), root: NIL }
    }
}

impl Trie {
    pub fn root(&self) -> Hash {
        self.nodes.get(self.root as usize).map_or(EMPTY_ROOT, |node| node.hash)
    }

    /// Gives `ledger` the leaf `hash`. O(log n) hashes.
    pub fn set(&mut self, ledger: LedgerId, hash: Hash) {
        let key = key_of(ledger);
        let leaf = Node { key, hash, parent: NIL, kind: Kind::Leaf(ledger) };
        let Some(nearest) = self.nearest_leaf(&key) else {
            self.root = self.push(leaf);
            return;
        };
        match first_difference(&self.node(nearest).key, &key) {
            None => {
                self.nodes[nearest as usize].hash = hash;
                self.rehash(self.node(nearest).parent);
            }
            Some(depth) => {
                let below = self.descend(&key, depth.into());
                let leaf = self.push(leaf);
                let inner = self.insert_above(below, leaf, depth);
                self.rehash(inner);
            }
        }
    }

    /// The hashes beside the way from the leaf of `ledger` to the root, lowest first, each with its parent's depth.
    pub fn siblings(&self, ledger: LedgerId) -> Option<Vec<(u8, Hash)>> {
        let key = key_of(ledger);
        let leaf = self.nearest_leaf(&key).filter(|leaf| self.node(*leaf).key == key)?;
        let mut siblings = Vec::new();
        let mut at = self.node(leaf).parent;
        while at != NIL {
            let node = self.node(at);
            if let Kind::Inner { depth, children } = node.kind {
                siblings.push((depth, self.node(children[1 - side(&key, depth)]).hash));
            }
            at = node.parent;
        }
        Some(siblings)
    }

    /// The highest node with nothing but what stands below `prefix`, and all of that.
    pub fn below(&self, prefix: &Prefix) -> Option<&Node> {
        if self.root == NIL {
            return None;
        }
        let node = self.node(self.descend(prefix.key(), prefix.bits()));
        prefix.covers_key(&node.key).then_some(node)
    }

    /// The leaves at or below `node`.
    pub fn leaves<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = (LedgerId, Hash)> + 'a {
        let mut stack = vec![node];
        std::iter::from_fn(move || {
            loop {
                let node = stack.pop()?;
                match node.kind {
                    Kind::Leaf(ledger) => return Some((ledger, node.hash)),
                    Kind::Inner { children, .. } => stack.extend(children.map(|child| self.node(child))),
                }
            }
        })
    }

    fn node(&self, at: u32) -> &Node {
        &self.nodes[at as usize]
    }

    fn push(&mut self, node: Node) -> u32 {
        self.nodes.push(node);
        (self.nodes.len() - 1) as u32
    }

    /// Follows the bits of `key` from the root to a leaf: one that shares with it as many first bits as any.
    fn nearest_leaf(&self, key: &Hash) -> Option<u32> {
        (self.root != NIL).then(|| self.descend(key, u16::MAX))
    }

    /// Follows the bits of `key` from the root of a trie with leaves to the first node that is a leaf or has
    /// at least `depth`.
    fn descend(&self, key: &Hash, depth: u16) -> u32 {
        let mut at = self.root;
        while let Kind::Inner { depth: here, children } = self.node(at).kind
            && u16::from(here) < depth
        {
            at = children[side(key, here)];
        }
        at
    }

    /// Puts a new inner node in the place of `below`, with `below` and `leaf` as its children.
    fn insert_above(&mut self, below: u32, leaf: u32, depth: u8) -> u32 {
        let key = self.node(leaf).key;
        let parent = self.node(below).parent;
        let children = if side(&key, depth) == 0 { [leaf, below] } else { [below, leaf] };
        let inner = self.push(Node { key, hash: EMPTY_ROOT, parent, kind: Kind::Inner { depth, children } });
        match self.nodes.get_mut(parent as usize).map(|node| &mut node.kind) {
            Some(Kind::Inner { depth, children }) => children[side(&key, *depth)] = inner,
            _ => self.root = inner,
        }
        self.nodes[below as usize].parent = inner;
        self.nodes[leaf as usize].parent = inner;
        inner
    }

    fn rehash(&mut self, from: u32) {
        let mut at = from;
        while at != NIL {
            if let Kind::Inner { depth, children: [left, right] } = self.node(at).kind {
                self.nodes[at as usize].hash = inner_hash(depth, &self.node(left).hash, &self.node(right).hash);
            }
            at = self.node(at).parent;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    /// The definition, without the trie: split the sorted keys at the first bit in which they differ.
    fn root_by_definition(leaves: &[(Hash, Hash)]) -> Hash {
        match leaves {
            [] => EMPTY_ROOT,
            [(_, hash)] => *hash,
            [(first, _), .., (last, _)] => {
                let depth = first_difference(first, last).unwrap();
                let (left, right) = leaves.split_at(leaves.partition_point(|(key, _)| side(key, depth) == 0));
                inner_hash(depth, &root_by_definition(left), &root_by_definition(right))
            }
        }
    }

    fn by_definition(map: &BTreeMap<u16, Hash>) -> Hash {
        let mut leaves: Vec<_> = map.iter().map(|(id, hash)| (key_of(ledger(*id)), *hash)).collect();
        leaves.sort_unstable();
        root_by_definition(&leaves)
    }

    fn ledger(id: u16) -> LedgerId {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&id.to_be_bytes());
        LedgerId(bytes)
    }

    proptest! {
        #[test]
        fn the_root_is_that_of_the_definition_after_every_update(updates in vec((0u16..24, any::<Hash>()), 0..32)) {
            let (mut trie, mut map) = (Trie::default(), BTreeMap::new());
            for (id, hash) in updates {
                trie.set(ledger(id), hash);
                map.insert(id, hash);
                prop_assert_eq!(trie.root(), by_definition(&map));
            }
        }

        #[test]
        fn below_a_prefix_stand_the_ledgers_that_it_covers(
            map in btree_map(any::<u16>(), any::<Hash>(), 0..60), digits in "[0-9a-f]{0,3}",
        ) {
            let mut trie = Trie::default();
            for (id, hash) in &map {
                trie.set(ledger(*id), *hash);
            }
            let prefix: Prefix = digits.parse().unwrap();
            let mut covered = map.clone();
            covered.retain(|id, _| prefix.covers(ledger(*id)));
            let node = trie.below(&prefix);
            prop_assert_eq!(node.map_or(EMPTY_ROOT, |node| node.hash), by_definition(&covered));
            let mut leaves: Vec<_> = node.into_iter().flat_map(|node| trie.leaves(node)).collect();
            leaves.sort_unstable();
            prop_assert_eq!(leaves, covered.into_iter().map(|(id, hash)| (ledger(id), hash)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn bits_count_from_the_highest() {
        let mut key = [0; 32];
        key[1] = 0b0010_0000;
        assert_eq!((side(&key, 9), side(&key, 10), side(&key, 11)), (0, 1, 0));
        assert_eq!(first_difference(&key, &[0; 32]), Some(10));
        assert_eq!(
            first_difference(&[0; 32], &{
                let mut last = [0; 32];
                last[31] = 1;
                last
            }),
            Some(255)
        );
        assert_eq!(first_difference(&key, &key), None);
    }
}
