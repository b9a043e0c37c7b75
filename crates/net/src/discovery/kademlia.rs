//! Kademlia among members: each asks those nearest to a key for those that are nearer still, and so meets everyone.
//!
//! The table holds admitted members only, no record is kept for anybody, and the protocol stands behind the door. A
//! node answers questions once somebody has reached it from outside; before, it only asks.

use std::time::Duration;

use libp2p::kad::store::MemoryStore;
use libp2p::kad::{BucketInserts, Config, Mode, PeerInfo, StoreInserts};
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{PeerId as Libp2pPeerId, StreamProtocol, kad};
use magpie_core::ids::PeerId;

use super::Suggestion;
use super::rendezvous::of_peers;
use crate::book::Source;
use crate::limits;
use crate::network::Network;

pub(crate) type Behaviour = kad::Behaviour<MemoryStore>;

const KADEMLIA: StreamProtocol = StreamProtocol::new("/magpie/kad/1");

pub(crate) fn behaviour(wanted: bool, local: Libp2pPeerId) -> Toggle<Behaviour> {
    let made = wanted.then(|| {
        let mut config = Config::new(KADEMLIA);
        config
            .set_query_timeout(Duration::from_millis(limits::KADEMLIA_QUERY_MS))
            .set_kbucket_inserts(BucketInserts::Manual)
            .set_record_filtering(StoreInserts::FilterBoth)
            .set_periodic_bootstrap_interval(None)
            .set_replication_interval(None)
            .set_publication_interval(None)
            .set_provider_publication_interval(None);
        let mut made = Behaviour::with_config(local, MemoryStore::new(local), config);
        made.set_mode(Some(Mode::Client));
        made
    });
    made.into()
}

/// What the end of a question suggests.
pub(crate) fn suggestions(
    peers: Vec<PeerInfo>,
    shared: Network,
    is_wanted: impl Fn(PeerId) -> bool,
) -> Vec<Suggestion> {
    let told = peers.into_iter().take(limits::PEERS_MAX).map(|info| (info.peer_id, info.addrs));
    of_peers(told, shared, Source::Kademlia, is_wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity;

    #[test]
    fn nearer_members_are_suggestions() {
        let (alice, bob) = (PeerId([1; 32]), PeerId([2; 32]));
        let info = |peer| PeerInfo {
            peer_id: identity::to_libp2p(peer),
            addrs: vec!["/ip4/10.0.0.1/tcp/1".parse().unwrap(), "/ip4/127.0.0.1/tcp/1".parse().unwrap()],
        };
        let address = format!("/ip4/10.0.0.1/tcp/1/p2p/{bob}").parse().unwrap();
        let found = Suggestion::PeerFound { address, source: Source::Kademlia };
        assert_eq!(suggestions(vec![info(alice), info(bob)], Network::Site, |peer| peer == bob), [found]);
    }

    #[tokio::test]
    async fn it_is_off_unless_it_is_wanted_and_asks_before_it_answers() {
        let local = identity::to_libp2p(PeerId([1; 32]));
        assert!(!behaviour(false, local).is_enabled());
        assert_eq!(behaviour(true, local).as_ref().unwrap().mode(), Mode::Client);
    }
}
