//! A node's two clocks over the run's true time: they drift, and the wall clock steps.

use magpie_core::time::Now;

/// Each clock's own share: two run apart by 5 %, which is what the worker's margin covers.
pub const DRIFT_PPM_MAX: u64 = 25_000;
const MILLION: u64 = 1_000_000;
/// The run starts here on every wall clock, more or less: a few seconds before a full minute, when schedules fire.
const WALL_EPOCH_MS: u64 = 1_795_230_054_000;

#[derive(Debug, Clone)]
pub struct NodeClock {
    zero_ms: u64,
    /// Parts per million of true time.
    rate_ppm: u64,
    wall_ahead_ms: i64,
}

impl NodeClock {
    pub fn new(zero_ms: u64, rate_ppm: u64, wall_ahead_ms: i64) -> Self {
        Self { zero_ms, rate_ppm, wall_ahead_ms }
    }

    pub fn read(&self, true_ms: u64) -> Now {
        let elapsed = true_ms * self.rate_ppm / MILLION;
        Now {
            mono_ms: self.zero_ms + elapsed,
            wall_ms: (WALL_EPOCH_MS + elapsed).saturating_add_signed(self.wall_ahead_ms),
        }
    }

    /// The first true time at which the monotonic clock shows `mono_ms`.
    pub fn true_ms(&self, mono_ms: u64) -> u64 {
        (mono_ms.saturating_sub(self.zero_ms) * MILLION).div_ceil(self.rate_ppm)
    }

    /// The wall clock shows the true time again.
    pub fn set_right(&mut self, true_ms: u64) {
        self.wall_ahead_ms = (true_ms as i64) - (true_ms * self.rate_ppm / MILLION) as i64;
    }

    pub fn step_wall(&mut self, by_ms: i64) {
        self.wall_ahead_ms += by_ms;
    }
}

/// What a clock that is right shows.
pub fn true_wall_ms(true_ms: u64) -> u64 {
    WALL_EPOCH_MS + true_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_clock_reaches_a_reading_earlier() {
        let fast = NodeClock::new(500, MILLION + DRIFT_PPM_MAX, 0);
        assert_eq!(fast.read(10_000).mono_ms, 10_750);
        assert_eq!(fast.true_ms(10_750), 10_000);
    }

    #[test]
    fn a_clock_set_right_shows_the_true_time() {
        let mut clock = NodeClock::new(0, MILLION - DRIFT_PPM_MAX, 3_600_000);
        clock.set_right(50_000);
        assert_eq!(clock.read(50_000).wall_ms, true_wall_ms(50_000));
    }

    #[test]
    fn a_step_moves_the_wall_clock_only() {
        let mut clock = NodeClock::new(0, MILLION, 0);
        let before = clock.read(1_000);
        clock.step_wall(-700);
        let after = clock.read(1_000);
        assert_eq!((after.mono_ms, before.wall_ms - after.wall_ms), (before.mono_ms, 700));
    }
}
