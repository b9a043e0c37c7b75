//! Many who are new at once: how many of them are dialled at a time, and who of two that heard of each other dials.
//!
//! Two that hear of each other from a third would both dial, and a handshake is most of what meeting costs. A few do no
//! harm; of many, a peer with a lower id is left the time to come by itself.

use magpie_core::ids::PeerId;

use super::{Book, Entry, Target};
use crate::limits;

impl Entry {
    /// Whether it was never met, nor tried in vain, and nobody named it.
    fn is_new(&self) -> bool {
        !self.member && self.failures == 0 && self.refusals == 0 && !self.is_lasting()
    }

    /// Whether it is being dialled, or is here and not admitted yet. Who takes long holds up nobody else; but a node
    /// that is late itself cannot tell whose time that was.
    fn is_arriving(&self, is_late: bool, now_ms: u64) -> bool {
        let slow_ms = if is_late { limits::CONNECTION_SETUP_MS } else { limits::DIAL_SLOW_MS };
        self.is_new() && self.dialled_ms.is_some_and(|at_ms| at_ms + slow_ms > now_ms)
    }
}

/// Those who are new, at one moment.
pub(super) struct Crowd {
    local: PeerId,
    now_ms: u64,
    is_one: bool,
    arriving: usize,
    arriving_max: usize,
    /// When a peer last came by itself.
    came_ms: u64,
}

impl Crowd {
    pub fn of(book: &Book, due: &[Target], now_ms: u64) -> Self {
        let arriving = book.entries.values().filter(|entry| entry.is_arriving(book.is_late, now_ms)).count();
        let new = due.iter().filter_map(|target| book.entries.get(target)).filter(|entry| entry.is_new()).count();
        let is_one = new + arriving > limits::DIALS_NEW_MAX;
        // What is begun must end in time, also where many nodes share too little of a machine.
        let arriving_max = if book.is_late { limits::DIALS_NEW_LATE_MAX } else { limits::DIALS_NEW_MAX };
        Self { local: book.local, now_ms, is_one, arriving, arriving_max, came_ms: book.came_ms }
    }

    /// Whether the peer is dialled now.
    pub fn lets_dial(&mut self, target: &Target, entry: &Entry) -> bool {
        if !entry.is_new() {
            return true;
        }
        if self.arriving >= self.arriving_max || self.is_one && self.comes_by_itself(target, entry) {
            return false;
        }
        self.arriving += 1;
        true
    }

    /// Whether the peer is better waited for: as long as others come, but not for ever, since it may be unable to.
    fn comes_by_itself(&self, target: &Target, entry: &Entry) -> bool {
        let is_lower = matches!(target, Target::Peer(peer) if *peer < self.local);
        let quiet_ms = entry.found_ms.max(self.came_ms) + limits::CROWD_QUIET_MS;
        let end_ms = entry.found_ms + limits::CROWD_WAIT_MAX_MS;
        is_lower && self.now_ms < quiet_ms.min(end_ms)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use libp2p::multiaddr::Protocol;
    use proptest::prelude::*;

    use super::*;
    use crate::book::{Dial, Source};
    use crate::identity;

    const LOCAL: u8 = 100;
    const LOWER: u8 = 1;
    const HIGHER: u8 = 200;
    /// More than are dialled without a thought of who else dials.
    const CROWD: u8 = 2 * limits::DIALS_NEW_MAX as u8;

    fn peer(n: u8) -> PeerId {
        PeerId([n; 32])
    }

    fn hear_of(book: &mut Book, first: u8, count: u8, source: Source, now_ms: u64) {
        for n in first..first + count {
            let address = format!("/ip4/10.0.0.{n}/tcp/1").parse::<libp2p::Multiaddr>().unwrap();
            book.found(address.with(Protocol::P2p(identity::to_libp2p(peer(n)))), source, now_ms);
        }
    }

    fn who(dials: Vec<Dial>) -> Vec<PeerId> {
        let peer = |dial: Dial| match dial.target {
            Target::Peer(peer) => peer,
            Target::Address(address) => panic!("{address}"),
        };
        dials.into_iter().map(peer).collect()
    }

    fn arrive(book: &mut Book, peer: PeerId, via: Option<&Target>, now_ms: u64) {
        book.connected(peer, via, now_ms);
        book.admitted(peer, None, now_ms);
    }

    #[test]
    fn of_a_few_all_are_dialled_at_once() {
        let mut book = Book::new(peer(LOCAL));
        hear_of(&mut book, LOWER, 4, Source::Member, 0);
        hear_of(&mut book, HIGHER, 4, Source::Member, 0);
        assert_eq!(book.due(0).len(), 8);
    }

    #[test]
    fn of_a_crowd_so_many_are_dialled_at_a_time_and_the_next_as_they_arrive() {
        let mut book = Book::new(peer(LOCAL));
        hear_of(&mut book, HIGHER, CROWD, Source::Member, 0);
        let first = who(book.due(0));
        assert_eq!(first.len(), limits::DIALS_NEW_MAX);
        assert_eq!(who(book.due(10)), []);
        book.connected(first[0], Some(&Target::Peer(first[0])), 20);
        assert_eq!(who(book.due(20)), [], "it is here, and not admitted yet");
        book.admitted(first[0], None, 30);
        assert_eq!(who(book.due(30)).len(), 1);
        book.failed(&Target::Peer(first[1]), 40);
        assert_eq!(who(book.due(40)).len(), 1);
    }

    #[test]
    fn who_does_not_answer_holds_up_nobody() {
        let mut book = Book::new(peer(LOCAL));
        hear_of(&mut book, HIGHER, CROWD, Source::Member, 0);
        assert_eq!(book.due(0).len(), limits::DIALS_NEW_MAX);
        assert_eq!(book.due(limits::DIAL_SLOW_MS - 1).len(), 0);
        assert_eq!(book.due(limits::DIAL_SLOW_MS).len(), limits::DIALS_NEW_MAX);
    }

    #[test]
    fn a_node_that_is_late_itself_holds_nobody_for_slow() {
        let mut book = Book::new(peer(LOCAL));
        hear_of(&mut book, HIGHER, CROWD, Source::Member, 0);
        assert_eq!(book.due(0).len(), limits::DIALS_NEW_MAX);
        book.note_lateness(limits::LATE_MS);
        assert_eq!(book.due(limits::CONNECTION_SETUP_MS - 1).len(), 0);
        book.note_lateness(limits::LATE_MS - 1);
        assert_eq!(book.due(limits::CONNECTION_SETUP_MS - 1).len(), limits::DIALS_NEW_MAX);
    }

    #[test]
    fn a_node_that_is_late_itself_dials_fewer() {
        let mut book = Book::new(peer(LOCAL));
        hear_of(&mut book, HIGHER, CROWD, Source::Member, 0);
        book.note_lateness(limits::LATE_MS);
        assert_eq!(book.due(0).len(), limits::DIALS_NEW_LATE_MAX);
        assert_eq!(book.due(10).len(), 0);
    }

    #[test]
    fn lower_ids_of_a_crowd_are_waited_for_while_others_come() {
        let mut book = Book::new(peer(LOCAL));
        hear_of(&mut book, LOWER, CROWD, Source::Member, 0);
        let mut now_ms = 0;
        for n in 0..3 {
            now_ms += limits::CROWD_QUIET_MS - 1;
            assert_eq!(who(book.due(now_ms)), [], "{n}");
            arrive(&mut book, peer(LOWER + n), None, now_ms);
        }
        assert_eq!(book.due(now_ms + limits::CROWD_QUIET_MS).len(), limits::DIALS_NEW_MAX, "nobody comes any more");
    }

    #[test]
    fn lower_ids_of_a_crowd_are_dialled_in_the_end_whoever_comes() {
        let mut book = Book::new(peer(LOCAL));
        hear_of(&mut book, LOWER, CROWD, Source::Member, 0);
        let mut now_ms = 0;
        while book.due(now_ms).is_empty() {
            now_ms += 100;
            book.connected(peer(HIGHER), None, now_ms);
            assert!(now_ms <= limits::CROWD_WAIT_MAX_MS);
        }
        assert_eq!(now_ms, limits::CROWD_WAIT_MAX_MS);
    }

    #[test]
    fn a_member_that_went_away_and_who_was_named_are_dialled_whatever_the_crowd() {
        let mut book = Book::new(peer(LOCAL));
        arrive(&mut book, peer(LOWER), None, 0);
        hear_of(&mut book, LOWER, 1, Source::Identify, 0);
        hear_of(&mut book, LOWER + 1, CROWD, Source::Member, 0);
        hear_of(&mut book, 50, 2, Source::Bootstrap, 0);
        book.disconnected(peer(LOWER), 0);
        assert_eq!(who(book.due(limits::REDIAL_FIRST_MS)), [peer(LOWER), peer(50), peer(51)]);
    }

    #[test]
    fn a_dial_that_crossed_another_is_no_failure_and_a_new_one_is_made_once_the_peer_has_gone() {
        let mut book = Book::new(peer(LOCAL));
        hear_of(&mut book, LOWER, 1, Source::Member, 0);
        let [target] = book.due(0).into_iter().map(|dial| dial.target).collect::<Vec<_>>().try_into().unwrap();
        arrive(&mut book, peer(LOWER), None, 1);
        book.crossed(&target);
        let contact = book.contacts(1).remove(0);
        assert_eq!((contact.connected, contact.failures, contact.trouble), (true, 0, None));
        book.disconnected(peer(LOWER), 2);
        assert_eq!(who(book.due(2 + limits::REDIAL_FIRST_MS)), [peer(LOWER)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        /// A mesh in which all hear of all at once, and each dial takes a while: nobody is forgotten, and hardly any two
        /// dial each other.
        #[test]
        fn all_of_a_crowd_meet_and_few_dial_each_other(count in 10u8..60, takes_ms in 10u64..400) {
            let ids: Vec<PeerId> = (0..count).map(|n| peer(n + 1)).collect();
            let mut books: BTreeMap<PeerId, Book> = ids.iter().map(|id| (*id, Book::new(*id))).collect();
            books.values_mut().for_each(|book| hear_of(book, 1, count, Source::Member, 0));
            let (mut under_way, mut met, mut dials) = (Vec::<(u64, PeerId, PeerId)>::new(), BTreeSet::new(), 0);
            let pairs = ids.len() * (ids.len() - 1) / 2;
            for now_ms in (0..60_000).step_by(100) {
                let (over, going) = under_way.into_iter().partition(|(end_ms, ..)| *end_ms <= now_ms);
                under_way = going;
                for (_, from, to) in over {
                    arrive(books.get_mut(&from).unwrap(), to, Some(&Target::Peer(to)), now_ms);
                    arrive(books.get_mut(&to).unwrap(), from, None, now_ms);
                    met.insert((from.min(to), from.max(to)));
                }
                for (from, book) in &mut books {
                    let to = who(book.due(now_ms));
                    dials += to.len();
                    under_way.extend(to.into_iter().map(|to| (now_ms + takes_ms, *from, to)));
                }
                if met.len() == pairs {
                    break;
                }
            }
            prop_assert_eq!(met.len(), pairs);
            prop_assert!(dials <= pairs + pairs / 10 + 4 * ids.len(), "{} dials for {} pairs", dials, pairs);
        }
    }
}
