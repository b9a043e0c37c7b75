//! The data directory and the files that a node does not start without.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use magpie_core::time::Wall;
use magpie_net::{ClusterKey, KeyRotation, NodeKey, PeerRule, PeerRules};
use rustix::fs::{Access, access};

use super::place::Place;
use super::{Check, Heard};
use crate::cli::human;
use crate::config::read_ticket;
use crate::mcp::http::tokens::{NONE_TAKEN, TokenFile};

/// The file of the bearer tokens that HTTP takes: as the configuration names it, or as a running node says of it.
pub(super) fn tokens(place: &Place, heard: Option<&Heard>) -> Option<Check> {
    const NAME: &str = "tokens";
    let remedy = "correct the file, or take a token out of it with `nodectl token bearer remove`; the node reads it again by itself";
    let http = &place.config.http;
    let read = http.listen.and(http.tokens.as_deref()).map(|file| (file, TokenFile::read(file)));
    match read {
        Some((_, Err(error))) => Some(Check::fault(NAME, format!("{NONE_TAKEN}: {error}"), remedy)),
        Some((file, Ok(read))) => {
            Some(Check::ok(NAME, format!("{} has {} bearer tokens", file.display(), read.token.len())))
        }
        None => {
            let said = heard?.status.notices.iter().find(|notice| notice.starts_with(NONE_TAKEN))?;
            Some(Check::fault(NAME, said.clone(), remedy))
        }
    }
}

pub(super) fn check(place: &Place) -> Vec<Check> {
    let Some(dir) = &place.data_dir else {
        let found = "no data directory: neither --data-dir nor XDG_DATA_HOME nor HOME is set";
        return vec![Check::fault("data_dir", found, "name it: --data-dir DIR")];
    };
    let mut checks =
        vec![data_dir(dir), identity(&dir.join("identity.key")), admission(place, &dir.join("peer.rules"))];
    checks.extend(rotation(place, &dir.join("cluster.rotation"), human::now()));
    checks
}

fn data_dir(dir: &Path) -> Check {
    const NAME: &str = "data_dir";
    let at = dir.display();
    let metadata = match fs::metadata(dir) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return missing(dir),
        Err(error) => return Check::fault(NAME, format!("{at}: {error}"), "name a directory that this user may use"),
    };
    if !metadata.is_dir() {
        return Check::fault(
            NAME,
            format!("{at} is not a directory"),
            "move the file away, or name another data directory",
        );
    }
    match access(dir, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => {}
        Err(rustix::io::Errno::ROFS) => {
            let remedy = "make its file system writable again (`mount -o remount,rw`), or name another data directory";
            return Check::fault(NAME, format!("{at} is on a read-only file system"), remedy);
        }
        Err(error) => {
            let remedy = format!("give it to the user of the node: `chown -R USER {at}`");
            return Check::fault(NAME, format!("this user may not write in {at}: {error}"), remedy);
        }
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let remedy = format!("`chmod 700 {at}`");
        return Check::warning(NAME, format!("{at} is open to other users (mode {mode:03o})"), remedy);
    }
    Check::ok(NAME, format!("{at} can be written"))
}

/// A first start makes it.
fn missing(dir: &Path) -> Check {
    const NAME: &str = "data_dir";
    let at = dir.display();
    let existing = dir.ancestors().find(|ancestor| ancestor.exists());
    match existing.map(|above| (above, access(above, Access::WRITE_OK | Access::EXEC_OK))) {
        Some((above, Ok(()))) if above.is_dir() => Check::warning(
            NAME,
            format!("{at} is not there yet"),
            "nothing, if no node was started here: its first start makes it",
        ),
        Some((above, _)) => {
            let found = format!("{at} is not there, and cannot be made in {}", above.display());
            Check::fault(NAME, found, "name a directory that this user may write: --data-dir DIR")
        }
        None => Check::fault(NAME, format!("{at} cannot be made"), "name an absolute path: --data-dir DIR"),
    }
}

fn identity(path: &Path) -> Check {
    const NAME: &str = "identity_key";
    match NodeKey::load(path) {
        Ok(Some(key)) => Check::ok(NAME, format!("{} is {}", path.display(), key.peer_id())),
        Ok(None) => Check::warning(
            NAME,
            format!("{} is not there yet", path.display()),
            "nothing: a node's first start makes it",
        ),
        Err(error) => {
            let remedy = format!(
                "`chmod 600 {0}`; if it is damaged, restore it from a backup: without it the node is another peer",
                path.display()
            );
            Check::fault(NAME, error.to_string(), remedy)
        }
    }
}

/// The key that took the place of the configured one, if one did: a node starts with it, or not at all.
fn rotation(place: &Place, path: &Path, now: Wall) -> Option<Check> {
    const NAME: &str = "cluster_key";
    let rotation = match KeyRotation::load(path) {
        Ok(rotation) => rotation?,
        Err(error) => {
            let remedy = "restore it from a backup, or `chmod 600` it; without it the node holds the key that its configuration names";
            return Some(Check::fault(NAME, error.to_string(), remedy));
        }
    };
    let held = rotation.key.issuing_key().cluster();
    let former = match rotation.former(now) {
        Some(_) => format!("the former one admits until {}", rotation.until),
        None => format!("the former one opens nothing since {}", rotation.until),
    };
    // What cannot be read is told of the admission.
    let named = ClusterKey::load(place.config.cluster_key.as_ref()?).ok()?;
    if !rotation.is_of(&named) {
        let found = format!("{} is about other keys than the configured one, which is held", path.display());
        let remedy =
            "nothing, if the node was given another mesh's key on purpose; else name the newest key in `cluster_key`";
        return Some(Check::warning(NAME, found, remedy));
    }
    let found = format!("the key of {held} took the place of another; {former}");
    if named.issuing_key().cluster() == held {
        return Some(Check::ok(NAME, found));
    }
    let remedy =
        "put the file of the newest key into the configuration: another data directory knows nothing of the change";
    Some(Check::warning(NAME, format!("{found}; the configuration names one that was replaced"), remedy))
}

/// A ticket that admits this node nowhere. Who issued it is known to others alone.
fn ticket_damage(file: &Path, now: Wall) -> Option<Check> {
    let fault = |what: String| {
        let remedy = "have another issued for this node by a holder of the cluster key";
        Some(Check::fault("admission", format!("the ticket {}: {what}", file.display()), remedy))
    };
    match read_ticket(file) {
        Ok(signed) if signed.ticket.expires <= now => fault(format!("it ended at {}", signed.ticket.expires)),
        Ok(_) => None,
        Err(problem) => fault(problem),
    }
}

/// Who is admitted at all.
fn admission(place: &Place, path: &Path) -> Check {
    const NAME: &str = "admission";
    let rules = match PeerRules::open(path) {
        Ok(rules) => rules.all(),
        Err(error) => {
            let remedy = "correct the line, or `chmod 600` the file; a node does not start with it, since a lost line could be a denial";
            return Check::fault(NAME, error.to_string(), remedy);
        }
    };
    let denied = rules.iter().filter(|(_, rule)| *rule == PeerRule::Deny).count();
    let listed = rules.len() - denied + place.config.allow.len();
    if let Some(damage) = place.config.ticket_file.as_deref().and_then(|file| ticket_damage(file, human::now())) {
        return damage;
    }
    let shows_otherwise = place.config.ticket_file.is_some() || place.config.cluster_public.is_some();
    let Some(file) = &place.config.cluster_key else {
        let found = format!("{listed} peers are allowed by name, {denied} denied");
        return if listed > 0 || shows_otherwise || !place.is_configured {
            Check::ok(NAME, found)
        } else {
            let remedy =
                "set `cluster_key = \"FILE\"`, the same on every node, or `nodectl peer allow PEER` on both sides";
            Check::warning(NAME, "no cluster key and no allowed peer: this node admits nobody", remedy)
        };
    };
    match ClusterKey::load(file) {
        Ok(_) => Check::ok(
            NAME,
            format!("{} holds a key; {listed} peers are allowed by name, {denied} denied", file.display()),
        ),
        Err(error) => {
            let remedy = "copy the file from another node of the mesh, and `chmod 600` it; all nodes have the same";
            Check::fault(NAME, format!("the cluster key: {error}"), remedy)
        }
    }
}
