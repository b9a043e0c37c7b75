//! Which router there is (SSDP): asked by multicast, answered by whoever says that it is one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::RouterError;
use crate::limits;

const GROUP: (Ipv4Addr, u16) = (Ipv4Addr::new(239, 255, 255, 250), 1900);
const QUESTION: &str = "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 2\r\n\
                        ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n";
const ANSWER_BYTES_MAX: usize = 2 * 1024;

/// A router, and where this node is seen by it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub router: Ipv4Addr,
    pub local: Ipv4Addr,
    /// The URL of what it says of itself.
    pub description: String,
}

/// The first that answers.
pub(super) async fn router() -> Result<Found, RouterError> {
    let unsent = |error: std::io::Error| RouterError::Unsent(error.to_string());
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.map_err(unsent)?;
    socket.set_multicast_ttl_v4(2).map_err(unsent)?;
    let until = Instant::now() + Duration::from_millis(limits::ROUTER_SEARCH_MS);
    socket.send_to(QUESTION.as_bytes(), GROUP).await.map_err(unsent)?;
    let mut answer = [0; ANSWER_BYTES_MAX];
    while let Ok(received) = timeout_at(until, socket.recv_from(&mut answer)).await {
        let (length, from) = received.map_err(unsent)?;
        let SocketAddr::V4(from) = from else { continue };
        let Some(description) = description_of(&answer[..length], *from.ip()) else { continue };
        // No datagram is sent: the system says from which of its addresses one would go.
        let probe = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.map_err(unsent)?;
        probe.connect(from).await.map_err(unsent)?;
        let IpAddr::V4(local) = probe.local_addr().map_err(unsent)?.ip() else { continue };
        return Ok(Found { router: *from.ip(), local, description });
    }
    Err(RouterError::Silent)
}

/// The URL that `answer` names, if it leads to whoever answered: nobody makes this node ask another.
fn description_of(answer: &[u8], from: Ipv4Addr) -> Option<String> {
    let text = std::str::from_utf8(answer).ok()?;
    let mut lines = text.split("\r\n");
    if !lines.next()?.starts_with("HTTP/1.1 200") {
        return None;
    }
    let headers = lines.filter_map(|line| line.split_once(':'));
    let location = headers.filter(|(name, _)| name.trim().eq_ignore_ascii_case("location")).map(|(_, url)| url.trim());
    let url = location.last()?;
    let uri: ureq::http::Uri = url.parse().ok()?;
    let is_its_own = uri.host().is_some_and(|host| host.parse() == Ok(from));
    (uri.scheme_str() == Some("http") && is_its_own).then(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

    fn answered(location: &str) -> Option<String> {
        let answer = format!("HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nLocation: {location}\r\nEXT:\r\n\r\n");
        description_of(answer.as_bytes(), ROUTER)
    }

    #[test]
    fn a_router_describes_itself_and_nobody_else() {
        let own = "http://192.168.1.1:5000/rootDesc.xml";
        assert_eq!(answered(own).as_deref(), Some(own));
        for other in ["http://192.168.1.9/a", "http://router.lan/a", "file:///etc/passwd", "https://192.168.1.1/", ""] {
            assert_eq!(answered(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_no_answer_is_passed_over() {
        for noise in [
            &b""[..],
            b"\xff\xfe",
            b"NOTIFY * HTTP/1.1\r\nLOCATION: http://192.168.1.1/\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
        ] {
            assert_eq!(description_of(noise, ROUTER), None);
        }
    }
}
