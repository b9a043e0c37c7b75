//! Whether the node can be listened to where it should.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use super::place::Place;
use super::{Check, Heard};

const NAME: &str = "ports";

/// Of a node that runs, where it listens; of one that does not, whether it could.
pub(super) fn check(place: &Place, runs: bool, heard: Option<&Heard>) -> Vec<Check> {
    if let Some(heard) = heard {
        return vec![listening(&heard.contacts.listen)];
    }
    if runs || !place.is_configured {
        return Vec::new();
    }
    let tried: Vec<Check> = place.config.listen.iter().filter_map(|address| bindable(address)).collect();
    if tried.is_empty() {
        return vec![Check::ok(NAME, format!("{} can be listened on", place.config.listen.join(", ")))];
    }
    tried
}

fn listening(addresses: &[String]) -> Check {
    if addresses.is_empty() {
        let remedy = "see `nodectl actor tree`: the swarm starts again by itself; its last error says what it lacks";
        return Check::fault(NAME, "the node listens nowhere", remedy);
    }
    Check::ok(NAME, format!("listens on {}", addresses.iter().map(|text| bare(text)).collect::<Vec<_>>().join(", ")))
}

fn bare(address: &str) -> &str {
    address.split("/p2p/").next().unwrap_or(address)
}

/// What stands in the way of listening there, if something does.
fn bindable(address: &str) -> Option<Check> {
    let (at, is_tcp) = match socket_address(address) {
        Some(known) => known,
        None => {
            let found = format!("{address} is no address to listen on");
            return Some(Check::fault(
                NAME,
                found,
                "name it as /ip4/0.0.0.0/tcp/4001 or /ip4/0.0.0.0/udp/4001/quic-v1",
            ));
        }
    };
    let bound = if is_tcp { TcpListener::bind(at).map(drop) } else { UdpSocket::bind(at).map(drop) };
    let error = bound.err()?;
    let (transport, letter) = if is_tcp { ("tcp", 't') } else { ("udp", 'u') };
    let port = at.port();
    Some(match error.kind() {
        io::ErrorKind::AddrInUse => {
            let remedy = format!(
                "`ss -{letter}lnp 'sport = :{port}'` says which process has it: end that, or listen on another port"
            );
            Check::fault(NAME, format!("{transport} port {port} of {} is taken by another process", at.ip()), remedy)
        }
        io::ErrorKind::PermissionDenied => {
            let found = format!("this user may not listen on {transport} port {port}");
            Check::fault(NAME, found, "take a port from 1024 on")
        }
        io::ErrorKind::AddrNotAvailable => {
            let found = format!("{} is no address of this machine", at.ip());
            Check::fault(NAME, found, "`ip addr` lists those that are; 0.0.0.0 stands for all of them")
        }
        _ => Check::fault(NAME, format!("{address}: {error}"), "listen on another address"),
    })
}

/// `/ip4/10.0.0.7/tcp/4001` as the system takes it, and whether it is TCP.
pub(super) fn socket_address(address: &str) -> Option<(SocketAddr, bool)> {
    let mut parts = address.split('/').skip(1);
    let (family, ip) = (parts.next()?, parts.next()?);
    if !matches!(family, "ip4" | "ip6") {
        return None;
    }
    let ip: IpAddr = ip.parse().ok()?;
    let is_tcp = match parts.next()? {
        "tcp" => true,
        "udp" => false,
        _ => return None,
    };
    Some((SocketAddr::new(ip, parts.next()?.parse().ok()?), is_tcp))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_the_system_takes_it() {
        let read = |text| socket_address(text).map(|(at, is_tcp)| (at.to_string(), is_tcp));
        assert_eq!(read("/ip4/10.0.0.7/tcp/4001"), Some(("10.0.0.7:4001".to_owned(), true)));
        assert_eq!(read("/ip6/::1/udp/1/quic-v1"), Some(("[::1]:1".to_owned(), false)));
        for wrong in ["", "/ip4/10.0.0/tcp/1", "/dns4/a/tcp/1", "/ip4/10.0.0.7/sctp/1", "/ip4/10.0.0.7/tcp/99999", "x"]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_address_of_another_machine_is_told_from_a_taken_port() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let found = |address: &str| bindable(address).map(|check| check.found);
        assert_eq!(
            found(&format!("/ip4/127.0.0.1/tcp/{port}")),
            Some(format!("tcp port {port} of 127.0.0.1 is taken by another process"))
        );
        assert_eq!(found("/ip4/192.0.2.1/tcp/0"), Some("192.0.2.1 is no address of this machine".to_owned()));
        assert_eq!(found("/ip4/127.0.0.1/udp/0/quic-v1"), None);
    }
}
