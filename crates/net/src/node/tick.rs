//! When the loop looks at its deadlines again: often while something is under way, seldom while all is quiet, since each
//! look wakes a node that may be one of many on its machine.

use std::pin::Pin;

use tokio::time::{Duration, Instant, Sleep};

use super::Node;
use crate::limits;

impl Node {
    /// Something may be due sooner than it was.
    pub(super) fn stir(&mut self) {
        self.is_stirred = true;
    }

    /// Brings the next look forward, if something happened that asks for it.
    pub(super) fn hasten(&mut self, tick: Pin<&mut Sleep>) {
        if std::mem::take(&mut self.is_stirred) {
            let soon = Instant::now() + Duration::from_millis(limits::TICK_MS);
            if soon < tick.deadline() {
                tick.reset(soon);
            }
        }
    }

    pub(super) fn until_next_tick(&mut self) -> Duration {
        self.is_stirred = false;
        let is_busy = self.lanes.are_due() || self.peers.values().any(|peer| !peer.is_settled());
        let due_ms = if is_busy { 0 } else { self.book.next_due_ms().min(self.members.due_ms()) };
        let wait_ms = due_ms.saturating_sub(self.now_ms()).clamp(limits::TICK_MS, limits::REST_TICK_MS);
        Duration::from_millis(wait_ms)
    }
}
