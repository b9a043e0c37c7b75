//! Dials a member back, as a stranger would: by a new connection, from a new port, under a name of its own that nobody
//! knows. The connections by which members work together have no part in it.

use std::error::Error;
use std::time::Duration;

use futures::future::BoxFuture;
use libp2p::core::Endpoint;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, DialOpts, PortUse, Transport, TransportError};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId, noise, quic, tcp, yamux};

use super::message::ReachAnswer;
use crate::limits;

/// Dials; it listens nowhere.
pub(crate) struct DialBack(Boxed<(PeerId, StreamMuxerBox)>);

impl DialBack {
    /// Under the name that `seed` makes. Needs a tokio runtime when it dials.
    pub fn new(mut seed: [u8; 32]) -> Result<Self, String> {
        let key = Keypair::ed25519_from_bytes(&mut seed).map_err(|error| error.to_string())?;
        let noise = noise::Config::new(&key).map_err(|error| error.to_string())?;
        let tcp = tcp::tokio::Transport::new(tcp::Config::default())
            .upgrade(Version::V1Lazy)
            .authenticate(noise)
            .multiplex(yamux::Config::default())
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
        let quic = quic::tokio::Transport::new(quic::Config::new(&key))
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
        Ok(Self(tcp.or_transport(quic).map(|either, _| either.into_inner()).boxed()))
    }

    /// Whether `wanted` answers at `address`, proven by its key.
    pub fn dial(&mut self, address: Multiaddr, wanted: PeerId) -> BoxFuture<'static, ReachAnswer> {
        let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        let dialled = match self.0.dial(address, options) {
            Ok(dialled) => dialled,
            Err(TransportError::MultiaddrNotSupported(_)) => {
                return Box::pin(async { ReachAnswer::refused("this node does not speak that transport") });
            }
            Err(TransportError::Other(error)) => {
                return Box::pin(async move { ReachAnswer::refused(innermost(&error)) });
            }
        };
        let patience = Duration::from_millis(limits::CONNECTION_SETUP_MS);
        Box::pin(async move {
            // The connection is dropped at once: it has said all.
            match tokio::time::timeout(patience, dialled).await {
                Err(_) => ReachAnswer::unreached(format!("nothing came back within {} ms", patience.as_millis())),
                Ok(Err(error)) => ReachAnswer::unreached(innermost(&error)),
                Ok(Ok((found, _))) if found == wanted => ReachAnswer::reached(),
                Ok(Ok((found, _))) => ReachAnswer::unreached(format!("another node answers there: {found}")),
            }
        })
    }
}

fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::reach::message::Outcome;
    use crate::{NetConfig, NetHandle, NodeKey, identity, spawn};

    async fn listening_at(address: &str) -> (NetHandle, Multiaddr) {
        let config = NetConfig { listen: vec![address.to_owned()], ..NetConfig::default() };
        let node = spawn(&NodeKey::from_seed([1; 32]), config, mpsc::channel(1).0).await.unwrap();
        let address = node.listen_addresses()[0].split("/p2p/").next().unwrap().parse().unwrap();
        (node, address)
    }

    async fn a_node_is_found_where_it_listens(address: &str) {
        let (node, address) = listening_at(address).await;
        let mut dial_back = DialBack::new([9; 32]).unwrap();
        let (wanted, other) =
            (identity::to_libp2p(node.local_peer()), identity::to_libp2p(magpie_core::ids::PeerId([5; 32])));
        assert_eq!(dial_back.dial(address.clone(), wanted).await, ReachAnswer::reached());
        let answer = dial_back.dial(address.clone(), other).await;
        assert_eq!(answer.outcome, Outcome::Unreached);
        assert_eq!(answer.why.unwrap(), format!("another node answers there: {wanted}"));
        assert!(node.peers().is_empty(), "nobody has come in by that");
        node.shutdown().await;
        assert_eq!(dial_back.dial(address, wanted).await.outcome, Outcome::Unreached);
    }

    #[tokio::test]
    async fn a_node_is_found_where_it_listens_over_tcp() {
        a_node_is_found_where_it_listens("/ip4/127.0.0.1/tcp/0").await;
    }

    #[tokio::test]
    async fn a_node_is_found_where_it_listens_over_quic() {
        a_node_is_found_where_it_listens("/ip4/127.0.0.1/udp/0/quic-v1").await;
    }

    #[tokio::test]
    async fn what_is_spoken_by_nobody_here_says_nothing_of_the_address() {
        let mut dial_back = DialBack::new([9; 32]).unwrap();
        let wanted = identity::to_libp2p(magpie_core::ids::PeerId([5; 32]));
        let answer = dial_back.dial("/ip4/127.0.0.1/sctp/1".parse().unwrap(), wanted).await;
        assert_eq!(answer.outcome, Outcome::Refused);
    }
}
