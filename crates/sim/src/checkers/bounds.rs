//! I13: what leaves a node is no longer than its limit. What stays inside, the cores check after every event.

use magpie_core::invariant::InvariantId;
use magpie_core::limits;
use magpie_core::queue::{LedgerReply, LedgerRequest, WorkerNotice};

use super::{Verdict, require};
use crate::network::Message;

pub fn invariant_a_message_stays_within_its_limits(message: &Message) -> Verdict {
    let (len, len_max, what) = match message {
        Message::Request { request, .. } => match request {
            LedgerRequest::Submit { items, .. } => {
                (items.iter().map(|item| item.count as usize).sum(), limits::SUBMIT_LEN_MAX, "tasks submitted")
            }
            LedgerRequest::Renew(renewals) => (renewals.len(), limits::BATCH_LEN_MAX, "renewals"),
            LedgerRequest::Complete(completions) => (completions.len(), limits::BATCH_LEN_MAX, "outcomes"),
            LedgerRequest::Release(releases) => (releases.len(), limits::BATCH_LEN_MAX, "releases"),
            _ => return Ok(()),
        },
        Message::Reply { reply, .. } => match reply {
            LedgerReply::Tasks { items, .. } => (items.len(), limits::LIST_LEN_MAX, "tasks listed"),
            LedgerReply::Workflows { items, .. } => (items.len(), limits::LIST_LEN_MAX, "workflows listed"),
            LedgerReply::Task(view) => (view.earlier_errors.len(), limits::ERRORS_KEPT_MAX, "errors of a task"),
            _ => return Ok(()),
        },
        Message::Notice { notice: WorkerNotice::Grants(grants), .. } => (grants.len(), limits::BATCH_LEN_MAX, "grants"),
        Message::Notice { .. } => return Ok(()),
        Message::Heartbeat(heartbeat) => (heartbeat.reports.len(), limits::PEERS_MAX, "reports"),
    };
    require(InvariantId::I13, "a_message_stays_within_its_limits", len <= len_max, || {
        format!("{len} {what}, at most {len_max}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use magpie_core::ids::{Epoch, LeaseToken, LedgerTag, TaskId};
    use magpie_core::lease::{Fence, Renewal};

    #[test]
    fn i13_a_message_beyond_its_limit_is_seen() {
        let fence = Fence { task: TaskId { ulid: 0, ledger: LedgerTag([0; 5]) }, epoch: Epoch(1) };
        let renewal = Renewal::new(fence, LeaseToken([0; 16]), true);
        let message = |len| Message::Request { call: 1, request: LedgerRequest::Renew(vec![renewal.clone(); len]) };
        assert!(invariant_a_message_stays_within_its_limits(&message(limits::BATCH_LEN_MAX)).is_ok());
        assert!(invariant_a_message_stays_within_its_limits(&message(limits::BATCH_LEN_MAX + 1)).is_err());
    }
}
