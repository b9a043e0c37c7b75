//! A binary heap that knows where each element stands.

use magpie_core::heap::AgingKey;

use super::ReadyHeap;

const GONE: usize = usize::MAX;

#[derive(Default)]
pub struct IndexedHeap {
    /// Key, sequence number, task.
    heap: Vec<(AgingKey, u64, u32)>,
    /// Where the element with this sequence number stands.
    places: Vec<usize>,
}

impl IndexedHeap {
    fn swap(&mut self, left: usize, right: usize) {
        self.heap.swap(left, right);
        self.places[self.heap[left].1 as usize] = left;
        self.places[self.heap[right].1 as usize] = right;
    }

    fn rise(&mut self, mut place: usize) {
        while place > 0 && self.heap[place] < self.heap[(place - 1) / 2] {
            self.swap(place, (place - 1) / 2);
            place = (place - 1) / 2;
        }
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let children = [2 * place + 1, 2 * place + 2].into_iter().filter(|child| *child < self.heap.len());
            let Some(least) = children.min_by_key(|child| self.heap[*child]) else { return };
            if self.heap[place] <= self.heap[least] {
                return;
            }
            self.swap(place, least);
            place = least;
        }
    }

    fn take(&mut self, place: usize) -> u32 {
        let last = self.heap.len() - 1;
        self.swap(place, last);
        let (_, sequence, task) = self.heap.swap_remove(last);
        self.places[sequence as usize] = GONE;
        if place < self.heap.len() {
            self.rise(place);
            self.sink(place);
        }
        task
    }
}

impl ReadyHeap for IndexedHeap {
    type Handle = u64;

    fn push(&mut self, key: AgingKey, task: u32) -> u64 {
        let (sequence, place) = (self.places.len() as u64, self.heap.len());
        self.heap.push((key, sequence, task));
        self.places.push(place);
        self.rise(place);
        sequence
    }

    fn pop(&mut self) -> Option<u32> {
        (!self.heap.is_empty()).then(|| self.take(0))
    }

    fn remove(&mut self, sequence: u64) {
        let place = self.places[sequence as usize];
        if place != GONE {
            self.take(place);
        }
    }

    fn decrease(&mut self, sequence: u64, key: AgingKey) {
        let place = self.places[sequence as usize];
        if place != GONE && key <= self.heap[place].0 {
            self.heap[place].0 = key;
            self.rise(place);
        }
    }
}
