//! When the swarm loop looks at its deadlines: often while anything moves, seldom while all is quiet. Each look wakes the process,
//! and that is most of what an idle node does.

use std::pin::Pin;

use tokio::time::{Duration, Instant, Sleep, sleep};

use crate::limits;

pub(super) struct Tick {
    sleep: Pin<Box<Sleep>>,
    /// When the last look was, and how soon after it this one is due.
    last: Instant,
    every: Duration,
    /// Until when it looks often.
    busy_until: Instant,
}

const OFTEN: Duration = Duration::from_millis(limits::TICK_MS);
const SELDOM: Duration = Duration::from_millis(limits::QUIET_TICK_MS);

impl Tick {
    /// Due at once.
    pub fn new() -> Self {
        let now = Instant::now();
        let busy_until = now + Duration::from_millis(limits::QUIET_AFTER_MS);
        Self { sleep: Box::pin(sleep(Duration::ZERO)), last: now, every: Duration::ZERO, busy_until }
    }

    /// Waits for the next look, and says how many milliseconds late it is. Cancel safe.
    pub async fn due(&mut self) -> u64 {
        self.sleep.as_mut().await;
        let now = Instant::now();
        let late = (now - self.last).saturating_sub(self.every);
        self.last = now;
        self.every = if now < self.busy_until { OFTEN } else { SELDOM };
        self.sleep.as_mut().reset(now + self.every);
        late.as_millis() as u64
    }

    /// Something moves, and more may follow.
    pub fn stir(&mut self) {
        let now = Instant::now();
        self.busy_until = now + Duration::from_millis(limits::QUIET_AFTER_MS);
        if self.sleep.deadline() > now + OFTEN {
            self.every = now + OFTEN - self.last;
            self.sleep.as_mut().reset(now + OFTEN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn waits_ms(tick: &mut Tick) -> u64 {
        let began = Instant::now();
        assert_eq!(tick.due().await, 0, "nobody was late");
        began.elapsed().as_millis() as u64
    }

    #[tokio::test(start_paused = true)]
    async fn it_looks_often_until_nothing_has_moved_for_a_while() {
        let mut tick = Tick::new();
        assert_eq!(waits_ms(&mut tick).await, 0, "at once");
        for _ in 0..limits::QUIET_AFTER_MS / limits::TICK_MS {
            assert_eq!(waits_ms(&mut tick).await, limits::TICK_MS);
        }
        assert_eq!(waits_ms(&mut tick).await, limits::QUIET_TICK_MS);
        tick.stir();
        assert_eq!(waits_ms(&mut tick).await, limits::TICK_MS);
    }

    #[tokio::test(start_paused = true)]
    async fn what_moves_does_not_put_a_look_off() {
        let mut tick = Tick::new();
        tick.due().await;
        tokio::time::advance(Duration::from_millis(limits::TICK_MS - 1)).await;
        tick.stir();
        assert_eq!(waits_ms(&mut tick).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_comes_late_says_so() {
        let mut tick = Tick::new();
        tick.due().await;
        tokio::time::advance(OFTEN + Duration::from_millis(70)).await;
        assert_eq!(tick.due().await, 70);
    }
}
