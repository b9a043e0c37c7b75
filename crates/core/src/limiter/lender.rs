//! The limiter home's side of one key: what it lent to whom, and whose turn is next.
//!
//! A home is believed when it says that it holds less, but only where that rests on what this life of the limiter lent:
//! a message of before a restart must not take back what was lent after it.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::protocol::PermitAsk;
use super::supply::Supply;
use crate::ids::{Generation, LeaseToken, LedgerTag};
use crate::limits;

#[derive(Debug, Clone)]
struct Loan {
    generation: Generation,
    /// `None` after a restart, until the borrower speaks.
    token: Option<LeaseToken>,
    seq: u64,
    count: u64,
    /// What of `count` was lent here, and not taken over from the log or on the borrower's word.
    lent_here: u64,
    want: u64,
    expires_ms: u64,
    told_contended: bool,
}

/// What of a loan must be on the disk before anyone hears of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoanFacts {
    pub borrower: LedgerTag,
    pub generation: Generation,
    pub count: u64,
}

/// How a loan stands, for the answer to the borrower's newest ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub borrower: LedgerTag,
    pub token: LeaseToken,
    pub seq: u64,
    pub count: u64,
    pub contended: bool,
}

/// What follows from an event.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lent {
    /// To record.
    pub changed: Vec<LoanFacts>,
    /// To tell.
    pub told: Vec<Standing>,
}

/// An ask that changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    #[error("a newer message of the same home came before it")]
    Stale,
    #[error("another process speaks for the same life of that home")]
    Fenced,
    #[error("{} homes hold permits of this key already", limits::PEERS_MAX)]
    Full,
}

/// Who stands in line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiter {
    /// The limiter home, which takes for itself when its turn has come.
    Own,
    Borrower(LedgerTag),
}

#[derive(Debug, Clone)]
pub struct Lender {
    generation: Generation,
    loans: BTreeMap<LedgerTag, Loan>,
    /// Those that want more than they have, in the order in which they are served.
    queue: VecDeque<Waiter>,
}

impl Lender {
    /// Of a home that just started: what is recorded may be in use for one TTL from now.
    pub fn recovered(generation: Generation, now_ms: u64, loans: impl IntoIterator<Item = LoanFacts>) -> Self {
        let expires_ms = now_ms + limits::PERMIT_TTL_MS;
        let loan = |LoanFacts { borrower, generation, count }: LoanFacts| {
            let (token, seq, lent_here, want) = (None, 0, 0, 0);
            (borrower, Loan { generation, token, seq, count, lent_here, want, expires_ms, told_contended: false })
        };
        Self { generation, loans: loans.into_iter().map(loan).collect(), queue: VecDeque::new() }
    }

    /// Permits that other homes have.
    pub fn lent(&self) -> u64 {
        self.loans.values().map(|loan| loan.count).sum()
    }

    pub fn is_idle(&self) -> bool {
        self.loans.is_empty()
    }

    /// Whether the own home may take what is free: nobody waits, or it is its turn.
    pub fn is_own_turn(&self) -> bool {
        self.queue.front().is_none_or(|first| *first == Waiter::Own)
    }

    /// Takes an ask; the asker's standing is the last one told.
    ///
    /// # Errors
    /// If it is overtaken, or not of the process that borrowed.
    pub fn ask(&mut self, now_ms: u64, ask: &PermitAsk, supply: &mut Supply) -> Result<Lent, AskError> {
        let borrower = ask.borrower;
        if !self.loans.contains_key(&borrower) && self.loans.len() >= limits::PEERS_MAX {
            return Err(AskError::Full);
        }
        let based_here = ask.limiter == Some(self.generation);
        let none = LoanFacts { borrower, generation: ask.generation, count: 0 };
        let before = self.loans.get(&borrower).map_or(none, |loan| loan.facts(borrower));
        let unknown = Loan {
            generation: ask.generation,
            token: Some(ask.token),
            seq: 0,
            // Starts that were used stay used, also where they are forgotten here; places are counted anew.
            count: if supply.outlives_its_use() { 0 } else { ask.hold },
            lent_here: 0,
            want: 0,
            expires_ms: 0,
            told_contended: false,
        };
        let loan = self.loans.entry(borrower).or_insert(unknown);
        let new_life = ask.generation > loan.generation;
        if ask.generation < loan.generation || (!new_life && ask.seq < loan.seq) {
            return Err(AskError::Stale);
        }
        if !new_life && loan.token.is_some_and(|token| token != ask.token) {
            return Err(AskError::Fenced);
        }
        let again = !new_life && loan.token.is_some() && ask.seq == loan.seq;
        if !again {
            if new_life && !supply.outlives_its_use() {
                (loan.count, loan.lent_here) = (ask.hold, 0);
            } else if new_life || based_here {
                let back = loan.count.saturating_sub(ask.hold);
                loan.count -= back;
                // A place is free again. A start goes back to its rate if it was taken from it here: another may be
                // back already.
                let free = if supply.outlives_its_use() { back } else { back.min(loan.lent_here) };
                loan.lent_here = loan.lent_here.saturating_sub(back);
                supply.give_back(free);
            }
            (loan.generation, loan.token, loan.seq, loan.want) = (ask.generation, Some(ask.token), ask.seq, ask.want);
            loan.expires_ms = now_ms + limits::PERMIT_TTL_MS;
        }
        let changed = loan.facts(borrower) != before;
        self.stand_in_line(borrower);
        let mut lent = self.serve(supply);
        if changed && !lent.changed.iter().any(|facts| facts.borrower == borrower) {
            lent.changed.extend(self.loans.get(&borrower).map(|loan| loan.facts(borrower)));
        }
        lent.told.retain(|standing| standing.borrower != borrower);
        lent.told.extend(self.say(borrower));
        self.forget_idle();
        Ok(lent)
    }

    /// Whether the own home wants something that it may not take now.
    pub fn own_waits(&mut self, waits: bool) {
        let place = self.queue.iter().position(|waiter| *waiter == Waiter::Own);
        match (place, waits) {
            (None, true) => self.queue.push_back(Waiter::Own),
            (Some(place), false) => drop(self.queue.remove(place)),
            (None, false) | (Some(_), true) => {}
        }
    }

    /// The own home took a permit: its turn is over.
    pub fn own_took(&mut self) {
        if self.queue.front() == Some(&Waiter::Own) {
            self.queue.rotate_left(1);
        }
    }

    /// Lends what is free, in turn: one each while several wait, all that is wanted to the only one.
    pub fn serve(&mut self, supply: &mut Supply) -> Lent {
        let mut lent = Lent::default();
        while let Some(Waiter::Borrower(first)) = self.queue.front().copied() {
            let alone = self.queue.len() == 1;
            let Some(loan) = self.loans.get_mut(&first) else {
                self.queue.pop_front();
                continue;
            };
            let missing = loan.want.saturating_sub(loan.count);
            let taken = supply.take(if alone { missing } else { missing.min(1) });
            if taken == 0 && missing > 0 {
                break;
            }
            loan.count += taken;
            loan.lent_here += taken;
            self.queue.pop_front();
            if loan.want > loan.count {
                self.queue.push_back(Waiter::Borrower(first));
            }
            if taken > 0 {
                lent.changed.retain(|facts| facts.borrower != first);
                lent.changed.push(loan.facts(first));
            }
        }
        self.tell(&mut lent);
        lent
    }

    /// Ends what was not asked for again in time.
    pub fn expire(&mut self, now_ms: u64, supply: &mut Supply) -> Lent {
        let overdue = self.loans.iter().filter(|(_, loan)| loan.expires_ms <= now_ms).map(|(home, _)| *home);
        let overdue: Vec<LedgerTag> = overdue.collect();
        let mut ended = Vec::new();
        for home in overdue {
            let Some(loan) = self.loans.remove(&home) else { continue };
            if supply.outlives_its_use() {
                supply.give_back(loan.count);
            }
            self.queue.retain(|waiter| *waiter != Waiter::Borrower(home));
            if loan.count > 0 {
                ended.push(LoanFacts { borrower: home, generation: loan.generation, count: 0 });
            }
        }
        let mut lent = self.serve(supply);
        lent.changed.extend(ended);
        lent
    }

    /// This node stood still: nobody's permits end for that.
    pub fn extend(&mut self, late_ms: u64) {
        self.loans.values_mut().for_each(|loan| loan.expires_ms += late_ms);
    }

    fn stand_in_line(&mut self, borrower: LedgerTag) {
        let wants = self.loans.get(&borrower).is_some_and(|loan| loan.want > loan.count);
        let waiter = Waiter::Borrower(borrower);
        let stands = self.queue.contains(&waiter);
        if wants && !stands {
            self.queue.push_back(waiter);
        } else if !wants && stands {
            self.queue.retain(|waiting| *waiting != waiter);
        }
    }

    /// Those whose loan grew, and those who hold something that another waits for and do not know.
    fn tell(&mut self, lent: &mut Lent) {
        let homes: Vec<LedgerTag> = self.loans.keys().copied().collect();
        for home in homes {
            let grew = lent.changed.iter().any(|facts| facts.borrower == home);
            let unaware = self.loans.get(&home).is_some_and(|loan| loan.count > 0 && !loan.told_contended);
            if grew || (unaware && self.is_contended(home)) {
                lent.told.extend(self.say(home));
            }
        }
    }

    fn is_contended(&self, borrower: LedgerTag) -> bool {
        self.queue.iter().any(|waiter| *waiter != Waiter::Borrower(borrower))
    }

    fn say(&mut self, borrower: LedgerTag) -> Option<Standing> {
        let contended = self.is_contended(borrower);
        let loan = self.loans.get_mut(&borrower)?;
        loan.told_contended = contended;
        Some(Standing { borrower, token: loan.token?, seq: loan.seq, count: loan.count, contended })
    }

    fn forget_idle(&mut self) {
        self.loans.retain(|_, loan| loan.count > 0 || loan.want > 0);
    }
}

impl Loan {
    fn facts(&self, borrower: LedgerTag) -> LoanFacts {
        LoanFacts { borrower, generation: self.generation, count: self.count }
    }
}
