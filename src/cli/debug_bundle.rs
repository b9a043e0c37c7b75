//! `nodectl debug-bundle`: what a colleague elsewhere needs to see, in one file.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use magpie_core::queue::LedgerRequest;
use magpie_core::time::Wall;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::args::Context;
use super::doctor::DoctorArgs;
use super::exit::{CommandError, Exit};
use super::output::json_pretty;
use super::{human, table};
use crate::messages::Body;
use crate::messages::access::AccessRequest;
use crate::messages::actor::ActorRequest;
use crate::messages::audit::{AuditAsk, CALLS_READ_MAX};
use crate::messages::clock::ClockRequest;
use crate::messages::device::DeviceActorRequest;
use crate::messages::node::{LogsAsk, NodeRequest};
use crate::messages::peer::PeerRequest;
use crate::messages::registry::RegistryRequest;
use crate::messages::worker::WorkerRequest;

/// Lines of the node's own log, the newest.
const LOG_LINES: usize = 500;
/// A node that is well answers sooner, and of one that is not this is what the bundle is for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Write all that a helper needs to see of this node to a file
///
/// It holds no key and no token. It does hold addresses, names, log lines and the arguments of tool calls: read it before you
/// give it away. What the node does not answer stands there with the reason, so it is of use when something is wrong.
#[derive(Debug, Args)]
pub struct DebugBundleArgs {
    /// A file that is not there yet; JSON
    file: PathBuf,
}

/// The file.
#[derive(Serialize)]
struct Bundle {
    made_at: Wall,
    nodectl: &'static str,
    system: String,
    /// What the node answered, or `{error}`, each by the name of what was asked.
    node: BTreeMap<&'static str, Value>,
    /// Of this machine: nothing of a node elsewhere.
    doctor: Option<Value>,
}

impl DebugBundleArgs {
    pub async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        if self.file.exists() {
            return Err(CommandError::usage(format!(
                "{} exists; name a file that is not there yet",
                self.file.display()
            )));
        }
        let node = answers(context).await;
        let doctor = match context.link.socket().map(Path::to_owned) {
            Some(socket) => Some(json!(DoctorArgs::default().report(Some(socket)).await)),
            None => None,
        };
        let failed: Vec<&str> =
            node.iter().filter(|(_, answer)| answer.get("error").is_some()).map(|(name, _)| *name).collect();
        let system = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
        let bundle = Bundle { made_at: human::now(), nodectl: env!("CARGO_PKG_VERSION"), system, node, doctor };
        let text = json_pretty(&bundle);
        write(&self.file, &text)
            .map_err(|error| CommandError::usage(format!("{} cannot be written: {error}", self.file.display())))?;
        let (shown, len) = (self.file.display().to_string(), text.len() as u64);
        let document = json!({"file": shown, "bytes": len, "unanswered": failed});
        context.document(&document, || {
            let rest = if failed.is_empty() { String::new() } else { format!("; not answered: {}", failed.join(", ")) };
            format!("{}: {}{rest}; read it before you give it away\n", table::printable(&shown), human::bytes(len))
        })?;
        Ok(Exit::Ok)
    }
}

/// What the node answers to each question. All are asked at once: one whose actor stands still costs no more than its time.
async fn answers(context: &Context) -> BTreeMap<&'static str, Value> {
    let asked = questions().into_iter().map(|(name, body)| {
        let link = context.link.clone();
        async move {
            let answer = link.try_ask(body, PATIENCE).await;
            (name, answer.map_or_else(|error| json!({"error": error.to_string()}), |answer| json!(answer)))
        }
    });
    asked.collect::<JoinSet<_>>().join_all().await.into_iter().collect()
}

/// Nothing that is there is written over.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let mut made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    made.write_all(text.as_bytes())?;
    made.sync_all()
}

/// Nothing here changes anything, and no answer holds a secret.
fn questions() -> [(&'static str, Body); 14] {
    let logs = LogsAsk { limit: LOG_LINES, ..LogsAsk::default() };
    let calls = AuditAsk { since: None, principal: None, tool: None, outcome: None, limit: CALLS_READ_MAX };
    [
        ("actors", Body::Actor(ActorRequest::Tree)),
        ("audit", Body::Node(NodeRequest::Audit(calls))),
        ("capabilities", Body::Registry(RegistryRequest::Capabilities)),
        ("clock", Body::Clock(ClockRequest::Show)),
        ("contacts", Body::Peer(PeerRequest::Contacts)),
        ("devices", Body::Device(DeviceActorRequest::List)),
        ("homes", Body::Node(NodeRequest::Homes)),
        ("keys", Body::Access(AccessRequest::ShowKey)),
        ("logs", Body::Node(NodeRequest::Logs(logs))),
        ("metrics", Body::Peer(PeerRequest::Metrics { peer: None })),
        ("peer_rules", Body::Peer(PeerRequest::Rules)),
        ("queue", Body::Ledger(LedgerRequest::Stats)),
        ("status", Body::Node(NodeRequest::Status)),
        ("worker", Body::Worker(WorkerRequest::Stats)),
    ]
}
