//! The clocks, read at the edge: cores get times, never a clock.

use std::time::{SystemTime, UNIX_EPOCH};

use magpie_core::time::Now;

/// Both clocks of this machine. The monotonic one counts suspend (Linux: `CLOCK_BOOTTIME`).
pub fn now() -> Now {
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let mono_ms = boot.tv_sec as u64 * 1_000 + boot.tv_nsec as u64 / 1_000_000;
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { mono_ms, wall_ms: wall.as_millis() as u64 }
}
