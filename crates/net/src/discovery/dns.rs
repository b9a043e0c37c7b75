//! All addresses behind a name: a headless service of Kubernetes, or any name that several nodes share.
//!
//! The name is looked up by the system, as every other program on the machine would, again and again: seldom where
//! nothing changes, often at first and after a change.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use tokio::sync::{Notify, mpsc};

use super::Suggestion;
use crate::book::Source;
use crate::limits;

/// A name, and the TCP port on which the nodes behind it listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DnsName {
    host: String,
    port: u16,
}

/// A text that is not the name and port of nodes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{presented:?} is not a name and a port ({reason}), as magpie-headless.prod.svc:7400")]
pub struct ParseNameError {
    pub presented: String,
    pub reason: &'static str,
}

impl FromStr for DnsName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        let wrong = |reason| ParseNameError { presented: text.chars().take(200).collect(), reason };
        let (host, port) = text.trim().rsplit_once(':').ok_or_else(|| wrong("it has no port"))?;
        let port: u16 = port.parse().map_err(|_| wrong("its port is none"))?;
        let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "-._".contains(letter);
        if port == 0 {
            Err(wrong("no node listens on port 0"))
        } else if host.is_empty() || host.len() > limits::DNS_NAME_BYTES_MAX || !host.chars().all(is_letter) {
            Err(wrong("its name is none"))
        } else if host.parse::<IpAddr>().is_ok() {
            Err(wrong("an IP address needs no lookup: name it in bootstrap"))
        } else {
            Ok(Self { host: host.to_owned(), port })
        }
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

impl DnsName {
    /// What the system resolves the name to: all A and AAAA records.
    pub async fn resolve(self) -> io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await?;
        Ok(found.map(|address| address.ip()).collect())
    }

    fn addresses(&self, found: Vec<IpAddr>) -> BTreeSet<Multiaddr> {
        // In order, so that of too many the same are taken each time.
        let found: BTreeSet<IpAddr> = found.into_iter().collect();
        if found.len() > limits::DNS_ADDRESSES_MAX {
            tracing::warn!(name = %self, found = found.len(), max = limits::DNS_ADDRESSES_MAX, "a name has too many addresses");
        }
        let kept = found.into_iter().take(limits::DNS_ADDRESSES_MAX);
        kept.map(|ip| Multiaddr::from(ip).with(Protocol::Tcp(self.port))).collect()
    }
}

/// Looks `name` up, until nobody listens any more, by `resolve` and every so often as `draw`, of 0..256, spreads it, or
/// when `look_again` wakes it.
///
/// A lookup that fails takes nothing back: a name server that is away says nothing about nodes.
pub(crate) async fn watch<F>(
    name: DnsName,
    resolve: impl Fn(DnsName) -> F + Send,
    draw: impl Fn() -> u8 + Send,
    look_again: Arc<Notify>,
    suggestions: mpsc::Sender<Suggestion>,
) where
    F: Future<Output = io::Result<Vec<IpAddr>>> + Send,
{
    let mut known = BTreeSet::new();
    let mut quiet = 0;
    let mut failing = false;
    loop {
        match resolve(name.clone()).await {
            Ok(found) => {
                failing = false;
                let named = name.addresses(found);
                quiet = if named == known { quiet + 1 } else { 0 };
                for suggestion in super::changes(Source::Dns, &known, &named) {
                    if suggestions.send(suggestion).await.is_err() {
                        return;
                    }
                }
                known = named;
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%name, %error, "a name cannot be looked up; tried again");
                }
                quiet += 1;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(wait(quiet, draw())) => {}
            () = look_again.notified() => {}
            () = suggestions.closed() => return,
        }
    }
}

/// Doubles with each lookup that told nothing new; give or take a quarter, so that nodes which started together do not
/// ask together.
fn wait(quiet: u32, draw: u8) -> Duration {
    let doubled = (limits::DNS_FIRST_MS << quiet.min(16)).min(limits::DNS_EVERY_MS);
    Duration::from_millis(doubled * 3 / 4 + doubled * u64::from(draw) / 512)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use proptest::prelude::*;

    fn name() -> DnsName {
        "nodes.test:7400".parse().unwrap()
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn found(address: &str) -> Suggestion {
        Suggestion::PeerFound { address: address.parse().unwrap(), source: Source::Dns }
    }

    fn lost(address: &str) -> Suggestion {
        Suggestion::PeerLost { address: address.parse().unwrap(), source: Source::Dns }
    }

    /// Watches a name whose lookups give `answers`, the last one for ever, until all were given.
    async fn suggested(answers: Vec<Option<Vec<IpAddr>>>) -> Vec<Suggestion> {
        let (sender, mut suggestions) = mpsc::channel(limits::SUGGESTIONS_LEN_MAX);
        let left = Arc::new(Mutex::new(answers.into_iter()));
        let resolve = move |_| {
            let answer = left.lock().unwrap().next();
            async move {
                match answer {
                    Some(answer) => answer.ok_or_else(|| io::Error::other("no name server")),
                    None => std::future::pending().await,
                }
            }
        };
        let watching = tokio::spawn(watch(name(), resolve, || 0, Arc::default(), sender));
        // With a clock that only goes on when all wait, this is the end.
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        watching.abort();
        std::iter::from_fn(|| suggestions.try_recv().ok()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn every_record_is_found_and_one_that_has_gone_is_lost() {
        let told = suggested(vec![
            Some(ips(&["10.0.0.2", "10.0.0.1", "fd00::1", "10.0.0.1"])),
            Some(ips(&["10.0.0.2", "10.0.0.3", "fd00::1"])),
            Some(ips(&["10.0.0.2", "10.0.0.3", "fd00::1"])),
        ]);
        let expected = [
            found("/ip4/10.0.0.1/tcp/7400"),
            found("/ip4/10.0.0.2/tcp/7400"),
            found("/ip6/fd00::1/tcp/7400"),
            found("/ip4/10.0.0.3/tcp/7400"),
            lost("/ip4/10.0.0.1/tcp/7400"),
        ];
        assert_eq!(told.await, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lookup_that_fails_takes_nothing_back() {
        let told = suggested(vec![None, Some(ips(&["10.0.0.1"])), None, None, Some(ips(&["10.0.0.1"]))]);
        assert_eq!(told.await, [found("/ip4/10.0.0.1/tcp/7400")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_with_ten_thousand_addresses_gives_as_many_as_are_kept() {
        let many = (0..10_000u32).map(|n| IpAddr::from((0x0a00_0000 + n).to_be_bytes())).collect();
        assert_eq!(suggested(vec![Some(many)]).await.len(), limits::DNS_ADDRESSES_MAX);
    }

    #[tokio::test]
    async fn a_real_name_is_looked_up() {
        let (sender, mut suggestions) = mpsc::channel(8);
        let name: DnsName = "localhost:7400".parse().unwrap();
        let watching = tokio::spawn(watch(name, DnsName::resolve, || 0, Arc::default(), sender));
        let first = tokio::time::timeout(Duration::from_secs(20), suggestions.recv()).await.unwrap().unwrap();
        assert!([found("/ip4/127.0.0.1/tcp/7400"), found("/ip6/::1/tcp/7400")].contains(&first), "{first:?}");
        watching.abort();
    }

    #[test]
    fn what_is_no_name_and_port_is_refused_in_words() {
        let wrong = ["", "magpie", "magpie:", "magpie:0", "magpie:70000", ":7400", "10.0.0.1:7400", "[::1]:7400"];
        for text in wrong.into_iter().chain(["a b:7400", "/dns4/a/tcp/1", "http://a:80"]) {
            let words = text.parse::<DnsName>().unwrap_err().to_string();
            assert!(words.starts_with(&format!("{text:?} is not a name and a port (")), "{words}");
        }
        let long = format!("{}:7400", "a".repeat(limits::DNS_NAME_BYTES_MAX + 1));
        assert!(long.parse::<DnsName>().is_err());
        assert_eq!(
            " magpie-headless.prod.svc:7400\n".parse::<DnsName>().unwrap().to_string(),
            "magpie-headless.prod.svc:7400"
        );
    }

    proptest! {
        #[test]
        fn the_wait_is_never_longer_than_its_last_step(quiet: u32, draw: u8) {
            let wait = wait(quiet, draw).as_millis() as u64;
            let allowed = limits::DNS_FIRST_MS * 3 / 4..=limits::DNS_EVERY_MS * 5 / 4;
            prop_assert!(allowed.contains(&wait), "{wait}");
        }
    }
}
