//! Bringing a node into a mesh.

use serde_json::json;

use super::{ArgumentEntry, Given, Part, PromptEntry, text};
use crate::mcp::completion::Source;

pub const PROMPT: PromptEntry = PromptEntry {
    name: "join_mesh",
    title: "Join a mesh",
    description: "Connects this node to the nodes of a mesh, and finds out why it is not let in.",
    arguments: &[ArgumentEntry {
        name: "address",
        description: "where a member listens, as /ip4/10.0.0.5/tcp/4001; without it the configured ways are tried",
        required: false,
        source: Source::Free,
    }],
    write,
};

fn write(given: &Given) -> Vec<Part> {
    let mut parts = vec![
        text("Bring this node into a mesh. First look at how it stands and by which ways it looks for others:"),
        Part::Call("get_p2p_network_status", json!({})),
        Part::Call("p2p_bootstrap_list", json!({})),
    ];
    match given.text("address") {
        Some(address) => {
            parts.extend([text("\nThen dial the member:"), Part::Call("peer_connect", json!({"address": address}))])
        }
        None => parts.extend([
            text("\nThen let it look for peers in every configured way; it says why a dial came to nothing:"),
            Part::Call("peer_discover", json!({"wait_ms": 10_000})),
            text("If nobody is found, ask for the address of one member, as /ip4/10.0.0.5/tcp/4001, and dial it:"),
            Part::Call("peer_connect", json!({"address": "/ip4/10.0.0.5/tcp/4001"})),
        ]),
    }
    parts.extend([
        text(
            "\nIf it answers not_admitted, the two do not admit each other. Tell the operator which of these to do; none of \
             them is a call:\n\
             - Both nodes name the same key: `cluster_key = FILE` in their configurations.\n\
             - At a node that holds the key: `nodectl token issue --peer PEER_ID --role peer --expires 30d > ticket`, with \
             the peer_id of this node; here `ticket_file = FILE` in the configuration.\n\
             - For this peer alone: `nodectl peer allow PEER_ID` at each of the two.\n\
             The peer_id of this node is in:",
        ),
        Part::Call("p2p_taskqueue_status", json!({})),
        text(
            "If it answers not_connected, the address is wrong, nobody listens there, or a firewall is between; this node \
             goes on dialling it.\n\nWhen it is connected, see who is there and what they can run:",
        ),
        Part::Call("list_peers", json!({"include_capabilities": true})),
        text(
            "A node remembers its members, so it finds them again after a restart. Say so, and that `bootstrap = [ADDRESS]` \
             in its configuration does the same for a new data directory.",
        ),
    ]);
    parts
}
