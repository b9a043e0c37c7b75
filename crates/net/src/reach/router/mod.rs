//! Asks the router of this node's site, over UPnP, to let others in at the ports that this node listens on.
//!
//! What it grants is told to nobody before a member got here by it, as with any address that leads beyond the site.

mod description;
mod search;
mod soap;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use tokio::sync::{mpsc, watch};

use self::search::Found;
use self::soap::{Action, Service};
use crate::limits;
use crate::network::{Network, is_relayed};

/// Why no port is open. Shown to a person.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RouterError {
    #[error("there is no port to open: this node listens at no address that a router of its site sees")]
    NothingToOpen,
    #[error("no router answers: it offers no UPnP, or it is switched off there")]
    Silent,
    #[error("no question can be sent: {0}")]
    Unsent(String),
    #[error("the router at {router} cannot be asked: {reason}")]
    Unreachable { router: Ipv4Addr, reason: String },
    #[error("the router at {router} answers with what is no description of it: {reason}")]
    Malformed { router: Ipv4Addr, reason: String },
    #[error("the router at {router} is behind another one: its own address is {ip}")]
    Nested { router: Ipv4Addr, ip: Ipv4Addr },
    #[error("the router at {router} refuses: {reason} (error {code})")]
    Refused { router: Ipv4Addr, code: u16, reason: String },
}

/// A port of this node that others may be let in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Port {
    is_tcp: bool,
    number: u16,
}

/// Keeps the ports open for as long as it runs, and says under which addresses whenever that changes. What the router was
/// asked for ends by itself within [`limits::ROUTER_LEASE_S`].
pub(crate) async fn keep_open(
    mut listening: watch::Receiver<BTreeSet<Multiaddr>>,
    granted: mpsc::Sender<BTreeSet<Multiaddr>>,
) {
    let mut told: Option<Result<BTreeSet<Multiaddr>, RouterError>> = None;
    loop {
        // Addresses come one by one: of a node that starts, or whose network changes.
        tokio::time::sleep(Duration::from_millis(limits::ROUTER_SETTLE_MS)).await;
        let addresses = listening.borrow_and_update().clone();
        let opened = match addresses.iter().any(is_mappable) {
            true => open(&addresses).await,
            false => Err(RouterError::NothingToOpen),
        };
        let wait_ms = if opened.is_ok() { limits::ROUTER_RENEW_MS } else { limits::ROUTER_RETRY_MS };
        if told.as_ref() != Some(&opened) {
            match &opened {
                Ok(granted) => tracing::info!(?granted, "the router lets others in"),
                Err(error) => tracing::warn!(%error, "the router lets nobody in by UPnP"),
            }
            let now = opened.as_ref().cloned().unwrap_or_default();
            if granted.send(now).await.is_err() {
                return;
            }
            told = Some(opened);
        }
        tokio::select! {
            changed = listening.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
        }
    }
}

/// Opens each port at the router, under its own number.
async fn open(listening: &BTreeSet<Multiaddr>) -> Result<BTreeSet<Multiaddr>, RouterError> {
    let Found { router, local, description } = search::router().await?;
    let ports = ports_at(listening, local);
    if ports.is_empty() {
        return Err(RouterError::NothingToOpen);
    }
    let opening = move || {
        let service = Service::at(router, &description)?;
        let ip = service.external_ip()?;
        if Network::of(&Multiaddr::from(ip)) != Network::Internet {
            return Err(RouterError::Nested { router, ip });
        }
        for port in &ports {
            service.ask(&Action::Open { port: *port, to: local })?;
        }
        Ok(ports.into_iter().map(|port| port.at(ip)).collect())
    };
    let failed = |reason: String| RouterError::Unreachable { router, reason };
    tokio::task::spawn_blocking(opening).await.map_err(|error| failed(error.to_string()))?
}

/// Routers translate IPv4 alone.
fn is_mappable(address: &Multiaddr) -> bool {
    !is_relayed(address) && port_of(address).is_some() && Network::of(address) == Network::Site
}

fn port_of(address: &Multiaddr) -> Option<(Ipv4Addr, Port)> {
    let mut parts = address.iter();
    let Some(Protocol::Ip4(ip)) = parts.next() else { return None };
    match parts.next()? {
        Protocol::Tcp(number) => Some((ip, Port { is_tcp: true, number })),
        Protocol::Udp(number) => Some((ip, Port { is_tcp: false, number })),
        _ => None,
    }
}

/// The ports that this node listens on where the router sees it.
fn ports_at(listening: &BTreeSet<Multiaddr>, local: Ipv4Addr) -> BTreeSet<Port> {
    let direct = listening.iter().filter(|address| !is_relayed(address));
    direct.filter_map(port_of).filter(|(ip, _)| *ip == local).map(|(_, port)| port).collect()
}

impl Port {
    fn at(self, ip: Ipv4Addr) -> Multiaddr {
        let address = Multiaddr::from(ip);
        match self.is_tcp {
            true => address.with(Protocol::Tcp(self.number)),
            false => address.with(Protocol::Udp(self.number)).with(Protocol::QuicV1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> BTreeSet<Multiaddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_ports_where_the_router_sees_this_node_are_opened_and_no_others() {
        let listening = addresses(&[
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/192.168.1.2/tcp/7400",
            "/ip4/192.168.1.2/udp/7400/quic-v1",
            "/ip4/10.0.0.1/tcp/2",
            "/ip6/fd00::1/tcp/3",
            "/ip4/192.168.1.2/tcp/5/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X/p2p-circuit",
        ]);
        let open: BTreeSet<_> = ports_at(&listening, Ipv4Addr::new(192, 168, 1, 2))
            .into_iter()
            .map(|port| port.at(Ipv4Addr::new(203, 0, 113, 7)))
            .collect();
        assert_eq!(open, addresses(&["/ip4/203.0.113.7/tcp/7400", "/ip4/203.0.113.7/udp/7400/quic-v1"]));
        assert_eq!(listening.iter().filter(|address| is_mappable(address)).count(), 3);
    }
}
