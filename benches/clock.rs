//! The Merkle clock of a thousand ledgers: what one tick, one merge of a whole clock, and the root cost, in CPU time: a virtual
//! machine's host takes its cores away at any moment.
//!
//! `cargo bench --profile dist --bench clock`. A tick is this home's own head; a merge takes a thousand heads that are newer, their
//! signatures checked; a merge of known heads is what two nodes do that differ in little, and one signature check most of it. Prints one
//! JSON object.

use std::hint::black_box;
use std::time::Duration;

use magpie_core::clock::{Head, MerkleClock, SignedHead};
use magpie_core::ids::{ContentId, Generation, LedgerId};
use magpie_net::NodeKey;
use rustix::time::{ClockId, clock_gettime};

const LEDGERS: u32 = 1_000;
const ROUNDS: u64 = 1_000;
const ONE_NEWER: u64 = 500;
const ALL_NEWER: u64 = 20;

fn main() {
    let keys: Vec<NodeKey> = (0..LEDGERS).map(|n| NodeKey::from_seed(ContentId::of(&n.to_be_bytes()).0)).collect();
    let heads = |count| -> Vec<SignedHead> { (0..LEDGERS).map(|ledger| head(&keys, ledger, count)).collect() };
    let mut clock = MerkleClock::default();
    clock.merge(&heads(1));
    let ticks: Vec<SignedHead> = (2..2 + ROUNDS).map(|count| head(&keys, 0, count)).collect();
    let tick =
        mean_us(ROUNDS, || ticks.iter().for_each(|tick| clock.tick(*tick).expect("each is newer than the last")));
    let root = mean_us(ROUNDS, || {
        (0..ROUNDS).for_each(|_| {
            black_box(clock.root());
        })
    });
    let known = heads(1);
    let newer: Vec<SignedHead> = (0..ONE_NEWER).map(|n| head(&keys, 1 + n as u32, 2 + ROUNDS)).collect();
    let mut merge_one = 0.0;
    for (n, newer) in newer.into_iter().enumerate() {
        // Just written, as a clock that was just read from a frame.
        let mut heads = known.clone();
        heads[1 + n] = newer;
        merge_one += mean_us(ONE_NEWER, || drop(clock.merge(black_box(&heads))));
    }
    let checked = mean_us(ROUNDS, || ticks.iter().for_each(|head| head.verify().expect("it is signed")));
    let all_newer: Vec<Vec<SignedHead>> = (0..ALL_NEWER).map(|n| heads(10_000 + n)).collect();
    let merge_all = mean_us(ALL_NEWER, || all_newer.iter().for_each(|heads| drop(clock.merge(heads))));
    println!(
        r#"{{"bench":"clock","ledgers":{LEDGERS},"tick_us":{tick:.2},"root_us":{root:.2},"check_us":{checked:.1},"merge_one_newer_us":{merge_one:.1},"merge_all_newer_us":{merge_all:.1}}}"#
    );
}

fn head(keys: &[NodeKey], ledger: u32, count: u64) -> SignedHead {
    let key = &keys[ledger as usize];
    let mut id = [0; 16];
    id[..4].copy_from_slice(&ledger.to_be_bytes());
    let head = Head {
        ledger: LedgerId(id),
        peer: key.peer_id(),
        tenure: 1,
        generation: Generation(1),
        count,
        event: ContentId::of(&count.to_be_bytes()),
    };
    head.sign(&key.signing_key())
}

/// What one of `times` took of this thread, in microseconds.
fn mean_us(times: u64, work: impl FnOnce()) -> f64 {
    let began = used();
    work();
    (used() - began).as_secs_f64() * 1e6 / times as f64
}

fn used() -> Duration {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}
