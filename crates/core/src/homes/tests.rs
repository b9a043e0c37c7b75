use ed25519_dalek::SigningKey;
use proptest::prelude::*;

use super::*;
use crate::ids::{ContentId, Generation};

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
}
