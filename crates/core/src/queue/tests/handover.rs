//! A ledger that moves: sealed once, for one peer, with everything that it holds (2.1, 2.9).

use super::*;
use crate::homes::SignedHandover;
use crate::queue::Seal;

/// The peer that the ledger of these tests goes to.
const NEXT: u8 = 7;

impl Bench {
    /// What its shell does when an operator exports: the signature is not looked at here.
    fn hand_over(&mut self, to: u8) -> Option<Seal> {
        let handover = SignedHandover { handover: self.ledger.handover_to(peer(to)), signature: [to; 64] };
        self.event(Event::HandOver(handover));
        self.told_handover()
    }

    fn told_handover(&mut self) -> Option<Seal> {
        let told = self.left.iter().rev().find_map(|effect| match effect {
            Effect::HandedOver { seal } => Some(*seal),
            _ => None,
        });
        self.left.retain(|effect| !matches!(effect, Effect::HandedOver { .. }));
        told
    }

    /// The sealed log, read at peer `n`.
    fn at_peer(&self, n: u8, seal: &Seal) -> Replay {
        let mut replay = Replay::new(LedgerIdentity { home: peer(n), ..identity(9) });
        for entry in &self.log[..seal.index.0 as usize] {
            replay.apply(entry.index, &entry.body, entry.event).unwrap();
        }
        replay
    }

    /// The sealed log, served at peer `n`.
    fn opened_at(&self, n: u8, seal: &Seal) -> Self {
        let now = Now { mono_ms: 70_000, wall_ms: self.now.wall_ms + 1_000 };
        let mut next = Self::open(self.at_peer(n, seal), now, self.log[..seal.index.0 as usize].to_vec());
        next.operations = 5_000;
        next
    }

    fn is_told_where(&mut self, request: LedgerRequest) -> bool {
        match self.ask_as(peer(1), request) {
            Some(LedgerReply::Refused(Refusal::HomeMoved { ledger, home })) => (ledger, home) == (LEDGER, peer(NEXT)),
            Some(LedgerReply::Refused(Refusal::NotHome { home, .. })) => home == Some(peer(NEXT)),
            _ => false,
        }
    }
}

#[test]
fn a_sealed_ledger_answers_nothing_but_where_it_went_for_ever() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    let waiting = home.submit(noop());
    let seal = home.hand_over(NEXT).unwrap();
    assert_eq!(seal.handover.handover.tenure, 2);
    for life in 0..3 {
        let records = home.index();
        let operation = OperationId([7; 16]);
        let requests = [
            LedgerRequest::Submit { operation, items: vec![SubmitItem::one(noop())] },
            LedgerRequest::GetTask { id: waiting },
            LedgerRequest::Cancel { operation, id: waiting, reason: String::new() },
            LedgerRequest::Complete(vec![completion(&grant, success("done"))]),
            LedgerRequest::Renew(vec![renewal(&grant, true)]),
            LedgerRequest::PauseQueue { operation, namespace: None, version: 0, reason: String::new() },
            LedgerRequest::Claim { operation },
        ];
        for request in requests {
            assert!(home.is_told_where(request.clone()), "{request:?}");
        }
        home.worker(2, 4);
        home.pass(3 * limits::LEASE_TTL_MS);
        home.credit(2, 4, 0);
        assert_eq!((home.index(), home.grants()), (records, vec![]), "life {life}: it stands still");
        assert_eq!(home.stats().handed_over_to, Some(peer(NEXT)));
        home = home.restart(1_000);
    }
}

#[test]
fn the_same_handover_is_given_again_and_none_to_another_peer() {
    let mut home = Bench::new();
    home.submit(noop());
    let seal = home.hand_over(NEXT).unwrap();
    let records = home.index();
    assert_eq!(home.hand_over(NEXT), Some(seal));
    assert_eq!(home.index(), records, "once is enough");
    let refused = home.ledger.may_hand_over(peer(8));
    assert!(matches!(refused, Err(Refusal::Invalid { .. })), "{refused:?}");
    let mut home = home.restart(60_000);
    assert_eq!(home.hand_over(NEXT), Some(seal), "also after a restart");
}

#[test]
fn a_home_hands_nothing_over_to_itself_nor_while_it_stands_still() {
    let mut home = Bench::new();
    assert!(home.ledger.may_hand_over(peer(0)).is_err());
    let lost = home.copy_of_later();
    home.event(Event::TermSeen(lost));
    assert!(matches!(home.ledger.may_hand_over(peer(NEXT)), Err(Refusal::HomeSuspended { .. })));
    assert_eq!(home.hand_over(NEXT), None);
}

impl Bench {
    /// A term that another copy of this ledger would announce.
    fn copy_of_later(&self) -> crate::homes::Term {
        let term = self.ledger.term();
        crate::homes::Term { generation: crate::ids::Generation(term.generation.0 + 1), ..term }
    }
}

#[test]
fn nothing_says_that_a_ledger_was_handed_over_before_the_seal_is_on_the_disk() {
    let mut home = Bench::new();
    let id = home.submit(noop());
    home.syncs = false;
    let before = home.index();
    assert_eq!(home.hand_over(NEXT), None);
    assert_eq!(home.ask_as(peer(1), LedgerRequest::GetTask { id }), None, "not even whoever asks hears of it");
    // A crash here leaves a home that was never sealed.
    let replay = home.replay_of(LogIndex(1), before, 3);
    assert_eq!(replay.seal(), None);
    home.sync();
    home.settle();
    assert!(home.told_handover().is_some());
}

#[test]
fn who_waits_for_a_task_is_told_where_it_went() {
    let mut home = Bench::new();
    let id = home.submit(noop());
    let answer = home.ask_as(peer(1), LedgerRequest::WaitTask { id, timeout_ms: 60_000 });
    assert_eq!(answer, None);
    home.hand_over(NEXT).unwrap();
    let told = home.left.iter().any(|effect| {
        matches!(effect, Effect::Reply { reply: LedgerReply::Refused(Refusal::NotHome { home, .. }), .. } if *home == Some(peer(NEXT)))
    });
    assert!(told, "{:?}", home.left);
}

#[test]
fn the_next_home_goes_on_with_leases_results_and_counters_in_a_later_term() {
    let mut home = Bench::new();
    home.submit_all(vec![noop(); 2]);
    home.worker(1, 2);
    home.pass(200);
    let grants = home.grants();
    let [(_, grant), (_, ended)] = &grants[..] else { panic!("both are granted") };
    assert_eq!(home.complete(ended, success("before")), CompleteAnswer::Committed);
    let waiting = home.submit(noop());
    let (term, stats) = (home.ledger.term(), home.stats());
    let seal = home.hand_over(NEXT).unwrap();

    let mut next = home.opened_at(NEXT, &seal);
    assert!(next.ledger.term().tenure > term.tenure && next.ledger.term().generation > term.generation);
    assert_eq!(next.ledger.handovers(), [seal.handover]);
    assert_eq!((next.stats().counts, next.stats().handed_over_to), (stats.counts, None));
    assert_eq!(next.complete(ended, success("before")), CompleteAnswer::Committed, "the answer is the first one's");
    assert_eq!(next.complete(grant, success("after")), CompleteAnswer::Committed);
    assert_eq!(next.complete(grant, success("twice")), CompleteAnswer::Conflict);
    next.worker(2, 4);
    next.pass(200);
    let granted = next.grants();
    assert_eq!(granted.iter().map(|(_, grant)| grant.fence.task).collect::<Vec<_>>(), [waiting]);
    assert!(granted[0].1.fence.epoch.0 > grant.fence.epoch.0, "epochs only grow");
    // And it stays so, without the one before it.
    let tenure = next.ledger.tenure();
    let next = next.restart_at(NEXT);
    assert_eq!((next.ledger.tenure(), next.ledger.seal()), (tenure, None));
    assert_eq!(next.ledger.handovers(), [seal.handover]);
}

impl Bench {
    fn restart_at(mut self, n: u8) -> Self {
        self.settle();
        let mut replay = Replay::new(LedgerIdentity { home: peer(n), ..identity(11) });
        self.log.iter().for_each(|entry| replay.apply(entry.index, &entry.body, entry.event).unwrap());
        Self::open(replay, Now { mono_ms: 90_000, wall_ms: self.now.wall_ms + 1_000 }, self.log)
    }
}

#[test]
fn a_sealed_log_serves_at_the_peer_that_it_names_and_at_no_other() {
    let mut home = Bench::new();
    let id = home.submit(noop());
    let seal = home.hand_over(NEXT).unwrap();
    let mut thief = home.opened_at(8, &seal);
    assert_eq!(thief.ledger.seal(), Some(seal));
    assert!(thief.is_told_where(LedgerRequest::GetTask { id }));
    assert!(thief.ledger.may_give_way_to(&seal.handover.handover).is_err(), "nothing newer came");
}

#[test]
fn a_log_that_is_not_the_one_that_was_signed_is_not_read() {
    let mut home = Bench::new();
    home.submit(noop());
    let mut other = Bench::new();
    other.submit(noop());
    other.submit(noop());
    let foreign = SignedHandover { handover: other.ledger.handover_to(peer(NEXT)), signature: [1; 64] };
    home.event(Event::HandOver(foreign));
    assert_eq!((home.told_handover(), home.ledger.seal()), (None, None), "the home itself refuses it");
}

#[test]
fn a_ledger_that_moved_and_came_back_goes_on_where_it_began() {
    let mut home = Bench::new();
    let id = home.submit(noop());
    let there = home.hand_over(NEXT).unwrap();
    let mut next = home.opened_at(NEXT, &there);
    let back = next.hand_over(0).unwrap();
    assert_eq!(back.handover.handover.tenure, 3);
    assert_eq!(home.ledger.may_give_way_to(&back.handover.handover), Ok(()), "its own copy is sealed");
    let stale = next.ledger.may_give_way_to(&there.handover.handover);
    assert!(stale.is_err(), "a file of before makes no second home");
    let mut home = next.opened_at(0, &back);
    assert_eq!(home.ledger.handovers(), [there.handover, back.handover]);
    assert_eq!(home.state(id), TaskState::Ready);
    assert_eq!(home.ledger.tenure(), 3);
}

#[test]
fn a_node_gives_way_to_a_ledger_only_if_its_own_never_held_anything() {
    let handover = Bench::new().ledger.handover_to(peer(NEXT));
    let other = crate::homes::Handover { ledger: crate::ids::LedgerId([9; 16]), ..handover };
    let mut node = Bench::new();
    assert_eq!(node.ledger.may_give_way_to(&other), Ok(()));
    assert!(node.ledger.may_give_way_to(&handover).is_err(), "it serves that one");
    let memory = TaskSpec { durability: Durability::Memory, ..noop() };
    node.submit(memory);
    let refused = node.ledger.may_give_way_to(&other).unwrap_err().to_string();
    assert!(refused.contains("holds 1 tasks that have not ended"), "{refused}");
}

#[test]
fn a_cut_log_is_handed_over_as_a_whole_one() {
    let mut home = Bench::new();
    home.compact(CompactionPolicy { keep_ms: 0, bytes_min: 0, times_the_images: 0, piece_len_max: 10 });
    let ids: Vec<_> = (0..20).map(|_| home.submit(noop())).collect();
    for _ in 0..50 {
        home.pass(2_000);
    }
    assert!(home.first > LogIndex(1), "nothing was cut");
    let seal = home.hand_over(NEXT).unwrap();
    let mut replay = Replay::resume(
        LedgerIdentity { home: peer(NEXT), ..identity(9) },
        LogStart { first: home.first, after: home.log[home.first.0 as usize - 2].event },
    );
    for entry in &home.log[home.first.0 as usize - 1..seal.index.0 as usize] {
        replay.apply(entry.index, &entry.body, entry.event).unwrap();
    }
    assert_eq!((replay.check(), replay.seal()), (Ok(()), Some(seal)));
    let mut next = Bench::open(replay, home.now, home.log[..seal.index.0 as usize].to_vec());
    assert!(ids.into_iter().all(|id| next.state(id) == TaskState::Ready));
}
