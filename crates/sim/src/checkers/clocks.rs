//! I11: a merge keeps the greater head of each ledger. So twice is once, the order does not matter, nothing goes back, nothing ticks.

use std::collections::BTreeMap;

use magpie_core::clock::{MerkleClock, Position, SignedHead};
use magpie_core::ids::{ContentId, LedgerId, PeerId};
use magpie_core::invariant::InvariantId;

use super::{Verdict, require};

type Heads = BTreeMap<LedgerId, (Position, ContentId, PeerId)>;

fn greatest<'a>(heads: impl Iterator<Item = &'a SignedHead>) -> Heads {
    let mut greatest = Heads::new();
    for SignedHead { head, .. } in heads {
        let order = (head.position(), head.event, head.peer);
        greatest.entry(head.ledger).and_modify(|held| *held = order.max(*held)).or_insert(order);
    }
    greatest
}

/// The simulator's heads have no signatures: what these cost is not the question here.
pub fn merge(clock: &mut MerkleClock, heads: &[SignedHead]) -> bool {
    let advanced = clock.merge_verified_by(|_| Ok(()), heads).advanced;
    !advanced.is_empty()
}

/// `after` is what `before` became when `presented` was merged into it.
pub fn invariant_a_merge_keeps_the_greater_head_of_each_ledger(
    before: &MerkleClock,
    presented: &[SignedHead],
    after: &MerkleClock,
) -> Verdict {
    const NAME: &str = "a_merge_keeps_the_greater_head_of_each_ledger";
    let (wanted, held) = (greatest(before.entries().chain(presented)), greatest(after.entries()));
    require(InvariantId::I11, NAME, wanted == held, || format!("{wanted:?} are wanted, {held:?} held"))?;
    let mut again = after.clone();
    let changed = merge(&mut again, presented);
    require(InvariantId::I11, NAME, !changed, || format!("the same heads again change {held:?}"))?;
    let mut other_way = MerkleClock::default();
    merge(&mut other_way, presented);
    merge(&mut other_way, &before.entries().copied().collect::<Vec<_>>());
    let roots = (other_way.root(), after.root());
    require(InvariantId::I11, NAME, roots.0 == roots.1, || format!("the order of two merges tells: {roots:?}"))
}

/// What a home published was on its disk, and none of it goes.
pub fn invariant_a_home_goes_on_from_what_it_published(held: Option<Position>, published: Position) -> Verdict {
    const NAME: &str = "a_home_goes_on_from_what_it_published";
    require(InvariantId::I10, NAME, held.is_none_or(|held| held <= published), || {
        format!("{published:?} is published, and others hold {held:?}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use magpie_core::clock::Head;
    use magpie_core::ids::Generation;

    fn head(ledger: u8, count: u64) -> SignedHead {
        let (ledger, peer, event) = (LedgerId([ledger; 16]), PeerId([ledger; 32]), ContentId::of(&count.to_be_bytes()));
        let head = Head { ledger, peer, tenure: 1, generation: Generation(1), count, event };
        SignedHead { head, signature: [0; 64] }
    }

    fn clock(heads: &[SignedHead]) -> MerkleClock {
        let mut clock = MerkleClock::default();
        merge(&mut clock, heads);
        clock
    }

    #[test]
    fn i11_a_merge_that_loses_a_head_or_takes_an_older_one_is_seen() {
        let before = clock(&[head(1, 5), head(2, 3)]);
        let presented = [head(1, 4), head(2, 7), head(3, 1)];
        let seen = |after: &[SignedHead]| {
            invariant_a_merge_keeps_the_greater_head_of_each_ledger(&before, &presented, &clock(after))
        };
        assert_eq!(seen(&[head(1, 5), head(2, 7), head(3, 1)]), Ok(()));
        for wrong in [
            [head(1, 4), head(2, 7), head(3, 1)].as_slice(),
            &[head(1, 5), head(2, 3), head(3, 1)],
            &[head(1, 5), head(2, 7)],
            &[head(1, 6), head(2, 7), head(3, 1)],
        ] {
            assert_eq!(seen(wrong).unwrap_err().id, InvariantId::I11, "{wrong:?}");
        }
    }

    #[test]
    fn i10_a_home_that_fell_behind_what_it_published_is_seen() {
        let at = |count| head(1, count).head.position();
        assert_eq!(invariant_a_home_goes_on_from_what_it_published(None, at(1)), Ok(()));
        assert_eq!(invariant_a_home_goes_on_from_what_it_published(Some(at(4)), at(4)), Ok(()));
        let behind = invariant_a_home_goes_on_from_what_it_published(Some(at(4)), at(3));
        assert_eq!(behind.unwrap_err().id, InvariantId::I10);
    }
}
