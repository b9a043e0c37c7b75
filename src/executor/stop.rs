//! How a running attempt is told to end.

use std::future::pending;
use std::time::Duration;

use magpie_core::limits;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Why an attempt is stopped. After the first three the caller drops its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The task was cancelled: a process gets SIGTERM and a grace.
    Cancelled,
    /// Another epoch of the task may run elsewhere: what runs here dies at once.
    Fenced,
    /// The node ends: what runs here dies at once.
    Shutdown,
    /// The worker's end of the lease of an `exclusive` task has passed: what runs here dies at once.
    LeaseEnded,
    /// A drain is over: a process gets SIGTERM and a grace.
    Drained,
}

impl StopReason {
    /// What became of the attempt, for a person.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Cancelled => "stopped here: its task was cancelled",
            Self::Fenced => "stopped here: another attempt of its task has begun",
            Self::Shutdown => "stopped here: the node ended",
            Self::LeaseEnded => {
                "killed at the end of its lease, as an exclusive task is: its home could not be reached"
            }
            Self::Drained => "stopped here: the node was drained, and the attempt was not over at the deadline",
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Fenced => "fenced",
            Self::Shutdown => "shutdown",
            Self::LeaseEnded => "lease_ended",
            Self::Drained => "drained",
        }
    }

    fn is_immediate(self) -> bool {
        !matches!(self, Self::Cancelled | Self::Drained)
    }
}

/// The owner's end: stops one attempt, or all that got a clone of the signal.
///
/// Dropped without a word it counts as [`StopReason::Shutdown`]: nobody is left to take the outcome.
#[derive(Debug)]
pub struct Stopper(watch::Sender<Option<StopReason>>);

impl Stopper {
    /// A later reason replaces an earlier one, so a cancelled attempt can still be fenced.
    pub fn stop(&self, reason: StopReason) {
        self.0.send_replace(Some(reason));
    }

    /// Whether the attempt is over.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// The attempt's end of a [`Stopper`].
#[derive(Debug, Clone)]
pub struct StopSignal(watch::Receiver<Option<StopReason>>);

/// Makes a stopper and its signal.
pub fn stop_channel() -> (Stopper, StopSignal) {
    let (sender, receiver) = watch::channel(None);
    (Stopper(sender), StopSignal(receiver))
}

impl StopSignal {
    /// Waits for the first reason.
    pub async fn stopped(&mut self) -> StopReason {
        match self.0.wait_for(Option::is_some).await {
            Ok(reason) => reason.unwrap_or(StopReason::Shutdown),
            Err(_) => StopReason::Shutdown,
        }
    }

    /// Waits for a reason that allows no grace.
    async fn stopped_at_once(&mut self) {
        let immediate = |reason: &Option<StopReason>| reason.is_some_and(StopReason::is_immediate);
        if self.0.wait_for(immediate).await.is_err() {
            pending().await
        }
    }
}

/// What ended an attempt from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Halt {
    Stopped(StopReason),
    TimedOut,
}

/// Everything that may end an attempt from outside: its owner, and its timeout.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    pub stop: StopSignal,
    deadline: Instant,
}

impl Bounds {
    pub fn new(stop: StopSignal, timeout: Duration) -> Self {
        Self { stop, deadline: Instant::now() + timeout }
    }

    pub async fn reached(&mut self) -> Halt {
        tokio::select! {
            biased;
            reason = self.stop.stopped() => Halt::Stopped(reason),
            () = sleep_until(self.deadline) => Halt::TimedOut,
        }
    }

    /// Waits out the grace that `halt` leaves to a process, cut short by a stop that leaves none.
    pub async fn grace_over(&mut self, halt: Halt) {
        if matches!(halt, Halt::Stopped(reason) if reason.is_immediate()) {
            return;
        }
        tokio::select! {
            () = self.stop.stopped_at_once() => {}
            () = tokio::time::sleep(Duration::from_millis(limits::PROCESS_STOP_GRACE_MS)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(7 * 86_400);

    #[tokio::test(start_paused = true)]
    async fn a_stop_wins_over_a_timeout_that_is_due_as_well() {
        let (stopper, signal) = stop_channel();
        let mut bounds = Bounds::new(signal, Duration::ZERO);
        assert_eq!(bounds.reached().await, Halt::TimedOut);
        stopper.stop(StopReason::Cancelled);
        assert_eq!(bounds.reached().await, Halt::Stopped(StopReason::Cancelled));
    }

    #[tokio::test]
    async fn a_dropped_stopper_is_a_shutdown() {
        let (stopper, mut signal) = stop_channel();
        drop(stopper);
        assert_eq!(signal.stopped().await, StopReason::Shutdown);
    }

    #[tokio::test]
    async fn a_reason_outlives_its_stopper() {
        let (stopper, mut signal) = stop_channel();
        stopper.stop(StopReason::Cancelled);
        drop(stopper);
        assert_eq!(signal.stopped().await, StopReason::Cancelled);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_cancel_a_drain_or_a_timeout_leaves_a_grace() {
        for (halt, grace_ms) in [
            (Halt::TimedOut, limits::PROCESS_STOP_GRACE_MS),
            (Halt::Stopped(StopReason::Cancelled), limits::PROCESS_STOP_GRACE_MS),
            (Halt::Stopped(StopReason::Fenced), 0),
            (Halt::Stopped(StopReason::Shutdown), 0),
            (Halt::Stopped(StopReason::LeaseEnded), 0),
            (Halt::Stopped(StopReason::Drained), limits::PROCESS_STOP_GRACE_MS),
        ] {
            let (_stopper, signal) = stop_channel();
            let begin = Instant::now();
            Bounds::new(signal, LONG).grace_over(halt).await;
            assert_eq!(begin.elapsed().as_millis() as u64 / 10 * 10, grace_ms, "{halt:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_fence_cuts_the_grace_of_a_cancel_short() {
        let (stopper, signal) = stop_channel();
        stopper.stop(StopReason::Cancelled);
        let mut bounds = Bounds::new(signal, LONG);
        let halt = bounds.reached().await;
        let begin = Instant::now();
        stopper.stop(StopReason::Fenced);
        bounds.grace_over(halt).await;
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }
}
