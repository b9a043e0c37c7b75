use super::*;
use proptest::prelude::*;

const LOCAL: PeerId = PeerId([0; 32]);
const ALICE: PeerId = PeerId([1; 32]);
const BOB: PeerId = PeerId([2; 32]);

fn bare(port: u16) -> Multiaddr {
    format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap()
}

fn quic(port: u16) -> Multiaddr {
    format!("/ip4/10.0.0.1/udp/{port}/quic-v1").parse().unwrap()
}

fn of(peer: PeerId, address: Multiaddr) -> Multiaddr {
    address.with(Protocol::P2p(identity::to_libp2p(peer)))
}

fn book() -> Book {
    Book::new(LOCAL)
}

fn targets(dials: Vec<Dial>) -> Vec<Target> {
    dials.into_iter().map(|dial| dial.target).collect()
}

#[test]
fn a_found_address_is_dialled_once_until_the_dial_ends() {
    let mut book = book();
    assert!(book.found(bare(1), Source::Bootstrap, 0));
    assert!(!book.found(bare(1), Source::Bootstrap, 0), "known already");
    let dials = book.due(0, 0);
    assert_eq!(dials, [Dial { target: Target::Address(bare(1)), addresses: vec![bare(1)] }]);
    assert_eq!(book.due(0, 1_000_000), []);
    book.failed(&dials[0].target, 1_000_000);
    assert_eq!(book.due(0, 1_000_000), []);
    assert_eq!(book.due(0, 1_000_000 + limits::REDIAL_MAX_MS).len(), 1);
}

#[test]
fn each_begins_with_whoever_comes_after_itself() {
    let peer = |n| PeerId([n; 32]);
    for local in [0, 3, 5, 8] {
        let mut book = Book::new(peer(local));
        (1..=8).filter(|n| *n != local).for_each(|n| assert!(book.found(of(peer(n), bare(1)), Source::Member, 0)));
        let first = targets(book.due(0, 0));
        let expected = (1..=8).map(|step| 1 + (local + step - 1) % 8).filter(|n| *n != local);
        assert_eq!(first, expected.take(limits::MEETING_MAX).map(|n| Target::Peer(peer(n))).collect::<Vec<_>>());
    }
}

#[test]
fn the_next_are_dialled_when_one_is_admitted_and_not_only_connected() {
    let mut book = book();
    let peer = |n| PeerId([n; 32]);
    (1..40).for_each(|n| assert!(book.found(of(peer(n), bare(1)), Source::Member, 0)));
    assert_eq!(book.due(0, 0).len(), limits::MEETING_MAX);
    (1..=2).for_each(|n| book.connected(peer(n), Some(&Target::Peer(peer(n))), 10));
    assert_eq!(book.due(2, 10), []);
    assert_eq!(book.due(1, 20).len(), 1, "in the place of the one that was admitted");
    book.failed(&Target::Peer(peer(3)), 30);
    assert_eq!(book.due(1, 30).len(), 1);
    let silent_ms = 30 + limits::MEETING_SILENT_MS;
    assert_eq!(book.due(1, silent_ms).len(), limits::MEETING_MAX - 1, "who does not answer keeps nobody waiting");
}

#[test]
fn addresses_that_lead_to_members_that_are_here_keep_nobody_waiting() {
    let mut book = book();
    for n in 0..2 * limits::MEETING_MAX as u16 {
        book.found(bare(n + 1), Source::Bootstrap, 0);
    }
    book.connected(ALICE, None, 0);
    book.admitted(ALICE, None, 0);
    for _ in 0..2 {
        let dials = targets(book.due(0, 0));
        assert_eq!(dials.len(), limits::MEETING_MAX);
        dials.iter().for_each(|target| book.connected(ALICE, Some(target), 1));
    }
    book.found(of(BOB, bare(1_000)), Source::Member, 2);
    assert_eq!(targets(book.due(0, 2)), [Target::Peer(BOB)]);
}

#[test]
fn a_connected_peer_is_not_dialled_by_any_of_its_addresses() {
    let mut book = book();
    book.found(bare(1), Source::Bootstrap, 0);
    let [target] = targets(book.due(0, 0)).try_into().unwrap();
    book.connected(ALICE, Some(&target), 0);
    book.found(of(ALICE, bare(2)), Source::Mdns, 0);
    assert_eq!(book.due(0, u64::MAX), []);
    book.disconnected(ALICE, 10);
    assert_eq!(targets(book.due(0, 10 + limits::REDIAL_FIRST_MS)), [Target::Peer(ALICE)]);
    assert_eq!(book.due(0, u64::MAX), [], "while the peer is dialled, its bare address is not");
}

#[test]
fn whoever_took_over_a_bare_address_is_found_in_the_end() {
    let mut book = book();
    book.found(bare(1), Source::Bootstrap, 0);
    let [target] = targets(book.due(0, 0)).try_into().unwrap();
    book.connected(ALICE, Some(&target), 0);
    book.admitted(ALICE, Some(bare(1)), 0);
    book.disconnected(ALICE, 10);
    let [alice] = targets(book.due(0, 10 + limits::REDIAL_FIRST_MS)).try_into().unwrap();
    assert_eq!(alice, Target::Peer(ALICE));
    book.failed(&alice, 500);
    assert!(targets(book.due(0, 500)).contains(&target));
    book.connected(BOB, Some(&target), 510);
    assert!(!targets(book.due(0, 1_000_000)).contains(&target));
}

#[test]
fn a_members_redial_stays_within_a_quarter_of_the_lease() {
    let mut book = book();
    book.found(of(ALICE, bare(1)), Source::Mdns, 0);
    book.connected(ALICE, None, 0);
    book.admitted(ALICE, None, 0);
    book.disconnected(ALICE, 0);
    let mut now_ms = limits::REDIAL_FIRST_MS;
    for _ in 0..100 {
        assert_eq!(targets(book.due(0, now_ms)), [Target::Peer(ALICE)], "at {now_ms} ms");
        book.failed(&Target::Peer(ALICE), now_ms);
        now_ms += limits::REDIAL_MEMBER_MS;
    }
}

#[test]
fn a_refused_peer_is_left_alone_for_longer_and_longer() {
    let mut book = book();
    book.found(of(ALICE, bare(1)), Source::Bootstrap, 0);
    let mut waits = Vec::new();
    let mut now_ms = 0;
    for _ in 0..10 {
        let due_ms = (now_ms..).step_by(100).find(|now_ms| !book.due(0, *now_ms).is_empty()).unwrap();
        waits.push(due_ms - now_ms);
        now_ms = due_ms;
        book.connected(ALICE, Some(&Target::Peer(ALICE)), now_ms);
        book.disconnected(ALICE, now_ms);
        book.refused(ALICE, now_ms);
    }
    assert!(waits[1] >= limits::REDIAL_REFUSED_FIRST_MS * 3 / 4, "{waits:?}");
    assert!(
        waits[9] >= limits::REDIAL_REFUSED_MAX_MS * 3 / 4 && waits[9] <= limits::REDIAL_REFUSED_MAX_MS + 100,
        "{waits:?}"
    );
}

#[test]
fn quic_gets_its_turn_when_tcp_fails() {
    let mut book = book();
    book.found(of(ALICE, quic(1)), Source::Bootstrap, 0);
    book.found(of(ALICE, bare(1)), Source::Bootstrap, 0);
    assert_eq!(book.due(0, 0)[0].addresses, [bare(1)]);
    book.failed(&Target::Peer(ALICE), 0);
    assert_eq!(book.due(0, 10_000)[0].addresses, [quic(1), bare(1)]);
}

#[test]
fn this_node_is_never_dialled() {
    let mut book = book();
    assert!(!book.found(of(LOCAL, bare(1)), Source::Mdns, 0));
    book.found(bare(1), Source::Bootstrap, 0);
    let [target] = targets(book.due(0, 0)).try_into().unwrap();
    book.misled(&target, bare(1), true);
    book.failed(&target, 0);
    book.found(bare(1), Source::Bootstrap, 0);
    assert_eq!(book.due(0, u64::MAX), []);
}

#[test]
fn an_address_where_another_answers_does_not_spoil_the_others() {
    let mut book = book();
    book.found(of(ALICE, bare(1)), Source::Identify, 0);
    book.found(of(ALICE, bare(2)), Source::Identify, 0);
    assert_eq!(book.due(0, 0)[0].addresses, [bare(1), bare(2)]);
    book.misled(&Target::Peer(ALICE), of(ALICE, bare(1)), true);
    book.failed(&Target::Peer(ALICE), 0);
    assert_eq!(book.due(0, u64::MAX / 2)[0].addresses, [bare(2)]);
    book.misled(&Target::Peer(ALICE), bare(2), false);
    book.failed(&Target::Peer(ALICE), 0);
    assert_eq!(book.due(0, u64::MAX / 2)[0].addresses, [bare(1), bare(2)], "where all mislead, all are tried");
}

#[test]
fn a_member_is_remembered_when_its_source_takes_it_back() {
    let mut book = book();
    book.found(of(ALICE, bare(1)), Source::Mdns, 0);
    book.admitted(ALICE, None, 0);
    book.lost(of(ALICE, bare(1)), Source::Mdns);
    assert_eq!(book.members(), [(ALICE, vec![bare(1)])]);
}

#[test]
fn what_a_source_takes_back_is_forgotten_unless_another_names_it() {
    let mut book = book();
    book.found(of(ALICE, bare(1)), Source::Mdns, 0);
    book.found(of(ALICE, bare(1)), Source::PeerFile, 0);
    book.lost(of(ALICE, bare(1)), Source::Mdns);
    assert_eq!(book.addresses_of(ALICE), [bare(1)]);
    book.lost(of(ALICE, bare(1)), Source::PeerFile);
    assert_eq!(book.due(0, u64::MAX), []);
}

#[test]
fn the_weaker_of_two_sources_keeps_an_address_too() {
    let mut book = book();
    book.found(of(ALICE, bare(1)), Source::PeerFile, 0);
    book.found(of(ALICE, bare(1)), Source::Mdns, 0);
    book.lost(of(ALICE, bare(1)), Source::PeerFile);
    assert_eq!(book.addresses_of(ALICE), [bare(1)]);
    book.forget_stale(limits::SUGGESTION_TTL_MS + 1);
    assert!(book.addresses_of(ALICE).is_empty(), "no person names it any more");
}

#[test]
fn a_bare_address_that_is_taken_back_goes_and_the_member_it_led_to_stays() {
    let mut book = book();
    book.found(bare(1), Source::Dns, 0);
    let [target] = targets(book.due(0, 0)).try_into().unwrap();
    book.connected(ALICE, Some(&target), 0);
    book.admitted(ALICE, Some(bare(1)), 0);
    book.lost(bare(1), Source::Dns);
    book.disconnected(ALICE, 0);
    assert_eq!(targets(book.due(0, u64::MAX)), [Target::Peer(ALICE)]);
}

#[test]
fn a_record_of_a_name_is_dialled_for_as_long_as_it_stands() {
    let mut book = book();
    book.found(bare(1), Source::Dns, 0);
    book.forget_stale(u64::MAX);
    assert_eq!(targets(book.due(0, u64::MAX)), [Target::Address(bare(1))]);
}

#[test]
fn a_suggestion_that_is_repeated_does_not_go_stale() {
    let mut book = book();
    let ttl_ms = limits::SUGGESTION_TTL_MS;
    book.found(of(ALICE, bare(1)), Source::Mdns, 0);
    book.found(of(ALICE, bare(1)), Source::Mdns, ttl_ms);
    book.forget_stale(2 * ttl_ms);
    assert_eq!(book.addresses_of(ALICE), [bare(1)]);
    book.forget_stale(2 * ttl_ms + 1);
    assert!(book.addresses_of(ALICE).is_empty());
}

#[test]
fn suggestions_go_stale_and_members_do_not() {
    let mut book = book();
    book.found(of(ALICE, bare(1)), Source::Mdns, 0);
    book.found(of(BOB, bare(2)), Source::Mdns, 0);
    book.found(bare(3), Source::Bootstrap, 0);
    book.admitted(BOB, None, 0);
    book.forget_stale(limits::SUGGESTION_TTL_MS + 1);
    assert_eq!(targets(book.due(0, u64::MAX)), [Target::Peer(BOB), Target::Address(bare(3))]);
    assert_eq!(book.members(), [(BOB, vec![bare(2)])]);
}

#[test]
fn strangers_cannot_crowd_out_members_or_what_a_person_named() {
    let mut book = book();
    book.found(bare(1), Source::Bootstrap, 0);
    book.found(of(ALICE, bare(1)), Source::Mdns, 0);
    book.admitted(ALICE, None, 0);
    for n in 0..3 * limits::TARGETS_MAX as u32 {
        let mut id = [9; 32];
        id[..4].copy_from_slice(&n.to_le_bytes());
        book.found(of(PeerId(id), bare(7)), Source::Mdns, 1);
    }
    assert_eq!(book.entries.len(), limits::TARGETS_MAX);
    assert!(book.found(of(BOB, bare(2)), Source::PeerFile, 2), "a person's word displaces a suggestion");
    assert_eq!(book.entries.len(), limits::TARGETS_MAX);
    assert_eq!(book.addresses_of(ALICE), [bare(1)]);
    assert!(book.entries.contains_key(&Target::Address(bare(1))));
}

#[test]
fn a_peer_that_dialled_this_node_is_a_member_wherever_it_says_later_that_it_listens() {
    let mut book = book();
    book.connected(ALICE, None, 0);
    book.admitted(ALICE, None, 0);
    assert_eq!(book.members(), [], "nobody knows yet where to dial it");
    book.found(of(ALICE, bare(1)), Source::Identify, 10);
    assert_eq!(book.members(), [(ALICE, vec![bare(1)])]);
    book.disconnected(ALICE, 20);
    book.forget_stale(20 + limits::SUGGESTION_TTL_MS + 1);
    assert_eq!(targets(book.due(0, u64::MAX)), [Target::Peer(ALICE)], "for ever");
}

#[test]
fn members_of_an_earlier_life_stay_in_the_cache_as_long_as_they_are_dialled() {
    let mut book = book();
    book.found(of(ALICE, bare(1)), Source::Cache, 0);
    book.found(of(BOB, bare(2)), Source::Cache, 0);
    book.admitted(BOB, Some(bare(2)), 100);
    assert_eq!(book.members(), [(ALICE, vec![bare(1)]), (BOB, vec![bare(2)])]);
    book.forget_stale(limits::SUGGESTION_TTL_MS + 1);
    assert_eq!(book.members(), [(BOB, vec![bare(2)])]);
}

proptest! {
    #[test]
    fn a_peer_that_names_many_addresses_keeps_eight_and_those_a_person_named(
        ports in prop::collection::vec(1000u16.., 0..100),
    ) {
        let mut book = book();
        book.found(of(ALICE, bare(1)), Source::Bootstrap, 0);
        for port in ports {
            book.found(of(ALICE, bare(port)), Source::Identify, 0);
        }
        let addresses = book.addresses_of(ALICE);
        prop_assert!(addresses.len() <= limits::PEER_ADDRESSES_MAX && addresses.contains(&bare(1)));
    }

    #[test]
    fn two_that_lost_one_peer_at_once_do_not_dial_it_in_step_and_each_waits_about_twice_as_long_as_before(
        one: [u8; 32], other: [u8; 32]
    ) {
        prop_assume!(one != other);
        let delays = |local: [u8; 32]| -> Vec<u64> {
            let entry = |failures| Entry { failures, ..Entry::new(0) };
            (1..7).map(|failures| backoff::delay_ms(PeerId(local), &Target::Peer(ALICE), &entry(failures), 0)).collect()
        };
        let (ours, theirs) = (delays(one), delays(other));
        prop_assert_ne!(&ours, &theirs);
        for (doublings, delay) in ours.into_iter().enumerate() {
            let doubled = limits::REDIAL_FIRST_MS << doublings;
            let most = (doubled * 5 / 4).min(limits::REDIAL_MAX_MS);
            prop_assert!((doubled * 3 / 4..=most).contains(&delay), "{delay} after {doublings} doublings");
        }
    }

    #[test]
    fn the_wait_never_exceeds_its_last_step(failures in 1u32..80, refusals in 0u32..80, member: bool) {
        let entry = Entry { failures, refusals, member, ..Entry::new(0) };
        let last = match (refusals, member) {
            (1.., _) => limits::REDIAL_REFUSED_MAX_MS,
            (0, true) => limits::REDIAL_MEMBER_MS,
            (0, false) => limits::REDIAL_MAX_MS,
        };
        let delay = backoff::delay_ms(LOCAL, &Target::Peer(ALICE), &entry, 0);
        prop_assert!(delay <= last && delay >= limits::REDIAL_FIRST_MS / 2, "{delay}");
    }
}
