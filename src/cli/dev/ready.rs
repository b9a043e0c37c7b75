//! When the nodes of `nodectl dev` are one mesh.

use std::time::Duration;

use tokio::task::JoinSet;

use super::directory::DevDirectory;
use super::nodes::Nodes;
use crate::cli::connection::NodeLink;
use crate::cli::deadline::Deadline;
use crate::cli::exit::{CommandError, Exit};
use crate::messages::node::{NodeReply, NodeRequest};
use crate::messages::{Answer, Body};

const READY_WITHIN: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_millis(50);
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// Waits until each node sees all others alive.
///
/// # Errors
/// Exit code 4 with the end of its log if a node ends before, 5 if it takes too long.
pub async fn wait(directory: &DevDirectory, nodes: &mut Nodes) -> Result<(), CommandError> {
    let deadline = Deadline::after(READY_WITHIN);
    let others = directory.nodes().len() - 1;
    let mut asking = JoinSet::new();
    for node in directory.nodes() {
        let (link, name) = (NodeLink::new(node.socket()), node.name());
        asking.spawn(async move { until_it_sees(&link, &name, others, deadline).await });
    }
    loop {
        tokio::select! {
            seen = asking.join_next() => match seen {
                None => return Ok(()),
                Some(Ok(seen)) => seen?,
                Some(Err(error)) => return Err(CommandError::new(Exit::Failed, error.to_string())),
            },
            () = tokio::time::sleep(POLL_EVERY) => nodes.check_all_live()?,
        }
    }
}

async fn until_it_sees(link: &NodeLink, name: &str, others: usize, deadline: Deadline) -> Result<(), CommandError> {
    loop {
        let alive = alive_peers(link).await;
        if alive.is_some_and(|alive| alive >= others) {
            return Ok(());
        }
        if deadline.has_passed() {
            let seen = alive.map_or_else(|| "does not answer".to_owned(), |alive| format!("sees {alive} of {others}"));
            return Err(CommandError::new(Exit::TimedOut, format!("after {} s {name} {seen}", READY_WITHIN.as_secs())));
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

/// How many others a node sees; none while it does not answer.
async fn alive_peers(link: &NodeLink) -> Option<usize> {
    match link.try_ask(Body::Node(NodeRequest::Status), ANSWER_PATIENCE).await {
        Ok(Answer::Node(NodeReply::Status(status))) => {
            Some(status.peers.iter().filter(|peer| peer.state == "alive").count())
        }
        _ => None,
    }
}
