//! How bad a run's weather is. Each seed draws every probability; the liveness phase has none.

use crate::rng::Rng;

/// Chances are per mille of the messages, writes or ticks that they befall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    pub loss: u64,
    pub duplicate: u64,
    /// Messages that arrive so much later that others overtake them.
    pub straggle: u64,
    pub delay_ms_max: u64,
    pub straggle_ms_max: u64,
    pub write_ms_max: u64,
    pub sync_ms_max: u64,
    /// Syncs that take [`STALLED_SYNC_MS_MAX`] at most.
    pub sync_stall: u64,
    /// Ticks that come late.
    pub late_tick: u64,
    /// Messages about leases that someone forges.
    pub forge: u64,
    /// Means between two faults of a kind, in milliseconds of the whole run; 0: never.
    pub crash_every_ms: u64,
    pub pause_every_ms: u64,
    pub partition_every_ms: u64,
    pub wall_step_every_ms: u64,
}

pub const STALLED_SYNC_MS_MAX: u64 = 3_000;
pub const LATE_TICK_MS_MAX: u64 = 4_000;

impl Faults {
    pub fn draw(rng: &mut Rng) -> Self {
        // Half of the kinds are absent from a run, so that the others show alone as well.
        let mut often = |most: u64| if rng.chance(500) { rng.below(most + 1) } else { 0 };
        let (loss, duplicate, straggle) = (often(300), often(300), often(100));
        let (sync_stall, late_tick, forge) = (often(50), often(30), often(50));
        let mut every = |least: u64, most: u64| if rng.chance(600) { rng.between(least, most) } else { 0 };
        let (crash_every_ms, pause_every_ms) = (every(400, 8_000), every(1_500, 12_000));
        let (partition_every_ms, wall_step_every_ms) = (every(2_000, 12_000), every(2_000, 12_000));
        Self {
            loss,
            duplicate,
            straggle,
            delay_ms_max: rng.between(1, 60),
            straggle_ms_max: rng.between(500, 12_000),
            write_ms_max: rng.between(0, 3),
            sync_ms_max: rng.between(1, 30),
            sync_stall,
            late_tick,
            forge,
            crash_every_ms,
            pause_every_ms,
            partition_every_ms,
            wall_step_every_ms,
        }
    }

    /// The weather in which everything must end.
    pub fn calm() -> Self {
        Self {
            loss: 0,
            duplicate: 0,
            straggle: 0,
            delay_ms_max: 5,
            straggle_ms_max: 0,
            write_ms_max: 1,
            sync_ms_max: 5,
            sync_stall: 0,
            late_tick: 0,
            forge: 0,
            crash_every_ms: 0,
            pause_every_ms: 0,
            partition_every_ms: 0,
            wall_step_every_ms: 0,
        }
    }
}
