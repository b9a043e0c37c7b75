//! What a person does about a peer.

use magpie_core::ids::PeerId;
use serde_json::json;

use super::{ConnectArgs, ask, named};
use crate::cli::args::Context;
use crate::cli::connection::{ANSWER_PATIENCE, unexpected};
use crate::cli::exit::{CommandError, Exit};
use crate::cli::table;
use crate::messages::peer::{PeerReply, PeerRequest, RuleName};
use crate::messages::{Answer, Body};

pub async fn connect(context: &Context, args: ConnectArgs) -> Result<Exit, CommandError> {
    let ConnectArgs { address, timeout } = args;
    magpie_net::check_address(&address).map_err(|error| CommandError::usage(error.to_string()))?;
    let request = PeerRequest::Connect { address: address.clone(), patience_ms: timeout.as_millis() as u64 };
    match context.link.try_ask(Body::Peer(request), timeout + ANSWER_PATIENCE).await? {
        Answer::Peer(PeerReply::Connected { peer, elsewhere }) => {
            let tried = elsewhere.is_none();
            let document = json!({
                "peer_id": peer, "address": address, "connected": true, "tried": tried, "connected_at": elsewhere
            });
            context.document(&document, || match &elsewhere {
                None => format!("connected to {peer}\n"),
                Some(elsewhere) => {
                    let (at, given) = (table::printable(elsewhere), table::printable(&address));
                    format!("{peer} is connected at {at} already; {given} was not tried\n")
                }
            })?;
            Ok(Exit::Ok)
        }
        Answer::Peer(PeerReply::NotConnected { why, refused }) => {
            let exit = if refused { Exit::Refused } else { Exit::Unreachable };
            let rest = "the node goes on dialling the address until it is started again".to_owned();
            Err(CommandError::new(exit, format!("not connected: {why}")).with_rest(Some(rest)))
        }
        _ => Err(unexpected()),
    }
}

pub async fn disconnect(context: &Context, typed: &str) -> Result<Exit, CommandError> {
    let peer = named::resolve(context, typed).await?;
    let PeerReply::Disconnected { peer, was_connected } = ask(context, PeerRequest::Disconnect { peer }).await? else {
        return Err(unexpected());
    };
    let document = json!({"peer_id": peer, "was_connected": was_connected});
    context.document(&document, || disconnected(peer, was_connected))?;
    Ok(Exit::Ok)
}

fn disconnected(peer: PeerId, was_connected: bool) -> String {
    let what = if was_connected { "is disconnected" } else { "was not connected" };
    format!(
        "{peer} {what}; it is neither dialled nor admitted until `nodectl peer connect`, `nodectl peer discover` or a \
         restart of this node (for good: `nodectl peer deny`)\n"
    )
}

pub async fn set_rule(context: &Context, typed: &str, rule: RuleName) -> Result<Exit, CommandError> {
    let peer = named::resolve(context, typed).await?;
    let PeerReply::RuleSet(set) = ask(context, PeerRequest::SetRule { peer, rule }).await? else {
        return Err(unexpected());
    };
    context.document(&set, || match rule {
        RuleName::Allow => {
            format!("{peer} is allowed here, without the cluster key too; it is connected once it admits this node\n")
        }
        RuleName::Deny => {
            format!("{peer} is denied here, whatever it knows, also after a restart; other nodes are not told\n")
        }
    })?;
    Ok(Exit::Ok)
}
