//! When a home looks at its clocks again: tick by tick while something moves, else when the next thing is due.

use super::ledger::Ledger;
use crate::limits;
use crate::time::Wall;

impl Ledger {
    /// When the ledger wants a [`Event::Tick`](super::Event::Tick) at the latest, on the monotonic clock. Any event may
    /// bring it forward.
    pub fn next_deadline(&self) -> u64 {
        self.preference_due_ms.map_or(self.tick_due_ms, |due_ms| due_ms.min(self.tick_due_ms))
    }

    /// An event brings the next tick forward.
    pub(super) fn hasten_tick(&mut self) {
        let soonest_ms = self.now.mono_ms + limits::TICK_MS;
        if soonest_ms < self.tick_due_ms {
            self.tick_due_ms = self.tick_due_ms.min(self.tick_wanted(None));
        }
    }

    /// A tick sets the time of the next.
    pub(super) fn plan_tick(&mut self) {
        let running = self.state.schedules.values().filter(|schedule| !schedule.paused);
        let upkeep = running.filter_map(|schedule| schedule.due).chain(self.retention.next_due()).min();
        self.tick_due_ms = self.tick_wanted(upkeep);
    }

    fn tick_wanted(&self, upkeep: Option<Wall>) -> u64 {
        let now_ms = self.now.mono_ms;
        let (soonest_ms, latest_ms) = (now_ms + limits::TICK_MS, now_ms + limits::TICK_IDLE_MS_MAX);
        if self.moves() {
            return soonest_ms;
        }
        let not_before = self.delayed_until.first().map(|(due, _)| *due);
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
        let by_wall = [not_before, deadline, upkeep].into_iter().flatten().min();
        let by_wall_ms = by_wall.map(|due| now_ms + due.0.saturating_sub(self.now.wall_ms));
        let delayed_ms = self.delayed.first().map(|(due_ms, _)| *due_ms);
        let due_ms = [by_wall_ms, delayed_ms, self.waiters.first_deadline_ms()].into_iter().flatten().min();
        // What is due and must wait, as a deadline under a clock's alarm, is looked at tick by tick.
        due_ms.map_or(latest_ms, |due_ms| due_ms.clamp(soonest_ms, latest_ms))
    }

    /// Whether something may happen at any tick: tasks that wait, or run; permits; questions that have no answer; a log
    /// that is being made shorter.
    fn moves(&self) -> bool {
        let counts = &self.state.counts;
        counts.ready + counts.leased + counts.running + counts.blocked > 0
            || !self.binding.is_empty()
            || !self.children_due.is_empty()
            || self.permits.are_in_use()
            || self.compaction.is_under_way()
    }
}
