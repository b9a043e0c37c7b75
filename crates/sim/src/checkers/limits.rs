//! I19: what is granted under a key, over all homes, stays within its limit.
//!
//! It is checked in two halves, each when a record adds something: the home of a limit uses and lends no more than there
//! is, and another home uses no more than that one's log says it has. A lease that ran on while its home was cut off may
//! be beyond both; nothing is added to it.

use std::collections::{BTreeMap, BTreeSet};

use magpie_core::ids::LedgerTag;
use magpie_core::invariant::InvariantId;
use magpie_core::limiter::{LimitKey, LimitKind, PermitAsk, Rate};
use magpie_core::limits;
use magpie_core::queue::Record;
use magpie_core::task::TaskSpec;

use super::{Verdict, require};
use crate::book::{Book, TaskFacts};
use crate::settings::Settings;

/// One limit as a home sees it: its own without a home.
pub type Limit = (LimitKind, LimitKey);

fn limits_of(spec: &TaskSpec, own: LedgerTag) -> impl Iterator<Item = Limit> {
    let kinds = [LimitKind::Concurrency, LimitKind::Rate].into_iter();
    kinds.filter_map(move |kind| Some((kind, spec.limit(kind, own)?)))
}

/// The limits under which a record adds something.
pub fn raised(book: &Book, record: &Record) -> BTreeSet<Limit> {
    match record {
        Record::Granted { grants, .. } => {
            let specs = grants.iter().filter_map(|grant| book.tasks.get(&grant.task)).map(|facts| &facts.spec);
            specs.flat_map(|spec| limits_of(spec, book.tag())).collect()
        }
        Record::PermitsLent { kind, name, loans, .. } => {
            let before = |home| book.queue.loan(*kind, name, home).map_or(0, |facts| facts.count);
            let grew = loans.iter().any(|facts| facts.count > before(facts.borrower));
            grew.then(|| (*kind, LimitKey { name: name.clone(), home: None })).into_iter().collect()
        }
        _ => BTreeSet::new(),
    }
}

/// `books` are as they are after the record; `node` is its home.
pub fn check(books: &[Book], node: usize, (kind, key): &Limit, settings: &Settings) -> Verdict {
    let book = &books[node];
    match (key.home, kind) {
        (Some(limiter), _) => {
            let lender = books.iter().find(|book| book.tag() == limiter);
            lender.map_or(Ok(()), |lender| invariant_no_home_uses_more_than_it_has(book, lender, *kind, key))
        }
        (None, LimitKind::Concurrency) => {
            let most = settings.queue.concurrency(&key.name).into();
            invariant_what_is_used_and_lent_stays_within_the_limit(book, key, most)
        }
        (None, LimitKind::Rate) => Ok(()),
    }
}

fn leased(book: &Book, limit: &LimitKey) -> u64 {
    let counts = |facts: &&TaskFacts| {
        facts.is_leased() && facts.spec.limit(LimitKind::Concurrency, book.tag()).as_ref() == Some(limit)
    };
    book.tasks.values().filter(counts).count() as u64
}

/// Starts under a rate in this life of a home.
fn started(book: &Book, limit: &LimitKey) -> u64 {
    let under =
        book.tasks.values().filter(|facts| facts.spec.limit(LimitKind::Rate, book.tag()).as_ref() == Some(limit));
    let epochs = under.flat_map(|facts| &facts.epochs);
    epochs.filter(|epoch| epoch.epoch.generation() == book.generation).count() as u64
}

fn invariant_what_is_used_and_lent_stays_within_the_limit(book: &Book, key: &LimitKey, most: u64) -> Verdict {
    let (used, lent) = (leased(book, key), book.queue.lent(LimitKind::Concurrency, &key.name));
    require(InvariantId::I19, "what_is_used_and_lent_stays_within_the_limit", used + lent <= most, || {
        format!("{used} leases under {key} and {lent} permits lent, of {most}")
    })
}

fn invariant_no_home_uses_more_than_it_has(book: &Book, lender: &Book, kind: LimitKind, key: &LimitKey) -> Verdict {
    let loan = lender.queue.loan(kind, &key.name, book.tag());
    let (used, has) = match kind {
        LimitKind::Concurrency => (leased(book, key), loan.map_or(0, |facts| facts.count)),
        LimitKind::Rate => {
            let of_this_life = loan.filter(|facts| facts.generation == book.generation);
            (started(book, key), of_this_life.map_or(0, |facts| facts.count))
        }
    };
    require(InvariantId::I19, "no_home_uses_more_than_it_has", used <= has, || {
        format!("{used} {} permits of {key} are used in {}, the limit's home says {loan:?}", kind.name(), book.tag())
    })
}

/// Starts under a rate: made by its home, or lent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Starts {
    pub taken: u64,
    pub given_back: u64,
}

/// What a record starts under the drawn rate of its home, `book` as it is before it, and `asked` the ask that it answers.
pub fn starts(book: &Book, record: &Record, asked: Option<&PermitAsk>) -> Starts {
    let own = |task| {
        let facts = book.tasks.get(task);
        facts.and_then(|facts| facts.spec.limit(LimitKind::Rate, book.tag())).is_some_and(|key| key.home.is_none())
    };
    match record {
        Record::Granted { grants, .. } => {
            Starts { taken: grants.iter().filter(|grant| own(&grant.task)).count() as u64, given_back: 0 }
        }
        Record::Released { releases, .. } => {
            let back = releases.iter().filter(|release| release.rate_back_us.is_some());
            Starts { taken: 0, given_back: back.count() as u64 }
        }
        Record::PermitsLent { kind: LimitKind::Rate, name, loans, .. } => {
            let mut starts = Starts::default();
            for facts in loans {
                let before = book.queue.loan(LimitKind::Rate, name, facts.borrower).map_or(0, |facts| facts.count);
                // What the borrower says that it used before is none of what it is lent now.
                let said = asked.filter(|ask| ask.borrower == facts.borrower).map_or(0, |ask| ask.hold);
                starts.taken += facts.count.saturating_sub(before.max(said));
                starts.given_back += before.saturating_sub(facts.count);
            }
            starts
        }
        _ => Starts::default(),
    }
}

/// What each home has left of the drawn rate, in true time: a bucket that fills evenly, up to the burst.
#[derive(Debug)]
pub struct Spent {
    interval_us: u64,
    most_us: u64,
    /// By home: how much was left, and when. No entry: all.
    left: BTreeMap<usize, (u64, u64)>,
}

/// Clocks may be so much faster than true time.
const FAST_PPM: u64 = 1_000_000 + crate::clock::DRIFT_PPM_MAX;

impl Spent {
    pub fn new(settings: &Settings) -> Self {
        let rate = settings.queue.rates.values().next().copied();
        let interval_us = rate.map_or(0, Rate::interval_us);
        // A burst at once, what was late is caught up, and one for the part of an interval at either end.
        let burst = rate.map_or(0, |rate| rate.burst().into());
        let most_us = (burst + 1) * interval_us + limits::STALL_MS * 1_000;
        Self { interval_us, most_us, left: BTreeMap::new() }
    }

    /// A home lost what it knew of its starts, or its wall clock was set: the rate begins anew.
    pub fn start_anew(&mut self, node: usize) {
        self.left.remove(&node);
    }

    pub fn invariant_starts_keep_to_their_rate(&mut self, now_ms: u64, node: usize, starts: Starts) -> Verdict {
        if starts == Starts::default() {
            return Ok(());
        }
        let (left_us, at_ms) = self.left.get(&node).copied().unwrap_or((self.most_us, now_ms));
        let filled_us =
            left_us + (now_ms - at_ms) * 1_000 * FAST_PPM / 1_000_000 + starts.given_back * self.interval_us;
        let (left_us, taken_us) = (filled_us.min(self.most_us), starts.taken * self.interval_us);
        self.left.insert(node, (left_us.saturating_sub(taken_us), now_ms));
        require(InvariantId::I19, "starts_keep_to_their_rate", taken_us <= left_us, || {
            format!("{starts:?} at {now_ms} ms, left are {left_us} us at {} us each", self.interval_us)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn i19_a_start_more_than_the_burst_is_seen_and_time_gives_it_back() {
        let settings = Settings::draw(&mut Rng::new(1), &[LedgerTag([1; 5])]);
        let mut spent = Spent::new(&settings);
        let one = Starts { taken: 1, given_back: 0 };
        let at_once = (0..).take_while(|_| spent.invariant_starts_keep_to_their_rate(5, 0, one).is_ok()).count() as u64;
        assert_eq!(at_once, spent.most_us / spent.interval_us);
        assert!(spent.invariant_starts_keep_to_their_rate(5, 1, one).is_ok(), "another home has its own");
        assert!(spent.invariant_starts_keep_to_their_rate(5 + spent.interval_us / 1_000 + 1, 0, one).is_ok());
    }
}
