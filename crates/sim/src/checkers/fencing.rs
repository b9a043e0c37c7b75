//! I3: what presents another (epoch, token) than the recorded one changes nothing.

use magpie_core::ids::{Epoch, LeaseToken, TaskId};
use magpie_core::invariant::InvariantId;
use magpie_core::lease::Fence;
use magpie_core::queue::{LedgerRequest, Record};

use super::{Verdict, require};
use crate::book::Book;

/// The fences with their tokens that a request presents.
pub fn presented(request: &LedgerRequest) -> Vec<(Fence, LeaseToken)> {
    match request {
        LedgerRequest::Renew(renewals) => renewals.iter().map(|renewal| (renewal.fence, renewal.token)).collect(),
        LedgerRequest::Complete(completions) => {
            completions.iter().map(|completion| (completion.fence, completion.token)).collect()
        }
        LedgerRequest::Release(releases) => releases.iter().map(|release| (release.fence, release.token)).collect(),
        _ => Vec::new(),
    }
}

/// The fences that a record of the home's answer to such a request changed.
fn changed(record: &Record) -> Vec<Fence> {
    match record {
        Record::Completed { results, .. } => results.iter().map(|result| result.fence).collect(),
        Record::Released { releases, .. } => releases.iter().map(|release| release.fence).collect(),
        Record::Started { fences, .. } | Record::Revived { fences, .. } => fences.clone(),
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
