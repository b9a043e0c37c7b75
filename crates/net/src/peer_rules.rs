//! What a person decided about single peers: who is admitted without the cluster key, and who is not even with it.
//!
//! Text, one rule a line (`allow PEER`, `deny PEER`), for its owner only and replaced in one step. A file that cannot be
//! read in full is refused: a line that is passed over could be the one that keeps somebody out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use magpie_core::ids::PeerId;

use crate::limits;
use crate::secret_file::{self, SecretFileError};

const HEAD: &str = "# magpie peer rules 1: allow PEER, deny PEER";

/// A rule about one peer. It goes before the cluster key and the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerRule {
    /// Admitted without a proof.
    Allow,
    /// Never admitted, whatever it proves.
    Deny,
}

impl PeerRule {
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// Rules that could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum PeerRulesError {
    #[error("{}:{line}: {text:?} is no rule, as `allow 12D3KooW...` or `deny 12D3KooW...`", path.display())]
    NoRule { path: PathBuf, line: usize, text: String },
    #[error("{count} rules, at most {count_max}", count_max = limits::PEER_RULES_MAX)]
    TooMany { count: usize },
    #[error(transparent)]
    File(#[from] SecretFileError),
}

/// Why a rule keeps a peer out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShutOut {
    #[error("this node's own list denies it (`nodectl peer allow PEER` takes that back)")]
    Denied,
    #[error("it was disconnected by hand (`nodectl peer connect` or `peer discover` takes that back)")]
    Disconnected,
}

/// The rules of one node, shared by whoever asks for them and the one that changes them.
#[derive(Debug, Clone, Default)]
pub struct PeerRules(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    path: Option<PathBuf>,
    kept: RwLock<Kept>,
    /// One change at a time, so that the file says what the memory does.
    changing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Kept {
    rules: BTreeMap<PeerId, PeerRule>,
    /// Disconnected by hand, until the process ends or they are asked for again.
    disconnected: BTreeSet<PeerId>,
}

impl PeerRules {
    /// The rules in the file at `path`, which need not be there.
    ///
    /// # Errors
    /// If it cannot be read, others may read it, or a line is no rule.
    pub fn open(path: &Path) -> Result<Self, PeerRulesError> {
        let is_one = |text: &str| parse(path, text).is_ok();
        let text = secret_file::read_long(path, "peer rules", limits::PEER_FILE_BYTES_MAX, is_one)?;
        let text = text.unwrap_or_default();
        let rules = parse(path, &text)?;
        let kept = RwLock::new(Kept { rules, disconnected: BTreeSet::new() });
        Ok(Self(Arc::new(Inner { path: Some(path.to_owned()), kept, changing: Mutex::default() })))
    }

    /// All rules, by peer.
    pub fn all(&self) -> Vec<(PeerId, PeerRule)> {
        self.kept().rules.iter().map(|(peer, rule)| (*peer, *rule)).collect()
    }

    pub fn of(&self, peer: PeerId) -> Option<PeerRule> {
        self.kept().rules.get(&peer).copied()
    }

    /// Keeps a rule; it is on the disk when this returns. Blocks.
    ///
    /// # Errors
    /// If there are too many, or the disk refuses: then nothing is changed.
    pub fn set(&self, peer: PeerId, rule: PeerRule) -> Result<(), PeerRulesError> {
        let _one_at_a_time = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rules = self.kept().rules.clone();
        rules.insert(peer, rule);
        if rules.len() > limits::PEER_RULES_MAX {
            return Err(PeerRulesError::TooMany { count: rules.len() });
        }
        if let Some(path) = &self.0.path {
            secret_file::replace(path, &format(&rules))?;
        }
        let mut kept = self.kept_mut();
        kept.rules = rules;
        if rule == PeerRule::Allow {
            kept.disconnected.remove(&peer);
        }
        Ok(())
    }

    /// Whether a rule admits `peer` without a proof.
    ///
    /// # Errors
    /// If one keeps it out.
    pub(crate) fn admits(&self, peer: PeerId) -> Result<bool, ShutOut> {
        let kept = self.kept();
        match kept.rules.get(&peer) {
            Some(PeerRule::Deny) => Err(ShutOut::Denied),
            _ if kept.disconnected.contains(&peer) => Err(ShutOut::Disconnected),
            Some(PeerRule::Allow) => Ok(true),
            None => Ok(false),
        }
    }

    /// Keeps `peer` out until it is asked for again. Of too many, the first by id is let in again.
    pub(crate) fn disconnect(&self, peer: PeerId) {
        let mut kept = self.kept_mut();
        kept.disconnected.insert(peer);
        if kept.disconnected.len() > limits::PEERS_MAX {
            kept.disconnected.pop_first();
        }
    }

    pub(crate) fn ask_for(&self, peer: PeerId) {
        self.kept_mut().disconnected.remove(&peer);
    }

    pub(crate) fn ask_for_all(&self) {
        self.kept_mut().disconnected.clear();
    }

    fn kept(&self) -> RwLockReadGuard<'_, Kept> {
        self.0.kept.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept_mut(&self) -> RwLockWriteGuard<'_, Kept> {
        self.0.kept.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parse(path: &Path, text: &str) -> Result<BTreeMap<PeerId, PeerRule>, PeerRulesError> {
    let mut rules = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let said = line.split('#').next().unwrap_or_default().trim();
        if said.is_empty() {
            continue;
        }
        let no_rule = || PeerRulesError::NoRule {
            path: path.to_owned(),
            line: index + 1,
            text: said.chars().take(100).collect(),
        };
        let (rule, peer) = said.split_once(char::is_whitespace).ok_or_else(no_rule)?;
        let rule = match rule {
            "allow" => PeerRule::Allow,
            "deny" => PeerRule::Deny,
            _ => return Err(no_rule()),
        };
        rules.insert(peer.trim().parse().map_err(|_| no_rule())?, rule);
    }
    if rules.len() > limits::PEER_RULES_MAX {
        return Err(PeerRulesError::TooMany { count: rules.len() });
    }
    Ok(rules)
}

fn format(rules: &BTreeMap<PeerId, PeerRule>) -> String {
    let lines = rules.iter().map(|(peer, rule)| format!("{} {peer}\n", rule.name()));
    format!("{HEAD}\n{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt;

    const ALICE: PeerId = PeerId([1; 32]);
    const BOB: PeerId = PeerId([2; 32]);

    #[test]
    fn a_rule_is_on_the_disk_for_its_owner_only_and_the_last_one_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peer.rules");
        let rules = PeerRules::open(&path).unwrap();
        assert_eq!(rules.admits(ALICE), Ok(false));
        rules.set(ALICE, PeerRule::Allow).unwrap();
        rules.set(BOB, PeerRule::Deny).unwrap();
        assert_eq!((rules.admits(ALICE), rules.admits(BOB)), (Ok(true), Err(ShutOut::Denied)));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing but the file stays");
        let again = PeerRules::open(&path).unwrap();
        assert_eq!(again.all(), rules.all());
        again.set(BOB, PeerRule::Allow).unwrap();
        assert_eq!(PeerRules::open(&path).unwrap().of(BOB), Some(PeerRule::Allow));
    }

    #[test]
    fn a_peer_that_was_disconnected_stays_out_until_it_is_asked_for() {
        let rules = PeerRules::default();
        rules.disconnect(ALICE);
        assert_eq!((rules.admits(ALICE), rules.admits(BOB)), (Err(ShutOut::Disconnected), Ok(false)));
        rules.ask_for(ALICE);
        assert_eq!(rules.admits(ALICE), Ok(false));
        rules.disconnect(ALICE);
        rules.set(ALICE, PeerRule::Allow).unwrap();
        assert_eq!(rules.admits(ALICE), Ok(true), "who is allowed is asked for");
        rules.disconnect(BOB);
        rules.set(BOB, PeerRule::Deny).unwrap();
        rules.ask_for_all();
        assert_eq!(rules.admits(BOB), Err(ShutOut::Denied), "a denied peer is not asked for");
    }

    #[test]
    fn of_too_many_that_were_disconnected_some_come_back() {
        let rules = PeerRules::default();
        for n in 0..limits::PEERS_MAX as u32 + 10 {
            let mut peer = [0; 32];
            peer[..4].copy_from_slice(&n.to_be_bytes());
            rules.disconnect(PeerId(peer));
        }
        assert_eq!(rules.kept().disconnected.len(), limits::PEERS_MAX);
    }

    #[test]
    fn what_cannot_be_read_in_full_is_refused_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peer.rules");
        for wrong in ["deny", "deny nobody", "forbid 12D3KooW", "\u{fffd}"] {
            secret_file::replace(&path, &format!("{HEAD}\nallow {ALICE} # home\n{wrong}\n")).unwrap();
            let words = PeerRules::open(&path).unwrap_err().to_string();
            assert!(words.contains(":3: ") && words.contains("is no rule"), "{words}");
        }
        secret_file::replace(&path, &format!("{HEAD}\nallow {ALICE}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(PeerRules::open(&path).unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn a_disk_that_refuses_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let rules = PeerRules::open(&folder.path().join("absent/peer.rules")).unwrap();
        assert!(rules.set(ALICE, PeerRule::Deny).is_err());
        assert_eq!(rules.admits(ALICE), Ok(false));
    }

    proptest! {
        #[test]
        fn rules_survive_their_file(rules in prop::collection::btree_map(any::<[u8; 32]>(), any::<bool>(), 0..20)) {
            let rule = |allow| if allow { PeerRule::Allow } else { PeerRule::Deny };
            let rules: BTreeMap<_, _> = rules.into_iter().map(|(peer, allow)| (PeerId(peer), rule(allow))).collect();
            prop_assert_eq!(parse(Path::new("x"), &format(&rules)).unwrap(), rules);
        }
    }
}
