//! One limiter home and its borrowers, over a network that loses, doubles and reorders, with crashes of either side.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::ids::{Generation, LeaseToken, LedgerTag};
use crate::limits;
use crate::time::Wall;

const OWN: LedgerTag = LedgerTag([9; 5]);
const START_MS: u64 = 1_000_000;
const START_WALL: u64 = 1_795_230_000_000;

fn home(n: usize) -> LedgerTag {
    LedgerTag([n as u8; 5])
}

#[derive(Clone)]
enum Message {
    Ask(PermitAsk),
    Answer(LedgerTag, PermitAnswer),
}

/// A home that borrows: what its log would say outlives the borrower.
struct Home {
    borrower: Borrower,
    generation: u32,
    last_seq: u64,
    used: u64,
    waiting: u64,
    /// Of a thousand ticks of true time, so many of its clock.
    drift: u64,
}

struct Mesh {
    now_ms: u64,
    limit: u64,
    rate: Option<(Rate, RateMark)>,
    lender: Lender,
    generation: u32,
    recorded: BTreeMap<LedgerTag, LoanFacts>,
    own_used: u64,
    own_waiting: u64,
    homes: Vec<Home>,
    /// By when they arrive.
    network: Vec<(u64, Message)>,
    random: u64,
    lossy: bool,
    /// Who started, in order.
    starts: Vec<(u64, LedgerTag)>,
}

impl Home {
    fn end_one(&mut self) {
        if self.used > 0 {
            self.used -= 1;
            self.borrower.freed();
        }
    }
}

fn demand(used: u64, usable: u64) -> Demand {
    Demand { used, usable, kept: 0 }
}

fn borrowing(n: usize, kind: LimitKind, generation: u32) -> Borrowing {
    let token = LeaseToken([generation as u8; 16]);
    Borrowing { kind, name: "k".to_owned(), borrower: home(n), generation: Generation(generation), token }
}

impl Mesh {
    fn new(seed: u64, limit: u64, homes: usize, rate: Option<Rate>) -> Self {
        let kind = if rate.is_some() { LimitKind::Rate } else { LimitKind::Concurrency };
        let new_home = |n: usize| Home {
            borrower: Borrower::new(borrowing(n, kind, 1)),
            generation: 1,
            last_seq: 0,
            used: 0,
            waiting: 0,
            drift: [980, 1_000, 1_020][n % 3],
        };
        Self {
            now_ms: START_MS,
            limit,
            rate: rate.map(|rate| (rate, RateMark::default())),
            lender: Lender::recovered(Generation(1), START_MS, []),
            generation: 1,
            recorded: BTreeMap::new(),
            own_used: 0,
            own_waiting: 0,
            homes: (0..homes).map(new_home).collect(),
            network: Vec::new(),
            random: seed | 1,
            lossy: true,
            starts: Vec::new(),
        }
    }

    fn roll(&mut self, sides: u64) -> u64 {
        // xorshift64*, G. Marsaglia and S. Vigna.
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }

    fn wall(&self) -> Wall {
        Wall(START_WALL + self.now_ms)
    }

    fn clock(&self, n: usize) -> u64 {
        self.now_ms * self.homes[n].drift / 1_000
    }

    fn supply(&self) -> Supply {
        match self.rate {
            Some((rate, mark)) => Supply::Starts { rate, mark, now: self.wall() },
            None => Supply::Places { most: self.limit, taken: self.own_used + self.lender.lent() },
        }
    }

    fn send(&mut self, message: Message) {
        let copies = if self.lossy { [1, 1, 1, 2, 0][self.roll(5) as usize] } else { 1 };
        for _ in 0..copies {
            let slow = self.lossy && self.roll(10) == 0;
            let delay_ms = 1 + if slow { self.roll(15_000) } else { self.roll(40) };
            self.network.push((self.now_ms + delay_ms, message.clone()));
        }
    }

    /// Persist, then send.
    fn follow(&mut self, lent: Lent, supply: Supply) {
        for facts in lent.changed {
            self.recorded.insert(facts.borrower, facts);
        }
        if let (Supply::Starts { mark, .. }, Some((_, held))) = (supply, &mut self.rate) {
            *held = mark;
        }
        for Standing { borrower, token, seq, count, contended } in lent.told {
            let kind = if self.rate.is_some() { LimitKind::Rate } else { LimitKind::Concurrency };
            let answer = PermitAnswer {
                kind,
                name: "k".to_owned(),
                limiter: OWN,
                generation: Generation(self.generation),
                token,
                seq,
                count,
                ttl_ms: limits::PERMIT_TTL_MS,
                contended,
                limit: self.rate.map_or(self.limit.to_string(), |(rate, _)| rate.to_string()),
            };
            self.send(Message::Answer(borrower, answer));
        }
    }

    fn deliver(&mut self) {
        let now_ms = self.now_ms;
        let mut due: Vec<(u64, Message)> = self.network.extract_if(.., |(at_ms, _)| *at_ms <= now_ms).collect();
        due.sort_by_key(|(at_ms, _)| *at_ms);
        for (_, message) in due {
            match message {
                Message::Ask(ask) => {
                    let mut supply = self.supply();
                    if let Ok(lent) = self.lender.ask(now_ms, &ask, &mut supply) {
                        self.follow(lent, supply);
                    }
                }
                Message::Answer(to, answer) => {
                    self.homes[usize::from(to.0[0])].borrower.answered(&answer);
                }
            }
        }
    }

    fn limiter_works(&mut self) {
        let mut supply = self.supply();
        let lent = self.lender.expire(self.now_ms, &mut supply);
        self.follow(lent, supply);
        let free = self.limit.saturating_sub(self.own_used + self.lender.lent());
        if self.rate.is_none() && self.own_waiting > 0 && free > 0 && self.lender.is_own_turn() {
            self.own_waiting -= 1;
            self.own_used += 1;
            self.lender.own_took();
            self.starts.push((self.now_ms, OWN));
        }
        self.lender.own_waits(self.own_waiting > 0 && self.rate.is_none());
        let mut supply = self.supply();
        let lent = self.lender.serve(&mut supply);
        self.follow(lent, supply);
    }

    fn home_works(&mut self, n: usize) {
        let clock_ms = self.clock(n);
        let tag = home(n);
        let home = &mut self.homes[n];
        while home.waiting > 0 && home.used < home.borrower.allowed(clock_ms) {
            home.waiting -= 1;
            home.used += 1;
            self.starts.push((self.now_ms, tag));
        }
        let ask = home.borrower.poll(clock_ms, demand(home.used, home.waiting), &mut home.last_seq);
        if let Some(ask) = ask {
            self.send(Message::Ask(ask));
        }
    }

    fn step(&mut self) {
        self.now_ms += 1 + self.roll(60);
        self.deliver();
        self.limiter_works();
        (0..self.homes.len()).for_each(|n| self.home_works(n));
        self.check();
    }

    /// Never more usable permits than the limit, over all homes.
    fn check(&self) {
        if self.rate.is_some() {
            return;
        }
        let usable: Vec<u64> = (0..self.homes.len()).map(|n| self.homes[n].borrower.allowed(self.clock(n))).collect();
        let total = self.own_used + usable.iter().sum::<u64>();
        assert!(total <= self.limit, "{} own, {usable:?} lent, of {}", self.own_used, self.limit);
    }

    fn crash_limiter(&mut self) {
        self.generation += 1;
        let recorded = self.recorded.values().copied().filter(|facts| facts.count > 0);
        self.lender = Lender::recovered(Generation(self.generation), self.now_ms, recorded);
    }

    fn crash_home(&mut self, n: usize) {
        let kind = if self.rate.is_some() { LimitKind::Rate } else { LimitKind::Concurrency };
        let home = &mut self.homes[n];
        home.generation += 1;
        home.last_seq = 0;
        home.borrower = Borrower::new(borrowing(n, kind, home.generation));
        if self.rate.is_some() {
            home.used = 0;
        }
    }

    fn end_some(&mut self) {
        let n = self.roll(self.homes.len() as u64 + 1) as usize;
        match self.homes.get_mut(n) {
            Some(home) => home.end_one(),
            None => self.own_used = self.own_used.saturating_sub(1),
        }
    }

    fn happen(&mut self) {
        match self.roll(40) {
            0 => self.crash_limiter(),
            1 => {
                let n = self.roll(self.homes.len() as u64) as usize;
                self.crash_home(n);
            }
            2 => self.now_ms += self.roll(20_000),
            3..=6 => {
                // The own home starts under a rate of its own without asking anybody.
                let own = u64::from(self.rate.is_none());
                let n = self.roll(self.homes.len() as u64 + own) as usize;
                let more = self.roll(4);
                *self.homes.get_mut(n).map_or(&mut self.own_waiting, |home| &mut home.waiting) += more;
            }
            7..=20 if self.rate.is_none() => self.end_some(),
            _ => {}
        }
    }

    fn heal(&mut self) {
        self.lossy = false;
        let waits = |mesh: &Self| mesh.own_waiting + mesh.homes.iter().map(|home| home.waiting).sum::<u64>();
        let until_ms = self.now_ms + 60_000 + 2_000 * waits(self);
        while waits(self) > 0 {
            assert!(self.now_ms < until_ms, "work waits though nothing is lost any more");
            self.step();
            if self.rate.is_none() && self.roll(3) == 0 {
                self.end_some();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn never_more_permits_than_the_limit_and_all_get_theirs(seed: u64, limit in 1u64..6, homes in 1usize..4) {
        let mut mesh = Mesh::new(seed, limit, homes, None);
        for _ in 0..600 {
            mesh.happen();
            mesh.step();
        }
        mesh.heal();
    }

    #[test]
    fn starts_over_all_homes_keep_to_the_rate(seed: u64, homes in 1usize..4) {
        let rate: Rate = "600/min burst 3".parse().unwrap();
        let mut mesh = Mesh::new(seed, 0, homes, Some(rate));
        for _ in 0..600 {
            mesh.happen();
            mesh.step();
        }
        mesh.heal();
        // Permits may be used until their end, so the bound holds over a TTL more than the time looked at.
        let interval_ms = rate.interval_us() / 1_000;
        for (place, (from_ms, _)) in mesh.starts.iter().enumerate() {
            let (last_ms, _) = mesh.starts.last().unwrap();
            let within = (mesh.starts.len() - place) as u64;
            let most = (last_ms - from_ms + limits::PERMIT_TTL_MS + limits::STALL_MS) / interval_ms + 4;
            prop_assert!(within <= most, "{within} starts in {} ms", last_ms - from_ms);
        }
    }
}

#[test]
fn waiting_homes_are_served_in_turn() {
    let mut mesh = Mesh::new(7, 1, 2, None);
    mesh.lossy = false;
    for home in &mut mesh.homes {
        home.waiting = 30;
        home.drift = 1_000;
    }
    mesh.own_waiting = 30;
    while mesh.starts.len() < 60 {
        mesh.step();
        mesh.own_used = 0;
        mesh.homes.iter_mut().for_each(Home::end_one);
    }
    for tag in [OWN, home(0), home(1)] {
        let turns = mesh.starts.iter().filter(|(_, who)| *who == tag).count();
        assert!((18..=22).contains(&turns), "{turns} of 60 for {tag}");
    }
}

#[test]
fn what_is_not_used_goes_back_within_a_third_of_its_ttl() {
    let mut mesh = Mesh::new(7, 4, 1, None);
    mesh.lossy = false;
    mesh.homes[0].waiting = 4;
    while mesh.homes[0].waiting > 0 {
        mesh.step();
    }
    mesh.homes[0].used = 1;
    let since_ms = mesh.now_ms;
    while mesh.lender.lent() > 1 {
        mesh.step();
        assert!(mesh.now_ms <= since_ms + limits::PERMIT_RENEW_EVERY_MS + 200);
    }
}

#[test]
fn while_the_limiter_is_away_nothing_new_starts() {
    let mut mesh = Mesh::new(7, 2, 1, None);
    mesh.lossy = false;
    mesh.homes[0].waiting = 1;
    while mesh.homes[0].waiting > 0 {
        mesh.step();
    }
    let home = &mut mesh.homes[0];
    let clock_ms = mesh.now_ms * home.drift / 1_000 + limits::PERMIT_TTL_MS;
    assert_eq!(home.borrower.allowed(clock_ms), 0);
}

#[test]
fn another_process_of_the_same_life_is_refused() {
    let mut lender = Lender::recovered(Generation(1), 0, []);
    let mut borrower = Borrower::new(borrowing(0, LimitKind::Concurrency, 1));
    let ask = borrower.poll(0, demand(0, 1), &mut 0).unwrap();
    let mut supply = Supply::Places { most: 2, taken: 0 };
    assert_eq!(lender.ask(0, &ask, &mut supply).unwrap().told[0].count, 1);
    let clone = PermitAsk { token: LeaseToken([77; 16]), seq: 2, ..ask.clone() };
    assert_eq!(lender.ask(0, &clone, &mut supply), Err(AskError::Fenced));
    let old = PermitAsk { generation: Generation(0), ..ask.clone() };
    assert_eq!(lender.ask(0, &old, &mut supply), Err(AskError::Stale));
    let again = lender.ask(0, &ask, &mut supply).unwrap();
    assert_eq!((again.changed.len(), again.told[0].count), (0, 1), "a doubled ask gets the same answer");
}

#[test]
fn an_ask_of_before_a_restart_takes_nothing_back() {
    let facts = LoanFacts { borrower: home(0), generation: Generation(1), count: 3 };
    let mut lender = Lender::recovered(Generation(2), 0, [facts]);
    let mut borrower = Borrower::new(borrowing(0, LimitKind::Concurrency, 1));
    let ask = PermitAsk { limiter: Some(Generation(1)), ..borrower.poll(0, demand(1, 0), &mut 0).unwrap() };
    let mut supply = Supply::Places { most: 3, taken: 3 };
    let lent = lender.ask(0, &ask, &mut supply).unwrap();
    assert_eq!(lent.told[0].count, 3);
    let ask = PermitAsk { limiter: Some(Generation(2)), seq: 2, ..ask };
    assert_eq!(lender.ask(0, &ask, &mut supply).unwrap().told[0].count, 1);
}

#[test]
fn what_comes_back_pays_for_what_ran_on_before_it_is_lent_again() {
    let mut lender = Lender::recovered(Generation(1), 0, []);
    let ask = |n, seq, hold, want| PermitAsk {
        seq,
        hold,
        want,
        limiter: Some(Generation(1)),
        ..Borrower::new(borrowing(n, LimitKind::Concurrency, 1)).poll(0, demand(0, 1), &mut 0).unwrap()
    };
    let mut supply = Supply::Places { most: 2, taken: 1 };
    assert_eq!(lender.ask(0, &ask(0, 1, 0, 1), &mut supply).unwrap().told[0].count, 1);
    // A lease that had expired here comes back: three are in use, of two.
    supply = Supply::Places { most: 2, taken: 3 };
    assert_eq!(lender.ask(0, &ask(1, 1, 0, 1), &mut supply).unwrap().told.last().unwrap().count, 0);
    lender.ask(0, &ask(0, 2, 0, 0), &mut supply).unwrap();
    assert_eq!((lender.lent(), supply), (0, Supply::Places { most: 2, taken: 2 }));
}

/// A home that starts nothing yet: it was lent one start, and asks again to keep it.
fn lent_a_start() -> (Lender, Borrower, PermitAsk, Supply) {
    let mut lender = Lender::recovered(Generation(1), 0, []);
    let mut borrower = Borrower::new(borrowing(0, LimitKind::Rate, 1));
    let (mark, now) = (RateMark::default(), Wall(START_WALL));
    let mut supply = Supply::Starts { rate: "60/min".parse().unwrap(), mark, now };
    let mut seq = 0;
    let ask = borrower.poll(0, demand(0, 1), &mut seq).unwrap();
    let standing = lender.ask(0, &ask, &mut supply).unwrap().told[0];
    assert!(borrower.answered(&answer(standing)));
    let again = borrower.poll(limits::PERMIT_RENEW_EVERY_MS, demand(0, 1), &mut seq).unwrap();
    assert_eq!((again.hold, again.want), (1, 1));
    (lender, borrower, again, supply)
}

fn answer(standing: Standing) -> PermitAnswer {
    PermitAnswer {
        kind: LimitKind::Rate,
        name: "k".to_owned(),
        limiter: OWN,
        generation: Generation(1),
        token: standing.token,
        seq: standing.seq,
        count: standing.count,
        ttl_ms: limits::PERMIT_TTL_MS,
        contended: standing.contended,
        limit: "60/min".to_owned(),
    }
}

#[test]
fn a_start_whose_renewal_comes_after_its_end_is_recorded_anew_before_it_is_told() {
    let (mut lender, mut borrower, late, mut supply) = lent_a_start();
    let ended = LoanFacts { borrower: home(0), generation: Generation(1), count: 0 };
    let before = supply;
    assert_eq!(lender.expire(limits::PERMIT_TTL_MS, &mut supply).changed, [ended]);
    let lent = lender.ask(limits::PERMIT_TTL_MS + 1, &late, &mut supply).unwrap();
    assert_eq!(lent.changed, [LoanFacts { count: 1, ..ended }], "the log says what the home may use");
    assert_eq!((lent.told[0].count, supply), (1, before), "it was taken from the rate when it was lent");
    assert!(borrower.answered(&answer(lent.told[0])));
    assert_eq!(borrower.allowed(limits::PERMIT_TTL_MS + 1), 1);
}

#[test]
fn a_start_goes_back_to_its_rate_once_however_often_its_home_says_so() {
    let (mut lender, mut borrower, doubled, mut supply) = lent_a_start();
    let mut seq = doubled.seq;
    let standing = lender.ask(1, &doubled, &mut supply).unwrap().told[0];
    borrower.answered(&answer(standing));
    let mut give_back = |now_ms: u64, lender: &mut Lender, supply: &mut Supply| {
        let returning = PermitAsk { seq: seq + 1, hold: 0, want: 0, ..doubled.clone() };
        seq += 1;
        lender.ask(now_ms, &returning, supply).unwrap();
    };
    give_back(2, &mut lender, &mut supply);
    assert!(lender.is_idle());
    let returned = supply;
    // The copy of the renewal comes once the loan is forgotten; then the home speaks again.
    lender.ask(3, &doubled, &mut supply).unwrap();
    give_back(4, &mut lender, &mut supply);
    assert_eq!((lender.lent(), supply), (0, returned), "what was given back once is not given back again");
}
