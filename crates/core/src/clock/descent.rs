//! Finding where two clocks differ: from the root down, one hexadecimal digit of the keys a step, only where hashes differ.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::bytes;
use super::merkle::MerkleClock;
use super::prefix::Prefix;
use super::trie::Hash;
use crate::ids::LedgerId;
use crate::limits::DESCENT_PREFIXES_MAX;

/// What stands below a prefix, if anything does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Branch {
    /// One ledger.
    Leaf {
        ledger: LedgerId,
        #[serde(with = "bytes")]
        hash: Hash,
    },
    /// Several.
    Inner {
        #[serde(with = "bytes")]
        hash: Hash,
    },
}

/// What a clock has below each child of `prefix`: made by [`MerkleClock::digests`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digests {
    pub prefix: Prefix,
    /// By the child's digit, ascending; without those below which nothing stands.
    pub branches: Vec<(u8, Branch)>,
}

/// An answer that no honest clock gives, or not to this question. The descent is to be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DescentError {
    #[error("digests of prefix {prefix:?}, which was not asked for")]
    NotAsked { prefix: Prefix },
    #[error("digests of prefix {prefix:?} have a branch out of its place")]
    Misplaced { prefix: Prefix },
    #[error("more than {prefixes_max} prefixes differ")]
    TooMany { prefixes_max: usize },
}

/// One comparison of the own clock with another node's, from that of their roots to the ledgers that differ.
///
/// Ask the other node for the digests of [`Self::ask`] and hand each to [`Self::answer`], until [`Self::is_done`]: with
/// 16 branches a step, three to five rounds for a thousand ledgers. Either clock may move meanwhile; what moved late is
/// found the next time.
#[derive(Debug, Clone)]
pub struct Descent {
    open: BTreeSet<Prefix>,
    asked: BTreeSet<Prefix>,
    /// Prefixes ever opened.
    opened: usize,
    differing: BTreeSet<LedgerId>,
}

impl Default for Descent {
    fn default() -> Self {
        let open = BTreeSet::from([Prefix::ROOT]);
        Self { open, asked: BTreeSet::new(), opened: 1, differing: BTreeSet::new() }
    }
}

impl Descent {
    /// At most `len_max` prefixes to ask for next; each is returned once.
    pub fn ask(&mut self, len_max: usize) -> Vec<Prefix> {
        let next: Vec<_> = std::iter::from_fn(|| self.open.pop_first()).take(len_max).collect();
        self.asked.extend(&next);
        next
    }

    /// Whether every question was asked and answered.
    pub fn is_done(&self) -> bool {
        self.open.is_empty() && self.asked.is_empty()
    }

    /// The ledgers found so far whose heads differ, or that only one of the clocks has.
    pub fn differing(&self) -> &BTreeSet<LedgerId> {
        &self.differing
    }

    /// Compares what the other clock has below a prefix with `own`.
    ///
    /// # Errors
    /// If the prefix was not asked for, a branch cannot stand where it is said to, or the descent grows beyond
    /// [`DESCENT_PREFIXES_MAX`].
    pub fn answer(&mut self, own: &MerkleClock, digests: &Digests) -> Result<(), DescentError> {
        let prefix = digests.prefix;
        if !self.asked.remove(&prefix) {
            return Err(DescentError::NotAsked { prefix });
        }
        let misplaced = DescentError::Misplaced { prefix };
        let mut branches = digests.branches.iter().peekable();
        for digit in 0..Prefix::CHILDREN {
            let Some(child) = prefix.child(digit) else { break };
            let theirs = branches.next_if(|(at, _)| *at == digit).map(|(_, branch)| *branch);
            self.compare(own, child, theirs).ok_or(misplaced)?;
        }
        if branches.next().is_some() {
            return Err(misplaced);
        }
        if self.opened > DESCENT_PREFIXES_MAX {
            return Err(DescentError::TooMany { prefixes_max: DESCENT_PREFIXES_MAX });
        }
        Ok(())
    }

    /// None if `theirs` cannot stand below `prefix`.
    fn compare(&mut self, own: &MerkleClock, prefix: Prefix, theirs: Option<Branch>) -> Option<()> {
        if own.branch(&prefix) == theirs {
            return Some(());
        }
        let their_leaf = match theirs {
            Some(Branch::Inner { .. }) => {
                // Two keys differ before their end.
                prefix.child(0)?;
                self.open.insert(prefix);
                self.opened += 1;
                return Some(());
            }
            Some(Branch::Leaf { ledger, hash }) => prefix.covers(ledger).then_some(Some((ledger, hash)))?,
            None => None,
        };
        let mut only_theirs = their_leaf;
        for leaf in own.leaves_below(&prefix) {
            if only_theirs == Some(leaf) {
                only_theirs = None;
            } else {
                self.differing.insert(leaf.0);
            }
        }
        self.differing.extend(only_theirs.map(|(ledger, _)| ledger));
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::btree_map;
    use proptest::prelude::*;

    use super::*;
    use crate::clock::head::tests::head;
    use crate::clock::head::{Head, SignedHead};

    /// A clock that ticked each ledger to its count. A descent reads no signatures.
    fn clock(counts: &BTreeMap<u16, u64>) -> MerkleClock {
        let mut clock = MerkleClock::default();
        let template = head(1, 0);
        for (ledger, count) in counts {
            let mut head = template;
            head.ledger = ledger_of(*ledger);
            head.count = *count;
            clock.tick(SignedHead { head, signature: [0; 64] }).unwrap();
        }
        clock
    }

    fn ledger_of(ledger: u16) -> LedgerId {
        let mut id = [0; 16];
        id[14..].copy_from_slice(&ledger.to_be_bytes());
        LedgerId(id)
    }

    /// (ledgers that differ, prefixes asked, rounds), over the wire's bytes.
    fn run(own: &MerkleClock, other: &MerkleClock) -> (BTreeSet<LedgerId>, usize, usize) {
        let mut descent = Descent::default();
        let (mut prefixes, mut rounds) = (0, 0);
        while !descent.is_done() {
            rounds += 1;
            for prefix in descent.ask(usize::MAX) {
                prefixes += 1;
                let packed = rmp_serde::to_vec_named(&other.digests(prefix)).unwrap();
                descent.answer(own, &rmp_serde::from_slice(&packed).unwrap()).unwrap();
            }
        }
        (descent.differing().clone(), prefixes, rounds)
    }

    fn counts(len: usize) -> impl Strategy<Value = BTreeMap<u16, u64>> {
        btree_map(0u16..300, 0u64..3, 0..len)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_descent_finds_exactly_the_ledgers_that_differ(own in counts(40), other in counts(40), same in counts(40)) {
            let with_same = |counts: &BTreeMap<u16, u64>| counts.iter().chain(&same).map(|(k, v)| (*k, *v)).collect();
            let (own, other): (BTreeMap<_, _>, BTreeMap<_, _>) = (with_same(&own), with_same(&other));
            let expected: BTreeSet<_> = (0..300).filter(|id| own.get(id) != other.get(id)).map(ledger_of).collect();
            prop_assert_eq!(run(&clock(&own), &clock(&other)).0, expected);
        }
    }

    #[test]
    fn a_few_differences_among_a_thousand_take_few_rounds_and_few_questions() {
        let counts: BTreeMap<u16, u64> = (0..1_000).map(|ledger| (ledger, 1)).collect();
        let own = clock(&counts);
        for differences in [1u16, 4, 16] {
            let mut other = own.clone();
            for ledger in 0..differences {
                let head = Head { ledger: ledger_of(ledger * 61), ..head(1, 2) };
                other.tick(SignedHead { head, signature: [0; 64] }).unwrap();
            }
            let (differing, prefixes, rounds) = run(&own, &other);
            assert_eq!(differing.len(), usize::from(differences));
            assert!(prefixes <= 1 + 3 * usize::from(differences), "{prefixes} for {differences}");
            // The two nearest of n random keys share about 2 log2(n) bits.
            assert!(rounds <= 6, "{rounds} for {differences}");
        }
    }

    #[test]
    fn an_empty_clock_learns_all_ledgers_of_a_full_one_and_the_reverse() {
        let (empty, full) = (MerkleClock::default(), clock(&(0..1_024).map(|ledger| (ledger, 1)).collect()));
        assert_eq!(run(&empty, &full).0.len(), 1_024);
        let (differing, prefixes, _) = run(&full, &empty);
        assert_eq!((differing.len(), prefixes), (1_024, 1));
        assert_eq!(run(&full, &full.clone()), (BTreeSet::new(), 1, 1));
    }

    #[test]
    fn questions_come_in_batches_and_once_each() {
        let (empty, full) = (MerkleClock::default(), clock(&(0..500).map(|ledger| (ledger, 1)).collect()));
        let mut descent = Descent::default();
        let mut seen = BTreeSet::new();
        while !descent.is_done() {
            let batch = descent.ask(5);
            assert!(batch.len() <= 5);
            for prefix in batch {
                assert!(seen.insert(prefix));
                descent.answer(&empty, &full.digests(prefix)).unwrap();
            }
        }
        assert_eq!(descent.differing().len(), 500);
    }

    #[test]
    fn an_answer_to_no_question_is_refused() {
        let clock = MerkleClock::default();
        let mut descent = Descent::default();
        let digests = clock.digests(Prefix::ROOT);
        assert_eq!(descent.answer(&clock, &digests), Err(DescentError::NotAsked { prefix: Prefix::ROOT }));
        descent.ask(1);
        assert_eq!(descent.answer(&clock, &digests), Ok(()));
        assert_eq!(descent.answer(&clock, &digests), Err(DescentError::NotAsked { prefix: Prefix::ROOT }));
    }

    #[test]
    fn a_branch_out_of_its_place_is_refused() {
        let own = MerkleClock::default();
        let mut full = MerkleClock::default();
        full.tick(SignedHead { head: head(1, 1), signature: [0; 64] }).unwrap();
        let honest = full.digests(Prefix::ROOT).branches[0];
        let elsewhere = (honest.0 ^ 1, honest.1);
        let inner = Branch::Inner { hash: [1; 32] };
        for branches in [vec![elsewhere], vec![honest, honest], vec![(16, inner)], vec![(1, inner), (0, inner)]] {
            let mut descent = Descent::default();
            descent.ask(1);
            let answer = descent.answer(&own, &Digests { prefix: Prefix::ROOT, branches });
            assert_eq!(answer, Err(DescentError::Misplaced { prefix: Prefix::ROOT }));
        }
    }

    /// The error that ends a descent in which everything always differs, and the number of answers up to it.
    fn endless(ask_len: usize) -> (DescentError, usize) {
        let own = MerkleClock::default();
        let mut descent = Descent::default();
        let branches: Vec<_> = (0..16).map(|digit| (digit, Branch::Inner { hash: [digit; 32] })).collect();
        let mut answers = 0;
        loop {
            for prefix in descent.ask(ask_len) {
                answers += 1;
                if let Err(error) = descent.answer(&own, &Digests { prefix, branches: branches.clone() }) {
                    return (error, answers);
                }
            }
        }
    }

    #[test]
    fn a_clock_that_pretends_to_have_no_end_is_given_up() {
        let (error, answers) = endless(usize::MAX);
        assert_eq!(error, DescentError::TooMany { prefixes_max: DESCENT_PREFIXES_MAX });
        assert!(answers <= DESCENT_PREFIXES_MAX / 16 + 1, "{answers}");
        // One at a time, the questions go straight down and meet the end of a key.
        let (error, answers) = endless(1);
        assert!(matches!(error, DescentError::Misplaced { .. }));
        assert_eq!(answers, 64);
    }
}
