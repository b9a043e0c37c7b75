//! The Merkle clock: the newest known head of every ledger, under one root.

use std::collections::BTreeMap;

use super::compare::{ClockOrdering, Summary, compare_sorted};
use super::descent::{Branch, Digests};
use super::head::{Head, Position, SignedHead, VerifyHeadError};
use super::prefix::Prefix;
use super::proof::{InclusionProof, ProofStep};
use super::trie::{self, Hash, Kind, Node, Trie};
use crate::ids::{ContentId, LedgerId, PeerId};
use crate::invariant::{InvariantId, check};
use crate::limits::PEERS_MAX;

/// Why the clock did not take its own home's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TickError {
    #[error("ledger {ledger} ticks to {presented:?}, but the clock is at {held:?}")]
    NotAhead { ledger: LedgerId, held: Position, presented: Position },
    #[error("ledger {ledger} is one too many: a clock holds {ledgers_max}")]
    Full { ledger: LedgerId, ledgers_max: usize },
}

/// Why a head from elsewhere was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MergeHeadError {
    /// Its sender is to be scored down: it passed on what it did not check.
    #[error(transparent)]
    Verify(#[from] VerifyHeadError),
    #[error("one ledger too many: a clock holds {ledgers_max}")]
    Full { ledgers_max: usize },
}

/// What a merge did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MergeReport {
    /// The ledgers whose head is a newer one now, in their order.
    pub advanced: Vec<LedgerId>,
    pub refused: Vec<(LedgerId, MergeHeadError)>,
    /// Two heads of one position, both rightly signed: proof that a home, or its copy, wrote its history twice.
    pub equivocations: Vec<(SignedHead, SignedHead)>,
}

/// An ordered map from ledger to signed head under a Merkle tree. An update costs O(log n) hashes.
///
/// The heads of one ledger have a total order: by position, and in one position (an equivocation) by event and peer.
/// A merge takes the greater head of each ledger, which makes clocks a semilattice: merging is idempotent, commutative
/// and associative, and [`Self::compare`] is its partial order. That holds while no clock is full.
///
/// Who may speak for a ledger is not the clock's knowledge: its caller passes heads of admitted homes only.
#[derive(Debug, Clone, Default)]
pub struct MerkleClock {
    heads: BTreeMap<LedgerId, SignedHead>,
    trie: Trie,
}

/// A parameter, because the laws of merging are tried on thousands of clocks, and to verify takes most of a merge.
pub type Verify = fn(&SignedHead) -> Result<(), VerifyHeadError>;

/// The order of the heads of one ledger.
fn order_of(head: &Head) -> (Position, ContentId, PeerId) {
    (head.position(), head.event, head.peer)
}

/// Whether a presented head changes nothing beside the one held.
fn is_known(held: &SignedHead, presented: &SignedHead) -> bool {
    presented.head == held.head || presented.head.position() < held.head.position()
}

impl MerkleClock {
    /// Advances the head of this node's own ledger, which the node has just signed; the signature is not checked again.
    ///
    /// # Errors
    /// If `head` is not ahead of the one held, or the clock is full.
    pub fn tick(&mut self, head: SignedHead) -> Result<(), TickError> {
        let (ledger, presented) = (head.head.ledger, head.head.position());
        match self.head(ledger).map(|held| held.head.position()) {
            Some(held) if presented <= held => return Err(TickError::NotAhead { ledger, held, presented }),
            None if self.is_full() => return Err(TickError::Full { ledger, ledgers_max: PEERS_MAX }),
            _ => self.set(head),
        }
        Ok(())
    }

    /// Takes every head that is newer than the one held, up to the first that is wrongly signed: to check a signature is
    /// dear, and who passed that on did not check the others either. Older heads change nothing and cost nothing.
    pub fn merge(&mut self, heads: &[SignedHead]) -> MergeReport {
        self.merge_verified_by(SignedHead::verify, heads)
    }

    /// As [`Self::merge`], with another way to check a signature.
    pub fn merge_verified_by(&mut self, verify: Verify, heads: &[SignedHead]) -> MergeReport {
        let mut report = MergeReport::default();
        for head in self.not_known(heads) {
            self.merge_one(verify, head, &mut report);
            if matches!(report.refused.last(), Some((_, MergeHeadError::Verify(_)))) {
                break;
            }
        }
        report.advanced.sort_unstable();
        report.advanced.dedup();
        report
    }

    /// Those of `heads` that may change something. A clock sends its heads in their order: beside it, one walk over this
    /// clock finds all of them; a head out of order is looked up.
    fn not_known<'a>(&self, heads: &'a [SignedHead]) -> Vec<&'a SignedHead> {
        let mut walk = self.heads.iter().peekable();
        let mut walked_to = None;
        let mut news = Vec::new();
        for presented in heads {
            let ledger = presented.head.ledger;
            let held = if walked_to.is_none_or(|last| last < ledger) {
                walked_to = Some(ledger);
                while walk.next_if(|(held, _)| **held < ledger).is_some() {}
                walk.peek().filter(|(held, _)| **held == ledger).map(|(_, head)| *head)
            } else {
                self.head(ledger)
            };
            if held.is_none_or(|held| !is_known(held, presented)) {
                news.push(presented);
            }
        }
        news
    }

    fn merge_one(&mut self, verify: Verify, presented: &SignedHead, report: &mut MergeReport) {
        let ledger = presented.head.ledger;
        let held = self.head(ledger).copied();
        // Another head of the same ledger may have come right before.
        if held.is_some_and(|held| is_known(&held, presented)) {
            return;
        }
        if held.is_none() && self.is_full() {
            report.refused.push((ledger, MergeHeadError::Full { ledgers_max: PEERS_MAX }));
            return;
        }
        if let Err(error) = verify(presented) {
            report.refused.push((ledger, error.into()));
            return;
        }
        if let Some(held) = held.filter(|held| held.head.position() == presented.head.position()) {
            report.equivocations.push((held, *presented));
        }
        if held.is_none_or(|held| order_of(&held.head) < order_of(&presented.head)) {
            self.set(*presented);
            report.advanced.push(ledger);
        }
    }

    fn set(&mut self, head: SignedHead) {
        let goes_on = self.head(head.head.ledger).is_none_or(|held| order_of(&held.head) < order_of(&head.head));
        check(InvariantId::I11, goes_on, "a head went back");
        self.trie.set(head.head.ledger, trie::leaf_hash(&head.head));
        self.heads.insert(head.head.ledger, head);
    }

    /// Forgets the heads that `wanted` does not want; whether there were any. It is rare, and takes as long as all heads.
    pub fn retain(&mut self, wanted: impl Fn(&Head) -> bool) -> bool {
        if self.heads.values().all(|signed| wanted(&signed.head)) {
            return false;
        }
        let heads = std::mem::take(&mut self.heads);
        self.trie = Trie::default();
        heads.into_values().filter(|signed| wanted(&signed.head)).for_each(|signed| self.set(signed));
        true
    }

    fn is_full(&self) -> bool {
        self.heads.len() >= PEERS_MAX
    }

    /// The hash of all heads, without their signatures; zeros while there is none. Equal roots, equal heads.
    pub fn root(&self) -> [u8; 32] {
        self.trie.root()
    }

    pub fn len(&self) -> usize {
        self.heads.len()
    }

    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    pub fn head(&self, ledger: LedgerId) -> Option<&SignedHead> {
        self.heads.get(&ledger)
    }

    /// All heads, in the order of their ledgers.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &SignedHead> {
        self.heads.values()
    }

    /// How this clock stands to `other` in the partial order of [`Self::merge`].
    pub fn compare(&self, other: &Self) -> ClockOrdering {
        if self.root() == other.root() {
            return ClockOrdering::Equal;
        }
        compare_sorted(self.orders(), other.orders())
    }

    fn orders(&self) -> impl Iterator<Item = (LedgerId, (Position, ContentId, PeerId))> + '_ {
        self.heads.iter().map(|(ledger, head)| (*ledger, order_of(&head.head)))
    }

    fn positions(&self) -> impl Iterator<Item = (LedgerId, Position)> + '_ {
        self.heads.iter().map(|(ledger, head)| (*ledger, head.head.position()))
    }

    pub fn summary(&self) -> Summary {
        self.positions().collect()
    }

    /// As [`Self::compare`], with what another clock said of itself. It sees positions, not events: equivocating heads are
    /// equal to it, and only the roots tell them apart.
    pub fn compare_summary(&self, other: &Summary) -> ClockOrdering {
        compare_sorted(self.positions(), other.iter().map(|(ledger, position)| (*ledger, *position)))
    }

    /// The proof that the head of `ledger` stands under [`Self::root`].
    pub fn prove(&self, ledger: LedgerId) -> Option<InclusionProof> {
        let siblings = self.trie.siblings(ledger)?;
        let steps = siblings.into_iter().map(|(depth, sibling)| ProofStep { depth, sibling }).collect();
        Some(InclusionProof { steps })
    }

    /// What stands below each child of `prefix`: the answer to another node's [`super::Descent`].
    pub fn digests(&self, prefix: Prefix) -> Digests {
        let branch = |digit| Some((digit, self.branch(&prefix.child(digit)?)?));
        Digests { prefix, branches: (0..Prefix::CHILDREN).filter_map(branch).collect() }
    }

    pub(super) fn branch(&self, prefix: &Prefix) -> Option<Branch> {
        self.trie.below(prefix).map(|&Node { hash, kind, .. }| match kind {
            Kind::Leaf(ledger) => Branch::Leaf { ledger, hash },
            Kind::Inner { .. } => Branch::Inner { hash },
        })
    }

    pub(super) fn leaves_below(&self, prefix: &Prefix) -> impl Iterator<Item = (LedgerId, Hash)> + '_ {
        self.trie.below(prefix).into_iter().flat_map(|node| self.trie.leaves(node))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::clock::head::tests::{head, key, signed};
    use crate::signature::VerifyError;

    /// A head whose signature nobody looks at, in one of two histories.
    fn unsigned(ledger: u8, count: u64, history: u8) -> SignedHead {
        SignedHead { head: Head { event: ContentId([history; 32]), ..head(ledger, count) }, signature: [history; 64] }
    }

    /// Heads of three ledgers in three positions, with equivocations.
    fn some_heads() -> impl Strategy<Value = Vec<SignedHead>> {
        static POOL: LazyLock<Vec<SignedHead>> = LazyLock::new(|| {
            let heads = (1..=3).flat_map(|ledger| (1..=3).map(move |count| (ledger, count)));
            heads.flat_map(|(ledger, count)| [1, 2].map(|history| unsigned(ledger, count, history))).collect()
        });
        vec(select(POOL.as_slice()), 0..6)
    }

    fn merge_unverified(clock: &mut MerkleClock, heads: &[SignedHead]) -> MergeReport {
        clock.merge_verified_by(|_| Ok(()), heads)
    }

    fn clock_of(heads: &[SignedHead]) -> MerkleClock {
        let mut clock = MerkleClock::default();
        merge_unverified(&mut clock, heads);
        clock
    }

    fn entries(clock: &MerkleClock) -> Vec<SignedHead> {
        clock.entries().copied().collect()
    }

    /// The join of two clocks.
    fn joined(left: &MerkleClock, right: &MerkleClock) -> MerkleClock {
        let mut clock = left.clone();
        merge_unverified(&mut clock, &entries(right));
        clock
    }

    fn assert_same(left: &MerkleClock, right: &MerkleClock) {
        assert_eq!(entries(left), entries(right));
        assert_eq!(left.root(), right.root());
    }

    fn is_at_most(left: &MerkleClock, right: &MerkleClock) -> bool {
        entries(&joined(left, right)) == entries(right)
    }

    #[test]
    fn a_clock_that_forgot_a_head_is_as_one_that_never_had_it() {
        let heads: Vec<SignedHead> = (1..=9).map(|ledger| signed(ledger, 5)).collect();
        let mut clock = clock_of(&heads);
        assert!(!clock.retain(|_| true));
        assert!(clock.retain(|head| head.ledger != heads[3].head.ledger));
        let others: Vec<SignedHead> = heads.iter().filter(|signed| **signed != heads[3]).copied().collect();
        assert_same(&clock, &clock_of(&others));
        merge_unverified(&mut clock, &heads);
        assert_same(&clock, &clock_of(&heads));
    }

    proptest! {
        #[test]
        fn i11_merge_is_idempotent_commutative_associative_and_monotone(
            a in some_heads(), b in some_heads(), c in some_heads(),
        ) {
            let (a, b, c) = (clock_of(&a), clock_of(&b), clock_of(&c));
            assert_same(&joined(&a, &a), &a);
            assert_same(&joined(&a, &b), &joined(&b, &a));
            assert_same(&joined(&joined(&a, &b), &c), &joined(&a, &joined(&b, &c)));
            let ab = joined(&a, &b);
            for (ledger, at) in a.summary() {
                prop_assert!(ab.summary()[&ledger] >= at);
            }
            prop_assert!(matches!(a.compare(&ab), ClockOrdering::Before | ClockOrdering::Equal));
        }

        #[test]
        fn a_merge_of_many_is_the_merges_of_each_in_turn(before in some_heads(), heads in some_heads()) {
            let (mut at_once, mut in_turn) = (clock_of(&before), clock_of(&before));
            merge_unverified(&mut at_once, &heads);
            for head in &heads {
                merge_unverified(&mut in_turn, &[*head]);
            }
            assert_same(&at_once, &in_turn);
        }

        #[test]
        fn compare_is_the_partial_order_of_merge(a in some_heads(), b in some_heads()) {
            let (a, b) = (clock_of(&a), clock_of(&b));
            let expected = match (is_at_most(&a, &b), is_at_most(&b, &a)) {
                (true, true) => ClockOrdering::Equal,
                (true, false) => ClockOrdering::Before,
                (false, true) => ClockOrdering::After,
                (false, false) => ClockOrdering::Concurrent,
            };
            prop_assert_eq!(a.compare(&b), expected);
            prop_assert_eq!(expected == ClockOrdering::Equal, a.root() == b.root());
        }

        #[test]
        fn the_order_and_number_of_deliveries_do_not_show(
            deliveries in some_heads().prop_flat_map(|heads| {
                let twice = [heads.clone(), heads.clone()].concat();
                (Just(heads), Just(twice).prop_shuffle())
            }),
        ) {
            let (once, twice) = deliveries;
            let mut one_by_one = MerkleClock::default();
            for head in twice {
                merge_unverified(&mut one_by_one, &[head]);
            }
            assert_same(&one_by_one, &clock_of(&once));
        }
    }

    #[test]
    fn compare_with_a_summary_agrees_where_nobody_equivocates() {
        let clocks: Vec<_> = [vec![], vec![signed(1, 1)], vec![signed(1, 2)], vec![signed(2, 1)]]
            .iter()
            .map(|heads| clock_of(heads))
            .collect();
        for left in &clocks {
            for right in &clocks {
                assert_eq!(left.compare_summary(&right.summary()), left.compare(right));
            }
        }
        let summary = clocks[1].summary();
        let json = serde_json::to_string(&summary).unwrap();
        assert_eq!(serde_json::from_str::<Summary>(&json).unwrap(), summary);
        assert_eq!(rmp_serde::from_slice::<Summary>(&rmp_serde::to_vec_named(&summary).unwrap()).unwrap(), summary);
    }

    #[test]
    fn a_merge_does_not_tick() {
        let mut clock = clock_of(&[signed(1, 5)]);
        let root = clock.root();
        for heads in [vec![], vec![signed(1, 5)], vec![signed(1, 4)]] {
            assert_eq!(clock.merge(&heads), MergeReport::default());
        }
        assert_eq!(clock.root(), root);
    }

    #[test]
    fn nothing_is_taken_after_a_wrongly_signed_head() {
        let mut clock = clock_of(&[signed(1, 5)]);
        let mut forged = signed(1, 6);
        forged.signature[0] ^= 1;
        let report = clock.merge(&[signed(2, 1), forged, signed(3, 1), forged]);
        let Head { ledger, peer, .. } = forged.head;
        let wrong = VerifyHeadError { ledger, count: 6, why: VerifyError::WrongSignature(peer) };
        assert_eq!(report.refused, vec![(forged.head.ledger, MergeHeadError::Verify(wrong))]);
        assert_eq!(report.advanced, [signed(2, 1).head.ledger]);
        assert_eq!(entries(&clock), [signed(1, 5), signed(2, 1)]);
    }

    #[test]
    fn two_histories_are_reported_with_both_heads_and_all_clocks_keep_the_same_one() {
        let one = signed(1, 1);
        let other = Head { event: ContentId::of(b"another history"), ..one.head }.sign(&key(1));
        let (mut left, mut right) = (clock_of(&[one]), clock_of(&[other]));
        let (from_right, from_left) = (left.merge(&[other]), right.merge(&[one]));
        assert_eq!(from_right.equivocations, [(one, other)]);
        assert_eq!(from_left.equivocations, [(other, one)]);
        assert_same(&left, &right);
        assert_eq!(from_right.advanced.len() + from_left.advanced.len(), 1);
        let both = MerkleClock::default().merge(&[one, other]);
        assert_eq!((both.equivocations.len(), both.advanced.len()), (1, 1));
    }

    #[test]
    fn a_forged_second_history_is_refused_and_accuses_nobody() {
        let mut clock = clock_of(&[signed(1, 1)]);
        let forged = unsigned(1, 1, 9);
        let report = clock.merge(&[forged]);
        assert_eq!((report.refused.len(), report.equivocations.len(), report.advanced.len()), (1, 0, 0));
        assert_eq!(entries(&clock), [signed(1, 1)]);
    }

    #[test]
    fn a_later_tenure_beats_any_generation_and_count() {
        let mut clock = clock_of(&[signed(1, 900)]);
        let mut moved = head(1, 3);
        moved.peer = head(2, 0).peer;
        moved.tenure = 2;
        let moved = moved.sign(&key(2));
        assert_eq!(clock.merge(&[moved]).advanced, [moved.head.ledger]);
        assert_eq!(clock.merge(&[signed(1, 901)]), MergeReport::default());
    }

    #[test]
    fn a_tick_only_goes_forward() {
        let mut clock = MerkleClock::default();
        clock.tick(signed(1, 1)).unwrap();
        clock.tick(signed(1, 3)).unwrap();
        for count in [2, 3] {
            assert!(matches!(clock.tick(signed(1, count)), Err(TickError::NotAhead { .. })));
        }
        assert_eq!(entries(&clock), [signed(1, 3)]);
    }

    #[test]
    fn a_full_clock_takes_news_of_its_ledgers_and_no_other() {
        let template = signed(1, 1);
        let mut clock = clock_of(&[template]);
        for n in 1..PEERS_MAX {
            let mut filler = template;
            filler.head.ledger.0[..8].copy_from_slice(&n.to_be_bytes());
            clock.tick(filler).unwrap();
        }
        assert_eq!(clock.len(), PEERS_MAX);
        assert!(matches!(clock.tick(signed(2, 1)), Err(TickError::Full { .. })));
        let report = clock.merge(&[signed(2, 1), signed(1, 2)]);
        let full = MergeHeadError::Full { ledgers_max: PEERS_MAX };
        assert_eq!(report.refused, [(signed(2, 1).head.ledger, full)]);
        assert_eq!(report.advanced, [signed(1, 2).head.ledger]);
    }
}
