//! How many peers are met at a time: half as many whenever this node gets to its own work late, and one more each time that it
//! has been on time for a while.
//!
//! In a crowd that starts together each knows all others at once. If each dialled all of them, every admission would wait
//! for every other, most would come too late, and the work would be done again.

use crate::limits;

#[derive(Debug)]
pub(super) struct Pace {
    width: usize,
    changed_ms: u64,
}

impl Pace {
    pub fn new() -> Self {
        Self { width: limits::MEETING_MAX, changed_ms: 0 }
    }

    pub fn width(&self) -> usize {
        self.width
    }

    /// This node looks at its deadlines, so long after it should have. How long a peer takes says less: it may be far away.
    pub fn ticked(&mut self, late_ms: u64, now_ms: u64) {
        let (is_late, since_ms) = (late_ms > limits::MEETING_LATE_MS, now_ms.saturating_sub(self.changed_ms));
        let width = match is_late {
            true if since_ms >= limits::MEETING_FEWER_MS => (self.width / 2).max(1),
            false if since_ms >= limits::MEETING_MORE_MS => (self.width + 1).min(limits::MEETING_MAX),
            _ => return,
        };
        (self.width, self.changed_ms) = (width, now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_while_this_node_is_late_and_more_when_it_is_not() {
        let mut pace = Pace::new();
        let mut now_ms = 0;
        let mut widths = |pace: &mut Pace, late_ms, ticks: u64| {
            let widths = (0..ticks).map(|_| {
                now_ms += limits::TICK_MS;
                pace.ticked(late_ms, now_ms);
                pace.width()
            });
            widths.collect::<Vec<_>>()
        };
        assert_eq!(widths(&mut pace, limits::MEETING_LATE_MS, 30), [limits::MEETING_MAX; 30], "on time");
        let late = widths(&mut pace, limits::MEETING_LATE_MS + 1, 50);
        assert!(late.is_sorted_by(|one, next| one >= next) && late[49] == 1, "it never comes to a stop: {late:?}");
        let on_time = widths(&mut pace, 0, 200);
        assert!(on_time.is_sorted() && on_time[0] == 1 && on_time[199] == limits::MEETING_MAX, "{on_time:?}");
    }

    #[test]
    fn one_hold_up_halves_once() {
        let mut pace = Pace::new();
        pace.ticked(60_000, 60_000);
        pace.ticked(60_000, 60_001);
        assert_eq!(pace.width(), limits::MEETING_MAX / 2);
    }
}
