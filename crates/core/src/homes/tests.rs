use ed25519_dalek::SigningKey;
use proptest::prelude::*;

use super::*;
use crate::ids::{ContentId, Generation, LogIndex};

const NOW: Wall = Wall(1_790_000_000_000);

fn key(n: u16) -> SigningKey {
    SigningKey::from_bytes(&ContentId::of(&n.to_be_bytes()).0)
}

fn peer(n: u16) -> PeerId {
    PeerId(key(n).verifying_key().to_bytes())
}

fn ledger(n: u16) -> LedgerId {
    LedgerId(ContentId::of(&n.to_be_bytes()).0[..16].try_into().unwrap())
}

fn term(tenure: u64, generation: u32) -> Term {
    Term { tenure, generation: Generation(generation) }
}

/// Peer `n` says that it serves ledger `of`.
fn says(n: u16, of: u16, term: Term) -> SignedAnnouncement {
    Announcement { ledger: ledger(of), peer: peer(n), term }.sign(&key(n))
}

/// Node 0, which has heard nodes 1 and 2.
fn homes() -> Homes {
    let mut homes = Homes::default();
    homes.serve(says(0, 0, term(1, 5)));
    for n in 1..=2 {
        assert_eq!(homes.hear(peer(n), &says(n, n, term(1, 3)), NOW), Ok(Heard::News));
    }
    homes
}

#[test]
fn a_home_that_announced_itself_is_found_and_speaks_for_its_ledger() {
    let homes = homes();
    assert_eq!(homes.home_of(ledger(1).tag()), Some(peer(1)));
    assert_eq!(homes.home_of(ledger(0).tag()), Some(peer(0)));
    assert_eq!(homes.home_of(ledger(9).tag()), None);
    assert_eq!(homes.judge(ledger(1).tag(), peer(1), term(1, 3)), Ok(()));
    assert_eq!(homes.judge(ledger(1).tag(), peer(1), term(1, 4)), Ok(()), "its announcement is on its way");
    assert_eq!(homes.announced_by(peer(2)).map(|known| known.ledger), Some(ledger(2)));
}

#[test]
fn nobody_takes_over_the_ledger_of_another() {
    let mut homes = homes();
    let refused = homes.hear(peer(2), &says(2, 1, term(9, 9)), NOW);
    let other = AnnouncementError::OtherHome { ledger: ledger(1), home: peer(1), presented: peer(2) };
    assert_eq!(refused, Err(other));
    assert_eq!(homes.hear_of(&says(2, 1, term(9, 9))), Err(other));
    let own = AnnouncementError::OtherHome { ledger: ledger(0), home: peer(0), presented: peer(2) };
    assert_eq!(homes.hear(peer(2), &says(2, 0, term(9, 9)), NOW), Err(own));
    let relayed = AnnouncementError::NotItsOwn { from: peer(2), presented: peer(1) };
    assert_eq!(homes.hear(peer(2), &says(1, 1, term(1, 4)), NOW), Err(relayed));
    let speaks = homes.judge(ledger(1).tag(), peer(2), term(9, 9));
    assert_eq!(speaks, Err(NotItsHome::Other { tag: ledger(1).tag(), home: peer(1) }));
    assert_eq!(homes.home_of(ledger(1).tag()), Some(peer(1)));
}

#[test]
fn an_earlier_term_of_a_home_is_over() {
    let mut homes = homes();
    assert_eq!(homes.hear(peer(1), &says(1, 1, term(2, 4)), NOW), Ok(Heard::News));
    let (known, presented, tag) = (term(2, 4), term(1, 3), ledger(1).tag());
    let over = AnnouncementError::Over { ledger: ledger(1), known, presented };
    assert_eq!(homes.hear(peer(1), &says(1, 1, presented), NOW), Err(over));
    assert_eq!(homes.judge(tag, peer(1), presented), Err(NotItsHome::Over { tag, known, presented }));
    assert_eq!(homes.judge(tag, peer(1), term(2, 3)), Err(NotItsHome::Over { tag, known, presented: term(2, 3) }));
}

#[test]
fn a_later_term_of_the_own_ledger_shows_a_copy_of_the_disk() {
    let mut homes = homes();
    assert_eq!(homes.hear_of(&says(0, 0, term(1, 5))), Ok(Heard::Known));
    let over = AnnouncementError::Over { ledger: ledger(0), known: term(1, 5), presented: term(1, 4) };
    assert_eq!(homes.hear_of(&says(0, 0, term(1, 4))), Err(over), "the start before");
    assert_eq!(homes.hear_of(&says(0, 0, term(1, 6))), Ok(Heard::Copy(term(1, 6))));
    assert_eq!(homes.own().map(|own| own.announcement.term), Some(term(1, 5)));
}

#[test]
fn a_second_ledger_with_the_same_tag_is_not_admitted() {
    let mut homes = homes();
    let mut twin = says(3, 1, term(1, 1)).announcement;
    twin.ledger.0[15] ^= 1;
    let taken = AnnouncementError::TagTaken { known: ledger(1), presented: twin.ledger };
    assert_eq!(homes.hear(peer(3), &twin.sign(&key(3)), NOW), Err(taken));
}

#[test]
fn what_is_not_signed_by_its_peer_is_refused() {
    let mut homes = homes();
    let mut forged = says(3, 3, term(1, 1));
    forged.signature[7] ^= 1;
    let wrong = AnnouncementError::Verify(VerifyError::WrongSignature(peer(3)));
    assert_eq!(homes.hear(peer(3), &forged, NOW), Err(wrong));
    assert_eq!(homes.hear_of(&forged), Err(wrong));
    assert_eq!(homes.home_of(ledger(3).tag()), None);
    let mut later = says(1, 1, term(1, 4));
    later.signature[7] ^= 1;
    assert_eq!(homes.hear_of(&later), Err(AnnouncementError::Verify(VerifyError::WrongSignature(peer(1)))));
    assert_eq!(homes.announced_by(peer(1)).map(|known| known.term), Some(term(1, 3)));
}

#[test]
fn a_peer_serves_one_ledger_and_only_itself_says_that_it_serves_another() {
    let mut homes = homes();
    let refused = homes.hear_of(&says(1, 7, term(1, 1)));
    let (presented, serves) = (peer(1), ledger(1).tag());
    assert_eq!(refused, Err(AnnouncementError::OtherLedger { presented, serves, ledger: ledger(7) }));
    assert_eq!(homes.hear(peer(1), &says(1, 7, term(1, 1)), NOW), Ok(Heard::News));
    assert_eq!(homes.home_of(ledger(1).tag()), None);
    assert_eq!(homes.home_of(ledger(7).tag()), Some(peer(1)));
}

#[test]
fn a_home_that_others_told_of_is_found_and_was_not_seen() {
    let mut homes = homes();
    assert_eq!(homes.hear_of(&says(3, 3, term(1, 1))), Ok(Heard::News));
    assert_eq!(homes.home_of(ledger(3).tag()), Some(peer(3)));
    assert_eq!(homes.last_seen(ledger(3).tag()), None);
    assert_eq!(homes.hear(peer(3), &says(3, 3, term(1, 1)), NOW), Ok(Heard::Known));
    assert_eq!(homes.hear_of(&says(3, 3, term(1, 2))), Ok(Heard::News));
    assert_eq!(homes.last_seen(ledger(3).tag()), Some(NOW), "what others tell does not unsee it");
}

#[test]
fn homes_are_bounded_and_one_that_is_heard_itself_finds_room() {
    let mut homes = Homes::default();
    for n in 0..limits::PEERS_MAX as u16 {
        homes.hear(peer(n), &says(n, n, term(1, 1)), Wall(NOW.0 + u64::from(n))).unwrap();
    }
    let late = limits::PEERS_MAX as u16;
    let full = AnnouncementError::Full { homes_max: limits::PEERS_MAX };
    assert_eq!(homes.hear_of(&says(late, late, term(1, 1))), Err(full));
    assert_eq!(homes.hear(peer(late), &says(late, late, term(1, 1)), Wall(NOW.0 + 9_999)), Ok(Heard::News));
    assert_eq!((homes.home_of(ledger(0).tag()), homes.announced_by(peer(0))), (None, None));
    assert_eq!(homes.announcements().count(), limits::PEERS_MAX);
}

#[test]
fn a_head_is_taken_from_the_home_of_its_ledger_only() {
    let homes = homes();
    let head = |n, of| Head {
        ledger: ledger(of),
        peer: peer(n),
        tenure: 1,
        generation: Generation(3),
        count: 9,
        event: ContentId([0; 32]),
    };
    assert!(homes.is_of_its_home(&head(1, 1)) && homes.is_of_its_home(&head(0, 0)));
    assert!(!homes.is_of_its_home(&head(2, 1)) && !homes.is_of_its_home(&head(3, 3)));
}

/// Peer `from` hands ledger `of` over to peer `to`, who serves it in `tenure`.
fn hands(from: u16, of: u16, to: u16, tenure: u64) -> SignedHandover {
    let (count, event) = (LogIndex(7), ContentId([7; 32]));
    Handover { ledger: ledger(of), from: peer(from), to: peer(to), tenure, count, event }.sign(&key(from))
}

/// Peer `n` says that it serves ledger `of`, which was handed over so often.
fn shows(n: u16, of: u16, term: Term, handovers: &[SignedHandover]) -> SignedAnnouncement {
    says(n, of, term).with_handovers(handovers.to_vec())
}

#[test]
fn a_home_that_shows_the_word_of_the_one_before_it_is_believed_at_once_and_the_old_one_no_longer() {
    let mut homes = homes();
    let moved = shows(2, 1, term(2, 4), &[hands(1, 1, 2, 2)]);
    assert_eq!(homes.hear(peer(2), &moved, NOW), Ok(Heard::News));
    assert_eq!(homes.home_of(ledger(1).tag()), Some(peer(2)));
    assert_eq!((homes.announced_by(peer(1)), homes.home_of(ledger(2).tag())), (None, None), "what they served before");
    let (known, presented) = (term(2, 4), term(1, 3));
    let over = AnnouncementError::Over { ledger: ledger(1), known, presented };
    assert_eq!(homes.hear(peer(1), &says(1, 1, presented), NOW), Err(over));
    assert!(homes.judge(ledger(1).tag(), peer(1), presented).is_err());
    assert_eq!(homes.judge(ledger(1).tag(), peer(2), known), Ok(()));
    // Claimed on the disk that handed it over: its home now has not signed that.
    let claimed = homes.hear(peer(1), &says(1, 1, term(9, 9)), NOW);
    assert!(matches!(claimed, Err(AnnouncementError::OtherHome { .. })), "{claimed:?}");
}

#[test]
fn a_move_is_believed_of_whoever_heard_the_new_home_first_and_of_relays() {
    let moved = shows(3, 1, term(2, 4), &[hands(1, 1, 3, 2)]);
    let mut late = Homes::default();
    assert_eq!(late.hear_of(&moved), Ok(Heard::News));
    assert!(matches!(late.hear_of(&says(1, 1, term(1, 3))), Err(AnnouncementError::Over { .. })));
    // The peer was known with the ledger that it gave up for this one.
    let mut homes = homes();
    homes.hear_of(&says(3, 3, term(1, 1))).unwrap();
    assert_eq!(homes.hear_of(&moved), Ok(Heard::News));
    assert_eq!((homes.home_of(ledger(1).tag()), homes.home_of(ledger(3).tag())), (Some(peer(3)), None));
}

#[test]
fn several_moves_lead_from_any_home_that_is_known_to_the_newest() {
    let handovers = [hands(1, 1, 2, 2), hands(2, 1, 1, 3), hands(1, 1, 3, 4)];
    let newest = shows(3, 1, term(4, 9), &handovers);
    for known in
        [says(1, 1, term(1, 3)), shows(2, 1, term(2, 4), &handovers[..1]), shows(1, 1, term(3, 5), &handovers[..2])]
    {
        let mut homes = Homes::default();
        homes.hear_of(&known).unwrap();
        assert_eq!(homes.hear_of(&newest), Ok(Heard::News), "{known:?}");
        assert_eq!(homes.home_of(ledger(1).tag()), Some(peer(3)));
        assert!(homes.hear_of(&known).is_err());
    }
}

#[test]
fn a_handover_that_is_not_the_homes_own_or_names_another_moves_nothing() {
    let honest = hands(1, 1, 3, 2);
    let mut forged = honest;
    forged.signature[0] ^= 1;
    let mut stolen = hands(2, 1, 3, 2);
    stolen.handover.from = peer(1);
    for handovers in [
        vec![],
        vec![forged],
        vec![stolen],
        vec![hands(2, 1, 3, 2)],
        vec![hands(1, 2, 3, 2)],
        vec![hands(1, 1, 2, 2)],
        vec![hands(1, 1, 3, 9)],
        vec![hands(1, 1, 3, 1)],
        vec![honest; limits::HANDOVERS_MAX + 1],
    ] {
        let mut homes = homes();
        let refused = homes.hear(peer(3), &shows(3, 1, term(2, 4), &handovers), NOW);
        assert!(refused.is_err(), "{handovers:?}");
        assert_eq!(homes.home_of(ledger(1).tag()), Some(peer(1)));
    }
}

#[test]
fn a_node_that_handed_its_ledger_over_sends_whoever_asks_to_the_new_home() {
    let mut homes = homes();
    let (own, handover) = (says(0, 0, term(1, 5)).announcement, hands(0, 0, 3, 2));
    homes.hand_over(own, handover.handover);
    assert_eq!((homes.own(), homes.handed_over()), (None, Some(&own)));
    assert_eq!(homes.home_of(ledger(0).tag()), None, "the new one has not spoken yet");
    assert!(
        matches!(homes.hear_of(&says(0, 0, term(1, 5))), Err(AnnouncementError::Over { .. })),
        "its own former word"
    );
    assert_eq!(homes.hear(peer(3), &shows(3, 0, term(2, 6), &[handover]), NOW), Ok(Heard::News));
    assert_eq!(homes.home_of(ledger(0).tag()), Some(peer(3)));
    homes.serve(says(0, 5, term(1, 1)));
    assert_eq!(homes.home_of(ledger(0).tag()), Some(peer(3)));
    assert_eq!(homes.handed_over(), None);
}

#[test]
fn a_restored_disk_of_a_ledger_that_was_handed_over_hears_of_its_new_home() {
    let mut homes = homes();
    let moved = shows(2, 0, term(2, 6), &[hands(0, 0, 2, 2)]);
    assert_eq!(homes.hear(peer(2), &moved, NOW), Ok(Heard::Copy(term(2, 6))));
    assert_eq!(homes.home_of(ledger(0).tag()), Some(peer(0)), "it decides what that means, not this list");
}

#[test]
fn a_later_word_that_came_without_its_handovers_keeps_those_that_are_known() {
    let mut homes = homes();
    homes.hear_of(&shows(3, 1, term(2, 4), &[hands(1, 1, 3, 2)])).unwrap();
    assert_eq!(homes.hear_of(&says(3, 1, term(2, 5))), Ok(Heard::News));
    let told: Vec<_> = homes.announcements().filter(|told| told.announcement.ledger == ledger(1)).collect();
    assert_eq!(told, [&shows(3, 1, term(2, 5), &[hands(1, 1, 3, 2)])]);
}

proptest! {
    /// Whoever says what, in whichever order: a ledger stays with the peer that had it first, a peer has one ledger, and
    /// terms only grow.
    #[test]
    fn a_ledger_never_changes_hands(words in prop::collection::vec((0u16..4, 0u16..4, 1u64..3, 1u32..4, any::<bool>()), 0..60)) {
        let mut homes = Homes::default();
        let mut held: BTreeMap<LedgerTag, Announcement> = BTreeMap::new();
        for (n, of, tenure, generation, itself) in words {
            let signed = says(n, of, term(tenure, generation));
            let heard = if itself { homes.hear(peer(n), &signed, NOW) } else { homes.hear_of(&signed) };
            let tag = ledger(of).tag();
            if heard == Ok(Heard::News) {
                held.retain(|held_tag, known| *held_tag == tag || known.peer != peer(n));
                let before = held.insert(tag, signed.announcement);
                prop_assert!(before.is_none_or(|before| before.peer == peer(n) && before.term < signed.announcement.term));
            }
            let known: BTreeMap<_, _> =
                homes.announcements().map(|known| (known.announcement.ledger.tag(), known.announcement)).collect();
            prop_assert_eq!(&known, &held);
        }
    }

    /// In whatever order the words of three homes of one ledger come, and however often: once each was heard, all know
    /// the newest, and the terms that they believe only grow.
    #[test]
    fn in_whatever_order_homes_are_heard_the_newest_is_believed(order in prop::collection::vec((0usize..3, any::<bool>()), 0..12)) {
        let handovers = [hands(1, 1, 2, 2), hands(2, 1, 3, 3)];
        let words = [says(1, 1, term(1, 3)), shows(2, 1, term(2, 4), &handovers[..1]), shows(3, 1, term(3, 5), &handovers)];
        let (mut homes, mut believed) = (Homes::default(), None);
        for (n, itself) in order.into_iter().chain([(0, true), (1, false), (2, false), (0, false), (1, true)]) {
            let word = &words[n];
            let _ = if itself { homes.hear(word.announcement.peer, word, NOW) } else { homes.hear_of(word) };
            let now_known = homes.find(ledger(1).tag()).map(|known| known.term);
            prop_assert!(now_known >= believed);
            believed = now_known;
        }
        prop_assert_eq!(homes.home_of(ledger(1).tag()), Some(peer(3)));
    }
}
