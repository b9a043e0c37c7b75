//! A home's side of a key that another home holds: what it may use, and when it asks.
//!
//! Its end of what it was lent counts from when it *sent* the ask that was answered, as a worker's end of a lease does.

use super::key::LimitKind;
use super::protocol::{PermitAnswer, PermitAsk};
use super::rate::Rate;
use crate::ids::{Generation, LeaseToken, LedgerTag};
use crate::limits;

/// Who borrows what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Borrowing {
    pub kind: LimitKind,
    pub name: String,
    pub borrower: LedgerTag,
    pub generation: Generation,
    pub token: LeaseToken,
}

/// What waits at a home for permits of one key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Demand {
    /// Permits in use.
    pub used: u64,
    /// More could be used at once, but for a slot of a worker.
    pub usable: u64,
    /// More could be used once the places are there that the same tasks need: starts are kept for them meanwhile.
    pub kept: u64,
}

impl Demand {
    fn waiting(self) -> u64 {
        self.usable + self.kept
    }
}

#[derive(Debug, Clone)]
pub struct Borrower {
    who: Borrowing,
    /// It uses no more than this, and that until then.
    allowed: u64,
    ends_ms: u64,
    seq: u64,
    sent_ms: u64,
    under_way: bool,
    asked: u64,
    limiter: Option<Generation>,
    contended: bool,
    /// A permit that was used is free, and another home waits for it.
    owes: bool,
    /// Since when more is allowed than used.
    spare_since_ms: u64,
    /// The limit as its home says it, or why there is none.
    said: Result<String, String>,
}

impl Borrower {
    pub fn new(who: Borrowing) -> Self {
        Self {
            who,
            allowed: 0,
            ends_ms: 0,
            seq: 0,
            sent_ms: 0,
            under_way: false,
            asked: 0,
            limiter: None,
            contended: false,
            owes: false,
            spare_since_ms: 0,
            said: Err("its home has not answered yet".to_owned()),
        }
    }

    /// Permits that may be used now.
    pub fn allowed(&self, now_ms: u64) -> u64 {
        if now_ms < self.ends_ms { self.allowed } else { 0 }
    }

    /// The limit, or what is wrong with it, in words.
    pub fn said(&self) -> Result<&str, &str> {
        self.said.as_deref().map_err(String::as_str)
    }

    /// Whether there is nothing left to ask for or to give back.
    pub fn is_idle(&self, now_ms: u64) -> bool {
        self.allowed(now_ms) == 0 && self.asked == 0
    }

    /// What to ask for now, if anything. `last_seq` is of all asks of this life of the home.
    pub fn poll(&mut self, now_ms: u64, demand: Demand, last_seq: &mut u64) -> Option<PermitAsk> {
        self.allowed = self.allowed(now_ms);
        if self.allowed <= demand.used {
            self.spare_since_ms = now_ms;
        }
        let (want, keep) = (self.want(demand), self.keep(now_ms, demand));
        let silent_ms = now_ms.saturating_sub(self.sent_ms);
        let first = self.seq == 0 || (self.asked == 0 && self.allowed == 0);
        let due = match (self.under_way, want > 0 || self.allowed > 0 || self.asked > 0) {
            (_, false) => false,
            // An answer that does not come is not waited for: the next ask replaces this one.
            (true, true) => silent_ms >= limits::PERMIT_RETRY_MS,
            (false, true) => {
                let returns = self.owes || (self.contended && self.allowed > keep);
                let more = want > self.asked && want > self.allowed && silent_ms >= limits::PERMIT_ASK_EVERY_MS;
                first || returns || more || silent_ms >= limits::PERMIT_RENEW_EVERY_MS
            }
        };
        due.then(|| {
            *last_seq += 1;
            self.seq = *last_seq;
            self.allowed = self.allowed.min(keep);
            self.ask(now_ms, demand.used, want)
        })
    }

    fn want(&self, demand: Demand) -> u64 {
        demand.used + demand.waiting().min(self.ahead())
    }

    /// Permits that this home may have in hand: a rate is none if starts pile up that nothing uses.
    fn ahead(&self) -> u64 {
        let said = self.said.as_deref().ok().and_then(|limit| limit.parse().ok());
        match self.who.kind {
            LimitKind::Concurrency => limits::PERMITS_LENT_MAX,
            LimitKind::Rate => said.map_or(1, Rate::at_hand),
        }
    }

    /// Of what is allowed the part that does not go back. What another home waits for does, unless it is in use, waits
    /// for the other key of its tasks, or has not been here for long: two homes that both wait for a worker, or for
    /// another key, would hand a permit to and fro as fast as messages travel.
    fn keep(&self, now_ms: u64, demand: Demand) -> u64 {
        let idle = now_ms.saturating_sub(self.spare_since_ms) >= limits::PERMIT_IDLE_MS_MAX;
        let waiting = if self.contended && idle { demand.kept } else { demand.waiting() };
        demand.used + waiting.min(self.ahead())
    }

    fn ask(&mut self, now_ms: u64, used: u64, want: u64) -> PermitAsk {
        self.sent_ms = now_ms;
        self.under_way = true;
        self.owes = false;
        self.asked = want;
        let Borrowing { kind, ref name, borrower, generation, token } = self.who;
        let (name, seq, limiter) = (name.clone(), self.seq, self.limiter);
        PermitAsk { kind, name, borrower, generation, token, seq, limiter, hold: self.allowed.max(used), want }
    }

    /// What used a permit ended. While another home waits, that permit is used no more: it goes back.
    pub fn freed(&mut self) {
        if self.contended {
            self.allowed = self.allowed.saturating_sub(1);
            self.owes = true;
        }
    }

    /// Takes an answer, or what was lent later in answer to the same ask. Returns whether it was for the newest ask.
    pub fn answered(&mut self, answer: &PermitAnswer) -> bool {
        if answer.token != self.who.token || answer.seq != self.seq {
            return false;
        }
        // To one ask there is never less than was said before, whatever the order in which it arrives.
        let first = std::mem::take(&mut self.under_way);
        self.allowed = if first { answer.count } else { self.allowed.max(answer.count) };
        self.ends_ms = self.sent_ms + answer.ttl_ms.min(limits::PERMIT_TTL_MS) - limits::PERMIT_MARGIN_MS;
        self.limiter = Some(answer.generation);
        self.contended = answer.contended;
        self.said = Ok(answer.limit.clone());
        true
    }

    /// The ask `seq` came back without an answer, or with a refusal in words.
    pub fn failed(&mut self, seq: u64, why: String) {
        if seq == self.seq {
            self.said = Err(why);
        }
    }
}
