//! When the lease of an `exclusive` attempt ends, for what runs it.

use std::future::pending;

use tokio::sync::watch;

/// Moves with each renewal; on the clock that counts suspend (`CLOCK_BOOTTIME`), in milliseconds.
#[derive(Debug, Clone)]
pub struct LeaseEnd(watch::Receiver<u64>);

/// The owner's end of a [`LeaseEnd`].
#[derive(Debug)]
pub struct LeaseKeeper(watch::Sender<u64>);

/// Makes both ends.
pub fn lease_channel(ends_ms: u64) -> (LeaseKeeper, LeaseEnd) {
    let (sender, receiver) = watch::channel(ends_ms);
    (LeaseKeeper(sender), LeaseEnd(receiver))
}

impl LeaseKeeper {
    pub fn extend(&self, ends_ms: u64) {
        self.0.send_replace(ends_ms);
    }
}

impl LeaseEnd {
    pub fn ends_ms(&self) -> u64 {
        *self.0.borrow()
    }

    /// Waits until it has moved; for ever, if nobody moves it any more.
    pub async fn moved(&mut self) -> u64 {
        match self.0.changed().await {
            Ok(()) => *self.0.borrow_and_update(),
            Err(_) => pending().await,
        }
    }
}
