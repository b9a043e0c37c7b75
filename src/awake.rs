//! Staying awake for what comes sooner than a thread that sleeps is woken.
//!
//! That takes some 50 us on a virtual machine that idles. Where others compute it takes less than to give way and wait for a turn, some
//! milliseconds: there nobody stays awake for long.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Who has the core for longer, once it is given way, computes; or the host of a virtual machine took it.
const TURN_MAX: Duration = Duration::from_micros(200);
/// For so long nobody stays awake after a turn that was lost; twice as long after each further one in a row, up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Keeps threads awake on a machine that has a core for it.
pub struct Awake {
    began: Instant,
    /// On the clock that began then.
    paused_until_ns: AtomicU64,
    pause_ns: AtomicU64,
}

impl Default for Awake {
    fn default() -> Self {
        let pause_ns = AtomicU64::new(ns(PAUSE_MIN));
        Self { began: Instant::now(), paused_until_ns: AtomicU64::new(0), pause_ns }
    }
}

impl Awake {
    /// Keeps the thread awake while `awaits` says so. Whatever else is ready in it goes on, and so does who else wants its core.
    pub async fn stay(&self, awaits: impl Fn() -> bool) {
        let mut from = self.began.elapsed();
        if self.is_paused(from) {
            return;
        }
        while awaits() {
            // It may be who answers.
            std::thread::yield_now();
            let until = self.began.elapsed();
            if !self.gave_way(from, until) {
                return;
            }
            tokio::task::yield_now().await;
            from = self.began.elapsed();
        }
    }

    /// Whether the turn of whoever was given way was short.
    fn gave_way(&self, from: Duration, until: Duration) -> bool {
        let is_short = until.saturating_sub(from) <= TURN_MAX;
        let pause_ns = self.pause_ns.load(Ordering::Relaxed);
        let next_ns = if is_short { ns(PAUSE_MIN) } else { (2 * pause_ns).min(ns(PAUSE_MAX)) };
        self.pause_ns.store(next_ns, Ordering::Relaxed);
        if !is_short {
            self.paused_until_ns.store(ns(until) + pause_ns, Ordering::Relaxed);
        }
        is_short
    }

    fn is_paused(&self, now: Duration) -> bool {
        ns(now) < self.paused_until_ns.load(Ordering::Relaxed)
    }
}

fn ns(time: Duration) -> u64 {
    time.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_was_lost_pauses_and_each_further_one_twice_as_long() {
        let (awake, tick) = (Awake::default(), Duration::from_nanos(1));
        let mut now = Duration::from_secs(1);
        let mut pause_of = |turn: Duration| {
            let began = now;
            now += turn;
            assert_eq!(awake.gave_way(began, now), turn <= TURN_MAX);
            let began = now;
            while awake.is_paused(now) {
                now += Duration::from_millis(1);
            }
            now - began
        };
        assert_eq!(pause_of(TURN_MAX), Duration::ZERO, "who answers takes a moment");
        let pauses: Vec<u128> = (0..9).map(|_| pause_of(TURN_MAX + tick).as_millis()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1_000, 1_000]);
        pause_of(TURN_MAX);
        assert_eq!(pause_of(TURN_MAX + tick), PAUSE_MIN);
    }

    #[tokio::test]
    async fn during_a_pause_nobody_stays_awake() {
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
