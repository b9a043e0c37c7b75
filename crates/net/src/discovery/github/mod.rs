//! A registry of peers in the comments of one issue on GitHub, for nodes that share nothing but the internet.
//!
//! Each node keeps one comment: where it is and until when that holds, signed with its own key. Whoever may comment
//! can add records of its own and hide others, but not move a node. Nobody's comment is changed or deleted but the
//! node's own.

mod api;
mod record;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use libp2p::Multiaddr;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use self::api::{Api, ApiError, Comment};
use self::record::Record;
use super::Suggestion;
use crate::book::Source;
use crate::key::NodeKey;
use crate::limits;
use crate::network::Network;
use crate::node::is_loopback;

pub use self::api::{GithubConfig, GithubConfigError, Token};

/// Keeps this node's record and reads those of the others, until nobody listens any more; `whereabouts` says where
/// this node is.
pub(crate) async fn watch(
    config: GithubConfig,
    key: NodeKey,
    whereabouts: impl Fn() -> Vec<String> + Send,
    look_again: Arc<Notify>,
    suggestions: mpsc::Sender<Suggestion>,
) {
    let mut registry = Registry { api: Api::new(config), key, comment: None, failures: 0 };
    let mut known = BTreeSet::new();
    loop {
        let addresses = to_publish(whereabouts());
        let visit = move || (registry.visit(&addresses, unix_s()), registry);
        let Ok((visited, back)) = tokio::task::spawn_blocking(visit).await else { return };
        registry = back;
        let written = match visited {
            Ok(Visit { named, written }) => {
                if tell(&known, &named, &suggestions).await.is_err() {
                    return;
                }
                known = named;
                written
            }
            Err(error) => Err(error),
        };
        let wait = registry.wait_ms(written);
        // Whoever asks again and again does not use up what GitHub allows, nor shorten what it told us to wait.
        let pause_ms = if registry.failures > 0 { wait } else { limits::GITHUB_ASKED_MS };
        let may_look = Instant::now() + Duration::from_millis(pause_ms);
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(wait)) => {}
            () = asked(&look_again, may_look) => {}
            () = suggestions.closed() => return,
        }
    }
}

async fn asked(look_again: &Notify, may_look: Instant) {
    look_again.notified().await;
    tokio::time::sleep_until(may_look).await;
}

/// All that are named, so that none goes stale while it is, and those that are named no more.
async fn tell(
    known: &BTreeSet<Multiaddr>,
    named: &BTreeSet<Multiaddr>,
    suggestions: &mpsc::Sender<Suggestion>,
) -> Result<(), mpsc::error::SendError<Suggestion>> {
    let source = Source::Github;
    for address in named.iter().cloned() {
        suggestions.send(Suggestion::PeerFound { address, source }).await?;
    }
    for address in known.difference(named).cloned() {
        suggestions.send(Suggestion::PeerLost { address, source }).await?;
    }
    Ok(())
}

/// Those that lead farthest: a comment is read from anywhere. A node that nobody can reach from beyond its site is
/// found there by the others of the site, and one on loopback by those on its machine.
fn to_publish(whereabouts: Vec<String>) -> Vec<String> {
    let parsed = whereabouts.iter().filter_map(|text| Some((Network::of(&text.parse().ok()?), text)));
    let parsed: Vec<(Network, &String)> = parsed.collect();
    let widest = parsed.iter().map(|(network, _)| *network).max();
    let published = parsed.into_iter().filter(|(network, _)| Some(*network) == widest).map(|(_, text)| text.clone());
    published.take(limits::PEER_ADDRESSES_MAX).collect()
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The registry as this node sees it.
struct Registry {
    api: Api,
    key: NodeKey,
    /// The comment that is this node's.
    comment: Option<u64>,
    failures: u32,
}

/// What a visit brought: who is named, and whether a comment was written anew.
struct Visit {
    named: BTreeSet<Multiaddr>,
    written: Result<bool, ApiError>,
}

impl Registry {
    /// Reads all comments, and writes this node's own where it is missing, half over or says another place. Blocks.
    fn visit(&mut self, addresses: &[String], now_s: u64) -> Result<Visit, ApiError> {
        let comments = self.api.comments()?;
        let me = self.key.peer_id();
        let records = comments.iter().filter_map(|comment| Some((comment, Record::read(comment.body.as_deref()?)?)));
        let (own, others): (Vec<_>, Vec<_>) = records.partition(|(_, record)| record.peer == me);
        let kept = own.iter().min_by_key(|(comment, _)| comment.id);
        let takes_loopback = addresses.iter().all(|text| text.parse().is_ok_and(|address| is_loopback(&address)));
        let current = others.into_iter().filter(|(_, record)| record.is_current(now_s));
        let named =
            current.flat_map(|(_, record)| record.addresses(takes_loopback)).take(limits::TARGETS_MAX).collect();
        let is_written = kept.is_some_and(|(_, record)| record.holds(addresses, now_s));
        let written = if is_written || addresses.is_empty() || !self.api.may_write() {
            Ok(false)
        } else {
            self.write(kept.map(|(comment, _)| *comment), addresses, now_s)
        };
        Ok(Visit { named, written })
    }

    /// When to visit it again.
    fn wait_ms(&mut self, written: Result<bool, ApiError>) -> u64 {
        match written {
            Ok(anew) => {
                self.failures = 0;
                // Who wrote at the same moment is read a moment later.
                if anew { limits::GITHUB_AGAIN_MS } else { self.api.every_ms() }
            }
            Err(error) => {
                self.failures += 1;
                tracing::warn!(%error, "the registry on GitHub cannot be used; tried again");
                error.wait_ms(self.failures)
            }
        }
    }

    /// Says whether the comment is a new one.
    fn write(&mut self, kept: Option<&Comment>, addresses: &[String], now_s: u64) -> Result<bool, ApiError> {
        let body = Record::new(&self.key, addresses, now_s + limits::GITHUB_TTL_S).to_text();
        // A comment that was just written may not be listed yet.
        match kept.map(|comment| comment.id).or(self.comment.take()) {
            Some(id) => {
                self.api.edit(id, &body)?;
                self.comment = Some(id);
                Ok(false)
            }
            None => {
                self.comment = Some(self.api.write(&body)?);
                Ok(true)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_writes_down_the_addresses_that_lead_farthest() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let (machine, site) = ("/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1");
        let (far, by_relay) = ("/ip4/203.0.113.7/tcp/1", "/ip4/203.0.113.1/tcp/1/p2p-circuit");
        assert_eq!(to_publish(texts(&[machine, site, far, by_relay])), [far, by_relay]);
        assert_eq!(to_publish(texts(&[machine, site])), [site]);
        assert_eq!(to_publish(texts(&[machine])), [machine]);
        let many = (1..100).map(|port| format!("/ip4/10.0.0.1/tcp/{port}")).collect();
        assert_eq!(to_publish(many).len(), limits::PEER_ADDRESSES_MAX);
    }
}
