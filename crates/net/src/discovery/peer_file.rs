//! A file with one multiaddr a line, read again whenever it changes.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use libp2p::Multiaddr;
use tokio::sync::{Notify, mpsc};

use super::Suggestion;
use crate::book::Source;
use crate::cache;
use crate::limits;

/// Watches the file at `path` until nobody listens any more. A file that is absent or unreadable names nobody.
/// `look_again` wakes it before its time.
pub(crate) async fn watch(path: PathBuf, look_again: Arc<Notify>, suggestions: mpsc::Sender<Suggestion>) {
    let mut known = BTreeSet::new();
    let mut seen = None;
    let mut every = tokio::time::interval(Duration::from_millis(limits::PEER_FILE_EVERY_MS));
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = look_again.notified() => {}
        }
        let stamp = stamp(&path).await;
        if stamp == seen {
            continue;
        }
        seen = stamp;
        let named = read(path.clone()).await;
        for suggestion in super::changes(Source::PeerFile, &known, &named) {
            if suggestions.send(suggestion).await.is_err() {
                return;
            }
        }
        known = named;
    }
}

/// What differs between two versions of a file. The length too: a clock may be too coarse for two writes in a row.
async fn stamp(path: &PathBuf) -> Option<(SystemTime, u64)> {
    let metadata = tokio::fs::metadata(path).await.ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

async fn read(path: PathBuf) -> BTreeSet<Multiaddr> {
    let text = tokio::task::spawn_blocking(move || cache::read_text(&path)).await;
    match text {
        Ok(Ok(text)) => cache::parse_lines(&text).into_iter().collect(),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the peer file cannot be read");
            BTreeSet::new()
        }
        Err(_) => BTreeSet::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    fn address(n: u8) -> Multiaddr {
        format!("/ip4/10.0.0.{n}/tcp/1").parse().unwrap()
    }

    #[tokio::test]
    async fn a_changed_file_is_read_again_and_only_its_changes_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peers");
        let (sender, mut suggestions) = mpsc::channel(8);
        let watching = tokio::spawn(watch(path.clone(), Arc::default(), sender));
        let source = Source::PeerFile;
        let mut next = async || timeout(Duration::from_secs(20), suggestions.recv()).await.unwrap().unwrap();

        let replace = |text: String| cache::write(&path, &text).unwrap();

        replace(format!("{}\n{}\n", address(1), address(2)));
        assert_eq!(next().await, Suggestion::PeerFound { address: address(1), source });
        assert_eq!(next().await, Suggestion::PeerFound { address: address(2), source });
        replace(format!("# only\n{}\n{}\n", address(2), address(3)));
        assert_eq!(next().await, Suggestion::PeerFound { address: address(3), source });
        assert_eq!(next().await, Suggestion::PeerLost { address: address(1), source });
        watching.abort();
    }
}
