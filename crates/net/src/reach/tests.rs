use proptest::prelude::*;

use super::*;

const ALICE: PeerId = PeerId([1; 32]);
const BOB: PeerId = PeerId([2; 32]);

const LOOPBACK: &str = "/ip4/127.0.0.1/tcp/7400";
const PRIVATE: &str = "/ip4/192.168.0.2/tcp/7400";
const PUBLIC: &str = "/ip4/203.0.113.7/tcp/7400";
const BY_RELAY: &str = "/ip4/203.0.113.1/tcp/1/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X/p2p-circuit";

fn address(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

fn listening_on(texts: &[&str]) -> Whereabouts {
    let mut new = Whereabouts::default();
    new.listens(texts.iter().map(|text| address(text)), 0);
    new
}

fn seen_at(text: &str) -> Seen {
    Seen::new(address(text), false).unwrap()
}

fn told(whereabouts: &Whereabouts, network: Network, now_ms: u64) -> Vec<String> {
    whereabouts.told_to(network, now_ms).iter().map(ToString::to_string).collect()
}

/// Asks the next question as soon as it is due, and gives it that answer.
fn ask(whereabouts: &mut Whereabouts, now_ms: &mut u64, answer: ReachAnswer) -> (PeerId, String) {
    let end_ms = *now_ms + 2 * limits::REACH_AGAIN_MS;
    loop {
        if let Some((peer, address)) = whereabouts.question(*now_ms) {
            whereabouts.answered(answer, *now_ms);
            return (peer, address.to_string());
        }
        *now_ms += 100;
        assert!(*now_ms < end_ms, "nobody is asked");
    }
}

/// Bacalhau 1775, of this node's own addresses: none of its site goes beyond it, and of the others what was dialled back.
#[test]
fn private_addresses_are_not_advertised() {
    let mut node = listening_on(&[LOOPBACK, PRIVATE, PUBLIC, BY_RELAY]);
    node.seen_by(ALICE, seen_at(PUBLIC), 0);
    assert_eq!(told(&node, Network::Internet, 0), [BY_RELAY]);
    assert_eq!(told(&node, Network::Site, 0), [PRIVATE, BY_RELAY]);
    assert_eq!(told(&node, Network::Machine, 0), [LOOPBACK, PRIVATE, BY_RELAY]);
    let mut now_ms = 0;
    assert_eq!(ask(&mut node, &mut now_ms, ReachAnswer::reached()), (ALICE, PUBLIC.to_owned()));
    assert_eq!(told(&node, Network::Internet, now_ms), [PUBLIC, BY_RELAY]);
    assert_eq!(told(&node, Network::Machine, now_ms), [PUBLIC, LOOPBACK, PRIVATE, BY_RELAY]);
}

#[test]
fn a_port_that_a_router_forwards_is_told_once_it_was_dialled_back() {
    let mut node = listening_on(&[LOOPBACK, PRIVATE, "/ip4/192.168.0.2/udp/7400/quic-v1", "/ip6/fd00::1/tcp/7400"]);
    // From the port that the router drew.
    node.seen_by(ALICE, seen_at("/ip4/203.0.113.7/tcp/40123"), 0);
    let mut now_ms = 0;
    assert_eq!(ask(&mut node, &mut now_ms, ReachAnswer::reached()).1, PUBLIC);
    assert_eq!(ask(&mut node, &mut now_ms, ReachAnswer::unreached("no")).1, "/ip4/203.0.113.7/udp/7400/quic-v1");
    assert_eq!(told(&node, Network::Internet, now_ms), [PUBLIC]);
}

#[test]
fn what_the_router_grants_is_told_once_it_was_dialled_back_and_asked_about_at_once() {
    let mut node = listening_on(&[PRIVATE]);
    node.seen_by(ALICE, seen_at("/ip4/203.0.113.7/tcp/40123"), 0);
    let mut now_ms = 0;
    ask(&mut node, &mut now_ms, ReachAnswer::unreached("nothing came back"));
    let granted_ms = now_ms + limits::REACH_ASK_EVERY_MS;
    node.granted([address(PUBLIC)].into(), granted_ms);
    assert_eq!(told(&node, Network::Internet, granted_ms), [""; 0]);
    assert_eq!(node.question(granted_ms), Some((ALICE, address(PUBLIC))), "before it would have been");
    node.answered(ReachAnswer::reached(), granted_ms);
    assert_eq!(told(&node, Network::Internet, granted_ms), [PUBLIC]);
    node.granted(BTreeSet::new(), granted_ms);
    assert_eq!(told(&node, Network::Internet, granted_ms), [PUBLIC], "for as long as that holds");
}

#[test]
fn where_a_member_dialled_is_asked_about_as_it_is() {
    let mut node = listening_on(&[PRIVATE]);
    node.seen_by(ALICE, Seen::new(address("/ip4/203.0.113.7/tcp/80"), true).unwrap(), 0);
    let mut now_ms = 0;
    let asked: BTreeSet<String> = (0..2).map(|_| ask(&mut node, &mut now_ms, ReachAnswer::reached()).1).collect();
    assert_eq!(asked, [PUBLIC.to_owned(), "/ip4/203.0.113.7/tcp/80".to_owned()].into());
}

#[test]
fn what_says_nothing_of_the_internet_is_no_sight() {
    for text in [PRIVATE, LOOPBACK, BY_RELAY, "/dns4/node-0/tcp/1", "/ip4/0.0.0.0/udp/1/quic-v1", "/ip6/fe80::1/tcp/1"]
    {
        assert_eq!(Seen::new(address(text), true), None, "{text}");
    }
}

#[test]
fn a_member_is_asked_only_about_where_it_sees_this_node() {
    let mut node = listening_on(&[PUBLIC, "/ip6/2001:db8::7/tcp/7400"]);
    assert_eq!(node.question(0), None, "nobody is there");
    node.seen_by(ALICE, seen_at("/ip6/2001:db8::7/tcp/1"), 0);
    node.seen_by(BOB, seen_at(PUBLIC), 0);
    let mut now_ms = 0;
    let mut asked: Vec<_> = (0..2).map(|_| ask(&mut node, &mut now_ms, ReachAnswer::reached())).collect();
    asked.sort();
    assert_eq!(asked, [(ALICE, "/ip6/2001:db8::7/tcp/7400".to_owned()), (BOB, PUBLIC.to_owned())]);
}

#[test]
fn one_question_is_under_way_at_a_time() {
    let mut node = listening_on(&[PUBLIC, "/ip4/203.0.113.7/udp/7400/quic-v1"]);
    node.seen_by(ALICE, seen_at(PUBLIC), 0);
    assert!(node.question(0).is_some());
    assert_eq!(node.question(limits::REACH_ASK_EVERY_MS), None);
    node.answered(ReachAnswer::reached(), 5);
    assert_eq!(node.question(limits::REACH_ASK_EVERY_MS - 1), None);
    assert!(node.question(limits::REACH_ASK_EVERY_MS).is_some());
}

#[test]
fn an_address_is_given_up_when_two_members_in_a_row_do_not_get_there() {
    let mut node = listening_on(&[PUBLIC]);
    node.seen_by(ALICE, seen_at(PUBLIC), 0);
    node.seen_by(BOB, seen_at(PUBLIC), 0);
    let mut now_ms = 0;
    let first = ask(&mut node, &mut now_ms, ReachAnswer::reached()).0;
    let second = ask(&mut node, &mut now_ms, ReachAnswer::unreached("no route")).0;
    assert_ne!(first, second, "another is asked");
    assert_eq!(told(&node, Network::Internet, now_ms), [PUBLIC], "one may be wrong");
    let lost_ms = now_ms;
    ask(&mut node, &mut now_ms, ReachAnswer::unreached("no route"));
    assert!(now_ms - lost_ms <= 2 * limits::REACH_RETRY_MS, "it is looked at again soon: {}", now_ms - lost_ms);
    assert_eq!(told(&node, Network::Internet, now_ms), [] as [&str; 0]);
    let [info] = node.all(now_ms).try_into().unwrap();
    assert_eq!((info.reach, info.trouble.as_deref()), (Reach::Unreached, Some("no route")));
    ask(&mut node, &mut now_ms, ReachAnswer::reached());
    assert_eq!(told(&node, Network::Internet, now_ms), [PUBLIC]);
}

#[test]
fn what_was_reached_holds_while_nobody_is_there_and_not_for_ever() {
    let mut node = listening_on(&[PRIVATE]);
    node.seen_by(ALICE, seen_at("/ip4/203.0.113.7/tcp/40123"), 0);
    let mut now_ms = 0;
    ask(&mut node, &mut now_ms, ReachAnswer::reached());
    node.forget(ALICE, now_ms);
    assert_eq!(told(&node, Network::Internet, now_ms + limits::REACH_HOLDS_MS - 1), [PUBLIC]);
    assert_eq!(told(&node, Network::Internet, now_ms + limits::REACH_HOLDS_MS), [] as [&str; 0]);
    assert!(!node.is_reached(now_ms + limits::REACH_HOLDS_MS));
}

#[test]
fn a_refusal_says_nothing_of_an_address() {
    let mut node = listening_on(&[PUBLIC]);
    node.seen_by(ALICE, seen_at(PUBLIC), 0);
    let mut now_ms = 0;
    ask(&mut node, &mut now_ms, ReachAnswer::refused("too many"));
    assert_eq!(node.all(now_ms)[0].reach, Reach::Unknown);
    ask(&mut node, &mut now_ms, ReachAnswer::reached());
    ask(&mut node, &mut now_ms, ReachAnswer::refused("too many"));
    assert_eq!(node.all(now_ms)[0].reach, Reach::Reached);
}

#[test]
fn a_member_of_the_version_before_is_not_asked_again() {
    let mut node = listening_on(&[PUBLIC]);
    node.seen_by(ALICE, seen_at(PUBLIC), 0);
    assert_eq!(node.question(0), Some((ALICE, address(PUBLIC))));
    node.unanswered(ALICE, false, 0);
    assert_eq!(node.question(limits::REACH_AGAIN_MS), None);
    node.seen_by(BOB, seen_at(PUBLIC), 0);
    assert_eq!(node.question(limits::REACH_AGAIN_MS), Some((BOB, address(PUBLIC))));
    node.unanswered(BOB, true, limits::REACH_AGAIN_MS);
    // It may have been restarted as another version.
    node.forget(ALICE, 0);
    node.seen_by(ALICE, seen_at(PUBLIC), 0);
    assert_eq!(node.question(2 * limits::REACH_AGAIN_MS), Some((ALICE, address(PUBLIC))));
}

#[test]
fn what_a_person_named_is_told_whatever_members_say() {
    let mut node = Whereabouts::new(vec![address("/dns4/node.example/tcp/80"), address(PUBLIC)]);
    node.listens([address(PRIVATE)].into_iter(), 0);
    let named = ["/dns4/node.example/tcp/80", PUBLIC];
    assert_eq!(told(&node, Network::Internet, 0), named);
    node.seen_by(ALICE, seen_at(PUBLIC), 0);
    let mut now_ms = 0;
    ask(&mut node, &mut now_ms, ReachAnswer::unreached("nothing came back"));
    assert_eq!(told(&node, Network::Internet, now_ms), named);
    let [info] = node.all(now_ms).try_into().unwrap();
    assert!(info.named && info.reach == Reach::Unreached, "{info:?}");
    assert!(!node.is_reached(now_ms));
}

#[test]
fn who_has_met_nobody_writes_down_what_nobody_could_say_anything_about() {
    let written = |node: &Whereabouts| node.written(0).iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut node = listening_on(&[PRIVATE, PUBLIC]);
    assert_eq!(written(&node), [PRIVATE, PUBLIC]);
    node.seen_by(ALICE, seen_at(PUBLIC), 0);
    ask(&mut node, &mut 0, ReachAnswer::unreached("nothing came back"));
    assert_eq!(written(&node), [PRIVATE]);
    // An address that it has from a member waits for the answer of one.
    let mut node = listening_on(&[PRIVATE]);
    node.seen_by(ALICE, seen_at(PUBLIC), 0);
    assert_eq!(written(&node), [PRIVATE]);
}

#[test]
fn nobody_is_dialled_back_but_who_asks_where_it_is_met() {
    let at = |text: &str| text.parse::<IpAddr>().unwrap();
    let met = [at("203.0.113.7"), at("::ffff:198.51.100.1"), at("2001:db8::7")];
    for text in [
        "/ip4/203.0.113.7/tcp/1",
        "/ip4/203.0.113.7/udp/65535/quic-v1",
        "/ip4/198.51.100.1/tcp/1",
        "/ip6/2001:db8::7/tcp/1",
    ] {
        assert_eq!(may_dial(text, &met), Ok(address(text)));
    }
    let long = format!("/ip4/203.0.113.7/tcp/1/dns4/{}", "a".repeat(limits::ADDRESS_BYTES_MAX));
    for text in [
        "",
        "nonsense",
        "/ip4/203.0.113.7/tcp/0",
        "/ip4/203.0.113.7/udp/1",
        "/ip4/203.0.113.7/tcp/1/ws",
        "/dns4/node.example/tcp/1",
        BY_RELAY,
        "/ip4/203.0.113.8/tcp/1",
        "/ip4/10.0.0.1/tcp/1",
        "/ip4/127.0.0.1/tcp/1",
        "/ip6/::1/tcp/1",
        &long,
    ] {
        assert!(may_dial(text, &met).is_err(), "{text}");
    }
    assert!(may_dial(PUBLIC, &[]).is_err(), "who is met by a relay is met nowhere");
}

proptest! {
    /// Whatever members see and say: no address of a narrower network is told, and none that nobody reached.
    #[test]
    fn only_what_was_dialled_back_is_told(
        events in prop::collection::vec((0u8..6, 0u8..4, 1u16..5, 0u64..200_000), 0..200),
    ) {
        let mut node = listening_on(&[LOOPBACK, PRIVATE, PUBLIC]);
        let (mut now_ms, mut asked, mut reached) = (0, None, HashSet::new());
        for (event, who, port, wait_ms) in events {
            now_ms += wait_ms;
            let peer = PeerId([who; 32]);
            match event {
                0 | 1 => {
                    let seen = format!("/ip4/203.0.113.{}/tcp/{port}", 7 + who % 2);
                    node.seen_by(peer, Seen::new(address(&seen), event == 1).unwrap(), now_ms);
                }
                2 => node.forget(peer, now_ms),
                3 => asked = node.question(now_ms).map(|(_, address)| address).or(asked),
                4 => if let Some(address) = asked.take() {
                    reached.insert(address);
                    node.answered(ReachAnswer::reached(), now_ms);
                },
                _ => if asked.take().is_some() {
                    node.answered(ReachAnswer::unreached("no"), now_ms);
                },
            }
            prop_assert!(node.all(now_ms).len() <= 2 * limits::REACH_CLAIMS_MAX);
            for told in node.told_to(Network::Internet, now_ms) {
                prop_assert!(reached.contains(&told), "{told}");
            }
        }
    }
}
