//! Which nodes mount a server that this one does not: asked when a tool of it is called, and kept nowhere.

use magpie_core::ids::PeerId;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::super::mounts::{self, MountedCall, MountedName};
use super::FarCall;
use crate::mcp::answer::{Next, ToolError};
use crate::mcp::dispatch::Ran;
use crate::mcp::handler::Call;
use crate::mcp::link::{self, PATIENCE};
use crate::messages::mount::{MountReply, MountRequest, MountView};
use crate::messages::tool::{ToolAsk, ToolReply};

/// Nodes that one call asks, of those that are alive.
const ASKED_MAX: usize = 32;

/// Where a tool is that a server offers.
pub enum Nearest {
    Here,
    At(PeerId),
}

/// This node if it mounts the server of `name`; else of the nodes that do, one that reaches it, with the fewest calls.
///
/// # Errors
/// `not_mounted` if no node does that answers.
pub async fn nearest(name: &str, call: &Call<'_>) -> Result<Nearest, ToolError> {
    let Some(name) = MountedName::of(name) else { return Ok(Nearest::Here) };
    let MountReply::Servers(own) = call.link.mount(MountRequest::List, 0).await? else {
        return Err(link::unexpected());
    };
    if own.iter().any(|server| server.server == name.server) {
        return Ok(Nearest::Here);
    }
    let nodes = nodes_with(&name.server, call).await?;
    nodes.first().copied().map(Nearest::At).ok_or_else(|| {
        let message = format!("neither this node nor one that it reaches mounts a server {:?}", shown(&name.server));
        let next = Next::new("tools_list_categories", json!({}), 0);
        ToolError::new("not_mounted", message, "mount it: `[mcp.servers.NAME]` in a node's configuration").next(next)
    })
}

/// The call of a server that this node mounts itself.
pub async fn call_here(far: FarCall, call: &Call<'_>) -> Result<Ran, ToolError> {
    let FarCall { name, arguments, .. } = far;
    let Some(name) = MountedName::of(&name) else { return Err(ToolError::internal(&"a tool of no server is here")) };
    let mounted = MountedCall { name, arguments, reads_only: false, wait_ms: None };
    mounts::call(mounted, call).await.map(Ran::mounted)
}

/// Calls a tool of a server that this node should mount. If it does not, the error names a node that does.
///
/// # Errors
/// As [`mounts::call`].
pub async fn call_mounted(mounted: MountedCall, call: &Call<'_>) -> Result<Value, ToolError> {
    let (name, arguments) = (mounted.name.clone(), mounted.arguments.clone());
    match mounts::call(mounted, call).await {
        Err(error) if error.field.as_deref() == Some("server") => {
            let nodes = nodes_with(&name.server, call).await.unwrap_or_default();
            Err(elsewhere(error, &nodes, &name, &Value::Object(arguments)))
        }
        called => called,
    }
}

fn elsewhere(error: ToolError, nodes: &[PeerId], name: &MountedName, arguments: &Value) -> ToolError {
    let Some(first) = nodes.first() else { return error };
    let fix = match nodes.len() {
        1 => format!("{first} mounts it: call it there"),
        nodes => format!("{first} mounts it, as {} other nodes do: call it there", nodes - 1),
    };
    let arguments = json!({"peer_id": first.to_string(), "name": name.to_string(), "arguments": arguments});
    ToolError { fix, ..error }.next(Next::new("p2p_taskqueue_call_tool", arguments, 0))
}

/// The nodes that mount `server`, the best to ask first.
async fn nodes_with(server: &str, call: &Call<'_>) -> Result<Vec<PeerId>, ToolError> {
    let peers = call.link.status(PATIENCE).await?.peers.into_iter();
    let alive = peers.filter(|peer| peer.state == "alive").map(|peer| peer.peer_id).take(ASKED_MAX);
    let mut asking = JoinSet::new();
    for peer in alive {
        let link = call.link.clone();
        asking.spawn(async move { (peer, link.tool_at(peer, ToolAsk::Mounts).await) });
    }
    let mut found = Vec::new();
    while let Some(asked) = asking.join_next().await {
        // One that is away, or of an earlier version, mounts nothing that could be called.
        if let Ok((peer, Ok(ToolReply::Mounts(servers)))) = asked {
            found.extend(servers.into_iter().filter(|view| view.server == server).map(|view| (peer, view)));
        }
    }
    Ok(by_worth(found))
}

/// Those that reach their server first, then those with fewer calls under way.
fn by_worth(mut found: Vec<(PeerId, MountView)>) -> Vec<PeerId> {
    found.sort_by_key(|(peer, view)| (!view.up, view.calls, *peer));
    found.into_iter().map(|(peer, _)| peer).collect()
}

fn shown(server: &str) -> String {
    server.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(up: bool, calls: usize) -> MountView {
        let (server, description) = ("shop".to_owned(), String::new());
        MountView { server, description, up, last_error: None, tools: 1, left_out: 0, restarts: 0, calls }
    }

    #[test]
    fn a_node_that_reaches_its_server_goes_before_an_idle_one_that_does_not() {
        let peer = |seed: u8| PeerId([seed; 32]);
        let found = vec![(peer(1), view(false, 0)), (peer(2), view(true, 3)), (peer(3), view(true, 1))];
        assert_eq!(by_worth(found), [peer(3), peer(2), peer(1)]);
    }

    #[test]
    fn who_calls_a_server_that_is_not_here_is_told_where_it_is() {
        let name = MountedName::of("shop.echo").unwrap();
        let error = ToolError::new("invalid", "this node mounts no server \"shop\"", "mount one");
        assert_eq!(elsewhere(error.clone(), &[], &name, &json!({})), error);
        let peer = PeerId([1; 32]);
        let told = elsewhere(error, &[peer], &name, &json!({"text": "x"}));
        assert!(told.fix.contains(&peer.to_string()), "{told}");
        let next = told.next.unwrap();
        assert_eq!((&*next.tool, &next.arguments["arguments"]["text"]), ("p2p_taskqueue_call_tool", &json!("x")));
    }
}
