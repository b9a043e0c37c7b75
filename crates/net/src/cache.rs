//! The peer cache: members and their addresses on disk, so that a node finds its cluster again when every bootstrap
//! is away.
//!
//! Text, one multiaddr with `/p2p/PEER` a line: a person may read it, and it can serve as a peer file.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use magpie_core::ids::PeerId;

use crate::book::split_peer;
use crate::identity;
use crate::limits;

const HEAD: &str = "# magpie peers 1";

/// The text of at most [`limits::PEER_FILE_BYTES_MAX`] at `path`; empty if there is no file.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.take(limits::PEER_FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The multiaddrs of a peer file or peer cache; lines that are none are left out and logged, `#` begins a comment.
pub(crate) fn parse_lines(text: &str) -> Vec<Multiaddr> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let parsed = lines.filter(|line| !line.is_empty()).filter_map(|line| match crate::config::parse_address(line) {
        Ok(address) => Some(address),
        Err(error) => {
            tracing::warn!(%error, "line left out of a peer file");
            None
        }
    });
    parsed.take(limits::TARGETS_MAX).collect()
}

/// The peers that a peer cache names, as it was left by the process before.
///
/// # Errors
/// If there is a file that cannot be read.
pub fn cached_peers(path: &Path) -> io::Result<BTreeSet<PeerId>> {
    let addresses = parse_lines(&read_text(path)?);
    Ok(addresses.into_iter().filter_map(|address| split_peer(address)?.1).collect())
}

pub(crate) fn format(members: &[(PeerId, Vec<Multiaddr>)]) -> String {
    let mut text = format!("{HEAD}\n");
    for (peer, addresses) in members {
        for address in addresses {
            text.push_str(&format!("{}\n", address.clone().with(Protocol::P2p(identity::to_libp2p(*peer)))));
        }
    }
    text
}

/// Replaces the file at `path` in one step. It is a hint, so a crash may lose it, but never leaves half of it.
pub(crate) fn write(path: &Path, text: &str) -> io::Result<()> {
    // One name, whoever writes: what a crash or a full disk left of it is not left beside the next.
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()?;
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_survive_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peers");
        assert_eq!(read_text(&path).unwrap(), "");
        let addresses: Vec<Multiaddr> =
            vec!["/ip4/10.0.0.1/tcp/1".parse().unwrap(), "/dns4/a/udp/2/quic-v1".parse().unwrap()];
        let text = format(&[(PeerId([1; 32]), addresses)]);
        write(&path, &text).unwrap();
        assert_eq!(read_text(&path).unwrap(), text);
        assert!(text.starts_with(HEAD));
        let read: Vec<_> = parse_lines(&text).into_iter().map(|address| address.to_string()).collect();
        let peer = PeerId([1; 32]);
        assert_eq!(read, [format!("/ip4/10.0.0.1/tcp/1/p2p/{peer}"), format!("/dns4/a/udp/2/quic-v1/p2p/{peer}")]);
    }

    #[test]
    fn a_flipped_bit_costs_one_hint_at_most() {
        let addresses: Vec<Multiaddr> =
            vec!["/ip4/10.0.0.1/tcp/1".parse().unwrap(), "/dns4/a/udp/2/quic-v1".parse().unwrap()];
        let text = format(&[(PeerId([1; 32]), addresses.clone()), (PeerId([2; 32]), addresses)]);
        let whole = parse_lines(&text);
        assert_eq!(whole.len(), 4);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peers");
        for bit in 0..text.len() * 8 {
            let mut flipped = text.clone().into_bytes();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &flipped).unwrap();
            let read = parse_lines(&read_text(&path).unwrap());
            // A line end that is none any more makes one line of two; whom an address leads to proves who it is.
            let kept = whole.iter().filter(|address| read.contains(address)).count();
            assert!(kept >= 2 && read.len() <= 5, "bit {bit}: {read:?}");
        }
    }

    #[test]
    fn lines_that_are_no_address_are_left_out() {
        let text = "\n# a comment\n/ip4/10.0.0.1/tcp/1 # home\nnonsense\n\u{fffd}\n/ip4/10.0.0.2/tcp/1\n";
        assert_eq!(parse_lines(text).len(), 2);
    }
}
