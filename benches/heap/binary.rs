//! The standard library's heap. It cannot find an element again, so what left or moved is skipped when it comes up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use magpie_core::heap::AgingKey;

use super::ReadyHeap;

#[derive(Default)]
pub struct BinaryTaskHeap {
    heap: BinaryHeap<Reverse<(AgingKey, u64, u32)>>,
    /// The key under which the element with this sequence number stands, if it is there.
    current: Vec<Option<AgingKey>>,
    tasks: Vec<u32>,
}

impl ReadyHeap for BinaryTaskHeap {
    type Handle = u64;

    fn push(&mut self, key: AgingKey, task: u32) -> u64 {
        let sequence = self.current.len() as u64;
        self.current.push(Some(key));
        self.tasks.push(task);
        self.heap.push(Reverse((key, sequence, task)));
        sequence
    }

    fn pop(&mut self) -> Option<u32> {
        while let Some(Reverse((key, sequence, task))) = self.heap.pop() {
            let current = &mut self.current[sequence as usize];
            if *current == Some(key) {
                *current = None;
                return Some(task);
            }
        }
        None
    }

    fn remove(&mut self, sequence: u64) {
        self.current[sequence as usize] = None;
    }

    fn decrease(&mut self, sequence: u64, key: AgingKey) {
        if self.current[sequence as usize].is_some_and(|held| key <= held) {
            self.current[sequence as usize] = Some(key);
            self.heap.push(Reverse((key, sequence, self.tasks[sequence as usize])));
        }
    }
}
