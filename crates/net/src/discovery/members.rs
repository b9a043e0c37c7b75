//! Members tell each other of the members that they are connected to, so that knowing one of a mesh is knowing all.
//!
//! A member asks, with the digest of what it heard the last time, and hears nothing where that still holds. Only
//! members ask, and only they are told of; what is told is a suggestion like any other.

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use magpie_core::ids::PeerId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Suggestion;
use crate::book::{Source, split_peer};
use crate::config::parse_address;
use crate::identity;
use crate::limits;
use crate::network::Network;

/// Whom do you know?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MembersAsk {
    /// Of the last answer; 0 to be told anyway.
    pub digest: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MembersAnswer {
    pub digest: u64,
    /// Empty where the digest is the one that was asked with.
    pub members: Vec<Told>,
}

/// A member, and where it is known to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub peer: PeerId,
    pub addresses: Vec<String>,
}

/// What to tell who asks over the network `asker`, of `members` in the order of their ids: no address of a narrower network.
pub(crate) fn answer(
    ask: &MembersAsk,
    members: impl Iterator<Item = (PeerId, Vec<Multiaddr>)>,
    asker: Network,
) -> MembersAnswer {
    let mut hasher = Sha256::new();
    let mut told = Vec::new();
    let mut room = limits::MEMBERS_BYTES_MAX - HEAD_BYTES;
    for (peer, addresses) in members.take(limits::PEERS_MAX) {
        let reachable = addresses.iter().filter(|address| asker.shares(address));
        let texts = reachable.map(ToString::to_string).filter(|text| text.len() <= limits::ADDRESS_BYTES_MAX);
        let addresses: Vec<String> = texts.take(limits::PEER_ADDRESSES_MAX).collect();
        let bytes = MEMBER_BYTES + addresses.iter().map(|text| text.len() + ADDRESS_HEAD_BYTES).sum::<usize>();
        if addresses.is_empty() || bytes > room {
            continue;
        }
        room -= bytes;
        hasher.update(peer.0);
        addresses.iter().for_each(|text| hasher.update([text.as_bytes(), b"\n"].concat()));
        told.push(Told { peer, addresses });
    }
    let digest = hasher.finalize().iter().take(8).fold(0, |digest, byte| digest << 8 | u64::from(*byte));
    let members = if digest == ask.digest { Vec::new() } else { told };
    MembersAnswer { digest, members }
}

/// What MessagePack adds, at most: around the answer, to a member with its id, to an address.
const HEAD_BYTES: usize = 64;
const MEMBER_BYTES: usize = 96;
const ADDRESS_HEAD_BYTES: usize = 5;

/// What an answer suggests; `is_wanted` says of whom more is to be known. It counts for no address
/// that its teller, met over the network `teller`, cannot share.
pub(crate) fn suggestions(
    answer: MembersAnswer,
    teller: Network,
    is_wanted: impl Fn(PeerId) -> bool,
) -> Vec<Suggestion> {
    let wanted = answer.members.into_iter().take(limits::PEERS_MAX).filter(|told| is_wanted(told.peer));
    let mut suggestions = Vec::new();
    for Told { peer, addresses } in wanted {
        let short = addresses.iter().filter(|text| text.len() <= limits::ADDRESS_BYTES_MAX);
        let parsed = short.filter_map(|text| split_peer(parse_address(text).ok()?)).map(|(address, _)| address);
        let reachable = parsed.filter(|address| !address.is_empty() && teller.shares(address));
        suggestions.extend(reachable.take(limits::PEER_ADDRESSES_MAX).map(|address| Suggestion::PeerFound {
            address: address.with(Protocol::P2p(identity::to_libp2p(peer))),
            source: Source::Member,
        }));
    }
    suggestions
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALICE: PeerId = PeerId([1; 32]);
    const BOB: PeerId = PeerId([2; 32]);
    const ANYWAY: MembersAsk = MembersAsk { digest: 0 };

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn known() -> Vec<(PeerId, Vec<Multiaddr>)> {
        vec![
            (ALICE, vec![address("/ip4/127.0.0.1/tcp/1"), address("/ip4/10.0.0.1/tcp/1")]),
            (BOB, vec![address("/ip6/::1/tcp/1")]),
        ]
    }

    fn texts(suggestions: Vec<Suggestion>) -> Vec<String> {
        let text = |suggestion| match suggestion {
            Suggestion::PeerFound { address, source: Source::Member } => address.to_string(),
            other => panic!("{other:?}"),
        };
        suggestions.into_iter().map(text).collect()
    }

    #[test]
    fn nothing_is_told_twice_and_a_change_is_told() {
        let first = answer(&ANYWAY, known().into_iter(), Network::Machine);
        assert_eq!(first.members.len(), 2);
        let ask = MembersAsk { digest: first.digest };
        let again = answer(&ask, known().into_iter(), Network::Machine);
        assert_eq!((again.digest, again.members), (first.digest, vec![]));
        let fewer = answer(&ask, known().into_iter().skip(1), Network::Machine);
        assert_eq!(fewer.members, first.members[1..]);
    }

    #[test]
    fn loopback_addresses_stay_on_their_machine() {
        let told = answer(&ANYWAY, known().into_iter(), Network::Site);
        assert_eq!(told.members, [Told { peer: ALICE, addresses: vec!["/ip4/10.0.0.1/tcp/1".into()] }]);
        let from_afar = suggestions(answer(&ANYWAY, known().into_iter(), Network::Machine), Network::Site, |_| true);
        assert_eq!(texts(from_afar), [format!("/ip4/10.0.0.1/tcp/1/p2p/{ALICE}")]);
    }

    /// Bacalhau 1775: neither told to, nor taken from, a peer of another network.
    #[test]
    fn private_addresses_are_not_advertised() {
        let private = ["/ip4/127.0.0.1/tcp/1", "/ip6/fe80::1/tcp/1", "/ip4/192.168.0.1/tcp/1", "/ip6/fd00::1/tcp/1"];
        let public = "/ip4/203.0.113.7/tcp/1";
        let known = || vec![(ALICE, private.iter().chain([&public]).map(|text| address(text)).collect())].into_iter();
        let told = answer(&ANYWAY, known(), Network::Internet);
        assert_eq!(told.members, [Told { peer: ALICE, addresses: vec![public.into()] }]);
        let indiscreet = || answer(&ANYWAY, known(), Network::Machine);
        let taken = |over| texts(suggestions(indiscreet(), over, |_| true));
        assert_eq!(taken(Network::Internet), [format!("{public}/p2p/{ALICE}")]);
        assert_eq!((taken(Network::Site).len(), taken(Network::Link).len(), taken(Network::Machine).len()), (3, 4, 5));
    }

    #[test]
    fn only_those_that_are_wanted_are_suggested() {
        let told =
            suggestions(answer(&ANYWAY, known().into_iter(), Network::Machine), Network::Machine, |peer| peer == BOB);
        assert_eq!(texts(told), [format!("/ip6/::1/tcp/1/p2p/{BOB}")]);
    }

    #[test]
    fn what_is_no_address_suggests_nothing() {
        let addresses = ["", "nonsense", "/", &format!("/dns4/{}/tcp/1", "a".repeat(limits::ADDRESS_BYTES_MAX))];
        let members = vec![Told { peer: ALICE, addresses: addresses.map(str::to_owned).to_vec() }];
        assert_eq!(suggestions(MembersAnswer { digest: 1, members }, Network::Machine, |_| true), []);
    }

    #[test]
    fn the_bytes_of_both_messages_are_those_of_version_1() {
        let hex = |bytes: Vec<u8>| data_encoding::HEXLOWER.encode(&bytes);
        let ask = rmp_serde::to_vec_named(&MembersAsk { digest: 5 }).unwrap();
        assert_eq!(hex(ask), "81a664696765737405");
        let newer = data_encoding::HEXLOWER.decode(b"82a664696765737405a3616464c3").unwrap();
        let read: MembersAsk = rmp_serde::from_slice(&newer).unwrap();
        assert_eq!(read, MembersAsk { digest: 5 }, "a field that this version does not know is left out");
        let told = Told { peer: ALICE, addresses: vec!["/ip4/10.0.0.1/tcp/1".into()] };
        let answer = MembersAnswer { digest: 7, members: vec![told] };
        let bytes = rmp_serde::to_vec_named(&answer).unwrap();
        assert_eq!(
            hex(bytes.clone()),
            format!(
                "82a664696765737407a76d656d626572739182a470656572c420{}a961646472657373657391b32f6970342f31302e302e302e312f7463702f31",
                "01".repeat(32)
            )
        );
        assert_eq!(rmp_serde::from_slice::<MembersAnswer>(&bytes).unwrap(), answer);
    }

    proptest! {
        #[test]
        fn an_answer_fits_its_frame_whoever_is_known(
            members in 0..2 * limits::PEERS_MAX, addresses in 0usize..20, letters in 1usize..200,
        ) {
            let long = address(&format!("/dns4/{}/tcp/1", "a".repeat(letters)));
            let known = (0..members).map(|n| {
                let mut id = [9; 32];
                id[..8].copy_from_slice(&n.to_be_bytes());
                (PeerId(id), vec![long.clone(); addresses])
            });
            let bytes = rmp_serde::to_vec_named(&answer(&ANYWAY, known, Network::Machine)).unwrap();
            prop_assert!(bytes.len() <= limits::MEMBERS_BYTES_MAX, "{}", bytes.len());
        }
    }
}
