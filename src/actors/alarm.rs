//! Wakes an actor when its core wants a tick: an idle one sleeps.

use std::time::Duration;

use ractor::{ActorRef, Message, MessagingErr};
use tokio::task::JoinHandle;

use super::readings::now;

type Sending<M> = JoinHandle<Result<(), MessagingErr<M>>>;

/// At most one message is on its way.
pub struct Alarm<M> {
    set: Option<(u64, Sending<M>)>,
}

impl<M> Default for Alarm<M> {
    fn default() -> Self {
        Self { set: None }
    }
}

impl<M> Alarm<M> {
    /// The tick that was waited for is here.
    pub fn rang(&mut self) {
        self.set = None;
    }

    fn stop(&mut self) {
        if let Some((_, message)) = self.set.take() {
            message.abort();
        }
    }
}

impl<M: Message> Alarm<M> {
    /// Sets it for when the core wants its `tick` now, if it is not set for that or an earlier time.
    pub fn set(&mut self, me: &ActorRef<M>, due_ms: u64, tick: fn() -> M) {
        if self.set.as_ref().is_some_and(|(set_ms, _)| *set_ms <= due_ms) {
            return;
        }
        self.stop();
        let wait = Duration::from_millis(due_ms.saturating_sub(now().mono_ms).max(1));
        self.set = Some((due_ms, me.send_after(wait, tick)));
    }
}

impl<M> Drop for Alarm<M> {
    fn drop(&mut self) {
        self.stop();
    }
}
