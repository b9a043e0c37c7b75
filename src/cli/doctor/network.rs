//! Peers: whether those that were named can be reached, and whether they admit this node.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::place::Place;
use super::ports::socket_address;
use super::{Check, Heard, reach};
use crate::cli::human;
use crate::messages::peer::ContactView;

const BOOTSTRAP: &str = "bootstrap";
const ADMISSION: &str = "membership";
/// Where a person or a file said that a peer is.
const NAMED: [&str; 4] = ["bootstrap", "peer_file", "dns", "asked"];
/// How long a port is knocked at.
const KNOCK: Duration = Duration::from_secs(3);

/// What a running node met.
pub(super) fn of_the_node(heard: &Heard) -> Vec<Check> {
    let contacts = &heard.contacts.contacts;
    let mut checks = named(contacts);
    checks.extend(not_admitted(contacts));
    checks.push(members(heard));
    checks.extend(reach::check(heard));
    checks
}

/// Those that a person named and that are not connected.
fn named(contacts: &[ContactView]) -> Vec<Check> {
    let named: Vec<&ContactView> = contacts.iter().filter(|contact| contact.is_from(&NAMED) && !contact.own).collect();
    let away = named.iter().filter(|contact| !contact.admitted && contact.refusals == 0 && contact.failures > 0);
    let faults: Vec<Check> = away.filter_map(|contact| unreachable(contact)).collect();
    if !faults.is_empty() || named.is_empty() {
        return faults;
    }
    let here = named.iter().filter(|contact| contact.admitted).count();
    vec![Check::ok(BOOTSTRAP, format!("{here} of {} peers that were named are connected", named.len()))]
}

fn unreachable(contact: &ContactView) -> Option<Check> {
    let trouble = contact.trouble.as_ref()?;
    let at: Vec<&str> = contact.addresses.iter().map(|at| at.address.as_str()).collect();
    let found = format!("no peer at {}: {trouble}", at.join(", "));
    Some(Check::fault(BOOTSTRAP, found, remedy_for(trouble)))
}

/// What to do about the system's word for why a dial came to nothing.
fn remedy_for(trouble: &str) -> &'static str {
    let has = |words: &[&str]| words.iter().any(|word| trouble.contains(word));
    if has(&["another node answers"]) {
        "the id after /p2p/ is another node's: take the one that `nodectl status` shows there, or leave it out"
    } else if has(&["refused"]) {
        "nothing listens on that port: start the node there, or correct the port; `nodectl status` there shows where it listens"
    } else if has(&["timed out", "Timeout", "timeout"]) {
        "nothing comes back: a firewall drops it, or the machine is off; let TCP and UDP of that port through on the way there"
    } else if has(&["unreachable", "No route"]) {
        "this machine has no way there: see `ip route`, and whether the address is one of another network"
    } else if has(&["resolve", "lookup", "no record", "Name or service"]) {
        "the name is not known to this machine's name server: correct it, or see /etc/resolv.conf"
    } else {
        "see the address in the configuration, and whether a node listens there"
    }
}

/// Those that were reached, and where one side does not let the other in.
fn not_admitted(contacts: &[ContactView]) -> Vec<Check> {
    let refused = contacts.iter().filter(|contact| !contact.admitted && contact.refusals > 0);
    let check = |contact: &ContactView| {
        let trouble = contact.trouble.clone().unwrap_or_else(|| "it was sent away".to_owned());
        let who = human::or_dash(contact.peer_id);
        let (verdict_is_fault, remedy) = if trouble.contains("own list denies") || trouble.contains("by hand") {
            (false, "nothing, if that is meant")
        } else if trouble.contains("version") {
            (true, "bring both nodes to neighbouring versions")
        } else {
            (
                true,
                "give both nodes the same cluster key file (compare `sha256sum`), or allow each on the other: \
                    `nodectl peer allow PEER`",
            )
        };
        let found = format!("{who} is reached and not a member: {trouble}");
        if verdict_is_fault { Check::fault(ADMISSION, found, remedy) } else { Check::warning(ADMISSION, found, remedy) }
    };
    refused.map(check).collect()
}

fn members(heard: &Heard) -> Check {
    let peers = &heard.status.peers;
    let alive = peers.iter().filter(|peer| peer.state == "alive").count();
    if peers.is_empty() {
        return Check::ok("peers", "none: this node is alone (`nodectl peer discover` looks for others)");
    }
    let away: Vec<String> =
        peers.iter().filter(|peer| peer.state != "alive").map(|peer| human::short_peer(&peer.peer_id)).collect();
    if away.is_empty() {
        return Check::ok("peers", format!("{alive} alive"));
    }
    let found = format!("{alive} alive, {} silent: {}", away.len(), away.join(", "));
    Check::warning(
        "peers",
        found,
        "see whether these nodes run; `nodectl peer get PEER` says what came of dialling one",
    )
}

/// Without a node: whether anything answers where the configuration names peers.
pub(super) async fn by_hand(place: &Place) -> Vec<Check> {
    let mut checks = Vec::new();
    for address in &place.config.bootstrap {
        let address = address.clone();
        let knocked = tokio::task::spawn_blocking(move || knock(&address)).await;
        checks.extend(knocked.ok().flatten());
    }
    checks
}

/// A TCP port can be knocked at; a UDP port says nothing to strangers.
fn knock(address: &str) -> Option<Check> {
    let at = to_dial(address)?;
    let knocked = at.and_then(|at| TcpStream::connect_timeout(&at, KNOCK).map_err(|error| error.to_string()));
    Some(match knocked {
        Ok(_) => Check::ok(BOOTSTRAP, format!("something listens at {address}")),
        Err(why) => Check::fault(BOOTSTRAP, format!("no peer at {address}: {why}"), remedy_for(&why)),
    })
}

/// Where a multiaddr leads over TCP, its name looked up; none over another transport.
fn to_dial(address: &str) -> Option<Result<SocketAddr, String>> {
    let bare = address.split("/p2p/").next().unwrap_or(address);
    if let Some((at, is_tcp)) = socket_address(bare) {
        return is_tcp.then_some(Ok(at));
    }
    let mut parts = bare.split('/').skip(1);
    let (family, host, transport, port) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if !family.starts_with("dns") || transport != "tcp" {
        return None;
    }
    let found = (host, port.parse().ok()?).to_socket_addrs().map_err(|error| format!("{host}: {error}"));
    Some(found.and_then(|mut found| found.next().ok_or_else(|| format!("{host}: no record"))))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use crate::messages::peer::AddressView;

    fn contact(address: &str, failures: u32, refusals: u32, trouble: &str) -> ContactView {
        ContactView {
            peer_id: None,
            addresses: vec![AddressView { address: address.to_owned(), sources: vec!["bootstrap".to_owned()] }],
            connected: false,
            admitted: false,
            member: false,
            own: false,
            failures,
            refusals,
            dialled_in_ms: Some(1),
            trouble: Some(trouble.to_owned()),
        }
    }

    #[test]
    fn each_word_of_the_system_has_its_remedy() {
        for (trouble, remedy) in [
            ("/ip4/10.0.0.1/tcp/1: Connection refused (os error 111)", "nothing listens on that port"),
            ("/ip4/10.0.0.1/tcp/1: Timeout has been reached", "a firewall drops it"),
            ("/ip4/10.0.0.1/tcp/1: Network is unreachable (os error 101)", "no way there"),
            ("/dns4/a/tcp/1: Failed to resolve a", "name server"),
            ("another node answers at /ip4/10.0.0.1/tcp/1: 12D3", "the id after /p2p/"),
        ] {
            let [check] = named(&[contact("/ip4/10.0.0.1/tcp/1", 1, 0, trouble)]).try_into().unwrap();
            assert_eq!(check.verdict, Verdict::Fault);
            assert!(check.remedy.unwrap().contains(remedy), "{trouble}");
        }
    }

    #[test]
    fn a_peer_that_was_sent_away_on_purpose_is_no_fault() {
        let refused = |trouble| not_admitted(&[contact("/ip4/10.0.0.1/tcp/1", 0, 1, trouble)]).remove(0).verdict;
        assert_eq!(refused("this node's own list denies it"), Verdict::Warning);
        assert_eq!(refused("its proof of the cluster key is wrong"), Verdict::Fault);
    }

    #[test]
    fn a_port_is_knocked_at_where_there_is_one() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("/ip4/127.0.0.1/tcp/{}/p2p/12D3", free.local_addr().unwrap().port());
        assert_eq!(knock(&address).unwrap().verdict, Verdict::Ok);
        drop(free);
        assert!(knock(&address).unwrap().found.contains("Connection refused"));
        assert_eq!(knock("/ip4/127.0.0.1/udp/1/quic-v1"), None);
    }
}
