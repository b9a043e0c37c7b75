//! Who hears whom, and when: loss, duplication, delay that reorders, cuts that heal.

use magpie_core::clock::SignedHead;
use magpie_core::ids::{Incarnation, LedgerTag};
use magpie_core::lease::Slots;
use magpie_core::membership::PeerReport;
use magpie_core::queue::{LedgerReply, LedgerRequest, WorkerNotice};

use crate::faults::Faults;
use crate::partition::Cuts;
use crate::rng::Rng;

/// Nodes are the first numbers, clients the next, agents the last.
pub type Endpoint = usize;

#[derive(Debug, Clone)]
pub enum Message {
    Request { call: u64, request: LedgerRequest },
    Reply { call: u64, reply: LedgerReply },
    Notice { home: LedgerTag, notice: WorkerNotice },
    Heartbeat(Heartbeat),
}

/// What a node says of itself, and what it heard of others.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    pub incarnation: Incarnation,
    pub reports: Vec<PeerReport>,
    pub home_is_up: bool,
    pub backlog: Slots,
    /// Of all ledgers that it knows; in some heartbeats none.
    pub heads: Vec<SignedHead>,
    pub wants_answer: bool,
}

/// The links between endpoints.
#[derive(Debug, Default)]
pub struct Network {
    cuts: Cuts,
    /// Counts partitions: what ends an earlier one does not end this one.
    partition: u64,
}

impl Network {
    pub fn is_cut(&self, from: Endpoint, to: Endpoint) -> bool {
        self.cuts.contains(&(from, to))
    }

    /// A new partition takes the place of what was there. Returns its number.
    pub fn part(&mut self, cuts: Cuts) -> u64 {
        self.cuts = cuts;
        self.partition += 1;
        self.partition
    }

    pub fn is_current(&self, partition: u64) -> bool {
        self.partition == partition
    }

    /// Cuts the links of the present partition, again or with none.
    pub fn set_cuts(&mut self, cuts: Cuts) {
        self.cuts = cuts;
    }

    pub fn heal(&mut self) {
        self.part(Cuts::new());
    }

    /// After how long each copy of a message arrives; none: it is lost.
    pub fn arrivals(&self, rng: &mut Rng, faults: &Faults, from: Endpoint, to: Endpoint) -> [Option<u64>; 2] {
        if from == to {
            return [Some(0), None];
        }
        if self.is_cut(from, to) || rng.chance(faults.loss) {
            return [None, None];
        }
        let mut delay = || {
            let most = if rng.chance(faults.straggle) { faults.straggle_ms_max } else { faults.delay_ms_max };
            rng.between(0, most)
        };
        let first = delay();
        let second =
            rng.chance(faults.duplicate).then(|| rng.between(0, faults.delay_ms_max.max(faults.straggle_ms_max)));
        [Some(first), second]
    }
}
