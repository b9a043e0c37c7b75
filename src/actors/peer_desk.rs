//! What a person or an agent asks about peers, carried to the network.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use magpie_core::ids::PeerId;
use magpie_core::queue::Refusal;
use magpie_net::{Contact, NetHandle, PeerRule, PeerRules, Reach, ReachInfo};

use super::address::Address;
use super::peers::Peers;
use crate::messages::peer::{
    AddressView, ContactView, ContactsView, PeerReply, PeerRequest, ReachView, RuleName, RuleView, WayView,
};
use crate::messages::registry::{PeerView, RegistryMsg, RegistryReply, RegistryRequest};

const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked what came of a dial, and how long at most.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const CONNECT_MS_MAX: u64 = 60_000;
/// How long it is waited before a dial that was refused is made once more.
const PAUSE: Duration = Duration::from_millis(300);
/// How long the end of a connection is waited for.
const PARTING: Duration = Duration::from_secs(2);

/// The ways of finding peers, and the sources that each has.
pub const WAYS: [&str; 8] = ["bootstrap", "peer_file", "dns", "mdns", "members", "rendezvous", "kademlia", "github"];

#[derive(Clone)]
pub struct PeerDesk {
    pub peers: Peers,
    pub registry: Address<RegistryMsg>,
    pub rules: PeerRules,
    /// Which of [`WAYS`] are configured.
    pub ways: BTreeSet<&'static str>,
}

impl PeerDesk {
    /// # Errors
    /// If the network is restarting, the address is none, or a rule cannot be kept.
    pub async fn answer(&self, request: PeerRequest) -> Result<PeerReply, Refusal> {
        match request {
            PeerRequest::Get { peer } => self.show(peer).await,
            PeerRequest::Contacts => self.contacts().await,
            PeerRequest::Rules => Ok(PeerReply::Rules(self.rules())),
            PeerRequest::Metrics { peer } => Ok(PeerReply::Metrics(self.peers.metrics(peer))),
            PeerRequest::Connect { address, patience_ms } => {
                self.connect(&address, Duration::from_millis(patience_ms.min(CONNECT_MS_MAX))).await
            }
            PeerRequest::Disconnect { peer } => self.disconnect(peer).await,
            PeerRequest::Discover => self.discover().await,
            PeerRequest::SetRule { peer, rule } => self.set_rule(peer, rule).await,
        }
    }

    fn net(&self) -> Result<NetHandle, Refusal> {
        self.peers.net().ok_or_else(|| Refusal::Unavailable { what: "the network is restarting".to_owned() })
    }

    async fn known(&self) -> Result<Vec<ContactView>, Refusal> {
        let net = self.net()?;
        let contacts = net.contacts().await.map_err(|error| Refusal::Unavailable { what: error.to_string() })?;
        let admitted: BTreeSet<PeerId> = net.peers().into_iter().map(|info| info.peer).collect();
        Ok(contacts.into_iter().map(|contact| view(contact, &admitted)).collect())
    }

    async fn show(&self, peer: PeerId) -> Result<PeerReply, Refusal> {
        let contacts = self.known().await?.into_iter().filter(|contact| contact.peer_id == Some(peer)).collect();
        let member = self.members().await?.into_iter().find(|member| member.peer_id == peer).map(Box::new);
        Ok(PeerReply::Peer { member, contacts, rule: self.rules.of(peer).map(name) })
    }

    async fn members(&self) -> Result<Vec<PeerView>, Refusal> {
        let (permit, request) = (self.registry.admit()?, RegistryRequest::List);
        let message = |reply| RegistryMsg::Request { from: None, request, permit, reply };
        match self.registry.ask(PATIENCE, message).await? {
            RegistryReply::Peers(members) => Ok(members),
            RegistryReply::Heartbeat(_) | RegistryReply::Capabilities(_) => Ok(Vec::new()),
        }
    }

    async fn contacts(&self) -> Result<PeerReply, Refusal> {
        let (net, contacts) = (self.net()?, self.known().await?);
        let counters = net.counters();
        Ok(PeerReply::Contacts(ContactsView {
            listen: net.listen_addresses(),
            contacts,
            peers_admitted: counters.peers_admitted,
            peers_refused: counters.peers_refused,
            connections_taken: counters.connections_taken,
            connections_from_afar: counters.connections_from_afar,
            reach: net.reach().into_iter().map(reach_view).collect(),
        }))
    }

    fn rules(&self) -> Vec<RuleView> {
        self.rules.all().into_iter().map(|(peer_id, rule)| RuleView { peer_id, rule: name(rule) }).collect()
    }

    async fn connect(&self, address: &str, patience: Duration) -> Result<PeerReply, Refusal> {
        let end = Instant::now() + patience;
        match self.dial(address, end).await? {
            // The end of an earlier connection may have looked like that of this one.
            PeerReply::NotConnected { refused: true, .. } if Instant::now() + PAUSE < end => {
                tokio::time::sleep(PAUSE).await;
                self.dial(address, end).await
            }
            reply => Ok(reply),
        }
    }

    /// Dials once and says what came of it.
    async fn dial(&self, address: &str, end: Instant) -> Result<PeerReply, Refusal> {
        let (net, known) = (self.net()?, self.known().await?);
        if let Some((peer, elsewhere)) = connected_elsewhere(address, &known) {
            return Ok(PeerReply::Connected { peer, elsewhere: Some(elsewhere) });
        }
        let tries = |contact: Option<&ContactView>| contact.map_or(0, |known| known.failures + known.refusals);
        let before = tries(at(address, &known));
        net.dial(address).await.map_err(|error| {
            Refusal::invalid("/address", error.to_string(), "name it as /ip4/10.0.0.7/tcp/7400".to_owned())
        })?;
        loop {
            let known = self.known().await?;
            let contact = at(address, &known);
            if let Some(peer) = contact.filter(|contact| contact.admitted).and_then(|contact| contact.peer_id) {
                return Ok(PeerReply::Connected { peer, elsewhere: None });
            }
            let trouble = contact.and_then(|contact| contact.trouble.clone());
            let has_failed = tries(contact) > before || contact.is_some_and(|contact| contact.own);
            if let Some(why) = trouble.filter(|_| has_failed) {
                let refused = contact.is_some_and(|contact| contact.refusals > 0 || contact.own);
                return Ok(PeerReply::NotConnected { why, refused });
            }
            if Instant::now() >= end {
                let why = "nobody answered in time".to_owned();
                return Ok(PeerReply::NotConnected { why, refused: false });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn disconnect(&self, peer: PeerId) -> Result<PeerReply, Refusal> {
        let net = self.net()?;
        let is_here = || net.peers().iter().any(|info| info.peer == peer);
        let was_connected = is_here();
        net.disconnect(peer).await;
        let end = Instant::now() + PARTING;
        while is_here() && Instant::now() < end {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(PeerReply::Disconnected { peer, was_connected })
    }

    async fn discover(&self) -> Result<PeerReply, Refusal> {
        self.net()?.discover().await;
        let contacts = self.known().await?;
        let way = |way: &&str| WayView {
            way: (*way).to_owned(),
            on: self.ways.contains(way),
            known: contacts.iter().filter(|contact| contact.is_from(&[way])).count() as u64,
        };
        let ways = WAYS.iter().map(way).collect();
        Ok(PeerReply::Discovered { ways, contacts })
    }

    /// Who is denied is sent away once that is on the disk.
    async fn set_rule(&self, peer: PeerId, named: RuleName) -> Result<PeerReply, Refusal> {
        if peer == self.peers.me() {
            let fix = "name another node".to_owned();
            return Err(Refusal::invalid("/peer", "this is the node itself", fix));
        }
        let (rules, rule) = (self.rules.clone(), rule(named));
        let kept = tokio::task::spawn_blocking(move || rules.set(peer, rule)).await;
        let kept = kept.map_err(|error| error.to_string()).and_then(|kept| kept.map_err(|error| error.to_string()));
        kept.map_err(|what| Refusal::Unavailable { what: format!("the rule cannot be kept: {what}") })?;
        if named == RuleName::Deny && self.net().is_ok() {
            self.disconnect(peer).await?;
        }
        Ok(PeerReply::RuleSet(RuleView { peer_id: peer, rule: named }))
    }
}

/// An address without the peer that it may name, and that peer.
fn split(address: &str) -> (&str, Option<PeerId>) {
    let (bare, named) =
        address.trim().split_once("/p2p/").map_or((address.trim(), None), |(bare, peer)| (bare, Some(peer)));
    (bare, named.and_then(|peer| peer.parse().ok()))
}

/// What became of `address`: the peer that it names, there; else whoever was asked for there.
fn at<'a>(address: &str, known: &'a [ContactView]) -> Option<&'a ContactView> {
    let (bare, named) = split(address);
    let is_there = |contact: &&ContactView| contact.addresses.iter().any(|at| at.address == bare);
    let of_peer = |contact: &&ContactView| named.is_none() || contact.peer_id == named;
    let there = || known.iter().filter(is_there).filter(of_peer);
    // Somebody may have looked for a peer there that is somewhere else.
    let answers =
        |contact: &&ContactView| contact.admitted && (named.is_some() || is_its_own(contact, bare) || is_bare(contact));
    let asked = || there().filter(|contact| contact.is_from(&["asked"]));
    let of_address = || asked().find(|contact| named.is_none() && is_bare(contact));
    there().find(answers).or_else(of_address).or_else(|| asked().next())
}

/// Whether the peer says that it is there, or was met there.
fn is_its_own(contact: &ContactView, bare: &str) -> bool {
    let said = |known: &AddressView| known.address == bare && known.sources.iter().any(|source| source == "peer");
    contact.addresses.iter().any(said)
}

/// Whether it is of one address, whoever is there.
fn is_bare(contact: &ContactView) -> bool {
    contact.addresses.len() == 1
}

/// The peer that `address` names, and where it is, if it is connected at an address other than that: it would not be
/// dialled there.
fn connected_elsewhere(address: &str, known: &[ContactView]) -> Option<(PeerId, String)> {
    let (bare, named) = split(address);
    let peer = named?;
    let of_peer = || known.iter().filter(|contact| contact.peer_id == Some(peer));
    let is_known = |at: &AddressView| at.address == bare && at.sources.iter().any(|source| source != "asked");
    let is_elsewhere =
        of_peer().any(|contact| contact.admitted) && !of_peer().flat_map(|contact| &contact.addresses).any(is_known);
    let whole = |contact: &ContactView| {
        let own = contact.addresses.iter().find(|at| is_its_own(contact, &at.address));
        own.map(|at| at.address.clone())
    };
    let told = || of_peer().find_map(whole).unwrap_or_else(|| "an address that it has not told".to_owned());
    is_elsewhere.then(|| (peer, told()))
}

fn view(contact: Contact, admitted: &BTreeSet<PeerId>) -> ContactView {
    let addresses = contact.addresses.into_iter();
    ContactView {
        peer_id: contact.peer,
        addresses: addresses
            .map(|(address, sources)| AddressView {
                address,
                sources: sources.into_iter().map(|source| source.name().to_owned()).collect(),
            })
            .collect(),
        connected: contact.connected,
        admitted: contact.peer.is_some_and(|peer| admitted.contains(&peer)),
        member: contact.member,
        own: contact.own,
        failures: contact.failures,
        refusals: contact.refusals,
        dialled_in_ms: contact.dialled_in_ms,
        trouble: contact.trouble,
    }
}

fn reach_view(info: ReachInfo) -> ReachView {
    let reach = match info.reach {
        Reach::Unknown => "unknown",
        Reach::Reached => "reached",
        Reach::Unreached => "unreached",
    };
    ReachView { address: info.address, reach: reach.to_owned(), named: info.named, trouble: info.trouble }
}

fn name(rule: PeerRule) -> RuleName {
    match rule {
        PeerRule::Allow => RuleName::Allow,
        PeerRule::Deny => RuleName::Deny,
    }
}

fn rule(name: RuleName) -> PeerRule {
    match name {
        RuleName::Allow => PeerRule::Allow,
        RuleName::Deny => PeerRule::Deny,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(peer: Option<u8>, address: &str, source: &str, admitted: bool) -> ContactView {
        ContactView {
            peer_id: peer.map(|seed| PeerId([seed; 32])),
            addresses: vec![AddressView { address: address.to_owned(), sources: vec![source.to_owned()] }],
            connected: admitted,
            admitted,
            member: false,
            own: false,
            failures: 0,
            refusals: 0,
            dialled_in_ms: None,
            trouble: None,
        }
    }

    #[test]
    fn what_became_of_an_address_is_told_of_the_peer_that_it_names() {
        let here = "/ip4/10.0.0.1/tcp/1";
        let known = [
            contact(Some(1), here, "peer", false),
            contact(None, here, "asked", false),
            contact(Some(2), here, "asked", true),
        ];
        assert_eq!(at(here, &known), Some(&known[2]), "whoever answered there");
        assert_eq!(at(here, &known[..2]), Some(&known[1]), "who was there before says nothing");
        assert_eq!(at(&format!("{here}/p2p/{}", PeerId([2; 32])), &known), Some(&known[2]));
        assert_eq!(at(&format!("{here}/p2p/{}", PeerId([3; 32])), &known), None);
        assert_eq!(at("/ip4/10.0.0.2/tcp/1", &known), None);
    }

    #[test]
    fn a_peer_that_is_connected_elsewhere_is_not_taken_for_whoever_is_at_an_address() {
        let (here, there) = ("/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.9/tcp/9");
        let peer = PeerId([2; 32]);
        let mut known = [contact(Some(2), here, "peer", true), contact(None, there, "asked", false)];
        let named = |address: &str| format!("{address}/p2p/{peer}");
        assert_eq!(connected_elsewhere(&named(there), &known), Some((peer, here.to_owned())));
        assert_eq!(connected_elsewhere(&named(here), &known), None);
        assert_eq!(connected_elsewhere(there, &known), None, "whoever is there");
        // Somebody looked for it there once.
        let asked = AddressView { address: there.to_owned(), sources: vec!["asked".to_owned()] };
        known[0].addresses.push(asked);
        assert_eq!(connected_elsewhere(&named(there), &known), Some((peer, here.to_owned())));
        assert_eq!(at(there, &known), Some(&known[1]));
        known[0].admitted = false;
        assert_eq!(connected_elsewhere(&named(there), &known), None, "it is dialled");
        assert_eq!(at(there, &known), Some(&known[1]), "the one that answers there is told, if one does");
    }
}
