//! Which peer a task goes to first, and how much an idle peer takes: both steer, neither decides ownership.

use sha2::{Digest, Sha256};

use crate::ids::PeerId;
use crate::limits;

/// A peer's fixed point among all 256-bit strings: sha256 of its id. Computed once per peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beacon([u64; 4]);

/// A task's point: sha256 of the clock root stamped into its record, then its hash. Computed once per task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target([u64; 4]);

impl Beacon {
    pub fn of(peer: &PeerId) -> Self {
        Self(words(Sha256::digest(peer.0).into()))
    }
}

impl Target {
    pub fn of(clock_root: &[u8; 32], task_hash: &[u8; 32]) -> Self {
        let mut hash = Sha256::new();
        hash.update(clock_root);
        hash.update(task_hash);
        Self(words(hash.finalize().into()))
    }

    /// The bits in which a peer's point differs from the task's: 0 to 256, less is preferred.
    pub fn distance(&self, beacon: &Beacon) -> u32 {
        self.0.iter().zip(beacon.0).map(|(mine, theirs)| (mine ^ theirs).count_ones()).sum()
    }

    /// The peer at the least distance, of equals the one with the least id; whatever the order of `peers`.
    pub fn nearest<'a>(&self, peers: impl IntoIterator<Item = (&'a PeerId, &'a Beacon)>) -> Option<PeerId> {
        let ranked = peers.into_iter().map(|(peer, beacon)| (self.distance(beacon), *peer));
        ranked.min().map(|(_, peer)| peer)
    }
}

fn words(digest: [u8; 32]) -> [u64; 4] {
    let (chunks, _) = digest.as_chunks::<8>();
    std::array::from_fn(|place| u64::from_be_bytes(chunks[place]))
}

/// `hamming(sha256(clock_root || task_hash), sha256(peer))`: less is preferred.
pub fn preference(clock_root: &[u8; 32], task_hash: &[u8; 32], peer: &PeerId) -> u32 {
    Target::of(clock_root, task_hash).distance(&Beacon::of(peer))
}

/// The peer with the least [`preference`], of equals the one with the least id; whatever the order of `peers`.
pub fn preferred<'a>(
    clock_root: &[u8; 32],
    task_hash: &[u8; 32],
    peers: impl IntoIterator<Item = &'a PeerId>,
) -> Option<PeerId> {
    let target = Target::of(clock_root, task_hash);
    let ranked = peers.into_iter().map(|peer| (target.distance(&Beacon::of(peer)), *peer));
    ranked.min().map(|(_, peer)| peer)
}

/// Time to bring blobs of so many bytes to a peer, by what links between nodes do at least.
pub fn transfer_us(bytes: u64) -> u64 {
    limits::PEER_LATENCY_US + bytes.saturating_mul(1_000_000) / limits::PEER_BYTES_PER_S
}

/// Time until a home with so many slots has run a backlog of tasks that take `run_us` each; 0 without a backlog.
pub fn home_wait_us(backlog: u64, run_us: u64, slots: u32) -> u64 {
    // The task itself is one of them, and does not wait for itself.
    backlog.saturating_sub(1).saturating_mul(run_us) / u64::from(slots.max(1))
}

/// How many of a home's tasks an idle peer is granted at once, within its credit: half of those it could run, rounded up.
pub fn half_of(eligible: usize) -> usize {
    eligible.div_ceil(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use crate::ids::{LedgerTag, OperationId, TaskId};

    /// The definition, bit by bit.
    fn preference_by_definition(clock_root: &[u8; 32], task_hash: &[u8; 32], peer: &PeerId) -> u32 {
        let target: [u8; 32] = Sha256::digest([&clock_root[..], &task_hash[..]].concat()).into();
        let beacon: [u8; 32] = Sha256::digest(peer.0).into();
        let bit = |bytes: &[u8; 32], place: usize| bytes[place / 8] >> (place % 8) & 1;
        (0..256).map(|place| u32::from(bit(&target, place) != bit(&beacon, place))).sum()
    }

    fn peer(seed: u8) -> PeerId {
        PeerId(Sha256::digest([seed]).into())
    }

    proptest! {
        #[test]
        fn preference_is_the_hamming_distance_of_the_two_digests(root: [u8; 32], task: [u8; 32], key: [u8; 32]) {
            let peer = PeerId(key);
            prop_assert_eq!(preference(&root, &task, &peer), preference_by_definition(&root, &task, &peer));
        }

        #[test]
        fn everyone_prefers_the_same_peer_whatever_the_order(
            root: [u8; 32], task: [u8; 32], keys in proptest::collection::vec(any::<[u8; 32]>(), 0..12), turn in 0usize..12,
        ) {
            let peers: Vec<PeerId> = keys.into_iter().map(PeerId).collect();
            let found = preferred(&root, &task, &peers);
            let mut other_order = peers.clone();
            other_order.reverse();
            other_order.rotate_left(turn.min(peers.len()));
            prop_assert_eq!(found, preferred(&root, &task, &other_order));

            let least = peers.iter().map(|peer| (preference(&root, &task, peer), *peer)).min();
            prop_assert_eq!(found, least.map(|(_, peer)| peer));
            let beacons: Vec<Beacon> = peers.iter().map(Beacon::of).collect();
            prop_assert_eq!(found, Target::of(&root, &task).nearest(peers.iter().zip(&beacons)));
        }

    }

    #[test]
    fn equal_distances_go_to_the_least_peer_id() {
        let (a, b) = (peer(1), peer(2));
        let target = Target::of(&[0; 32], &[0; 32]);
        let same = Beacon::of(&a);
        assert_eq!(target.nearest([(&a, &same), (&b, &same)]), Some(a.min(b)));
        assert_eq!(target.nearest([(&b, &same), (&a, &same)]), Some(a.min(b)));
    }

    #[test]
    fn what_is_heavy_waits_at_home_until_the_wait_is_longer_than_the_way() {
        let gigabyte = 1 << 30;
        assert!(transfer_us(gigabyte) > home_wait_us(10, 1_000_000, 2));
        assert!(transfer_us(gigabyte) < home_wait_us(1_000, 1_000_000, 2));
        assert_eq!(home_wait_us(1, 1_000_000, 2), 0, "nothing is before it");
        assert!(home_wait_us(u64::MAX, u64::MAX, 0) > transfer_us(u64::MAX));
    }

    #[test]
    fn half_of_the_eligible_rounds_up() {
        for (eligible, share) in [(0, 0), (1, 1), (5, 3), (100, 50)] {
            assert_eq!(half_of(eligible), share, "{eligible} eligible");
        }
    }

    #[test]
    fn ten_thousand_tasks_spread_over_five_peers() {
        let peers: Vec<PeerId> = (0..5).map(peer).collect();
        let beacons: Vec<Beacon> = peers.iter().map(Beacon::of).collect();
        let mut tasks = [0; 5];
        for n in 0..10_000 {
            let task = TaskId::derive(LedgerTag([7; 5]), 1_000, OperationId([3; 16]), n);
            let nearest = Target::of(&[9; 32], &task.hash()).nearest(peers.iter().zip(&beacons)).unwrap();
            tasks[peers.iter().position(|peer| *peer == nearest).unwrap()] += 1;
        }
        assert!(tasks.iter().all(|count| *count >= 1_000), "{tasks:?}");
    }
}
