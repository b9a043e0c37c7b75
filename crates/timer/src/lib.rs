//! What libp2p takes from the crate `futures-timer`, on tokio's timer.
//!
//! libp2p makes a [`Delay`] for every stream that it opens or accepts, and most are dropped long before they are due. The
//! crate of that name has a thread of its own, which every delay wakes when it is made and again when it is dropped: two
//! system calls and two changes of thread for a timeout that never comes. tokio's timer is in the thread that polls.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Is ready once its time has passed, and from then on until it is reset.
///
/// It may be made, reset and dropped anywhere. To poll it before it is due takes a tokio runtime with its timer enabled:
/// without one the poll panics, since nobody would ever wake who waits.
pub struct Delay {
    due: Instant,
    /// Made by the first poll that finds it not due: most delays of libp2p that are reset are not polled between.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Delay {
    /// A delay that is due `after` from now.
    pub fn new(after: Duration) -> Self {
        Self { due: Instant::now() + after, sleep: None }
    }

    /// Is due `after` from now instead, whether or not it was due before.
    pub fn reset(&mut self, after: Duration) {
        self.due = Instant::now() + after;
        if let Some(sleep) = &mut self.sleep {
            sleep.as_mut().reset(self.due);
        }
    }
}

impl Future for Delay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let due = self.due;
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().poll(context),
            // tokio's timer has a grain of a millisecond: what is due at once does not wait for it.
            None if due <= Instant::now() => Poll::Ready(()),
            None => self.sleep.insert(Box::pin(sleep_until(due))).as_mut().poll(context),
        }
    }
}

impl fmt::Debug for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delay").field("due", &self.due).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use tokio::sync::mpsc;
    use tokio::time::{advance, timeout};

    use super::*;

    const TEN: Duration = Duration::from_secs(10);

    fn look(delay: &mut Delay) -> Poll<()> {
        Pin::new(delay).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_is_ready_at_its_time_and_stays_so() {
        let (made, mut delay) = (Instant::now(), Delay::new(TEN));
        assert!(look(&mut delay).is_pending());
        (&mut delay).await;
        assert!(made.elapsed() >= TEN && made.elapsed() < TEN + Duration::from_millis(2), "{:?}", made.elapsed());
        assert!(look(&mut delay).is_ready() && look(&mut delay).is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_at_once_or_was_looked_at_late_is_ready_at_the_first_look() {
        assert!(look(&mut Delay::new(Duration::ZERO)).is_ready());
        let mut late = Delay::new(TEN);
        advance(TEN).await;
        assert!(look(&mut late).is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_that_is_reset_is_not_ready_before_its_new_time() {
        for mut delay in [Delay::new(Duration::ZERO), Delay::new(TEN)] {
            let _ = look(&mut delay);
            delay.reset(2 * TEN);
            advance(TEN + Duration::from_secs(1)).await;
            assert!(look(&mut delay).is_pending());
            advance(TEN).await;
            assert!(look(&mut delay).is_ready());
        }
    }

    /// As libp2p's handlers do: whoever polled is woken, and does not poll again because of the reset.
    #[tokio::test(start_paused = true)]
    async fn who_waits_is_woken_at_the_time_of_the_reset() {
        let (resets, mut to_do) = mpsc::channel::<Duration>(1);
        let began = Instant::now();
        let waiting = tokio::spawn(async move {
            let mut delay = Delay::new(360 * TEN);
            poll_fn(|context| {
                // Polled once before it is reset, and not by the reset.
                let ready = Pin::new(&mut delay).poll(context);
                if let Poll::Ready(Some(after)) = to_do.poll_recv(context) {
                    delay.reset(after);
                }
                ready
            })
            .await;
        });
        tokio::task::yield_now().await;
        resets.send(TEN).await.unwrap();
        timeout(2 * TEN, waiting).await.unwrap().unwrap();
        assert!(began.elapsed() >= TEN, "{:?}", began.elapsed());
    }

    #[test]
    fn outside_of_a_runtime_it_is_made_reset_and_dropped() {
        let mut delay = Delay::new(TEN);
        delay.reset(Duration::ZERO);
        assert!(look(&mut delay).is_ready());
    }

    #[test]
    #[should_panic(expected = "Tokio")]
    fn outside_of_a_runtime_nobody_waits_for_ever() {
        let _ = look(&mut Delay::new(TEN));
    }

    /// A delay goes with what it times, and that may outlive the runtime.
    #[test]
    fn a_delay_that_was_polled_is_dropped_after_its_runtime() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut delay = Delay::new(TEN);
        let looked = runtime.block_on(async { look(&mut delay) });
        assert!(looked.is_pending());
        drop(runtime);
        drop(delay);
    }
}
