//! Grants of class `memory`, of which no record tells: they are judged as they leave their home.
//!
//! What workers do with them is judged with all others (I5, I17), and so is what clients are shown of them (I4).

use std::collections::{BTreeMap, BTreeSet};

use magpie_core::ids::{Epoch, TaskId};
use magpie_core::invariant::InvariantId;
use magpie_core::lease::Fence;
use magpie_core::queue::Record;
use magpie_core::task::{Durability, TaskSpec};

use super::{Verdict, require};
use crate::book::Book;
use crate::network::Endpoint;

/// What was seen of them, over all homes.
#[derive(Debug, Default)]
pub struct Unwritten {
    newest: BTreeMap<TaskId, Epoch>,
    /// Homes of which no grant waited for the disk when their queue was paused last: what leaves after the pause was
    /// decided after it.
    sure: BTreeSet<Endpoint>,
}

impl Unwritten {
    /// `holds_grants`: whether some wait, for the record that opened the home's generation or behind what waits for others.
    pub fn read(&mut self, node: Endpoint, record: &Record, holds_grants: bool) {
        if matches!(record, Record::QueuePaused { .. }) {
            if holds_grants {
                self.sure.remove(&node)
            } else {
                self.sure.insert(node)
            };
        }
    }

    /// A grant leaves the home of `book`.
    pub fn check(&mut self, node: Endpoint, book: &Book, fence: Fence, spec: &TaskSpec) -> Verdict {
        if spec.durability != Durability::Memory {
            return Ok(());
        }
        self.invariant_epochs_of_memory_tasks_only_grow(book, fence)?;
        self.invariant_a_paused_queue_grants_no_memory_task(node, book, fence, spec)
    }

    /// A grant to who is no node, which may leave again as it was: its first answer may have been lost.
    pub fn check_again(&mut self, node: Endpoint, book: &Book, fence: Fence, spec: &TaskSpec) -> Verdict {
        if self.newest.get(&fence.task) == Some(&fence.epoch) { Ok(()) } else { self.check(node, book, fence, spec) }
    }

    fn invariant_epochs_of_memory_tasks_only_grow(&mut self, book: &Book, fence: Fence) -> Verdict {
        let (task, epoch) = (fence.task, fence.epoch);
        let before = self.newest.insert(task, epoch);
        let grows = before.is_none_or(|before| before < epoch) && epoch.generation() == book.generation;
        require(InvariantId::I2, "epochs_of_memory_tasks_only_grow", grows, || {
            format!("{task} is granted in epoch {epoch} of generation {} after {before:?}", book.generation)
        })
    }

    fn invariant_a_paused_queue_grants_no_memory_task(
        &self,
        node: Endpoint,
        book: &Book,
        fence: Fence,
        spec: &TaskSpec,
    ) -> Verdict {
        let namespace = &spec.namespace;
        let paused = self.sure.contains(&node) && book.queue.is_paused(namespace);
        require(InvariantId::I20, "a_paused_queue_grants_no_memory_task", !paused, || {
            format!("{} of {namespace}, which is paused, is granted", fence.task)
        })
    }
}

#[cfg(test)]
mod tests {
    use magpie_core::ids::{Generation, LedgerTag, LogIndex, OperationId};
    use magpie_core::task::TaskKind;
    use magpie_core::time::Wall;

    use super::*;

    const TAG: LedgerTag = LedgerTag([1; 5]);

    fn checked(unwritten: &mut Unwritten, book: &Book, n: u32) -> Verdict {
        let fence =
            Fence { task: TaskId::derive(TAG, 1, OperationId([1; 16]), 0), epoch: Epoch((1 << 32) + u64::from(n)) };
        let spec = TaskSpec { durability: Durability::Memory, ..TaskSpec::new(TaskKind::Noop) };
        unwritten.check(0, book, fence, &spec)
    }

    fn opened() -> Book {
        let mut book = Book::new(TAG);
        book.read(Record::Opened { at: Wall(1), generation: Generation(1) });
        book
    }

    #[test]
    fn i2_an_epoch_that_is_granted_twice_is_seen() {
        let (mut unwritten, book) = (Unwritten::default(), opened());
        assert_eq!([1, 2].map(|n| checked(&mut unwritten, &book, n).is_ok()), [true, true]);
        assert_eq!(checked(&mut unwritten, &book, 2).unwrap_err().id, InvariantId::I2);
    }

    #[test]
    fn i20_a_grant_of_a_paused_queue_is_seen_unless_it_may_be_older_than_the_pause() {
        let (mut unwritten, mut book) = (Unwritten::default(), opened());
        let operation = OperationId([2; 16]);
        let record = Record::QueuePaused { at: Wall(2), operation, namespace: None, reason: String::new() };
        unwritten.read(0, &record, true);
        book.read(record.clone());
        assert!(checked(&mut unwritten, &book, 1).is_ok());
        unwritten.read(0, &record, false);
        assert_eq!(checked(&mut unwritten, &book, 2).unwrap_err().id, InvariantId::I20);
        assert_eq!(book.opened, LogIndex(1));
    }
}
