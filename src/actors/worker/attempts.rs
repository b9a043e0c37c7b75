//! The attempts that run on this node: how each is stopped, until when it may run, what it says.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use magpie_core::lease::Fence;
use magpie_core::limits;
use magpie_core::progress::AttemptNews;
use magpie_core::worker::StopCause;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::executor::{Attempt, LeaseKeeper, StopReason, StopSignal, Stopper, lease_channel, stop_channel};

/// One that runs, or has just ended.
struct Running {
    stopper: Stopper,
    lease: Option<LeaseKeeper>,
}

#[derive(Default)]
pub struct Attempts(HashMap<Fence, Running>);

impl Attempts {
    /// Ties an attempt to its strings; `ends_ms` is that of an exclusive one.
    pub fn begin(&mut self, attempt: &mut Attempt, ends_ms: Option<u64>) -> StopSignal {
        self.0.retain(|_, running| !running.stopper.is_closed());
        let (stopper, signal) = stop_channel();
        let (lease, ends) = ends_ms.map(lease_channel).unzip();
        attempt.lease = ends;
        self.0.insert(attempt.fence, Running { stopper, lease });
        signal
    }

    pub fn stop(&self, fence: &Fence, cause: StopCause) {
        let reason = match cause {
            StopCause::TaskEnded => StopReason::Cancelled,
            StopCause::Fenced => StopReason::Fenced,
            StopCause::LeaseEnded => StopReason::LeaseEnded,
            StopCause::Drained => StopReason::Drained,
        };
        if let Some(running) = self.0.get(fence) {
            running.stopper.stop(reason);
        }
    }

    pub fn extend(&self, fence: &Fence, ends_ms: u64) {
        if let Some(lease) = self.0.get(fence).and_then(|running| running.lease.as_ref()) {
            lease.extend(ends_ms);
        }
    }
}

/// Goes on with `running`, and tells when it says that it has begun.
pub async fn tell_begin<O>(
    mut begun: watch::Receiver<bool>,
    running: impl Future<Output = O>,
    tell: impl FnOnce(),
) -> O {
    let mut running = pin!(running);
    let begins = async { begun.wait_for(|begun| *begun).await.is_ok() };
    tokio::select! {
        biased;
        true = begins => tell(),
        ended = &mut running => return ended,
    }
    running.await
}

/// What an attempt says, on its way to the worker: the newest, and no more often than a home wants to hear it.
pub struct Telling<T> {
    said: watch::Receiver<AttemptNews>,
    tell: T,
}

pub fn tell<T: FnMut(AttemptNews)>(said: watch::Receiver<AttemptNews>, tell: T) -> Telling<T> {
    Telling { said, tell }
}

impl<T: FnMut(AttemptNews)> Telling<T> {
    /// Tells while `running` goes on, and at its end what is left to tell.
    pub async fn while_running<O>(mut self, running: impl Future<Output = O>) -> O {
        let every = Duration::from_millis(limits::PROGRESS_EVERY_MS);
        let mut running = pin!(running);
        let mut next = Instant::now();
        loop {
            tokio::select! {
                biased;
                outcome = &mut running => {
                    if self.said.has_changed().unwrap_or(true) {
                        self.tell_newest();
                    }
                    return outcome;
                }
                Ok(()) = wait(&mut self.said, next) => {
                    self.tell_newest();
                    next = Instant::now() + every;
                }
            }
        }
    }

    fn tell_newest(&mut self) {
        let news = self.said.borrow_and_update().clone();
        if news != AttemptNews::default() {
            (self.tell)(news);
        }
    }
}

/// Something new was said, and it is time for it. A wait that is given up forgets nothing.
async fn wait(said: &mut watch::Receiver<AttemptNews>, next: Instant) -> Result<(), watch::error::RecvError> {
    tokio::time::sleep_until(next).await;
    said.changed().await
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use magpie_core::progress::Progress;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_newest_is_told_once_a_second_and_the_last_at_the_end() {
        let says = watch::Sender::new(AttemptNews::default());
        let (told, begin) = (RefCell::new(Vec::new()), Instant::now());
        let telling = tell(says.subscribe(), |news| {
            let fraction = news.progress.and_then(|progress| progress.fraction);
            told.borrow_mut().push((begin.elapsed().as_millis() as u64, fraction));
        });
        let running = async {
            for n in 1..=24 {
                let progress = Some(Progress { fraction: Some(f64::from(n) / 100.0), message: String::new() });
                says.send_modify(|said| said.update(AttemptNews { progress, checkpoint: None }));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            "done"
        };
        assert_eq!(telling.while_running(running).await, "done");
        let told = told.into_inner();
        assert_eq!(told.len(), 4, "{told:?}");
        assert_eq!((told[0], told[3].1), ((0, Some(0.01)), Some(0.24)));
        assert!(told.windows(2).take(2).all(|pair| pair[1].0 - pair[0].0 >= limits::PROGRESS_EVERY_MS), "{told:?}");
    }

    #[tokio::test]
    async fn a_begin_is_told_before_the_end_and_not_of_one_that_never_began() {
        let begun = watch::Sender::new(false);
        let (receiver, told) = (begun.subscribe(), Cell::new(false));
        let running = async {
            begun.send_replace(true);
            tokio::task::yield_now().await;
            told.get()
        };
        assert!(tell_begin(receiver, running, || told.set(true)).await);
        let receiver = begun.subscribe();
        begun.send_replace(false);
        tell_begin(receiver, async move { drop(begun) }, || panic!("it did not begin")).await;
    }

    #[tokio::test]
    async fn one_that_says_nothing_tells_nothing() {
        let says = watch::Sender::new(AttemptNews::default());
        let telling = tell(says.subscribe(), |news| panic!("{news:?}"));
        telling.while_running(async move { drop(says) }).await;
    }
}
