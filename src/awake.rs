//! Staying awake for what comes sooner than a thread that sleeps is woken.
//!
//! That takes some 50 us on a virtual machine that idles. Where others compute it takes less than to give way and wait for a turn, some
//! milliseconds: there nobody stays awake.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Who has the core for longer, once it is given way, computes.
const TURN_MAX: Duration = Duration::from_micros(200);
/// For so long the machine is taken to be busy then.
const BUSY: Duration = Duration::from_secs(1);

/// Keeps threads awake on a machine that has a core for it.
pub struct Awake {
    began: Instant,
    /// On the clock that began then.
    busy_until_ns: AtomicU64,
}

impl Default for Awake {
    fn default() -> Self {
        Self { began: Instant::now(), busy_until_ns: AtomicU64::new(0) }
    }
}

impl Awake {
    /// Keeps the thread awake while `awaits` says so. Whatever else is ready in it goes on, and so does who else wants its core.
    pub async fn stay(&self, awaits: impl Fn() -> bool) {
        while !self.is_busy(self.began.elapsed()) && awaits() {
            let from = self.began.elapsed();
            // It may be who answers.
            std::thread::yield_now();
            self.gave_way(from, self.began.elapsed());
            tokio::task::yield_now().await;
        }
    }

    fn gave_way(&self, from: Duration, until: Duration) {
        if until.saturating_sub(from) > TURN_MAX {
            self.busy_until_ns.store((until + BUSY).as_nanos() as u64, Ordering::Relaxed);
        }
    }

    fn is_busy(&self, now: Duration) -> bool {
        (now.as_nanos() as u64) < self.busy_until_ns.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_on_which_others_compute_is_busy_for_a_second() {
        let (awake, begin) = (Awake::default(), Duration::from_secs(1));
        awake.gave_way(begin, begin + TURN_MAX);
        assert!(!awake.is_busy(begin), "who answers takes a moment");
        let end = begin + TURN_MAX + Duration::from_nanos(1);
        awake.gave_way(begin, end);
        assert!(awake.is_busy(end) && awake.is_busy(end + BUSY - Duration::from_nanos(1)));
        assert!(!awake.is_busy(end + BUSY));
    }

    #[tokio::test]
    async fn on_a_busy_machine_nobody_stays_awake() {
        let awake = Awake::default();
        let asked = AtomicU64::new(0);
        awake.stay(|| asked.fetch_add(1, Ordering::Relaxed) == 0).await;
        let before = asked.load(Ordering::Relaxed);
        assert!(before > 0);
        awake.gave_way(Duration::ZERO, Duration::from_secs(3_600));
        // It would for ever.
        let for_ever = awake.stay(|| asked.fetch_add(1, Ordering::Relaxed) < u64::MAX);
        tokio::time::timeout(Duration::from_secs(10), for_ever).await.expect("it does not");
        assert_eq!(asked.load(Ordering::Relaxed), before);
    }
}
