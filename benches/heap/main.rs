//! The heap of ready tasks, a pairing heap, beside a binary, a Fibonacci and an indexed heap, with a million tasks in each.
//!
//! `cargo bench --profile dist --bench heap`; `TASKS=1000000` by default. The mix is a home's: tasks come with keys that grow with time, the least leaves, some are
//! cancelled, some are made more urgent. A row says what one operation costs on average and at the 99th percentile; the
//! work that a pop finds left over from insertions is in them, and the worst is shown beside. Prints one JSON object a row.

mod binary;
mod fibonacci;
mod indexed;

use std::hint::black_box;
use std::time::Instant;

use magpie_core::heap::{Aging, AgingKey, Handle, PairingHeap};
use magpie_core::task::Priority;
use magpie_core::time::Wall;

const SEED: u64 = 7;
/// Of a thousand tasks that come, so many are cancelled, and so many are made more urgent.
const CANCELLED_PER_MILLE: u64 = 50;
const URGED_PER_MILLE: u64 = 10;

/// What a home asks of its ready tasks. Equal keys leave in the order in which they came.
pub trait ReadyHeap: Default {
    type Handle: Copy;
    fn push(&mut self, key: AgingKey, task: u32) -> Self::Handle;
    fn pop(&mut self) -> Option<u32>;
    fn remove(&mut self, handle: Self::Handle);
    fn decrease(&mut self, handle: Self::Handle, key: AgingKey);
}

impl ReadyHeap for PairingHeap<AgingKey, u32> {
    type Handle = Handle;

    fn push(&mut self, key: AgingKey, task: u32) -> Handle {
        self.insert(key, task)
    }

    fn pop(&mut self) -> Option<u32> {
        Self::pop(self).map(|(_, task)| task)
    }

    fn remove(&mut self, handle: Handle) {
        Self::remove(self, handle);
    }

    fn decrease(&mut self, handle: Handle, key: AgingKey) {
        // A key that would be greater stays: the mix draws lesser ones.
        let _ = self.decrease_key(handle, key);
    }
}

fn main() {
    let tasks: usize = std::env::var("TASKS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let order = [
        measure::<PairingHeap<AgingKey, u32>>("pairing", tasks),
        measure::<binary::BinaryTaskHeap>("binary", tasks),
        measure::<fibonacci::FibonacciHeap<AgingKey, u32>>("fibonacci", tasks),
        measure::<indexed::IndexedHeap>("indexed", tasks),
    ];
    assert!(order.iter().all(|sum| *sum == order[0]), "the heaps disagree on the order: {order:?}");
}

/// What one kind of operation took, each time.
#[derive(Default)]
struct Costs(Vec<u32>);

impl Costs {
    fn time<T>(&mut self, operation: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let result = black_box(operation());
        self.0.push(u32::try_from(begin.elapsed().as_nanos()).unwrap_or(u32::MAX));
        result
    }

    fn print(mut self, heap: &str, operation: &str, tasks: usize) {
        self.0.sort_unstable();
        let mean = self.0.iter().map(|nanos| f64::from(*nanos)).sum::<f64>() / self.0.len() as f64;
        let (p99, worst) = (self.0[self.0.len() * 99 / 100], self.0[self.0.len() - 1]);
        println!(
            r#"{{"bench":"heap","heap":"{heap}","operation":"{operation}","tasks":{tasks},"seed":{SEED},"mean_ns":{mean:.0},"p99_ns":{p99},"worst_us":{:.1}}}"#,
            f64::from(worst) / 1e3
        );
    }
}

/// Fills one heap with `tasks`, works with it for as many steps and empties it. The answer tells the order in which the tasks left.
fn measure<H: ReadyHeap>(name: &str, tasks: usize) -> u64 {
    let (mut heap, mut draw, mut now_ms) = (H::default(), Draw(SEED), 1_795_230_000_000);
    let aging = Aging::default();
    let (mut pushes, mut pops, mut removals, mut decreases) =
        (Costs::default(), Costs::default(), Costs::default(), Costs::default());
    let mut next_key = |draw: &mut Draw| {
        now_ms += draw.below(3);
        aging.key(Priority::try_from(draw.below(1_001) as u16).unwrap_or_default(), Wall(now_ms))
    };
    // The newest handle of each task that may still be there.
    let mut handles: Vec<Option<H::Handle>> = Vec::with_capacity(2 * tasks);
    for task in 0..tasks {
        let key = next_key(&mut draw);
        handles.push(Some(pushes.time(|| heap.push(key, task as u32))));
    }
    let mut order = 0xcbf2_9ce4_8422_2325_u64;
    for task in tasks..2 * tasks {
        let key = next_key(&mut draw);
        handles.push(Some(pushes.time(|| heap.push(key, task as u32))));
        let chance = draw.below(1_000);
        let chosen = draw.below(handles.len() as u64) as usize;
        if chance < CANCELLED_PER_MILLE
            && let Some(handle) = handles[chosen].take()
        {
            removals.time(|| heap.remove(handle));
        } else if chance < CANCELLED_PER_MILLE + URGED_PER_MILLE
            && let Some(handle) = handles[chosen]
        {
            // Below every key that was drawn so far, and no two alike.
            decreases.time(|| heap.decrease(handle, AgingKey(-(task as i64))));
        } else if let Some(left) = pops.time(|| heap.pop()) {
            handles[left as usize] = None;
            order = (order ^ u64::from(left)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    while let Some(left) = pops.time(|| heap.pop()) {
        order = (order ^ u64::from(left)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    pushes.print(name, "push", tasks);
    pops.print(name, "pop", tasks);
    removals.print(name, "remove", tasks);
    decreases.print(name, "decrease", tasks);
    order
}

/// SplitMix64: the same tasks for each heap.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        ((u128::from(mixed) * u128::from(bound)) >> 64) as u64
    }
}
