//! Permits between homes: what a ledger asks the home of a limit, and what that one lends.

use magpie_core::ids::LedgerTag;
use magpie_core::limiter::{PermitAnswer, PermitAsk};
use magpie_core::queue::{Event, LedgerReply, LedgerRequest, Record, Refusal};

use crate::network::{Endpoint, Message};
use crate::world::World;

/// Marks the calls of a home: a worker's have it not.
const OF_HOME: u64 = 1 << 63;
/// What is told and asks for nothing.
const TOLD: u64 = OF_HOME;

pub fn is_of_home(call: u64) -> bool {
    call & OF_HOME != 0
}

impl World {
    pub fn node_of_home(&self, home: LedgerTag) -> Option<Endpoint> {
        self.nodes.iter().position(|node| node.tag() == home)
    }

    pub fn ask_permits(&mut self, node: usize, limiter: LedgerTag, ask: PermitAsk) {
        let (to, own) = (self.node_of_home(limiter), self.nodes[node].home.as_mut());
        let (Some(to), Some(home)) = (to, own) else { return };
        let call = OF_HOME | home.life << 32 | ask.seq;
        home.asks.insert(call, (limiter, ask.clone()));
        self.send(node, to, Message::Request { call, request: LedgerRequest::AskPermits(ask) });
    }

    pub fn lend_permits(&mut self, node: usize, borrower: LedgerTag, answer: PermitAnswer) {
        if let Some(to) = self.node_of_home(borrower) {
            let request = LedgerRequest::TakePermits(answer);
            self.send(node, to, Message::Request { call: TOLD, request });
        }
    }

    pub fn home_hears(&mut self, node: usize, call: u64, reply: LedgerReply) {
        let asks = self.nodes[node].home.as_mut().and_then(|home| home.asks.remove(&call));
        let Some((home, ask)) = asks else { return };
        let answer = match reply {
            LedgerReply::Permits(answer) => Ok(*answer),
            LedgerReply::Refused(refusal) => Err(refusal),
            _ => Err(Refusal::Unavailable { what: "the home of the limit answered something else".to_owned() }),
        };
        self.tell_home(node, Event::PermitsAnswered { home, ask, answer });
    }

    /// What a record starts under a rate of its home, and what it lends of it.
    pub fn judge_starts(&mut self, node: usize, record: &Record) {
        let asked = self.nodes[node].home.as_ref().and_then(|home| home.asked.as_ref());
        let starts = crate::checkers::limits::starts(&self.books[node], record, asked);
        let verdict = self.spent.invariant_starts_keep_to_their_rate(self.now_ms, node, starts);
        self.judge(verdict);
    }
}
