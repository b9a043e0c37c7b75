//! How far an address leads: what is of use on one machine or one site is of none, and nobody's business, beyond it.

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// Whether an address leads to its peer by way of another.
pub(crate) fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// Whether who is met at an address is surely met from beyond this node's site. Of a name nobody knows where it led.
pub(crate) fn is_afar(address: &Multiaddr) -> bool {
    is_relayed(address) || address.ip_addr().is_some() && Network::of(address) == Network::Internet
}

/// Where an address is of use, the nearest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Network {
    Machine,
    Link,
    Site,
    Internet,
}

impl Network {
    /// Of an address; a name may lead anywhere.
    pub fn of(address: &Multiaddr) -> Self {
        match address.iter().next() {
            Some(Protocol::Ip4(ip)) if ip.is_loopback() => Self::Machine,
            Some(Protocol::Ip4(ip)) if ip.is_link_local() => Self::Link,
            // 100.64/10 is what carriers, and overlay networks, hand out.
            Some(Protocol::Ip4(ip)) if ip.is_private() || matches!(ip.octets(), [100, 64..=127, ..]) => Self::Site,
            Some(Protocol::Ip6(ip)) => match ip.to_ipv4_mapped() {
                Some(ip) => Self::of(&Multiaddr::from(ip)),
                None if ip.is_loopback() => Self::Machine,
                None if ip.is_unicast_link_local() => Self::Link,
                None if ip.is_unique_local() => Self::Site,
                None => Self::Internet,
            },
            // Of this process, even.
            Some(Protocol::Memory(_)) => Self::Machine,
            _ => Self::Internet,
        }
    }

    /// Whether `address` may be told to, or taken from, a peer that is met over this network.
    pub fn shares(self, address: &Multiaddr) -> bool {
        Self::of(address) >= self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Network {
        Network::of(&text.parse().unwrap())
    }

    #[test]
    fn addresses_lead_as_far_as_their_network() {
        for (text, network) in [
            ("/ip4/127.0.0.1/tcp/1", Network::Machine),
            ("/ip6/::1/udp/1/quic-v1", Network::Machine),
            ("/ip6/::ffff:127.0.0.1/tcp/1", Network::Machine),
            ("/memory/1", Network::Machine),
            ("/ip4/169.254.1.1/tcp/1", Network::Link),
            ("/ip6/fe80::1/tcp/1", Network::Link),
            ("/ip4/10.0.0.1/tcp/1", Network::Site),
            ("/ip4/172.16.0.1/tcp/1", Network::Site),
            ("/ip4/192.168.1.1/tcp/1", Network::Site),
            ("/ip4/100.64.0.1/tcp/1", Network::Site),
            ("/ip6/fd00::1/tcp/1", Network::Site),
            ("/ip4/172.32.0.1/tcp/1", Network::Internet),
            ("/ip4/100.128.0.1/tcp/1", Network::Internet),
            ("/ip6/2001:db8::1/tcp/1", Network::Internet),
            ("/dns4/node-0/tcp/1", Network::Internet),
        ] {
            assert_eq!(of(text), network, "{text}");
        }
    }

    #[test]
    fn who_is_met_by_a_name_may_be_near() {
        let afar = |text: &str| is_afar(&text.parse().unwrap());
        assert!(afar("/ip4/203.0.113.7/tcp/1") && afar("/ip6/2001:db8::1/udp/1/quic-v1"));
        assert!(afar("/ip4/10.0.0.1/tcp/1/p2p-circuit"), "a relay may be nearer than who is met by it");
        assert!(!afar("/dns4/node-0/tcp/1") && !afar("/ip4/10.0.0.1/tcp/1") && !afar("/ip6/::1/tcp/1"));
    }

    #[test]
    fn a_peer_shares_the_addresses_of_its_network_and_of_wider_ones() {
        let address = |text: &str| text.parse::<Multiaddr>().unwrap();
        assert!(Network::Machine.shares(&address("/ip4/127.0.0.1/tcp/1")));
        assert!(!Network::Site.shares(&address("/ip4/127.0.0.1/tcp/1")));
        assert!(Network::Site.shares(&address("/ip4/10.0.0.1/tcp/1")));
        assert!(!Network::Internet.shares(&address("/ip4/10.0.0.1/tcp/1")));
        assert!(Network::Internet.shares(&address("/ip4/203.0.113.7/tcp/1")));
    }
}
