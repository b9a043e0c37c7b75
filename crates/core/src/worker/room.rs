//! A machine whose disk has no room: a task that needs some does not start here, and spends no attempt here.
//!
//! Such an attempt prepares before it begins, and is said to have started only then. One that the disk lets not begin
//! goes back as a false start, so that a task which no disk holds comes to an end too.

use super::held::Phase;
use super::machine::Worker;
use super::protocol::StopCause;
use crate::lease::{Fence, Release, ReleaseReason};
use crate::task::{TaskKind, Used};

impl Worker {
    /// What waits here and needs room goes back, as with a drain: others may have some.
    pub(super) fn room_changed(&mut self, no_room: Option<String>) {
        self.stats.no_room = no_room;
        if self.stats.no_room.is_some() {
            let needs_room = |phase: &Phase| matches!(phase, Phase::Queued(grant) if grant.spec.kind.needs_room());
            self.give_back(|held| needs_room(&held.phase), &ReleaseReason::Drained);
        }
    }

    pub(super) fn lacks_room_for(&self, kind: TaskKind) -> bool {
        kind.needs_room() && self.stats.no_room.is_some()
    }

    /// All is prepared: from here on it is an attempt, whatever becomes of it.
    pub(super) fn begun(&mut self, fence: Fence) {
        let now_ms = self.now.mono_ms;
        let Some(held) = self.held.get_mut(&fence) else { return };
        let earlier = held.renew_at_ms;
        if held.begin(now_ms) && self.renewals.remove(&(earlier, fence)) {
            self.renewals.insert((held.renew_at_ms, fence));
        }
    }

    /// Nothing of it ran.
    pub(super) fn not_started(&mut self, fence: Fence, why: String) {
        let Some(held) = self.held.get(&fence) else { return };
        let (token, ending) = (held.token, held.ending);
        match held.phase {
            Phase::Running { .. } => {
                self.forget(fence);
                self.stats.started -= 1;
                // What was told to end while it prepared is no attempt, and a drain is nobody's false start.
                let reason = match ending {
                    Some(StopCause::Drained) => ReleaseReason::Drained,
                    Some(StopCause::LeaseEnded) => ReleaseReason::StaleCredit,
                    Some(StopCause::TaskEnded | StopCause::Fenced) | None => ReleaseReason::Unable { why },
                };
                self.release(fence.task.ledger, vec![Release { fence, token, reason }]);
            }
            Phase::Stopping { tell: true } => self.attempt_is_gone(fence, Used::default()),
            Phase::Stopping { tell: false } => self.forget(fence),
            Phase::Queued(_) | Phase::Reporting { .. } | Phase::Stopped { .. } => {}
        }
    }
}
