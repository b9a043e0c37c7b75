//! Wakes the ledger when its core wants a tick: an idle home sleeps.

use std::time::Duration;

use magpie_core::queue::Ledger;
use ractor::{ActorRef, MessagingErr};
use tokio::task::JoinHandle;

use super::super::readings::now;
use crate::messages::ledger::LedgerMsg;

type Sending = JoinHandle<Result<(), MessagingErr<LedgerMsg>>>;

/// At most one message is on its way.
#[derive(Default)]
pub struct Alarm {
    set: Option<(u64, Sending)>,
}

impl Alarm {
    /// The tick that was waited for is here.
    pub fn rang(&mut self) {
        self.set = None;
    }

    /// Sets it for what the core wants now, if it is not set for that or an earlier time.
    pub fn set(&mut self, me: &ActorRef<LedgerMsg>, core: &Ledger) {
        let due_ms = core.next_deadline();
        if self.set.as_ref().is_some_and(|(set_ms, _)| *set_ms <= due_ms) {
            return;
        }
        self.stop();
        let wait = Duration::from_millis(due_ms.saturating_sub(now().mono_ms).max(1));
        self.set = Some((due_ms, me.send_after(wait, || LedgerMsg::Tick)));
    }

    fn stop(&mut self) {
        if let Some((_, message)) = self.set.take() {
            message.abort();
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.stop();
    }
}
