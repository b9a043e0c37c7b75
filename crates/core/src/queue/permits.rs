//! Keys that another home holds, and what this home lends of its own: the ledger around [`Borrower`] and [`Lender`].

use std::collections::{BTreeMap, BTreeSet};

use super::effects::{Effect, Gate, ReplyTo};
use super::ledger::Ledger;
use super::limit_keys::{Limit, no_rate};
use super::pace::overloaded;
use super::protocol::{LedgerReply, Refusal};
use super::record::Record;
use crate::ids::{Generation, LeaseToken, LedgerTag, LogIndex};
use crate::limiter::{
    AskError, Borrower, Borrowing, Demand, Lender, Lent, LimitKey, LimitKind, LoanFacts, PermitAnswer, PermitAsk,
    Standing, Supply,
};
use crate::limits;
use crate::task::Durability;
use crate::time::Wall;

#[derive(Debug, Clone, Default)]
pub(super) struct Permits {
    borrowed: BTreeMap<Limit, Borrowed>,
    lent: BTreeMap<Limit, Lender>,
    last_seq: u64,
    /// Limits that may have something to ask for, to give back or to lend.
    stirred: BTreeSet<Limit>,
}

#[derive(Debug, Clone)]
struct Borrowed {
    borrower: Borrower,
    /// Of a rate key: starts in this life.
    starts: u64,
}

impl Permits {
    /// Of a home that opens: what is recorded as lent may be in use for one more TTL.
    pub fn recovered(generation: Generation, now_ms: u64, loans: &Loans) -> Self {
        #[cfg(feature = "canary")]
        if crate::canary::has(crate::canary::Bug::LoansForgotten) {
            return Self::default();
        }
        let lender = |(limit, homes): (&Limit, &BTreeMap<LedgerTag, LoanFacts>)| {
            (limit.clone(), Lender::recovered(generation, now_ms, homes.values().copied()))
        };
        Self { lent: loans.iter().map(lender).collect(), ..Self::default() }
    }

    /// Permits of a limit of this home that other homes have.
    pub fn lent(&self, limit: &Limit) -> u64 {
        self.lent.get(limit).map_or(0, Lender::lent)
    }

    pub fn is_own_turn(&self, limit: &Limit) -> bool {
        self.lent.get(limit).is_none_or(Lender::is_own_turn)
    }

    /// Permits of another's limit that this home may use beyond those in use, while `live` leases are under it.
    pub fn spare(&self, limit: &Limit, now_ms: u64, live: u64) -> u64 {
        let spare = |borrowed: &Borrowed| borrowed.borrower.allowed(now_ms).saturating_sub(borrowed.used(limit, live));
        self.borrowed.get(limit).map_or(0, spare)
    }

    pub fn took(&mut self, limit: &Limit) {
        if let Some(borrowed) = self.borrowed.get_mut(limit) {
            borrowed.starts += 1;
        }
        if let Some(lender) = self.lent.get_mut(limit) {
            lender.own_took();
        }
    }

    /// A lease under the limit ended.
    pub fn freed(&mut self, limit: &Limit) {
        if let Some(borrowed) = self.borrowed.get_mut(limit) {
            borrowed.borrower.freed();
        }
    }

    /// Something about a limit changed that may concern another home.
    pub fn stir(&mut self, limit: &Limit) {
        if limit.key.home.is_some() || self.lent.contains_key(limit) {
            self.stirred.insert(limit.clone());
        }
    }

    pub fn stir_each<'a>(&mut self, limits: impl IntoIterator<Item = &'a Limit>) {
        limits.into_iter().for_each(|limit| self.stir(limit));
    }

    /// Whether anything is lent, or borrowed.
    pub fn are_in_use(&self) -> bool {
        !self.borrowed.is_empty() || !self.lent.is_empty()
    }

    fn stir_all(&mut self) -> Vec<Limit> {
        let all: Vec<Limit> = self.borrowed.keys().chain(self.lent.keys()).cloned().collect();
        self.stirred.extend(all.iter().cloned());
        all
    }

    /// This node stood still: nobody's permits end for that.
    pub fn extend(&mut self, late_ms: u64) {
        self.lent.values_mut().for_each(|lender| lender.extend(late_ms));
    }

    /// Whether there is room for keys of other homes among `limits`.
    pub fn check(&self, limits: &[Limit]) -> Result<(), Refusal> {
        let new = |limit: &&Limit| limit.key.home.is_some() && !self.borrowed.contains_key(limit);
        let full = self.borrowed.len() + limits.iter().filter(new).count() > limits::PERMIT_KEYS_MAX;
        if full && limits.iter().any(|limit| new(&limit)) {
            Err(overloaded("keys of other homes", limits::RETRY_AFTER_MS_MAX))
        } else {
            Ok(())
        }
    }

    /// What is known of another home's limit, in words.
    pub fn said(&self, limit: &Limit) -> Result<&str, &str> {
        self.borrowed.get(limit).map_or(Err("it was not asked yet"), |borrowed| borrowed.borrower.said())
    }
}

/// What the log says is lent, by limit and home.
pub(super) type Loans = BTreeMap<Limit, BTreeMap<LedgerTag, LoanFacts>>;

impl Borrowed {
    fn used(&self, limit: &Limit, live: u64) -> u64 {
        match limit.kind {
            LimitKind::Concurrency => live,
            LimitKind::Rate => self.starts,
        }
    }
}

impl Ledger {
    /// Ends what was lent and not asked for again; ends what was borrowed, with time. A key that was forgotten because
    /// nothing was worth asking for is looked at again: starts that ended and were renewed between two ticks stir none.
    pub(super) fn permits_tick(&mut self) {
        self.permits.stir_each(self.ready.gates.keys());
        for limit in self.permits.stir_all() {
            if self.permits.lent.contains_key(&limit) {
                let mut supply = self.supply(&limit);
                let now_ms = self.now.mono_ms;
                let lent = self.permits.lent.get_mut(&limit).map(|lender| lender.expire(now_ms, &mut supply));
                self.lend_out(&limit, lent.unwrap_or_default(), supply);
            }
            self.refresh_limit(&limit);
        }
    }

    /// Asks, gives back and lends what the last event made due. May open a limit for this home.
    pub(super) fn settle_permits(&mut self) {
        let first = std::mem::take(&mut self.permits.stirred);
        // Starts stand last, and one that came is reason to ask for a place.
        first.iter().rev().for_each(|limit| self.settle_limit(limit));
        let stirred_since: Vec<Limit> = self.permits.stirred.difference(&first).cloned().collect();
        for limit in stirred_since {
            self.permits.stirred.remove(&limit);
            self.settle_limit(&limit);
        }
    }

    fn settle_limit(&mut self, limit: &Limit) {
        if limit.key.home.is_some() {
            self.borrow(limit);
        } else {
            self.lend_in_turn(limit);
        }
    }

    fn borrow(&mut self, limit: &Limit) {
        let (mut demand, now_ms, live) = (self.demand(limit), self.now.mono_ms, self.limits.live(&limit.key));
        let known = self.permits.borrowed.contains_key(limit);
        if !known
            && (demand == Demand::default() && live == 0 || self.permits.borrowed.len() >= limits::PERMIT_KEYS_MAX)
        {
            return;
        }
        let who = self.borrowing(limit);
        let Permits { borrowed, last_seq, .. } = &mut self.permits;
        let new = || Borrowed { borrower: Borrower::new(who), starts: 0 };
        let entry = borrowed.entry(limit.clone()).or_insert_with(new);
        demand.used = entry.used(limit, live);
        let ask = entry.borrower.poll(now_ms, demand, last_seq);
        // What waits is asked for once the answer under way is here: it is no reason to forget the key.
        let unused = demand == Demand::default() && entry.borrower.is_idle(now_ms) && ask.is_none();
        if unused && limit.kind == LimitKind::Concurrency {
            borrowed.remove(limit);
        }
        // What goes back with the ask is used no more.
        self.open_or_close(limit);
        match (ask, limit.key.home) {
            (Some(ask), Some(home)) if home == self.state.tag => {
                // What it grants of this stands in the log behind what it was lent.
                let answer = self.lend(&ask);
                self.permits_answered(home, &ask, answer);
            }
            (Some(ask), Some(home)) => {
                // What the ask says is not in use any more must stay so after a crash.
                self.outbox.push(self.all_synced(), Effect::AskPermits { home, ask });
            }
            (None, _) | (_, None) => {}
        }
    }

    /// What waits for a limit of another home. Starts are taken first, and kept until there is a place; a place is asked
    /// for by those who have their start.
    fn demand(&self, limit: &Limit) -> Demand {
        let mut demand = Demand::default();
        for queue in self.ready.behind(limit) {
            let (waiting, other) = (queue.heap.len() as u64, queue.limits.iter().find(|other| *other != limit));
            match (limit.kind, other) {
                (LimitKind::Rate, Some(place)) if !self.is_open(place) => demand.kept += waiting,
                (LimitKind::Concurrency, Some(starts)) => demand.usable += waiting.min(self.starts_at_hand(starts)),
                (LimitKind::Rate | LimitKind::Concurrency, _) => demand.usable += waiting,
            }
        }
        demand
    }

    fn starts_at_hand(&self, starts: &Limit) -> u64 {
        match starts.key.home {
            Some(_) => self.permits.spare(starts, self.now.mono_ms, 0),
            None if self.is_open(starts) => u64::MAX,
            None => 0,
        }
    }

    fn borrowing(&self, limit: &Limit) -> Borrowing {
        let Limit { kind, key } = limit;
        let LedgerTag(tag) = key.home.unwrap_or(self.state.tag);
        let named = [key.name.as_bytes(), kind.name().as_bytes(), &tag].concat();
        let token = LeaseToken(super::grant::derive_token(self.identity.secret, &named));
        let (borrower, generation) = (self.state.tag, self.state.generation);
        Borrowing { kind: *kind, name: key.name.clone(), borrower, generation, token }
    }

    fn all_synced(&self) -> Gate {
        Gate::Synced(LogIndex(self.next.0 - 1))
    }

    /// The limiter home's answer came, or what it lent later.
    pub(super) fn take_permits(&mut self, answer: &PermitAnswer) {
        let key = LimitKey { name: answer.name.clone(), home: Some(answer.limiter) };
        let limit = Limit { kind: answer.kind, key };
        if let Some(borrowed) = self.permits.borrowed.get_mut(&limit) {
            borrowed.borrower.answered(answer);
            self.refresh_limit(&limit);
        }
    }

    /// The answer to [`Effect::AskPermits`].
    pub(super) fn permits_answered(&mut self, home: LedgerTag, ask: &PermitAsk, answer: Result<PermitAnswer, Refusal>) {
        match answer {
            Ok(answer) => self.take_permits(&answer),
            Err(refusal) => {
                let limit = Limit { kind: ask.kind, key: LimitKey { name: ask.name.clone(), home: Some(home) } };
                if let Some(borrowed) = self.permits.borrowed.get_mut(&limit) {
                    borrowed.borrower.failed(ask.seq, refusal.to_string());
                }
            }
        }
    }

    fn supply(&mut self, limit: &Limit) -> Supply {
        self.bring_mark_back(limit);
        match (limit.kind, self.settings.rates.get(&limit.key.name).copied()) {
            (LimitKind::Rate, Some(rate)) => {
                Supply::Starts { rate, mark: self.rate_mark(&limit.key), now: Wall(self.now.wall_ms) }
            }
            (LimitKind::Concurrency | LimitKind::Rate, _) => {
                let most = u64::from(self.settings.concurrency(&limit.key.name));
                Supply::Places { most, taken: self.limits.live(&limit.key) + self.permits.lent(limit) }
            }
        }
    }

    /// Another home asks for permits of a limit of this one.
    pub(super) fn answer_permit_ask(&mut self, ask: &PermitAsk, reply: ReplyTo) {
        match self.lend(ask) {
            Ok(answer) => self.reply(self.all_synced(), reply, LedgerReply::Permits(Box::new(answer))),
            Err(refusal) => self.refuse(reply, refusal),
        }
    }

    fn lend(&mut self, ask: &PermitAsk) -> Result<PermitAnswer, Refusal> {
        let limit = Limit { kind: ask.kind, key: LimitKey { name: ask.name.clone(), home: None } };
        if ask.kind == LimitKind::Rate && !self.settings.rates.contains_key(&ask.name) {
            let (problem, fix) = no_rate(&ask.name);
            return Err(Refusal::invalid("/rate_key", problem, fix));
        }
        if !self.permits.lent.contains_key(&limit) && self.permits.lent.len() >= limits::PERMIT_KEYS_MAX {
            return Err(self.too_many("keys of which permits are lent"));
        }
        let (generation, now_ms) = (self.state.generation, self.now.mono_ms);
        let mut supply = self.supply(&limit);
        let new = || Lender::recovered(generation, now_ms, []);
        let lender = self.permits.lent.entry(limit.clone()).or_insert_with(new);
        let unavailable = |error: AskError| Refusal::Unavailable { what: error.to_string() };
        let mut lent = lender.ask(now_ms, ask, &mut supply).map_err(unavailable)?;
        let to_asker = lent.told.extract_if(.., |standing| standing.borrower == ask.borrower).last();
        self.lend_out(&limit, lent, supply);
        self.refresh_limit(&limit);
        let forgotten = || Refusal::Unavailable { what: "this home wants and has nothing of the limit".to_owned() };
        to_asker.map(|standing| self.permit_answer(&limit, standing)).ok_or_else(forgotten)
    }

    /// Lends what is free to those whose turn it is; this home is one of them.
    fn lend_in_turn(&mut self, limit: &Limit) {
        let waits = self.demand(limit).usable > 0 && !self.is_open(limit);
        let mut supply = self.supply(limit);
        let Some(lender) = self.permits.lent.get_mut(limit) else { return };
        lender.own_waits(waits);
        let lent = lender.serve(&mut supply);
        let idle = lender.is_idle();
        self.lend_out(limit, lent, supply);
        if idle {
            self.permits.lent.remove(limit);
        }
        self.refresh_limit(limit);
    }

    /// Persist, then send.
    fn lend_out(&mut self, limit: &Limit, lent: Lent, supply: Supply) {
        if !lent.changed.is_empty() {
            let mark = match supply {
                Supply::Starts { mark, .. } => Some(mark),
                Supply::Places { .. } => None,
            };
            self.limits.believe_the_log(&limit.key);
            let (kind, name) = (limit.kind, limit.key.name.clone());
            let (at, loans) = (self.at(), lent.changed);
            self.commit(Durability::Sync, Record::PermitsLent { at, kind, name, loans, rate_mark: mark });
        }
        for standing in lent.told {
            let (home, answer) = (standing.borrower, self.permit_answer(limit, standing));
            if home == self.state.tag {
                self.take_permits(&answer);
            } else {
                self.outbox.push(self.all_synced(), Effect::LendPermits { home, answer });
            }
        }
    }

    fn permit_answer(&self, limit: &Limit, standing: Standing) -> PermitAnswer {
        let Standing { token, seq, count, contended, .. } = standing;
        PermitAnswer {
            kind: limit.kind,
            name: limit.key.name.clone(),
            limiter: self.state.tag,
            generation: self.state.generation,
            token,
            seq,
            count,
            ttl_ms: limits::PERMIT_TTL_MS,
            contended,
            limit: self.limit_in_words(limit),
        }
    }
}
