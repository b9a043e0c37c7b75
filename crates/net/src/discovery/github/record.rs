//! What a node says of itself in a comment, and how it is told from what others say.

use data_encoding::BASE64;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use magpie_core::ids::PeerId;
use magpie_core::signature;
use serde::{Deserialize, Serialize};

use crate::book::split_peer;
use crate::config::parse_address;
use crate::identity;
use crate::key::NodeKey;
use crate::limits;
use crate::node::is_loopback;

/// Stands before a record, so that the other comments of an issue are passed over.
const MARK: &str = "<!-- magpie-peer 1 -->";
const LABEL: &str = "magpie-peer-record-1";

/// Where a node is, and until when that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub peer: PeerId,
    addresses: Vec<String>,
    /// Seconds since 1970, by the clock of the node.
    expires: u64,
    signature: String,
}

impl Record {
    pub fn new(key: &NodeKey, addresses: &[String], expires: u64) -> Self {
        let mut record = Self { peer: key.peer_id(), addresses: addresses.to_vec(), expires, signature: String::new() };
        record.signature = BASE64.encode(&signature::sign(&key.signing_key(), &record.peer, &record.signed_bytes()));
        record
    }

    /// The text of a comment that says so.
    pub fn to_text(&self) -> String {
        let json = serde_json::to_string_pretty(self).expect("texts and numbers are JSON");
        format!("{MARK}\n```json\n{json}\n```\n")
    }

    /// The record that a comment holds, if it is one, in bounds, and signed by whom it is about.
    pub fn read(text: &str) -> Option<Self> {
        if text.len() > limits::GITHUB_RECORD_BYTES_MAX {
            return None;
        }
        let (_, json) = text.split_once(MARK)?.1.split_once("```json")?;
        let record: Self = serde_json::from_str(json.split_once("```")?.0).ok()?;
        (record.addresses.len() <= limits::PEER_ADDRESSES_MAX && record.is_signed()).then_some(record)
    }

    fn is_signed(&self) -> bool {
        let verify = || {
            let bytes: [u8; 64] = BASE64.decode(self.signature.as_bytes()).ok()?.try_into().ok()?;
            signature::verify(self.peer, &self.signed_bytes(), &bytes).ok()
        };
        verify().is_some()
    }

    /// Each text with its length before it: no two records have the same bytes.
    fn signed_bytes(&self) -> Vec<u8> {
        let head = format!("{LABEL}\n{}\n{}\n", self.peer, self.expires);
        let addresses = self.addresses.iter().map(|address| format!("{} {address}\n", address.len()));
        std::iter::once(head).chain(addresses).collect::<String>().into_bytes()
    }

    /// Whether it holds now. One that claims to hold for longer than any may is none.
    pub fn is_current(&self, now_s: u64) -> bool {
        self.expires > now_s && self.expires <= now_s + limits::GITHUB_TTL_S + limits::GITHUB_SKEW_S
    }

    /// Whether it says where the node is, for long enough that it need not be written again.
    pub fn holds(&self, addresses: &[String], now_s: u64) -> bool {
        self.addresses == addresses && self.is_current(now_s) && self.expires > now_s + limits::GITHUB_TTL_S / 2
    }

    /// Where the node can be dialled, as far as it can.
    pub fn addresses(&self, takes_loopback: bool) -> Vec<Multiaddr> {
        let short = self.addresses.iter().filter(|text| text.len() <= limits::ADDRESS_BYTES_MAX);
        let bare = short.filter_map(|text| split_peer(parse_address(text).ok()?)).map(|(address, _)| address);
        let reachable = bare.filter(|address| !address.is_empty() && (takes_loopback || !is_loopback(address)));
        reachable.map(|address| address.with(Protocol::P2p(identity::to_libp2p(self.peer)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW_S: u64 = 1_800_000_000;

    fn key() -> NodeKey {
        NodeKey::from_seed([1; 32])
    }

    fn record() -> Record {
        Record::new(&key(), &["/ip4/10.0.0.1/tcp/1".to_owned()], NOW_S + limits::GITHUB_TTL_S)
    }

    #[test]
    fn a_record_survives_its_comment() {
        let text = format!("Posted by a node.\n{}\nand more", record().to_text());
        assert_eq!(Record::read(&text), Some(record()));
        let address = format!("/ip4/10.0.0.1/tcp/1/p2p/{}", key().peer_id());
        assert_eq!(record().addresses(false), [address.parse().unwrap()]);
    }

    #[test]
    fn a_record_that_was_changed_or_made_for_another_is_none() {
        let text = record().to_text();
        let other = NodeKey::from_seed([2; 32]).peer_id().to_string();
        for (from, to) in
            [("10.0.0.1", "10.0.0.2"), ("1800001800", "1800001801"), (&key().peer_id().to_string(), &other)]
        {
            assert!(text.contains(from), "{from} in {text}");
            assert_eq!(Record::read(&text.replace(from, to)), None, "{from} became {to}");
        }
        let moved = text.replace("\"/ip4/10.0.0.1/tcp/1\"", "\"/ip4/10.0.0.1\", \"/tcp/1\"");
        assert_eq!(Record::read(&moved), None);
    }

    #[test]
    fn a_record_too_long_is_none() {
        let many: Vec<String> = (0..9).map(|port| format!("/ip4/10.0.0.1/tcp/{port}")).collect();
        assert_eq!(Record::read(&Record::new(&key(), &many, NOW_S).to_text()), None, "nine addresses");
        let long = format!("{}{}", record().to_text(), " ".repeat(limits::GITHUB_RECORD_BYTES_MAX));
        assert_eq!(Record::read(&long), None);
    }

    #[test]
    fn a_record_holds_for_half_an_hour_and_is_written_again_after_half_of_it() {
        let (record, ttl_s) = (record(), limits::GITHUB_TTL_S);
        assert_eq!(ttl_s, 30 * 60);
        assert!(record.is_current(NOW_S) && record.is_current(NOW_S + ttl_s - 1) && !record.is_current(NOW_S + ttl_s));
        assert!(!record.is_current(NOW_S - ttl_s), "it claims to hold for an hour");
        let here = ["/ip4/10.0.0.1/tcp/1".to_owned()];
        assert!(record.holds(&here, NOW_S) && !record.holds(&here, NOW_S + ttl_s / 2) && !record.holds(&[], NOW_S));
    }

    proptest! {
        #[test]
        fn no_comment_breaks_the_reader(text in ".{0,200}", json in ".{0,100}") {
            prop_assert_eq!(Record::read(&text), None);
            prop_assert_eq!(Record::read(&format!("{MARK}\n```json\n{json}\n```")), None);
        }
    }
}
