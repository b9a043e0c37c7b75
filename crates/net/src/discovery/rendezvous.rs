//! A rendezvous point: a member with which the others register where they are, and which they ask for each other.
//!
//! It serves members only, behind the door like every other protocol: a stranger that may register could fill its
//! memory, and one that may ask would learn where everyone is. A registration is signed by whom it is about, so a
//! point can withhold members, but not move them.

use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::rendezvous::{Namespace, Registration, client, server};
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{Multiaddr, PeerId as Libp2pPeerId};
use magpie_core::ids::PeerId;

use super::Suggestion;
use crate::book::{Source, split_peer};
use crate::identity;
use crate::limits;
use crate::network::Network;

/// Where the members of a mesh register. The door keeps meshes apart, so one name is enough.
pub(crate) fn namespace() -> Namespace {
    Namespace::from_static("magpie")
}

pub(crate) fn client(wanted: bool, key: &Keypair) -> Toggle<client::Behaviour> {
    wanted.then(|| client::Behaviour::new(key.clone())).into()
}

pub(crate) fn point(wanted: bool) -> Toggle<server::Behaviour> {
    let config = || {
        server::Config::default()
            .with_min_ttl(limits::RENDEZVOUS_TTL_S / 30)
            .with_max_ttl(limits::RENDEZVOUS_TTL_S)
            .with_max_registration_per_peer(1)
            .with_max_registration_total(limits::PEERS_MAX)
            .with_max_stored_cookies(limits::PEERS_MAX)
    };
    wanted.then(|| server::Behaviour::new(config())).into()
}

/// Of whom more is to be known; the point is met over the network `point`, and addresses of narrower ones are of no use.
pub(crate) fn suggestions(
    registrations: Vec<Registration>,
    point: Network,
    is_wanted: impl Fn(PeerId) -> bool,
) -> Vec<Suggestion> {
    let told = registrations.into_iter().take(limits::PEERS_MAX);
    let records = told.map(|registration| (registration.record.peer_id(), registration.record.addresses().to_vec()));
    of_peers(records, point, Source::Rendezvous, is_wanted)
}

/// What peers with their addresses suggest, in bounds; no addresses of networks narrower than `shared`.
pub(super) fn of_peers(
    peers: impl Iterator<Item = (Libp2pPeerId, Vec<Multiaddr>)>,
    shared: Network,
    source: Source,
    is_wanted: impl Fn(PeerId) -> bool,
) -> Vec<Suggestion> {
    let wanted = peers.filter(|(peer, _)| identity::from_libp2p(peer).is_some_and(&is_wanted));
    wanted
        .flat_map(|(peer, addresses)| {
            let bare = addresses.into_iter().filter_map(split_peer).map(|(address, _)| address);
            let reachable = bare.filter(move |address| !address.is_empty() && shared.shares(address));
            let found =
                move |address: Multiaddr| Suggestion::PeerFound { address: address.with(Protocol::P2p(peer)), source };
            reachable.take(limits::PEER_ADDRESSES_MAX).map(found)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use libp2p::core::PeerRecord;

    use super::*;

    fn registration(seed: u8, addresses: &[&str]) -> Registration {
        let key = Keypair::ed25519_from_bytes([seed; 32]).unwrap();
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let record = PeerRecord::new(&key, addresses).unwrap();
        Registration { namespace: namespace(), record, ttl: limits::RENDEZVOUS_TTL_S }
    }

    #[test]
    fn a_registration_suggests_where_its_signer_is() {
        let peer = Keypair::ed25519_from_bytes([1; 32]).unwrap().public().to_peer_id();
        let told = || vec![registration(1, &["/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1"])];
        let found = |text: &str| Suggestion::PeerFound {
            address: format!("{text}/p2p/{peer}").parse().unwrap(),
            source: Source::Rendezvous,
        };
        assert_eq!(suggestions(told(), Network::Site, |_| true), [found("/ip4/10.0.0.1/tcp/1")]);
        assert_eq!(
            suggestions(told(), Network::Machine, |_| true),
            [found("/ip4/127.0.0.1/tcp/1"), found("/ip4/10.0.0.1/tcp/1")]
        );
        assert_eq!(suggestions(told(), Network::Machine, |_| false), []);
    }

    #[test]
    fn a_registration_with_many_addresses_suggests_few() {
        let many: Vec<String> = (1..100).map(|port| format!("/ip4/10.0.0.1/tcp/{port}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(
            suggestions(vec![registration(1, &many)], Network::Site, |_| true).len(),
            limits::PEER_ADDRESSES_MAX
        );
    }
}
