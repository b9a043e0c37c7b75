//! Until when a command goes on trying.

use std::time::{Duration, Instant};

/// A point in time, or none.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    pub fn after(timeout: Duration) -> Self {
        // A time so far away that the clock cannot hold it never comes.
        Self(Instant::now().checked_add(timeout))
    }

    /// Never, if no timeout is given.
    pub fn within(timeout: Option<Duration>) -> Self {
        timeout.map_or(Self(None), Self::after)
    }

    /// What is left of `longest` before the deadline.
    pub fn cap(self, longest: Duration) -> Duration {
        self.0.map_or(longest, |end| end.saturating_duration_since(Instant::now()).min(longest))
    }

    pub fn has_passed(self) -> bool {
        self.cap(Duration::MAX).is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_caps_and_none_never_passes() {
        assert!(!Deadline::within(None).has_passed());
        assert!(!Deadline::after(Duration::MAX).has_passed());
        assert!(Deadline::after(Duration::ZERO).has_passed());
        let hour = Duration::from_secs(3_600);
        assert_eq!(Deadline::within(None).cap(hour), hour);
        assert!(Deadline::after(hour).cap(Duration::MAX) <= hour);
    }
}
