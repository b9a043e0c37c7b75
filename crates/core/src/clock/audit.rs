//! A clock as it was told, checked from its signatures up, and beside what others hold.

use std::collections::BTreeSet;

use super::{ClockOrdering, MerkleClock, SignedHead};
use crate::ids::LedgerId;

/// A clock that was built anew from the heads that somebody showed.
#[derive(Debug)]
pub struct Rebuilt {
    pub clock: MerkleClock,
    /// Heads that do not belong in it, and why.
    pub refused: Vec<(LedgerId, String)>,
}

/// What another holds beside this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beside {
    pub ordering: ClockOrdering,
    /// Ledgers of which it knows less, and more, than this node.
    pub behind: u64,
    pub ahead: u64,
    /// Ledgers of which the two hold different events of one number: their home signed both.
    pub forked: Vec<LedgerId>,
    /// Heads of its that do not belong in a clock.
    pub refused: Vec<(LedgerId, String)>,
}

impl Rebuilt {
    /// Takes each head whose signature holds.
    pub fn of(heads: &[SignedHead]) -> Self {
        let (mut clock, mut refused) = (MerkleClock::default(), Vec::new());
        // One by one: a clock that is sent a bad head need not look at the rest, and here each is to be named.
        for head in heads {
            let report = clock.merge(std::slice::from_ref(head));
            refused.extend(report.refused.into_iter().map(|(ledger, why)| (ledger, why.to_string())));
            let twice = report.equivocations.into_iter().map(|(one, _)| one.head.ledger);
            refused.extend(twice.map(|ledger| (ledger, "two heads of one position are in it".to_owned())));
        }
        Self { clock, refused }
    }

    /// Compares it with the heads that another shows.
    pub fn beside(&self, heads: &[SignedHead]) -> Beside {
        let theirs = Self::of(heads);
        let ledgers: BTreeSet<LedgerId> =
            self.clock.entries().chain(theirs.clock.entries()).map(|signed| signed.head.ledger).collect();
        let mut beside = Beside {
            ordering: self.clock.compare(&theirs.clock),
            behind: 0,
            ahead: 0,
            forked: Vec::new(),
            refused: theirs.refused,
        };
        for ledger in ledgers {
            let ours = self.clock.head(ledger).map(|signed| signed.head);
            let held = theirs.clock.head(ledger).map(|signed| signed.head);
            match ours.map(|head| head.position()).cmp(&held.map(|head| head.position())) {
                std::cmp::Ordering::Greater => beside.behind += 1,
                std::cmp::Ordering::Less => beside.ahead += 1,
                std::cmp::Ordering::Equal if ours != held => beside.forked.push(ledger),
                std::cmp::Ordering::Equal => {}
            }
        }
        beside
    }
}

#[cfg(test)]
mod tests {
    use super::super::head::tests::{head, key, signed};
    use super::*;
    use crate::ids::ContentId;

    #[test]
    fn a_head_that_its_home_did_not_sign_is_left_out_and_named() {
        let mut forged = signed(2, 5);
        forged.head.count = 6;
        let rebuilt = Rebuilt::of(&[signed(1, 3), forged, signed(3, 1)]);
        assert_eq!(rebuilt.clock.len(), 2);
        let [(ledger, why)] = rebuilt.refused.as_slice() else { panic!("{:?}", rebuilt.refused) };
        assert_eq!(*ledger, forged.head.ledger);
        assert!(why.contains("event 6 of ledger"), "{why}");
    }

    #[test]
    fn the_root_is_that_of_the_heads_in_whatever_order_they_came() {
        let heads = [signed(1, 3), signed(2, 5), signed(3, 1)];
        let mut ticked = MerkleClock::default();
        heads.iter().for_each(|head| ticked.tick(*head).unwrap());
        assert_eq!(Rebuilt::of(&[heads[2], heads[0], heads[1]]).clock.root(), ticked.root());
    }

    #[test]
    fn what_another_holds_is_behind_ahead_or_forked() {
        let ours = Rebuilt::of(&[signed(1, 3), signed(2, 5), signed(3, 1)]);
        assert_eq!(ours.beside(&[signed(1, 3), signed(2, 5), signed(3, 1)]).ordering, ClockOrdering::Equal);
        let other = crate::clock::Head { event: ContentId::of(b"another"), ..head(3, 1) }.sign(&key(3));
        let beside = ours.beside(&[signed(1, 2), other, signed(4, 1)]);
        assert_eq!((beside.behind, beside.ahead), (2, 1), "one older, one lacking, one more");
        assert_eq!(beside.forked, [other.head.ledger]);
        assert!(beside.refused.is_empty());
    }
}
