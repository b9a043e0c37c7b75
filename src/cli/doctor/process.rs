//! Whether a node runs and answers.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

use magpie_core::queue::Refusal;

use super::place::Place;
use super::{Check, Heard};
use crate::cli::connection::NodeLink;
use crate::client::ClientError;
use crate::messages::node::{NodeReply, NodeRequest};
use crate::messages::peer::{PeerReply, PeerRequest};
use crate::messages::{Answer, Body};

const NAME: &str = "node";
/// Longer than a node takes that has time for nothing else.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a node that answers says of itself.
pub(super) async fn check(place: &Place) -> (Check, Option<Heard>) {
    let Some(socket) = &place.socket else {
        let found = "no control socket: neither --control nor XDG_DATA_HOME nor HOME is set";
        return (Check::fault(NAME, found, "name the node's socket: --control PATH"), None);
    };
    match ask(socket).await {
        Ok(heard) => {
            let status = &heard.status;
            let ours = env!("CARGO_PKG_VERSION");
            let found = format!("{} answers at {} (version {})", status.peer_id, socket.display(), status.version);
            let check = if status.version == ours {
                Check::ok(NAME, found)
            } else {
                Check::warning(NAME, format!("{found}; nodectl is {ours}"), "use the nodectl of the node's version")
            };
            (check, Some(heard))
        }
        Err(error) => (unreachable(place, socket, &error), None),
    }
}

async fn ask(socket: &Path) -> Result<Heard, ClientError> {
    let link = NodeLink::new(socket.to_owned());
    let status = match link.try_ask(Body::Node(NodeRequest::Status), PATIENCE).await? {
        Answer::Node(NodeReply::Status(status)) => *status,
        _ => return Err(ClientError::Unexpected),
    };
    let contacts = match link.try_ask(Body::Peer(PeerRequest::Contacts), PATIENCE).await? {
        Answer::Peer(PeerReply::Contacts(contacts)) => contacts,
        _ => return Err(ClientError::Unexpected),
    };
    Ok(Heard { status, contacts })
}

fn unreachable(place: &Place, socket: &Path, error: &ClientError) -> Check {
    let at = socket.display();
    match error {
        ClientError::Unreachable { source, .. } => match source.kind() {
            io::ErrorKind::PermissionDenied => {
                let found = format!("{at} may not be opened by this user");
                Check::fault(NAME, found, "run nodectl as the user of the node: its socket is for that user only")
            }
            io::ErrorKind::ConnectionRefused => not_running(place, &format!("{at} is left from a node that ended")),
            io::ErrorKind::NotFound => not_running(place, &format!("there is no socket {at}")),
            _ => Check::fault(NAME, error.to_string(), "name the node's socket: --control PATH"),
        },
        ClientError::TimedOut { patience } => {
            let found = format!("the node behind {at} does not answer within {} s", patience.as_secs());
            let remedy = "it is stopped (kill -CONT), starved of CPU, or hangs: look at its log, then kill it and start \
                          it again; nothing that it acknowledged is lost";
            Check::fault(NAME, found, remedy)
        }
        ClientError::Refused(Refusal::Overloaded { what, .. }) => {
            let remedy = "end some of what has it open (`lsof -p PID`), or let it have more: `ulimit -n`, `LimitNOFILE=` of its unit";
            Check::fault(NAME, format!("the node behind {at} takes no client: {what}"), remedy)
        }
        ClientError::NotAdmitted { .. }
        | ClientError::Closed
        | ClientError::Unexpected
        | ClientError::Refused(_)
        | ClientError::TooLarge(_) => {
            let remedy =
                "use the nodectl of the node's version; if it is, try again: the node may be restarting an actor";
            Check::fault(NAME, format!("the node behind {at}: {error}"), remedy)
        }
    }
}

/// The lock tells whether a node runs that has its socket elsewhere.
fn not_running(place: &Place, found: &str) -> Check {
    match place.data_dir.as_deref().and_then(holder) {
        Some(pid) => {
            let remedy = format!(
                "name its socket: --control PATH (`control` in its configuration, or see `ls -l /proc/{pid}/cwd`)"
            );
            Check::fault(NAME, format!("{found}, but process {pid} holds the data directory"), remedy)
        }
        None => {
            let start =
                place.data_dir.as_ref().map_or_else(String::new, |dir| format!(" --data-dir {}", dir.display()));
            let (found, remedy) = (format!("{found}: no node runs here"), format!("start it: `node{start}`"));
            // Whoever names a configuration may want to know about it before the first start.
            match place.is_configured {
                true => Check::warning(NAME, found, remedy),
                false => Check::fault(NAME, found, remedy),
            }
        }
    }
}

/// The process that holds a data directory, if one does.
fn holder(dir: &Path) -> Option<String> {
    let path = dir.join("lock");
    let lock = File::open(&path).ok()?;
    match lock.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(fs::read_to_string(&path).ok()?.trim().to_owned()),
        Ok(()) | Err(TryLockError::Error(_)) => None,
    }
}
