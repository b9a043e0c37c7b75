//! Who hears whom, and when: loss, duplication, delay that reorders, cuts that heal.

use std::collections::BTreeSet;

use magpie_core::ids::LedgerTag;
use magpie_core::lease::Slots;
use magpie_core::queue::{LedgerReply, LedgerRequest, WorkerNotice};

use crate::faults::Faults;
use crate::rng::Rng;

/// Nodes are the first numbers, clients the next.
pub type Endpoint = usize;

#[derive(Debug, Clone)]
pub enum Message {
    Request { call: u64, request: LedgerRequest },
    Reply { call: u64, reply: LedgerReply },
    Notice { home: LedgerTag, notice: WorkerNotice },
    Heartbeat { home_is_up: bool, backlog: Slots },
}

/// The links between endpoints.
#[derive(Debug, Default)]
pub struct Network {
    /// Directed: a cut may be one-way.
    cut: BTreeSet<(Endpoint, Endpoint)>,
}

impl Network {
    pub fn is_cut(&self, from: Endpoint, to: Endpoint) -> bool {
        self.cut.contains(&(from, to))
    }

    pub fn cut(&mut self, from: Endpoint, to: Endpoint) {
        self.cut.insert((from, to));
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// After how long each copy of a message arrives; none: it is lost.
    pub fn arrivals(&self, rng: &mut Rng, faults: &Faults, from: Endpoint, to: Endpoint) -> Vec<u64> {
        if from == to {
            return vec![0];
        }
        if self.is_cut(from, to) || rng.chance(faults.loss) {
            return Vec::new();
        }
        let copies = 1 + usize::from(rng.chance(faults.duplicate));
        let delay = |_| {
            let most = if rng.chance(faults.straggle) { faults.straggle_ms_max } else { faults.delay_ms_max };
            rng.between(0, most)
        };
        (0..copies).map(delay).collect()
    }
}
