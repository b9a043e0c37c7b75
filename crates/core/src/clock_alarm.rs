//! Whether the wall clock can be believed: it is watched against the monotonic one, and against what peers say.
//!
//! A jump raises an alarm, and what ends by wall time waits until both clocks have agreed for
//! [`limits::CLOCK_AGREES_MS`] and no majority of the peers in reach is far off. Peers' clocks are never taken as the
//! time: only how far they differ counts.

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::time::{Now, Wall};

/// Two looks at the clocks may differ by this much without being held a step: timers are not exact.
const STEP_MS: u64 = 1_000;

/// Watches one node's clocks.
#[derive(Debug, Clone)]
pub struct ClockWatch {
    /// What the current stretch is measured from, and the last look.
    since: Now,
    last: Now,
    raised: Option<Raised>,
    peers: PeerClocks,
}

#[derive(Debug, Clone, Copy)]
struct Raised {
    at: Wall,
    jumped_ms: i64,
    agreed_since_ms: u64,
}

/// How the clocks of the peers in reach compare with this node's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PeerClocks {
    pub reachable: u32,
    /// Those that differ by more than [`limits::CLOCK_JUMP_MS`].
    pub differing: u32,
}

/// A jump of the wall clock that is not over yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockAlarm {
    /// By the clock after the jump.
    pub raised_at: Wall,
    /// Forward above zero.
    pub jumped_ms: i64,
    pub peers_reachable: u32,
    pub peers_differing: u32,
}

impl ClockWatch {
    /// Starts to watch. `last_at` is the newest time in the ledger's log: a wall clock far before it went back.
    pub fn new(now: Now, last_at: Wall) -> Self {
        let mut watch = Self { since: now, last: now, raised: None, peers: PeerClocks::default() };
        let behind_ms = last_at.0.saturating_sub(now.wall_ms);
        if behind_ms > limits::CLOCK_JUMP_MS {
            watch.raise(now, -signed(behind_ms));
        }
        watch
    }

    /// Looks at the clocks.
    pub fn observe(&mut self, now: Now) {
        let parted_ms = parted(self.since, now);
        if parted_ms.unsigned_abs() > limits::CLOCK_JUMP_MS {
            self.raise(now, parted_ms);
        } else if parted(self.last, now).unsigned_abs() > STEP_MS {
            self.raised.iter_mut().for_each(|raised| raised.agreed_since_ms = now.mono_ms);
        }
        if now.mono_ms >= self.since.mono_ms + limits::CLOCK_AGREES_MS {
            self.since = now;
        }
        self.last = now;
        let agrees = |raised: &mut Raised| now.mono_ms >= raised.agreed_since_ms + limits::CLOCK_AGREES_MS;
        if !self.peers.majority_differs() {
            self.raised.take_if(agrees);
        }
    }

    /// Takes what the last heartbeats said.
    pub fn peers(&mut self, peers: PeerClocks) {
        self.peers = peers;
    }

    /// Whether what ends by wall time must wait.
    pub fn is_raised(&self) -> bool {
        self.raised.is_some()
    }

    pub fn alarm(&self) -> Option<ClockAlarm> {
        self.raised.map(|raised| ClockAlarm {
            raised_at: raised.at,
            jumped_ms: raised.jumped_ms,
            peers_reachable: self.peers.reachable,
            peers_differing: self.peers.differing,
        })
    }

    fn raise(&mut self, now: Now, jumped_ms: i64) {
        self.since = now;
        self.raised = Some(Raised { at: Wall(now.wall_ms), jumped_ms, agreed_since_ms: now.mono_ms });
    }
}

impl PeerClocks {
    fn majority_differs(self) -> bool {
        self.differing * 2 > self.reachable
    }
}

/// How much further the wall clock went than the monotonic one.
fn parted(from: Now, to: Now) -> i64 {
    let went = |from: u64, to: u64| signed(to).saturating_sub(signed(from));
    went(from.wall_ms, to.wall_ms).saturating_sub(went(from.mono_ms, to.mono_ms))
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: Now = Now { mono_ms: 5_000, wall_ms: 1_795_230_000_000 };

    fn after(now: Now, mono_ms: u64, wall_ms: i64) -> Now {
        Now { mono_ms: now.mono_ms + mono_ms, wall_ms: now.wall_ms.saturating_add_signed(wall_ms) }
    }

    /// Looks every 100 ms while both clocks go on alike.
    fn go_on(watch: &mut ClockWatch, mut now: Now, ms: u64) -> Now {
        for _ in 0..ms / 100 {
            now = after(now, 100, 100);
            watch.observe(now);
        }
        now
    }

    #[test]
    fn a_jump_of_over_a_minute_raises_an_alarm_until_the_clocks_agreed_for_a_minute() {
        for jumped_ms in [61_000i64, -61_000, 86_400_000, -86_400_000] {
            let mut watch = ClockWatch::new(START, Wall(START.wall_ms));
            let now = go_on(&mut watch, START, 30_000);
            let now = after(now, 100, 100 + jumped_ms);
            watch.observe(now);
            assert_eq!(watch.alarm().unwrap().jumped_ms, jumped_ms);
            let now = go_on(&mut watch, now, 59_900);
            assert!(watch.is_raised());
            go_on(&mut watch, now, 200);
            assert!(!watch.is_raised());
        }
    }

    #[test]
    fn a_jump_back_to_the_right_time_is_a_jump_and_the_minute_begins_anew() {
        let mut watch = ClockWatch::new(START, Wall(START.wall_ms));
        let now = after(START, 100, 3_600_000);
        watch.observe(now);
        let now = go_on(&mut watch, now, 50_000);
        let now = after(now, 100, -3_600_000);
        watch.observe(now);
        let now = go_on(&mut watch, now, 59_000);
        assert!(watch.is_raised());
        go_on(&mut watch, now, 1_200);
        assert!(!watch.is_raised());
    }

    #[test]
    fn many_small_steps_within_a_minute_are_a_jump_and_a_slow_drift_is_none() {
        let mut watch = ClockWatch::new(START, Wall(START.wall_ms));
        let mut now = START;
        for _ in 0..7 {
            now = after(now, 5_000, 15_000);
            watch.observe(now);
        }
        assert!(watch.is_raised());
        let mut watch = ClockWatch::new(START, Wall(START.wall_ms));
        let mut now = START;
        for _ in 0..100_000 {
            // 5 % fast for hours.
            now = after(now, 100, 105);
            watch.observe(now);
        }
        assert!(!watch.is_raised());
    }

    #[test]
    fn suspend_is_no_jump_because_the_monotonic_clock_counts_it() {
        let mut watch = ClockWatch::new(START, Wall(START.wall_ms));
        watch.observe(after(START, 8 * 3_600_000, 8 * 3_600_000));
        assert!(!watch.is_raised());
    }

    #[test]
    fn a_start_long_before_the_last_record_raises_an_alarm() {
        let log_ends = |later_ms: u64| ClockWatch::new(START, Wall(START.wall_ms + later_ms));
        assert_eq!(log_ends(3_600_000).alarm().unwrap().jumped_ms, -3_600_000);
        assert!(!log_ends(60_000).is_raised());
        let mut watch = log_ends(3_600_000);
        go_on(&mut watch, START, 60_000);
        assert!(!watch.is_raised());
    }

    #[test]
    fn a_majority_of_peers_that_differs_keeps_the_alarm_up() {
        let mut watch = ClockWatch::new(START, Wall(START.wall_ms));
        let now = after(START, 100, 7_200_000);
        watch.observe(now);
        watch.peers(PeerClocks { reachable: 3, differing: 2 });
        let now = go_on(&mut watch, now, 600_000);
        assert_eq!(watch.alarm().unwrap().peers_differing, 2);
        watch.peers(PeerClocks { reachable: 4, differing: 2 });
        go_on(&mut watch, now, 100);
        assert!(!watch.is_raised());
    }

    proptest! {
        #[test]
        fn clocks_that_go_alike_never_raise_an_alarm_and_any_values_never_panic(
            looks in proptest::collection::vec((0u64..100_000, -900i64..900), 1..60), odd: (u64, u64),
        ) {
            let (mut watch, mut now) = (ClockWatch::new(START, Wall(START.wall_ms)), START);
            let mut parted_ms = 0;
            for (ms, off_ms) in looks {
                // Never further apart than a second, in either direction.
                now = after(now, ms, ms as i64 + off_ms - parted_ms);
                parted_ms = off_ms;
                watch.observe(now);
                prop_assert!(!watch.is_raised());
            }
            watch.observe(Now { mono_ms: now.mono_ms.max(odd.0 / 2), wall_ms: odd.1 });
            let _ = watch.alarm();
        }
    }
}
