//! Cloned and restored disks: of two copies of a ledger, one goes on at most (2.1).

use std::collections::BTreeSet;

use super::*;
use crate::clock::Position;
use crate::homes::Term;
use crate::ids::{ContentId, Generation};

/// A head as this home publishes it, of the record at `count`.
fn head(home: &Bench, count: LogIndex) -> (Position, ContentId) {
    let position = Position { tenure: home.ledger.tenure(), generation: home.ledger.generation(), count: count.0 };
    (position, home.log[count.0 as usize - 1].event)
}

fn newest(home: &Bench) -> (Position, ContentId) {
    head(home, home.index())
}

impl Bench {
    /// Somebody holds this head of the home's ledger.
    fn sees(&mut self, (position, event): (Position, ContentId)) {
        let recorded = self.log.get(position.count as usize - 1).map(|entry| entry.event);
        self.event(Event::HeadSeen { position, event, recorded });
    }

    /// The log as it was at `last`, opened in another place.
    fn copy(&self, last: LogIndex) -> Self {
        self.copy_with(last, BTreeSet::new())
    }

    fn copy_with(&self, last: LogIndex, peers: BTreeSet<PeerId>) -> Self {
        let replay = self.replay_of(LogIndex(1), last, 9).comparing_with(peers);
        let mut copy = Self::open(replay, self.now, self.log[..last.0 as usize].to_vec());
        copy.operations = 1_000;
        copy
    }

    fn submission(&mut self) -> LedgerRequest {
        let operation = self.operation();
        LedgerRequest::Submit { operation, items: vec![SubmitItem::one(noop())] }
    }

    fn is_suspended(&mut self) -> bool {
        let suspended = self.stats().suspended.is_some();
        let request = self.submission();
        let refused = matches!(self.ask(request), LedgerReply::Refused(Refusal::HomeSuspended { .. }));
        assert_eq!(suspended, refused);
        suspended
    }

    fn claim(&mut self) -> LedgerReply {
        let operation = self.operation();
        self.ask(LedgerRequest::Claim { operation })
    }

    fn starts_anew(&self) -> bool {
        self.left.iter().any(|effect| matches!(effect, Effect::StartAnew))
    }
}

#[test]
fn a_restored_disk_accepts_grants_and_commits_nothing_until_it_is_claimed() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    let backup = home.index();
    let lost = home.submit(noop());
    assert_eq!(home.complete(&grant, success("done")), CompleteAnswer::Committed);
    let known = newest(&home);

    let mut restored = home.copy(backup);
    restored.worker(2, 4);
    restored.grants();
    restored.sees(known);
    let records = restored.index();
    assert!(restored.is_suspended());
    assert_eq!(restored.state(grant.fence.task), TaskState::Leased, "readers are answered");
    let completion = vec![completion(&grant, success("done"))];
    for request in [
        LedgerRequest::Complete(completion),
        LedgerRequest::Renew(vec![renewal(&grant, true)]),
        LedgerRequest::PurgeDead { operation: OperationId([3; 16]), ids: vec![lost] },
    ] {
        let answer = restored.ask_as(peer(1), request);
        assert!(matches!(answer, Some(LedgerReply::Refused(Refusal::HomeSuspended { .. }))), "{answer:?}");
    }
    restored.pass(3 * limits::LEASE_TTL_MS);
    restored.credit(2, 4, 0);
    assert_eq!((restored.index(), restored.grants()), (records, vec![]), "it stands still");

    // It remembers, though nobody tells it again.
    let mut restored = restored.restart(1_000);
    assert!(restored.is_suspended());
    let (tenure, generation) = (restored.ledger.tenure(), restored.ledger.generation());
    assert_eq!(restored.claim(), LedgerReply::Claimed { ledger: LEDGER });
    assert!(restored.starts_anew() && restored.is_suspended());
    let mut restored = restored.restart(1_000);
    assert!(!restored.is_suspended());
    assert!(restored.ledger.tenure() > tenure && restored.ledger.generation() > generation);
    // What was given up is no news any more, and what came from it is fenced by its epoch.
    restored.sees(known);
    assert!(!restored.is_suspended());
    assert!(matches!(
        restored.ask(LedgerRequest::GetTask { id: lost }),
        LedgerReply::Refused(Refusal::NotFound { .. })
    ));
    restored.pass(2 * limits::LEASE_TTL_MS);
    restored.worker(2, 4);
    restored.pass(200);
    assert_eq!(restored.grants().len(), 3, "the old task, and the two that were submitted to see whether it goes on");
    assert!(matches!(restored.complete(&grant, success("late")), CompleteAnswer::Fenced { .. }));
}

#[test]
fn of_a_cloned_disk_the_copy_that_lags_behind_stands_still() {
    let mut original = Bench::new();
    original.submit(noop());
    let copied = original.index();
    let mut clone = original.copy(copied);
    // Nothing has happened since: the clone cannot tell itself from the original, and goes on.
    clone.sees(newest(&original));
    assert!(!clone.is_suspended());
    original.sees(newest(&clone));
    assert!(original.is_suspended());

    let mut original = Bench::new();
    original.submit(noop());
    let copied = original.index();
    original.submit(noop());
    let mut clone = original.copy(copied);
    clone.sees(newest(&original));
    assert!(clone.is_suspended(), "it lacks what the original has written since");
    assert!(!original.is_suspended(), "and publishes nothing that the original could see");
    assert!(
        !clone.left.iter().any(|effect| matches!(effect, Effect::PublishHead { count, .. } if *count > copied.next()))
    );
}

#[test]
fn copies_that_both_went_on_stop_each_other_and_the_claimed_one_wins() {
    let mut one = Bench::new();
    one.submit(noop());
    let mut other = one.copy(one.index());
    let mut one = one.restart(10);
    for _ in 0..5 {
        one.submit(noop());
    }
    other.submit(noop());
    assert_eq!(one.ledger.generation(), other.ledger.generation());
    let (of_one, of_other) = (newest(&one), newest(&other));
    one.sees(of_other);
    other.sees(of_one);
    assert!(one.is_suspended() && other.is_suspended());
    other.claim();
    let mut other = other.restart(10);
    assert!(!other.is_suspended());
    // The one that was given up learns that its time is over, should it be claimed by nobody or by mistake before.
    one.claim();
    let mut one = one.restart(10);
    assert!(!one.is_suspended());
    one.sees(newest(&other));
    other.sees(newest(&one));
    assert!(one.is_suspended() || other.is_suspended());
}

#[test]
fn what_this_log_has_written_suspends_nobody_after_any_number_of_starts() {
    let mut home = Bench::new();
    let mut published = Vec::new();
    for _ in 0..4 {
        for _ in 0..3 {
            home.submit(noop());
            published.push(newest(&home));
        }
        home = home.restart(10);
        for known in &published {
            home.sees(*known);
        }
        assert!(!home.is_suspended());
    }
    // One of them that was cut off cannot be compared, and is believed.
    let (position, event) = published[2];
    home.event(Event::HeadSeen { position, event, recorded: None });
    assert!(!home.is_suspended());
    // Another event in the place of one that was written cannot.
    home.sees((position, published[3].1));
    assert!(home.is_suspended());
}

#[test]
fn a_term_that_this_home_has_not_served_shows_another_copy() {
    let mut home = Bench::new().restart(10);
    home.submit(noop());
    let served = home.ledger.term();
    for term in [served, Term { generation: Generation(served.generation.0 - 1), ..served }] {
        home.event(Event::TermSeen(term));
        assert!(!home.is_suspended(), "{term:?}");
    }
    home.event(Event::TermSeen(Term { generation: Generation(served.generation.0 + 3), ..served }));
    assert!(home.is_suspended());
    assert!(matches!(home.claim(), LedgerReply::Claimed { .. }));
    let mut home = home.restart(10);
    assert!(!home.is_suspended());
    assert!(home.ledger.term() > Term { generation: Generation(served.generation.0 + 3), ..served });
    assert!(home.ledger.generation().0 > served.generation.0 + 3);
}

#[test]
fn nothing_that_waits_for_the_disk_leaves_a_home_that_is_suspended() {
    let mut home = Bench::new();
    home.worker(1, 4);
    home.syncs = false;
    let request = home.submission();
    assert_eq!(home.ask_as(peer(0), request), None);
    let reply = ReplyTo(home.replies);
    home.pass(200);
    let (position, event) = newest(&home);
    home.sees((Position { generation: Generation(7), ..position }, event));
    home.syncs = true;
    home.sync();
    home.settle();
    assert_eq!(home.grants(), vec![]);
    let answer = home.answer_to(reply);
    assert!(matches!(answer, Some(LedgerReply::Refused(Refusal::HomeSuspended { .. }))), "{answer:?}");
}

#[test]
fn after_its_start_a_home_acts_once_its_peers_have_said_what_they_hold_or_are_late() {
    let mut before = Bench::new();
    before.submit(noop());
    let peers = BTreeSet::from([peer(1), peer(2)]);
    for late in [false, true] {
        let mut home = before.copy_with(before.index(), peers.clone());
        home.worker(3, 4);
        let request = home.submission();
        let answer = home.ask(request);
        assert!(matches!(answer, LedgerReply::Refused(Refusal::Unavailable { .. })), "{answer:?}");
        home.event(Event::PeerCompared { peer: peer(1) });
        home.pass(limits::COMPARE_MS_MAX - 200);
        assert_eq!(home.grants(), vec![]);
        assert!(!home.left.iter().any(|effect| matches!(effect, Effect::PublishHead { .. })));
        if late {
            home.pass(300);
        } else {
            home.event(Event::PeerCompared { peer: peer(2) });
        }
        home.credit(3, 4, 0);
        home.pass(200);
        assert_eq!(home.grants().len(), 1);
        assert!(home.left.iter().any(|effect| matches!(effect, Effect::PublishHead { .. })));
        assert!(!home.is_suspended());
    }
}

#[test]
fn a_home_that_goes_on_is_not_claimed_and_a_claim_that_comes_twice_acts_once() {
    let mut home = Bench::new();
    assert!(matches!(home.claim(), LedgerReply::Refused(Refusal::Invalid { .. })));
    let (position, event) = newest(&home);
    home.sees((Position { count: 99, ..position }, event));
    let operation = OperationId([5; 16]);
    let claimed = LedgerReply::Claimed { ledger: LEDGER };
    assert_eq!(home.ask(LedgerRequest::Claim { operation }), claimed);
    let mut home = home.restart(10);
    let tenure = home.ledger.tenure();
    assert_eq!(home.ask(LedgerRequest::Claim { operation }), claimed);
    assert!(!home.starts_anew());
    let home = home.restart(10);
    assert_eq!(home.ledger.tenure(), tenure);
}
