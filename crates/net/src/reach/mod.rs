//! Where this node can be reached from beyond its site: what is told of it there, a member must have dialled back.
//!
//! It decides; the swarm loop asks and dials. Time is an argument: milliseconds of a clock that never steps.

pub(crate) mod dial_back;
pub(crate) mod message;
pub(crate) mod router;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use magpie_core::ids::PeerId;

use self::message::{Outcome, ReachAnswer};
use crate::limits;
use crate::network::{Network, is_relayed};

/// What is known of whether an address of this node leads to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// No member that could say was asked yet, or none could say.
    Unknown,
    /// A member dialled it back.
    Reached,
    /// Members tried, and did not get there.
    Unreached,
}

/// An address of this node that leads beyond its site, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReachInfo {
    pub address: String,
    pub reach: Reach,
    /// Whether a person named it: it is told whatever members say.
    pub named: bool,
    /// Why the last member did not get there.
    pub trouble: Option<String>,
}

/// Where a member met over the internet sees this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    ip: IpAddr,
    /// Where the member dialled this node, if it did.
    dialled: Option<Multiaddr>,
}

impl Seen {
    /// None of an address that tells nothing of how this node looks from the internet.
    pub fn new(observed: Multiaddr, is_dialled: bool) -> Option<Self> {
        if is_relayed(&observed) || Network::of(&observed) != Network::Internet {
            return None;
        }
        let ip = observed.ip_addr().filter(|ip| !ip.is_unspecified())?;
        Some(Self { ip, dialled: is_dialled.then_some(observed) })
    }
}

#[derive(Debug, Default)]
struct Claim {
    reached_ms: Option<u64>,
    /// Tries in a row that did not get there.
    failures: u32,
    due_ms: u64,
    /// Who was asked last: another is asked next, if there is one.
    asked: Option<PeerId>,
    trouble: Option<String>,
}

impl Claim {
    fn reach(&self, now_ms: u64) -> Reach {
        let holds = self.reached_ms.is_some_and(|at_ms| at_ms + limits::REACH_HOLDS_MS > now_ms);
        match (holds, self.failures) {
            (true, ..limits::REACH_FAILURES_MAX) => Reach::Reached,
            (true, limits::REACH_FAILURES_MAX..) | (false, 1..) => Reach::Unreached,
            (false, 0) => Reach::Unknown,
        }
    }
}

/// The addresses of this node, and which of them are told to whom.
#[derive(Debug, Default)]
pub(crate) struct Whereabouts {
    /// What a person named.
    named: Vec<Multiaddr>,
    /// Where the router of this site says that it lets others in.
    granted: BTreeSet<Multiaddr>,
    listening: BTreeSet<Multiaddr>,
    seen: BTreeMap<PeerId, Seen>,
    /// Members that do not know the question.
    mute: HashSet<PeerId>,
    claims: BTreeMap<Multiaddr, Claim>,
    /// One question at a time.
    asking: Option<Multiaddr>,
    ask_due_ms: u64,
}

impl Whereabouts {
    pub fn new(named: Vec<Multiaddr>) -> Self {
        let mut new = Self { named, ..Self::default() };
        new.claim(0);
        new
    }

    pub fn listens(&mut self, listening: impl Iterator<Item = Multiaddr>, now_ms: u64) {
        self.listening = listening.collect();
        self.claim(now_ms);
    }

    /// The router of this site lets others in: what did not lead here before is asked about once more.
    pub fn granted(&mut self, granted: BTreeSet<Multiaddr>, now_ms: u64) {
        let before = std::mem::replace(&mut self.granted, granted);
        self.claim(now_ms);
        for address in self.granted.difference(&before) {
            self.claims.get_mut(address).into_iter().for_each(|claim| claim.due_ms = now_ms);
        }
    }

    pub fn listening(&self) -> &BTreeSet<Multiaddr> {
        &self.listening
    }

    /// A member met over the internet says where it sees this node.
    pub fn seen_by(&mut self, peer: PeerId, seen: Seen, now_ms: u64) {
        self.seen.insert(peer, seen);
        self.claim(now_ms);
    }

    /// The last connection to the member closed.
    pub fn forget(&mut self, peer: PeerId, now_ms: u64) {
        self.mute.remove(&peer);
        if self.seen.remove(&peer).is_some() {
            self.claim(now_ms);
        }
    }

    /// Takes up what may lead here, and drops what has no ground any more. What was reached stays for as long as that
    /// holds, also while nobody is there who sees it.
    fn claim(&mut self, now_ms: u64) {
        let listens_far = self.listening.iter().filter(|address| !is_relayed(address));
        let far: Vec<Multiaddr> =
            listens_far.filter(|address| Network::of(address) == Network::Internet).cloned().collect();
        let named = self.named.iter().filter(|address| address.ip_addr().is_some()).cloned();
        let dialled = self.seen.values().filter_map(|seen| seen.dialled.clone());
        let ips: BTreeSet<IpAddr> = self.seen.values().map(|seen| seen.ip).collect();
        let beyond_nat =
            ips.iter().flat_map(|ip| self.listening.iter().filter_map(|listening| translated(listening, *ip)));
        let wanted: Vec<Multiaddr> =
            named.chain(far).chain(self.granted.iter().cloned()).chain(dialled).chain(beyond_nat).collect();
        let wanted: BTreeSet<Multiaddr> = wanted.into_iter().take(limits::REACH_CLAIMS_MAX).collect();
        self.claims.retain(|address, claim| wanted.contains(address) || claim.reach(now_ms) == Reach::Reached);
        for address in wanted {
            if self.claims.len() < 2 * limits::REACH_CLAIMS_MAX {
                self.claims.entry(address).or_default();
            }
        }
    }

    /// Whom to ask about which address now. A member dials nobody but who asks, so it must see this node there.
    pub fn question(&mut self, now_ms: u64) -> Option<(PeerId, Multiaddr)> {
        if self.asking.is_some() || self.ask_due_ms > now_ms {
            return None;
        }
        let due = self.claims.iter().filter(|(_, claim)| claim.due_ms <= now_ms);
        let mut askable = due.filter_map(|(address, claim)| {
            let ip = address.ip_addr()?;
            let sees = |(peer, seen): &(&PeerId, &Seen)| seen.ip == ip && !self.mute.contains(*peer);
            let seers = || self.seen.iter().filter(sees).map(|(peer, _)| *peer);
            let another = seers().find(|peer| Some(*peer) > claim.asked);
            another.or_else(|| seers().next()).map(|peer| (claim.due_ms, peer, address.clone()))
        });
        let first = askable.next()?;
        let (_, peer, address) = askable.fold(first, |first, next| if next.0 < first.0 { next } else { first });
        (self.asking, self.ask_due_ms) = (Some(address.clone()), now_ms + limits::REACH_ASK_EVERY_MS);
        if let Some(claim) = self.claims.get_mut(&address) {
            claim.asked = Some(peer);
        }
        Some((peer, address))
    }

    /// What the member says that was asked.
    pub fn answered(&mut self, answer: ReachAnswer, now_ms: u64) {
        let Some(claim) = self.asking.take().and_then(|address| self.claims.get_mut(&address)) else { return };
        let wait_ms = match answer.outcome {
            Outcome::Reached => {
                (claim.reached_ms, claim.failures, claim.trouble) = (Some(now_ms), 0, None);
                limits::REACH_AGAIN_MS
            }
            Outcome::Unreached => {
                claim.failures = claim.failures.saturating_add(1);
                claim.trouble = answer.why.map(|why| cut(&why));
                (limits::REACH_RETRY_MS << claim.failures.min(16)).min(limits::REACH_AGAIN_MS)
            }
            Outcome::Refused => limits::REACH_RETRY_MS,
        };
        claim.due_ms = now_ms + wait_ms;
    }

    /// The member that was asked gave no answer; of one that does not know the question, none is expected any more.
    pub fn unanswered(&mut self, peer: PeerId, knows_the_question: bool, now_ms: u64) {
        if !knows_the_question {
            self.mute.insert(peer);
        }
        if let Some(claim) = self.asking.take().and_then(|address| self.claims.get_mut(&address)) {
            claim.due_ms = now_ms + limits::REACH_RETRY_MS;
        }
    }

    /// What may be told of where this node is to whom it meets over `network`.
    pub fn told_to(&self, network: Network, now_ms: u64) -> Vec<Multiaddr> {
        let is_reached = |claim: &Claim| claim.reach(now_ms) == Reach::Reached;
        let reached = self.claims.iter().filter(|(_, claim)| is_reached(claim)).map(|(address, _)| address);
        let near = |address: &&Multiaddr| is_relayed(address) || Network::of(address) < Network::Internet;
        let all = self.named.iter().chain(reached).chain(self.listening.iter().filter(near));
        let mut told = HashSet::new();
        all.filter(|address| network.shares(address) && told.insert(*address)).cloned().collect()
    }

    /// What is written where anyone may find it who looks for this node, who may have met nobody yet: also what nobody
    /// could say anything about.
    pub fn written(&self, now_ms: u64) -> Vec<Multiaddr> {
        let is_unknown = |address: &&Multiaddr| {
            !is_relayed(address) && self.claims.get(*address).is_some_and(|claim| claim.reach(now_ms) == Reach::Unknown)
        };
        let mut written = self.told_to(Network::Machine, now_ms);
        let unknown = self.listening.iter().filter(is_unknown).filter(|address| !written.contains(*address));
        let unknown: Vec<Multiaddr> = unknown.cloned().collect();
        written.extend(unknown);
        written
    }

    /// Whether a member got here from beyond this node's site.
    pub fn is_reached(&self, now_ms: u64) -> bool {
        self.claims.values().any(|claim| claim.reach(now_ms) == Reach::Reached)
    }

    pub fn all(&self, now_ms: u64) -> Vec<ReachInfo> {
        let info = |(address, claim): (&Multiaddr, &Claim)| ReachInfo {
            address: address.to_string(),
            reach: claim.reach(now_ms),
            named: self.named.contains(address),
            trouble: claim.trouble.clone(),
        };
        self.claims.iter().map(info).collect()
    }
}

/// `listening` as it appears at `ip`, if what is between leaves ports as they are. Loopback appears nowhere.
fn translated(listening: &Multiaddr, ip: IpAddr) -> Option<Multiaddr> {
    let same_family = listening.ip_addr()?.is_ipv4() == ip.is_ipv4();
    if is_relayed(listening) || Network::of(listening) == Network::Machine || !same_family {
        return None;
    }
    Some(listening.iter().skip(1).fold(Multiaddr::from(ip), |address, part| address.with(part)))
}

/// Why a member does not dial `text` back for a peer that it sees at `seen`, or where to dial. It dials nobody but who
/// asks, where it meets it: nobody is made to knock at another's door, or at other networks.
pub(crate) fn may_dial(text: &str, seen: &[IpAddr]) -> Result<Multiaddr, &'static str> {
    if text.len() > limits::ADDRESS_BYTES_MAX {
        return Err("the address is too long");
    }
    let address: Multiaddr = text.parse().map_err(|_| "this is no multiaddr")?;
    let parts: Vec<Protocol<'_>> = address.iter().collect();
    let ip = match parts.as_slice() {
        [Protocol::Ip4(ip), Protocol::Tcp(1..)] => IpAddr::from(*ip),
        [Protocol::Ip6(ip), Protocol::Tcp(1..)] => IpAddr::from(*ip),
        [Protocol::Ip4(ip), Protocol::Udp(1..), Protocol::QuicV1] => IpAddr::from(*ip),
        [Protocol::Ip6(ip), Protocol::Udp(1..), Protocol::QuicV1] => IpAddr::from(*ip),
        _ => return Err("only an IP address with TCP or QUIC is dialled back"),
    };
    if seen.iter().any(|seen| seen.to_canonical() == ip.to_canonical()) {
        Ok(address)
    } else {
        Err("the asker is not seen at that address")
    }
}

fn cut(why: &str) -> String {
    why[..why.floor_char_boundary(limits::TROUBLE_BYTES_MAX)].to_owned()
}

#[cfg(test)]
mod tests;
