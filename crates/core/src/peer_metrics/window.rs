//! The window that runs.

use super::WindowView;
use crate::limits;

#[derive(Debug)]
pub(super) struct Running {
    pub began_ms: u64,
    /// Until when `connected_ms` is counted.
    passed_ms: u64,
    pub counts: WindowView,
    /// The newest round trips, in a ring.
    round_trips_us: Vec<u64>,
}

impl Running {
    pub fn new(now_ms: u64) -> Self {
        Self { began_ms: now_ms, passed_ms: now_ms, counts: WindowView::default(), round_trips_us: Vec::new() }
    }

    pub fn answered(&mut self, round_trip_us: u64) {
        let place = self.counts.answered as usize % limits::METRICS_SAMPLES_MAX;
        self.counts.answered += 1;
        match self.round_trips_us.get_mut(place) {
            Some(held) => *held = round_trip_us,
            None => self.round_trips_us.push(round_trip_us),
        }
    }

    /// Time went on until `now_ms`, connected or not.
    pub fn pass(&mut self, now_ms: u64, connected: bool) {
        let since_ms = now_ms.saturating_sub(self.passed_ms);
        self.counts.connected_ms += if connected { since_ms } else { 0 };
        self.passed_ms = self.passed_ms.max(now_ms);
    }

    pub fn view(&self, now_ms: u64) -> WindowView {
        let mut sorted = self.round_trips_us.clone();
        sorted.sort_unstable();
        let percentile = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        let lasted_ms = now_ms.saturating_sub(self.began_ms);
        let (p50_us, p99_us) = (percentile(50), percentile(99));
        WindowView { began_ms_ago: lasted_ms, lasted_ms, p50_us, p99_us, ..self.counts }
    }
}
