//! Whether others can reach this node, by what those say that dialled it back.

use super::ports::socket_address;
use super::{Check, Heard};
use crate::messages::peer::{ContactView, ContactsView, ReachView};

const REACH: &str = "reachability";
/// A node that is younger may not have been found yet.
const YOUNG_MS: u64 = 60_000;
const FORWARD: &str = "it is behind a NAT or a firewall: let its port through (TCP and UDP; on a router forward it), or name a \
                       member that relays for it (relay_via, and relay_for_members there)";

pub(super) fn check(heard: &Heard) -> Vec<Check> {
    let mut checks = vec![of_a_node(&heard.contacts, heard.status.uptime_ms)];
    checks.extend(heard.contacts.reach.iter().filter(|at| at.named && at.reach == "unreached").map(named_wrongly));
    checks
}

/// It is told to others all the same: who named it may know better than a member that could not get there.
fn named_wrongly(at: &ReachView) -> Check {
    let remedy =
        "forward that port to this node, or correct `external` in the configuration: members are told that address";
    Check::warning(REACH, format!("members do not get to the named address {}", told_of(at)), remedy)
}

fn told_of(at: &ReachView) -> String {
    at.trouble.as_ref().map_or_else(|| at.address.clone(), |trouble| format!("{} ({trouble})", at.address))
}

fn of_a_node(contacts: &ContactsView, uptime_ms: u64) -> Check {
    let is_loopback = |address: &String| socket_address(address).is_some_and(|(at, _)| at.ip().is_loopback());
    if !contacts.listen.is_empty() && contacts.listen.iter().all(is_loopback) {
        let found = "listens on loopback only: no node on another machine can reach it";
        return if contacts.contacts.iter().any(is_far) {
            Check::fault(REACH, found, "listen on /ip4/0.0.0.0/tcp/PORT, or on the address of a network card")
        } else {
            Check::warning(REACH, found, "if there are others: listen on /ip4/0.0.0.0/tcp/PORT")
        };
    }
    let of = |reach: &str| contacts.reach.iter().filter(move |at| at.reach == reach).collect::<Vec<_>>();
    let reached = of("reached");
    if !reached.is_empty() {
        let at: Vec<&str> = reached.iter().map(|at| at.address.as_str()).collect();
        return Check::ok(REACH, format!("members dialled it back at {}", at.join(", ")));
    }
    let tried: Vec<String> = of("unreached").into_iter().map(told_of).collect();
    if !tried.is_empty() {
        return not_reached(contacts, &tried.join(", "));
    }
    if contacts.connections_from_afar > 0 {
        return Check::ok(REACH, format!("{} connections came from other machines", contacts.connections_from_afar));
    }
    let connected = contacts.contacts.iter().filter(|contact| contact.admitted && is_far(contact)).count();
    if connected == 0 || uptime_ms < YOUNG_MS {
        return Check::ok(REACH, "nobody has tried to reach it from another machine yet");
    }
    let found = format!("{connected} peers were dialled by this node, and none of them ever reached it");
    Check::warning(REACH, found, FORWARD)
}

fn not_reached(contacts: &ContactsView, tried: &str) -> Check {
    if contacts.listen.iter().any(|address| address.contains("/p2p-circuit")) {
        return Check::ok(REACH, format!("reached by way of a relay; no member gets straight to {tried}"));
    }
    Check::warning(REACH, format!("members that dialled it back from beyond its site did not get to {tried}"), FORWARD)
}

fn is_far(contact: &ContactView) -> bool {
    contact.addresses.iter().any(|at| !at.address.contains("/127.0.0.1/") && !at.address.contains("/::1/"))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use crate::messages::peer::AddressView;

    const OLD_MS: u64 = 10 * YOUNG_MS;

    fn at(reach: &str, named: bool) -> ReachView {
        let trouble = (reach == "unreached").then(|| "nothing came back".to_owned());
        ReachView { address: "/ip4/203.0.113.7/tcp/4001".to_owned(), reach: reach.to_owned(), named, trouble }
    }

    /// A node that listens on `listen`, is connected to a peer elsewhere, and knows `reach` of its addresses.
    fn contacts(listen: &[&str], reach: Vec<ReachView>) -> ContactsView {
        let address = AddressView { address: "/ip4/203.0.113.1/tcp/4001".to_owned(), sources: vec![] };
        let peer = ContactView {
            peer_id: None,
            addresses: vec![address],
            connected: true,
            admitted: true,
            member: true,
            own: false,
            failures: 0,
            refusals: 0,
            dialled_in_ms: None,
            trouble: None,
        };
        ContactsView {
            listen: listen.iter().map(|text| (*text).to_owned()).collect(),
            contacts: vec![peer],
            peers_admitted: 1,
            peers_refused: 0,
            connections_taken: 0,
            connections_from_afar: 0,
            reach,
        }
    }

    const SITE: &str = "/ip4/192.168.0.2/tcp/4001";

    #[test]
    fn a_node_behind_a_nat_is_told_so_by_members_that_tried() {
        let check = of_a_node(&contacts(&[SITE], vec![at("unreached", false)]), 0);
        assert_eq!(check.verdict, Verdict::Warning);
        assert!(check.found.contains("did not get to /ip4/203.0.113.7/tcp/4001 (nothing came back)"), "{check:?}");
        assert!(check.remedy.unwrap().contains("relay_via"));
        let by_relay = contacts(&[SITE, "/ip4/203.0.113.1/tcp/1/p2p/12D3/p2p-circuit"], vec![at("unreached", false)]);
        assert_eq!(of_a_node(&by_relay, 0).verdict, Verdict::Ok);
    }

    #[test]
    fn a_node_that_no_member_could_say_anything_of_is_judged_by_who_came() {
        let mut seen = contacts(&[SITE], vec![at("unknown", false)]);
        assert_eq!(of_a_node(&seen, 0).verdict, Verdict::Ok, "it is young");
        let check = of_a_node(&seen, OLD_MS);
        assert_eq!((check.verdict, check.remedy.as_deref()), (Verdict::Warning, Some(FORWARD)));
        assert!(check.found.contains("1 peers were dialled by this node, and none"), "{check:?}");
        seen.connections_from_afar = 2;
        assert_eq!(of_a_node(&seen, OLD_MS).verdict, Verdict::Ok);
    }

    #[test]
    fn one_address_that_members_got_to_is_enough() {
        let check = of_a_node(&contacts(&[SITE], vec![at("unreached", false), at("reached", false)]), OLD_MS);
        assert_eq!(check, Check::ok(REACH, "members dialled it back at /ip4/203.0.113.7/tcp/4001"));
    }

    #[test]
    fn a_named_address_that_members_do_not_get_to_is_told() {
        let check = named_wrongly(&at("unreached", true));
        assert_eq!(check.verdict, Verdict::Warning);
        assert!(check.remedy.unwrap().contains("`external`"));
    }
}
