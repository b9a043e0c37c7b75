//! I21: an idempotency key names one task of its home and namespace, whoever submits it how often.

use std::collections::BTreeMap;

use magpie_core::ids::TaskId;
use magpie_core::invariant::InvariantId;
use magpie_core::queue::{LedgerRequest, Record, SubmitAnswer};

use super::{Verdict, require};
use crate::book::Book;
use crate::network::Endpoint;
use crate::queue_book::{KeyName, key_of};

/// `book` is as it was before the record.
pub fn invariant_a_key_is_given_to_one_task(book: &Book, record: &Record) -> Verdict {
    let Record::Submitted { items, .. } = record else { return Ok(()) };
    for key in items.iter().filter_map(|item| key_of(&item.spec)) {
        let before = book.queue.keys.get(&key);
        require(InvariantId::I21, "a_key_is_given_to_one_task", before.is_none(), || {
            format!("{key:?} belongs to {before:?}, and another task is submitted under it")
        })?;
    }
    Ok(())
}

/// The task that clients were told of for each key.
#[derive(Debug, Default)]
pub struct Named {
    tasks: BTreeMap<(Endpoint, KeyName), TaskId>,
}

impl Named {
    /// A home answered a submission; `is_lost` tells of a task whether its class allows that a crash took it.
    pub fn invariant_a_key_names_one_task(
        &mut self,
        home: Endpoint,
        request: &LedgerRequest,
        answers: &[SubmitAnswer],
        is_lost: impl Fn(&TaskId) -> bool,
    ) -> Verdict {
        let LedgerRequest::Submit { items, .. } = request else { return Ok(()) };
        let each = items.iter().flat_map(|item| (0..item.count).map(move |_| item));
        for (item, answer) in each.zip(answers) {
            let (Some(key), SubmitAnswer::Accepted { id }) = (key_of(&item.spec), answer) else { continue };
            let first = *self
                .tasks
                .entry((home, key.clone()))
                .and_modify(|first| {
                    if is_lost(first) {
                        *first = *id;
                    }
                })
                .or_insert(*id);
            require(InvariantId::I21, "a_key_names_one_task", first == *id || is_lost(id), || {
                format!("{key:?} of home {home} named {first}, and now {id}")
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use magpie_core::ids::{LedgerTag, OperationId};
    use magpie_core::queue::SubmitItem;
    use magpie_core::task::{TaskKind, TaskSpec};

    #[test]
    fn i21_a_second_task_under_a_key_is_seen_unless_the_first_was_lost() {
        let spec = TaskSpec { idempotency_key: Some("k".to_owned()), ..TaskSpec::new(TaskKind::Noop) };
        let request = LedgerRequest::Submit { operation: OperationId([1; 16]), items: vec![SubmitItem::one(spec)] };
        let answer = |ulid| [SubmitAnswer::Accepted { id: TaskId { ulid, ledger: LedgerTag([0; 5]) } }];
        let mut named = Named::default();
        let mut told =
            |home, ulid, lost| named.invariant_a_key_names_one_task(home, &request, &answer(ulid), |_| lost).is_ok();
        assert!(told(0, 1, false) && told(0, 1, false) && told(1, 2, false));
        assert!(!told(0, 3, false));
        assert!(told(0, 3, true));
    }
}
