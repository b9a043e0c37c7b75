//! How fast a home works off what it has: what tells a refused caller when to come again.

use super::ledger::Ledger;
use super::protocol::Refusal;
use crate::limits;
use crate::time::Wall;

/// Time between two looks.
const SAMPLE_MS: u64 = 1_000;
/// Looks older than this count little.
const MEMORY_MS: f64 = 10_000.0;
/// What is waited for where nothing ends.
const IDLE_WAIT_MS: u64 = 10_000;

/// A rate of ends, smoothed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    ended: u64,
    seen_ms: u64,
    per_s: f64,
}

impl Pace {
    /// `ended` things have ended in all.
    pub fn sample(&mut self, now_ms: u64, ended: u64) {
        let passed_ms = now_ms.saturating_sub(self.seen_ms);
        if passed_ms < SAMPLE_MS {
            return;
        }
        // The first look has nothing to compare with.
        if self.seen_ms > 0 {
            let newest = ended.saturating_sub(self.ended) as f64 * 1_000.0 / passed_ms as f64;
            let weight = 1.0 - (-(passed_ms as f64) / MEMORY_MS).exp();
            self.per_s += (newest - self.per_s) * weight;
        }
        (self.ended, self.seen_ms) = (ended, now_ms);
    }

    /// Until `excess` more have ended.
    pub fn wait_ms(&self, excess: u64) -> u64 {
        let wait = excess as f64 * 1_000.0 / self.per_s;
        // Too slow to tell, and a rate of nothing, look alike: the wait is not a number or beyond all bounds.
        if self.per_s < 0.001 { IDLE_WAIT_MS } else { bounded(wait as u64) }
    }
}

fn bounded(wait_ms: u64) -> u64 {
    wait_ms.clamp(limits::RETRY_AFTER_MS_MIN, limits::RETRY_AFTER_MS_MAX)
}

impl Ledger {
    pub(super) fn sample_pace(&mut self) {
        let ended_workflows = (self.state.workflows.len() as u64).saturating_sub(self.state.workflows_running);
        self.pace.sample(self.now.mono_ms, self.state.counts.terminal());
        self.workflow_pace.sample(self.now.mono_ms, ended_workflows);
    }

    /// `excess` tasks more than fit: they do when as many have ended.
    pub(super) fn too_many_tasks(&self, excess: usize) -> Refusal {
        overloaded("live tasks", self.pace.wait_ms(excess as u64))
    }

    /// One more of these fits when something has ended.
    pub(super) fn too_many(&self, what: &str) -> Refusal {
        overloaded(what, self.pace.wait_ms(1))
    }

    pub(super) fn too_many_workflows(&self) -> Refusal {
        overloaded("running workflows", self.workflow_pace.wait_ms(1))
    }

    /// A place is free when the most impatient of them has gone.
    pub(super) fn too_many_waiters(&self) -> Refusal {
        let until_ms = self.waiters.first_deadline_ms().unwrap_or_default();
        overloaded("waiting callers", bounded(until_ms.saturating_sub(self.now.mono_ms)))
    }

    /// A place is free when the first of them has expired and is forgotten.
    pub(super) fn too_many_keys(&self) -> Refusal {
        let expires = self.state.keys.first_expiry().unwrap_or_default();
        overloaded("idempotency keys", bounded(self.until_ms(Wall(expires.0 + limits::OPERATION_TTL_MS))))
    }

    /// There is room when the first of them has expired.
    pub(super) fn too_many_contexts(&self) -> Refusal {
        let expires = self.state.contexts.first_expiry().unwrap_or_default();
        overloaded("contexts", bounded(self.until_ms(expires)))
    }

    /// Nothing that has ended is old enough to give way.
    pub(super) fn disk_budget_spent(&self) -> Refusal {
        let wait_ms = match self.retention.next_to_give_way() {
            Some(time) => bounded(self.until_ms(time)),
            None => self.pace.wait_ms(1),
        };
        overloaded("the disk budget is spent on tasks that must be kept", wait_ms)
    }

    fn until_ms(&self, time: Wall) -> u64 {
        time.0.saturating_sub(self.now.wall_ms)
    }
}

pub(super) fn overloaded(what: &str, retry_after_ms: u64) -> Refusal {
    Refusal::Overloaded { retry_after_ms, what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_wait_is_what_is_too_much_over_the_rate() {
        let mut pace = Pace::default();
        for second in 1..=120 {
            pace.sample(second * 1_000, second * 50);
        }
        assert!((900..=1_100).contains(&pace.wait_ms(50)), "{pace:?}");
        assert!((9_900..=10_100).contains(&pace.wait_ms(500)), "{pace:?}");
        assert_eq!((pace.wait_ms(0), pace.wait_ms(u64::MAX)), (limits::RETRY_AFTER_MS_MIN, limits::RETRY_AFTER_MS_MAX));
    }

    #[test]
    fn where_nothing_ends_there_is_a_wait_all_the_same() {
        let mut pace = Pace::default();
        assert_eq!(pace.wait_ms(7), IDLE_WAIT_MS);
        pace.sample(1_000, 7);
        pace.sample(2_000, 7);
        assert_eq!(pace.wait_ms(7), IDLE_WAIT_MS);
    }

    #[test]
    fn what_had_ended_before_the_first_look_is_no_rate() {
        let mut pace = Pace::default();
        pace.sample(1_000, 1_000_000);
        assert_eq!(pace.wait_ms(1), IDLE_WAIT_MS);
    }

    proptest! {
        #[test]
        fn whatever_is_seen_the_wait_stays_within_its_bounds(
            looks in proptest::collection::vec((any::<u32>(), any::<u64>()), 0..20),
            excess: u64,
        ) {
            let (mut pace, mut now_ms) = (Pace::default(), 0);
            for (passed_ms, ended) in looks {
                now_ms += u64::from(passed_ms);
                pace.sample(now_ms, ended);
            }
            let wait_ms = pace.wait_ms(excess);
            prop_assert!((limits::RETRY_AFTER_MS_MIN..=limits::RETRY_AFTER_MS_MAX).contains(&wait_ms));
        }
    }
}
