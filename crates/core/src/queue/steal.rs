//! What a thief may take of a home's eligible tasks: half of them, rounded up, once per credit.
//!
//! Without a memory of what was left to others, each look at one credit would take half of the rest, and in a few looks
//! all of it.

use crate::lease::CreditName;
use crate::limits;
use crate::placement::half_of;

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct StealShare {
    /// The credit that it was drawn for.
    credit: Option<CreditName>,
    /// Tasks that it may still be granted.
    mine: usize,
    /// Tasks that it leaves to others, until then: an idle node stands no longer beside them.
    left: usize,
    until_ms: u64,
}

impl StealShare {
    /// The share of `eligible` tasks for a credit. What came since the last look is shared in its turn.
    pub fn of(&mut self, now_ms: u64, credit: CreditName, eligible: usize) -> usize {
        if self.credit != Some(credit) {
            *self = Self { credit: Some(credit), ..Self::default() };
        }
        if now_ms >= self.until_ms {
            self.mine += std::mem::take(&mut self.left);
        }
        let known = self.mine + self.left;
        if eligible < known {
            // Others took some: of what was left to them, if so many were.
            self.left = eligible.saturating_sub(self.mine);
            self.mine = self.mine.min(eligible);
        } else if eligible > known {
            let mine = half_of(eligible - known);
            if self.left == 0 {
                self.until_ms = now_ms + limits::IDLE_BESIDE_MS_MAX;
            }
            self.mine += mine;
            self.left += eligible - known - mine;
        }
        self.mine
    }

    pub fn take_one(&mut self) {
        self.mine = self.mine.saturating_sub(1);
    }

    /// What of it decides what is granted next for `credit`.
    pub fn fingerprint(&self, credit: Option<CreditName>) -> Option<(usize, usize, u64)> {
        let until_ms = if self.left > 0 { self.until_ms } else { 0 };
        self.credit.filter(|_| self.credit == credit).map(|_| (self.mine, self.left, until_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use crate::ids::{Incarnation, Sending};

    fn credit(sending: u64) -> CreditName {
        CreditName { incarnation: Incarnation(1), sending: Sending(sending) }
    }

    /// Looks until nothing more is taken.
    fn taken(share: &mut StealShare, now_ms: u64, credit: CreditName, mut eligible: usize) -> usize {
        let before = eligible;
        while share.of(now_ms, credit, eligible) > 0 {
            share.take_one();
            eligible -= 1;
        }
        before - eligible
    }

    #[test]
    fn however_often_it_looks_a_credit_takes_half() {
        let mut share = StealShare::default();
        assert_eq!(taken(&mut share, 0, credit(1), 9), 5);
        assert_eq!(taken(&mut share, 0, credit(1), 4), 0);
        assert_eq!(taken(&mut share, 0, credit(2), 4), 2, "the next credit is shared anew");
    }

    #[test]
    fn what_comes_later_is_shared_in_its_turn() {
        let mut share = StealShare::default();
        for _ in 0..5 {
            assert_eq!(taken(&mut share, 0, credit(1), 1), 1, "a task alone is all there is");
        }
        assert_eq!(taken(&mut share, 0, credit(1), 8), 4);
        assert_eq!(taken(&mut share, 0, credit(1), 4 + 3), 2);
    }

    #[test]
    fn what_was_left_to_others_for_a_second_is_taken() {
        let mut share = StealShare::default();
        assert_eq!(taken(&mut share, 5, credit(1), 8), 4);
        assert_eq!(taken(&mut share, 4 + limits::IDLE_BESIDE_MS_MAX, credit(1), 4), 0);
        assert_eq!(taken(&mut share, 5 + limits::IDLE_BESIDE_MS_MAX, credit(1), 4), 4);
    }

    proptest! {
        #[test]
        fn what_is_its_share_and_what_is_left_is_what_there_is(
            looks in proptest::collection::vec((0u64..400, 0u64..3, 0usize..50, 0usize..10), 0..60),
        ) {
            let (mut share, mut now_ms) = (StealShare::default(), 0);
            for (passed_ms, sending, eligible, takes) in looks {
                now_ms += passed_ms;
                let mine = share.of(now_ms, credit(sending), eligible);
                prop_assert!(mine <= eligible && share.mine + share.left == eligible);
                (0..takes.min(mine)).for_each(|_| share.take_one());
            }
        }
    }
}
