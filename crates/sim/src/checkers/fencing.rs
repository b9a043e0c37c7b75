//! I3: what presents another (epoch, token) than the recorded one changes nothing.

use magpie_core::ids::{Epoch, LeaseToken, TaskId};
use magpie_core::invariant::InvariantId;
use magpie_core::lease::Fence;
use magpie_core::queue::{Hold, LedgerRequest, OutsideRequest, Record};

use super::{Verdict, require};
use crate::book::Book;

/// The fences with their tokens that a request of `owner` presents.
pub fn presented(book: &Book, owner: &str, request: &LedgerRequest) -> Vec<(Fence, LeaseToken)> {
    match request {
        LedgerRequest::Renew(renewals) => renewals.iter().map(|renewal| (renewal.fence, renewal.token)).collect(),
        LedgerRequest::Complete(completions) => {
            completions.iter().map(|completion| (completion.fence, completion.token)).collect()
        }
        LedgerRequest::Release(releases) => releases.iter().map(|release| (release.fence, release.token)).collect(),
        LedgerRequest::Outside(OutsideRequest::End { worker, task, lease, .. }) => {
            vec![presented_outside(book, &format!("{owner}/{worker}"), *task, *lease)]
        }
        LedgerRequest::Outside(OutsideRequest::Keep { worker, holds }) => {
            let name = format!("{owner}/{worker}");
            let shown = |hold: &Hold| presented_outside(book, &name, hold.task, hold.lease);
            if holds.is_empty() { all_of(book, &name) } else { holds.iter().map(shown).collect() }
        }
        _ => Vec::new(),
    }
}

/// Who is no node may show no lease, if the first attempt of the task is its own, or an outcome is there to compare with.
fn presented_outside(book: &Book, name: &str, task: TaskId, lease: Option<(Epoch, LeaseToken)>) -> (Fence, LeaseToken) {
    let newest = book.tasks.get(&task).and_then(|facts| Some((facts, facts.newest()?)));
    let by_name =
        newest.filter(|(facts, newest)| newest.outcome.is_some() || facts.is_of_outside(name) && facts.attempts() == 1);
    let (epoch, token) =
        lease.or(by_name.map(|(_, newest)| (newest.epoch, newest.token))).unwrap_or((Epoch(0), LeaseToken([0; 16])));
    (Fence { task, epoch }, token)
}

/// All that a worker that is no node has.
fn all_of(book: &Book, name: &str) -> Vec<(Fence, LeaseToken)> {
    let of_it = book.tasks.iter().filter(|(_, facts)| facts.is_of_outside(name));
    let newest = of_it.filter_map(|(task, facts)| Some((*task, facts.newest()?)));
    newest.map(|(task, newest)| (Fence { task, epoch: newest.epoch }, newest.token)).collect()
}

/// The fences that a record of the home's answer to such a request changed.
fn changed(record: &Record) -> Vec<Fence> {
    match record {
        Record::Completed { results, .. } => results.iter().map(|result| result.fence).collect(),
        Record::Released { releases, .. } => releases.iter().map(|release| release.fence).collect(),
        Record::Started { fences, .. } | Record::Revived { fences, .. } | Record::AttemptsStopped { fences, .. } => {
            fences.clone()
        }
        _ => Vec::new(),
    }
}

/// `presented` is what the request under way presents; `book` is as it was before the record.
pub fn invariant_a_stale_fence_changes_nothing(
    book: &Book,
    record: &Record,
    presented: &[(Fence, LeaseToken)],
) -> Verdict {
    for fence in changed(record) {
        let recorded: Option<(Epoch, LeaseToken)> =
            book.tasks.get(&fence.task).and_then(|facts| facts.newest()).map(|newest| (newest.epoch, newest.token));
        let by_right = recorded.is_some_and(|(epoch, token)| {
            presented.iter().any(|(shown, shown_token)| {
                *shown == Fence { task: fence.task, epoch } && fence.epoch == epoch && *shown_token == token
            })
        });
        require(InvariantId::I3, "a_stale_fence_changes_nothing", by_right, || {
            let shown: Vec<_> = presented.iter().filter(|(shown, _)| same_task(shown, fence.task)).collect();
            format!(
                "{} of {} in epoch {} rests on {shown:?}; recorded is {recorded:?}",
                record.kind(),
                fence.task,
                fence.epoch
            )
        })?;
    }
    Ok(())
}

fn same_task(fence: &Fence, task: TaskId) -> bool {
    fence.task == task
}
