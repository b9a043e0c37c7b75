//! The causal order of clocks.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::head::Position;
use crate::ids::LedgerId;

/// How one clock stands to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockOrdering {
    /// The other has seen all that this one has, and more.
    Before,
    /// This one has seen all that the other has, and more.
    After,
    Equal,
    /// Each has seen something that the other has not.
    Concurrent,
}

/// A clock without events and signatures: how far each ledger had come.
pub type Summary = BTreeMap<LedgerId, Position>;

/// Compares two maps that are given in the order of ledgers, element by element; a ledger that is missing is before any.
pub(super) fn compare_sorted<K: Ord>(
    left: impl IntoIterator<Item = (LedgerId, K)>,
    right: impl IntoIterator<Item = (LedgerId, K)>,
) -> ClockOrdering {
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    let (mut behind, mut ahead) = (false, false);
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => break,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some((left, _)), Some((right, _))) => left.cmp(right),
        };
        let left = if order.is_le() { left.next() } else { None };
        let right = if order.is_ge() { right.next() } else { None };
        // None is less than Some: missing is before any.
        match left.map(|(_, at)| at).cmp(&right.map(|(_, at)| at)) {
            Ordering::Less => behind = true,
            Ordering::Greater => ahead = true,
            Ordering::Equal => {}
        }
    }
    match (behind, ahead) {
        (false, false) => ClockOrdering::Equal,
        (true, false) => ClockOrdering::Before,
        (false, true) => ClockOrdering::After,
        (true, true) => ClockOrdering::Concurrent,
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_map;
    use proptest::prelude::*;

    use super::*;

    fn at_most(left: &BTreeMap<u8, u8>, right: &BTreeMap<u8, u8>) -> bool {
        left.iter().all(|(ledger, at)| right.get(ledger).is_some_and(|other| at <= other))
    }

    fn compare(left: &BTreeMap<u8, u8>, right: &BTreeMap<u8, u8>) -> ClockOrdering {
        let entries = |map: &BTreeMap<u8, u8>| map.clone().into_iter().map(|(id, at)| (LedgerId([id; 16]), at));
        compare_sorted(entries(left), entries(right))
    }

    proptest! {
        #[test]
        fn the_answer_is_that_of_the_partial_order(
            left in btree_map(0u8..4, 0u8..3, 0..4), right in btree_map(0u8..4, 0u8..3, 0..4),
        ) {
            let expected = match (at_most(&left, &right), at_most(&right, &left)) {
                (true, true) => ClockOrdering::Equal,
                (true, false) => ClockOrdering::Before,
                (false, true) => ClockOrdering::After,
                (false, false) => ClockOrdering::Concurrent,
            };
            prop_assert_eq!(compare(&left, &right), expected);
        }
    }

    #[test]
    fn equal_and_concurrent_are_told_apart() {
        let (a, b) = (BTreeMap::from([(1, 1)]), BTreeMap::from([(2, 1)]));
        assert_eq!(compare(&a, &a), ClockOrdering::Equal);
        assert_eq!(compare(&a, &b), ClockOrdering::Concurrent);
        assert_eq!(compare(&BTreeMap::new(), &a), ClockOrdering::Before);
        assert_eq!(compare(&a, &BTreeMap::new()), ClockOrdering::After);
    }
}
