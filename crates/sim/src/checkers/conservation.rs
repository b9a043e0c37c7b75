//! I9: submitted = the sum over the states + lost.

use magpie_core::invariant::InvariantId;
use magpie_core::queue::QueueStats;

use super::{Verdict, require};

pub fn invariant_submitted_is_the_sum_over_the_states(stats: &QueueStats) -> Verdict {
    let holds = stats.submitted == stats.counts.total() + stats.lost;
    require(InvariantId::I9, "submitted_is_the_sum_over_the_states", holds, || {
        format!("{} submitted, {} lost, {:?}", stats.submitted, stats.lost, stats.counts)
    })
}
