//! What a limiter home has left to lend.

use super::rate::{Rate, RateMark};
use crate::limits;
use crate::time::Wall;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supply {
    /// Places of a concurrency key: how many there are, and how many are taken. More are where a lease ran on that the
    /// home had given up; what comes back then pays for that first.
    Places { most: u64, taken: u64 },
    /// Starts of a rate key.
    Starts { rate: Rate, mark: RateMark, now: Wall },
}

impl Supply {
    /// Takes up to `wanted`; returns how many there were.
    pub fn take(&mut self, wanted: u64) -> u64 {
        let wanted = wanted.min(limits::PERMITS_LENT_MAX);
        match self {
            Self::Places { most, taken } => {
                let more = wanted.min(most.saturating_sub(*taken));
                *taken += more;
                more
            }
            Self::Starts { rate, mark, now } => {
                let mut taken = 0;
                while taken < wanted && rate.allows(*mark, *now) {
                    *mark = rate.started(*mark, *now);
                    taken += 1;
                }
                taken
            }
        }
    }

    pub fn give_back(&mut self, returned: u64) {
        match self {
            Self::Places { taken, .. } => *taken = taken.saturating_sub(returned),
            Self::Starts { rate, mark, .. } => {
                *mark = mark.given_back(rate.interval_us().saturating_mul(returned));
            }
        }
    }

    /// Whether permits come back when their time is over: a place does, a start may have been used.
    pub(super) fn outlives_its_use(&self) -> bool {
        matches!(self, Self::Places { .. })
    }
}
